"""``store.copying`` for etcd: read at one revision, and written below a prefix where nothing is.

etcd takes no more than some dozens of Services at once, so a copy that is cut in between leaves a part. Services come
last: whoever follows the store already sees none without its endpoints.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from nodeport_nft.model import Ref
from nodeport_nft.store.checking import Claim, Outside
from nodeport_nft.store.copying import Image, body_of, counted, image_of
from nodeport_nft.store.errors import StoreError
from nodeport_nft.store.etcd import layout
from nodeport_nft.store.etcd.checking import item_key, reading
from nodeport_nft.store.etcd.client import Blocking
from nodeport_nft.store.etcd.errors import EtcdError, Outcome
from nodeport_nft.store.etcd.transactions import Step

_MOST_UNSURE = 3
"""How often a transaction that was never answered is tried again."""


def read_image(etcd: Blocking) -> Image:
    """All below the prefix. Raises EtcdError."""
    read = reading(etcd)
    return image_of(read.contents, read.dropped, read.revision)


def write_image(etcd: Blocking, image: Image) -> None:
    """All of it below the prefix. Raises StoreError where something is there, where others write, or etcd fails."""
    where = etcd.client.connection
    found = reading(etcd)
    if not found.is_empty:
        there = counted(each.ref for each in found.contents.objects)
        raise StoreError(
            f"{where} is not empty: it has {there}, in {len(found.revisions):,} keys; name another prefix, or empty "
            f"it with `etcdctl del --prefix {where.prefix}/`"
        )
    done = 0
    try:
        for step in _steps(image):
            _commit(etcd, step)
            done += len(step.refs)
    except StoreError as error:
        if not done:
            raise
        raise StoreError(
            f"{error}\n{done:,} of {len(image.objects):,} objects are copied; empty {where} with "
            f"`etcdctl del --prefix {where.prefix}/` and copy again"
        ) from error


def _steps(image: Image) -> Iterator[Step]:
    """Transactions as large as etcd takes them."""
    held: dict[Ref, list[Claim | Outside]] = {}
    for claim, name in image.claims.items():
        held.setdefault(Ref("Service", *name), []).append(claim)
    for each in image.outside:
        held.setdefault(Ref("Service", *each.name), []).append(each)
    joined = Step()
    for stored in sorted(image.objects, key=lambda one: (one.kind == "Service", one.ref)):
        ref = stored.ref
        step = Step([ref], puts={layout.object_key(ref): body_of(stored)})
        for item in held.get(ref, ()):
            step.puts[item_key(item)] = b"" if isinstance(item, Outside) else f"{ref.namespace}/{ref.name}".encode()
        if ref in image.dropped:
            step.puts[layout.dropped_key(ref)] = json.dumps(image.dropped[ref]).encode()
        step.depends.update(dict.fromkeys(step.puts, 0))
        if not step.fits():
            raise StoreError(f"{ref}: is more than etcd takes in one transaction; give it fewer ports, or less in it")
        both = joined.joined(step)
        if both.fits():
            joined = both
            continue
        yield joined
        joined = step
    if joined.refs:
        yield joined


def _commit(etcd: Blocking, step: Step) -> None:
    unsure = 0
    while True:
        try:
            committed = etcd.run(etcd.client.commit(step.compares, step.operations))
        except EtcdError as error:
            unsure += 1
            if error.outcome is not Outcome.UNKNOWN or unsure > _MOST_UNSURE:
                raise
            continue
        if committed.succeeded:
            return
        key, value = next(iter(step.puts.items()))
        found = etcd.run(etcd.client.get(key)) if unsure else None
        if found is not None and found.value == value:  # done, by the one that was never answered
            return
        raise StoreError(f"{etcd.client.connection}: others write there; copy while nobody does")
