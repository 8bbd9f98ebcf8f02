"""The host's network as the kernel tells it over rtnetlink: addresses, routes, bridges."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address, ip_network
from typing import Any

from nodeport_nft.errors import KernelError
from nodeport_nft.facts import Host, HostAddress, HostRoute
from nodeport_nft.interrupts import ends_at_once
from nodeport_nft.model import IPAddress

# linux/if_addr.h: temporary (RFC 8981), DAD failed, tentative. A deprecated address is a stable one: it takes
# connections and is the source of none (RFC 4862, 5.5.4), as keepalived wants it of a virtual address.
_UNSTABLE = 0x01 | 0x08 | 0x40
# linux/rtnetlink.h: RTMGRP_…
_LINKS, _IPV4_ADDRESSES, _IPV4_ROUTES, _IPV6_ADDRESSES, _IPV6_ROUTES = 0x1, 0x10, 0x40, 0x100, 0x400
_MAIN_TABLE = 254
_IFF_LOOPBACK = 0x8  # linux/if.h
_UNICAST = 1

# Where a default route is asked for: documentation prefixes (RFC 5737, RFC 3849). Nothing is sent there.
_SOMEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


def read_host() -> Host:
    """Read the network of the caller's network namespace. Raises KernelError if rtnetlink refuses."""
    with ends_at_once():  # pyroute2 has an event loop of its own
        from pyroute2 import IPRoute  # late: a heavy import that render and --help must not pay for

        try:
            with IPRoute() as netlink:
                return _host(netlink)
        except OSError as error:
            raise KernelError(f"the node's addresses and routes cannot be read: {error}") from error


def _host(netlink: Any) -> Host:
    links = sorted(netlink.get_links(), key=lambda link: int(link["index"]))
    names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in links}
    return Host(
        addresses=tuple(_address(message, names) for message in netlink.get_addr()),
        routes=tuple(_routes(netlink, names)),
        sources=tuple(_sources(netlink)),
        bridges=tuple(sorted(_bridges(netlink))),
        links=tuple(names[link["index"]] for link in links if not link["flags"] & _IFF_LOOPBACK),
    )


def _address(message: Any, names: dict[int, str]) -> HostAddress:
    # On a point-to-point link IFA_ADDRESS is the peer's; IFA_LOCAL is ours. IPv6 has IFA_ADDRESS alone.
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    # IPv4 uses bit 0 for "secondary address", which is a stable one.
    unstable = bool(flags & _UNSTABLE) and message["family"] == socket.AF_INET6
    return HostAddress(ip_address(text), names.get(message["index"], "?"), unstable)


def _routes(netlink: Any, names: dict[int, str]) -> list[HostRoute]:
    routes = []
    for message in netlink.get_routes(table=_MAIN_TABLE):
        destination = message.get_attr("RTA_DST")
        if destination is None or message["type"] != _UNICAST:
            continue
        prefix = ip_network(f"{destination}/{message['dst_len']}")
        routes.append(HostRoute(prefix, names.get(message.get_attr("RTA_OIF"), "?")))
    return routes


def _sources(netlink: Any) -> list[IPAddress]:
    from pyroute2.netlink.exceptions import NetlinkError

    sources: list[IPAddress] = []
    for family, destination in _SOMEWHERE.items():
        try:
            answers = netlink.route("get", dst=destination, family=family)
        except NetlinkError as error:
            if error.code in (
                errno.ENETUNREACH,
                errno.EHOSTUNREACH,
                errno.EACCES,
                errno.EINVAL,
                errno.EAFNOSUPPORT,
            ):
                continue
            raise
        found = (message.get_attr("RTA_PREFSRC") for message in answers)
        sources += [ip_address(text) for text in found if text]
    return sources


def _bridges(netlink: Any) -> list[str]:
    return [link.get_attr("IFLA_IFNAME") for link in netlink.get_links(kind="bridge")]


class HostEvents:
    """Tells that links, addresses or routes have changed in the network namespace of the thread that makes it.

    Not what: ``read_host`` reads all of it, and much of what comes here is of no interest. Raises OSError.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, _LINKS | _IPV4_ADDRESSES | _IPV4_ROUTES | _IPV6_ADDRESSES | _IPV6_ROUTES))
        self._socket.setblocking(False)

    def close(self) -> None:
        """Listen no longer."""
        self._socket.close()

    def fileno(self) -> int:
        """Readable when something has changed."""
        return self._socket.fileno()

    def take(self) -> None:
        """Take note of all that has changed until now."""
        while True:
            try:
                self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # some were lost, which makes no difference here
                    raise
