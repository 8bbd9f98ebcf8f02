"""The store: what it keeps, gives and refuses, with other processes at it and killed at any moment (A1-A5)."""

from __future__ import annotations

import multiprocessing
import random
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from ipaddress import IPv4Network, IPv6Network, ip_address
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from nodeport_nft.allocate import holdings
from nodeport_nft.manifest import Object, Problem, Problems, parse_object
from nodeport_nft.model import ObjectName, PortRange, Ranges, Ref, Service
from nodeport_nft.store import Applied, Store, StoreError, writing
from nodeport_nft.store.sqlite import opening

NOW = "2026-01-31T12:00:00Z"
LATER = "2026-02-01T12:00:00Z"
RANGES = Ranges(PortRange(30000, 30099), (IPv4Network("10.96.0.0/24"), IPv6Network("fd00:10:96::/112")))


def document(name: str, type: str = "NodePort", namespace: str = "default", **spec: Any) -> dict[str, Any]:
    spec = {"type": type, "selector": {"app": name}, "ports": [{"port": 80}], **spec}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {field: value for field, value in spec.items() if value is not None},
    }


def service(name: str, type: str = "NodePort", **spec: Any) -> Object:
    return parse_object(document(name, type, **spec), ranges=RANGES, source=f"{name}.yaml:1")


def pod(name: str, **labels: str) -> Object:
    metadata = {"name": name, "namespace": "default", "labels": labels}
    return parse_object({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})


def endpoint_slice(name: str, address: str = "10.1.0.1") -> Object:
    return parse_object(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4",
            "ports": [{"port": 80}],
            "endpoints": [{"addresses": [address]}],
        }
    )


def node(name: str) -> Object:
    return parse_object({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})


def apply(store: Store, *objects: Object, now: str = NOW) -> tuple[Applied, ...]:
    with store.transaction() as transaction:
        return transaction.apply(objects, now=now)


def applied_service(store: Store, obj: Object) -> Service:
    (value,) = apply(store, obj)[0].object.values
    assert isinstance(value, Service)
    return value


def node_port(store: Store, name: str) -> int:
    stored = store.get("Service", "default", name)
    assert stored is not None
    port = stored.raw["spec"]["ports"][0]["nodePort"]
    assert isinstance(port, int)
    return port


def refused(store: Store, *objects: Object) -> tuple[Problem, ...]:
    before = contents(store)
    with pytest.raises(Problems) as caught:
        apply(store, *objects)
    assert contents(store) == before
    return caught.value.problems


def contents(store: Store) -> tuple[object, ...]:
    return store.resource_version(), store.objects(), store.changed_since(0)


