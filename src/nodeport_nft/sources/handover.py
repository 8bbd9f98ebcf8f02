"""What the follower of manifests has just written, for the source that follows the same store in the same process.

Whoever has written an object has its values finished already. The source that hears of the write would read the row
back and parse it, only to get the same; so it is handed the values instead. It believes them for a row of that very
version alone: what others have written before, in between or afterwards has other versions, and is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from msgspec import Struct

from nodeport_nft.model import Ref, Value

File = tuple[int, int]
"""A store's file, by device and inode."""


class Finished(Struct, frozen=True):
    """What an object was written as: its version, and the values that whoever reads it makes of it."""

    version: str
    values: tuple[Value, ...]


class Handover:
    """Between one writer and one source, on the thread of one event loop.

    ``idle`` is set while no write is under way. A source that notices a write meanwhile waits for it: the commit is
    seen a moment before its writer has come back to the loop and handed anything over. ``lost`` is called by the
    source when the store cannot be read: its writer can perhaps write it anew.
    """

    def __init__(self) -> None:
        self.idle = asyncio.Event()
        self.idle.set()
        self.lost: Callable[[], None] = lambda: None
        self._file: File | None = None
        self._finished: dict[Ref, Finished] = {}

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A write is under way until the block ends."""
        self.idle.clear()
        try:
            yield
        finally:
            self.idle.set()

    def give(self, file: File | None, finished: Mapping[Ref, Finished]) -> None:
        """This was written to this file, after what was given before."""
        if file != self._file:
            self._finished.clear()
        self._file = file
        self._finished.update(finished)

    def take(self, file: File | None) -> Mapping[Ref, Finished]:
        """What was written to this file since the last call; nothing if it was another one."""
        finished, self._finished = self._finished, {}
        return finished if file == self._file else {}
