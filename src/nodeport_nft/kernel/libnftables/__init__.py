"""libnftables, which puts what others have in nftables into nft's words, in a child that never meets the kernel.

``library`` speaks with the child, ``child`` is what runs there, and ``answers`` is what the child is told of the
kernel. Nothing is imported here: the child is started while somebody waits.
"""
