"""What kube-proxy's mode ipvs leaves beside chains of iptables: virtual servers, the link of their addresses, ipsets.

kube-proxy takes all virtual servers for its own. Here only those are its that have an address of its link, or a
nodePort on an address of the node: a balancer of somebody else's goes on. Without a virtual server its connections
are not translated any longer: unlike those of the other modes, they end.

Source: pkg/proxy/ipvs of Kubernetes 1.36; linux/ip_vs.h.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from msgspec import Struct

from nodeport_nft.errors import KernelError
from nodeport_nft.facts import KUBE_IPVS
from nodeport_nft.model import PortRange

Result = TypeVar("Result")

_SETS = frozenset(
    {
        "KUBE-LOOP-BACK",
        "KUBE-CLUSTER-IP",
        "KUBE-EXTERNAL-IP",
        "KUBE-EXTERNAL-IP-LOCAL",
        "KUBE-LOAD-BALANCER",
        "KUBE-LOAD-BALANCER-FW",
        "KUBE-LOAD-BALANCER-LOCAL",
        "KUBE-LOAD-BALANCER-SOURCE-IP",
        "KUBE-LOAD-BALANCER-SOURCE-CIDR",
        "KUBE-NODE-PORT-TCP",
        "KUBE-NODE-PORT-LOCAL-TCP",
        "KUBE-NODE-PORT-UDP",
        "KUBE-NODE-PORT-LOCAL-UDP",
        "KUBE-NODE-PORT-SCTP-HASH",
        "KUBE-NODE-PORT-LOCAL-SCTP-HASH",
        "KUBE-HEALTH-CHECK-NODE-PORT",
        "KUBE-IPVS-IPS",
    }
)
_SETS_IPV6 = frozenset(name.replace("KUBE-", "KUBE-6-")[:31] for name in _SETS)  # as long as a name may be
_SECONDS = 60.0


class IpvsRemains(Struct, frozen=True):
    """What is there: ``servers`` as (address family, protocol, address, port), ``sets`` by name, the link."""

    servers: tuple[tuple[int, int, str, int], ...] = ()
    sets: tuple[str, ...] = ()
    has_link: bool = False

    def __bool__(self) -> bool:
        return bool(self.servers or self.sets or self.has_link)

    def __iter__(self) -> Iterator[str]:
        """Each in words."""
        if self.servers:
            yield f"{len(self.servers)} virtual server{'s' * (len(self.servers) > 1)} of ipvs"
        if self.has_link:
            yield f"link {KUBE_IPVS}"
        if self.sets:
            yield f"{len(self.sets)} ipset{'s' * (len(self.sets) > 1)}"


def find_ipvs(node_ports: PortRange) -> IpvsRemains:
    """All of it, where there is the link, which goes last. Raises KernelError."""
    try:
        socket.if_nametoindex(KUBE_IPVS)
    except OSError:
        return IpvsRemains()
    return _beside(lambda: _found(node_ports))


def remove_ipvs(found: IpvsRemains) -> None:
    """Delete it; what needs its ipsets has to be gone. Raises KernelError, where some of it may be gone."""
    _beside(lambda: _remove(found))


def _beside(work: Callable[[], Result]) -> Result:
    """In a thread: pyroute2 wants an event loop of its own."""
    thread = ThreadPoolExecutor(1)
    try:
        return thread.submit(work).result(_SECONDS)
    except TimeoutError:
        raise KernelError(f"what kube-proxy's mode ipvs has left: no answer for {_SECONDS:g} s") from None
    finally:
        thread.shutdown(wait=False)


@contextmanager
def _told() -> Iterator[None]:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except (
        NetlinkError,
        OSError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:  # of a kernel newer than pyroute2, too
        raise KernelError(f"what kube-proxy's mode ipvs has left: {error}") from error


def _found(node_ports: PortRange) -> IpvsRemains:
    from pyroute2 import IPRoute

    with _told():
        with IPRoute() as netlink:
            index = next(iter(netlink.link_lookup(ifname=KUBE_IPVS)), None)
            held = [(message["index"], message.get_attr("IFA_ADDRESS")) for message in netlink.get_addr()]
        of_link = {address for where, address in held if where == index}
        of_node = {address for where, address in held if where != index}
        servers = tuple(
            each
            for each in _servers()
            if each[2] in of_link or (each[2] in of_node and node_ports.first <= each[3] <= node_ports.last)
        )
        return IpvsRemains(servers, tuple(_sets()), index is not None)


def _servers() -> Iterator[tuple[int, int, str, int]]:
    from pyroute2 import IPVS
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPVS() as netlink:
            for message in netlink.service("dump"):
                server = message.get_attr("IPVS_CMD_ATTR_SERVICE")
                if server is not None and server.get_attr("IPVS_SVC_ATTR_ADDR"):
                    yield (
                        server.get_attr("IPVS_SVC_ATTR_AF") or socket.AF_INET,
                        server.get_attr("IPVS_SVC_ATTR_PROTOCOL") or socket.IPPROTO_TCP,
                        server.get_attr("IPVS_SVC_ATTR_ADDR"),
                        server.get_attr("IPVS_SVC_ATTR_PORT") or 0,
                    )
    except NetlinkError as error:
        if error.code != errno.ENOENT:  # the kernel has no ipvs, or has not loaded it
            raise


def _sets() -> Iterator[str]:
    from pyroute2 import IPSet
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPSet() as netlink:
            names = {message.get_attr("IPSET_ATTR_SETNAME") for message in netlink.list()}
    except NetlinkError:  # the kernel has no ipsets
        return
    yield from sorted(names.intersection(_SETS | _SETS_IPV6))


def _remove(found: IpvsRemains) -> None:
    from pyroute2 import IPVS, IPRoute, IPSet, IPVSService

    with _told():
        if found.servers:
            with IPVS() as netlink:
                for family, protocol, address, port in found.servers:
                    netlink.service("del", IPVSService(af=family, protocol=protocol, addr=address, port=port))
        if found.sets:
            with IPSet() as netlink:
                for name in found.sets:
                    netlink.destroy(name)
        if found.has_link:
            with IPRoute() as netlink:
                for index in netlink.link_lookup(ifname=KUBE_IPVS):
                    netlink.link("del", index=index)
