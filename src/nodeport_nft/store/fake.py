"""A source without a store, for tests of whoever follows one: as strict as the real ones, and as late as is wanted.

It keeps what ``Source`` promises, and ends whoever asks for more than that: a second wait at a time, anything after
``close``. What is told is chosen by the test: ``put``, ``delete``, ``spoil``, ``warn``, ``fail``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from nodeport_nft.model import Ref, Value
from nodeport_nft.store.api import Change, Changes


class FakeSource:
    """A ``Source``. Until ``listed`` it has nothing to tell; one that was not at first lists late each time."""

    def __init__(self, *, listed: bool = True) -> None:
        self._listed = listed
        self._lists_late = not listed
        self._objects: dict[Ref, tuple[Value, ...]] = {}
        self._unreadable: set[Ref] = set()
        self._news: dict[Ref, None] = {}
        self._warnings: list[str] = []
        self._fault = ""
        self._whole = True
        self._woken = asyncio.Event()
        self._waits = False
        self._is_closed = False

    # --- what a test lets happen --------------------------------------------------------------------------

    def list_all(self) -> None:
        """All kinds have been listed."""
        self._listed = True
        self._woken.set()

    def put(self, ref: Ref, values: Iterable[Value]) -> None:
        """An object is as it is written; one without values is of no use here, and there nevertheless."""
        self._objects[ref] = tuple(values)
        self._unreadable.discard(ref)
        self._note(ref)

    def delete(self, ref: Ref) -> None:
        """An object is gone."""
        self._objects.pop(ref, None)
        self._unreadable.discard(ref)
        self._note(ref)

    def spoil(self, ref: Ref) -> None:
        """An object is there and cannot be read."""
        self._objects.pop(ref, None)
        self._unreadable.add(ref)
        self._note(ref)

    def warn(self, text: str) -> None:
        """Something is to be said once, with what is taken next."""
        self._warnings.append(text)

    def fail(self, fault: str) -> None:
        """The store cannot be reached for this reason; "": it can."""
        self._fault = fault
        self._woken.set()

    def _note(self, ref: Ref) -> None:
        self._news[ref] = None
        self._woken.set()

    # --- Source -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """As ``Source``."""
        self._check()
        await asyncio.Event().wait()

    async def changed(self) -> None:
        """As ``Source``."""
        self._check()
        if self._waits:
            raise AssertionError("two wait for the same source")
        self._waits = True
        try:
            await self._woken.wait()
        finally:
            self._waits = False

    def take(self) -> Changes:
        """As ``Source``."""
        self._check()
        self._woken.clear()
        if not self._listed or self._fault:
            return Changes()
        whole, news = self._whole, self._news
        if whole:
            news = dict.fromkeys(self._objects)
        changes = tuple(Change(ref, self._objects.get(ref, ())) for ref in news if ref not in self._unreadable)
        warnings, self._warnings = tuple(self._warnings), []
        self._whole, self._news = False, {}
        return Changes(changes, whole, frozenset(self._unreadable), warnings)

    def forget(self) -> None:
        """As ``Source``."""
        self._check()
        self._whole = True
        self._listed = not self._lists_late

    def problems(self) -> tuple[str, ...]:
        """As ``Source``."""
        self._check()
        unreadable = [f"{ref} cannot be read; apply it again or delete it" for ref in sorted(self._unreadable)]
        return (self._fault, *unreadable) if self._fault else tuple(unreadable)

    def close(self) -> None:
        """As ``Source``."""
        self._check()
        self._is_closed = True

    def _check(self) -> None:
        if self._is_closed:
            raise AssertionError("a source that is closed is asked")
