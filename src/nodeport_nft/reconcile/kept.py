"""What cannot be read keeps what the kernel has of it, also for a process that has never read it.

After a restart nothing is known of a damaged Service but its name. The kernel still has what the last good state made
of it, and its elements say whose they are: in their comments, chains and sets of its own in their names. From these a
``Contender`` is made as ``compile`` would have made it, and from then on it is one among the others.

A damaged EndpointSlice, Pod or Endpoints object takes endpoints from Services that can be read. So what the kernel
sends to an endpoint that no readable object mentions, it goes on sending there, as long as there is a damaged one
that may have named it.

Which object a row is about may be damaged, too. Then every owner that the store does not know is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from ipaddress import ip_address

from msgspec import Struct, field

from nodeport_nft.compile import COMMENT_LIMIT, LOCAL_SLOTS
from nodeport_nft.compile.schema import NODE_PORTS, VIPS, Kind
from nodeport_nft.flows import led_to
from nodeport_nft.kinds import KINDS
from nodeport_nft.model import Family, IPAddress, ObjectName, Ref, Service
from nodeport_nft.plan import ListedTable
from nodeport_nft.resolve import Backend, Frontend, FrontendKind, Index, Place
from nodeport_nft.ruleset import Chain, Contender, Element, Goto, Key, Pool, Schema, Shared

Listed = Mapping[Family, ListedTable | None]

Wants = Mapping[Family, Contender | None]
"""What one Service wants in the two tables."""


def cluster_ips(wants: Wants) -> set[IPAddress]:
    """The clusterIPs of a Service, by what it wants: nobody else may claim them."""
    shared = (each for contender in wants.values() if contender for each in contender.shared)
    return {ip_address(str(key[0])) for name, key in shared if name == "cluster-ips"}


_CUT = COMMENT_LIMIT - 9
"""How much of a comment is left where it was too long: see ``compile.comment``."""

_Frontend = tuple[Family, FrontendKind, Key]
_KINDS = ((VIPS, FrontendKind.CLUSTER_IP), (NODE_PORTS, FrontendKind.NODE_PORT))


class Kept(Struct):
    """``services``: what Services that cannot be read want. ``endpoints``: those of others that nobody else names.

    ``refs`` are the objects that cannot be read.
    """

    refs: set[Ref] = field(default_factory=set)
    services: dict[ObjectName, Wants] = field(default_factory=dict)
    endpoints: dict[ObjectName, dict[_Frontend, tuple[Backend, ...]]] = field(default_factory=dict)

    @classmethod
    def of(cls, unreadable: Collection[Ref], index: Index, schemas: Mapping[Family, Schema], listed: Listed) -> Kept:
        """What the kernel, which holds ``listed``, keeps of what is ``unreadable`` beside the objects of ``index``.

        ``schemas`` are those of the tables to be; in the kernel there may be others yet.
        """
        kept = cls(set(unreadable))
        if not unreadable:
            return kept
        in_kernel = {f: _KernelTable(table, schemas[f]) for f, table in listed.items() if table is not None}
        lost = {ObjectName(ref.namespace, ref.name) for ref in unreadable if ref.kind == "Service"}
        if any(ref.kind not in KINDS for ref in unreadable):
            known = {str(key)[:_CUT] for key in index.services}
            lost |= {owner for each in in_kernel.values() for owner in each.owners() if str(owner) not in known}
        for owner in lost - index.services.keys():
            wants = {family: in_kernel[family].contender(owner) if family in in_kernel else None for family in Family}
            if any(wants.values()):
                kept.services[owner] = wants
        for key in sorted(index.services):
            if kept.may_have_named(key):
                found = _orphans(key, index, in_kernel)
                if found:
                    kept.endpoints[key] = found
        return kept

    def may_have_named(self, key: ObjectName) -> bool:
        """Whether an object that cannot be read may name endpoints of this Service."""
        return any(
            ref.kind not in KINDS
            or (ref.kind == "Endpoints" and (ref.namespace, ref.name) == key)
            or (ref.kind in ("EndpointSlice", "Pod") and ref.namespace == key.namespace)
            for ref in self.refs
        )

    def release(self, ref: Ref) -> set[ObjectName]:
        """The object can be read now, or is gone; the Services that this touches."""
        touched: set[ObjectName] = set()
        key = ObjectName(ref.namespace, ref.name)
        if ref.kind == "Service" and key in self.services:
            touched.add(key)
        was_unreadable = ref in self.refs
        self.refs.discard(ref)
        if was_unreadable and all(ref.kind in KINDS for ref in self.refs):
            named = {ObjectName(ref.namespace, ref.name) for ref in self.refs if ref.kind == "Service"}
            touched |= self.services.keys() - named
        for touched_key in touched:
            del self.services[touched_key]
        freed = {key for key in self.endpoints if not self.may_have_named(key)} if was_unreadable else set()
        for freed_key in freed:
            del self.endpoints[freed_key]
        return touched | freed

    def completed(self, service: Service, frontends: Iterable[Frontend]) -> tuple[Frontend, ...]:
        """A Service's frontends with the endpoints that are kept for it."""
        own = self.endpoints.get(service.key)
        return tuple(_completed(frontend, own) for frontend in frontends) if own else tuple(frontends)


