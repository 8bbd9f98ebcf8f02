"""An object with ten times the parts costs ten times as much, not a hundred times: no object may stop the others.

What is counted is work, not time: the lines of this program that are run, and those of ``ipaddress``, where the
comparisons of addresses that share a hash are made. The way is the whole one: text, values, store, allocation,
endpoints, nftables values, transaction, text for the kernel, and what a person is told of it; then the same object
again without a part, and without the object.
"""

from __future__ import annotations

import ipaddress
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from msgspec.structs import replace

import nodeport_nft
from nodeport_nft.allocate import AllocationError, allocate, probing
from nodeport_nft.cli.columns import endpoints_rows, object_listing
from nodeport_nft.cli.description import describe_service
from nodeport_nft.cli.listing import Look
from nodeport_nft.compile import bounds as slot_bounds
from nodeport_nft.hosts import hosts_lines
from nodeport_nft.manifest import Problems, read_manifests
from nodeport_nft.model import Family, PortRange, Ranges, ServiceType
from nodeport_nft.reconcile import compile_snapshot
from nodeport_nft.render import write_transaction
from nodeport_nft.resolve import Resolver, join, resolver
from nodeport_nft.resolve.absence import Around
from nodeport_nft.store import Store
from nodeport_nft.trace import Packet, trace
from tests.builders import FACTS, make_port, make_service
from tests.property.reconciling import Node

Document = dict[str, Any]
Documents = Callable[[int], list[Document]]

FEW, SOME, MANY = 10, 30, 250
RANGES = Ranges(node_ports=PortRange(20000, 60000))
NOW = "2026-01-01T00:00:00Z"
PRIME = (1 << 61) - 1
"""Addresses that are this far apart have one hash (Include/pyhash.h, _PyHASH_MODULUS)."""

# --- counting -----------------------------------------------------------------

_COUNTED = (str(Path(nodeport_nft.__file__).parent), ipaddress.__file__, "<string>")  # dataclasses' methods


def lines_of(work: Callable[[], object]) -> int:
    """How many lines it runs."""
    count = 0

    def line(_: FrameType, event: str, __: object) -> None:  # returns nothing: the frame keeps what traces it
        nonlocal count
        if event == "line":
            count += 1

    class Tracers(dict[str, Any]):
        """What traces the code of a file; looked up for every call there is."""

        def __missing__(self, name: str) -> Any:
            return self.setdefault(name, line if name.startswith(_COUNTED) else None)

    tracers = Tracers()

    def call(frame: FrameType, _: str, __: object) -> Any:
        return tracers[frame.f_code.co_filename]

    before = sys.gettrace()
    sys.settrace(call)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def assert_linear(work: Callable[[int], object], sizes: Sequence[int] = (FEW, SOME, MANY)) -> None:
    """A part costs among many what it costs among some; what the smallest size costs is left aside."""
    few, some, many = (lines_of(lambda size=size: work(size)) for size in sizes)  # type: ignore[misc]
    assert some > few, "it costs something at all"
    among_some, among_many = (some - few) / (sizes[1] - sizes[0]), (many - few) / (sizes[2] - sizes[0])
    assert among_many < 1.2 * among_some, f"{few}, {some} and {many} lines for {sizes}"


# --- the whole way ------------------------------------------------------------


def read(documents: Iterable[Document], path: Path) -> Store:
    """A store that has these objects, from text."""
    path.write_text("".join(f"---\n{json.dumps(document)}\n" for document in documents), encoding="utf-8")
    store = Store(":memory:", ranges=RANGES)
    apply(store, path)
    return store


def apply(store: Store, path: Path) -> None:
    manifests = read_manifests([str(path)], ranges=RANGES)
    with store.transaction() as transaction:
        transaction.apply(manifests.objects, now=NOW)


