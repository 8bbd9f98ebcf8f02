"""Kernel settings that packets need on their way, and nothing else: read, and set only when asked (K6)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nodeport_nft.errors import KernelError
from nodeport_nft.facts import Host
from nodeport_nft.model import Family, IPAddress, IPNetwork
from nodeport_nft.problems import shown

_PROC = Path("/proc/sys")

_FORWARDING_IPV4, _FORWARDING_IPV6 = "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"
_BRIDGE = {Family.IPV4: "net.bridge.bridge-nf-call-iptables", Family.IPV6: "net.bridge.bridge-nf-call-ip6tables"}
_LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"

SETTABLE = frozenset({_FORWARDING_IPV4, _FORWARDING_IPV6, *_BRIDGE.values(), _LIBERAL})
"""Every sysctl that this program may ever read or set."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A setting that is not as it must be. ``setting`` is the sysctl's name, "" where no sysctl is the remedy."""

    setting: str
    value: str
    reason: str

    def __str__(self) -> str:
        if not self.setting:
            return self.reason
        setting = f"{self.setting}={self.value}"
        return f"{self.setting} is not {self.value}: {self.reason}; --set-sysctls, or: sysctl -w {setting}"


def find_missing(
    host: Host,
    families: frozenset[Family],
    pod_cidrs: tuple[IPNetwork, ...],
    service_cidrs: tuple[IPNetwork, ...],
) -> tuple[Missing, ...]:
    """What keeps packets of these families from being forwarded or from having a route, each with its remedy."""
    found = []
    if Family.IPV4 in families:
        found += _check(_FORWARDING_IPV4, "connections are not forwarded to pods")
    if Family.IPV6 in families:
        found += _check(
            _FORWARDING_IPV6,
            "IPv6 connections are not forwarded to pods (a host that forwards ignores router advertisements: "
            "where its default route comes from one, set accept_ra=2 on that interface first)",
        )
    found += _bridge_filtering(host, families, pod_cidrs)
    found += _service_routes(host, families, service_cidrs)
    return tuple(found)


def find_advised(families: frozenset[Family]) -> tuple[Missing, ...]:
    """What connections can do without and are safer with; every host lacks it at first, so it is no trouble.

    Connection tracking takes a segment outside the window for invalid, and what is invalid is not translated: an
    answer reaches the client from the pod's own address, and the client resets the connection. Liberal, it passes all
    segments but resets outside the window (Linux, networking/nf_conntrack-sysctl; kubernetes#74839). A kernel that
    tracks nothing yet has no such setting: ask after the tables are in force. It is the network namespace's own.
    """
    if not families:
        return ()
    return tuple(
        _check(
            _LIBERAL,
            "TCP segments that connection tracking finds outside the window pass untranslated, and whoever gets one "
            "resets the connection",
        )
    )


def read_sysctl(name: str) -> str:
    """The value of a sysctl, one of ``SETTABLE``. Raises KernelError."""
    try:
        return _path(name).read_text(encoding="ascii").strip()
    except OSError as error:
        raise KernelError(f"sysctl {name} cannot be read: {error.strerror}") from error


def set_sysctl(name: str, value: str) -> None:
    """Set a sysctl, one of ``SETTABLE``, to a whole number. Raises KernelError."""
    if not is_value(value):
        raise KernelError(f"sysctl {name} takes a whole number, not {shown(value)}; it stays as it is")
    try:
        _path(name).write_text(value, encoding="ascii")
    except OSError as error:
        raise KernelError(f"sysctl {name} cannot be set to {value}: {error.strerror}") from error


def is_value(text: str) -> bool:
    """Whether one of ``SETTABLE`` can have this value."""
    return re.fullmatch(r"-?[0-9]{1,10}", text) is not None


def _path(name: str) -> Path:
    # A name becomes a path, which must not lead out of /proc/sys, nor to what is none of our business.
    if name not in SETTABLE:
        raise KernelError(f"sysctl {shown(name)} is none that nodeport-nft may touch; it stays as it is")
    return _PROC / name.replace(".", "/")


def _check(name: str, reason: str) -> list[Missing]:
    try:
        value = _path(name).read_text(encoding="ascii").strip()
    except OSError:
        return []  # a kernel without this family has nothing to forward
    return [] if value == "1" else [Missing(name, "1", reason)]


def _bridge_filtering(host: Host, families: frozenset[Family], pod_cidrs: tuple[IPNetwork, ...]) -> list[Missing]:
    """Pods on one bridge answer each other past NAT unless the bridge passes its packets to netfilter."""
    shared = sorted(
        {
            held.interface
            for held in host.addresses
            if held.interface in host.bridges and _among(held.address, pod_cidrs)
        }
    )
    found = []
    for family, name in _BRIDGE.items():
        if not shared or family not in families:
            continue
        reason = f"pods on bridge {', '.join(shared)} do not reach each other through a Service"
        if _path(name).exists():
            found += _check(name, reason)
        else:
            found.append(Missing("", "", f"{reason}; load the module: modprobe br_netfilter"))
    return found


def _among(address: IPAddress, cidrs: tuple[IPNetwork, ...]) -> bool:
    return any(address.version == cidr.version and address in cidr for cidr in cidrs)


def _service_routes(host: Host, families: frozenset[Family], service_cidrs: tuple[IPNetwork, ...]) -> list[Missing]:
    """A process on the node needs some route to a clusterIP before NAT can send the packet elsewhere."""
    found = []
    for cidr in service_cidrs:
        covered = any(_covers(route.prefix, cidr) for route in host.routes)
        has_default = any(source.version == cidr.version for source in host.sources)
        if Family(cidr.version) in families and not covered and not has_default:
            reason = f"no route leads to the service CIDR {cidr}, so processes on this node cannot use clusterIPs"
            remedy = f"ip route add {cidr} dev INTERFACE, and list {cidr} under ownRoutes in the configuration"
            found.append(Missing("", "", f"{reason}; {remedy}"))
    return found


def _covers(route: IPNetwork, cidr: IPNetwork) -> bool:
    return route.version == cidr.version and cidr.subnet_of(route)  # type: ignore[arg-type]  # same version
