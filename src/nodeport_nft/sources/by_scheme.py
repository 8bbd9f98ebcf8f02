"""Which source a configuration means: the one place that knows them all."""

from __future__ import annotations

from nodeport_nft.config import Config
from nodeport_nft.sources.handover import Handover
from nodeport_nft.sources.store import StoreSource
from nodeport_nft.store.api import Source
from nodeport_nft.store.etcd import etcd_source
from nodeport_nft.store.etcd.address import is_etcd
from nodeport_nft.store.opening import etcd_connection


def open_source(config: Config, handover: Handover | None = None) -> Source:
    """The source that ``config.store`` names.

    ``handover``: from who keeps the store as manifests say, in this process; a shared store is kept by nobody so.
    Raises StoreError and OSError where the store cannot be opened, StoreError where its kind is not known, Problems
    where what the configuration says of etcd is wrong.
    """
    if is_etcd(config.store):
        return etcd_source(etcd_connection(config), config.validate)
    return StoreSource(config, handover)