def go_all_the_way(documents: list[Document], path: Path) -> None:
    store = read(documents, path)
    apply(store, path)  # again, over what is held by now
    path.write_text("\n".join(map(json.dumps, documents)), encoding="utf-8")  # and out of JSON
    apply(store, path)
    node = Node()
    objects = list(store.values())
    rendered(node, *objects)
    node.state.problems()
    last = objects[-1]
    rendered(node, (last[0], ()))
    rendered(node, last)
    tell(store, node)
    rendered(node, *((ref, ()) for ref, _ in objects))
    store.close()


def rendered(node: Node, *objects: Any) -> list[str]:
    return [write_transaction(transaction) for transaction in node.sync(*objects).transactions]


def tell(store: Store, node: Node) -> None:
    snapshot = store.snapshot()
    compile_snapshot(snapshot, FACTS)
    hosts_lines(snapshot.services, domain="cluster.local")
    endpoints_rows(snapshot, store.objects("Endpoints"), None)
    known, around = Resolver(snapshot, FACTS.name), Around(snapshot, store.objects)
    now = datetime(2026, 1, 2, tzinfo=UTC)
    for kind in ("Service", "EndpointSlice", "Pod", "Node"):
        object_listing(kind, store.objects(kind), wide=True, now=now).text(Look(namespaces=True))
    for stored in store.objects("Service"):
        describe_service(stored, known, around, now, FACTS.name)
    for service in snapshot.services[:1]:
        known.local_ready(service)
        packet = Packet("172.30.1.9", str(service.cluster_ips[0]), "tcp", service.ports[0].port, interface="eth0")
        trace(node.state.tables.table(Family.IPV4), packet, set())


# --- objects with many parts of one kind --------------------------------------


def service(ports: list[Document] | None = None, *, status: Document | None = None, **spec: Any) -> Document:
    notes = spec.pop("annotations", {})
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "annotations": notes},
        "spec": {"ports": ports or [{"port": 80, "name": "http"}], "type": "LoadBalancer", **spec},
        "status": status or {},
    }


def slices(
    addresses: Iterable[str], ports: Sequence[str] = ("http",), *, size: int = 1000, family: str = "IPv4", **more: Any
) -> list[Document]:
    every = list(addresses)
    return [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"web-{at}", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": family,
            "ports": [{"name": name, "port": 8080 + i} for i, name in enumerate(ports)],
            "endpoints": [{"addresses": [ip], "nodeName": "worker-1", **more} for ip in every[at : at + size]],
        }
        for at in range(0, len(every), size)
    ]


def pod(name: str, *, labels: Document, address: str, ports: list[Document]) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": "worker-1", "containers": [{"name": "web", "ports": ports}]},
        "status": {"podIPs": [{"ip": address}]},
    }


def endpoints(*subsets: Document) -> Document:
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web"}, "subsets": list(subsets)}


def worker(**more: Any) -> Document:
    metadata = {"name": "worker-1", **more.pop("metadata", {})}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, **more}


def v4(count: int, first: str = "10.244.0.1") -> list[str]:
    return [str(IPv4Address(first) + i) for i in range(count)]


def v6(count: int) -> list[str]:
    return [str(IPv6Address("fd00::1") + i * PRIME) for i in range(count)]


def named(count: int, **more: Any) -> list[Document]:
    return [{"name": f"p{i}", "port": 1 + i, **more} for i in range(count)]


def names(count: int) -> list[str]:
    return [f"p{i}" for i in range(count)]


def ingress(addresses: Iterable[str]) -> Document:
    return {"loadBalancer": {"ingress": [{"ip": ip} for ip in addresses]}}


def prefixes(count: int) -> list[str]:
    return [f"{ip}/31" for ip in v4(count, "192.0.2.0")]


DUAL: Document = {"ipFamilyPolicy": "RequireDualStack"}
RANGES_NOTE = "nodeport-nft/node-port-source-ranges"
ONE = slices(v4(1))

