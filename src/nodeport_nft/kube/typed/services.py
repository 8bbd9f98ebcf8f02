"""A decoded Service → the Service of the model; ``None`` is what ``kube.service`` has anything to say about."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from functools import lru_cache

from nodeport_nft.kube.annotations import NODE_PORT_TYPES
from nodeport_nft.kube.service import DEFAULT_AFFINITY, DISTRIBUTIONS, LONGEST_AFFINITY, PROXY_NAME_LABEL
from nodeport_nft.kube.service_ips import FAMILIES, POLICIES
from nodeport_nft.kube.typed import shapes, texts
from nodeport_nft.model import Family, IPAddress, IPNetwork, Service, ServicePort, ServiceType
from nodeport_nft.notation import each_once, label_fault, service_name_fault

_TYPES: dict[str | None, ServiceType] = {
    None: ServiceType.CLUSTER_IP,
    "": ServiceType.CLUSTER_IP,
    **{str(kind): kind for kind in ServiceType},
}
_TRAFFIC: dict[str | None, str] = {None: "Cluster", "": "Cluster", "Cluster": "Cluster", "Local": "Local"}
_SPREAD: dict[str | None, str] = {None: "", "": "", **{text: text for text in DISTRIBUTIONS}}
_POLICIES: dict[str | None, str] = {None: "", "": "", **{text: text for text in POLICIES}}
_AFFINITIES = (None, "", "None", "ClientIP")
_MODES: dict[str | None, bool] = {None: True, "": True, "VIP": True, "Proxy": False}
"""Whether an address of this ipMode is ours to serve."""

_FAMILIES: dict[tuple[str, ...] | None, tuple[Family, ...]] = {
    None: (),
    (): (),
    **{(one,): (family,) for one, family in FAMILIES.items()},
    **{(one, other): (FAMILIES[one], FAMILIES[other]) for one in FAMILIES for other in FAMILIES if one != other},
}
_NO_TEXTS: dict[str, str] = {}
_NO_WEIGHTS: dict[str, int] = {}
"""One for all the Services that have none; nobody writes to what is in a value of the model."""


class _Declined(Exception):
    """There is something about it that the parsers have words or rules for."""


def service(found: shapes.Service, namespace: str, name: str, created: str, with_selector: bool) -> Service | None:
    """The Service of this name, which the caller has looked at, as its metadata."""
    try:
        return _service(found, found.spec or shapes.ServiceSpec(), namespace, name, created, with_selector)
    except (_Declined, KeyError):
        return None


def _service(
    found: shapes.Service, spec: shapes.ServiceSpec, namespace: str, name: str, created: str, with_selector: bool
) -> Service:
    """Raises _Declined, and KeyError for a word that the API does not know."""
    kind = _TYPES[spec.type]
    if kind is ServiceType.EXTERNAL_NAME:
        raise _Declined
    given = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
    if spec.cluster_ip and spec.cluster_ip != given[0]:
        raise _Declined
    families, policy = _FAMILIES[spec.ip_families], _POLICIES[spec.ip_family_policy]
    is_headless = given == ["None"]
    if is_headless and kind is not ServiceType.CLUSTER_IP:
        raise _Declined
    if policy == "SingleStack" and (len(families) > 1 or len(given) > 1):
        raise _Declined
    external = _TRAFFIC[spec.external_traffic_policy]
    is_balanced = kind is ServiceType.LOAD_BALANCER
    ports = _ports_of(spec.ports or (), has_node_ports=kind in NODE_PORT_TYPES)
    if not (ports or is_headless):
        raise _Declined
    allocate = spec.allocate_load_balancer_node_ports
    labels = found.metadata.labels
    return Service(
        namespace,
        name,
        kind,
        ports,
        cluster_ips=() if is_headless else _cluster_ips(given, families),
        headless=is_headless,
        ip_families=families,
        ip_family_policy=policy,
        selector=(spec.selector if with_selector else None) or _NO_TEXTS,
        publish_not_ready_addresses=bool(spec.publish_not_ready_addresses),
        external_traffic_policy=external,
        internal_traffic_policy=_TRAFFIC[spec.internal_traffic_policy],
        traffic_distribution=_SPREAD[spec.traffic_distribution],
        external_ips=each_once(map(_address, spec.external_ips)) if spec.external_ips else (),
        load_balancer_ips=_load_balancer_ips(found.status) if is_balanced and found.status else (),
        allocate_node_ports=not is_balanced or allocate is None or allocate,
        health_check_node_port=_health_check_node_port(spec, number, is_used=is_balanced and external == "Local")
        if (number := spec.health_check_node_port)
        else 0,
        created=created,
        proxy_name=labels.get(PROXY_NAME_LABEL) if labels else None,
        session_affinity_seconds=_affinity_seconds(spec),
        load_balancer_source_ranges=_source_ranges(ranges, is_balanced=is_balanced)
        if (ranges := spec.load_balancer_source_ranges)
        else (),
        weights=_NO_WEIGHTS,
    )


def _address(text: str) -> IPAddress:
    address = texts.endpoint_address(text)
    if address is None:
        raise _Declined
    return address


def _cluster_ips(given: Collection[str], families: tuple[Family, ...]) -> tuple[IPAddress, ...]:
    if len(given) == 1:  # nearly all
        (text,) = given
        ip = _address(text)
        if families and (len(families) > 1 or ip.version != families[0]):
            raise _Declined
        return (ip,)
    ips = tuple(map(_address, given))
    versions = [ip.version for ip in ips]
    if len(set(versions)) != len(versions) or any(
        version != family for version, family in zip(versions, families, strict=False)
    ):
        raise _Declined
    return ips


def _ports_of(entries: tuple[shapes.ServicePort, ...], *, has_node_ports: bool) -> tuple[ServicePort, ...]:
    """The ports; those without a nodePort are the same in very many Services, and made once."""
    is_own = len(entries) > shapes.MOST or (has_node_ports and any(entry.node_port for entry in entries))
    return (_ports if is_own else _shared_ports)(entries, has_node_ports)


def _ports(entries: tuple[shapes.ServicePort, ...], has_node_ports: bool) -> tuple[ServicePort, ...]:
    ports = tuple(_port(entry, has_node_ports) for entry in entries)
    if len(ports) > 1:
        _each_once(port.name for port in ports)
        _each_once((port.protocol, port.port) for port in ports)
        _each_once((port.protocol, port.node_port) for port in ports if port.node_port)
        if not all(port.name for port in ports):
            raise _Declined
    return ports


_shared_ports = lru_cache(4096)(_ports)


def _port(entry: shapes.ServicePort, has_node_ports: bool) -> ServicePort:
    name, node_port, target = entry.name or "", entry.node_port or 0, entry.target_port or entry.port
    if name and label_fault(name):
        raise _Declined
    if not (1 <= entry.port <= 65535 and 0 <= node_port <= 65535):
        raise _Declined
    if service_name_fault(target) if isinstance(target, str) else not 1 <= target <= 65535:
        raise _Declined
    protocol = texts.PROTOCOLS[entry.protocol]
    return ServicePort(sys.intern(name), protocol, entry.port, target, node_port if has_node_ports else 0)


def _each_once(values: Iterable[object]) -> None:
    seen = list(values)
    if len(set(seen)) != len(seen):
        raise _Declined


def _load_balancer_ips(status: shapes.ServiceStatus) -> tuple[IPAddress, ...]:
    ingress = status.load_balancer.ingress if status.load_balancer else None
    found = [(_address(entry.ip), _MODES[entry.ip_mode]) for entry in ingress or () if entry.ip]
    return each_once(address for address, is_ours in found if is_ours)


def _health_check_node_port(spec: shapes.ServiceSpec, number: int, *, is_used: bool) -> int:
    if not 1 <= number <= 65535:
        raise _Declined
    if not is_used:
        return 0
    if any(port.node_port == number for port in spec.ports or ()):
        raise _Declined
    return number


def _affinity_seconds(spec: shapes.ServiceSpec) -> int:
    if spec.session_affinity not in _AFFINITIES:
        raise _Declined
    if spec.session_affinity != "ClientIP":
        return 0
    config = spec.session_affinity_config
    seconds = config.client_ip.timeout_seconds if config and config.client_ip else None
    if seconds is None:
        return DEFAULT_AFFINITY
    if not 1 <= seconds <= LONGEST_AFFINITY:
        raise _Declined
    return seconds


def _source_ranges(given: Collection[str], *, is_balanced: bool) -> tuple[IPNetwork, ...]:
    found = [network for network in map(texts.network, given) if network is not None]
    if len(found) != len(given) or not is_balanced:
        raise _Declined
    return each_once(found)
