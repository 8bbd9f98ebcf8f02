"""The API server of a Kubernetes cluster as the store: what hides its HTTP from those above.

``connection`` and ``kubeconfig/`` say where it is and who we are, ``client`` asks, ``source`` follows what changes,
``store`` reads and writes for commands. Only what is opened here needs aiohttp, and says so where it is
missing; this package can be imported without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodeport_nft.kinds import BY_KIND
from nodeport_nft.store.kubernetes.connection import Connection
from nodeport_nft.store.libraries import Libraries

if TYPE_CHECKING:
    from nodeport_nft.settings import Validate
    from nodeport_nft.store.api import Recorder, Source
    from nodeport_nft.store.kubernetes.client import Client
    from nodeport_nft.store.kubernetes.store import KubernetesStore


_LIBRARIES = Libraries(("aiohttp",), "an API server", "kubernetes")


def open_client(connection: Connection) -> Client:
    """A client for the running event loop. Raises LibraryMissing and StoreError; connects with its first request."""
    with _LIBRARIES.wanted(connection):
        from nodeport_nft.store.kubernetes.client import Client
    return Client(connection)


def kubernetes_store(
    connection: Connection, validate: Validate, *, force: bool = False, replacing: bool = False
) -> KubernetesStore:
    """Objects of an API server; ``force`` and ``replacing`` as in its class. Raises LibraryMissing.

    It connects when it is first asked.
    """
    with _LIBRARIES.wanted(connection):
        from nodeport_nft.store.kubernetes.store import KubernetesStore
    return KubernetesStore(connection, validate, force=force, replacing=replacing)


def kubernetes_source(connection: Connection, node: str) -> Source:
    """What changes at an API server, for the node of this name. Raises LibraryMissing; connects when it is run."""
    with _LIBRARIES.wanted(connection):
        from nodeport_nft.store.kubernetes.source import KubernetesSource
    return KubernetesSource(connection, node)


def kubernetes_watch(connection: Connection, kinds: tuple[str, ...], namespace: str | None) -> Source:
    """What changes of some kinds in a namespace (None: in all), for who looks at objects. Raises as above."""
    with _LIBRARIES.wanted(connection):
        from nodeport_nft.store.kubernetes.reading import list_path
        from nodeport_nft.store.kubernetes.selection import Selected
        from nodeport_nft.store.kubernetes.source import KubernetesSource
    where = {kind: namespace if BY_KIND[kind].namespaced else None for kind in kinds}
    followed = tuple(Selected(kind, list_path(kind, where[kind]), {}) for kind in kinds)
    return KubernetesSource(connection, "", followed=followed)


def kubernetes_recorder(connection: Connection, node: str, problems: Callable[[tuple[str, ...]], None]) -> Recorder:
    """Events, by the node of this name; ``problems`` is called when others keep it from writing them."""
    from nodeport_nft.store.kubernetes.events import EventRecorder, Notebook

    return EventRecorder(connection, node, problems, Notebook())
