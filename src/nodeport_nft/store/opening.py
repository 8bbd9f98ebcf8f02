"""Which store it is, by how the configuration names it.

A path is a file of SQLite's, ``etcd://`` is one in etcd, ``kubernetes:`` is the API server of a cluster.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from nodeport_nft.problems import Problems
from nodeport_nft.store.errors import StoreError
from nodeport_nft.store.etcd.address import Connection, connection_faults, is_etcd, parse_connection
from nodeport_nft.store.kubernetes import kubernetes_store
from nodeport_nft.store.kubernetes.connection import Connection as KubernetesConnection
from nodeport_nft.store.kubernetes.connection import is_kubernetes
from nodeport_nft.store.sqlite.store import Store

if TYPE_CHECKING:
    from nodeport_nft.config import Config
    from nodeport_nft.store.api import Members, Objects
    from nodeport_nft.store.checking import Checked
    from nodeport_nft.store.copying import Image
    from nodeport_nft.store.etcd.store import EtcdStore

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//|$)|(etcd|kubernetes):")
"""What is no path. A slash that is missing after a word that means a kind of store makes no file of it."""

_BARE_WORDS = ("etcd", "kubernetes", "k8s")
"""Nor does a colon that is missing: what is written to a file of that name has not come to the cluster."""


def open_objects(config: Config, *, force: bool = False, replacing: bool = False) -> Objects:
    """The store of the configuration, to write to it; a file is made where there is none.

    Where a store knows managers of fields, ``force`` takes them over from others, and ``replacing`` takes away what a
    document does not name. The other stores have whole documents, and do so anyway.

    This and the others raise StoreError, and Problems where what the configuration says of etcd is wrong.
    """
    if is_etcd(config.store):
        return _open_etcd(config)
    if is_kubernetes(config.store):
        return kubernetes_store(kubernetes_connection(config), config.validate, force=force, replacing=replacing)
    return open_file(config)


def open_existing(config: Config) -> Objects:
    """The store of the configuration, to read it; StoreError also where there is none."""
    if is_etcd(config.store):
        return _open_etcd(config)
    if is_kubernetes(config.store):
        return kubernetes_store(kubernetes_connection(config), config.validate)
    return Store(store_path(config), ranges=config.ranges, reading=True, validate=config.validate)


def open_trial(config: Config, *, force: bool = False, replacing: bool = False) -> Objects:
    """What the store of the configuration holds, nothing if there is none, to try a write on; the rest as above."""
    if is_kubernetes(config.store):
        return open_objects(config, force=force, replacing=replacing)
    if may_exist(config.store):
        return open_existing(config)
    from nodeport_nft.store.memory import MemoryStore

    return MemoryStore(config.ranges)


def open_members(config: Config) -> Members | None:
    """The nodes of the store of the configuration, None where it is one node's own."""
    if not is_etcd(config.store):
        return None
    from nodeport_nft.store.etcd import etcd_members

    return etcd_members(etcd_connection(config))


def check_store(config: Config, *, repair: bool) -> Checked:
    """What is wrong with the store of the configuration (``store.checking``); StoreError also where there is none."""
    if is_etcd(config.store):
        with _open_etcd(config) as shared:
            return shared.check(repair=repair)
    if is_kubernetes(config.store):
        raise StoreError(
            f"{config.store} an API server looks after its claims itself; kubectl get --raw '/readyz?verbose' tells "
            "how it does, and kubectl get events --all-namespaces what it has found and repaired"
        )
    if not may_exist(config.store):
        raise StoreError(f"there is no store {config.store}; name the store with --store")
    path = store_path(config)
    with Store(path, ranges=config.ranges, reading=not repair) as file:
        return file.check(repair=repair)


