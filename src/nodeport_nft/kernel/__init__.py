"""The kernel's side, where all effects on the node are; the rest of the program is told what is there.

``nft`` writes transactions and lists tables, ``flowtable`` keeps the devices of the fast path. Both stand on
``netlink``, which speaks to the kernel. ``libnftables`` spells out what others have there. ``host`` is the node
around our tables.
"""
