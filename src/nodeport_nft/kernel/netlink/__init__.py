"""Raw netlink: transactions and tables of nf_tables, counters, events; connection tracking.

``messages`` puts messages together and takes them apart, ``batch`` has the kernel carry them out. A transaction
becomes messages in ``transactions``: elements by ``elements``, laid out as ``layouts`` says, and all else by
``declarations`` and ``flowtables``. A rule is a list of ``expressions``, put together by ``rules`` and read by
``disassembly``. libnftables has no part in it.
"""