def copy_store(origin: Config, target: Config) -> Image:
    """Copy all of one store into another that is empty, or is not there yet (``store.copying``); what was copied."""
    from nodeport_nft.store.copying import counted
    from nodeport_nft.store.sqlite.copying import write_image

    if is_kubernetes(origin.store) or is_kubernetes(target.store):
        raise StoreError(
            "kubernetes: is a cluster's, whose objects refer to much that no other store has; back up its etcd "
            "(etcdctl snapshot save), or take single kinds along: get KIND --all-namespaces -o yaml, then apply -f"
        )
    if not is_etcd(target.store) and may_exist(path := store_path(target)):
        with Store(path, ranges=target.ranges, reading=True) as there:
            held = counted(each.ref for each in there.list())
        raise StoreError(f"{path}: there is a store already, with {held}; name another file, or remove it")
    if is_etcd(origin.store):
        with _open_etcd(origin) as shared:
            image = shared.image()
    elif may_exist(path := store_path(origin)):
        with Store(path, ranges=origin.ranges, reading=True) as file:
            image = file.image()
    else:
        raise StoreError(f"there is no store {origin.store} to copy")
    if not image.objects and not image.unreadable:
        # Whoever has mistyped a prefix would believe that there is a backup.
        raise StoreError(f"{origin.store}: there are no objects to copy; see whether it is named right")
    if is_etcd(target.store):
        with _open_etcd(target) as shared:
            shared.take(image)
    else:
        write_image(Path(store_path(target)), image)
    return image


def open_file(config: Config) -> Store:
    """The file of the configuration, for manifests that are its whole state: what others share is never pruned."""
    refuse_shared(config)
    return Store(store_path(config), ranges=config.ranges)


def refuse_shared(config: Config) -> None:
    """Raises StoreError where manifests cannot be the whole state of the store of the configuration."""
    if is_shared(config.store):
        raise StoreError(
            f"{config.store.removesuffix(':')}: manifests that are the whole state (sync -f) want a store of their "
            "own, and this one is a cluster's; apply -f adds them to it, and delete takes them out"
        )


def may_exist(store: str) -> bool:
    """Whether there is a store; one that may not be looked at counts, so that opening it says why."""
    if _SCHEME.match(store) or store.lower() in _BARE_WORDS:
        return True
    try:
        os.stat(store)  # noqa: PTH116 (Path.exists turns some errors into an answer)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def is_shared(store: str) -> bool:
    """Whether it is a store of several nodes."""
    return is_etcd(store) or is_kubernetes(store)


def kubernetes_connection(config: Config) -> KubernetesConnection:
    """How to come to the API server of the configuration."""
    return KubernetesConnection(config.kubeconfig, config.context)


def etcd_connection(config: Config) -> Connection:
    """How to come to the etcd of the configuration."""
    connection = parse_connection(
        config.store,
        ca=_named(config.etcd_ca_file),
        cert=_named(config.etcd_cert_file),
        key=_named(config.etcd_key_file),
        user=config.etcd_user,
        password_file=_named(config.etcd_password_file),
    )
    if faults := connection_faults(connection):
        raise Problems(faults)
    return connection


def _open_etcd(config: Config) -> EtcdStore:
    from nodeport_nft.store.etcd import etcd_store

    return etcd_store(etcd_connection(config), config.ranges, config.validate, config.node_monitor_grace_period)


def _named(path: str) -> Path | None:
    return Path(path) if path else None


def store_path(config: Config) -> str:
    if found := _SCHEME.match(config.store):
        scheme = found[1] or found[3]
        what = "is written otherwise" if scheme in ("etcd", "kubernetes") else "is not a kind of store known here"
        raise StoreError(
            f"store {config.store}: {scheme}: {what}; name a file by its path, a store in etcd as "
            "etcd://HOST:PORT/PREFIX, or a cluster's API server as kubernetes:"
        )
    if config.store.lower() in _BARE_WORDS:
        raise StoreError(
            f"store {config.store}: has no colon; name a cluster's API server as kubernetes:, a store in etcd as "
            f"etcd://HOST:PORT/PREFIX, or a file of this name as ./{config.store}"
        )
    return config.store
