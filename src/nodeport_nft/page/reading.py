"""What the page shows, as values: some Services of many, all of one, the way of a connection; no word of HTML."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from fractions import Fraction
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlencode

from msgspec import Struct

from nodeport_nft.compile.schema import NODE_PORTS, VIPS
from nodeport_nft.errors import KernelError
from nodeport_nft.graph import Graph, graph_of
from nodeport_nft.kernel.netlink.meters import Meters, slot_keys
from nodeport_nft.model import Family, ObjectName, Service
from nodeport_nft.notation import socket_address
from nodeport_nft.observe.rates import slots_behind
from nodeport_nft.page.ends import Ask, connection
from nodeport_nft.page.pace import Pace
from nodeport_nft.reconcile import NodeState
from nodeport_nft.render import write_rule
from nodeport_nft.resolve import Claimable, is_proxied
from nodeport_nft.ruleset import Pool
from nodeport_nft.terminal import visible
from nodeport_nft.trace import Fate, Packet, Trace, TraceError, trace

ROWS = 50
"""Services on one page."""

MOST_ENDPOINTS = 200
"""Endpoints of one port that are named."""

_MOST_ADDRESSES = 6  # of a Service in a row, and as many ports
_MOST_SLOTS = 20_000  # of a family, that are read for one Service: 0.2 s
_MOST_STEPS = 500  # rules of a trace
_NAMES_SECONDS = 5.0  # how long a sorted list of 100,000 names may be used
_TRIES = 5  # while the main thread changes what is read

_KINDS = {name: kind for kind in (VIPS, NODE_PORTS) for name in (kind.map, kind.inside)}

Read = TypeVar("Read")


class BusyError(Exception):
    """What was to be read changed during each attempt."""


class Row(Struct, frozen=True):
    """One Service. ``endpoints``: how many get connections; None: it is not served by this program.

    ``rate``: new connections a second, None where it is not known (yet).
    """

    namespace: str
    name: str
    type: str
    addresses: tuple[str, ...]
    ports: tuple[str, ...]
    endpoints: int | None
    rate: float | None


class Listing(Struct, frozen=True):
    """One page of the Services that fit: ``fitting`` of ``total``. ``trouble``: why nothing is counted, or ""."""

    rows: tuple[Row, ...]
    fitting: int
    total: int
    page: int
    pages: int
    trouble: str


class Endpoint(Struct, frozen=True):
    """An endpoint of a port, and what it gets. ``is_counted``: whether anything counts that."""

    address: str
    node: str
    state: str
    rate: float | None
    is_counted: bool = True


class Port(Struct, frozen=True):
    """A port with its endpoints; ``more`` are not named. ``trace``: where to ask for the way there, "" if nowhere."""

    name: str
    trace: str
    endpoints: tuple[Endpoint, ...]
    more: int


class Detail(Struct, frozen=True):
    """All of one Service."""

    row: Row
    facts: tuple[tuple[str, str], ...]
    ports: tuple[Port, ...]
    graph: Graph
    trouble: str


class Way(Struct, frozen=True):
    """One end of a traced connection."""

    share: str
    fate: str
    where: str
    note: str
    is_bad: bool


class Traced(Struct, frozen=True):
    """What becomes of a connection, and the rules that it meets."""

    packet: str
    ways: tuple[Way, ...]
    rules: tuple[tuple[str, str, str], ...]


class Reading:
    """Reads the daemon's state; ``state`` gives what it is at the moment. For one thread alone."""

    def __init__(self, state: Callable[[], NodeState], clock: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._clock = clock
        self._pace = Pace()
        self._meters = {family: Meters(family) for family in Family}
        self._names: tuple[float, list[ObjectName]] = (float("-inf"), [])

    def services(self, search: str, page: int) -> Listing:
        """A page of those that fit: by a part of ``namespace/name``, an address or a nodePort. Raises BusyError."""
        return _steadily(lambda: self._services(search, page))

    def service(self, key: ObjectName) -> Detail | None:
        """One Service; None if there is none of this name. Raises BusyError."""
        return _steadily(lambda: self._service(key))

    def trace(self, ask: Ask) -> Traced:
        """What the node's tables, as they should be, do with a connection. Raises AskError, TraceError, BusyError."""
        return _steadily(lambda: self._trace(ask))

    def _sorted(self) -> list[ObjectName]:
        made, names = self._names
        if self._clock() - made > _NAMES_SECONDS:
            names = sorted(self._state().index.services)  # a copy of one moment: the main thread goes on
            self._names = self._clock(), names
        return names

    def _services(self, search: str, page: int) -> Listing:
        state, names = self._state(), self._sorted()
        wanted = search.strip().lower()
        fitting = [key for key in names if _fits(state, key, wanted)] if wanted else names
        pages = max(-(-len(fitting) // ROWS), 1)
        page = min(max(page, 1), pages)
        shown = fitting[(page - 1) * ROWS : page * ROWS]
        counts, trouble = self._counted(lambda: _per_service(self._frontends(shown)))
        rates = self._pace.rates({key: counts.get(key, 0) for key in shown}, self._clock()) if not trouble else {}
        rows = [
            _row(state, service, rates.get(key))
            for key in shown
            if (service := state.index.services.get(key)) is not None
        ]
        return Listing(tuple(rows), len(fitting), len(names), page, pages, trouble)

    def _service(self, key: ObjectName) -> Detail | None:
        state = self._state()
        service = state.index.services.get(key)
        if service is None:
            return None
        whole, trouble = self._counted(lambda: _per_service(self._frontends([key])))
        parts, _ = self._counted(lambda: self._endpoints(key))
        rates: dict[Hashable, float | None] = {}
        if not trouble:
            rates = self._pace.rates({key: whole.get(key, 0)}, self._clock())
            rates |= self._pace.rates(parts, self._clock())
        graph = graph_of([service], state.index, claimable=Claimable.of(state.facts))
        ports = tuple(_ports(state, service, rates))
        return Detail(_row(state, service, rates.get(key)), tuple(_facts(service)), ports, graph, trouble)

    # --- what the kernel has counted ----------------------------------------------------------------------------

    def _counted(self, read: Callable[[], Counter[Hashable]]) -> tuple[Counter[Hashable], str]:
        """What was counted, and why nothing could be read, if that is so."""
        try:
            return read(), ""
        except KernelError as error:
            return Counter(), visible(str(error))

    def _frontends(self, keys: Iterable[ObjectName]) -> Iterator[tuple[ObjectName, int]]:
        """What each frontend of these Services has counted."""
        tables = self._state().tables
        for family, meters in self._meters.items():
            asked: dict[str, dict[bytes, ObjectName]] = {}
            for key in keys:
                for pool in _pools(tables.desired[family].contender((key.namespace, key.name))):
                    if pool.map in _KINDS:
                        asked.setdefault(pool.map, {})[meters.packed(pool.map, pool.key)] = key
            for name, owners in asked.items():
                for packed, meter in meters.some(name, tuple(owners)).items():
                    yield owners[packed], meter.packets

    def _endpoints(self, key: ObjectName) -> Counter[Hashable]:
        """What each endpoint of a Service has counted, by Service, port and endpoint."""
        found: Counter[Hashable] = Counter()
        for family, meters in self._meters.items():
            asked: dict[str, dict[bytes, str]] = {}
            for pool in _pools(self._state().tables.desired[family].contender((key.namespace, key.name))):
                if pool.map in _KINDS and pool.slots:
                    slots = slots_behind(_KINDS[pool.map], pool.verdict.chain)
                    port = pool.comment.partition(":")[2]
                    packed = slot_keys(meters.packed(pool.map, pool.key), slots)
                    asked.setdefault(pool.slots, {}).update(dict.fromkeys(packed, port))
                    if sum(map(len, asked.values())) > _MOST_SLOTS:
                        return Counter()
            for name, ports in asked.items():
                for packed_key, meter in meters.some(name, tuple(ports)).items():
                    address, number = meters.endpoint(name, meter.made_of)
                    found[key, ports[packed_key], socket_address(ip_address(address), number)] += meter.packets
        return found

    # --- the way of a connection --------------------------------------------------------------------------------

    def _trace(self, ask: Ask) -> Traced:
        state = self._state()
        asked = connection(ask, state)
        source, destination, protocol, port = asked.source, asked.destination, asked.protocol, asked.port
        family = Family(destination.version)
        own = frozenset(map(str, (*state.facts.addresses, *state.facts.node_port_ips)))
        from_node = source.is_loopback or str(source) in own
        table = state.tables.table(family)
        walked = trace(table, Packet(str(source), str(destination), protocol, port, from_node), own)
        rules = tuple(
            (
                f"{step.place.chain} {step.place.number}",
                percent(step.taken),
                write_rule(table.schema.family, step.place.rule),
            )
            for step in walked.steps[:_MOST_STEPS]
        )
        whence = "a process of this node" if from_node else "a pod or a client outside"
        text = f"{source} → {socket_address(destination, port)}/{protocol}, sent by {whence}"
        return Traced(text, tuple(_ways(walked)), rules)


def _steadily(read: Callable[[], Read]) -> Read:
    """What is read, at the next attempt where it changes meanwhile (a dict that grows, an object that goes)."""
    for _ in range(_TRIES):
        try:
            return read()
        except TraceError:
            raise
        except (RuntimeError, KeyError):
            time.sleep(0.05)
    raise BusyError("what is shown changes all the time; try again in a moment")


def _per_service(counted: Iterable[tuple[ObjectName, int]]) -> Counter[Hashable]:
    sums: Counter[Hashable] = Counter()
    for key, count in counted:
        sums[key] += count
    return sums


def _pools(contender: object) -> Iterator[Pool]:
    for pools in getattr(contender, "frontends", ()):
        yield from pools


def _fits(state: NodeState, key: ObjectName, wanted: str) -> bool:
    if wanted in f"{key.namespace}/{key.name}":
        return True
    service = state.index.services.get(key)
    if service is None or not (wanted[0].isdigit() or ":" in wanted):
        return False
    addresses = (*service.cluster_ips, *service.external_ips, *service.load_balancer_ips)
    return any(str(port.node_port) == wanted for port in service.ports) or wanted in map(str, addresses)


def _row(state: NodeState, service: Service, rate: float | None) -> Row:
    addresses = [str(ip) for ip in (*service.cluster_ips, *service.external_ips, *service.load_balancer_ips)]
    ports = [f"{port.port}{f':{port.node_port}' if port.node_port else ''}/{port.protocol}" for port in service.ports]
    served = is_proxied(service)
    used = {(b.address, b.port) for found in state.resolver.endpoints(service) for b in found.used} if served else ()
    return Row(
        visible(service.namespace),
        visible(service.name),
        "headless" if service.headless else str(service.type),
        _few(addresses),
        _few(ports),
        len(used) if served else None,
        rate if served else None,
    )


def _few(texts: list[str]) -> tuple[str, ...]:
    more = len(texts) - _MOST_ADDRESSES
    return (*texts[:_MOST_ADDRESSES], *([f"and {more} more"] if more > 0 else []))


def _facts(service: Service) -> Iterator[tuple[str, str]]:
    """What is said of a Service beside its addresses and ports, where it is not what it is by default."""
    if service.selector:
        yield "Selector", visible(", ".join(f"{key}={value}" for key, value in sorted(service.selector.items())))
    if service.session_affinity_seconds:
        yield (
            "Session affinity",
            f"ClientIP, {service.session_affinity_seconds} s (endpoints are not counted one by one)",
        )
    if service.external_traffic_policy != "Cluster":
        yield "External traffic policy", visible(str(service.external_traffic_policy))
    if service.internal_traffic_policy != "Cluster":
        yield "Internal traffic policy", visible(str(service.internal_traffic_policy))
    if service.proxy_name is not None:
        yield "Served by another proxy", visible(service.proxy_name)


def _ports(state: NodeState, service: Service, rates: Mapping[Hashable, float | None]) -> Iterator[Port]:
    nodes = _nodes(state, service)
    served = is_proxied(service) and bool(service.cluster_ips)
    for found in state.resolver.endpoints(service):
        port = found.port
        states = [*((b, "in use") for b in found.used), *((b, "draining") for b in found.draining)]
        listed = [
            Endpoint(
                where := socket_address(backend.address, backend.port),
                visible(nodes.get(backend.address.packed, "")),
                told,
                rates.get((service.key, port.name, where)),
                (service.key, port.name, where) in rates,
            )
            for backend, told in states[:MOST_ENDPOINTS]
        ]
        listed += [
            Endpoint(
                socket_address(failing.address, failing.port), visible(failing.lost_node), "failing", None, False
            )
            for failing in found.failing[:MOST_ENDPOINTS]
        ]
        more = len(states) + len(found.failing) - len(listed)
        target = f"{visible(port.name)} " if port.name else ""
        text = f"{target}{port.port}/{port.protocol} → {visible(str(port.target_port))}"
        name = f"{text}{f', nodePort {port.node_port}' if port.node_port else ''}"
        way = (
            {"to": str(service.cluster_ips[0]), "port": port.port, "protocol": port.protocol.lower()}
            if served
            else {}
        )
        yield Port(name, f"/trace?{urlencode(way)}" if way else "", tuple(listed), more)


def _nodes(state: NodeState, service: Service) -> dict[bytes, str]:
    """By packed address the node that an endpoint is on."""
    pods = state.index.selected(service) if service.selector else ()
    found = {ip.packed: pod.node_name for pod in pods for ip in pod.ips}
    found |= {
        each.address.packed: each.node_name for piece in state.index.slices(service) for each in piece.endpoints
    }
    return found


def _ways(walked: Trace) -> Iterator[Way]:
    for outcome in walked.outcomes:
        where = socket_address(ip_address(outcome.destination), outcome.port)
        notes = []
        if outcome.masqueraded:
            notes.append("it sees an address of this node (masqueraded)")
        if outcome.here:
            notes.append("on this node itself")
        if outcome.fate in (Fate.REFUSED, Fate.DROPPED) and outcome.path:
            notes.append(f"chain {outcome.path[-1].chain}")
        if outcome.fate is Fate.UNTOUCHED:
            notes.append("no rule is for it")
        bad = outcome.fate in (Fate.REFUSED, Fate.DROPPED)
        yield Way(percent(outcome.probability), outcome.fate.value, where, visible("; ".join(notes)), bad)


def percent(share: Fraction) -> str:
    """A probability: "100 %", "33.3 %"; what is neither none nor all is never shown as such."""
    if share in (0, 1):
        return f"{int(share) * 100} %"
    return f"{min(max(float(share) * 100, 0.1), 99.9):.1f} %"
