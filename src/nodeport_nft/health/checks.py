"""Services → what this node answers on each healthCheckNodePort; pure.

What counts are ready endpoints alone. Where there are none, traffic still goes to endpoints that serve while they
terminate (E2), but nothing new should be sent to such a node: it is being drained (KEP-1669).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from nodeport_nft.model import Family, ObjectName, Service
from nodeport_nft.resolve import Resolver, is_proxied


class HealthCheck(Struct, frozen=True):
    """What one healthCheckNodePort tells: how many ready endpoints ``service`` has on this node.

    ``local_endpoints`` has a number for each of the Service's families, and the port is open in these only: a packet
    never changes its family on the way to an endpoint, and two addresses of one pod are not two endpoints.
    """

    service: ObjectName
    local_endpoints: Mapping[Family, int]


def health_checks(services: Iterable[Service], resolver: Resolver) -> dict[int, HealthCheck]:
    """The node's health checks by port number; of two Services that claim one port the older one has it (F10)."""
    checks: dict[int, HealthCheck] = {}
    for service in sorted(services, key=lambda s: (s.created, *s.key)):
        if service.health_check_node_port and is_proxied(service):
            checks.setdefault(service.health_check_node_port, HealthCheck(service.key, resolver.local_ready(service)))
    return checks
