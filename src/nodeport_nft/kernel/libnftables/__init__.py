"""libnftables as a compiler: nft's language in, netlink messages out, in a child that never meets the kernel.

``transactions`` asks for what it takes, ``library`` speaks with the child, ``child`` is what runs there, and
``answers`` is what the child is told of the kernel. Nothing is imported here: the child is started while a change
waits.
"""
