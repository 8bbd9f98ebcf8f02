"""What is to be probed, by which node, kept up to date object by object. Pure.

A probe that several objects have of one address is run once: slices of several Services name the same backends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from nodeport_nft.model import MEMBER, EndpointSlice, Member, Pod, Probe, Ref, Value
from nodeport_nft.probing.ring import Ring


class Target(Struct, frozen=True):
    """A probe that is run at the first of ``addresses``; its verdict is on all of them.

    Addresses are kept as text: the hash of an IPv6Address is one that whoever writes it can choose.
    """

    namespace: str
    addresses: tuple[str, ...]
    probe: Probe


class Turn(Struct, frozen=True):
    """What a change makes of the work of this node. ``new`` are those of ``begun`` that nobody has known before.

    Of what has ``ended``, what is ``elsewhere`` is another node's now; the rest is nobody's.
    """

    begun: tuple[Target, ...] = ()
    new: frozenset[Target] = frozenset()
    ended: tuple[Target, ...] = ()
    elsewhere: frozenset[Target] = frozenset()


_Place = tuple[str, str]
"""A namespace and an address: all its probes are one node's."""


class Targets:
    """``node`` is this one, which always counts as live. ``mine`` is what it probes."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._ring = Ring()
        self._ring.become({node})
        self._registered: set[str] = set()
        self._has_other_members = False  # than the ring; once for all that come and go together
        self._of: dict[Ref, tuple[tuple[Target, str], ...]] = {}
        self._at: dict[_Place, dict[Target, dict[Ref, str]]] = {}  # with the node that each object names
        self._dirty: dict[_Place, None] = {}
        self._new: set[Target] = set()
        self.mine: dict[_Place, tuple[Target, ...]] = {}

    def __len__(self) -> int:
        """How many this node probes."""
        return sum(map(len, self.mine.values()))

    def put(self, ref: Ref, values: Iterable[Value], before: Iterable[Value] | None = None) -> None:
        """Let an object have these values, none if it is gone.

        ``before``: those that it had until now; its endpoints of other addresses are new. None: nothing is.
        """
        values = tuple(values)
        if ref.kind == MEMBER:
            self._put_member(ref.name, values)
            return
        now = tuple(dict(_targets(values)).items())
        was = self._of.pop(ref, ())
        if now:
            self._of[ref] = now
        if now == was:
            return
        for target, _ in was:
            place = _place(target)
            of_place = self._at[place]
            of_place[target].pop(ref, None)
            if not of_place[target]:
                del of_place[target]
            if not of_place:
                del self._at[place]
            self._dirty[place] = None
        known = None if before is None else {str(address) for address in _addresses(before)}
        fresh = {_place(target) for target, _ in now} - self._at.keys()
        for target, node in now:
            place = _place(target)
            if known is not None and place in fresh and not known.intersection(target.addresses):
                self._new.add(target)
            self._at.setdefault(place, {}).setdefault(target, {})[ref] = node
            self._dirty[place] = None

    def _put_member(self, name: str, values: Iterable[Value]) -> None:
        self._registered.discard(name)
        if any(isinstance(value, Member) and value.is_live and not value.lost_at for value in values):
            self._registered.add(name)
        self._has_other_members = True

    def forget(self) -> None:
        """Nothing is to be probed, and nobody else is there, until it is ``put`` again."""
        self._dirty |= dict.fromkeys(self._at)
        self._registered.clear()
        self._has_other_members = True
        self._of.clear()
        self._at.clear()
        self._new.clear()

    def turn(self) -> Turn:
        """What has become this node's work since it was last asked, and what is so no longer."""
        begun: list[Target] = []
        ended: list[Target] = []
        elsewhere: set[Target] = set()
        if self._has_other_members and self._ring.become({*self._registered, self._node}):
            self._dirty |= dict.fromkeys(self._at)
        self._has_other_members = False
        for place in self._dirty:
            there = self._at.get(place, {})
            was = self.mine.pop(place, ())
            now = tuple(there) if there and self._owner(place, there) == self._node else ()
            if now:
                self.mine[place] = now
            begun += (target for target in now if target not in was)
            gone = [target for target in was if target not in now]
            ended += gone
            elsewhere.update(target for target in gone if target in there)
        new = frozenset(target for target in begun if target in self._new)
        self._dirty.clear()
        self._new.clear()
        return Turn(tuple(begun), new, tuple(ended), frozenset(elsewhere))

    def give_back(self, begun: Iterable[Target]) -> None:
        """These of a ``turn`` could not be begun: they are to be begun by the next."""
        for target in begun:
            place = _place(target)
            self.mine[place] = tuple(each for each in self.mine.get(place, ()) if each != target)
            self._dirty[place] = None

    def _owner(self, place: _Place, there: Mapping[Target, Mapping[Ref, str]]) -> str:
        """Who probes at a place: its own node, if that is live."""
        named = min((node for of in there.values() for node in of.values() if node), default="")
        return named if named in self._ring.names else self._ring.owner("/".join(place))


def _place(target: Target) -> _Place:
    return target.namespace, target.addresses[0]


def _targets(values: Iterable[Value]) -> Iterator[tuple[Target, str]]:
    """What is to be probed of an object, and the node that each is on, "" if that is not known."""
    for value in values:
        if isinstance(value, Pod) and value.ips:
            addresses = tuple(map(str, value.ips))
            for probe in value.probes:
                yield Target(value.namespace, addresses, probe), value.node_name
        elif isinstance(value, EndpointSlice) and value.probe is not None:
            for endpoint in value.endpoints:
                yield Target(value.namespace, (str(endpoint.address),), value.probe), endpoint.node_name


def _addresses(values: Iterable[Value]) -> Iterator[object]:
    for value in values:
        if isinstance(value, Pod):
            yield from value.ips
        elif isinstance(value, EndpointSlice):
            yield from (endpoint.address for endpoint in value.endpoints)
