"""``store.checking`` in etcd: everything below the prefix at one revision, and repairs that are committed if it still
is as it was found.

Others may write meanwhile. A repair that they were faster than is judged anew on what is there then.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import ip_address

from msgspec import Struct

from nodeport_nft.agenda import apart
from nodeport_nft.kinds import KINDS
from nodeport_nft.kube import Object
from nodeport_nft.model import IPAddress, ObjectName, Ref
from nodeport_nft.store.checking import Checked, Claim, Contents, Finding, Item, Note, Outside, findings
from nodeport_nft.store.errors import StoreError
from nodeport_nft.store.etcd import layout
from nodeport_nft.store.etcd.client import Blocking
from nodeport_nft.store.etcd.errors import EtcdError, Outcome
from nodeport_nft.store.etcd.statuses import about_members
from nodeport_nft.store.etcd.values import Delete, KeyValue, Operation, Put, is_unchanged
from nodeport_nft.store.objects import Damaged, read_document

_OF_NODES = (layout.MEMBERS, layout.PROGRESS)
"""What nodes say of themselves: it ends with their leases, and is not looked at here."""

_TOGETHER = 32
"""Repairs in one transaction: four keys each at most, of the 128 that etcd takes."""

_MOST_TRIES = 100
_MOST_UNSURE = 3
_LONGEST_PAUSE = 0.5  # seconds


class Reading(Struct, frozen=True):
    """All there is at one ``revision``; ``revisions`` are those of keys, ``dropped`` what was noted of objects."""

    contents: Contents
    revision: int
    revisions: Mapping[str, int]
    dropped: Mapping[Ref, bytes]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing but what nodes say of themselves."""
        return not self.revisions


class KeyWords:
    """How etcdctl calls it (``checking.Words``)."""

    def __init__(self, etcd: Blocking) -> None:
        self._root = f"{etcd.client.connection.prefix}/"

    def key(self, key: str) -> str:
        """A key in full."""
        return self._root + key

    def item(self, item: Item) -> str:
        """A claim or a note."""
        return self.key(item_key(item))

    def object(self, ref: Ref) -> str:
        """An object."""
        return self.key(layout.object_key(ref))

    def removal(self, ref: Ref) -> str:
        """How to get rid of it."""
        return f"etcdctl del '{self.object(ref)}', if it is no use to you"


def check(etcd: Blocking, *, repair: bool) -> Checked:
    """What is wrong below the prefix and with the members; with ``repair``, what is after it. Raises EtcdError."""
    mended: dict[Finding, None] = {}
    unsure: set[Finding] = set()
    doubts = 0
    for attempt in range(_MOST_TRIES):
        words, read = KeyWords(etcd), reading(etcd)
        found = findings(read.contents, words)
        mended |= dict.fromkeys(unsure.difference(found))
        if not repair or not any(each.repair for each in found):
            about, wrong, hints = about_members(etcd)
            if read.is_empty:
                hints = (*hints, f"{etcd.client.connection}: nothing is kept there; see whether it is named right")
            return Checked((*wrong, *found), tuple(mended), about, hints)
        # Those that others disturb do not keep the rest from being done.
        batches = _batches([each for each in found if each.repair], 1 if attempt else _TOGETHER)
        for batch in batches:
            try:
                if _committed(etcd, batch, read.revisions):
                    mended |= dict.fromkeys(batch)
            except EtcdError as error:
                doubts += 1
                if error.outcome is not Outcome.UNKNOWN or doubts > _MOST_UNSURE:
                    raise
                unsure.update(batch)
                break
        if attempt:
            time.sleep(apart(attempt, _LONGEST_PAUSE))
    raise StoreError(f"{etcd.client.connection}: others have changed what was to be repaired {_MOST_TRIES} times")


def _batches(found: Sequence[Finding], size: int) -> Iterator[Sequence[Finding]]:
    for start in range(0, len(found), size):
        yield found[start : start + size]


