"""What each kind of value is made of, and into which field of the configuration it goes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, assert_never

from msgspec.structs import replace

from nodeport_nft.config.config import Config
from nodeport_nft.config.given import Given, as_choice, as_text, each
from nodeport_nft.config.values import (
    bind_address,
    flag,
    integer,
    networks,
    node_addresses,
    port_range,
    seconds,
    servers,
    word_or_networks,
)
from nodeport_nft.model import IPNetwork, NodePortMode
from nodeport_nft.notation import subdomain_fault
from nodeport_nft.problems import clipped, shown
from nodeport_nft.settings import KEYS, Choice, Kind, PathTo, Plain, Seconds, Setting, Whole

__all__ = ["KEYS", "PARSERS", "with_value"]

_FAMILIES = ("ip", "ip6", "inet")  # of tables whose forward hook IP packets pass


def with_value(config: Config, setting: Setting, given: Given) -> Config:
    """The configuration with this value in it. Raises ValueError, which says what is wrong and how to mend it."""
    value = _parse(setting.kind, given)
    for field, part in zip(setting.fields, value if len(setting.fields) > 1 else (value,), strict=True):
        outer, _, inner = field.partition(".")
        changed: dict[str, Any] = {outer: replace(getattr(config, outer), **{inner: part}) if inner else part}
        config = dataclasses.replace(config, **changed)
    return config


def _parse(kind: Kind, given: Given) -> Any:
    """A value of this kind. Raises ValueError."""
    match kind:
        case Plain():
            return PARSERS[kind](given)
        case PathTo(what):
            return _path(given, what)
        case Whole(low, high, what):
            return integer(given, low, high, what)
        case Seconds(least, most):
            return seconds(given, least, most)
        case Choice(words, what):
            return words(as_choice(given, tuple(words), what))
        case _:
            assert_never(kind)


def _path(given: Given, what: str) -> str:
    def parse(text: str) -> str:
        if not text:
            raise ValueError(f"is empty; name {what}")
        return text

    return as_text(given, parse, "a path", f"name {what}")


def _service_networks(given: Given) -> tuple[IPNetwork, ...]:
    cidrs = networks(given)
    if not cidrs or len({cidr.version for cidr in cidrs}) != len(cidrs):
        told = clipped(", ".join(map(str, cidrs))) or "nothing"
        raise ValueError(f"{told} is given; give one network, or one of each family")
    small = [str(cidr) for cidr in cidrs if cidr.max_prefixlen - cidr.prefixlen < 2]
    if small:
        raise ValueError(f"{', '.join(small)} has no room for clusterIPs; use at least a /30 or a /126")
    return cidrs


def _node_port_addresses(given: Given) -> tuple[NodePortMode, tuple[IPNetwork, ...]]:
    found = word_or_networks(given, ("primary", "all"))
    return (NodePortMode(found), ()) if isinstance(found, str) else (NodePortMode.CIDRS, found)


def _claimable(given: Given) -> tuple[IPNetwork, ...] | None:
    """The networks of the external addresses that Services may claim: any (None), none at all, or these."""
    found = word_or_networks(given, ("any", "deny"))
    if isinstance(found, str):
        return None if found == "any" else ()
    return found


def _interface(given: Given) -> str:
    def parse(text: str) -> str:
        if not re.fullmatch(r"[!-~]{1,15}", text) or set(text) & set('"*/\\'):
            raise ValueError(
                f"{shown(text)} is not an interface name; use at most 15 printable characters, without blanks"
            )
        return text

    return as_text(given, parse, "an interface name", "write one name, such as cni0")


def _trusted_chains(given: Given) -> tuple[str, ...]:
    remedy = "write FAMILY TABLE CHAIN, such as ip filter FORWARD"

    def parse(text: str) -> str:
        words = text.split()
        if len(words) != 3:
            raise ValueError(f"{shown(text)} is not a chain; {remedy}")
        if words[0] not in _FAMILIES:
            raise ValueError(
                f"{shown(text)} is not a chain; {remedy}: {shown(words[0])} is not a family, "
                f"which is one of {', '.join(_FAMILIES)}"
            )
        return " ".join(words)

    return each(given.items(), lambda item: as_text(item, parse, "a chain", remedy))


def _user(given: Given) -> str:
    def parse(text: str) -> str:
        if not (text and text.isprintable()):
            raise ValueError(
                f"{shown(text)} is not a name of a user; write one that etcd knows, such as nodeport-nft"
            )
        return text

    return as_text(given, parse, "a user", "write one that etcd knows, such as nodeport-nft")


def _name(given: Given) -> str:
    def parse(text: str) -> str:
        if not (text and text.isprintable()):
            raise ValueError(f"{shown(text)} is not a name; write one of printable characters")
        return text

    return as_text(given, parse, "a name", "write one in quotes")


def _node_name(given: Given) -> str:
    def parse(text: str) -> str:
        if fault := subdomain_fault(text):
            raise ValueError(fault)
        return text

    return as_text(given, parse, "a name", "write the name of the Node object")


def _cluster_domain(given: Given) -> str:
    def parse(text: str) -> str:
        domain = text.removesuffix(".")
        if fault := subdomain_fault(domain):
            raise ValueError(fault)
        return domain

    return as_text(given, parse, "a domain", "write one, such as cluster.local")


PARSERS: dict[Plain, Callable[[Given], Any]] = {
    Plain.SWITCH: flag,
    Plain.PORTS: port_range,
    Plain.NETWORKS: networks,
    Plain.SERVICE_NETWORKS: _service_networks,
    Plain.NODE_PORT_ADDRESSES: _node_port_addresses,
    Plain.CLAIMABLE: _claimable,
    Plain.BIND_ADDRESS: bind_address,
    Plain.INTERFACE: _interface,
    Plain.CHAINS: _trusted_chains,
    Plain.DOMAIN: _cluster_domain,
    Plain.USER: _user,
    Plain.TEXT: _name,
    Plain.SERVERS: servers,
    Plain.NODE_NAME: _node_name,
    Plain.NODE_ADDRESSES: node_addresses,
}