def _completed(frontend: Frontend, in_kernel: Mapping[_Frontend, tuple[Backend, ...]]) -> Frontend:
    """A frontend with the endpoints that the kernel has for it and nobody else names."""
    kept = in_kernel.get(_identity(frontend), ())
    more = [backend for backend in kept if (backend.address, backend.port) not in _ends(frontend.backends)]
    if not more:
        return frontend
    local = frontend.local_backends
    if local is not None:
        here = [b for b in more if b.place is Place.HERE and (b.address, b.port) not in _ends(local)]
        local = _sorted((*local, *here))
    return frontend._replace(backends=_sorted((*frontend.backends, *more)), local_backends=local)


def _identity(frontend: Frontend) -> _Frontend:
    """By which key the kernel has a frontend; externalIPs are in one map with clusterIPs."""
    address = () if frontend.address is None else (str(frontend.address),)
    kind = FrontendKind.NODE_PORT if frontend.kind is FrontendKind.NODE_PORT else FrontendKind.CLUSTER_IP
    return frontend.family, kind, (*address, frontend.protocol.lower(), frontend.port)


def _ends(backends: Iterable[Backend]) -> set[tuple[object, int]]:
    return {(backend.address, backend.port) for backend in backends}


def _sorted(backends: Iterable[Backend]) -> tuple[Backend, ...]:
    return tuple(sorted(backends, key=lambda b: (b.address.version, int(b.address), b.port)))


def _orphans(
    key: ObjectName, index: Index, in_kernel: Mapping[Family, _KernelTable]
) -> dict[_Frontend, tuple[Backend, ...]]:
    """The endpoints that the kernel has for a Service and that no object which can be read says anything of."""
    service = index.services[key]
    named = {endpoint.address for piece in index.slices(service) for endpoint in piece.endpoints}
    if service.selector:
        named |= {ip for pod in index.selected(service) for ip in pod.ips}
    found: dict[_Frontend, tuple[Backend, ...]] = {}
    for family, each in in_kernel.items():
        for (kind, frontend_key), backends in each.backends(key).items():
            orphans = tuple(backend for backend in backends if backend.address not in named)
            if orphans:
                found[family, kind, frontend_key] = orphans
    return found


