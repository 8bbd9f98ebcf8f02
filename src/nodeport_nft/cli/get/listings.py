"""What ``get`` puts into tables: a listing of each kind that is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

from msgspec import Struct

from nodeport_nft.cli.listing import Listing
from nodeport_nft.cli.resources import not_found, select
from nodeport_nft.cli.selectors import Selector

if TYPE_CHECKING:
    from nodeport_nft.cli.get.jsonpath import Path
    from nodeport_nft.cli.resources import Target
    from nodeport_nft.config import Config
    from nodeport_nft.kinds import Resource
    from nodeport_nft.kube import Object
    from nodeport_nft.store import Objects
    from nodeport_nft.store.api import Registered


class Wanted(Struct, frozen=True):
    """What is asked for: ``targets`` of a namespace (None: of all), those that ``selector`` picks, in which order.

    ``computes_endpoints``: of objects, too, not only in tables.
    """

    targets: tuple[Target, ...]
    namespace: str | None
    selector: Selector
    sort: Path | None = None
    wide: bool = False
    labels: bool = False
    computes_endpoints: bool = False

    @property
    def needs_documents(self) -> bool:
        """Whether more of an object is asked for than its cells."""
        return bool(self.selector or self.sort or self.labels)


def listings(store: Objects, config: Config, wanted: Wanted) -> tuple[list[Listing], tuple[str, ...]]:
    """A listing for each kind that has objects, and a message for each name that has none.

    Raises PathError where they cannot be sorted.
    """
    found: list[Listing] = []
    missing: list[str] = []
    for resource in dict.fromkeys(resource for resource, _ in wanted.targets):
        asked = tuple(target for target in wanted.targets if target[0] is resource)
        listing, absent = _listing(store, config, resource, asked, wanted)
        if wanted.selector:
            picked = (number for number, each in enumerate(listing.documents) if wanted.selector.picks(each))
            listing = listing.only(tuple(picked))
        if wanted.sort is not None and listing.rows:
            from nodeport_nft.cli.get.sorting import order

            listing = listing.only(order(listing.documents, wanted.sort))
        found += [listing] if listing.rows else []
        missing += absent
    return found, tuple(missing)


def selected(store: Objects, wanted: Wanted) -> tuple[tuple[Object, ...], tuple[str, ...]]:
    """The objects that are asked for, and a message for each name that has none. Raises PathError as above."""
    objects, missing = _selected(store, wanted)
    objects = tuple(stored for stored in objects if wanted.selector.picks(stored.raw))
    if wanted.sort is not None:
        from nodeport_nft.cli.get.sorting import order

        objects = tuple(objects[number] for number in order([stored.raw for stored in objects], wanted.sort))
    return objects, missing


def _selected(store: Objects, wanted: Wanted) -> tuple[tuple[Object, ...], tuple[str, ...]]:
    if not wanted.computes_endpoints:
        return select(store, wanted.targets, wanted.namespace)
    from nodeport_nft.cli.get.endpoints import computed_endpoints

    found: list[Object] = []
    missing: list[str] = []
    for resource, group in groupby(wanted.targets, lambda target: target[0]):
        several = tuple(group)
        if resource.kind == "Endpoints":
            some, absent = computed_endpoints(store, [name for _, name in several], wanted.namespace)
        else:
            some, absent = select(store, several, wanted.namespace)
        found += some
        missing += absent
    return tuple(found), tuple(missing)


def with_registered(
    store: Objects, config: Config, targets: tuple[Target, ...], namespace: str | None
) -> tuple[tuple[Object, ...], tuple[str, ...], dict[str, Registered] | None]:
    """What ``select`` finds, the nodes that have registered among it; and these, None where no node does."""
    from nodeport_nft.cli.nodes import registered_nodes, select_nodes

    registered = registered_nodes(config) if any(resource.kind == "Node" for resource, _ in targets) else None
    if registered is None:
        return (*select(store, targets, namespace), None)
    found: list[Object] = []
    missing: list[str] = []
    for resource, group in groupby(targets, lambda target: target[0]):
        several = tuple(group)
        is_node = resource.kind == "Node"
        some, absent = select_nodes(store, several, registered) if is_node else select(store, several, namespace)
        found += some
        missing += absent
    return tuple(found), tuple(missing), registered


def utc_now() -> datetime:
    """The time by which ages are told."""
    return datetime.now(UTC)


def _listing(
    store: Objects, config: Config, resource: Resource, asked: tuple[Target, ...], wanted: Wanted
) -> tuple[Listing, tuple[str, ...]]:
    from nodeport_nft.cli.columns import object_listing, services_listing

    names = [name for _, name in asked if name is not None]
    if resource.kind == "Endpoints":
        return _endpoints(store, config, resource, names, wanted)
    if resource.kind == "Service" and not (names or wanted.needs_documents):
        return services_listing(store, wanted.namespace, wide=wanted.wide, now=utc_now()), ()
    objects, absent, registered = with_registered(store, config, asked, wanted.namespace)
    if registered is not None:
        from nodeport_nft.cli.nodes import nodes_listing

        return nodes_listing(objects, registered, wide=wanted.wide, now=utc_now()), absent
    heard = store.heard() if resource.kind == "Pod" else ()
    return object_listing(resource.kind, objects, wide=wanted.wide, now=utc_now(), heard=heard), absent


def _endpoints(
    store: Objects, config: Config, resource: Resource, names: list[str], wanted: Wanted
) -> tuple[Listing, tuple[str, ...]]:
    """The endpoints of Services, which are computed, and those that no Service has."""
    from nodeport_nft.cli.columns import endpoints_listing, endpoints_rows
    from nodeport_nft.cli.get.endpoints import endpoints_documents
    from nodeport_nft.store import is_kubernetes

    namespace = wanted.namespace
    # An API server says the same in slices, and does without Endpoints.
    stored: Iterable[Object] = () if is_kubernetes(config.store) else store.objects("Endpoints", namespace)
    rows = endpoints_rows(store.snapshot(), stored, namespace)
    missing = set(names) - {key.name for key, _, _ in rows}
    if names:
        rows = [row for name in names for row in rows if row[0].name == name]
    services = store.objects("Service", namespace) if wanted.needs_documents else ()
    documents = endpoints_documents(services, stored)
    absent = tuple(not_found(resource, namespace or "", name) for name in names if name in missing)
    return endpoints_listing(rows, documents, now=utc_now()), absent
