"""The store in etcd, for a cluster of plain nodes: what hides etcd's API from those above.

``address`` reads the settings, ``errors`` and ``values`` are what goes in and out, ``client`` reads and writes, and
``watch`` follows. Only ``open_client`` and ``open_blocking`` need grpc, and say so where it is missing; this package
can be imported without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodeport_nft.store.etcd.address import Connection
from nodeport_nft.store.etcd.errors import LibraryMissing

if TYPE_CHECKING:
    from nodeport_nft.model import Ranges
    from nodeport_nft.settings import Validate
    from nodeport_nft.store.api import Objects, Source
    from nodeport_nft.store.etcd.calls import Timings
    from nodeport_nft.store.etcd.client import Blocking, Client


def open_client(connection: Connection, timings: Timings | None = None, *, first: int = 0) -> Client:
    """A client for the running event loop. Raises LibraryMissing; connects with its first call."""
    try:
        from nodeport_nft.store.etcd.client import Client
    except ImportError as error:
        raise _as_missing(connection, error) from error
    return Client(connection, timings, first=first)


def open_blocking(connection: Connection, timings: Timings | None = None, *, first: int = 0) -> Blocking:
    """A client for a command. Raises LibraryMissing; connects with its first call."""
    try:
        from nodeport_nft.store.etcd.client import Blocking
    except ImportError as error:
        raise _as_missing(connection, error) from error
    return Blocking(connection, timings, first=first)


def etcd_store(connection: Connection, ranges: Ranges, validate: Validate) -> Objects:
    """Objects in etcd. Raises LibraryMissing; connects when it is first asked."""
    try:
        from nodeport_nft.store.etcd.store import EtcdStore
    except ImportError as error:
        raise _as_missing(connection, error) from error
    return EtcdStore(connection, ranges=ranges, validate=validate)


def etcd_source(connection: Connection, validate: Validate) -> Source:
    """What changes in etcd. Raises LibraryMissing; connects when it is run."""
    try:
        from nodeport_nft.store.etcd.source import EtcdSource
    except ImportError as error:
        raise _as_missing(connection, error) from error
    return EtcdSource(connection, validate=validate)


def _as_missing(connection: Connection, error: ImportError) -> Exception:
    """LibraryMissing, or the error itself if it is one of ours."""
    is_ours = (error.name or "").startswith("nodeport_nft")
    return error if is_ours else LibraryMissing(connection)
