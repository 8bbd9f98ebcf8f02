"""The cluster's DNS as each node offers it: Service kube-system/kube-dns, led to this node's own server.

It stands in no store: which server is meant differs from node to node, and nobody is to write it by hand. So the
node's state holds it beside the objects, and everything goes on from there as with any other Service. Whoever has a
Service of that name in the store has decided otherwise, and so has who gave one of its clusterIPs to another Service.
"""

from __future__ import annotations

from collections.abc import Iterator

from nodeport_nft.model import (
    CLUSTER_DNS,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Family,
    IPAddress,
    NodeFacts,
    ObjectName,
    Protocol,
    Ref,
    Service,
    ServicePort,
    Value,
)
from nodeport_nft.resolve import Index

REF = Ref("Service", *CLUSTER_DNS)
"""What it is put into the index as, the slices with it: an object of this name in the store takes its place."""

_PORTS = {"dns": Protocol.UDP, "dns-tcp": Protocol.TCP}  # named as kubeadm names them
_PORT = 53
_Pair = tuple[IPAddress, IPAddress]
"""A clusterIP, and the server of the node that it leads to."""


class OwnDNS:
    """Puts it into the index, and takes it out where the store has something in its place."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._values: tuple[Value, ...] = ()
        self._made_of: tuple[str, tuple[_Pair, ...]] = "", ()

    def settle(self, facts: NodeFacts, *, withheld: bool) -> set[ObjectName]:
        """Offer it as things are now; the Services that this touches. ``withheld``: not at all.

        Costs what the addresses cost. To be called when facts or any Service has changed.
        """
        known = self._index.values(REF)
        if known and known is not self._values:  # the store's own
            return set()
        held = facts.cluster_dns
        free = () if withheld else tuple(pair for pair in held if self._index.holder(pair[0], CLUSTER_DNS) is None)
        if self._made_of != (facts.name, free):
            self._made_of, self._values = (facts.name, free), _values(facts.name, free)
        return self._index.put(REF, self._values)


def _values(node: str, pairs: tuple[_Pair, ...]) -> tuple[Value, ...]:
    """The Service at these addresses, and its endpoints on the node; nothing if there are none."""
    if not pairs:
        return ()
    namespace, name = CLUSTER_DNS
    service = Service(
        namespace,
        name,
        ports=tuple(ServicePort(each, protocol, _PORT, _PORT) for each, protocol in _PORTS.items()),
        cluster_ips=tuple(address for address, _ in pairs),
        ip_families=tuple(Family(address.version) for address, _ in pairs),
        internal_traffic_policy="Local",  # to nobody else's server, whatever slices name this Service
    )
    ports = tuple(EndpointPort(each, protocol, _PORT) for each, protocol in _PORTS.items())
    return service, *(
        EndpointSlice(namespace, f"{name}-ipv{server.version}", name, ports, (Endpoint(server, node_name=node),))
        for _, server in pairs
    )


def own_dns_problems(facts: NodeFacts, index: Index) -> Iterator[str]:
    """The addresses at which pods look for the DNS and find something else."""
    own = index.services.get(CLUSTER_DNS)
    for address, _ in facts.cluster_dns:
        if own is not None and address in own.cluster_ips:
            continue
        holder = index.holder(address, CLUSTER_DNS)
        if holder is not None:
            yield f"clusterDNS {address} is held by Service/{holder}: delete that, or choose another address"
        elif own is not None:
            held = ", ".join(map(str, own.cluster_ips)) or "no clusterIP"
            yield f"clusterDNS {address}: {REF} of the store has {held}: delete it, or let clusterDNS be that"
