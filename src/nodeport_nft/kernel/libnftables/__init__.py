"""libnftables as a translator between nft's language and netlink, in a child that never meets the kernel.

What others have in nftables is listed by it. ``library`` speaks with the child, ``child`` is what runs there, and
``answers`` is what the child is told of the kernel. Nothing is imported here: the child is started while somebody
waits.
"""
