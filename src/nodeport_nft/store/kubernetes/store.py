"""Objects of an API server, for commands.

It is read and written as ``reading`` and ``writing`` have it. What is desired of a node is what ``selection`` says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any

from nodeport_nft.kinds import BY_KIND
from nodeport_nft.kube import Object
from nodeport_nft.model import SERVICE_CIDR, Parsed, Pod, Ref, ServiceCIDR, Snapshot, Value
from nodeport_nft.problems import Problems
from nodeport_nft.settings import Validate
from nodeport_nft.store.api import Objects, Written
from nodeport_nft.store.errors import StoreError
from nodeport_nft.store.kubernetes import reading, refusals
from nodeport_nft.store.kubernetes.client import Blocking
from nodeport_nft.store.kubernetes.connection import Connection
from nodeport_nft.store.kubernetes.errors import Refused
from nodeport_nft.store.kubernetes.selection import SERVICE_CIDRS, missing_node, selected
from nodeport_nft.store.kubernetes.writing import Manner, Writer, get
from nodeport_nft.store.objects import Damaged

_SEEN = ("EndpointSlice", "Node", "Service")
"""Whose objects are parsed where no node is asked about. Endpoints and Pods serve nobody here: slices do."""


class KubernetesStore(Objects):
    """The objects of an API server, which allocates itself.

    A write is not atomic (``writing``): all objects are tried before the first is written. ``now`` means nothing in
    it. ``force``: fields are taken over from other managers. ``replacing``: an object that is there becomes what is
    written, and keeps nothing that this does not name.
    """

    def __init__(
        self, connection: Connection, validate: Validate, *, force: bool = False, replacing: bool = False
    ) -> None:
        """Connects when it is first asked."""
        super().__init__(connection, validate)
        self._force = force
        self._replacing = replacing
        self._api = Blocking(connection)
        self._unseen: tuple[str, ...] = ()

    def close(self) -> None:
        """Hang up."""
        self._api.close()

    def list(self, kind: str | None = None, namespace: str | None = None) -> Iterator[Object | Damaged]:
        """As ``Objects`` has it; each kind is of a moment of its own."""
        for each in (kind,) if kind else sorted(BY_KIND):
            if namespace is None or BY_KIND[each].namespaced:
                yield from self._listed(each, reading.list_path(each, namespace), {})
            elif namespace == "":
                yield from self._listed(each, reading.list_path(each, None), {})

    def find(self, ref: Ref) -> Object | Damaged | None:
        """As ``Objects`` has it."""
        return self._api.run(get(self._api.client, ref, self.where))

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
        writer = Writer(self._api.client, self.where, Manner(self._validate, only_new, self._force, self._replacing))
        return self._api.run(writer.write(puts, deletes, dry_run=dry_run))

    def values(self) -> Iterator[tuple[Ref, tuple[Value, ...] | Damaged]]:
        """As ``Objects`` has it, of what may serve: a Pod that a selector fits is no endpoint of its own."""
        self.strange.clear()
        for kind in _SEEN:
            for each in self.list(kind):
                yield each.ref, self._parsed(each)

    def documents(self, kind: str, namespace: str) -> Iterable[Object]:
        """As ``Objects`` has it; slices say all that Endpoints do."""
        if kind == "Endpoints":
            return ()
        try:
            return self.objects(kind, namespace)
        except StoreError:
            return ()

    def pods(self, snapshot: Snapshot) -> Iterable[Pod] | None:  # noqa: ARG002
        """As ``Objects`` has it. Whoever programs a node need not be let see them."""
        try:
            found = [self._parsed(each) for each in self.list("Pod")]
        except StoreError:
            return None
        readable = (values for values in found if not isinstance(values, Damaged))
        return tuple(value for values in readable for value in values if isinstance(value, Pod))

    def desired(self, node: str) -> tuple[Parsed, ...]:
        """What the node of this name programs, but for what cannot be read: the kinds that its daemon follows."""
        self.damaged.clear()
        self.strange.clear()
        found: dict[Ref, tuple[Value, ...]] = {}
        for one in selected(node):
            if one.kind == SERVICE_CIDR:
                found |= {cidr.ref: (cidr,) for cidr in self.service_cidrs()}
                continue
            for each in self._listed(one.kind, one.path, one.query):
                values = self._parsed(each)
                if isinstance(values, Damaged):
                    self.damaged[each.ref] = values
                else:
                    found[each.ref] = values
        if not any(ref.kind == "Node" for ref in (*found, *self.damaged)):
            self._unseen = (*self._unseen, missing_node(self.where, node))
        return tuple(sorted(found.items()))

    def service_cidrs(self) -> tuple[ServiceCIDR, ...]:
        """As ``Objects`` has it; none where the server has none, or does not let us see them (``doubts``)."""
        self._unseen = ()
        try:
            items = self._items(SERVICE_CIDRS, {})
        except Refused as refused:
            if refused.code not in (403, 404):
                raise refusals.failure(refused, self.where) from refused
            if refused.code == 403:
                told = refusals.failure(refused, self.where)
                self._unseen = (f"{told}; until then the configuration's serviceCIDRs count",)
            return ()
        cidrs: list[ServiceCIDR] = []
        for item in items:
            with suppress(Problems):  # it has no name, and no server gives that
                _, values, notes = reading.parse_item(SERVICE_CIDR, item)
                found = [value for value in values if isinstance(value, ServiceCIDR)]
                cidrs += found
                self._note(found[0].ref, notes)
        return tuple(cidrs)

    def doubts(self) -> tuple[str, ...]:
        """As ``Objects`` has it, and what is not to be seen."""
        return (*self._unseen, *super().doubts())

    def _parsed(self, stored: Object | Damaged) -> tuple[Value, ...] | Damaged:
        if isinstance(stored, Damaged):
            return stored
        try:
            _, values, notes = reading.parse_item(stored.kind, stored.raw)
        except Problems as error:
            why = "; ".join(": ".join(filter(None, (each.field, each.message))) for each in error.problems)
            return Damaged(stored.ref, why, frozenset((stored.ref,)), stored.raw)
        self._note(stored.ref, notes)
        return values

    def _note(self, ref: Ref, notes: tuple[str, ...]) -> None:
        if notes:
            self.strange[ref] = notes

    def _listed(self, kind: str, path: str, query: Mapping[str, str]) -> tuple[Object, ...]:
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
        return tuple(sorted((reading.object_of(kind, item) for item in items), key=attrgetter("ref")))

    def _items(self, path: str, query: Mapping[str, str]) -> Sequence[dict[str, Any]]:
        return self._api.run(reading.list_items(self._api.client, path, query, self.where))
