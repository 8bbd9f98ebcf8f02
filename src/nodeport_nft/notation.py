"""Names and addresses: what the Kubernetes API takes for one, and why a text is none.

The ``*_fault`` functions return what is wrong, with the remedy, or "". The ``parse_*`` functions raise
ValueError with such a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeVar

from nodeport_nft.model import IPAddress, IPNetwork
from nodeport_nft.problems import shown

Value = TypeVar("Value", IPAddress, IPNetwork)

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SERVICE_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
_PREFIX_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_ZEROS = re.compile(r"(?:^|\.)0[0-9]")

_LETTERS = "lower-case letters, digits and '-', a letter or digit at both ends"
_ANY_LETTERS = "letters, digits, '-', '_' and '.', a letter or digit at both ends"


def label_fault(text: str) -> str:
    """Why ``text`` is no RFC 1123 label (namespaces, names of Services and of their ports).

    A Service's name may begin with a digit since Kubernetes 1.36 (KEP-5311).
    """
    if len(text) <= 63 and _LABEL.fullmatch(text):
        return ""
    return f"{shown(text)} is not an RFC 1123 label; use at most 63 characters: {_LETTERS}"


def subdomain_fault(text: str) -> str:
    """Why ``text`` is no RFC 1123 subdomain (names of Pods, Nodes, EndpointSlices and Endpoints)."""
    if len(text) <= 253 and _SUBDOMAIN.fullmatch(text):
        return ""
    return (
        f"{shown(text)} is not an RFC 1123 subdomain; "
        f"use at most 253 characters: labels of {_LETTERS}, with '.' between them"
    )


def is_tolerable(name: str) -> bool:
    """Whether a port's name that a server has let in does no harm where it is written, whatever its rules are."""
    return len(name) <= 253 and _QUALIFIED.fullmatch(name) is not None


def service_name_fault(text: str) -> str:
    """Why ``text`` is not an IANA service name (RFC 6335: container ports and targetPorts given by name)."""
    if len(text) <= 15 and _SERVICE_NAME.fullmatch(text):
        return ""
    return (
        f"{shown(text)} is not a port name (IANA_SVC_NAME); use at most 15 characters: lower-case letters, "
        "digits and single '-' between them, at least one letter"
    )


def label_key_fault(text: str, what: str = "a label key") -> str:
    """Why ``text`` is not a key of a label (a qualified name: ``disk`` or ``example.org/disk``), or no ``what``."""
    prefix, slash, name = text.rpartition("/")
    right = len(name) <= 63 and _QUALIFIED.fullmatch(name)
    if right and not (subdomain_fault(prefix) if slash else ""):
        return ""
    return (
        f"{shown(text)} is not {what}; use at most 63 characters: {_ANY_LETTERS}; "
        "before them, if you like, an RFC 1123 subdomain and '/'"
    )


def label_value_fault(text: str) -> str:
    """Why ``text`` is not a value of a label; an empty one is."""
    if not text or (len(text) <= 63 and _QUALIFIED.fullmatch(text)):
        return ""
    return f"{shown(text)} is not a label value; use at most 63 characters: {_ANY_LETTERS}"


def parse_address(text: str) -> IPAddress:
    """An IP address in its plain form. Raises ValueError.

    Leading zeros are refused (octal to some readers, decimal to others: CVE-2021-29923), and so are
    IPv4-mapped IPv6 addresses, which some programs take for the one family and some for the other, and zones.
    """
    try:
        address: IPAddress = IPv6Address(text) if ":" in text else IPv4Address(text)
    except AddressValueError:
        if _ZEROS.search(text) and ":" not in text:
            raise ValueError(f"{shown(text)} has leading zeros, which read as octal; leave them out") from None
        raise ValueError(f"{shown(text)} is not an IP address; write it as 10.0.0.1 or fd00::1") from None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            raise ValueError(f"{shown(text)} is an IPv4-mapped IPv6 address; write {address.ipv4_mapped}")
        if address.scope_id is not None:
            raise ValueError(f"{shown(text)} has a zone; leave out what follows the '%'")
    return address


def each_once(values: Iterable[Value]) -> tuple[Value, ...]:
    """Addresses or networks without those that have been there before.

    Told apart by their text: the hash of an IPv6 address or network is a number modulo 2^61 - 1, which whoever writes
    them can make the same for thousands, and that of a string is another in each process.
    """
    return tuple({str(value): value for value in values}.values())


def special_fault(address: IPAddress) -> str:
    """Why ``address`` can be no endpoint and no externalIP, as the API has it (ValidateEndpointIP), or "".

    Of multicast it refuses 224.0.0.0/24 and ff02::/16 alone, with whatever flags (RFC 4291, 2.7).
    """
    if address.is_unspecified:
        return _special(address, "is the unspecified address")
    if address.is_loopback:
        return _special(address, "is a loopback address")
    if address.is_link_local:
        return _special(address, "is a link-local address")
    if _is_link_local_multicast(address):
        return _special(address, "is a link-local multicast address")
    return ""


_BROADCAST = IPv4Address("255.255.255.255")


def group_fault(address: IPAddress) -> str:
    """Why ``address`` names no single host: multicast and broadcast, which the API takes; else ""."""
    if address.is_multicast:
        return _special(address, "is a multicast address")
    if address == _BROADCAST:
        return _special(address, "is the broadcast address")
    return ""


def _special(address: IPAddress, what: str) -> str:
    return f"{address} {what}; give one that every node can reach"


def _is_link_local_multicast(address: IPAddress) -> bool:
    if isinstance(address, IPv4Address):
        return address.packed[:3] == b"\xe0\x00\x00"
    return address.packed[0] == 0xFF and address.packed[1] & 0x0F == 2


def parse_network(text: str, *, host_bits: bool = False) -> IPNetwork:
    """A network in CIDR notation; bits behind the prefix are cleared if ``host_bits`` else refused. ValueError."""
    start, slash, length = text.partition("/")
    address = parse_address(start)
    if not slash:
        raise ValueError(f"{shown(text)} has no prefix length; write {_likely_network(address)}")
    if not _PREFIX_LENGTH.fullmatch(length) or int(length) > address.max_prefixlen:
        raise ValueError(f"{shown(text)} is not a CIDR; write an address and a prefix length, as 10.0.0.0/8")
    kind = IPv4Network if isinstance(address, IPv4Address) else IPv6Network
    network = kind((int(address), int(length)), strict=False)
    if network.network_address != address and not host_bits:
        raise ValueError(f"{shown(text)} has bits set behind its prefix; write {network}")
    return network


def _likely_network(address: IPAddress) -> str:
    """What somebody may have meant who left the prefix length out: what ends in zeros is a network, else one host."""
    unit = 8 if address.version == 4 else 16  # what stands between two dots or colons
    length: int = address.max_prefixlen
    while length > unit and not int(address) & ((1 << (address.max_prefixlen - length + unit)) - 1):
        length -= unit
    if not int(address):
        length = 0
    one = f"{address}/{address.max_prefixlen}"
    return one if length == address.max_prefixlen else f"{address}/{length} (or {one} for this one address)"


def socket_address(address: IPAddress, port: int) -> str:
    """``10.244.1.2:80`` or ``[fd00::2]:80`` (RFC 5952, section 6)."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
