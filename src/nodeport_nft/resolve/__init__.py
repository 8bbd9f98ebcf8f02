"""Which endpoints each Service port has on this node, and on which addresses it is offered.

The desired state names Services and, apart from them, EndpointSlices, Endpoints or Pods. This room joins the
two. Its output, a ``Frontend``, is one thing a client can connect to (a clusterIP with a port, or a nodePort)
with the set of endpoints that may answer, and it is all that ``compile`` gets to see.

Where a Service's endpoints come from, in this order: its EndpointSlices if there are any (whoever made them has
looked at the Pods already), else its Endpoints object, else the Pods its selector selects (conformance E7).

``Index`` keeps what belongs together, so that resolving one Service costs what that Service has, whatever the number
of the others.
"""

from nodeport_nft.resolve.bounds import MAX_FRONTENDS, MAX_SLOTS, MAX_STICKY
from nodeport_nft.resolve.claims import Claimable
from nodeport_nft.resolve.frontend import Backend, Frontend, FrontendKind, Place
from nodeport_nft.resolve.index import Index
from nodeport_nft.resolve.resolver import KEPT, Resolved, Resolver, is_proxied

__all__ = [
    "KEPT",
    "MAX_FRONTENDS",
    "MAX_SLOTS",
    "MAX_STICKY",
    "Backend",
    "Claimable",
    "Frontend",
    "FrontendKind",
    "Index",
    "Place",
    "Resolved",
    "Resolver",
    "is_proxied",
]
