"""What must change in the kernel: (applied, desired) → one ordered transaction.

``Desired`` holds the elements a table should have and who asked for them. Services come and go through
``update``, which touches what that service has and nothing else; what it changed is collected until
``take_edits``. Three things are decided here, because they need to know the other services or the past:

* *Contested frontends* (conformance F10). Two services may want one key. The older one holds it, with its whole
  pool; when it leaves, the next in line takes over.
* *Shared elements* (clusterIPs, hairpin pairs) are counted: the last owner's leaving removes them.
* *Places*. An endpoint that stays keeps its slot, so that a change is a bounded number of elements; a leaver's slot
  is filled with the last one, since slots must be dense (see ``compile``). Where a table is adopted, the places
  are those the kernel holds.

A ``Transaction`` is a value: an ordered tuple of operations that ``render`` can print and a kernel can run.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from nodeport_nft.ruleset import Contender, Element, Elements, Key, Pool, Rank, Schema, Table


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete elements of one map or set."""

    map: str
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Add:
    """Add elements to one map or set."""

    map: str
    elements: tuple[Element, ...]


@dataclass(frozen=True, slots=True)
class Replace:
    """Put a whole table in place, also of one of the same name."""

    table: Table


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete a table."""

    family: str
    name: str


@dataclass(frozen=True, slots=True)
class Transaction:
    """Operations on one family's table, in order; the kernel takes all of them or none (K1).

    ``late``: it only clears up and is to be committed after those that are not, on its own.
    """

    family: str
    name: str
    operations: tuple[Delete | Add | Replace | Remove, ...] = ()
    late: bool = False

    def __bool__(self) -> bool:
        return bool(self.operations)

    @property
    def size(self) -> int:
        """How many elements it adds and deletes, a replaced table's own included."""
        return sum(_size(operation) for operation in self.operations)


def _size(operation: Delete | Add | Replace | Remove) -> int:
    match operation:
        case Delete(keys=keys):
            return len(keys)
        case Add(elements=elements):
            return len(elements)
        case Replace(table=table):
            return sum(len(elements) for elements in table.elements.values())
        case Remove():
            return 1


@dataclass(frozen=True, slots=True)
class Contest:
    """A frontend that ``loser`` wants and ``holder`` has."""

    map: str
    key: Key
    holder: Rank
    loser: Rank


Claim = tuple[str, Key]
"""What owners compete for: a verdict map and a key."""

Edits = Mapping[str, Mapping[Key, tuple[Element | None, Element | None]]]
"""By map and key: the element as it was and as it should be."""


