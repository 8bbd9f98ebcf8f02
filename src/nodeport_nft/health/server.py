"""The answers on all healthCheckNodePorts, as load balancers ask for them (H1)."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Mapping
from functools import partial
from http import HTTPStatus

from msgspec import Struct

from nodeport_nft.health.checks import HealthCheck
from nodeport_nft.model import Family, IPAddress
from nodeport_nft.serving.server import Answer, Pool, Port, Request, Server

MAX_CONNECTIONS = 256
"""Open at once, over all ports."""

_REMEDIES = {
    errno.EADDRINUSE: "stop the program that listens there; `ss -ltnp 'sport = :{port}'` names it",
    errno.EADDRNOTAVAIL: "give the node this address, or correct nodePortAddresses",
    errno.EAFNOSUPPORT: "enable this IP family on the node, leave the address out of nodePortAddresses, "
    "or take out the drop-in no-ports.conf of contrib/systemd, under which no port can be opened",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EACCES: "run as root, or give the program CAP_NET_BIND_SERVICE",
}

_Place = tuple[IPAddress, int]


class _Served(Struct):
    """An open port and what it tells now."""

    check: HealthCheck
    port: Port | None = None


class HealthServer:
    """Answers on healthCheckNodePorts. All public methods may be called from any thread.

    It begins without ports and unhealthy: before its rules are in the kernel no node should be chosen.
    Sockets belong to the network namespace of the thread that made the server.
    """

    def __init__(self) -> None:
        self._healthy = False
        self._served: dict[_Place, _Served] = {}
        self._pool = Pool(MAX_CONNECTIONS)
        self._server = Server("health-checks")

    def update(self, wanted: Mapping[int, HealthCheck], addresses: Iterable[IPAddress]) -> tuple[str, ...]:
        """Serve exactly ``wanted``, by port, on those ``addresses`` that are of a family the check has a number for.

        0.0.0.0 and :: stand for all addresses of their family. What is served already stays open. Returns what cannot
        be served, one text each, sorted by port and address; it is tried again at the next update. After ``close``
        nothing is done.
        """
        places = {
            (address, port): check
            for address in addresses
            for port, check in wanted.items()
            if Family(address.version) in check.local_endpoints
        }
        return self._server.call(partial(self._update, places), closed=())

    def set_healthy(self, healthy: bool) -> None:
        """Say whether the node's rules are what they should be; if not, every port answers 503."""
        self._healthy = healthy

    def close(self) -> None:
        """Close all ports and connections and end the thread; a second call does nothing."""
        self._server.close()

    # From here on everything runs on the server's thread.

    async def _update(self, places: Mapping[_Place, HealthCheck]) -> tuple[str, ...]:
        # What goes, goes first: an address may be in the way of 0.0.0.0 on the same port, and the other way round.
        gone = [self._served.pop(place) for place in self._served.keys() - places.keys()]
        await self._server.shut(served.port for served in gone if served.port)
        troubles = []
        for place, check in sorted(places.items(), key=lambda item: _order(item[0])):
            if served := self._served.get(place):
                served.check = check
                continue
            served = _Served(check)
            try:
                name = f"healthCheckNodePort {place[1]}"
                served.port = self._server.open(name, place, partial(self._answer, place[0], served), self._pool)
            except OSError as error:
                troubles.append(_trouble(place, check, error))
            else:
                self._served[place] = served
        return tuple(troubles)

    async def _answer(self, address: IPAddress, served: _Served, _: Request) -> Answer:
        """As kube-proxy answers (its pkg/proxy/healthcheck), whatever path and method."""
        service, count = served.check.service, served.check.local_endpoints[Family(address.version)]
        told = {
            "service": {"namespace": service.namespace, "name": service.name},
            "localEndpoints": count,
            "serviceProxyHealthy": self._healthy,
        }
        status = HTTPStatus.OK if count and self._healthy else HTTPStatus.SERVICE_UNAVAILABLE
        weight = ("X-Load-Balancing-Endpoint-Weight", str(count))
        return Answer(status, "application/json", json.dumps(told).encode(), (weight,))


def _order(place: _Place) -> tuple[int, int, int]:
    address, port = place
    return port, address.version, int(address)


def _trouble(place: _Place, check: HealthCheck, error: OSError) -> str:
    address, port = place
    reason = os.strerror(error.errno) if error.errno else str(error)
    remedy = _REMEDIES.get(error.errno or 0, "load balancers will leave this node out until the cause is gone")
    return (
        f"service {check.service}: healthCheckNodePort {port} cannot be opened on {address}: {reason}; "
        f"{remedy.format(port=port)}"
    )
