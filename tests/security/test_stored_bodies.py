"""What of a manifest comes to rest in the store: no secret of a Pod's, and none that an earlier version has kept.

It is looked for in the bytes of the files, where free pages and the log keep what was deleted.
"""

from __future__ import annotations

import asyncio
import copy
import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeport_nft.config import Config
from nodeport_nft.manifest import Problems, parse_object
from nodeport_nft.sources.store import StoreSource
from nodeport_nft.store import Store
from nodeport_nft.store.trimming import trimmed
from tests.cli.program import Program
from tests.unit.test_store import LATER, NOW, RANGES, apply, service

SECRET = "hunter2-correct-horse"
LAST_APPLIED = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"env": [{"value": SECRET}]})}


def metadata(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": "default", "annotations": dict(LAST_APPLIED), **more}


CONTAINER = {
    "name": "web",
    "image": f"registry.example.org/{SECRET}:1",
    "command": ["serve", f"--password={SECRET}"],
    "args": [SECRET],
    "env": [{"name": "PASSWORD", "value": SECRET}],
    "livenessProbe": {"httpGet": {"path": f"/{SECRET}", "port": 80}},
    "lifecycle": {"postStart": {"exec": {"command": [SECRET]}}},
    "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP", "x-note": SECRET}],
    "restartPolicy": "Always",
}
STATE = {"waiting": {"reason": "CrashLoopBackOff", "message": SECRET}, "terminated": {"message": SECRET}}
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "web-1",
        "namespace": "default",
        "uid": "1",
        "labels": {"app": "web"},
        "annotations": {**LAST_APPLIED, "nodeport-nft/weight": "3", "example.org/token": SECRET},
        "creationTimestamp": "2020-01-01T00:00:00Z",
        "deletionTimestamp": "2026-01-31T12:00:00Z",
        "ownerReferences": [{"name": SECRET}],
        "managedFields": [{"manager": SECRET}],
    },
    "spec": {
        "nodeName": "worker-1",
        "hostNetwork": False,
        "containers": [CONTAINER],
        "initContainers": [CONTAINER],
        "ephemeralContainers": [CONTAINER],
        "volumes": [{"name": "v", "csi": {"volumeAttributes": {"key": SECRET}}}],
        "imagePullSecrets": [{"name": SECRET}],
    },
    "status": {
        "phase": "Running",
        "reason": "Well",
        "hostIP": "172.30.1.2",
        "podIP": "10.244.1.2",
        "podIPs": [{"ip": "10.244.1.2"}, {"ip": "fd00:244:1::2"}],
        "message": SECRET,
        "conditions": [{"type": "Ready", "status": "True", "reason": "Fine", "message": SECRET}],
        "containerStatuses": [{"name": "web", "ready": True, "restartCount": 3, "image": SECRET, "state": STATE}],
    },
}
NODE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {
        "name": "worker-1",
        "labels": {"disk": "ssd"},
        "annotations": {**LAST_APPLIED, "csi.volume.kubernetes.io/nodeid": SECRET},
    },
    "spec": {
        "podCIDR": "10.244.1.0/24",
        "podCIDRs": ["10.244.1.0/24", "fd00:244:1::/64"],
        "unschedulable": True,
        "providerID": SECRET,
        "taints": [{"key": "ToBeDeletedByClusterAutoscaler", "value": "1", "effect": "NoSchedule"}],
    },
    "status": {
        "addresses": [{"type": "InternalIP", "address": "172.30.1.2"}],
        "conditions": [{"type": "Ready", "status": "False", "message": SECRET}],
        "nodeInfo": {"machineID": SECRET},
        "images": [{"names": [SECRET]}],
    },
}
OTHERS: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "Service", "metadata": metadata("web"), "spec": {"ports": [{"port": 80}], "x": "y"}},
    {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata("web"), "subsets": []},
    {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata("web-1", labels={"kubernetes.io/service-name": "web"}),
        "addressType": "IPv4",
        "ports": [{"port": 80}],
        "endpoints": [{"addresses": ["10.1.0.1"]}],
    },
]
ALL: list[dict[str, Any]] = [POD, NODE, *OTHERS]


def files(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in path.parent.glob(f"{path.name}*")}


def holding(path: Path, words: str = SECRET) -> list[str]:
    """The files that hold these words anywhere in their bytes."""
    return sorted(name for name, content in files(path).items() if words.encode() in content)


# --- what is kept ---------------------------------------------------------------------------------------------


