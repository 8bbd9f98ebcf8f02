"""Consistent hashing (conformance X7): the look-up table of Maglev.

Each endpoint has an order of its own in which it would like to have the slots, taken from a hash of its address and
port alone. They take turns; each takes the first slot of its order that nobody has. The heaviest ones take one at
every turn, one of half their weight at every second, and all of them at the first, so that nobody goes without. So
every node makes the same table of the same endpoints, whatever came before, and when one endpoint comes or goes
nearly all slots stay with whom they were (Eisenbud et al., "Maglev", NSDI 2016, section 3.4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

Endpoint = tuple[str, int]


def maglev(weights: Mapping[Endpoint, int], slots: int) -> tuple[Endpoint, ...]:
    """The endpoint of each slot. ``slots`` is a prime number, weights are at least 1.

    Where there are more endpoints than slots, the last ones get none.
    """
    if not weights:
        return ()
    heaviest = max(weights.values())
    orders = {endpoint: _order(endpoint, slots) for endpoint in weights}
    credits = {endpoint: heaviest - weight for endpoint, weight in weights.items()}
    table: dict[int, Endpoint] = {}
    while True:
        for endpoint, weight in weights.items():
            credits[endpoint] += weight
            if credits[endpoint] < heaviest:
                continue
            credits[endpoint] -= heaviest
            free = next(slot for slot in orders[endpoint] if slot not in table)
            table[free] = endpoint
            if len(table) == slots:
                return tuple(table[slot] for slot in range(slots))


def _order(endpoint: Endpoint, slots: int) -> Iterator[int]:
    """Every slot once: a step that is no multiple of a prime number leads to all of them."""
    digest = hashlib.sha256(f"{endpoint[0]} {endpoint[1]}".encode()).digest()
    start = int.from_bytes(digest[:8]) % slots
    step = int.from_bytes(digest[8:16]) % (slots - 1) + 1
    return ((start + step * turn) % slots for turn in range(slots))
