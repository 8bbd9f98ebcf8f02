"""Which source a configuration means, and whether nodes register there: the one place that knows them all."""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from nodeport_nft.config import Config
from nodeport_nft.kernel.host.node_lock import boot_id, network_namespace
from nodeport_nft.settings import Validate
from nodeport_nft.sources.handover import Handover
from nodeport_nft.sources.store import StoreSource
from nodeport_nft.store.api import Membership, Recorder, Source
from nodeport_nft.store.etcd import etcd_membership, etcd_source
from nodeport_nft.store.etcd.address import is_etcd
from nodeport_nft.store.etcd.registration import Identity
from nodeport_nft.store.kubernetes import kubernetes_recorder, kubernetes_source, kubernetes_watch
from nodeport_nft.store.kubernetes.connection import is_kubernetes
from nodeport_nft.store.opening import etcd_connection, kubernetes_connection


def open_source(config: Config, node: str, handover: Handover | None = None) -> Source:
    """The source that ``config.store`` names, for the node of this name.

    ``handover``: from who keeps the store as manifests say, in this process; a shared store is kept by nobody so.
    Raises StoreError and OSError where the store cannot be opened, StoreError where its kind is not known, Problems
    where what the configuration says of etcd is wrong.
    """
    if is_etcd(config.store):
        return etcd_source(etcd_connection(config), config.validate, config.node_monitor_grace_period)
    if is_kubernetes(config.store):
        return kubernetes_source(kubernetes_connection(config), node)
    return StoreSource(config, handover)


def open_watch(config: Config, kinds: tuple[str, ...], namespace: str | None) -> Source:
    """What tells a person's command that objects of these kinds have changed; it may tell of others, too.

    Raises as ``open_source`` does.
    """
    if is_kubernetes(config.store):
        return kubernetes_watch(kubernetes_connection(config), kinds, namespace)
    return open_source(replace(config, validate=Validate.ignore), "")


def open_membership(config: Config, name: str, changed: Callable[[], None]) -> Membership | None:
    """The registration of the node ``name`` with the store that ``config.store`` names; None: it is one node's own.

    ``changed`` is called when its problems may be others. Raises as ``open_source`` does.
    """
    if not is_etcd(config.store):
        return None
    return etcd_membership(etcd_connection(config), name, Identity(platform.node(), this_place()), changed)


def open_recorder(config: Config, node: str, problems: Callable[[tuple[str, ...]], None]) -> Recorder | None:
    """Who writes what happens to objects into the store that ``config.store`` names; None: it keeps no such thing.

    ``problems`` is called with what keeps it from writing, whenever that may be something else.
    """
    if not is_kubernetes(config.store):
        return None
    return kubernetes_recorder(kubernetes_connection(config), node, problems)


def this_place() -> str:
    """This network namespace of this boot of this kernel: no other place in the world has it; "" if unknown."""
    with suppress(OSError):
        return f"{boot_id()} {network_namespace()}"
    return ""
