"""Kernel settings that packets need on their way, and nothing else: read, and set only when asked (K6)."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from msgspec import Struct

from nodeport_nft.config import Config
from nodeport_nft.errors import KernelError
from nodeport_nft.facts import Host
from nodeport_nft.model import Family, IPAddress, IPNetwork
from nodeport_nft.problems import shown
from nodeport_nft.store.kubernetes.connection import is_kubernetes

_PROC = Path("/proc/sys")

_FORWARDING_IPV4, _FORWARDING_IPV6 = "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"
_BRIDGE = {Family.IPV4: "net.bridge.bridge-nf-call-iptables", Family.IPV6: "net.bridge.bridge-nf-call-ip6tables"}
_LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"

_MAX, _BUCKETS = "net.netfilter.nf_conntrack_max", "net.netfilter.nf_conntrack_buckets"
_TIMEOUTS = {
    "net.netfilter.nf_conntrack_tcp_timeout_established": "conntrackTCPEstablishedTimeout",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait": "conntrackTCPCloseWaitTimeout",
    "net.netfilter.nf_conntrack_udp_timeout": "conntrackUDPTimeout",
    "net.netfilter.nf_conntrack_udp_timeout_stream": "conntrackUDPStreamTimeout",
}
_MOST_SCALED = 1 << 20  # kube-proxy's, too: a table for more takes memory that nobody asked for
_PER_BUCKET = 4
_PAGE = 512  # buckets on one

SETTABLE = frozenset({_FORWARDING_IPV4, _FORWARDING_IPV6, *_BRIDGE.values(), _LIBERAL, _MAX, _BUCKETS, *_TIMEOUTS})
"""Every sysctl that this program may ever read or set."""


class Missing(Struct, frozen=True):
    """A setting that is not as it must be. ``setting`` is the sysctl's name, "" where no sysctl is the remedy."""

    setting: str
    value: str
    reason: str

    def __str__(self) -> str:
        if not self.setting:
            return self.reason
        return f"{self.setting} is not {self.value}: {self.reason}; {self.remedy}"

    @property
    def remedy(self) -> str:
        """How to set it, "" where no sysctl is the remedy. The unit of systemd lets no service write sysctls."""
        if not self.setting:
            return ""
        return (
            f"sysctl -w {self.setting}={self.value}, or run sync with --set-sysctls "
            "(for the systemd service: a file in /etc/sysctl.d)"
        )


def find_missing(
    host: Host,
    families: frozenset[Family],
    pod_cidrs: tuple[IPNetwork, ...],
    service_cidrs: tuple[IPNetwork, ...],
) -> tuple[Missing, ...]:
    """What keeps packets of these families from being forwarded or from having a route, each with its remedy."""
    return (
        *find_forwarding(families),
        *find_bridge_filtering(host, families, pod_cidrs),
        *find_service_routes(host, families, service_cidrs),
    )


def find_forwarding(families: frozenset[Family]) -> list[Missing]:
    """What keeps packets of these families from being forwarded."""
    found = []
    if Family.IPV4 in families:
        found += _check(_FORWARDING_IPV4, "connections are not forwarded to pods")
    if Family.IPV6 in families:
        found += _check(
            _FORWARDING_IPV6,
            "IPv6 connections are not forwarded to pods (a host that forwards ignores router advertisements: "
            "where its default route comes from one, set accept_ra=2 on that interface first)",
        )
    return found


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
            "TCP segments that connection tracking finds outside the window pass untranslated, and the receiver "
            "resets the connection",
        )
    )


def find_conntrack(config: Config, cores: int) -> tuple[Missing, ...]:
    """The limits of connection tracking that are not as the configuration has them, on a host with so many cores.

    They are kube-proxy's (pkg/proxy/conntrack/sysctls.go of Kubernetes 1.36). So they count where we are in its
    place, and elsewhere where somebody has given them. As kube-proxy, and unlike it where it would lower the number
    of connections. A kernel that tracks nothing yet has no such settings.
    """
    found = []
    most = max(min(config.conntrack_max_per_core * cores, _MOST_SCALED), config.conntrack_min)
    if config.conntrack_max_per_core and _counts(config, "conntrackMaxPerCore", "conntrackMin"):
        reason = "new connections are dropped once so many are tracked (conntrackMaxPerCore, conntrackMin)"
        found += _check_at_least(_MAX, most, reason)
        found += _check_at_least(
            _BUCKETS, _buckets(most), f"looking up connections is slow with more than {_PER_BUCKET} in a bucket"
        )
    wanted = (
        config.conntrack_tcp_established_timeout,
        config.conntrack_tcp_close_wait_timeout,
        config.conntrack_udp_timeout,
        config.conntrack_udp_stream_timeout,
    )
    for (name, key), seconds in zip(_TIMEOUTS.items(), wanted, strict=True):
        if int(seconds) and _counts(config, key):
            found += _check(name, f"connections are tracked for another time than {key} says", str(int(seconds)))
    return tuple(found)


def _buckets(connections: int) -> int:
    """So many that few share one; whole pages of them, which the kernel fills: others are not read back as set."""
    return -(-connections // _PER_BUCKET // _PAGE) * _PAGE


def _counts(config: Config, *keys: str) -> bool:
    return is_kubernetes(config.store) or any(key in config.places for key in keys)


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


def _check(name: str, reason: str, wanted: str = "1") -> list[Missing]:
    value = _value(name)
    return [] if value in ("", wanted) else [Missing(name, wanted, reason)]


def _check_at_least(name: str, wanted: int, reason: str) -> list[Missing]:
    value = _value(name)
    if not is_value(value) or int(value) >= wanted:
        return []
    if not _path(name).stat().st_mode & stat.S_IWUSR:  # it is the same for all network namespaces
        remedy = f"it is the host's: in its network namespace, sysctl -w {name}={wanted}"
        return [Missing("", "", f"{name} is {value}, less than {wanted}: {reason}; {remedy}")]
    return [Missing(name, str(wanted), reason)]


def _value(name: str) -> str:
    """What it is; "" where the kernel has none, such as one without this family, which has nothing to forward."""
    try:
        return _path(name).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def find_bridge_filtering(host: Host, families: frozenset[Family], pod_cidrs: tuple[IPNetwork, ...]) -> list[Missing]:
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


def find_service_routes(
    host: Host, families: frozenset[Family], service_cidrs: tuple[IPNetwork, ...]
) -> list[Missing]:
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
