"""What ``store.api.Objects`` promises, held against every store there is."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from nodeport_nft.allocate import holdings
from nodeport_nft.manifest import Object, Problems, parse_object
from nodeport_nft.model import EndpointSlice, Node, Pod, Ref, Value
from nodeport_nft.store import Conflict, Damaged, Objects, Store, Superseded, Written
from nodeport_nft.store.memory import MemoryStore
from tests.unit.test_store import LATER, NOW, RANGES, document, endpoint_slice, node, pod, service

WEB = Ref("Service", "default", "web")

KINDS_OF_STORE: dict[str, Callable[[Path], Objects]] = {
    "sqlite": lambda path: Store(path / "store.db", ranges=RANGES),
    "memory": lambda _: MemoryStore(RANGES),
}


@pytest.fixture(params=KINDS_OF_STORE)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Objects]:
    with KINDS_OF_STORE[request.param](tmp_path) as opened:
        yield opened


def contents(store: Objects) -> dict[Ref, tuple[str, dict[str, Any]]]:
    found = {}
    for each in store.list():
        assert isinstance(each, Object)
        found[each.ref] = each.version, each.raw
    return found


def at(name: str, port: int) -> Any:
    return service(name, ports=[{"port": 80, "nodePort": port}])


def test_what_is_written_is_found_and_listed_in_order(store: Objects) -> None:
    objects = [service("web"), node("worker-1"), pod("p"), endpoint_slice("web"), service("web", namespace="default")]
    written = store.write(objects[:4], now=NOW)
    assert [(one.ref, one.action) for one in written.applied] == [
        ("service/web", "created"),
        ("node/worker-1", "created"),
        ("pod/p", "created"),
        ("endpointslice.discovery.k8s.io/web", "created"),
    ]
    assert list(contents(store)) == sorted(each.object.ref for each in written.applied[:4])
    for one in written.applied:
        found = store.find(one.object.ref)
        assert isinstance(found, Object)
        assert found.raw == one.object.raw, "the answer is what is stored, with its version"
        assert found.version == one.object.version == one.object.raw["metadata"]["resourceVersion"]
        assert (found.values, bool(one.object.values)) == ((), True), "nothing is parsed that is only read back"
    assert [each.ref for each in store.objects("Pod")] == [Ref("Pod", "default", "p")]
    assert store.objects(namespace="elsewhere") == ()
    assert store.find(Ref("Pod", "elsewhere", "p")) is None


def test_a_version_is_another_one_when_the_object_is_and_only_then(store: Objects) -> None:
    store.write([service("web"), service("other")], now=NOW)
    first = contents(store)
    assert [one.action for one in store.write([service("web")], now=LATER).applied] == ["unchanged"]
    assert contents(store) == first
    [one] = store.write([service("web", sessionAffinity="ClientIP")], now=LATER).applied
    assert one.action == "configured"
    second = contents(store)
    assert {ref for ref in first if first[ref] != second[ref]} == {WEB}
    assert first[WEB][0] != second[WEB][0]
    store.write(deletes=[WEB], now=LATER)
    store.write([service("web")], now=LATER)
    assert contents(store)[WEB][0] not in (first[WEB][0], second[WEB][0])


def test_a_write_is_all_or_nothing(store: Objects) -> None:
    store.write([at("web", 30001)], now=NOW)
    before = contents(store)
    with pytest.raises(Problems, match="30001 is held by default/web"):
        store.write([pod("p"), at("a", 30002), at("b", 30001)], [Ref("Pod", "default", "none")], now=NOW)
    assert contents(store) == before
    with pytest.raises(Problems, match="is given twice"):
        store.write([pod("p"), pod("p")], now=NOW)
    assert contents(store) == before


def test_what_is_deleted_gives_to_what_is_put_with_it(store: Objects) -> None:
    store.write([at("web", 30001), at("a", 30002), at("b", 30003)], now=NOW)
    # One goes and two trade; the uid of a name that is deleted and put is a new one.
    uid = contents(store)[WEB][1]["metadata"]["uid"]
    written = store.write([at("new", 30001), at("a", 30003), at("b", 30002), at("web", 30004)], [WEB], now=LATER)
    assert [one.action for one in written.applied] == ["created", "configured", "configured", "created"]
    assert (written.deleted, written.missing) == ((WEB,), ())
    after = contents(store)
    assert after[WEB][1]["metadata"]["uid"] != uid
    ports = {ref.name: raw["spec"]["ports"][0]["nodePort"] for ref, (_, raw) in after.items()}
    assert ports == {"new": 30001, "a": 30003, "b": 30002, "web": 30004}


def test_a_number_is_free_once_its_holder_is_gone_or_has_given_it_up(store: Objects) -> None:
    store.write([at("web", 30001)], now=NOW)
    store.write([service("web", "ClusterIP")], now=NOW)
    store.write([at("a", 30001)], now=NOW)
    store.write(deletes=[Ref("Service", "default", "a")], now=NOW)
    assert store.write([at("b", 30001)], now=NOW).applied[0].action == "created"


def test_what_is_claimed_from_outside_is_nobodys_cluster_ip_until_it_is_claimed_no_more(store: Objects) -> None:
    taker, wanting = service("taker", externalIPs=["10.96.0.40"]), service("web", clusterIP="10.96.0.40")
    store.write([taker], now=NOW)
    with pytest.raises(Problems, match="is claimed by default/taker"):
        store.write([wanting], now=NOW)
    assert store.write([wanting], [taker.ref], now=NOW).applied[0].action == "created"


@pytest.mark.parametrize("change", ["put", "replace", "delete", "all"])
def test_a_dry_run_answers_as_the_write_does_and_writes_nothing(store: Objects, change: str) -> None:
    store.write([at("web", 30001), pod("p")], now=NOW)
    puts = {"put": [service("a"), service("b")], "replace": [at("web", 30005)], "delete": [], "all": [at("a", 30001)]}
    deletes = [*contents(store), Ref("Pod", "default", "none")] if change in ("delete", "all") else []
    before = contents(store)
    tried = store.write(puts[change], deletes, now=LATER, dry_run=True)
    assert contents(store) == before
    done = store.write(puts[change], deletes, now=LATER)

    def without_chance(written: Written) -> Any:
        told = [(one.ref, one.action, one.object.values) for one in written.applied]
        return told, written.deleted, written.missing, written.told

    assert without_chance(tried) == without_chance(done)
    assert done.missing == ((Ref("Pod", "default", "none"),) if deletes else ())


def test_what_must_be_new_is_refused_where_it_is_there(store: Objects) -> None:
    assert store.write([service("web")], now=NOW, only_new=True).applied[0].action == "created"
    before = contents(store)
    for dry_run in (True, False):
        with pytest.raises(Conflict, match="Service/default/web") as caught:
            store.write([service("a"), service("web")], now=NOW, only_new=True, dry_run=dry_run)
        assert caught.value.ref == WEB
        assert contents(store) == before


def test_fields_of_a_former_type_may_come_again_once_they_were_dropped(store: Objects) -> None:
    store.write([service("web")], now=NOW)
    edited = contents(store)[WEB][1]
    edited = {**edited, "spec": {**edited["spec"], "type": "ClusterIP"}}
    for action in ("configured", "unchanged"):
        written = store.write([parse_again(edited)], now=NOW)
        assert [one.action for one in written.applied] == [action]
        assert len(written.told) == 1
    store.write([service("web", "ClusterIP")], now=NOW)  # comes without them: they are forgotten
    with pytest.raises(Problems, match="nodePort"):
        store.write([parse_again(edited)], now=NOW)


def parse_again(raw: dict[str, Any]) -> Any:
    """As from a manifest: with leftovers for the store to judge."""
    from nodeport_nft.kube.fields import Fields
    from nodeport_nft.kube.objects import read_object
    from nodeport_nft.problems import Leftover, Problem, field_text

    fields = Fields()
    obj = read_object(raw, fields, RANGES, "default")
    left = tuple(
        Leftover(path, Problem("", str(obj.ref), field_text(path), text)) for _, (path, text), _ in fields.leftovers
    )
    return replace(obj, leftovers=left)


DRAIN = "nodeport-nft/drain"
DRAINED = {
    "Pod": (Ref("Pod", "default", "p"), "10.244.1.2"),
    "EndpointSlice": (Ref("EndpointSlice", "default", "web"), "10.1.0.1,fd00::1"),
    "Endpoints": (Ref("Endpoints", "default", "web"), "10.1.0.1"),
    "Node": (Ref("Node", "", "worker-1"), "true"),
}


def drainable(kind: str, **annotations: str) -> Any:
    """An object of a kind that may be drained, as a manifest has it."""
    ref = DRAINED[kind][0]
    raw: dict[str, Any] = {"apiVersion": "v1", "kind": kind, "metadata": {"name": ref.name}}
    if ref.namespace:
        raw["metadata"]["namespace"] = ref.namespace
    if annotations:
        raw["metadata"]["annotations"] = annotations
    if kind == "Pod":
        raw["status"] = {"podIP": "10.244.1.2"}
    elif kind == "Endpoints":
        raw["subsets"] = [{"addresses": [{"ip": "10.1.0.1"}], "ports": [{"port": 80}]}]
    elif kind == "EndpointSlice":
        raw = {**endpoint_slice("web").raw, "metadata": {**endpoint_slice("web").raw["metadata"], **raw["metadata"]}}
    return parse_object(raw)


def drained_in(store: Objects, kind: str) -> tuple[Any, bool]:
    """What the stored object says that is drained, and whether what it is made into is."""
    ref = DRAINED[kind][0]
    found = contents(store)[ref][1]["metadata"].get("annotations", {}).get(DRAIN)
    values = store.value(ref)
    assert not isinstance(values, Damaged)
    return found, all(map(is_drained, values))


def is_drained(value: Value) -> bool:
    return isinstance(value, Pod | EndpointSlice | Node) and bool(value.drained)


@pytest.mark.parametrize("kind", DRAINED)
def test_what_is_drained_stays_so_until_somebody_says_otherwise(store: Objects, kind: str) -> None:
    ref, text = DRAINED[kind]
    store.write([drainable(kind)], now=NOW)
    assert drained_in(store, kind) == (None, False)
    [one] = store.write([drainable(kind, **{DRAIN: text})], now=NOW).applied
    assert (one.action, drained_in(store, kind)) == ("configured", (text, True))
    for tried in (True, False):
        [one] = store.write([drainable(kind)], now=LATER, dry_run=tried).applied
        assert one.action == "unchanged", "the manifest says nothing of it, as before"
        assert all(map(is_drained, one.object.values)), "and whoever programs the answer hears of it"
    [one] = store.write([drainable(kind, **{"nodeport-nft/other": "x"})], now=LATER).applied
    assert (one.action, drained_in(store, kind)) == ("configured", (text, True))
    assert contents(store)[ref][1]["metadata"]["annotations"] == {"nodeport-nft/other": "x", DRAIN: text}
    other = text.partition(",")[0]
    store.write([drainable(kind, **{DRAIN: other})], now=LATER)
    assert drained_in(store, kind) == (other, True)
    [one] = store.write([drainable(kind, **{DRAIN: ""})], now=LATER).applied
    assert (one.action, drained_in(store, kind)) == ("configured", (None, False))
    assert not any(map(is_drained, one.object.values))
    assert [one.action for one in store.write([drainable(kind)], now=LATER).applied] == ["unchanged"]
    # What is deleted is forgotten; one of its name is another.
    store.write([drainable(kind, **{DRAIN: text})], now=LATER)
    store.write([drainable(kind)], [ref], now=LATER)
    assert drained_in(store, kind) == (None, False)


def edited(raw: dict[str, Any], **metadata: Any) -> Any:
    """What somebody has made of a document: another affinity, and whatever metadata is given; None: left out."""
    given = {**raw["metadata"], **metadata}
    kept = {key: value for key, value in given.items() if value is not None}
    spec = {**raw["spec"], "sessionAffinity": "ClientIP"}
    return parse_object({**raw, "metadata": kept, "spec": spec}, ranges=RANGES, source="web.yaml:1")


def test_a_write_over_a_newer_one_is_refused_and_shows_it(store: Objects) -> None:
    """Two read the same; the second to write is told what there is by now, and where it differs from what it has."""
    store.write([service("web"), service("api"), pod("p")], now=NOW)
    read = {ref.name: raw for ref, (_, raw) in contents(store).items()}
    store.write([service("web", ports=[{"port": 81}]), service("api", ports=[{"port": 81}])], now=LATER)
    newer = contents(store)
    late = [edited(read["web"]), service("new"), edited(read["api"], uid=None)]
    for dry_run in (True, False):
        with pytest.raises(Superseded) as caught:
            store.write(late, now=LATER, dry_run=dry_run)
        assert contents(store) == newer, "nothing is written, not even what is new"
    assert [(each.object, each.field) for each in caught.value.problems] == [
        ("Service/default/web", "metadata.resourceVersion"),
        ("Service/default/api", "metadata.resourceVersion"),
    ]
    text = str(caught.value.problems[0])
    for part in (
        f'"{read["web"]["metadata"]["resourceVersion"]}" was read, and "{newer[WEB][0]}" is stored',
        "spec.ports[0].port, ",
        "spec.sessionAffinity;",
        "nodeport-nft get service web -n default -o yaml",
        "leave resourceVersion out",
    ):
        assert part in text
    # Who reads it again may write, and so may who wants to overwrite it.
    [one] = store.write([edited(newer[WEB][1])], now=LATER).applied
    assert one.action == "configured"
    [one] = store.write([edited(read["api"], resourceVersion=None)], now=LATER).applied
    assert one.action == "configured"


def test_who_names_no_version_overwrites_what_is_there(store: Objects) -> None:
    for version in (None, "", "0"):
        store.write([service("web")], now=NOW)
        raw = contents(store)[WEB][1]
        store.write([service("web", ports=[{"port": 81}])], now=LATER)
        assert store.write([edited(raw, resourceVersion=version)], now=LATER).applied[0].action == "configured"


def test_a_version_of_what_was_deleted_since_creates_nothing(store: Objects) -> None:
    """But where the document says that it is another object: one of another cluster, as kubectl shows it."""
    with pytest.raises(Superseded, match="there is none of this name"):
        store.write([edited(service("web").raw, resourceVersion="7")], now=NOW)
    assert contents(store) == {}
    foreign = edited(service("web").raw, resourceVersion="7", uid="ce01467f-4fba-4ecf-b1dc-7d723c80bbb0")
    assert store.write([foreign], now=NOW).applied[0].action == "created"
    assert store.write([foreign], now=NOW).applied[0].action == "unchanged"
    store.write([service("web")], now=NOW)
    assert store.write([foreign], now=NOW).applied[0].action == "configured", "another cluster's is applied as it is"


def test_what_was_read_is_unchanged_however_often_it_comes(store: Objects) -> None:
    objects = [service("web"), pod("p"), node("worker-1"), endpoint_slice("web")]
    store.write(objects, now=NOW)
    read = [parse_object(raw, ranges=RANGES) for _, raw in contents(store).values()]
    assert {one.action for one in store.write(read, now=LATER).applied} == {"unchanged"}
    late = edited(contents(store)[WEB][1])
    assert store.write([late], now=LATER).applied[0].action == "configured"
    assert store.write([late], now=LATER).applied[0].action == "unchanged", "by now it is what it wants"


def test_versions_count_for_every_kind(store: Objects) -> None:
    for made in (pod("p"), node("worker-1"), endpoint_slice("web")):
        store.write([made], now=NOW)
        raw = contents(store)[made.ref][1]

        def labelled(value: str, raw: dict[str, Any] = raw) -> Any:
            labels = {**raw["metadata"].get("labels", {}), "x": value}
            return parse_object({**raw, "metadata": {**raw["metadata"], "labels": labels}})

        store.write([labelled("y")], now=LATER)
        with pytest.raises(Superseded, match=r"metadata\.labels\.x"):
            store.write([labelled("z")], now=LATER)


def test_what_is_deleted_with_the_same_write_has_no_version(store: Objects) -> None:
    store.write([service("web")], now=NOW)
    raw = contents(store)[WEB][1]
    store.write([service("web", ports=[{"port": 81}])], now=LATER)
    assert store.write([edited(raw)], [WEB], now=LATER).applied[0].action == "created"


NAMES = st.sampled_from("abcd")
PORTS = st.one_of(st.none(), st.integers(30000, 30003))
TYPES = st.sampled_from(["NodePort", "ClusterIP", "NodePort"])
WRITES = st.lists(
    st.tuples(
        st.lists(st.tuples(NAMES, TYPES, PORTS), max_size=3, unique_by=lambda put: put[0]),
        st.sets(NAMES, max_size=2),
        st.booleans(),
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(writes=WRITES)
def test_every_store_answers_alike(writes: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("stores")
    stores = [make(path) for make in KINDS_OF_STORE.values()]
    for puts, deletes, dry_run in writes:
        objects = [
            parse_object(
                document(
                    name, kind, ports=[{"port": 80, **({"nodePort": port} if port and kind == "NodePort" else {})}]
                ),
                ranges=RANGES,
            )
            for name, kind, port in puts
        ]
        gone = [Ref("Service", "default", name) for name in sorted(deletes)]
        answers: list[object] = []
        for store in stores:
            try:
                written = store.write(objects, gone, now=NOW, dry_run=dry_run)
            except Problems as problems:
                answers.append(problems.problems)
            else:
                told = [(one.ref, one.action, one.object.values) for one in written.applied]
                answers.append((told, written.deleted, written.missing))
        assert answers[1:] == answers[:-1]
    for store in stores:
        assert not isinstance(store, Store) or store.check().findings == ()
    snapshots = [store.snapshot() for store in stores]
    assert snapshots[1:] == snapshots[:-1]
    held = [port for each in snapshots[0].services for port in holdings(each).node_ports]
    assert len(held) == len(set(held))
    for store in stores:
        store.close()


def test_a_trial_needs_no_table_that_an_older_store_lacks(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store(path, ranges=RANGES) as store:
        store.write([service("taker", externalIPs=["10.96.0.40"])], now=NOW)
    with closing(sqlite3.connect(path)) as db:
        for table in ("outside_ips", "leftovers", "of_manifests"):
            db.execute(f"DROP TABLE {table}")
        db.commit()
    with Store(path, ranges=RANGES, reading=True) as store:
        with pytest.raises(Problems, match="is claimed by default/taker"):
            store.write([service("web", clusterIP="10.96.0.40")], now=NOW, dry_run=True)
        assert store.write([service("web")], now=NOW, dry_run=True).applied[0].action == "created"
        with pytest.raises(Exception, match="that the manifests lack"):
            store.refuse_others([service("web")])


@pytest.mark.parametrize(("text", "drained"), [("true", "true"), ("perhaps", None)])
def test_what_is_drained_stays_so_where_the_rest_cannot_be_read_and_does_no_harm_if_it_cannot(
    tmp_path: Path, text: str, drained: str | None
) -> None:
    path = tmp_path / "store.db"
    with Store(path, ranges=RANGES) as store:
        store.write([node("worker-1")], now=NOW)
    damaged = {"kind": "Node", "metadata": {"name": "other", "annotations": {DRAIN: text}}}
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE objects SET body = ?", [json.dumps(damaged)])
        db.commit()
    with Store(path, ranges=RANGES) as store:
        assert store.write([node("worker-1")], now=NOW).applied[0].action == "configured"
        assert drained_in(store, "Node") == (drained, drained is not None)


def test_what_cannot_be_read_is_told_and_can_be_replaced_and_deleted(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store(path, ranges=RANGES) as store:
        store.write([at("web", 30001), pod("p")], now=NOW)
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE objects SET body = 'no json' WHERE kind = 'Service'")
        db.commit()
    with Store(path, ranges=RANGES) as store:
        assert isinstance(store.find(WEB), Damaged)
        assert [each.ref for each in store.objects()] == [Ref("Pod", "default", "p")]
        with pytest.raises(Conflict):
            store.write([service("web")], now=NOW, only_new=True)
        with pytest.raises(Problems, match="30001 is held"):
            store.write([at("a", 30001)], now=NOW)
        assert store.write([at("a", 30001)], [WEB], now=NOW).deleted == (WEB,)
