"""The order in which free numbers are looked for: upper band first, from a start that a hash gives.

Linear probing from a hashed start: it visits every number exactly once, needs no state, and two keys meet
only where their starts are close.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from nodeport_nft.model import IPAddress, IPNetwork, PortRange


def probe_ports(key: str, ports: PortRange) -> Iterator[int]:
    """Every port of the range, in ``key``'s order; the lower band last (KEP-3668)."""
    size = ports.last - ports.first + 1
    band = 0 if size <= 16 else min(max(16, size // 32), 128)
    return (ports.first + offset for offset in _probe(key, size, band))


def probe_ips(key: str, network: IPNetwork) -> Iterator[IPAddress]:
    """Every usable address of the network, in ``key``'s order; the lower band last (KEP-3070)."""
    offsets = usable_offsets(network)
    band = 0 if network.num_addresses <= 16 else min(max(16, network.num_addresses // 16), 256)
    size = max(0, offsets.stop - offsets.start)  # len() ends at 2^63
    return (network[offsets[i]] for i in _probe(key, size, band))


def usable_offsets(network: IPNetwork) -> range:
    """Where in the network a Service's address may lie: not first, and in IPv4 not last (broadcast)."""
    return range(1, network.num_addresses - (1 if network.version == 4 else 0))


def _probe(key: str, size: int, band: int) -> Iterator[int]:
    start = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")
    for first, last in ((band, size), (0, band)):
        count = last - first
        for i in range(count):
            yield first + (start + i) % count
