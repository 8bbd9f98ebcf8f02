"""What documents repeat, understood once: addresses, networks, names and times. A text that is none is ``None``.

Of very many addresses few differ before the last dot or colon, so that part is looked at once, and the rest is a sum:
``IPv4Address`` takes ten times as long to read its text.
"""

from __future__ import annotations

import string
import sys
from collections.abc import Collection
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from nodeport_nft.kube.annotations import is_ours
from nodeport_nft.kube.metadata import utc_time
from nodeport_nft.model import IPAddress, IPNetwork, Protocol
from nodeport_nft.notation import group_fault, label_fault, parse_address, parse_network, special_fault

PROTOCOLS: dict[str | None, Protocol] = {
    None: Protocol.TCP,
    "": Protocol.TCP,
    **{str(protocol): protocol for protocol in Protocol},
}
"""What the word of a port says; without one it is TCP."""

_OCTETS = {str(number): number for number in range(256)}
_HEX_DIGITS = frozenset(string.hexdigits)


def endpoint_address(text: str) -> IPAddress | None:
    """An address that traffic can be sent to, and that names a single host."""
    if ":" not in text:
        head, _, last = text.rpartition(".")
        network = _ipv4_network(head)
        octet = _OCTETS.get(last)
        return None if network is None or octet is None else IPv4Address(network + octet)
    head, _, last = text.rpartition(":")
    network = _ipv6_network(head)
    if network is None or not (1 <= len(last) <= 4 and _HEX_DIGITS.issuperset(last)):  # int() reads 0x1, too
        return None
    return IPv6Address(network + int(last, 16))


@lru_cache(4096)
def _ipv4_network(head: str) -> int | None:
    """The first of the 256 addresses that begin so, None if one of them is no host's."""
    return _network(f"{head}.0", f"{head}.255")


@lru_cache(4096)
def _ipv6_network(head: str) -> int | None:
    """The first of the 65,536 addresses that begin so, None if one of them is no host's."""
    return _network(f"{head}:0", f"{head}:ffff")


def _network(first: str, last: str) -> int | None:
    try:
        ends = parse_address(first), parse_address(last)
    except ValueError:
        return None
    return None if any(special_fault(end) or group_fault(end) for end in ends) else int(ends[0])


@lru_cache(1024)
def network(text: str) -> IPNetwork | None:
    """A network whose text has no bits behind its prefix."""
    try:
        return parse_network(text)
    except ValueError:
        return None


@lru_cache(4096)
def is_label(text: str) -> bool:
    """Whether it is an RFC 1123 label."""
    return not label_fault(text)


@lru_cache(4096)
def time(text: str) -> str | None:
    """An RFC 3339 time as ``Metadata`` has it."""
    found = utc_time(text)
    return None if found is None else sys.intern(found)


@lru_cache(4096)
def _is_foreign(key: str) -> bool:
    return not is_ours(key)


def are_foreign(keys: Collection[str] | None) -> bool:
    """Whether none of these labels or annotations is one of ours, or a slip of one."""
    return not keys or all(map(_is_foreign, keys))
