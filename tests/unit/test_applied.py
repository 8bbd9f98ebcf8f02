"""What `apply` answers is what the store then holds: nobody has to read back what was just validated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from nodeport_nft.config import load_config
from nodeport_nft.manifest import Object, read_manifests
from nodeport_nft.model import Ranges, Ref
from nodeport_nft.store import Applied, Store

ROOT = Path(__file__).parents[2]
MANIFESTS = sorted((ROOT / "tests" / "cases").glob("*/manifests.yaml")) + sorted((ROOT / "examples").glob("*.yaml"))
NOW, LATER = "2026-01-31T12:00:00Z", "2026-02-28T12:00:00Z"


def objects_of(path: Path, ranges: Ranges) -> tuple[Object, ...]:
    return read_manifests([str(path)], ranges=ranges, to_store=True).objects


def ranges_of(manifests: Path, directory: Path) -> Ranges:
    """Those of the case that the manifests belong to."""
    node, config = manifests.parent / "node.yaml", directory / "config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(node.read_text()).get("config", {}) if node.exists() else {}))
    return load_config(str(config), {}).ranges


def apply(store: Store, objects: Sequence[Object], now: str = NOW) -> tuple[Applied, ...]:
    with store.transaction() as transaction:
        return transaction.apply(objects, now=now, by_manifests=True)


def assert_finished(store: Store, applied: Sequence[Applied]) -> None:
    for each in applied:
        ref = Ref(each.object.kind, each.object.namespace, each.object.name)
        assert store.value(ref) == each.object.values, ref


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.parent.name + "/" + path.stem)
def test_what_was_applied_is_what_is_read_back(path: Path, tmp_path: Path) -> None:
    """New, once more as it is, and by those who have written something else before: held numbers and times count."""
    ranges = ranges_of(path, tmp_path)
    objects = objects_of(path, ranges)
    with Store(ranges=ranges) as store:
        assert_finished(store, apply(store, objects))
        assert_finished(store, apply(store, objects, LATER))
        answers = (each.object for each in apply(store, objects))
        told = sorted((Ref(obj.kind, obj.namespace, obj.name), obj.values) for obj in answers)
        assert store.readable() == tuple(told)


CHANGES: dict[str, list[dict[str, object]]] = {
    "a type that gives numbers back": [{"type": "LoadBalancer"}, {"type": "NodePort"}, {"type": "ClusterIP"}],
    "a type without an address": [{"type": "NodePort"}, {"type": "ExternalName", "externalName": "example.org"}],
    "headless and back": [
        {"clusterIP": "None"},
        {"type": "ExternalName", "externalName": "a.b"},
        {"type": "NodePort"},
    ],
    "a second family and back": [
        {"ipFamilyPolicy": "PreferDualStack"},
        {"ipFamilyPolicy": "SingleStack"},
        {"ipFamilyPolicy": "RequireDualStack", "type": "NodePort"},
    ],
    "a health check that comes and goes": [
        {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
        {"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"},
        {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False},
    ],
    "what the API fills in": [
        {"sessionAffinity": "ClientIP"},
        {"sessionAffinity": None},
        {"externalIPs": ["192.0.2.1"]},
    ],
}


@pytest.mark.parametrize("what", CHANGES)
def test_so_it_is_over_changes(what: str, tmp_path: Path) -> None:
    ranges = load_config(None, {"serviceCIDRs": ["10.96.0.0/16,fd00:96::/112"]}).ranges
    manifest = tmp_path / "web.yaml"
    with Store(tmp_path / "store.db", ranges=ranges) as store:
        for number, spec in enumerate(CHANGES[what]):
            port = {"port": 80 + number}
            metadata = {"name": "web", "creationTimestamp": "2001-01-01T00:00:00Z"}
            document = {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": metadata,
                "spec": {"ports": [port], **spec},
            }
            manifest.write_text(yaml.safe_dump(document))
            for now in (NOW, LATER):
                assert_finished(store, apply(store, objects_of(manifest, ranges), now))


def test_so_it_is_for_one_that_was_damaged(tmp_path: Path) -> None:
    ranges = load_config(None, {}).ranges
    objects = objects_of(ROOT / "examples" / "my-ser.yaml", ranges)
    with Store(tmp_path / "store.db", ranges=ranges) as store:
        apply(store, objects)
        store._db.execute("UPDATE objects SET body = substr(body, 1, 40) WHERE kind IN ('Service', 'Pod')")
        store._db.commit()
        assert len(store.readable()) < len(objects)
        assert_finished(store, apply(store, objects, LATER))
        assert len(store.readable()) == len(objects)
