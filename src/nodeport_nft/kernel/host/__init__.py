"""The host around our tables: addresses, routes, sysctls, chains of others; the files and locks that we have on it.

What we change there is noted in the ``undo_journal``, and one process at a time programs the node (``node_lock``).
"""
