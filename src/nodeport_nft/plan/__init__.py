"""What must change in the kernel: (applied, desired) → one ordered transaction.

``Desired`` holds the elements a table should have and who asked for them. Services come and go through
``update``, which touches what that service has and nothing else; what it changed is collected until
``take_edits``. Three things are decided here, because they need to know the other services or the past:

* *Contested frontends* (conformance F10). Two services may want one key. The older one holds it, with its whole
  pool; when it leaves, the next in line takes over.
* *Shared elements* (clusterIPs, hairpin pairs) are counted: the last owner's leaving removes them.
* *Places*. An endpoint that stays keeps its slot, so that a change is a bounded number of elements; a leaver's slot
  is filled with the last one, since slots must be dense (see ``compile``). Where a table is adopted, the places
  are those the kernel holds.

A ``Transaction`` is a value: an ordered tuple of operations that ``render`` can print and a kernel can run.
"""

from nodeport_nft.plan.desired import Contest, Desired, place
from nodeport_nft.plan.edits import Change, Comparing, Edits, Endpoints, diff, plan_edits, plan_replacement
from nodeport_nft.plan.listed import ListedTable
from nodeport_nft.plan.transaction import (
    Add,
    AddChain,
    AddDevices,
    AddMap,
    AddRules,
    Delete,
    DeleteChain,
    DeleteDevices,
    DeleteMap,
    FlushChain,
    Operation,
    Remember,
    Remove,
    Replace,
    Transaction,
)
from nodeport_nft.plan.views import SlotsView

__all__ = [
    "Add",
    "AddChain",
    "AddDevices",
    "AddMap",
    "AddRules",
    "Change",
    "Comparing",
    "Contest",
    "Delete",
    "DeleteChain",
    "DeleteDevices",
    "DeleteMap",
    "Desired",
    "Edits",
    "Endpoints",
    "FlushChain",
    "ListedTable",
    "Operation",
    "Remember",
    "Remove",
    "Replace",
    "SlotsView",
    "Transaction",
    "diff",
    "place",
    "plan_edits",
    "plan_replacement",
]
