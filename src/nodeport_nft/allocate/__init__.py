"""What a Service holds: its clusterIPs, its nodePorts and its healthCheckNodePort.

Allocation is a pure function of the Service as wanted, the same Service as it was stored before, the ranges,
and the knowledge of who else holds what. It goes in three steps, each with less right than the one before it:

1. What the Service holds already and still has a use for, it keeps. A port finds its old number by name, then
   by protocol and port. Held values stay even where the ranges have changed since.
2. What the manifest names explicitly is checked: inside the ranges, and held by nobody else.
3. What is left open is found by probing. The order in which numbers are probed is derived from namespace,
   name and port by a hash, so that equal manifests give equal numbers on every node, and two Services seldom
   meet. The upper band of a range is probed first, so that the lower one stays free for explicit choices.
   An address that another Service claims from outside (externalIPs, load-balancer addresses) is passed over while
   there are others.

Whoever allocates for many Services at once must first take the ``claims`` (steps 1 and 2) of all of them, and
only then call ``allocate`` for each: then no probed number is one that another manifest names.

Sources: KEP-3668 (nodePort bands), KEP-3070 (clusterIP bands), KEP-563 (dual stack), and the API reference of
core/v1 ServiceSpec for what is kept, what is immutable and what is shared.
"""

from nodeport_nft.allocate.claims import PREFER_DUAL_STACK, AllocationError, Claims, Refusal, claims, draft, holdings
from nodeport_nft.allocate.probing import FreePorts
from nodeport_nft.allocate.service import allocate

__all__ = [
    "PREFER_DUAL_STACK",
    "AllocationError",
    "Claims",
    "FreePorts",
    "Refusal",
    "allocate",
    "claims",
    "draft",
    "holdings",
]