PARTS: dict[str, Documents] = {
    "ports": lambda n: [service(named(n)), *slices(v4(1), names(n))],
    "ports with the nodePorts they ask for": lambda n: [
        service([{**port, "nodePort": 20000 + i} for i, port in enumerate(named(n))]),
        *slices(v4(1), names(n)),
    ],
    "ports in pairs": lambda n: [
        service([{**p, "name": f"{p['name']}{k}", "protocol": k.upper()} for p in named(n) for k in ("tcp", "udp")]),
    ],
    "ports that nobody serves": lambda n: [service(named(n)), *slices(v4(1))],
    "ports of a slice that nobody asks for": lambda n: [service(), *slices(v4(1), ["http", *names(n)])],
    "named target ports of a Pod": lambda n: [
        service([{**port, "targetPort": port["name"]} for port in named(n)], selector={"app": "web"}),
        pod(
            "a",
            labels={"app": "web"},
            address="10.244.0.1",
            ports=[{"name": name, "containerPort": 1 + i} for i, name in enumerate(names(n))],
        ),
    ],
    "externalIPs": lambda n: [service(externalIPs=v4(n, "192.0.2.0")), *ONE],
    "LB ingress IPs": lambda n: [service(status=ingress(v4(n, "192.0.2.0"))), *ONE],
    "addresses of both kinds": lambda n: [
        service(externalIPs=v4(n, "192.0.2.0"), status=ingress(v4(n, "192.0.2.0"))),
        *ONE,
    ],
    "externalIPs that another Service wants too": lambda n: [
        service(externalIPs=v4(n, "192.0.2.0")),
        {**service(externalIPs=v4(n, "192.0.2.0")), "metadata": {"name": "the-other"}},
    ],
    "source ranges": lambda n: [
        service(loadBalancerSourceRanges=prefixes(n), annotations={RANGES_NOTE: ",".join(prefixes(n))}),
        *ONE,
    ],
    "source ranges and addresses": lambda n: [
        service(loadBalancerSourceRanges=prefixes(n), status=ingress(v4(n, "192.0.2.0"))),
        *ONE,
    ],
    "endpoints": lambda n: [service(), *slices(v4(n))],
    "endpoints, policy Local": lambda n: [service(externalTrafficPolicy="Local"), *slices(v4(n))],
    "endpoints that leave": lambda n: [service(), *slices(v4(n), conditions={"ready": False, "terminating": True})],
    "endpoints with affinity": lambda n: [service(sessionAffinity="ClientIP"), *slices(v4(n))],
    "endpoints, hashed": lambda n: [service(annotations={"nodeport-nft/load-balancing": "maglev"}), *slices(v4(n))],
    "endpoints twice": lambda n: [service(), *slices(v4(n) * 2)],
    "slices": lambda n: [service(), *slices(v4(n), size=1)],
    "hints": lambda n: [
        service(trafficDistribution="PreferClose"),
        *slices(v4(n), hints={"forZones": [{"name": f"z{i}"} for i in range(8)]}),
    ],
    "weights": lambda n: [
        service(annotations={"nodeport-nft/weights": ",".join(f"{ip}=2" for ip in v4(n))}),
        *slices(v4(n)),
    ],
    "Pods": lambda n: [
        service(selector={"app": "web"}),
        *(pod(f"p{i}", labels={"app": "web"}, address=ip, ports=[]) for i, ip in enumerate(v4(n))),
    ],
    "labels": lambda n: [
        service(selector={f"l{i}": "x" for i in range(n)}),
        pod("a", labels={f"l{i}": "x" for i in range(n)}, address="10.244.0.1", ports=[]),
    ],
    "annotations": lambda n: [service(annotations={f"example.org/{i}": "x" for i in range(n)}), *ONE],
    "requirements": lambda n: [
        service(annotations={"nodeport-nft/node-port-nodes": ",".join(f"l{i}=x" for i in range(n))}),
        worker(metadata={"labels": {f"l{i}": "x" for i in range(n)}}),
    ],
    "values of a requirement": lambda n: [
        service(annotations={"nodeport-nft/node-port-nodes": f"l in ({','.join(names(n))})"}),
        worker(metadata={"labels": {"l": f"p{n - 1}"}}),
    ],
    "subsets": lambda n: [
        service(),
        endpoints(*({"addresses": [{"ip": ip}], "ports": [{"name": "http", "port": 80}]} for ip in v4(n))),
    ],
    "addresses of a subset": lambda n: [
        service(),
        endpoints({"addresses": [{"ip": ip} for ip in v4(n)], "ports": [{"name": "http", "port": 80}]}),
    ],
    "addresses of a Node": lambda n: [
        worker(status={"addresses": [{"type": "InternalIP", "address": ip} for ip in v4(n)]})
    ],
    "Services": lambda n: [{**service(), "metadata": {"name": name}} for name in names(n)],
    "items of a List": lambda n: [
        {
            "apiVersion": "v1",
            "kind": "List",
            "items": [{**service(), "metadata": {"name": name}} for name in names(n)],
        }
    ],
    # --- addresses that share one hash ---
    "colliding externalIPs": lambda n: [service(externalIPs=v6(n), **DUAL), *slices(v6(1), family="IPv6")],
    "colliding LB ingress IPs": lambda n: [service(status=ingress(v6(n)), **DUAL), *slices(v6(1), family="IPv6")],
    "colliding endpoints": lambda n: [service(**DUAL), *slices(v6(n), family="IPv6")],
    "colliding endpoints with affinity": lambda n: [
        service(sessionAffinity="ClientIP", **DUAL),
        *slices(v6(n), family="IPv6"),
    ],
    "colliding weights": lambda n: [
        service(annotations={"nodeport-nft/weights": ",".join(f"{ip}=0" for ip in v6(n))}, **DUAL),
        *slices(v6(n), family="IPv6"),
    ],
    "colliding source ranges": lambda n: [
        service(loadBalancerSourceRanges=v6_prefixes(n), annotations={RANGES_NOTE: ",".join(v6_prefixes(n))}, **DUAL),
        *slices(v6(1), family="IPv6"),
    ],
    "colliding Pods, UDP": lambda n: [
        service([{"port": 53, "protocol": "UDP"}], selector={"app": "web"}, **DUAL),
        *(pod(f"p{i}", labels={"app": "web"}, address=ip, ports=[]) for i, ip in enumerate(v6(n))),
    ],
    "colliding addresses of a Node": lambda n: [
        worker(status={"addresses": [{"type": "InternalIP", "address": ip} for ip in v6(n)]})
    ],
}


