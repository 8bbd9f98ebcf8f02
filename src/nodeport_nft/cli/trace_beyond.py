"""What lies between our tables and an endpoint, on this very node: its routes, its sysctls, chains of others.

It is judged as ``sync`` and ``doctor`` judge it, for the endpoints of one connection alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING

from nodeport_nft.errors import KernelError
from nodeport_nft.forwarding import Endpoint
from nodeport_nft.kernel.host.foreign_chains import Obstacles, Question
from nodeport_nft.kernel.host.routes import devices_to
from nodeport_nft.kernel.host.sysctl import find_forwarding
from nodeport_nft.kernel.netlink.messages import may_administer
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import Family
from nodeport_nft.resolve.absence import Cause
from nodeport_nft.trace import Fate

if TYPE_CHECKING:
    from collections.abc import Collection

    from nodeport_nft.facts import Host
    from nodeport_nft.model import NodeFacts
    from nodeport_nft.trace import Trace

ELSEWHERE = "routes, forwarding and other firewalls; on the node, nodeport-nft doctor --connect looks at them"
"""Of tables that are not this machine's."""

_NO_RIGHT = "other firewalls, which takes root"
_MOST_LOST = 3  # addresses without a route that are named


def beyond(walked: Trace, facts: NodeFacts, host: Host, trusted: Collection[str]) -> tuple[tuple[Cause, ...], str]:
    """What keeps the connection from the endpoints that our tables send it to, and what was not looked at.

    ``trusted``: chains that the operator vouches for. What a process of the node sends is not forwarded: of that,
    routes alone are looked at.
    """
    reached = [outcome for outcome in walked.outcomes if outcome.fate is Fate.FORWARDED]
    if not reached:
        return (), ""
    packet = walked.packet
    family = Family(ip_address(packet.destination).version)
    try:
        found = list(_without_route(sorted({outcome.destination for outcome in reached})))
        if packet.from_node:
            return tuple(found), ""
        if not all(outcome.here for outcome in reached):
            for each in find_forwarding(frozenset({family})):
                text = f"{each.setting} is not {each.value}: {each.reason}"
                found.append(Cause("NotForwarded", text, each.remedy))
        if not may_administer():
            return tuple(found), _NO_RIGHT
        endpoints = [
            Endpoint(family, packet.protocol, outcome.destination, outcome.port, packet.destination, packet.port)
            for outcome in reached
        ]
        question = Question(tuple(endpoints), True, facts, host)
        for text in Obstacles(Nft()).between(packet.source, question, trusted):
            seen, _, remedy = text.partition("; ")
            found.append(Cause("FirewallInTheWay", seen, remedy or "nodeport-nft doctor says more"))
    except KernelError as error:
        return (), f"routes, forwarding and other firewalls: {error}"
    return tuple(found), ""


def _without_route(addresses: list[str]) -> Iterator[Cause]:
    known = devices_to(addresses)
    lost = [address for address in addresses if address not in known]
    if lost:
        more = f" and {len(lost) - _MOST_LOST} more" if len(lost) > _MOST_LOST else ""
        text = f"no route leads to {', '.join(lost[:_MOST_LOST])}{more}"
        length = ip_address(lost[0]).max_prefixlen
        yield Cause("NoRoute", text, f"ip route add {lost[0]}/{length} via NODE-OR-GATEWAY")
