"""Which source a configuration means: the one place that knows them all."""

from __future__ import annotations

import re

from nodeport_nft.config import Config
from nodeport_nft.sources.handover import Handover
from nodeport_nft.sources.store import StoreSource
from nodeport_nft.store import StoreError
from nodeport_nft.store.api import Source

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//|$)")


def open_source(config: Config, handover: Handover | None = None) -> Source:
    """The source that ``config.store`` names: today a path, which is a file of SQLite's.

    ``handover``: from who keeps the store as manifests say, in this process. Raises StoreError and OSError where the
    store cannot be opened, StoreError where its kind is not known.
    """
    if found := _SCHEME.match(config.store):
        raise StoreError(f"store {config.store}: {found[1]}: is no kind of store known here; name a file by its path")
    return StoreSource(config, handover)