def v6_prefixes(count: int) -> list[str]:
    return [f"{ip}/128" for ip in v6(count)]


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a process works out once, such as what a schema reads like, is no part's."""
    go_all_the_way(PARTS["ports"](FEW), tmp_path_factory.mktemp("warm") / "manifests.yaml")


BODIES_OF_LITTLE_ELSE = ("ports of a slice that nobody asks for", "addresses of a Node")
"""Of a body with more than 100 brackets the store asks how deep it is, which shows where so little else is done."""


@pytest.mark.parametrize("parts", PARTS)
def test_ten_times_the_parts_cost_ten_times_as_much(parts: str, tmp_path: Path) -> None:
    sizes = (110, 150, MANY) if parts in BODIES_OF_LITTLE_ELSE else (FEW, SOME, MANY)
    if "affinity" in parts:  # the fake kernel looks for loops among all chains, as the real one does
        sizes = (FEW, 20, 100)
    assert_linear(lambda size: go_all_the_way(PARTS[parts](size), tmp_path / "manifests.yaml"), sizes)


# --- parts of parts -----------------------------------------------------------

PRODUCTS: dict[str, Documents] = {
    "ports and externalIPs": lambda n: [service(named(n), externalIPs=v4(n, "192.0.2.0")), *slices(v4(1), names(n))],
    "ports and endpoints": lambda n: [service(named(n)), *slices(v4(n), names(n))],
    "ports and endpoints that are not ready": lambda n: [
        service(named(n)),
        *slices(v4(n), names(n), conditions={"ready": False}),
    ],
    "ports and slices": lambda n: [service(named(n)), *slices(v4(n), ["p0"], size=1)],
    "ports and Pods": lambda n: [
        service(named(n), selector={"app": "web"}),
        *(pod(f"p{i}", labels={"app": "web"}, address=ip, ports=[]) for i, ip in enumerate(v4(n))),
    ],
    "externalIPs and endpoints": lambda n: [service(externalIPs=v4(n, "192.0.2.0")), *slices(v4(n))],
    "externalIPs and endpoints with affinity": lambda n: [
        service(
            [{"port": 53, "protocol": "UDP", "name": "http"}],
            externalIPs=v4(n, "192.0.2.0"),
            sessionAffinity="ClientIP",
        ),
        *slices(v4(n)),
    ],
    "externalIPs and source ranges": lambda n: [
        service(
            externalIPs=v4(n, "192.0.2.0"), status=ingress(v4(n, "192.0.2.0")), loadBalancerSourceRanges=prefixes(n)
        ),
        *ONE,
    ],
    "ports and requirements": lambda n: [
        service(named(n), annotations={"nodeport-nft/node-port-nodes": ",".join(f"l{i}=x" for i in range(n))}),
        worker(metadata={"labels": {f"l{i}": "x" for i in range(n)}}),
    ],
}


