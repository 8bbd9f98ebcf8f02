"""Stores that keep each object as a text of its own: the bytes of a row, of a key, of an entry.

What is asked of most of them is what they are made into, and never what else stands in them.
"""

from __future__ import annotations

import builtins
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

from nodeport_nft.kube import Object
from nodeport_nft.model import TOGETHER, Ref, Value
from nodeport_nft.store.api import Made, Objects
from nodeport_nft.store.objects import Damaged, read_document

_LARGE = 256 << 10
"""Bytes of text that are taken together at most, and one object more: decoded they take ten times as much memory."""


class Body(NamedTuple):
    """What is stored of an object: its JSON as bytes. ``fault``: what is wrong with it besides, "" if nothing is."""

    ref: Ref
    version: str
    text: bytes
    fault: str = ""

    def plain_values(self) -> tuple[Value, ...] | None:
        """What it is made into, at a tenth of the cost, where nothing is to be said: no fault, no unknown field."""
        # Late: whoever only asks for documents does without, and its shapes take as long to make as a hundred rows.
        from nodeport_nft.kube.typed import stored_values

        return None if self.fault else stored_values(self.ref, self.text)


class StoredBodies(Objects):
    """As ``Objects`` has it, for such a store."""

    @abstractmethod
    def bodies(self, kind: str | None = None, namespace: str | None = None) -> Iterator[Body | Damaged]:
        """What ``list`` gives, as it is stored. Raises StoreError where some of all there is may be missing."""

    @abstractmethod
    def body(self, ref: Ref) -> Body | Damaged | None:
        """What ``find`` gives, as it is stored."""

    def list(self, kind: str | None = None, namespace: str | None = None) -> Iterator[Object | Damaged]:
        """As ``Objects`` has it."""
        return map(document_of, self.bodies(kind, namespace))

    def find(self, ref: Ref) -> Object | Damaged | None:
        """As ``Objects`` has it."""
        found = self.body(ref)
        return None if found is None else document_of(found)

    def values(self) -> Iterator[tuple[Ref, tuple[Value, ...] | Damaged]]:
        """As ``Objects`` has it."""
        from nodeport_nft.kube.typed import stored_values_of_each  # late, as above

        self.strange.clear()
        for some in _together(self.bodies()):
            plain = stored_values_of_each([(each.ref, _plain_text(each)) for each in some])
            for each, values in zip(some, plain, strict=True):
                yield each.ref, self._parsed(document_of(each)) if values is None else values

    def value(self, ref: Ref) -> tuple[Value, ...] | Damaged:
        """As ``Objects`` has it."""
        self.strange.pop(ref, None)
        found = self.body(ref)
        return () if found is None else self._made(found)

    def made_of_each(
        self,
        kind: str,
        namespace: str | None,
        of_body: Callable[[str, str, bytes], Made | None],
        of_object: Callable[[Object], Made],
    ) -> builtins.list[Made]:
        """As ``Objects`` has it."""
        made = []
        for each in self.bodies(kind, namespace):
            result = None
            if isinstance(each, Body) and not each.fault:
                result = of_body(each.ref.namespace, each.ref.name, each.text)
            if result is None and isinstance(stored := self._noted(document_of(each)), Object):
                result = of_object(stored)
            if result is not None:
                made.append(result)
        return made

    def _made(self, found: Body | Damaged) -> tuple[Value, ...] | Damaged:
        if isinstance(found, Body) and (values := found.plain_values()) is not None:
            return values
        return self._parsed(document_of(found))


def _together(bodies: Iterator[Body | Damaged]) -> Iterator[list[Body | Damaged]]:
    """A few at a time (``TOGETHER``), and not many of those that are large."""
    some: list[Body | Damaged] = []
    size = 0
    for each in bodies:
        some.append(each)
        if isinstance(each, Body):
            size += len(each.text)
        if len(some) == TOGETHER or size > _LARGE:
            yield some
            some, size = [], 0
    if some:
        yield some


def _plain_text(found: Body | Damaged) -> bytes:
    """What may be made into values the short way; of what has a fault it is nothing, which no document is."""
    return found.text if isinstance(found, Body) and not found.fault else b""


def document_of(found: Body | Damaged) -> Object | Damaged:
    """The object as a document, not parsed."""
    return found if isinstance(found, Damaged) else read_document(*found)