class _KernelTable:
    """One table of the kernel, asked whose its elements are."""

    def __init__(self, listed: ListedTable, schema: Schema) -> None:
        self._listed = listed
        self._shared = {chain.name for chain in schema.chains}

    def owners(self) -> set[ObjectName]:
        """Everybody whose frontends are in the table; of very long names what comments have room for."""
        owners = set()
        for text in {element.comment for kind, _ in _KINDS for element in self._map(kind.map).values()}:
            namespace, slash, rest = text[:_CUT].partition("/")
            if slash:
                owners.add(ObjectName(namespace, rest.partition(":")[0]))
        return owners

    def contender(self, owner: ObjectName) -> Contender | None:
        """What this owner has in the table; None for nothing."""
        chains = self._chains(owner)
        frontends = tuple(
            pools
            for kind, _ in _KINDS
            for key in self._keys(kind, owner)
            if (pools := self._pools(kind, key, chains))
        )
        # A Service of another proxy has nothing that names it: what nobody else has of this kind may be its own.
        shared: dict[Shared, None] = dict.fromkeys(
            ("foreign-cluster-ips", key) for key in self._map("foreign-cluster-ips")
        )
        maps = {name: m for name, m in self._listed.own_maps.items() if frontends and _is_of(owner, name)}
        shared |= dict.fromkeys((name, key) for name, m in maps.items() if not m.learned for key in self._map(name))
        for pools in frontends:
            shared |= self._shared_by(pools, chains)
        if not shared and not frontends:
            return None
        # First in line: it has these frontends now, and whether somebody is older than it is not known.
        return Contender(
            ("", *owner),
            frontends,
            tuple(shared),
            tuple(maps.values()),
            tuple(chains.values()) if frontends else (),
        )

    def _shared_by(self, pools: tuple[Pool, ...], chains: Mapping[str, Chain]) -> dict[Shared, None]:
        """Which elements that others may have as well are in the table for a frontend."""
        key = pools[0].key
        found: dict[Shared, None] = {}
        if pools[0].map == VIPS.map and key[:1] in self._map("cluster-ips"):
            found["cluster-ips", key[:1]] = None
        for address, port in {end for pool in pools for end in self._ends_of(pool, chains)}:
            hairpin = (address, address, key[-2], port)
            if hairpin in self._map("hairpin-connections"):
                found["hairpin-connections", hairpin] = None
        return found

    def backends(self, owner: ObjectName) -> dict[tuple[FrontendKind, Key], tuple[Backend, ...]]:
        """The endpoints behind each of an owner's frontends."""
        chains = self._chains(owner)
        found: dict[tuple[FrontendKind, Key], tuple[Backend, ...]] = {}
        for kind, what in _KINDS:
            for key in self._keys(kind, owner):
                weights: Counter[tuple[str, int]] = Counter()
                here: set[tuple[str, int]] = set()
                for pool in self._pools(kind, key, chains):
                    ends = Counter(self._ends_of(pool, chains))
                    weights |= ends
                    here |= ends.keys() if pool.first == LOCAL_SLOTS else set()
                found[what, key] = tuple(
                    Backend(ip_address(end), port, self._place(end, port, key, here), 1 if pool.fixed else weight)
                    for (end, port), weight in weights.items()
                )
        return found

    def _place(self, end: str, port: int, key: Key, here: Collection[tuple[str, int]]) -> Place:
        is_here = (end, port) in here or (end, end, key[-2], port) in self._map("hairpin-connections")
        return Place.HERE if is_here else Place.ELSEWHERE

    def _chains(self, owner: ObjectName) -> dict[str, Chain]:
        """The chains that are an owner's alone, but for those that somebody has changed into what we never write."""
        chains = self._listed.own_chains.items()
        return {n: chain for n, chain in chains if _is_of(owner, n) and n not in self._listed.unreadable}

    def _keys(self, kind: Kind, owner: ObjectName) -> list[Key]:
        is_own = _comment_of(owner)
        return [key for key, element in self._map(kind.map).items() if is_own(element.comment)]

    def _pools(self, kind: Kind, key: Key, chains: Mapping[str, Chain]) -> tuple[Pool, ...]:
        """A frontend; empty where it leads to a chain that is not there, or that cannot be read."""
        pools = []
        for name in (kind.map, kind.inside, kind.firewall):
            element = self._map(name).get(key)
            if element is None:
                continue
            verdict = element.value
            if not isinstance(verdict, Goto) or not (verdict.chain in self._shared or verdict.chain in chains):
                return ()
            is_hashed = verdict.chain.endswith("/maglev")
            first = LOCAL_SLOTS if verdict.chain.startswith(f"{kind.chain}-local/") else 0
            is_shared = verdict.chain in self._shared and verdict.chain.startswith(kind.chain)
            ends = tuple(self._slots(kind, key, first)) if is_shared and name != kind.firewall else ()
            slots = kind.slots if ends else ""
            pools.append(
                Pool(name, key, verdict, slots, ends, element.comment, first if ends else 0, fixed=is_hashed)
            )
        return tuple(pools)

    def _slots(self, kind: Kind, key: Key, first: int) -> Iterator[tuple[str, int]]:
        elements, slot = self._map(kind.slots), first
        while (element := elements.get((*key, slot))) is not None and isinstance(element.value, tuple):
            yield element.value
            slot += 1

    def _ends_of(self, pool: Pool, chains: Mapping[str, Chain]) -> tuple[tuple[str, int], ...]:
        """The endpoints behind a verdict, in its slots or in the chains that it leads to."""
        return pool.endpoints or tuple(sorted(set(led_to(pool.verdict.chain, chains))))

    def _map(self, name: str) -> Mapping[Key, Element]:
        return self._listed.elements.get(name, {})


def _is_of(owner: ObjectName, name: str) -> bool:
    """Whether a chain or set of this name is a Service's own: ``affinity/NAMESPACE/NAME/…``, ``firewall/…``."""
    return name.split("/")[1:3] == list(owner)


def _comment_of(owner: ObjectName) -> Callable[[str], bool]:
    """Tells the comments of this owner's elements, also of those that were cut (see ``compile.comment``)."""
    text = str(owner)

    def is_own(comment: str) -> bool:
        if comment == text or comment.startswith(f"{text}:"):
            return True
        cut = comment[:_CUT]
        return len(comment) == COMMENT_LIMIT and comment[-9] == "~" and f"{text}:".startswith(cut)

    return is_own