def place(before: Sequence[tuple[str, int]], endpoints: Sequence[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Assign endpoints to slots 0 to n-1, moving as few as possible.

    Every endpoint that stays within the first n slots keeps its slot. Newcomers and those from beyond fill the
    holes in order. For one endpoint more or less, at most two slots change.
    """
    wanted = set(endpoints)
    slots: list[tuple[str, int] | None] = []
    kept: set[tuple[str, int]] = set()
    for endpoint in before[: len(endpoints)]:
        stays = endpoint in wanted and endpoint not in kept
        slots.append(endpoint if stays else None)
        if stays:
            kept.add(endpoint)
    slots += [None] * (len(endpoints) - len(slots))
    homeless = iter([endpoint for endpoint in endpoints if endpoint not in kept])
    return tuple(next(homeless) if slot is None else slot for slot in slots)


@dataclass(slots=True)
class Desired:
    """The elements one table should have, kept up to date owner by owner.

    ``adopted``: the elements the kernel has at the start, consulted for the places of endpoints alone.
    """

    adopted: Elements = field(default_factory=dict)
    elements: dict[str, dict[Key, Element]] = field(default_factory=lambda: defaultdict(dict))
    _owners: dict[tuple[str, str], Contender] = field(default_factory=dict)
    _claims: dict[Claim, list[Rank]] = field(default_factory=dict)
    _held: dict[Claim, tuple[Pool, ...]] = field(default_factory=dict)
    _shares: Counter[tuple[str, Key]] = field(default_factory=Counter)
    _edits: dict[str, dict[Key, tuple[Element | None, Element | None]]] = field(
        default_factory=lambda: defaultdict(dict)
    )

    def update(self, owner: tuple[str, str], contender: Contender | None) -> None:
        """Let ``owner`` want what ``contender`` says and nothing else; None: nothing at all."""
        before = self._owners.pop(owner, None)
        if contender is not None:
            self._owners[owner] = contender
        touched: dict[Claim, None] = {}
        for claim in _claims(before):
            assert before is not None
            self._claims[claim].remove(before.rank)
            touched[claim] = None
        for claim in _claims(contender):
            assert contender is not None
            bisect.insort(self._claims.setdefault(claim, []), contender.rank)
            touched[claim] = None
        # All that is given up is cleared before anything is filled: two pools may lie in one slot map.
        for claim in touched:
            self._vacate(claim)
        for claim in touched:
            self._settle(claim)
        self._share(contender.shared if contender else (), +1)
        self._share(before.shared if before else (), -1)

    def put(self, elements: Iterable[tuple[str, Element]]) -> None:
        """Want elements that belong to the table itself."""
        for name, element in elements:
            self._set(name, element.key, element)

    def contests(self) -> tuple[Contest, ...]:
        """Every frontend that more than one owner wants, sorted."""
        lost = ((c, ranks[0], r) for c, ranks in self._claims.items() if len(ranks) > 1 for r in ranks[1:])
        return tuple(sorted((Contest(*c, h, r) for c, h, r in lost), key=lambda c: (c.loser, c.map, str(c.key))))

    def take_edits(self) -> Edits:
        """What has changed since the last call; an element that is back to what it was is not among it."""
        edits, self._edits = self._edits, defaultdict(dict)
        return {
            name: changed
            for name, pairs in edits.items()
            if (changed := {key: pair for key, pair in pairs.items() if pair[0] != pair[1]})
        }

    def _wanted(self, claim: Claim) -> tuple[Pool, ...]:
        """The frontend of the first in line; nothing if nobody is."""
        ranks = self._claims[claim]
        if not ranks:
            return ()
        return next(f for f in self._owners[ranks[0][1:]].frontends if (f[0].map, f[0].key) == claim)

    def _vacate(self, claim: Claim) -> None:
        """Clear what a frontend has and will not have."""
        wanted = self._wanted(claim)
        maps, places = {pool.map for pool in wanted}, {(pool.slots, pool.first) for pool in wanted}
        for pool in self._held.get(claim, ()):
            if pool.map not in maps:
                self._set(pool.map, pool.key, None)
            if (pool.slots, pool.first) not in places:
                self._fill(pool, ())

    def _settle(self, claim: Claim) -> None:
        """Give a frontend to the first in line, and its slots to that one's endpoints."""
        wanted = self._wanted(claim)
        if not wanted:
            del self._claims[claim]
            self._held.pop(claim, None)
            return
        self._held[claim] = wanted
        for pool in wanted:
            self._set(pool.map, pool.key, Element(pool.key, pool.verdict, pool.comment))
            self._fill(pool, pool.endpoints)

    def _fill(self, pool: Pool, endpoints: Sequence[tuple[str, int]]) -> None:
        before = tuple(_slots(self.elements[pool.slots], pool))
        placed = place(before or tuple(_slots(self.adopted.get(pool.slots, {}), pool)), endpoints)
        for slot, value in enumerate(placed, pool.first):
            key = (*pool.key, slot)
            self._set(pool.slots, key, Element(key, value, pool.comment))
        for slot in range(pool.first + len(placed), pool.first + len(before)):
            self._set(pool.slots, (*pool.key, slot), None)

    def _share(self, shared: Iterable[tuple[str, Element]], step: int) -> None:
        for name, element in shared:
            self._shares[name, element.key] += step
            if not self._shares[name, element.key]:
                del self._shares[name, element.key]
                self._set(name, element.key, None)
            elif step > 0:
                self._set(name, element.key, element)

    def _set(self, name: str, key: Key, element: Element | None) -> None:
        elements = self.elements[name]
        before = elements.get(key)
        if element == before:
            return
        first = self._edits[name].get(key, (before, None))[0]
        self._edits[name][key] = first, element
        if element is None:
            del elements[key]
        else:
            elements[key] = element


def _claims(contender: Contender | None) -> tuple[Claim, ...]:
    return tuple((pools[0].map, pools[0].key) for pools in contender.frontends) if contender else ()


def _slots(elements: Mapping[Key, Element], pool: Pool) -> Iterator[tuple[str, int]]:
    """What stands in the slots of a pool, from the first one up to the first empty one."""
    slot = pool.first
    while (element := elements.get((*pool.key, slot))) is not None:
        assert isinstance(element.value, tuple)  # the values of a slot map
        yield element.value
        slot += 1


def diff_elements(have: Elements, want: Elements) -> Edits:
    """Every element that differs between two states of a table."""
    edits: dict[str, dict[Key, tuple[Element | None, Element | None]]] = {}
    for name in {**have, **want}:
        old, new = have.get(name, {}), want.get(name, {})
        changed: dict[Key, tuple[Element | None, Element | None]] = {
            key: (element, new.get(key)) for key, element in old.items() if new.get(key) != element
        }
        changed |= {key: (None, element) for key, element in new.items() if key not in old}
        if changed:
            edits[name] = changed
    return edits


def plan_edits(schema: Schema, edits: Edits) -> tuple[Transaction, ...]:
    """What carries out ``edits`` on a table of this schema: one transaction, or none where nothing differs.

    Where elements leave a map in which they linger, a late one follows that deletes them.

    An element cannot be changed in place: it is deleted and added, and since the kernel commits both at once no
    packet finds it missing. The order is fixed (deletions first, maps in the schema's order, keys sorted), so that
    the same edits give the same bytes.
    """
    deletions: list[Delete] = []
    additions: list[Add] = []
    late: list[Delete] = []
    for declared in schema.maps:
        pairs = sorted(edits.get(declared.name, {}).items())
        lingering = tuple(key for key, (_, new) in pairs if new is None and declared.lingers)
        leaving = tuple(key for key, (old, new) in pairs if old is not None and (new or not declared.lingers))
        coming = tuple(new for _, (_, new) in pairs if new is not None)
        late += [Delete(declared.name, lingering)] if lingering else []
        deletions += [Delete(declared.name, leaving)] if leaving else []
        additions += [Add(declared.name, coming)] if coming else []
    now = Transaction(schema.family, schema.name, (*deletions, *additions))
    after = Transaction(schema.family, schema.name, tuple(late), late=True)
    return tuple(transaction for transaction in (now, after) if transaction)


def plan_replacement(schema: Schema, elements: Elements) -> Transaction:
    """One transaction that puts a whole table in place, with no moment in between for a packet to see."""
    return Transaction(schema.family, schema.name, (Replace(Table(schema, elements)),))
