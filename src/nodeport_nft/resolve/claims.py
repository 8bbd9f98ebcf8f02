"""Which of the addresses that a Service claims from outside it gets: externalIPs and load-balancer addresses.

A clusterIP is given by allocation and a nodePort comes out of a range, but these addresses are what the manifest's
author has written. Without bounds, the author takes the node's own ports, anybody's address for the pods
(CVE-2020-8554), or what is another Service's. So the configuration bounds them, and what is somebody's clusterIP
stays that, on all ports and whoever came first.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from nodeport_nft.model import IPAddress, IPNetwork, NodeFacts, Service
from nodeport_nft.resolve.index import Index

Networks = tuple[IPNetwork, ...] | None


class Claimable(Struct, frozen=True):
    """The networks of the addresses from outside that Services may claim; None: any, empty: none."""

    external_ips: Networks = None
    load_balancer_ips: Networks = None

    @classmethod
    def of(cls, facts: NodeFacts) -> Claimable:
        """What the configuration says."""
        return cls(facts.external_ips, facts.load_balancer_ips)


class Claims:
    """Says of each Service what it gets, and why it does not get the rest."""

    def __init__(self, index: Index, claimable: Claimable) -> None:
        self._index = index
        self._claimable = claimable

    def judge(self, service: Service) -> tuple[Service, tuple[str, ...]]:
        """The Service with the addresses from outside that it gets; of those it does not get, why, and the remedy."""
        if not (service.external_ips or service.load_balancer_ips):
            return service, ()
        granted: list[tuple[IPAddress, ...]] = []
        problems: list[str] = []
        for claimed in self._claimed(service):
            # Pairs, no dict: whoever writes IPv6 addresses can give thousands of them one hash.
            judged = [(ip, self._refusal(service, claimed, ip)) for ip in claimed.addresses]
            granted.append(tuple(ip for ip, refusal in judged if not refusal))
            problems += (f"Service/{service.key}: {refusal}" for _, refusal in judged if refusal)
        external, load_balancer = granted
        return replace(service, external_ips=external, load_balancer_ips=load_balancer), tuple(problems)

    def _claimed(self, service: Service) -> tuple[_Claimed, _Claimed]:
        allowed = self._claimable
        return (
            _Claimed("spec.externalIPs", "externalIPs", service.external_ips, allowed.external_ips),
            _Claimed(
                "status.loadBalancer.ingress", "loadBalancerIPs", service.load_balancer_ips, allowed.load_balancer_ips
            ),
        )

    def _refusal(self, service: Service, claimed: _Claimed, address: IPAddress) -> str:
        """Why the Service does not get an address; "" if it does."""
        field, key, allowed = claimed.field, claimed.key, claimed.allowed
        holder = self._index.holder(address, service.key)
        if holder is not None:
            return f"{field}: {address} is the clusterIP of Service/{holder}, which keeps it; leave it out"
        if allowed is None or any(address in cidr for cidr in allowed):
            return ""
        if not allowed:
            text = f"{address} is not served, since the configuration says {key}: deny"
            return f"{field}: {text}; leave it out, or allow it"
        networks = ", ".join(map(str, allowed[:3])) + (", …" if len(allowed) > 3 else "")
        return (
            f"{field}: {address} is not served, since the configuration allows {key} in {networks} alone; "
            "choose another, or allow it"
        )


class _Claimed(Struct, frozen=True):
    """Addresses of one kind: the field they stand in, and which networks the configuration allows under which key."""

    field: str
    key: str
    addresses: tuple[IPAddress, ...]
    allowed: Networks