def _committed(etcd: Blocking, batch: Collection[Finding], revisions: Mapping[str, int]) -> bool:
    """Whether these repairs were done; not where anything that they rest on has changed."""
    depends: dict[str, int] = {}
    operations: list[Operation] = []
    for repair in (each.repair for each in batch if each.repair):
        key = item_key(repair.item)
        for each in (key, *map(layout.object_key, repair.depends)):
            depends[each] = revisions.get(each, 0)
        value = b"" if isinstance(repair.item, Outside) else str(repair.holder).encode()
        operations.append(Delete(key) if repair.holder is None else Put(key, value))
    compares = [is_unchanged(key, revision) for key, revision in depends.items()]
    return etcd.run(etcd.client.commit(compares, operations)).succeeded


def item_key(item: Item) -> str:
    """Where it is kept."""
    match item:
        case Outside(ip, name):
            return f"{layout.outside_prefix(ip)}{name}"
        case Note(_, ref):
            return layout.dropped_key(ref)
        case int():
            return layout.port_key(item)
        case _:
            return layout.ip_key(item)


def reading(etcd: Blocking) -> Reading:
    """Everything below the prefix at one revision. Raises EtcdError."""
    listing = etcd.run(etcd.client.list_all())
    return _Sorted(KeyWords(etcd), listing.keys).reading(listing.position.revision)


class _Sorted:
    """Keys, each put where it belongs. One that is not written as we write it is another key, and none of ours."""

    def __init__(self, words: KeyWords, found: Sequence[KeyValue]) -> None:
        self._words = words
        self._found = [each for each in found if not each.key.startswith(_OF_NODES)]
        self._objects: list[Object | Damaged] = []
        self._claims: dict[Claim, ObjectName | None] = {}
        self._outside: set[Outside] = set()
        self._dropped: dict[Ref, bytes] = {}
        self._strange: list[Finding] = []

    def reading(self, revision: int) -> Reading:
        """All of them."""
        for each in self._found:
            if fault := self._place(each):
                remedy = f"etcdctl del '{self._words.key(each.key)}', unless another program has put it there"
                self._strange.append(Finding(self._words.key(each.key), fault, remedy))
        self._objects.sort(key=lambda each: each.ref)
        notes = frozenset(Note(layout.DROPPED, ref) for ref in self._dropped)
        contents = Contents(tuple(self._objects), self._claims, frozenset(self._outside), notes, tuple(self._strange))
        return Reading(contents, revision, {each.key: each.mod_revision for each in self._found}, self._dropped)

    def _place(self, found: KeyValue) -> str:
        """Put a key where it belongs; why it belongs nowhere, else."""
        key = found.key
        if key.startswith(layout.OBJECTS):
            ref = layout.object_ref(key)
            if layout.object_key(ref) != key:
                return "is the key of no object"
            self._objects.append(read_document(ref, str(found.mod_revision), found.value))
        elif key.startswith((layout.PORTS, layout.IPS)):
            claim = layout.claimed(key)
            if claim is None or item_key(claim) != key:
                return "is neither a nodePort of five digits nor an address"
            self._claims[claim] = layout.holder(found.value)
        elif key.startswith(layout.OUTSIDE):
            outside = _outside(key)
            if outside is None or item_key(outside) != key:
                return "is not an address with a Service's namespace and name"
            self._outside.add(outside)
        elif key.startswith(layout.DROPPED):
            ref = layout.dropped_ref(key)
            if ref.kind not in KINDS or layout.dropped_key(ref) != key:
                return "is the key of no object"
            self._dropped[ref] = found.value
        else:
            return "is nothing that nodeport-nft keeps"
        return ""


def _outside(key: str) -> Outside | None:
    claim = layout.outside_claim(key)
    if claim is None or not all(claim[1]):
        return None
    text = claim[0].removeprefix(layout.OUTSIDE).removesuffix("/")
    try:
        ip: IPAddress = ip_address(text)
    except ValueError:
        return None
    return Outside(str(ip), claim[1])
