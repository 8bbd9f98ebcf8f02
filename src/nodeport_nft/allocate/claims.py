"""What a Service has before anything is looked for: what it keeps, and what it names explicitly."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from nodeport_nft.allocate.probing import usable_offsets
from nodeport_nft.model import (
    CLUSTER_DNS,
    Family,
    IPAddress,
    ObjectName,
    Ranges,
    Service,
    ServiceType,
    likely_service_cidr,
)

SINGLE_STACK = "SingleStack"
PREFER_DUAL_STACK = "PreferDualStack"
REQUIRE_DUAL_STACK = "RequireDualStack"

_FAMILIES: dict[int, Family] = {family.value: family for family in Family}  # Family(4) takes ten times as long
_OTHER = "choose another or leave it out"
_IMMUTABLE = "it cannot change while the Service exists: leave it out, or delete the Service first"
_ANEW = "delete the Service and create it anew"


class Refusal(Struct, frozen=True):
    """One thing that cannot be given: the field that asks for it, and why not, with the remedy."""

    field: str
    message: str


class AllocationError(Exception):
    """A Service cannot have all it asks for; ``refusals`` holds every reason."""

    def __init__(self, refusals: tuple[Refusal, ...]) -> None:
        super().__init__("; ".join(f"{refusal.field}: {refusal.message}" for refusal in refusals))
        self.refusals = refusals


class Claims(Struct, frozen=True):
    """Numbers of the nodePort range (healthCheckNodePort among them) and clusterIPs of one Service."""

    node_ports: frozenset[int] = frozenset()
    cluster_ips: frozenset[IPAddress] = frozenset()


def holdings(service: Service) -> Claims:
    """Everything an allocated Service holds."""
    numbers = {port.node_port for port in service.ports} | {service.health_check_node_port}
    return Claims(frozenset(numbers - {0}), frozenset(service.cluster_ips))


def claims(wanted: Service, stored: Service | None, *, ranges: Ranges) -> Claims:
    """What ``wanted`` keeps of what the ``stored`` one holds, and what it names explicitly, allowed or not."""
    return draft(wanted, stored, ranges).claims


class Draft(Struct, frozen=True):
    """A Service with all it keeps and names; None and 0 mark what is absent or still to be found."""

    headless: bool
    policy: str
    families: tuple[Family, ...]
    ips: tuple[IPAddress | None, ...]  # one for each family; none if headless
    node_ports: tuple[int, ...]  # one for each port
    finds_ports: bool
    health: int
    finds_health: bool
    refusals: tuple[Refusal, ...]

    @property
    def claims(self) -> Claims:
        """What it keeps and what it names, allowed or not."""
        return Claims(
            frozenset([number for number in (*self.node_ports, self.health) if number]),
            frozenset([ip for ip in self.ips if ip is not None]),
        )


def draft(wanted: Service, stored: Service | None, ranges: Ranges) -> Draft:
    """Steps 1 and 2 of allocation; the refusals are those that need no knowledge of other Services."""
    refusals: list[Refusal] = []
    # An ExternalName holds nothing, so a change from it is like a new Service.
    before = None if stored is None or stored.type is ServiceType.EXTERNAL_NAME else stored
    health = _health(wanted, before, refusals)
    policy = ""
    families: tuple[Family, ...] = ()
    ips: tuple[IPAddress | None, ...] = ()
    headless = False
    if wanted.type is not ServiceType.EXTERNAL_NAME:
        headless = _headless(wanted, before, refusals)
        policy, families = _families(wanted, before, headless, ranges, refusals)
        ips = () if headless else _ips(wanted, before, families, refusals)
    return Draft(
        headless=headless,
        policy=policy,
        families=families,
        ips=ips,
        node_ports=_node_ports(wanted, before, health),
        finds_ports=wanted.type is ServiceType.NODE_PORT
        or (wanted.type is ServiceType.LOAD_BALANCER and wanted.allocate_node_ports),
        health=health,
        finds_health=_needs_health(wanted),
        refusals=tuple(refusals),
    )


def refused_claims(
    drawn: Draft,
    key: ObjectName,
    holding: Claims,
    ranges: Ranges,
    port_holder: Callable[[int], ObjectName | None],
    ip_holder: Callable[[IPAddress], ObjectName | None],
    claimant: Callable[[IPAddress], ObjectName | None],
) -> list[Refusal]:
    """What is wrong with the explicit values. What the Service holds (``holding``) is right in any range."""
    refusals: list[Refusal] = []
    for i, ip in enumerate(drawn.ips):
        if ip is None or ip in holding.cluster_ips:
            continue
        field, holder = ip_field(i), ip_holder(ip)
        network = next((cidr for cidr in ranges.service_cidrs if ip in cidr), None)
        if network is None:
            cidrs = ", ".join(map(str, ranges.service_cidrs))
            remedy = f"{_OTHER}, or configure --service-cidr {likely_service_cidr(ip)} (key serviceCIDRs)"
            refusals.append(Refusal(field, f"{ip} is outside the service CIDRs ({cidrs}); {remedy}"))
        elif int(ip) - int(network.network_address) not in usable_offsets(network):
            text = f"{ip} is the network or broadcast address of {network}; {_OTHER}"
            refusals.append(Refusal(field, text))
        elif holder not in (None, key):
            refusals.append(Refusal(field, f"{ip} is held by {holder}; {_OTHER}"))
        elif ip in ranges.cluster_dns and key != CLUSTER_DNS:
            refusals.append(Refusal(field, f"{ip} is set aside for {CLUSTER_DNS} (key clusterDNS); {_OTHER}"))
        elif (other := claimant(ip)) is not None:
            text = f"{ip} is claimed by {other} as an externalIP or a load-balancer address; {_OTHER}"
            refusals.append(Refusal(field, text))
    numbers = [(port_field(i), "nodePort", number) for i, number in enumerate(drawn.node_ports)]
    numbers.append(("spec.healthCheckNodePort", "healthCheckNodePort", drawn.health))
    for field, what, number in numbers:
        if not number or number in holding.node_ports:
            continue
        holder = port_holder(number)
        if number not in ranges.node_ports:
            text = f"{what} {number} is outside the nodePort range {ranges.node_ports}; {_OTHER}"
            refusals.append(Refusal(field, text))
        elif holder not in (None, key):
            refusals.append(Refusal(field, f"{what} {number} is held by {holder}; {_OTHER}"))
    if drawn.health and drawn.health in drawn.node_ports:
        text = f"healthCheckNodePort {drawn.health} is a nodePort of this Service too; {_OTHER}"
        refusals.append(Refusal("spec.healthCheckNodePort", text))
    return refusals


def port_field(i: int) -> str:
    """The API's path of the i-th port's nodePort."""
    return f"spec.ports[{i}].nodePort"


def ip_field(i: int) -> str:
    """The API's path of the i-th clusterIP."""
    return f"spec.clusterIPs[{i}]" if i else "spec.clusterIP"


