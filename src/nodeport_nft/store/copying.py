"""All of one store in another: the move of a node's file into a cluster's etcd, the way back, and a backup.

Objects are copied as they are stored, of one moment: with their uids, creation times and numbers, also those outside
of the ranges that are configured by now, and with what is remembered of them. Claims are not copied but made of the
objects, so a copy agrees with itself whatever the store was like.

Versions are kept where the other store can have them. A file has a version for each object alone: those of a file are
kept as they are, those of etcd too, but where it wrote several objects at once: these follow each other. In etcd a
version is the revision at which it was written there, so all are new.

What cannot be read cannot be copied. Everything else is, and it is told: half a backup is better than none.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from nodeport_nft.kinds import BY_KIND, KINDS
from nodeport_nft.kube import Object
from nodeport_nft.model import ObjectName, Ref
from nodeport_nft.store.checking import Claim, Contents, Outside, View
from nodeport_nft.store.holders import claimed_from_outside
from nodeport_nft.store.leftovers import spec_of
from nodeport_nft.store.objects import Damaged
from nodeport_nft.store.trimming import trimmed


class Image(Struct, frozen=True):
    """What is to be in the copy. ``version``: the latest that the store has given.

    ``claims``: who holds what. ``dropped``: the specs that came last with what was dropped of them. ``of_manifests``:
    what manifests wrote, where the store knows it. ``unreadable``: what is not in it. ``doubled``: how many claims
    several objects make.
    """

    objects: tuple[Object, ...]
    claims: Mapping[Claim, ObjectName]
    outside: frozenset[Outside]
    dropped: Mapping[Ref, dict[str, Any]]
    of_manifests: frozenset[Ref] = frozenset()
    version: int = 0
    unreadable: tuple[Damaged, ...] = ()
    doubled: int = 0

    @property
    def counts(self) -> str:
        """How many objects of which kinds there are."""
        return counted(each.ref for each in self.objects)


def image_of(
    contents: Contents, dropped: Mapping[Ref, bytes], version: int, of_manifests: frozenset[Ref] = frozenset()
) -> Image:
    """The copy of this; ``dropped`` as it is stored."""
    view = View.of(contents)
    objects = tuple(each for each in contents.objects if isinstance(each, Object))
    refs = {each.ref for each in objects}
    claims: dict[Claim, ObjectName] = {}
    # Of one that is a document, and means nothing to us, the claims are all that says what it holds.
    for claim, holder in contents.claims.items():
        if holder is not None and Ref("Service", *holder) in view.unparsed:
            claims[claim] = holder
    for claim in view.wanted:
        keeper = view.keeper(claim, contents.claims.get(claim))
        if keeper is not None and Ref("Service", *keeper) in refs:
            claims[claim] = keeper
        elif keeper is not None:  # what cannot be read is not in the copy
            claims[claim] = view.wanted[claim][0]
    outside = {Outside(ip, each.key) for each in view.services.values() for ip in claimed_from_outside(each)}
    specs = {ref: spec for ref, text in dropped.items() if ref in refs and (spec := _spec(text)) is not None}
    unreadable = tuple(each for each in contents.objects if isinstance(each, Damaged))
    doubled = sum(len(who) > 1 for who in view.wanted.values())
    return Image(objects, claims, frozenset(outside), specs, of_manifests & refs, version, unreadable, doubled)


def body_of(stored: Object) -> bytes:
    """Its document as a store keeps it, without what an earlier version has kept and this one would not."""
    metadata = {key: value for key, value in stored.raw["metadata"].items() if key != "resourceVersion"}
    return json.dumps(trimmed({**stored.raw, "metadata": metadata}), separators=(",", ":")).encode()


def counted(refs: Any) -> str:
    """How many objects of which kinds these are: "2 services and 1 node"."""
    found = Counter(ref.kind for ref in refs)
    told = [_number(found[kind], kind) for kind in KINDS if found[kind]]
    others = sum(count for kind, count in found.items() if kind not in BY_KIND)
    told += [f"{others:,} that {'are' if others > 1 else 'is'} none"] if others else []
    return " and ".join(filter(None, (", ".join(told[:-1]), *told[-1:]))) or "no objects"


def _number(count: int, kind: str) -> str:
    return f"{count:,} {BY_KIND[kind].plural if count > 1 else BY_KIND[kind].singular}"


def _spec(text: bytes) -> dict[str, Any] | None:
    try:
        return spec_of({"spec": json.loads(text)})
    except (ValueError, RecursionError):  # a damaged one is as none
        return None
