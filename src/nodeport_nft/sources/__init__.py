"""Where the desired state comes from while the daemon runs: implementations of ``store.api.Source``.

A source lists everything once and tells changes from then on. What cannot be read is told, too, and leaves the last
good state of its objects in force (K4). ``by_scheme`` knows which source a configuration means.
"""
