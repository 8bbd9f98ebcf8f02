"""Consistent hashing (conformance X7): the look-up table of Maglev.

Each endpoint has an order of its own in which it would like to have the slots, taken from a hash of its address and
port alone. They take turns; each takes the first slot of its order that nobody has, and one of weight w takes w at a
turn. So every node makes the same table of the same endpoints, whatever came before, and when one endpoint comes or
goes nearly all slots stay with whom they were (Eisenbud et al., "Maglev", NSDI 2016, section 3.4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import cycle


def maglev(endpoints: Sequence[tuple[str, int]], slots: int) -> tuple[tuple[str, int], ...]:
    """The endpoint of each slot. ``slots`` is a prime number; an endpoint of weight w stands w times in a row.

    Where there are more endpoints than slots, the last ones get none.
    """
    if not endpoints:
        return ()
    orders = {endpoint: _order(endpoint, slots) for endpoint in endpoints}
    table: dict[int, tuple[str, int]] = {}
    for endpoint in cycle(endpoints):
        free = next(slot for slot in orders[endpoint] if slot not in table)
        table[free] = endpoint
        if len(table) == slots:
            return tuple(table[slot] for slot in range(slots))
    raise AssertionError("a cycle ends")


def _order(endpoint: tuple[str, int], slots: int) -> Iterator[int]:
    """Every slot once: a step that is no multiple of a prime number leads to all of them."""
    digest = hashlib.sha256(f"{endpoint[0]} {endpoint[1]}".encode()).digest()
    start = int.from_bytes(digest[:8]) % slots
    step = int.from_bytes(digest[8:16]) % (slots - 1) + 1
    return ((start + step * turn) % slots for turn in range(slots))
