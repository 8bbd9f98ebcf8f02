"""The order in which free numbers are looked for: upper band first, from a start that a hash gives.

Linear probing from a hashed start: it visits every number exactly once, needs no state, and two keys meet
only where their starts are close.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from nodeport_nft.model import IPAddress, IPNetwork, PortRange


class FreePorts:
    """Looks for one free port after the other, the lower band of the range last (KEP-3668).

    What was taken before is passed over in one step: so many ports of one Service cost what they are, however close
    their starts lie, and who chooses the names chooses the starts. ``is_free`` may turn false for a port, never true.
    """

    def __init__(self, ports: PortRange, is_free: Callable[[int], bool]) -> None:
        self._ports = ports
        self._size = ports.last - ports.first + 1
        self._is_free = is_free
        self._next: dict[int, int] = {}  # by an offset that is taken: the next one that may be free

    def find(self, key: str) -> int:
        """The first free port in ``key``'s order; 0 if there is none."""
        band = 0 if self._size <= 16 else min(max(16, self._size // 32), 128)
        for first, last in ((band, self._size), (0, band)):
            start = first + _start(key) % max(1, last - first)
            for begin, end in ((start, last), (first, start)):
                offset = self._first_free(begin, end)
                if offset < end:
                    return self._ports.first + offset
        return 0

    def _first_free(self, begin: int, end: int) -> int:
        """The first offset from ``begin`` on that is free; ``end`` or more if there is none before it."""
        at, passed = begin, []
        while at < end and (at in self._next or not self._is_free(self._ports.first + at)):
            passed.append(at)
            at = self._next.get(at, at + 1)
        self._next |= dict.fromkeys(passed, at)
        return at


def probe_ips(key: str, network: IPNetwork) -> Iterator[IPAddress]:
    """Every usable address of the network, in ``key``'s order; the lower band last (KEP-3070)."""
    offsets = usable_offsets(network)
    band = 0 if network.num_addresses <= 16 else min(max(16, network.num_addresses // 16), 256)
    size = max(0, offsets.stop - offsets.start)  # len() ends at 2^63
    return (network[offsets[i]] for i in _probe(key, size, band))


def usable_offsets(network: IPNetwork) -> range:
    """Where in the network a Service's address may lie: not first, and in IPv4 not last (broadcast)."""
    return range(1, network.num_addresses - (1 if network.version == 4 else 0))


def _start(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def _probe(key: str, size: int, band: int) -> Iterator[int]:
    start = _start(key)
    for first, last in ((band, size), (0, band)):
        count = last - first
        for i in range(count):
            yield first + (start + i) % count
