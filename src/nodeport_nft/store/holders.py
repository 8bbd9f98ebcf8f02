"""Who holds and who claims what while a write is under way: as the store knows it, but for what the write changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

from nodeport_nft.allocate import Claims
from nodeport_nft.model import IPAddress, ObjectName, Service


class KnownHolders(Protocol):
    """What a store knows of numbers and addresses."""

    def port_holder(self, port: int) -> ObjectName | None:
        """Whose a number of the nodePort range is."""

    def ip_holder(self, ip: IPAddress) -> ObjectName | None:
        """Whose a clusterIP is."""

    def outside_claimants(self, ip: IPAddress) -> Collection[ObjectName]:
        """Which Services claim an address from outside (externalIPs, load-balancer addresses)."""


class Holders:
    """Who holds what."""

    def __init__(self, known: KnownHolders) -> None:
        self._known = known
        self._ports: dict[int, ObjectName | None] = {}
        self._ips: dict[IPAddress, ObjectName | None] = {}

    def port(self, port: int) -> ObjectName | None:
        """Whose a number of the nodePort range is."""
        if port not in self._ports:
            self._ports[port] = self._known.port_holder(port)
        return self._ports[port]

    def ip(self, ip: IPAddress) -> ObjectName | None:
        """Whose a clusterIP is."""
        if ip not in self._ips:
            self._ips[ip] = self._known.ip_holder(ip)
        return self._ips[ip]

    def release(self, released: Claims) -> None:
        """Lets this be free."""
        self._ports.update(dict.fromkeys(released.node_ports))
        self._ips.update(dict.fromkeys(released.cluster_ips))

    def take(self, claimed: Claims, key: ObjectName) -> None:
        """Gives to ``key`` what is free of this; what is not stays with its holder."""
        for port in claimed.node_ports:
            if self.port(port) is None:
                self._ports[port] = key
        for ip in claimed.cluster_ips:
            if self.ip(ip) is None:
                self._ips[ip] = key


def claimed_from_outside(service: Service) -> frozenset[str]:
    """The addresses that a Service claims, as texts: of an IPv6 address, the author can choose the hash, too."""
    return frozenset(str(ip) for ip in (*service.external_ips, *service.load_balancer_ips))


class OutsideClaims:
    """Who claims an address from outside; ``gone`` are Services that are deleted with the write."""

    def __init__(self, known: KnownHolders, written: Iterable[Service], gone: Iterable[ObjectName]) -> None:
        self._known = known
        self._written: dict[ObjectName, frozenset[str]] = dict.fromkeys(gone, frozenset())
        self._written |= {service.key: claimed_from_outside(service) for service in written}
        self._new: dict[str, list[ObjectName]] = {}
        for key in sorted(self._written):
            for ip in self._written[key]:
                self._new.setdefault(ip, []).append(key)

    def claimant(self, ip: IPAddress, other_than: ObjectName, *, stored: bool) -> ObjectName | None:
        """Another Service that claims an address. ``stored``: one that did so before this write, and still does."""
        known = self._known.outside_claimants(ip)
        if not known and (stored or not self._new):
            return None  # as with nearly all Services: nobody claims anything
        text = str(ip)
        found = [] if stored else [key for key in self._new.get(text, ()) if key != other_than]
        found += (key for key in known if key != other_than and text in self._written.get(key, (text,)))
        return min(found, default=None)


def claimant(holders: Holders, outside: OutsideClaims, key: ObjectName, ip: IPAddress) -> ObjectName | None:
    """Who keeps a Service from an address by claiming it from outside.

    One that names it as its clusterIP has more right than one that comes with the same write, but for what was
    claimed before.
    """
    return outside.claimant(ip, key, stored=holders.ip(ip) == key)
