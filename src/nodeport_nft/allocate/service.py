"""A Service completed: its claims checked, and what it leaves open found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

from msgspec.structs import replace

from nodeport_nft.allocate.claims import (
    AllocationError,
    Claims,
    Draft,
    Refusal,
    draft,
    holdings,
    ip_field,
    port_field,
    refused_claims,
)
from nodeport_nft.allocate.probing import FreePorts, probe_ips
from nodeport_nft.model import CLUSTER_DNS, IPAddress, IPNetwork, ObjectName, Protocol, Ranges, Service, ServicePort

_MOST_CLAIMED = 1000
"""Free addresses that are looked at for one that nobody claims from outside."""


def _nobody(_: IPAddress) -> None:
    return None


def allocate(
    wanted: Service,
    stored: Service | None,
    *,
    ranges: Ranges,
    port_holder: Callable[[int], ObjectName | None],
    ip_holder: Callable[[IPAddress], ObjectName | None],
    claimant: Callable[[IPAddress], ObjectName | None] = _nobody,
    drawn: Draft | None = None,
    created: str = "",
) -> Service:
    """``wanted``, completed with clusterIPs, IP families and their policy, nodePorts, healthCheckNodePort.

    ``stored`` is the Service of that name as it is stored, None for a new one. The holders tell whose a number
    or an address is; ``wanted``'s own name counts as free. ``claimant`` tells which other Service claims an address
    from outside (externalIPs, load-balancer addresses): it can be no clusterIP then, or two would have it.
    ``drawn`` is the ``draft`` of the two Services where it is known already, ``created`` the creation time to note.

    Raises AllocationError with all refusals: an explicit value outside its range or held by another Service,
    a change of what is immutable (clusterIP, primary family, healthCheckNodePort), a family without a service
    CIDR, an exhausted range. Sources: see the package.
    """
    drawn = drawn or draft(wanted, stored, ranges)
    own = Claims() if stored is None else holdings(stored)
    refusals = [*drawn.refusals, *refused_claims(drawn, wanted.key, own, ranges, port_holder, ip_holder, claimant)]
    ips = _found_ips(drawn, wanted.key, ranges, ip_holder, claimant, refusals)
    numbers, health = _found_ports(drawn, wanted, ranges, port_holder, refusals)
    if refusals:
        raise AllocationError(tuple(refusals))
    return replace(
        wanted,
        headless=drawn.headless,
        cluster_ips=ips,
        ip_families=drawn.families,
        ip_family_policy=drawn.policy,
        ports=tuple(
            port if port.node_port == number else replace(port, node_port=number)
            for port, number in zip(wanted.ports, numbers, strict=True)
        ),
        health_check_node_port=health,
        created=created or wanted.created,
    )


def _found_ips(
    drawn: Draft,
    key: ObjectName,
    ranges: Ranges,
    ip_holder: Callable[[IPAddress], ObjectName | None],
    claimant: Callable[[IPAddress], ObjectName | None],
    refusals: list[Refusal],
) -> tuple[IPAddress, ...]:
    networks: dict[int, IPNetwork] = {cidr.version: cidr for cidr in ranges.service_cidrs}
    found: list[IPAddress] = []
    for i, ip in enumerate(drawn.ips):
        family = drawn.families[i]
        if ip is None and family in networks:  # without a network, the family or the policy is refused already
            probes = probe_ips(f"{key}/clusterIP/{family}", networks[family])
            own = (each for each in ranges.cluster_dns if key == CLUSTER_DNS and each in networks[family])
            open_to_all = chain(own, (probe for probe in probes if probe not in ranges.cluster_dns))
            free = islice((probe for probe in open_to_all if ip_holder(probe) in (None, key)), _MOST_CLAIMED)
            ip = _unclaimed(free, claimant)
            if ip is None:
                text = f"service CIDR {networks[family]} is exhausted; widen --service-cidr or delete services"
                refusals.append(Refusal(ip_field(i), text))
        if ip is not None:
            found.append(ip)
    return tuple(found)


def _unclaimed(free: Iterator[IPAddress], claimant: Callable[[IPAddress], ObjectName | None]) -> IPAddress | None:
    """The first address that nobody claims from outside, else the first one; None if there is none.

    A clusterIP goes before such a claim, so nobody can use up the addresses by claiming them all.
    """
    first = next(free, None)
    rest = () if first is None else chain((first,), free)
    return next((ip for ip in rest if claimant(ip) is None), first)


def _found_ports(
    drawn: Draft,
    wanted: Service,
    ranges: Ranges,
    port_holder: Callable[[int], ObjectName | None],
    refusals: list[Refusal],
) -> tuple[list[int], int]:
    key, numbers, health = wanted.key, list(drawn.node_ports), drawn.health
    shared = _Numbers(wanted.ports, numbers)

    def is_free(number: int) -> bool:
        return port_holder(number) in (None, key) and number not in shared.taken and number != health

    free = FreePorts(ranges.node_ports, is_free)

    def find(what: str, field: str) -> int:
        if number := free.find(f"{key}/{what}"):
            return number
        text = f"nodePort range {ranges.node_ports} is exhausted; widen --node-port-range or delete services"
        refusals.append(Refusal(field, text))
        return 0

    if drawn.finds_ports:
        for i, port in enumerate(wanted.ports):
            if not numbers[i]:
                what = f"{port.name}/{port.protocol}/{port.port}"
                numbers[i] = shared.of_pair(port) or find(what, port_field(i))
                shared.note(i, port, numbers[i])
    if drawn.finds_health and not health:
        health = find("healthCheckNodePort", "spec.healthCheckNodePort")
    return numbers, health


class _Numbers:
    """The nodePorts that a Service's ports have so far, by what is asked of them for each further port."""

    def __init__(self, ports: Iterable[ServicePort], numbers: Iterable[int]) -> None:
        self.taken: set[int] = set()
        self._by_protocol: set[tuple[Protocol, int]] = set()
        self._by_port: dict[int, list[tuple[int, int]]] = {}
        for i, (port, number) in enumerate(zip(ports, numbers, strict=True)):
            self.note(i, port, number)

    def note(self, i: int, port: ServicePort, number: int) -> None:
        """The i-th port has this number; 0: none."""
        if number:
            self.taken.add(number)
            self._by_protocol.add((port.protocol, number))
            self._by_port.setdefault(port.port, []).append((i, number))

    def of_pair(self, port: ServicePort) -> int:
        """The nodePort of a port of the same number and another protocol (DNS: 53/UDP and 53/TCP), or 0.

        The API server gives both one nodePort, which is what clients that know a single number need.
        """
        # At most one for each protocol, since a port and its protocol are there once.
        pairs = sorted(self._by_port.get(port.port, ()))
        return next((number for _, number in pairs if (port.protocol, number) not in self._by_protocol), 0)