def _needs_health(service: Service) -> bool:
    return service.type is ServiceType.LOAD_BALANCER and service.external_traffic_policy == "Local"


def _health(wanted: Service, before: Service | None, refusals: list[Refusal]) -> int:
    old = before.health_check_node_port if before is not None and _needs_health(before) else 0
    new, field = wanted.health_check_node_port, "spec.healthCheckNodePort"
    if not _needs_health(wanted):
        return 0
    if new and old and new != old:
        refusals.append(Refusal(field, f"{new} differs from {old}: {_IMMUTABLE}"))
    return old or new


def _node_ports(wanted: Service, before: Service | None, health: int) -> tuple[int, ...]:
    numbers = [port.node_port for port in wanted.ports]
    if wanted.type not in (ServiceType.NODE_PORT, ServiceType.LOAD_BALANCER):
        return (0,) * len(numbers)
    if before is None or (wanted.type is ServiceType.LOAD_BALANCER and not wanted.allocate_node_ports):
        return tuple(numbers)
    used = {(port.protocol, port.node_port) for port in wanted.ports}
    by_name = {port.name: port.node_port for port in before.ports}
    by_port = {(port.protocol, port.port): port.node_port for port in before.ports}
    old_of_name = [by_name.get(port.name, 0) for port in wanted.ports]
    old_of_port = [by_port.get((port.protocol, port.port), 0) for port in wanted.ports]
    # All names first: a port that kept its name has more right to the number than one that took its place.
    for candidates in (old_of_name, old_of_port):
        for i, (port, number) in enumerate(zip(wanted.ports, candidates, strict=True)):
            if number and not numbers[i] and number != health and (port.protocol, number) not in used:
                numbers[i] = number
                used.add((port.protocol, number))
    return tuple(numbers)


