"""Stores that keep each object as a text of its own: how many of them are in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nodeport_nft.store import Damaged
from nodeport_nft.store.bodies import Body
from nodeport_nft.store.memory import MemoryStore
from tests.unit.test_store import NOW, RANGES, service


class Counting(MemoryStore):
    """Counts what has been asked for."""

    taken = 0

    def bodies(self, kind: str | None = None, namespace: str | None = None) -> Iterator[Body | Damaged]:
        for each in super().bodies(kind, namespace):
            self.taken += 1
            yield each


@pytest.mark.parametrize(("size", "most"), [(0, 64), (30_000, 9), (200_000, 2)])
def test_few_that_are_large_are_taken_at_a_time(size: int, most: int) -> None:
    with Counting(RANGES) as store:
        made = [service(f"web-{number}") for number in range(70)]
        for each in made:
            each.raw["metadata"]["annotations"] = {"example.org/note": "x" * size}
        store.write(made, now=NOW)
        ahead = [store.taken - before for before, _ in enumerate(store.values())]
    assert len(ahead) == 70
    assert max(ahead) == most
