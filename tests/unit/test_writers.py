"""Whose an object in the store is: manifests that are the whole state delete their own alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nodeport_nft.manifest import Object, parse_object
from nodeport_nft.model import Ranges, Ref
from nodeport_nft.store import OthersObjects, Store

NOW = "2026-01-31T12:00:00Z"


def service(name: str) -> Object:
    spec = {"type": "NodePort", "ports": [{"port": 80}]}
    metadata = {"name": name, "namespace": "default"}
    return parse_object({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})


def node(name: str) -> Object:
    return parse_object({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})


def apply(store: Store, *objects: Object, by_manifests: bool) -> None:
    with store.transaction() as transaction:
        transaction.apply(objects, now=NOW, by_manifests=by_manifests)


def of_others(store: Store, *keep: Object) -> set[str]:
    with store.transaction() as transaction:
        return {str(ref) for ref in transaction.of_others(keep)}


def test_who_drains_an_object_of_manifests_does_not_take_it_over() -> None:
    drained = {"metadata": {"name": "n", "annotations": {"nodeport-nft/drain": "true"}}}
    lifted = {"metadata": {"name": "n", "annotations": {"nodeport-nft/drain": ""}}}
    labelled = {"metadata": {"name": "n", "labels": {"disk": "ssd"}}}
    with Store(ranges=Ranges()) as store:
        assert not store.any_of_manifests()
        apply(store, node("n"), by_manifests=True)
        assert store.any_of_manifests()
        for metadata, whose in ((drained, set()), (lifted, set()), (labelled, {"Node/n"})):
            apply(store, parse_object({"apiVersion": "v1", "kind": "Node", **metadata}), by_manifests=False)
            assert of_others(store) == whose


def test_who_wrote_an_object_last_has_it() -> None:
    with Store(ranges=Ranges()) as store:
        apply(store, service("a"), node("n"), by_manifests=False)
        apply(store, service("b"), by_manifests=True)
        assert of_others(store) == {"Service/default/a", "Node/n"}
        assert of_others(store, service("a")) == {"Node/n"}
        version = store.resource_version()
        apply(store, service("a"), by_manifests=True)  # as it was
        apply(store, service("b"), by_manifests=False)
        assert store.resource_version() == version
        assert of_others(store) == {"Service/default/b", "Node/n"}


def test_manifests_delete_their_own_and_name_the_rest() -> None:
    with Store(ranges=Ranges()) as store:
        apply(store, *(service(f"theirs-{i}") for i in range(7)), by_manifests=False)
        apply(store, service("a"), service("b"), by_manifests=True)
        with store.transaction() as transaction:
            told = r"holds 7 objects \(Service/default/theirs-0, .* and 2 more\) that"
            with pytest.raises(OthersObjects, match=told):
                transaction.refuse_others([service("a")])
            assert transaction.prune([service("a")], of_others=False) == ("service/b",)
            assert len(transaction.prune([service("a")])) == 7
            transaction.refuse_others([service("a")])
        assert [stored.name for stored in store.objects()] == ["a"]


def test_what_is_deleted_and_made_anew_is_who_makes_its() -> None:
    with Store(ranges=Ranges()) as store:
        apply(store, service("a"), by_manifests=True)
        with store.transaction() as transaction:
            transaction.delete("Service", "default", "a")
            assert not transaction.any_of_manifests()
        apply(store, service("a"), by_manifests=False)
        assert of_others(store) == {"Service/default/a"}


def test_a_store_of_an_earlier_version_is_taken_over_object_by_object(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store(path, ranges=Ranges()) as store:
        apply(store, service("a"), service("b"), by_manifests=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE of_manifests")
        db.commit()
    with Store(path, ranges=Ranges(), reading=True) as store:
        assert len(store.objects()) == 2
    with Store(path, ranges=Ranges()) as store:
        assert of_others(store) == {"Service/default/a", "Service/default/b"}
        apply(store, service("a"), by_manifests=True)
        assert of_others(store) == {"Service/default/b"}
        with store.transaction() as transaction:
            assert transaction.is_of_manifests(Ref("Service", "default", "a"))
