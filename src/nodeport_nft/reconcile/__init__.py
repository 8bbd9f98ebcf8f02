"""From desired state to what must be written, for one node.

``node_tables`` holds what the node's two tables should be, a service at a time. ``state`` follows the objects: it
knows which services a change touches and compiles those alone. ``kept`` says what the kernel keeps of objects that
cannot be read. ``reconciler`` brings the kernel's tables to it, also after a refusal and after others. ``stale`` says
which flows a change makes stale.
"""

from nodeport_nft.reconcile.kept import Listed
from nodeport_nft.reconcile.node_tables import Edited, NodeTables, read_tables, removal
from nodeport_nft.reconcile.reconciler import Reconciler, Synced, Tables
from nodeport_nft.reconcile.stale import changed_frontends, stale_frontends
from nodeport_nft.reconcile.state import NodeState, compile_snapshot

__all__ = [
    "Edited",
    "Listed",
    "NodeState",
    "NodeTables",
    "Reconciler",
    "Synced",
    "Tables",
    "changed_frontends",
    "compile_snapshot",
    "read_tables",
    "removal",
    "stale_frontends",
]
