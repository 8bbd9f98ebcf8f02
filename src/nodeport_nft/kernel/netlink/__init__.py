"""Raw netlink: messages and batches of nf_tables, elements, counters, events; connection tracking.

``messages`` puts them together and takes them apart, ``layouts`` says how our maps look in them; all else here is
built upon these two. libnftables has no part in it.
"""