def test_no_secret_of_a_manifest_comes_into_the_files(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store(path, ranges=RANGES) as store:
        applied = apply(store, *(parse_object(raw) for raw in ALL))
        assert SECRET not in json.dumps([one.object.raw for one in applied])
        assert [one.object.values for one in applied[:2]] == [parse_object(raw).values for raw in ALL[:2]]
        assert SECRET not in json.dumps([stored.raw for stored in store.objects()])
        assert set(files(path)) == {"store.db", "store.db-wal", "store.db-shm"}
        assert holding(path) == []
        again = apply(store, *(parse_object(raw) for raw in ALL), now=LATER)
        assert {one.action for one in again} == {"unchanged"}
    assert holding(path) == []
    assert SECRET in json.dumps(ALL), "the documents themselves are left alone"


def test_of_pods_and_nodes_all_is_kept_that_is_read_or_shown() -> None:
    port = {"name": "http", "containerPort": 80, "protocol": "TCP"}
    container = {"name": "web", "ports": [port], "restartPolicy": "Always"}
    assert trimmed(POD) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web-1",
            "namespace": "default",
            "uid": "1",
            "labels": {"app": "web"},
            "annotations": {"nodeport-nft/weight": "3"},
            "creationTimestamp": "2020-01-01T00:00:00Z",
            "deletionTimestamp": "2026-01-31T12:00:00Z",
        },
        "spec": {
            "nodeName": "worker-1",
            "hostNetwork": False,
            "containers": [container],
            "initContainers": [container],
        },
        "status": {
            **{key: POD["status"][key] for key in ("phase", "reason", "hostIP", "podIP", "podIPs")},
            "conditions": [{"type": "Ready", "status": "True", "reason": "Fine"}],
            "containerStatuses": [
                {
                    "name": "web",
                    "ready": True,
                    "restartCount": 3,
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                }
            ],
        },
    }
    spec = {key: value for key, value in NODE["spec"].items() if key != "providerID"}
    assert trimmed(NODE) == {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "worker-1", "labels": {"disk": "ssd"}, "annotations": {}},
        "spec": spec,
        "status": {
            "addresses": [{"type": "InternalIP", "address": "172.30.1.2"}],
            "conditions": [{"type": "Ready", "status": "False"}],
        },
    }


@pytest.mark.parametrize("raw", OTHERS, ids=lambda raw: raw["kind"])
def test_of_other_kinds_all_is_kept_but_what_kubectl_notes(raw: dict[str, Any]) -> None:
    wanted = copy.deepcopy(raw)
    wanted["metadata"]["annotations"] = {"example.org/a": "b"}
    given = copy.deepcopy(wanted)
    given["metadata"]["annotations"] |= LAST_APPLIED
    assert trimmed(given) == wanted
    assert trimmed(wanted) == wanted


ANYTHING = st.one_of(st.none(), st.booleans(), st.integers(0, 99), st.just("x"), st.just([]), st.just({"a": "b"}))


def places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a document; not others' annotations, which are dropped with what is wrong in them."""
    found = [above] if above else []
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if above != ("metadata", "annotations") or key.startswith("nodeport-nft/"):
            found += places(item, (*above, key))
    return found


def outcome(raw: dict[str, Any]) -> object:
    try:
        return parse_object(raw).values
    except Problems as error:
        return [str(problem).replace(" an empty ", " a ") for problem in error.problems]  # it is emptied


@given(st.data())
def test_what_is_kept_means_the_same_whatever_was_written(data: st.DataObject) -> None:
    """Also where something is wrong: the faults are the same."""
    raw = copy.deepcopy(data.draw(st.sampled_from((POD, NODE))))
    for place in data.draw(st.lists(st.sampled_from(places(raw)), max_size=3)):
        within: Any = raw
        with suppress(LookupError, TypeError):  # an earlier change has taken it away
            for key in place[:-1]:
                within = within[key]
            within[place[-1]] = data.draw(ANYTHING)
    assert outcome(trimmed(raw)) == outcome(raw)


# --- what an earlier version has kept -------------------------------------------------------------------------


def make_old(path: Path) -> dict[tuple[str, str], str]:
    """A store as an earlier version left it: whole bodies, deleted ones in its free pages, no mark, a log in use.

    The resource versions of its objects.
    """
    with Store(path, ranges=RANGES) as store:
        apply(store, *(parse_object(raw) for raw in ALL), service("plain"))
        stored = {(each.kind, each.name): each for each in store.objects()}
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA secure_delete = OFF")
        db.execute("DELETE FROM meta WHERE key = 'trimmed'")
        for raw in ALL:
            each = stored[raw["kind"], raw["metadata"]["name"]]
            body = {**raw, "metadata": {**raw["metadata"], "uid": each.raw["metadata"]["uid"]}}
            if raw["kind"] == "Service":
                body["spec"] = each.raw["spec"]
            db.execute(
                "UPDATE objects SET body = ? WHERE kind = ? AND name = ?", (json.dumps(body), each.kind, each.name)
            )
        db.execute("CREATE TABLE gone (text TEXT)")
        db.executemany("INSERT INTO gone VALUES (?)", [(f"{SECRET}-deleted" * 1000,) for _ in range(20)])
        db.execute("DROP TABLE gone")
    return {key: each.version for key, each in stored.items()}


