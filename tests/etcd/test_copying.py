"""`store copy`: from a file to etcd and back, everything is as it was but for the versions, which are etcd's (C8)."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nodeport_nft.config import Config
from nodeport_nft.kube import parse_object
from nodeport_nft.model import PortRange, Ranges, Ref
from nodeport_nft.store import Objects, Store, StoreError, copy_store, open_existing
from tests.damage import damage
from tests.etcd.test_checking import key_hand, keys
from tests.etcd.test_objects import opened, with_etcd
from tests.hands import documents, file_hand
from tests.unit.test_store import LATER, NOW, RANGES, document, endpoint_slice, node, pod, service
from tests.unit.test_store_contract import parse_again

pytestmark = [pytest.mark.usefixtures("private_namespaces"), pytest.mark.proves("C8")]


def fill(store: Objects) -> None:
    """Objects of all kinds, several versions of them, numbers of all kinds, and a note of what was dropped."""
    balancer = service("lb", "LoadBalancer", externalTrafficPolicy="Local", ipFamilyPolicy="RequireDualStack")
    store.write([parse_object(each, ranges=RANGES) for each in documents()], now=NOW)
    store.write([balancer, endpoint_slice("web"), pod("p"), node("worker-1"), service("gone")], now=NOW)
    store.write([service("api", sessionAffinity="ClientIP")], [Ref("Service", "default", "gone")], now=LATER)
    [web] = [each for each in store.objects("Service") if each.name == "web"]
    store.write([parse_again({**web.raw, "spec": {**web.raw["spec"], "type": "ClusterIP"}})], now=LATER)


def shown(store: str, *, versions: bool = False) -> list[dict[str, Any]]:
    with open_existing(Config(store=store, ranges=RANGES)) as opened:
        raws = [each.raw for each in opened.objects()]
        assert not opened.damaged
    if not versions:
        for raw in raws:
            raw["metadata"].pop("resourceVersion")
    return raws


def copied(origin: str, target: str) -> Any:
    return copy_store(Config(store=origin, ranges=RANGES), Config(store=target, ranges=RANGES))


def rows(path: str) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(path)) as db:
        tables = ("meta", "objects", "node_ports", "cluster_ips", "outside_ips", "leftovers", "of_manifests")
        return {table: sorted(db.execute(f"SELECT * FROM {table}").fetchall()) for table in tables}


def test_from_a_file_to_etcd_and_back_and_to_another_file(tmp_path: Path) -> None:
    first, second, third = (str(tmp_path / f"{name}.db") for name in ("first", "second", "third"))
    with Store(first, ranges=RANGES) as store:
        fill(store)
        with store.transaction() as transaction:
            transaction.apply([pod("q")], now=NOW, by_manifests=True)
    copied(first, second)
    assert rows(first) == rows(second), "a file keeps it all, the versions and who wrote what as well"

    def work(address: str) -> None:
        image = copied(first, f"{address}/copy")
        assert image.counts == "3 services, 1 endpointslice, 2 pods and 1 node"
        assert shown(f"{address}/copy") == shown(first)
        with opened(f"{address}/copy") as store:
            assert store.check().findings == ()  # type: ignore[attr-defined]
            # It goes on as the file would: what was dropped may come again, and what is held is held.
            [again] = store.write([service("lb", "LoadBalancer", externalTrafficPolicy="Local")], now=LATER).applied
            assert again.action == "unchanged"
        copied(first, f"{address}/more")
        copied(f"{address}/more", third)
        copied(f"{address}/more", f"{address}/last")
        ours = {key: value for key, (_, value) in keys(f"{address}/more").items()}
        assert ours == {key: value for key, (_, value) in keys(f"{address}/last").items()}

    with_etcd(tmp_path, work)
    assert shown(third) == shown(first)
    assert {key: each for key, each in rows(third).items() if key not in ("meta", "objects", "of_manifests")} == {
        key: each for key, each in rows(first).items() if key not in ("meta", "objects", "of_manifests")
    }
    with Store(third, ranges=RANGES) as store:
        assert store.check().findings == ()
        versions = [int(each.version) for each in store.objects()]
        assert len(set(versions)) == len(versions)
        assert max(versions) <= store.resource_version()
    assert Path(third).stat().st_mode & 0o777 == 0o600


def test_versions_of_etcd_are_kept_where_it_wrote_an_object_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")

    def work(address: str) -> dict[str, str]:
        with opened(address) as store:
            store.write([service("alone")], now=NOW)
            store.write([service("both"), service("together")], now=NOW)
            store.write([pod("later")], now=NOW)
            versions = {each.name: each.version for each in store.objects()}
        copied(address, path)
        return versions

    before = with_etcd(tmp_path, work)
    with Store(path, ranges=RANGES) as store:
        after = {each.name: each.version for each in store.objects()}
    assert before["both"] == before["together"]
    assert sorted(after, key=lambda name: int(after[name])) == ["alone", "both", "together", "later"]
    assert (after["alone"], after["both"]) == (before["alone"], before["both"])


def test_nothing_is_written_over(tmp_path: Path) -> None:
    first, second = str(tmp_path / "first.db"), tmp_path / "second.db"
    with Store(first, ranges=RANGES) as store, Store(second, ranges=RANGES) as other:
        fill(store)
        other.write([service("other")], now=NOW)
    before = second.read_bytes()
    with pytest.raises(StoreError, match=r"there is a store already, with 1 service; name another file"):
        copied(first, str(second))
    assert second.read_bytes() == before
    (tmp_path / "text").write_text("no store")
    with pytest.raises(StoreError, match="is not a nodeport-nft store"):
        copied(first, str(tmp_path / "text"))
    (tmp_path / "third.db-wal").write_text("of another")
    with pytest.raises(StoreError, match=r"third.db-wal beside it is left of another database"):
        copied(first, str(tmp_path / "third.db"))
    with pytest.raises(StoreError, match="there is no store"):
        copied(str(tmp_path / "none.db"), str(tmp_path / "new.db"))
    assert not list(tmp_path.glob("new.db*")) + list(tmp_path.glob(".nodeport*"))

    def work(address: str) -> list[str]:
        told = []
        with opened(f"{address}/full") as store:
            store.write([service("web")], now=NOW)
        with key_hand(f"{address}/strange") as hand:
            hand.put("notes", b"x")
        for name in ("full", "strange"):
            there = keys(f"{address}/{name}")
            with pytest.raises(StoreError) as caught:
                copied(first, f"{address}/{name}")
            told.append(str(caught.value))
            assert keys(f"{address}/{name}") == there
        with key_hand(f"{address}/nodes") as hand:
            hand.put("members/known/n1", b"{}")  # a daemon is there already, and waits for objects
        copied(first, f"{address}/nodes")
        return told

    full, strange = with_etcd(tmp_path, work)
    assert "it has 1 service, in 3 keys" in full
    assert "`etcdctl del --prefix full/`" in full
    assert "it has no objects, in 1 keys" in strange


def test_what_cannot_be_read_is_told_and_the_rest_is_copied(tmp_path: Path) -> None:
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    with Store(first, ranges=RANGES) as store:
        fill(store)
    damage(first, "no-json", name="api")
    damage(first, "no-such-protocol", name="web")  # a document, which is copied as it is
    script = Path(sys.executable).parent / "nodeport-nft"
    done = subprocess.run([script, "store", "copy", first, second], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("2 services, 1 endpointslice, 1 pod and 1 node copied from")
    assert "Service/default/api in " in done.stderr
    assert "it is not in the copy" in done.stderr
    with Store(second, ranges=RANGES) as store:
        [found] = store.check().findings
        assert found.where == "Service/default/web"
        assert Ref("Service", "default", "web") not in store.damaged
        [held] = [each for each in rows(str(second))["cluster_ips"] if each[-1] == "web"]
        assert held[0] == "10.96.0.10"


def test_doubles_are_copied_and_said(tmp_path: Path) -> None:
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    with Store(first, ranges=RANGES) as store:
        store.write([service("web")], now=NOW)
        [web] = store.objects()
    with file_hand(first) as hand:
        copy = {**web.raw, "metadata": {**web.raw["metadata"], "name": "copy"}}
        hand.body(Ref("Service", "default", "copy"), json.dumps(copy))
    assert copied(str(first), str(second)).doubled == 2
    with Store(second, ranges=RANGES) as store:
        [found] = store.check().findings
        assert found.where == "Service/default/copy"


def test_numbers_outside_of_the_ranges_and_many_services(tmp_path: Path) -> None:
    """More than fits into one transaction; the configuration has other ranges by now."""
    path = str(tmp_path / "store.db")
    wide = Ranges(PortRange(20000, 20999), RANGES.service_cidrs)
    with Store(path, ranges=wide) as store:
        objects = [parse_object(document(f"web-{number}"), ranges=wide) for number in range(150)]
        store.write(objects, now=NOW)

    def work(address: str) -> None:
        config = Config(store=path, ranges=RANGES)
        copy_store(config, replace(config, store=address))
        assert shown(address) == shown(path)
        with opened(address) as store:
            assert store.check().findings == ()  # type: ignore[attr-defined]

    with_etcd(tmp_path, work)


def test_a_copy_that_is_cut_says_how_far_it_came(tmp_path: Path) -> None:
    """etcd fills up in the middle of it: it looks at its size ten times a second, so there has to be much to copy."""
    path = str(tmp_path / "store.db")
    with Store(path, ranges=RANGES) as store:
        pods = [pod(f"p-{number}", **{f"x{key}": "y" * 60 for key in range(50)}) for number in range(5000)]
        store.write(pods, now=NOW)

    def work(address: str) -> str:
        with pytest.raises(StoreError) as caught:
            copied(path, address)
        return str(caught.value)

    text = with_etcd(tmp_path, work, "--quota-backend-bytes", "4000000")
    assert "Make room" in text
    assert "of 5,000 objects are copied; empty etcd://" in text