@pytest.fixture
def _small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that are reached by sizes which a test can count."""
    monkeypatch.setattr(resolver, "MAX_FRONTENDS", 100)
    monkeypatch.setattr(join, "MAX_WEIGHED", 800)
    monkeypatch.setattr(slot_bounds, "MAX_SLOTS", 400)
    monkeypatch.setattr(slot_bounds, "MAX_STICKY", 20)


@pytest.mark.usefixtures("_small_bounds")
@pytest.mark.parametrize("parts", PRODUCTS)
def test_parts_of_parts_are_bounded(parts: str, tmp_path: Path) -> None:
    # Pairs that nothing bounds show among 120 of each already, as lifting a bound does.
    sizes = (FEW, SOME, 120)
    assert_linear(lambda size: go_all_the_way(PRODUCTS[parts](size), tmp_path / "manifests.yaml"), sizes)


# --- what is wrong ------------------------------------------------------------

WRONG: dict[str, Documents] = {
    "ports": lambda n: [service([{"name": "Not A Name", "port": 0} for _ in range(n)])],
    "one port again and again": lambda n: [service([{"name": "http", "port": 80, "nodePort": 20000}] * n)],
    "addresses": lambda n: [service(externalIPs=["10.0.0.300"] * n, loadBalancerSourceRanges=["10.0.0.0/99"] * n)],
    "clusterIPs": lambda n: [service(clusterIPs=v4(n, "10.96.0.1"), ipFamilies=["IPv4", "IPv6"] * n)],
    "endpoints": lambda n: [service(), *slices(["127.0.0.1"] * n)],
    "Services of one name": lambda n: [service()] * n,
}


@pytest.mark.parametrize("parts", WRONG)
def test_ten_times_the_problems_cost_ten_times_as_much(parts: str, tmp_path: Path) -> None:
    def work(size: int) -> None:
        with pytest.raises(Problems) as caught:
            read(WRONG[parts](size), tmp_path / "manifests.yaml")
        str(caught.value)

    assert_linear(work)


def test_ports_that_an_exhausted_range_refuses() -> None:
    ranges = Ranges(node_ports=PortRange(20000, 20000 + FEW - 1))

    def work(size: int) -> None:
        wanted = make_service("web", *(make_port(1 + i, name=f"p{i}") for i in range(FEW + size)), ips=())
        wanted = replace(wanted, type=ServiceType.NODE_PORT)
        with pytest.raises(AllocationError) as caught:
            allocate(wanted, None, ranges=ranges, port_holder=lambda _: None, ip_holder=lambda _: None)
        assert len(caught.value.refusals) == size

    assert_linear(work)


def test_ports_whose_names_lead_to_one_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_start", lambda _: 0)

    def work(size: int) -> None:
        ports = (make_port(1 + i, name=f"p{i}") for i in range(size))
        wanted = replace(make_service("web", *ports, ips=()), type=ServiceType.NODE_PORT)
        allocate(wanted, None, ranges=RANGES, port_holder=lambda _: None, ip_holder=lambda _: None)

    assert_linear(work)
