"""Where the desired state comes from while the daemon runs: a source tells which objects have changed, and into what.

A source lists everything once and tells changes from then on. What cannot be read is told, too, and leaves the last
good state of its objects in force (K4).
"""

from nodeport_nft.sources.changes import Change, Changes

__all__ = ["Change", "Changes"]
