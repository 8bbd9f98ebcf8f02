"""The store in etcd, for a cluster of plain nodes: what hides etcd's API from those above.

``address`` reads the settings, ``errors`` and ``values`` are what goes in and out, ``client`` reads and writes, and
``watch`` follows. Only ``open_client`` and ``open_blocking`` need grpc, and say so where it is missing; this package
can be imported without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodeport_nft.store.etcd.address import Connection
from nodeport_nft.store.libraries import Libraries

if TYPE_CHECKING:
    from nodeport_nft.model import Ranges
    from nodeport_nft.settings import Validate
    from nodeport_nft.store.api import Members, Membership, Source
    from nodeport_nft.store.etcd.calls import Timings
    from nodeport_nft.store.etcd.client import Blocking, Client
    from nodeport_nft.store.etcd.registration import Identity
    from nodeport_nft.store.etcd.store import EtcdStore


_LIBRARIES = Libraries(("grpcio", "protobuf"), "etcd", "etcd")


def open_client(connection: Connection, timings: Timings | None = None, *, first: int = 0) -> Client:
    """A client for the running event loop. Raises LibraryMissing; connects with its first call."""
    with _LIBRARIES.wanted(connection):
        from nodeport_nft.store.etcd.client import Client
    return Client(connection, timings, first=first)


def open_blocking(connection: Connection, timings: Timings | None = None, *, first: int = 0) -> Blocking:
    """A client for a command. Raises LibraryMissing; connects with its first call."""
    with _LIBRARIES.wanted(connection):
        from nodeport_nft.store.etcd.client import Blocking
    return Blocking(connection, timings, first=first)


def etcd_store(connection: Connection, ranges: Ranges, validate: Validate, grace: float = 40.0) -> EtcdStore:
    """Objects in etcd. Raises LibraryMissing; connects when it is first asked.

    ``grace``: seconds until a node whose registration has ended counts as lost.
    """
    with _LIBRARIES.wanted(connection):
        from nodeport_nft.store.etcd.store import EtcdStore
    return EtcdStore(connection, ranges=ranges, validate=validate, grace=grace)


def etcd_source(connection: Connection, validate: Validate, grace: float = 40.0) -> Source:
    """What changes in etcd. Raises LibraryMissing; connects when it is run.

    ``grace``: seconds until a node whose registration has ended counts as lost.
    """
    with _LIBRARIES.wanted(connection):
        from nodeport_nft.store.etcd.roll import Waits
        from nodeport_nft.store.etcd.source import EtcdSource
    return EtcdSource(connection, validate=validate, waits=Waits(grace))


def etcd_membership(connection: Connection, name: str, who: Identity, changed: Callable[[], None]) -> Membership:
    """The registration of this node. Raises LibraryMissing; connects when it is run.

    ``changed`` is called when its problems may be others.
    """
    with _LIBRARIES.wanted(connection):
        from nodeport_nft.store.etcd.membership import EtcdMembership
    return EtcdMembership(connection, name, who, changed=changed)


def etcd_members(connection: Connection) -> Members:
    """The nodes that have registered. Raises LibraryMissing; connects when it is first asked."""
    with _LIBRARIES.wanted(connection):
        from nodeport_nft.store.etcd.members import EtcdMembers
    return EtcdMembers(connection)