def _headless(wanted: Service, before: Service | None, refusals: list[Refusal]) -> bool:
    if before is None:
        return wanted.headless
    if wanted.headless and not before.headless:
        was = ", ".join(map(str, before.cluster_ips))
        text = f"None differs from {was}, and a clusterIP cannot be changed; {_ANEW}, or leave None out"
        refusals.append(Refusal("spec.clusterIP", text))
    elif before.headless and wanted.cluster_ips:
        text = (
            f"{wanted.cluster_ips[0]} differs from None, and a clusterIP cannot be changed; {_ANEW}, or leave it out"
        )
        refusals.append(Refusal("spec.clusterIP", text))
    elif before.headless and wanted.type is not ServiceType.CLUSTER_IP:
        why = "this service is headless (clusterIP: None), which cannot be changed"
        text = f"type {wanted.type} needs a clusterIP, and {why}"
        refusals.append(Refusal("spec.type", f"{text}; {_ANEW}, or leave its type ClusterIP"))
    return before.headless


def _families(
    wanted: Service, before: Service | None, headless: bool, ranges: Ranges, refusals: list[Refusal]
) -> tuple[str, tuple[Family, ...]]:
    """Policy and families (KEP-563). A policy that is left out stays what it was, SingleStack at first."""
    old = () if before is None else before.ip_families
    # Headless without a selector: who writes the endpoints decides on the families, both unless said otherwise.
    free = headless and not wanted.selector
    policy = wanted.ip_family_policy or ("" if before is None else before.ip_family_policy)
    policy = policy or (REQUIRE_DUAL_STACK if free else SINGLE_STACK)
    named = wanted.ip_families
    named += tuple([_FAMILIES[ip.version] for ip in wanted.cluster_ips[len(named) :]])
    configured = tuple([_FAMILIES[cidr.version] for cidr in ranges.service_cidrs])
    known = (*configured, *old)  # a family that is held stays, whatever the CIDRs are now
    first = (named or old or configured or (Family.IPV4,))[0]
    second = Family.IPV6 if first is Family.IPV4 else Family.IPV4
    if old and first is not old[0] and not headless:  # one that has no address may change its families
        text = f"{_family(first)} differs from {_family(old[0])}: {_IMMUTABLE}"
        refusals.append(Refusal("spec.ipFamilies[0]", text))
    if policy == SINGLE_STACK:
        families: tuple[Family, ...] = (first,)
        if len(named) > 1:
            text = f"{policy} allows one IP family; name one, or choose {PREFER_DUAL_STACK}"
            refusals.append(Refusal("spec.ipFamilyPolicy", text))
    elif policy == REQUIRE_DUAL_STACK or free or second in known or second in named:
        families = (first, second)
    else:
        families = (first,)
    for i, family in enumerate(families):
        if headless or family in known:  # a headless Service needs no address of ours
            continue
        field, text = f"spec.ipFamilies[{i}]", "or choose the other family"
        if policy == REQUIRE_DUAL_STACK:
            field, text = "spec.ipFamilyPolicy", f"which {policy} needs, or choose {PREFER_DUAL_STACK}"
        text = f"no service CIDR of {_family(family)} is configured; add one with --service-cidr, {text}"
        refusals.append(Refusal(field, text))
    return policy, families


def _ips(
    wanted: Service, before: Service | None, families: tuple[Family, ...], refusals: list[Refusal]
) -> tuple[IPAddress | None, ...]:
    old = () if before is None else before.cluster_ips
    ips: list[IPAddress | None] = []
    for i in range(len(families)):
        ip = wanted.cluster_ips[i] if i < len(wanted.cluster_ips) else None
        if i < len(old):
            if ip not in (None, old[i]):
                refusals.append(Refusal(ip_field(i), f"{ip} differs from {old[i]}: {_IMMUTABLE}"))
            ip = old[i]
        ips.append(ip)
    return tuple(ips)


def _family(family: Family) -> str:
    return "IPv4" if family is Family.IPV4 else "IPv6"
