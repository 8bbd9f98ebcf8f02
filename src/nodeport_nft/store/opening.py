"""Which store it is, by how the configuration names it: a path is a file of SQLite's."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from nodeport_nft.store.errors import StoreError
from nodeport_nft.store.memory import MemoryStore
from nodeport_nft.store.sqlite.store import Store

if TYPE_CHECKING:
    from nodeport_nft.config import Config
    from nodeport_nft.store.api import Objects

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//|$)")


def open_objects(config: Config) -> Objects:
    """The store of the configuration, to write to it; a file is made where there is none. Raises StoreError."""
    return open_file(config)


def open_existing(config: Config) -> Objects:
    """The store of the configuration, to read it. Raises StoreError, also where there is none."""
    return Store(store_path(config), ranges=config.ranges, reading=True, validate=config.validate)


def open_trial(config: Config) -> Objects:
    """What the store of the configuration holds, nothing if there is none, to try a write on. Raises StoreError."""
    return open_existing(config) if may_exist(config.store) else MemoryStore(config.ranges)


def open_file(config: Config) -> Store:
    """The file of the configuration, for manifests that are its whole state: no store that others share is pruned.

    Raises StoreError.
    """
    return Store(store_path(config), ranges=config.ranges)


def may_exist(store: str) -> bool:
    """Whether there is a store; one that may not be looked at counts, so that opening it says why."""
    if _SCHEME.match(store):
        return True
    try:
        os.stat(store)  # noqa: PTH116 (Path.exists turns some errors into an answer)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def store_path(config: Config) -> str:
    """The path of the file. Raises StoreError where the store is named by a scheme that is not known here."""
    if found := _SCHEME.match(config.store):
        raise StoreError(f"store {config.store}: {found[1]}: is no kind of store known here; name a file by its path")
    return config.store