def check(path: Path) -> set[str]:
    """The names of the stored Services, after proof that what they hold is what is recorded as held."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        ports = set(db.execute("SELECT port, namespace, name FROM node_ports"))
        ips = set(db.execute("SELECT ip, namespace, name FROM cluster_ips"))
        latest = db.execute("SELECT max(resource_version) FROM objects").fetchone()[0] or 0
    with Store(path, ranges=RANGES) as store:
        services = store.snapshot().services
        assert store.resource_version() >= latest
    assert ports == {(port, *each.key) for each in services for port in holdings(each).node_ports}
    assert ips == {(str(ip), *each.key) for each in services for ip in holdings(each).cluster_ips}
    return {each.name for each in services}


# --- bodies -------------------------------------------------------------------


def test_defaults_and_allocations_are_filled_in_and_unknown_fields_kept() -> None:
    raw = document("web", ports=[{"name": "http", "port": 80, "x-note": [1, {"a": None}]}])
    raw["x-unknown"] = {"deep": ["ä", 1.5]}
    raw["metadata"]["annotations"] = {"example.org/note": "hello"}
    with Store(ranges=RANGES) as store:
        [applied] = apply(store, parse_object(raw, ranges=RANGES))
        stored = store.get("Service", "default", "web")
    assert stored is not None
    assert stored.raw == applied.object.raw
    spec, metadata = stored.raw["spec"], stored.raw["metadata"]
    port = spec["ports"][0]["nodePort"]
    assert port in range(30016, 30100)
    assert ip_address(spec["clusterIP"]) in IPv4Network("10.96.0.0/24")
    assert spec == {
        "type": "NodePort",
        "selector": {"app": "web"},
        "ports": [
            {
                "name": "http",
                "port": 80,
                "protocol": "TCP",
                "targetPort": 80,
                "nodePort": port,
                "x-note": [1, {"a": None}],
            }
        ],
        "clusterIP": spec["clusterIP"],
        "clusterIPs": [spec["clusterIP"]],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "externalTrafficPolicy": "Cluster",
    }
    assert metadata["creationTimestamp"] == NOW
    assert metadata["resourceVersion"] == "1"
    assert metadata["annotations"] == {"example.org/note": "hello"}
    assert stored.raw["x-unknown"] == {"deep": ["ä", 1.5]}
    assert "uid" not in raw["metadata"]  # the document itself is left alone
    assert "nodePort" not in raw["spec"]["ports"][0]


@pytest.mark.parametrize(
    ("obj", "present", "absent"),
    [
        (
            service("web", "ClusterIP", clusterIP="None"),
            {"clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": ["IPv4"]},
            ("externalTrafficPolicy", "allocateLoadBalancerNodePorts"),
        ),
        (
            service("web", "ExternalName", externalName="example.org", ports=None),
            {"type": "ExternalName", "externalName": "example.org", "sessionAffinity": "None"},
            ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy", "ports"),
        ),
        (
            service("web", "LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=30003),
            {
                "externalTrafficPolicy": "Local",
                "allocateLoadBalancerNodePorts": True,
                "healthCheckNodePort": 30003,
            },
            (),
        ),
        (
            service("web", "ClusterIP", ipFamilyPolicy="PreferDualStack", ipFamilies=["IPv6"]),
            {"ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "PreferDualStack"},
            ("healthCheckNodePort",),
        ),
        (
            service("web", "ClusterIP", ports=[{"port": 80, "targetPort": "http", "protocol": "UDP"}]),
            {"ports": [{"port": 80, "targetPort": "http", "protocol": "UDP"}]},
            ("externalTrafficPolicy",),
        ),
    ],
)
def test_bodies_of_every_type(obj: Object, present: dict[str, object], absent: tuple[str, ...]) -> None:
    with Store(ranges=RANGES) as store:
        spec = apply(store, obj)[0].object.raw["spec"]
    assert {field: spec[field] for field in present} == present
    assert not set(absent) & set(spec)


@pytest.mark.parametrize(("affinity", "kept"), [(None, False), ("None", False), ("ClientIP", True)])
def test_the_configuration_of_an_affinity_is_stored_with_it_alone(affinity: str | None, kept: bool) -> None:
    """As the API server drops it; what an earlier version has stored otherwise is read all the same."""
    raw = service("web").raw
    config = {"clientIP": {"timeoutSeconds": 10}}
    given = {**raw, "spec": {**raw["spec"], "sessionAffinity": affinity, "sessionAffinityConfig": config}}
    with Store(ranges=RANGES) as store:
        (applied,) = apply(store, parse_object(given))
        stored = store.get("Service", "default", "web")
    assert stored is not None
    assert ("sessionAffinityConfig" in stored.raw["spec"]) is kept
    assert applied.object.values == parse_object(stored.raw).values


def test_what_is_applied_is_what_is_read() -> None:
    objects = (
        service("web"),
        service("dual", "LoadBalancer", externalTrafficPolicy="Local", ipFamilyPolicy="RequireDualStack"),
        service("none", "ClusterIP", clusterIP="None"),
        endpoint_slice("web"),
        pod("web-1", app="web"),
        node("worker-1"),
    )
    with Store(ranges=RANGES) as store:
        applied = apply(store, *objects)
        stored = store.objects()
        snapshot = store.snapshot()
    by_key = sorted((each.object for each in applied), key=lambda obj: (obj.kind, obj.namespace, obj.name))
    assert [each.raw for each in stored] == [obj.raw for obj in by_key]
    assert [parse_object(each.raw).values for each in stored] == [obj.values for obj in by_key]
    assert [each.name for each in snapshot.services] == ["dual", "none", "web"]
    assert [each.created for each in snapshot.services] == [NOW] * 3
    assert [each.name for each in snapshot.slices] == ["web"]
    assert [each.name for each in snapshot.pods] == ["web-1"]
    assert [each.name for each in snapshot.nodes] == ["worker-1"]
    assert [each.ref for each in applied] == [
        "service/web",
        "service/dual",
        "service/none",
        "endpointslice.discovery.k8s.io/web",
        "pod/web-1",
        "node/worker-1",
    ]


def test_objects_are_found_by_kind_and_namespace() -> None:
    with Store(ranges=RANGES) as store:
        apply(store, service("b"), service("a"), service("c", namespace="aaa"), pod("a"))

        def names(kind: str | None, namespace: str | None = None) -> list[str]:
            return [f"{o.kind}/{o.namespace}/{o.name}" for o in store.objects(kind, namespace)]

        assert names(None) == ["Pod/default/a", "Service/aaa/c", "Service/default/a", "Service/default/b"]
        assert names("Service", "default") == ["Service/default/a", "Service/default/b"]
        assert names(None, "aaa") == ["Service/aaa/c"]
        assert names("Node") == []
        assert store.get("Service", "default", "c") is None


# --- versions and watching ----------------------------------------------------


@pytest.mark.parametrize("many", [writing._MANY, 0])
def test_an_equal_document_is_unchanged_and_another_is_configured(monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    """However few objects are written, and however many."""
    monkeypatch.setattr(writing, "_MANY", many)
    with Store(ranges=RANGES) as store:
        assert [each.action for each in apply(store, service("web"), pod("p"))] == ["created", "created"]
        first = contents(store)
        again = apply(store, service("web"), pod("p"), now=LATER)
        assert [each.action for each in again] == ["unchanged", "unchanged"]
        assert contents(store) == first
        written_out = [parse_object(stored.raw) for stored in store.objects()]
        assert [each.action for each in apply(store, *written_out)] == ["unchanged", "unchanged"]
        before = store.get("Service", "default", "web")
        [changed] = apply(store, service("web", ports=[{"port": 8080}]), now=LATER)
        after = store.get("Service", "default", "web")
    assert changed.action == "configured"
    assert before is not None
    assert after is not None
    assert (before.version, after.version) == ("1", "3")
    for field in ("uid", "creationTimestamp"):
        assert after.raw["metadata"][field] == before.raw["metadata"][field]
    assert after.raw["spec"]["ports"][0]["nodePort"] == before.raw["spec"]["ports"][0]["nodePort"]


@pytest.mark.parametrize("kind", ["Service", "EndpointSlice", "Pod", "Node"])
@pytest.mark.parametrize("claimed", ["2020-01-01T01:00:00+01:00", None, ""])
def test_an_object_is_as_old_as_the_store_knows_it_whatever_its_author_says(kind: str, claimed: str | None) -> None:
    """The creation time decides who has a contested address."""
    made = [service("web"), endpoint_slice("web"), pod("web"), node("web")]
    [raw] = [obj.raw for obj in made if obj.kind == kind]
    raw["metadata"]["creationTimestamp"] = claimed
    with Store(ranges=RANGES) as store:
        for now, action in ((NOW, "created"), (LATER, "unchanged")):
            [applied] = apply(store, parse_object(raw), now=now)
            assert applied.action == action
            assert applied.object.raw["metadata"]["creationTimestamp"] == NOW
            assert [each.created for each in applied.object.values if isinstance(each, Service)] in ([], [NOW])
        assert [each.created for each in store.snapshot().services] in ([], [NOW])
        with store.transaction() as transaction:
            transaction.delete(*(("Node", "") if kind == "Node" else (kind, "default")), "web")
        [again] = apply(store, parse_object(raw), now=LATER)
        assert again.object.raw["metadata"]["creationTimestamp"] == LATER, "it has given up its place"


def test_a_watcher_sees_every_change_and_deletion_in_order() -> None:
    with Store(ranges=RANGES) as store:
        assert store.resource_version() == 0
        apply(store, service("a"), pod("p"))
        seen = store.resource_version()
        apply(store, service("b"), service("a", ports=[{"port": 81}]))
        with store.transaction() as transaction:
            assert transaction.delete("Pod", "default", "p")
            assert not transaction.delete("Pod", "default", "p")
        p = Ref("Pod", "default", "p")
        a, b = Ref("Service", "default", "a"), Ref("Service", "default", "b")
        assert list(store.changed_since(seen).items()) == [(b, "3"), (a, "4"), (p, "")]
        assert (store.resource_version(), store.find(p)) == (5, None)
        apply(store, pod("p"))
        assert store.changed_since(4) == {p: "6"}
        assert isinstance(store.find(p), Object)
        assert store.changed_since(store.resource_version()) == {}


def test_versions_grow_over_deletions_and_restarts(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store(path, ranges=RANGES) as store:
        apply(store, service("a"), service("b"))
        with store.transaction() as transaction:
            transaction.prune(())
    with Store(path, ranges=RANGES) as store:
        assert store.resource_version() == 4
        assert apply(store, service("a"))[0].object.raw["metadata"]["resourceVersion"] == "5"


# --- allocation ---------------------------------------------------------------


def test_equal_manifests_on_an_empty_store_give_equal_ports_in_any_order() -> None:
    objects = [
        service(f"s{i}", ports=[{"port": 80, "nodePort": 30050} if i == 7 else {"port": 80}]) for i in range(60)
    ]
    shuffled = list(objects)
    random.Random(1).shuffle(shuffled)
    with Store(ranges=RANGES) as one, Store(ranges=RANGES) as other:
        apply(one, *objects)
        apply(other, *shuffled)
        assert one.snapshot() == other.snapshot()
        assert node_port(one, "s7") == 30050


@pytest.mark.proves("A1")
def test_an_explicit_claim_goes_before_a_dynamic_one_of_any_name() -> None:
    with Store(ranges=RANGES) as store:
        wish = applied_service(store, service("aaa")).ports[0].node_port
    with Store(ranges=RANGES) as store:
        apply(store, service("aaa"), service("zzz", ports=[{"port": 80, "nodePort": wish}]))
        assert node_port(store, "zzz") == wish
        assert node_port(store, "aaa") != wish


@pytest.mark.proves("A1")
def test_a_held_port_goes_before_an_explicit_claim() -> None:
    with Store(ranges=RANGES) as store:
        held = applied_service(store, service("web")).ports[0].node_port
        rival = service("api", ports=[{"port": 80, "nodePort": held}])
        [problem] = refused(store, rival, service("web", ports=[{"port": 81}]))
    assert problem == Problem(
        "api.yaml:1",
        "Service/default/api",
        "spec.ports[0].nodePort",
        f"nodePort {held} is held by default/web; choose another or leave it out",
    )


@pytest.mark.proves("A1")
def test_of_two_explicit_claims_in_one_apply_one_is_named_to_the_other() -> None:
    with Store(ranges=RANGES) as store:
        claim = [{"port": 80, "nodePort": 30001}]
        [problem] = refused(store, service("b", ports=claim), service("a", ports=claim))
    assert problem.object == "Service/default/b"
    assert problem.message.startswith("nodePort 30001 is held by default/a;")


def test_all_problems_of_an_apply_come_together_and_nothing_is_written() -> None:
    with Store(ranges=RANGES) as store:
        apply(store, service("held", clusterIP="10.96.0.9", ports=[{"port": 80, "nodePort": 30001}]))
        problems = refused(
            store,
            service("fine"),
            service("b", ports=[{"port": 80, "nodePort": 30001}]),
            service("a", clusterIP="10.96.0.9"),
            service("held", clusterIP="10.96.0.8"),
        )
    assert [(each.object, each.field) for each in problems] == [
        ("Service/default/a", "spec.clusterIP"),
        ("Service/default/b", "spec.ports[0].nodePort"),
        ("Service/default/held", "spec.clusterIP"),
    ]


def test_one_object_given_twice_is_refused() -> None:
    with Store(ranges=RANGES) as store:
        [problem] = refused(store, service("web"), service("web", ports=[{"port": 81}]))
    assert str(problem) == (
        "web.yaml:1: Service/default/web: metadata.name: is given twice (first at web.yaml:1); keep one"
    )


def test_two_services_may_exchange_their_ports_in_one_apply() -> None:
    def pair(first: int, second: int) -> tuple[Object, Object]:
        return (
            service("a", ports=[{"port": 80, "nodePort": first}]),
            service("b", ports=[{"port": 80, "nodePort": second}]),
        )

    with Store(ranges=RANGES) as store:
        apply(store, *pair(30001, 30002))
        apply(store, *pair(30002, 30001))
        assert (node_port(store, "a"), node_port(store, "b")) == (30002, 30001)


@pytest.mark.proves("A1", "A3")
@pytest.mark.parametrize("how", ["type", "delete", "prune"])
def test_a_freed_port_and_address_can_be_claimed_at_once(how: str) -> None:
    with Store(ranges=RANGES) as store:
        old = applied_service(store, service("old"))
        claim = service(
            "new",
            clusterIP=str(old.cluster_ips[0]) if how != "type" else None,
            ports=[{"port": 80, "nodePort": old.ports[0].node_port}],
        )
        with store.transaction() as transaction:
            objects = [claim]
            if how == "type":
                objects.append(service("old", "ClusterIP"))
            elif how == "delete":
                assert transaction.delete("Service", "default", "old")
            else:
                assert transaction.prune([claim]) == ("service/old",)
            transaction.apply(objects, now=NOW)
        assert node_port(store, "new") == old.ports[0].node_port


def test_a_service_that_comes_back_gets_the_same_again() -> None:
    with Store(ranges=RANGES) as store:
        first = applied_service(store, service("web"))
        with store.transaction() as transaction:
            transaction.delete("Service", "default", "web")
        assert applied_service(store, service("web")) == first


@pytest.mark.proves("A1")
def test_a_range_is_given_out_to_the_last_number_and_then_refused() -> None:
    ranges = Ranges(PortRange(30000, 30004), RANGES.service_cidrs)
    with Store(ranges=ranges) as store:
        apply(store, *(service(f"s{i}") for i in range(5)))
        assert {node_port(store, f"s{i}") for i in range(5)} == set(range(30000, 30005))
        [problem] = refused(store, service("more"))
    assert problem.message == ("nodePort range 30000-30004 is exhausted; widen --node-port-range or delete services")


# --- transactions -------------------------------------------------------------


def test_a_dry_run_sees_what_it_would_write_and_writes_nothing(tmp_path: Path) -> None:
    with Store(tmp_path / "store.db", ranges=RANGES) as store:
        apply(store, service("old"))
        before = contents(store)
        old = Ref("Service", "default", "old")
        seen = store.write([service("new")], [old], now=NOW, dry_run=True)
        assert seen.deleted == (old,)
        assert [value.name for one in seen.applied for value in one.object.values if isinstance(value, Service)] == [
            "new"
        ]
        assert contents(store) == before


def test_an_exception_rolls_everything_back(tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    with Store(tmp_path / "store.db", ranges=RANGES) as store:
        before = contents(store)
        with pytest.raises(Interrupted), store.transaction() as transaction:  # noqa: PT012  # the block is the test
            transaction.apply([service("web")], now=NOW)
            raise Interrupted
        assert contents(store) == before
        apply(store, service("web"))
    assert check(tmp_path / "store.db") == {"web"}


def test_a_caught_refusal_leaves_the_rest_of_its_transaction_alone() -> None:
    with Store(ranges=RANGES) as store, store.transaction() as transaction:
        transaction.apply([service("a", ports=[{"port": 80, "nodePort": 30001}])], now=NOW)
        with pytest.raises(Problems):
            transaction.apply([service("c"), service("b", ports=[{"port": 80, "nodePort": 30001}])], now=NOW)
        assert [each.key for each in store.snapshot().services] == [ObjectName("default", "a")]


# --- files --------------------------------------------------------------------


def test_a_store_is_made_with_its_directories_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "store.db"
    with Store(path, ranges=RANGES) as store:
        apply(store, service("web"))
    with Store(str(path), ranges=RANGES) as store:
        assert [each.name for each in store.objects()] == ["web"]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA application_id").fetchone() == (int.from_bytes(b"npnf", "big"),)
    assert check(path) == {"web"}


def make_foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE diary (day TEXT)")


def make_foreign_wal(path: Path) -> None:
    """Another program's database with its changes still in a write-ahead log, which closing would take in."""
    script = (
        "import os, sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1])\n"
        "db.execute('PRAGMA journal_mode = WAL')\n"
        "db.execute('CREATE TABLE diary (day TEXT)')\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, path], check=True)


def make_newer(path: Path) -> None:
    with Store(path, ranges=RANGES):
        pass
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


def make_cut(path: Path) -> None:
    with Store(path, ranges=RANGES) as store:
        apply(store, *(service(f"s{i}") for i in range(50)))
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "is not a regular file"),
        (lambda path: path.symlink_to("/dev/null"), "is not a regular file"),
        (lambda path: path.write_bytes(b"apiVersion: v1\n" * 100), "is not a nodeport-nft store"),
        (lambda path: path.write_bytes(b"\x00"), "is not a nodeport-nft store"),
        (make_foreign, "is the SQLite database of another program"),
        (make_foreign_wal, "is the SQLite database of another program"),
        (make_newer, "was written by a newer version (schema 99, this one knows 1)"),
        (make_cut, "malformed"),
    ],
)
def test_what_is_no_store_is_refused_and_left_alone(tmp_path: Path, make: Any, words: str) -> None:
    path = tmp_path / "store.db"
    make(path)

    def files() -> dict[str, bytes]:
        return {each.name: each.read_bytes() for each in sorted(tmp_path.iterdir()) if each.is_file()}

    before = files()
    with pytest.raises(StoreError) as caught:
        Store(path, ranges=RANGES)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert "--store" in str(caught.value)
    assert files() == before


