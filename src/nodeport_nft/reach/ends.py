"""One end of a connection, read from what somebody typed. Nothing is looked up here.

An end is an object (``svc/web``, ``pod/web-1``, ``node/worker-2``), a Service by its name in DNS (``web``,
``web.shop``, ``web.shop.svc.cluster.local``), an address, or ``localhost``; each with ``:PORT`` behind it, if any.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address

from msgspec import Struct

from nodeport_nft.kinds import BY_WORD
from nodeport_nft.model import IPAddress
from nodeport_nft.problems import clipped

KINDS = ("Service", "Pod", "Node")
"""What can be at an end of a connection."""

OUTSIDE: Mapping[int, IPAddress] = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")}
"""A client outside the cluster, by IP version: documentation prefixes (RFC 5737, RFC 3849), which nobody has."""

_WORKLOADS = frozenset(
    ("deploy", "deployment", "deployments", "rs", "replicaset", "sts", "statefulset", "ds", "daemonset", "job")
)
"""What kubectl has names for, so that nobody means a namespace by them."""

_PORT_NAME = re.compile(r"(?=[a-z0-9-]*[a-z])[a-z0-9]([a-z0-9-]*[a-z0-9])?")  # IANA_SVC_NAME (RFC 6335)
_DIGITS = re.compile(r"[0-9]{1,5}", re.ASCII)
_LIKE_IPV4 = re.compile(r"[0-9.]+", re.ASCII)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII)


class EndError(ValueError):
    """What was typed names no end of a connection; ``str()`` says why and what to write."""


class End(Struct, frozen=True):
    """What was named: an ``address``, or the object of ``kind`` and ``name``; ``namespace`` "": none was said.

    ``port``: a number, or the name of a port; None: none was said. ``text`` is what was typed.
    """

    text: str
    kind: str = ""
    name: str = ""
    namespace: str = ""
    port: int | str | None = None
    address: IPAddress | None = None


def parse_end(text: str) -> End:
    """The end that ``text`` names. Raises EndError."""
    quoted = f"'{clipped(text)}'"
    if "://" in text:
        raise EndError(f"{quoted} is a URL; write its host and port alone, such as web:80")
    if text.startswith("["):
        inner, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise EndError(f"{quoted} is not an address; write [fd00:30:1::2]:30080")
        return End(text, address=_address(inner, quoted), port=_number(rest, quoted))
    if "/" in text:
        return _object(text, quoted)
    if _DIGITS.fullmatch(text):
        raise EndError(f"{quoted} is a port alone; write svc/NAME:{text} or NODE-ADDRESS:{text}")
    if text.count(":") > 1:
        return End(text, address=_address(text, quoted))
    host, colon, port = text.partition(":")
    if host.lower() == "localhost":
        return End(text, address=ip_address("127.0.0.1"), port=_number(colon + port, quoted))
    if _LIKE_IPV4.fullmatch(host):
        return End(text, address=_address(host, quoted), port=_number(colon + port, quoted))
    return _by_dns_name(text, host, _port(colon + port, quoted), quoted)


def _object(text: str, quoted: str) -> End:
    word, _, rest = text.partition("/")
    resource = BY_WORD.get(word.lower())
    name, colon, port = rest.partition(":")
    if resource is None or resource.kind not in KINDS:
        remedy = "write svc/NAME, pod/NAME, node/NAME or an address"
        if not word:
            raise EndError(f"{quoted}: {remedy}")
        if resource is None and name and word.lower() not in _WORKLOADS:
            remedy += f"; a Service in namespace {clipped(word)} is {clipped(name)}.{clipped(word)}"
        raise EndError(f"{quoted}: {clipped(word)} is nothing that connections go to; {remedy}")
    if not name or "/" in rest:
        raise EndError(f"{quoted}: write {word}/NAME, and the namespace with -n")
    if resource.kind == "Service":
        return _by_dns_name(text, name, _port(colon + port, quoted), quoted)
    read = _port if resource.kind == "Pod" else _number
    return End(text, resource.kind, name, port=read(colon + port, quoted))


def _by_dns_name(text: str, host: str, port: int | str | None, quoted: str) -> End:
    """A Service by the name that pods know it by (DNS-based service discovery of Kubernetes, 2.3)."""
    name, *rest = host.removesuffix(".").lower().split(".")
    if not all(map(_LABEL.fullmatch, (name, *rest))) or (len(rest) > 1 and rest[1] != "svc"):
        raise EndError(
            f"{quoted} is neither an address nor a Service; write 172.30.1.2, NAME, NAME.NAMESPACE, or svc/NAME"
        )
    return End(text, "Service", name, rest[0] if rest else "", port)


def _address(text: str, quoted: str) -> IPAddress:
    try:
        address = ip_address(text)
    except ValueError:
        raise EndError(f"{quoted} is not an address; give one such as 172.30.1.2 or fd00:30:1::2") from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise EndError(f"{quoted}: leave out the zone, from the % on")
    return address


def _number(suffix: str, quoted: str) -> int | None:
    """The port behind an address or a node, which have no names for theirs."""
    port = _port(suffix, quoted)
    if isinstance(port, str):
        raise EndError(f"{quoted}: port {clipped(port)} is a name; only Services and pods have names for ports")
    return port


def _port(suffix: str, quoted: str) -> int | str | None:
    if not suffix:
        return None
    text = suffix.removeprefix(":")
    if _DIGITS.fullmatch(text) and 1 <= int(text) <= 65535:
        return int(text)
    if _PORT_NAME.fullmatch(text):
        return text
    raise EndError(f"{quoted}: port {clipped(text) or 'nothing'} is neither a number from 1 to 65535 nor a name")
