"""What is known of one kind of object at an API server, and what of it is yet to be told. Pure: no network, no clock.

All there is comes as a ``Listing``, what changes as events. After a list that was made anew only what differs is
told: an object with the same uid and resourceVersion is the same. Versions are all that is kept of them.

Revisions (resourceVersions) can be compared as numbers (KEP-5504). One that has gone back is that of a server whose
etcd was restored: there the same version may be of another object, and no version counts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from msgspec import Struct, field

from nodeport_nft.kinds import BY_KIND
from nodeport_nft.kube.typed import values_of
from nodeport_nft.model import Ref, Value
from nodeport_nft.problems import Problem, Problems
from nodeport_nft.store.kubernetes.decoding import Item, revision_of
from nodeport_nft.store.kubernetes.reading import parse_item
from nodeport_nft.store.objects import Damaged

Texts = tuple[str, ...]

_ANY_OF_THEM = frozenset((Ref("", "", ""),))
"""What is meant by an object without a name: who is told of it takes nothing for gone."""


class Listing(Struct):
    """All objects of the kind, while they come in: the ``versions`` of all, and ``changed``, what is to be told."""

    base: dict[Ref, str]
    versions: dict[Ref, str] = field(default_factory=dict)
    changed: dict[Ref, tuple[Value, ...] | Damaged] = field(default_factory=dict)
    notes: dict[Ref, Texts] = field(default_factory=dict)
    is_complete: bool = True


class Known:
    """The objects of one ``kind`` that a server has told of. ``revision``: up to where, "" before the first list.

    ``is_listed``: all there is has been told once. ``is_current``: and what has changed since can be asked for.
    ``pending`` are the values that are to be told, ``untold`` the warnings; whoever tells them empties both.
    ``damaged`` is there and cannot be read: its last good state stays.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.revision = ""
        self.is_listed = self.is_current = False
        self.pending: dict[Ref, tuple[Value, ...]] = {}
        self.damaged: dict[Ref, Damaged] = {}
        self.untold: dict[Ref, Texts] = {}
        self._notes: dict[Ref, Texts] = {}
        self._versions: dict[Ref, str] = {}

    def __len__(self) -> int:
        return len(self._versions)

    def forget(self) -> None:
        """Everything is to be told once more, by a list that begins from now on."""
        self.is_listed = self.is_current = False
        self._versions, self.pending, self.damaged = {}, {}, {}

    def begin(self) -> Listing:
        """Take all there is with this, then ``adopt`` it."""
        return Listing(self._versions)

    def note(self, listing: Listing, items: Iterable[Item]) -> None:
        """These are some of all there is."""
        for item in items:
            ref = self._ref(item)
            if not item.name:
                listing.is_complete = False  # which one that is is not known
                listing.changed[ref] = Damaged(ref, item.why, _ANY_OF_THEM)
                continue
            listing.versions[ref] = item.identity
            if listing.base.get(ref) != item.identity:
                listing.changed[ref] = self._read(ref, item, listing.notes)

    def adopt(self, listing: Listing, revision: str) -> bool:
        """Let these be all there is, at this revision.

        False where they cannot be: the revision has gone back, and they were compared with what is of another
        history, or all was forgotten meanwhile. Then list once more.
        """
        if self.is_listed and is_behind(revision, self.revision):
            self.distrust()
            return False
        if listing.base is not self._versions:
            return False
        gone = self._versions.keys() - listing.versions.keys() if listing.is_complete else set()
        for ref in gone:
            self._put(ref, (), {})
        if not listing.is_complete:
            listing.versions |= dict.fromkeys(self._versions.keys() - listing.versions.keys(), "")
        self.damaged.pop(Ref(self.kind, "", ""), None)
        self._versions = listing.versions
        for ref, values in listing.changed.items():
            self._put(ref, values, listing.notes)
        self.revision = revision
        self.is_listed = True
        self.is_current = listing.is_complete  # else it is listed again once the watch has ended
        return True

    def change(self, item: Item, *, deleted: bool) -> bool:
        """One object is as it is here, or has been deleted; whether that is news."""
        ref = self._ref(item)
        if not self.is_listed:
            return False  # a list is yet to come, and has it
        if not item.name:
            self.damaged[ref] = Damaged(ref, item.why, _ANY_OF_THEM)
            self.missed()
            return True
        self.reached(revision_of(item))
        if deleted:
            if self._versions.pop(ref, None) is None:
                return False
            self._put(ref, (), {})
            return True
        if self._versions.get(ref) == item.identity:
            return False
        self._versions[ref] = item.identity
        notes: dict[Ref, Texts] = {}
        self._put(ref, self._read(ref, item, notes), notes)
        return True

    def reached(self, revision: str) -> None:
        """Everything up to this revision has been told."""
        if revision and not is_behind(revision, self.revision):
            self.revision = revision

    def distrust(self) -> None:
        """Versions are of another history: at the next list everything is read anew."""
        self._versions = dict.fromkeys(self._versions, "")
        self.revision = ""
        self.is_current = False

    def missed(self) -> None:
        """Something that has changed will not be told: everything is to be listed."""
        self.is_current = False

    def _put(self, ref: Ref, values: tuple[Value, ...] | Damaged, notes: dict[Ref, Texts]) -> None:
        self.damaged.pop(ref, None)
        before, now = self._notes.pop(ref, ()), notes.get(ref, ())
        self.untold.pop(ref, None)
        if now:
            self._notes[ref] = now
        if fresh := tuple(text for text in now if text not in before):
            self.untold[ref] = fresh
        if isinstance(values, Damaged):
            self.damaged[ref] = values
            return
        self.pending.pop(ref, None)  # the order in which they are told is that of their changes
        self.pending[ref] = values

    def _ref(self, item: Item) -> Ref:
        known = BY_KIND.get(self.kind)
        return Ref(self.kind, sys.intern(item.namespace) if known and known.namespaced else "", item.name)

    def _read(self, ref: Ref, item: Item, notes: dict[Ref, Texts]) -> tuple[Value, ...] | Damaged:
        if item.document is not None:
            # The selector is for Pods, of which none is an endpoint here; 8 MB of 10,000 Services.
            values = values_of(ref, item.document, with_selector=False)
            if values is not None:
                return values
            item = item.untyped()
        if item.raw is None:
            return Damaged(ref, item.why, frozenset((ref,)))
        if self.kind == "Service" and isinstance(spec := item.raw.get("spec"), dict):
            spec.pop("selector", None)
        try:
            read = parse_item(self.kind, item.raw)
        except Problems as error:
            why = "; ".join(map(_text, error.problems))
            return Damaged(ref, why, frozenset((ref,)))
        if read.notes:
            notes[ref] = read.notes
        return read.values


def is_behind(revision: str, other: str) -> bool:
    """Whether a server at ``revision`` has yet to come to the ``other``; False where either is not a number."""
    return revision.isdecimal() and other.isdecimal() and int(revision) < int(other)


def _text(problem: Problem) -> str:
    return ": ".join(filter(None, (problem.field, problem.message)))
