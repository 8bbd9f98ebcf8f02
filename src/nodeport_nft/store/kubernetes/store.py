"""Objects of an API server, for commands."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from nodeport_nft.kube import Object
from nodeport_nft.model import Ref
from nodeport_nft.settings import Validate
from nodeport_nft.store.api import Objects, Written
from nodeport_nft.store.kubernetes.connection import Connection
from nodeport_nft.store.objects import Damaged


class KubernetesStore(Objects):
    """The objects of an API server, which allocates itself."""

    def __init__(self, connection: Connection, validate: Validate) -> None:
        super().__init__(connection, validate)

    def list(self, kind: str | None = None, namespace: str | None = None) -> Iterator[Object | Damaged]:
        raise NotImplementedError

    def find(self, ref: Ref) -> Object | Damaged | None:
        raise NotImplementedError

    def write(
        self,
        puts: Sequence[Object] = (),
        deletes: Collection[Ref] = (),
        *,
        now: str,
        only_new: bool = False,
        dry_run: bool = False,
    ) -> Written:
        raise NotImplementedError

    def close(self) -> None:
        """Hang up."""