@pytest.mark.parametrize("path", ["file/store.db", "file", ""])
def test_a_path_that_cannot_be_is_refused(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("some text")
    with pytest.raises(StoreError, match="--store"):
        Store(path, ranges=RANGES)
    assert Path("file").read_text() == "some text"


def test_a_store_that_cannot_be_created_is_refused() -> None:
    with pytest.raises(StoreError, match=r"/proc/self/store\.db: .*--store"):
        Store("/proc/self/store.db", ranges=RANGES)


def test_a_lock_that_is_held_too_long_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "BUSY_SECONDS", 0.05)
    path = tmp_path / "store.db"
    with Store(path, ranges=RANGES) as one, Store(path, ranges=RANGES) as other, one.transaction():
        with pytest.raises(StoreError, match="another process held it"), other.transaction():
            pass
        assert other.objects() == ()  # readers do not wait


def test_the_switch_to_a_write_ahead_log_waits_for_others(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store(path, ranges=RANGES):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as db, ThreadPoolExecutor() as threads:
        # As another process leaves it between creating the tables and the switch.
        assert db.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
        db.execute("BEGIN IMMEDIATE")
        opened = threads.submit(lambda: Store(path, ranges=RANGES).close())
        with pytest.raises(TimeoutError):
            opened.result(timeout=0.3)
        db.execute("ROLLBACK")
        opened.result(timeout=60)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_full_disk_is_reported_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store(path, ranges=RANGES) as store:
        apply(store, service("web"))
    [told] = together([Worker(fill, path)])
    assert told.startswith(f"{path}: ")
    assert "nothing was written" in told
    assert check(path) == {"web"}


def test_stored_objects_that_do_not_parse_are_all_named(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store(path, ranges=RANGES) as store:
        apply(store, service("a"), service("b"), service("c"))
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE objects SET body = replace(body, 'TCP', 'XYZ') WHERE name < 'c'")
        assert [each.name for each in store.snapshot().services] == ["c"]
        assert [str(ref) for ref in sorted(store.damaged)] == ["Service/default/a", "Service/default/b"]


# --- other processes ----------------------------------------------------------

_FORK = multiprocessing.get_context("fork")


class Worker:
    """A process of its own at a store. It is forked, so as not to import for long what this one has imported."""

    def __init__(self, work: Callable[..., None], *arguments: object) -> None:
        self._words, theirs = _FORK.Pipe()
        self._process = _FORK.Process(target=work, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()

    def hear(self) -> Any:
        """Its next word. Raises EOFError if it has ended, also in the midst of a word."""
        assert self._words.poll(60), "a worker says something"
        return self._words.recv()

    def go_on(self) -> None:
        self._words.send("go on")

    def end(self) -> list[Any]:
        """What it says until it ends."""
        said = list(self._rest())
        self._process.join(60)
        assert self._process.exitcode == 0
        return said

    def kill(self, after: float) -> list[Any]:
        """Kill it ``after`` so many seconds; what it has said by then."""
        self._process.join(after)
        assert self._process.exitcode is None, "it works until it is killed"
        self._process.kill()
        self._process.join(60)
        assert self._process.exitcode == -signal.SIGKILL
        return list(self._rest())

    def _rest(self) -> Iterator[Any]:
        with self._words, suppress(EOFError, ConnectionResetError):
            while True:
                yield self.hear()


def add(words: Connection, path: Path, name: str, count: int) -> None:
    """Applies so many Services one by one, and says what each was given."""
    words.send("ready")
    words.recv()
    with Store(path, ranges=RANGES) as store:
        for i in range(count):
            with store.transaction() as transaction:
                [applied] = transaction.apply([service(f"{name}-{i}")], now=NOW)
            [given] = applied.object.values
            assert isinstance(given, Service)
            words.send((given.name, given.ports[0].node_port))


def claim(words: Connection, path: Path, name: str) -> None:
    """Claims one explicit port, and says whether it got it."""
    words.send("ready")
    words.recv()
    wanted = service(name, ports=[{"port": 80, "nodePort": 30000}])
    try:
        with Store(path, ranges=RANGES) as store, store.transaction() as transaction:
            transaction.apply([wanted], now=NOW)
    except Problems as problems:
        words.send(("refused", str(problems)))
    else:
        words.send(("given", name))


def fill(words: Connection, path: Path) -> None:
    """Applies more than files may have bytes, and says why that is refused."""
    words.send("ready")
    words.recv()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
    try:
        with Store(path, ranges=RANGES) as store:
            apply(store, *(service(f"s{i}") for i in range(90)))
    except StoreError as error:
        words.send(str(error))


def make(words: Connection, path: Path) -> None:
    """Makes a store, and holds it until it is killed."""
    words.send("ready")
    with Store(path, ranges=RANGES):
        words.recv()


def churn(words: Connection, path: Path, seed: int) -> None:
    """Applies, deletes and prunes until it is killed; says before each write what will be there, and after it that it
    is.
    """
    rng = random.Random(seed)
    with Store(path, ranges=RANGES) as store:
        there = {stored.name for stored in store.objects("Service")}
        words.send(("has", there))
        while True:
            added = {f"s{rng.randrange(60)}" for _ in range(rng.randrange(1, 12))}
            dropped = set(rng.sample(sorted(there), min(len(there), rng.randrange(12)))) - added
            prune = rng.random() < 0.1
            goal = added if prune else (there | added) - dropped
            words.send(("will", goal))
            with store.transaction() as transaction:
                objects = [service(name) for name in sorted(added)]
                if prune:
                    transaction.prune(objects)
                else:
                    for name in sorted(dropped):
                        transaction.delete("Service", "default", name)
                transaction.apply(objects, now=NOW)
            there = goal
            words.send(("has", there))


def together(workers: list[Worker]) -> list[Any]:
    """Lets the workers go once all are ready; all that they say then."""
    assert [worker.hear() for worker in workers] == ["ready"] * len(workers)
    for worker in workers:
        worker.go_on()
    return [word for worker in workers for word in worker.end()]


@pytest.mark.proves("A5")
def test_writers_at_once_get_different_ports_and_lose_none(tmp_path: Path) -> None:
    path = tmp_path / "store.db"  # not there yet: creating it is part of the race
    given = together([Worker(add, path, f"w{i}", 20) for i in range(5)])
    names = {f"w{i}-{j}" for i in range(5) for j in range(20)}
    assert {name for name, _ in given} == names
    assert {port for _, port in given} == set(range(30000, 30100))  # the whole range, each number once
    with Store(path, ranges=RANGES) as store:
        assert {name: node_port(store, name) for name in names} == dict(given)
        assert store.resource_version() == 100
    assert check(path) == names


@pytest.mark.proves("A5")
def test_of_writers_that_claim_one_port_at_once_one_gets_it(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    answers = together([Worker(claim, path, f"c{i}") for i in range(4)])
    [winner] = [name for answer, name in answers if answer == "given"]
    refusals = [text for answer, text in answers if answer == "refused"]
    assert len(refusals) == 3
    assert all(f"nodePort 30000 is held by default/{winner}" in text for text in refusals)
    assert check(path) == {winner}


@pytest.mark.proves("A5")
def test_a_kill_while_the_store_is_made_leaves_one_that_opens(tmp_path: Path) -> None:
    rng = random.Random(20260131)
    for round in range(8):
        path = tmp_path / str(round) / "store.db"
        worker = Worker(make, path)
        assert worker.hear() == "ready"
        worker.kill(rng.uniform(0, 0.01))
        with Store(path, ranges=RANGES) as store:
            apply(store, service("web"))
        assert check(path) == {"web"}


@pytest.mark.proves("A5")
def test_a_kill_at_any_moment_loses_nothing_and_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    rng = random.Random(20260131)
    writes = 0
    for round in range(15):
        worker = Worker(churn, path, round)
        said = [worker.hear()]
        said += worker.kill(rng.uniform(0, 0.15))
        writes += sum(word == "has" for word, _ in said[1:])
        there = check(path)
        # What it said was done is there, and perhaps the one write that it had begun after that.
        done = max(i for i, (word, _) in enumerate(said) if word == "has")
        assert there in [names for _, names in said[done:]]
    assert writes > 0
    with Store(path, ranges=RANGES) as store:
        with store.transaction() as transaction:
            transaction.prune(())
        apply(store, *(service(f"t{i}") for i in range(100)))
        assert {node_port(store, f"t{i}") for i in range(100)} == set(range(30000, 30100))
    assert check(path) == {f"t{i}" for i in range(100)}


ANOTHER_PROCESS = """
import sys
from nodeport_nft.manifest import parse_object
from nodeport_nft.model import Ranges
from nodeport_nft.store import Store
with Store(sys.argv[1], ranges=Ranges()) as store:
    print(*(stored.name for stored in store.objects()))
    with store.transaction() as transaction:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": sys.argv[2]}}
        transaction.apply([parse_object(pod)], now="2026-01-01T00:00:00Z")
"""


@pytest.mark.proves("A5")
def test_a_second_connection_that_closes_takes_no_lock_from_the_first(tmp_path: Path) -> None:
    """POSIX locks are the process's: closing any descriptor of the file gives all of them up."""
    path = tmp_path / "store.db"

    def in_another_process(name: str) -> list[str]:
        words = [sys.executable, "-c", ANOTHER_PROCESS, str(path), name]
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout.split()

    with Store(path, ranges=Ranges()) as first:
        known: set[str] = set()
        for number in range(3):
            Store(path, ranges=Ranges()).close()
            assert set(in_another_process(f"a{number}")) == known
            with first.transaction() as transaction:
                pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"b{number}"}}
                transaction.apply([parse_object(pod)], now="2026-01-01T00:00:00Z")
            known |= {f"a{number}", f"b{number}"}
            assert {stored.name for stored in first.objects()} == known
    assert set(in_another_process("last")) == known
