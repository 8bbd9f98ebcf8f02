"""The lines of hosts files: what each name stands for, kept up Service by Service, and nothing injected."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nodeport_nft.hosts import MARKER
from nodeport_nft.manifest import parse_object
from nodeport_nft.model import (
    Family,
    Node,
    ObjectName,
    Pod,
    ProbeFailure,
    Ranges,
    Ref,
    Service,
    ServiceType,
    Snapshot,
    Value,
)
from nodeport_nft.problems import Problems
from nodeport_nft.resolve import Index
from nodeport_nft.resolve.bounds import MAX_NAMED
from nodeport_nft.resolve.names import Names
from tests.builders import make_endpoint, make_service, make_slice, ref_of

DOMAIN = "cluster.local"
WEB = make_service("web", ips=("10.96.0.50", "fd00:10:96::32"))
HEADLESS = make_service("db", ips=(), selector={"app": "db"}, headless=True)


def pod(name: str, *ips: str, **state: Any) -> Pod:
    return Pod("default", name, {"app": "db"}, tuple(map(ip_address, ips)), "worker-1", **state)


def named(*values: Value, domain: str = DOMAIN) -> Names:
    index, names = Index(), Names(domain)
    for value in values:
        index.put(ref_of(value), (value,))
    names.update(index, index.services)
    return names


def addresses(names: Names, name: str = "db") -> list[str]:
    end = f" {name}.default.svc.{DOMAIN}"
    return [line.removesuffix(end) for line in names.text("default").splitlines() if line.endswith(end)]


def test_a_service_is_named_by_its_cluster_ips() -> None:
    names = named(WEB, replace(WEB, namespace="shop"), make_service("api", ips=("10.96.0.51",)), domain="example.org")
    assert names.text("default").splitlines() == [
        MARKER,
        "10.96.0.51 api.default.svc.example.org",
        "10.96.0.50 web.default.svc.example.org",
        "fd00:10:96::32 web.default.svc.example.org",
    ]
    assert names.text("shop").count("web.shop.svc.example.org") == 2
    assert names.namespaces() == {"default", "shop"}
    assert names.count("default") == 2


@pytest.mark.parametrize(
    "service",
    [
        replace(WEB, type=ServiceType.EXTERNAL_NAME),
        replace(WEB, cluster_ips=(), ip_families=()),
        HEADLESS,
    ],
    ids=["ExternalName", "not allocated yet", "headless, no endpoint"],
)
def test_what_has_no_address_has_no_name(service: Service) -> None:
    names = named(service)
    assert (names.namespaces(), names.text("default")) == (set(), "")
    assert not names._lines, "nor is its namespace remembered for it"


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ((pod("a", "10.244.1.1", "fd00::1"), pod("b", "10.244.1.2")), ["10.244.1.1", "10.244.1.2", "fd00::1"]),
        ((pod("a", "10.244.1.1", "10.244.1.9"),), ["10.244.1.1"]),
        ((pod("a", "10.244.1.1", ready=False), pod("b", "10.244.1.2", terminating=True)), []),
        ((pod("a", "10.244.1.1", finished=True),), []),
        ((pod("a", "10.244.1.1"), pod("b", "10.244.1.1")), ["10.244.1.1"]),
        ((pod("a"),), []),
    ],
    ids=["both families", "the first of a family", "not ready", "finished", "once each", "no address yet"],
)
def test_a_headless_service_is_named_by_its_ready_pods(pods: tuple[Pod, ...], expected: list[str]) -> None:
    assert addresses(named(HEADLESS, *pods)) == expected
    one_family = replace(HEADLESS, ip_families=(Family.IPV4,))
    assert addresses(named(one_family, *pods)) == [each for each in expected if ":" not in each]


def test_what_is_not_ready_is_named_where_it_is_published() -> None:
    published = replace(HEADLESS, publish_not_ready_addresses=True)
    away = (pod("a", "10.244.1.1", ready=False), pod("b", "10.244.1.2", terminating=True))
    assert addresses(named(published, *away, pod("c", "10.244.1.3", finished=True))) == ["10.244.1.1", "10.244.1.2"]
    piece = make_slice(make_endpoint("10.244.2.1", ready=False), service="db", headless=True)
    assert addresses(named(published, piece)) == ["10.244.2.1"]
    assert addresses(named(HEADLESS, piece)) == []


def test_what_is_drained_or_has_failed_has_no_name_while_there_are_others() -> None:
    pods = (pod("a", "10.244.1.1"), pod("b", "10.244.1.2"), pod("c", "10.244.1.3"))
    drained = replace(pods[0], drained=pods[0].ips)
    fails = ProbeFailure("default", pods[1].ips[0], 100.0)
    assert addresses(named(HEADLESS, drained, *pods[1:])) == ["10.244.1.2", "10.244.1.3"]
    assert addresses(named(HEADLESS, drained, *pods[1:], fails)) == ["10.244.1.3"]
    assert addresses(named(HEADLESS, drained)) == ["10.244.1.1"], "as there is no other"
    assert addresses(named(HEADLESS, pods[1], fails)) == ["10.244.1.2"], "the last good one"
    gone = Node("worker-1", drained=True)
    assert addresses(named(HEADLESS, *pods[:2], replace(pods[2], node_name="worker-2"), gone)) == ["10.244.1.3"]


def test_an_endpoint_of_a_slice_that_is_drained_has_no_name_while_there_are_others() -> None:
    pods = (make_endpoint("10.244.2.1", node="worker-1"), make_endpoint("10.244.2.2", node="worker-2"))
    piece = make_slice(*pods, service="db", headless=True)
    assert addresses(named(HEADLESS, piece)) == ["10.244.2.1", "10.244.2.2"]
    assert addresses(named(HEADLESS, replace(piece, drained=(pods[0].address,)))) == ["10.244.2.2"]
    assert addresses(named(HEADLESS, piece, Node("worker-2", drained=True))) == ["10.244.2.1"]
    assert addresses(named(replace(HEADLESS, selector={}))) == [], "nor does anybody select its Pods"


def test_slices_go_before_endpoints_and_those_before_pods() -> None:
    own = make_slice("10.244.2.1", service="db", name="own", headless=True)
    mirrored = make_slice("10.244.2.2", service="db", name="mirrored", mirrored=True)
    assert addresses(named(HEADLESS, own, mirrored, pod("a", "10.244.1.1"))) == ["10.244.2.1"]
    assert addresses(named(HEADLESS, mirrored, pod("a", "10.244.1.1"))) == ["10.244.2.2"]


def test_no_name_stands_for_more_than_fit_into_an_answer() -> None:
    pods = [pod(f"p{i}", f"10.244.{i >> 8}.{i & 255}") for i in range(1, MAX_NAMED + 2)]
    names = named(HEADLESS, *pods)
    assert len(addresses(names)) == MAX_NAMED
    assert names.crowded == {ObjectName("default", "db"): MAX_NAMED + 1}
    names.update(Index.of(Snapshot((HEADLESS,), pods=tuple(pods[1:]))), [HEADLESS.key])
    assert names.crowded == {}, "as many as fit"
    assert len(addresses(names)) == MAX_NAMED


def test_of_a_file_only_lines_of_names_are_taken() -> None:
    names = Names(DOMAIN)
    good = f"10.96.0.50 web.default.svc.{DOMAIN}"
    odd = (f"10.96.0.51 web.svc.{DOMAIN}", "10.96.0.52 web.default.svc.example.org", "10.96.0.53", "")
    names.restore("\n".join((MARKER, *odd, good, *odd)), lambda _: True)
    assert names.text("default").splitlines() == [MARKER, good]
    assert names.namespaces() == {"default"}


def test_a_change_concerns_its_own_namespace() -> None:
    index, names = Index(), Names(DOMAIN)
    shop = replace(WEB, namespace="shop")
    for service in (WEB, shop):
        index.put(Ref("Service", *service.key), (service,))
    assert names.update(index, index.services) == {"default", "shop"}
    assert names.update(index, index.services) == set(), "nothing has changed"
    touched = index.put(Ref("Service", *shop.key), (replace(shop, session_affinity_seconds=9),))
    assert (touched, names.update(index, touched)) == ({shop.key}, set()), "no name has"
    assert names.update(index, index.put(Ref("Service", *shop.key), ())) == {"shop"}
    assert names.namespaces() == {"default"}


_SERVICES = st.builds(
    lambda namespace, name, last: replace(
        make_service(name, ips=(f"10.96.0.{last}",) if last else ()), namespace=namespace
    ),
    st.sampled_from("ab"),
    st.sampled_from(["x", "x.y", "y"]),
    st.integers(0, 3),
)


@given(st.lists(st.tuples(_SERVICES, st.booleans()), max_size=20))
def test_kept_up_or_made_anew_they_are_the_same(changes: list[tuple[Service, bool]]) -> None:
    index, names = Index(), Names(DOMAIN)
    for service, stays in changes:
        before = {namespace: names.text(namespace) for namespace in "ab"}
        changed = names.update(index, index.put(Ref("Service", *service.key), (service,) if stays else ()))
        assert changed == {namespace for namespace in "ab" if names.text(namespace) != before[namespace]}
    anew = Names(DOMAIN)
    anew.update(index, index.services)
    assert [names.text(each) for each in "ab"] == [anew.text(each) for each in "ab"]
    assert names.namespaces() == anew.namespaces()


def test_what_cannot_be_read_keeps_the_names_that_its_file_has() -> None:
    text = named(WEB, make_service("lost", ips=("10.96.0.9", "fd00:10:96::9")), make_service("gone")).text("default")
    names = named(make_service("new", ips=("10.96.0.12",)))
    names.restore(text, lambda key: key == ObjectName("default", "lost"))
    assert names.text("default").splitlines()[1:] == [
        f"10.96.0.9 lost.default.svc.{DOMAIN}",
        f"fd00:10:96::9 lost.default.svc.{DOMAIN}",
        f"10.96.0.12 new.default.svc.{DOMAIN}",
    ]
    names.restore("10.0.0.1 a\nx\n \n1.2.3.4 b.c.example\n", lambda _: True)
    assert names.namespaces() == {"default"}, "what is not as we write it"


_STRANGE = st.sampled_from(["web", "a\n10.0.0.1 b", "a b", "../x", ".x", "#x", "x~", "a\0", "", "x" * 64]) | st.text()


@given(_STRANGE, _STRANGE, st.booleans())
def test_no_name_becomes_a_line_of_its_own(namespace: str, name: str, lenient: bool) -> None:
    """Whatever is written there: it is refused, or one name in one line, and the file's name is the namespace."""
    document = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80}]},
    }
    try:
        parsed = parse_object(document, ranges=Ranges(), lenient=lenient)
    except Problems:
        return
    (service,) = (value for value in parsed.values if isinstance(value, Service))
    text = named(service).text(service.namespace)
    assert text == f"{MARKER}\n10.96.0.7 {service.name}.{service.namespace}.svc.{DOMAIN}\n"
    assert re.fullmatch(r"[a-z0-9-]+", service.namespace)
    assert re.fullmatch(r"[a-z0-9.-]+", service.name)
