"""Objects of an API server, for commands.

It is read and written as ``reading`` and ``writing`` have it. What is desired of a node is what ``selection`` says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeVar

from nodeport_nft.kinds import BY_KIND
from nodeport_nft.kube import Object
from nodeport_nft.model import SERVICE_CIDR, Parsed, Ref, Value
from nodeport_nft.settings import Validate
from nodeport_nft.store.api import Objects, Written
from nodeport_nft.store.errors import StoreError
from nodeport_nft.store.kubernetes import reading, refusals
from nodeport_nft.store.kubernetes.client import Client
from nodeport_nft.store.kubernetes.connection import Connection
from nodeport_nft.store.kubernetes.errors import Refused
from nodeport_nft.store.kubernetes.selection import SERVICE_CIDRS, Selected, selected
from nodeport_nft.store.kubernetes.writing import Manner, Writer, get
from nodeport_nft.store.objects import Damaged

Answer = TypeVar("Answer")

_SEEN = ("EndpointSlice", "Node", "Service")
"""Whose objects are parsed where no node is asked about. Endpoints and Pods serve nobody here: slices do."""


class KubernetesStore(Objects):
    """The objects of an API server, which allocates itself.

    A write is not atomic (``writing``): all objects are tried before the first is written. ``now`` means nothing in
    it. ``force``: fields are taken over from other managers.
    """

    def __init__(self, connection: Connection, validate: Validate, *, force: bool = False) -> None:
        """Connects when it is first asked."""
        super().__init__(connection, validate)
        self._connection = connection
        self._force = force
        self._runner = asyncio.Runner()
        self._opened: Client | None = None
        self._unseen: tuple[str, ...] = ()

    def close(self) -> None:
        """Hang up."""
        if self._opened is not None:
            self._runner.run(self._opened.close())
            self._opened = None
        self._runner.close()

    def list(self, kind: str | None = None, namespace: str | None = None) -> Iterator[Object | Damaged]:
        """As ``Objects`` has it; each kind is of a moment of its own."""
        for each in (kind,) if kind else sorted(BY_KIND):
            if namespace is None or BY_KIND[each].namespaced:
                yield from self._listed(each, reading.list_path(each, namespace), {})
            elif namespace == "":
                yield from self._listed(each, reading.list_path(each, None), {})

    def find(self, ref: Ref) -> Object | Damaged | None:
        """As ``Objects`` has it."""

        async def work() -> Object | None:
            return await get(await self._client(), ref, self.where)

        return self._run(work())

    def write(
        self,
        puts: Sequence[Object] = (),
        deletes: Collection[Ref] = (),
        *,
        now: str,  # noqa: ARG002
        only_new: bool = False,
        dry_run: bool = False,
    ) -> Written:
        """Put and delete, as the class has it. Raises as ``Objects`` has it, and PartlyWritten."""
        manner = Manner(self._validate, only_new, self._force)

        async def work() -> Written:
            return await Writer(await self._client(), self.where, manner).write(puts, deletes, dry_run=dry_run)

        return self._run(work())

    def values(self) -> Iterator[tuple[Ref, tuple[Value, ...] | Damaged]]:
        """As ``Objects`` has it, of what may serve: a Pod that a selector fits is no endpoint, a slice says who is."""
        self.strange.clear()
        for kind in _SEEN:
            for each in self.list(kind):
                yield each.ref, self._parsed(each)

    def desired(self, node: str) -> tuple[Parsed, ...]:
        """What the node of this name programs, but for what cannot be read: the kinds that its daemon follows."""
        self.damaged.clear()
        self.strange.clear()
        found: dict[Ref, tuple[Value, ...]] = {}
        for each in selected(node):
            for ref, values in self._selected(each):
                if isinstance(values, Damaged):
                    self.damaged[ref] = values
                else:
                    found[ref] = values
        return tuple(sorted(found.items()))

    def doubts(self) -> tuple[str, ...]:
        """As ``Objects`` has it, and what is not to be seen."""
        return (*self._unseen, *super().doubts())

    def _selected(self, one: Selected) -> Iterator[tuple[Ref, tuple[Value, ...] | Damaged]]:
        if one.kind != SERVICE_CIDR:
            for each in self._listed(one.kind, one.path, one.query):
                yield each.ref, self._parsed(each)
            return
        try:
            items = self._items(SERVICE_CIDRS, one.query)
        except Refused as refused:
            if refused.code not in (403, 404):
                raise refusals.failure(refused, self.where) from refused
            if refused.code == 403:
                told = refusals.failure(refused, self.where)
                self._unseen = (f"{told}; until then the configuration's serviceCIDRs count",)
            return
        for item in items:
            cidr = reading.service_cidr(item)
            yield cidr.ref, (cidr,)

    def _parsed(self, stored: Object | Damaged) -> tuple[Value, ...] | Damaged:
        if isinstance(stored, Damaged):
            return stored
        parse = reading.parse(stored)
        if isinstance(parse, Damaged):
            return parse
        if parse.notes:
            self.strange[stored.ref] = parse.notes
        return parse.values

    def _listed(self, kind: str, path: str, query: Mapping[str, str]) -> list[Object]:
        """The objects of a kind, sorted."""
        try:
            items = self._items(path, query)
        except Refused as refused:
            if refused.code == 404:
                resource = BY_KIND[kind]
                raise StoreError(
                    f"{self.where}: this API server has no {resource.plural} of {resource.api_version}"
                ) from refused
            raise refusals.failure(refused, self.where) from refused
        return sorted((reading.object_of(kind, item) for item in items), key=attrgetter("ref"))

    def _items(self, path: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        async def work() -> list[dict[str, Any]]:
            return await reading.list_items(await self._client(), path, query, self.where)

        return self._run(work())

    def _run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Wait for it; Ctrl-C cancels it."""
        return self._runner.run(work)

    async def _client(self) -> Client:
        if self._opened is None:
            self._opened = Client(self._connection)
        return self._opened