def test_an_old_store_loses_its_secrets_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    versions = make_old(path)
    assert holding(path) == ["store.db"]
    assert holding(path, f"{SECRET}-deleted") == ["store.db"]
    with closing(sqlite3.connect(path)) as reader:  # keeps the log
        reader.execute("UPDATE meta SET value = value")
        reader.commit()
        reader.execute("SELECT count(*) FROM objects").fetchone()
        with Store(path, ranges=RANGES) as store:
            assert holding(path) == []
            assert {(each.kind, each.name): each.version for each in store.objects()} == versions
            assert store.resource_version() == max(map(int, versions.values()))
            assert [one.action for one in apply(store, parse_object(POD))] == ["unchanged"]
    assert holding(path) == []


def test_a_store_is_trimmed_once(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    make_old(path)
    Store(path, ranges=RANGES).close()
    before = files(path)
    Store(path, ranges=RANGES).close()
    assert files(path) == before


def test_watchers_are_not_woken_by_it(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    Store(path, ranges=RANGES).close()

    async def walk() -> None:
        source = StoreSource(Config(store=str(path)))
        try:
            make_old(path)
            while not source.take():
                await source.changed()
            with pytest.raises(TimeoutError):  # the echoes of that
                await asyncio.wait_for(source.changed(), 0.5)
            Store(path, ranges=RANGES).close()
            assert holding(path) == []
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(source.changed(), 1.5)
            assert not source.take()
        finally:
            source.close()

    asyncio.run(walk())


def test_damaged_bodies_stay_as_they_are_and_keep_no_other(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    make_old(path)
    damages = {"plain": "{broken", "web": "[]", "worker-1": "[" * 100_000}
    with closing(sqlite3.connect(path)) as db, db:
        for name, text in damages.items():
            db.execute("UPDATE objects SET body = ? WHERE name = ?", (text, name))
        db.execute("UPDATE objects SET body = CAST(x'ff' AS TEXT) WHERE kind = 'EndpointSlice'")
    Store(path, ranges=RANGES).close()
    assert holding(path) == []
    with closing(sqlite3.connect(path)) as db:
        found = dict(db.execute("SELECT name, body FROM objects WHERE kind != 'EndpointSlice'").fetchall())
    assert {name: found[name] for name in damages} == damages


@pytest.mark.parametrize("who", ["a writer", "a reader of the old log"])
def test_who_is_in_the_way_keeps_nobody_waiting_and_the_next_look_does_it(tmp_path: Path, who: str) -> None:
    path = tmp_path / "store.db"
    make_old(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE" if who == "a writer" else "BEGIN")
        other.execute("SELECT count(*) FROM objects").fetchone()
        with Store(path, ranges=RANGES) as store:
            assert len(store.objects()) == len(ALL) + 1
        assert holding(path) != [], "or nobody was in the way"
        other.execute("COMMIT")
        with Store(path, ranges=RANGES) as store:
            assert holding(path) == []
            assert len(store.objects()) == len(ALL) + 1


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_what_is_gone_is_gone_from_the_file(tmp_path: Path, how: str) -> None:
    path = tmp_path / "store.db"
    raw = service("web").raw
    raw["metadata"]["annotations"] = {f"example.org/{i}": SECRET * 20 for i in range(20)}
    with Store(path, ranges=RANGES) as store:
        apply(store, parse_object(raw), service("other"))
    assert holding(path) == ["store.db"]
    with Store(path, ranges=RANGES) as store:
        if how == "deleted":
            with store.transaction() as transaction:
                transaction.delete("Service", "default", "web")
        else:
            apply(store, service("web"))
    assert holding(path) == []


def test_the_program_shows_what_is_kept(tmp_path: Path) -> None:
    program = Program(tmp_path)
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": [POD, NODE]})
    program.ok("apply", "-f", "-", "--validate=ignore", stdin=listed)
    for words in (["get", "pods", "-o", "yaml"], ["get", "nodes", "-o", "json"], ["describe", "pods"]):
        assert SECRET not in program.ok(*words)
    assert program.ok("get", "pods", "-o", "wide").splitlines()[1].split()[:4] == ["web-1", "1/1", "Terminating", "3"]
    [node] = program.json("nodes")["items"]
    assert node["metadata"]["creationTimestamp"] != NOW
