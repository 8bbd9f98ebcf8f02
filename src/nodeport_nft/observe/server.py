"""The answers to /healthz, /livez, /metrics and /status, on two ports as kube-proxy's.

All that the main thread hands over is a reference to a frozen ``Status``. What /metrics answers is made in a second
thread, one at a time, so that no collector keeps a probe waiting; who asks meanwhile shares it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Protocol

from msgspec import Struct, field

from nodeport_nft.model import IPAddress
from nodeport_nft.notation import socket_address
from nodeport_nft.observe.health import health_body, is_healthy, is_live
from nodeport_nft.observe.metrics import CONTENT_TYPE, Metrics, Probe
from nodeport_nft.observe.status import Status, to_json
from nodeport_nft.serving.asked import names_us
from nodeport_nft.serving.passed import take_passed
from nodeport_nft.serving.server import Answer, Pool, Port, Request, Server

MAX_CONNECTIONS = 64
"""Open at once, on each port."""

_JSON = "application/json"

_REMEDIES = {
    errno.EADDRINUSE: "stop the program that listens there (`ss -ltnp 'sport = :{port}'` names it)",
    errno.EADDRNOTAVAIL: "give the node this address",
    errno.EAFNOSUPPORT: "enable this IP family on the node (under no-ports.conf: in nodeport-nft.socket)",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EACCES: "run as root, or give the program CAP_NET_BIND_SERVICE",
}


_Routes = dict[str, Callable[[], Awaitable[Answer]]]


class Shown(Protocol):
    """A page that is shown beside what programs ask for."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Where somebody begins to look at it."""

    def serves(self, path: str) -> bool:
        """Whether a path is one of its own."""

    async def answer(self, request: Request) -> Answer:
        """The answer to a request for one of these."""


class _Place(Struct):
    """Where to listen, by the configuration's key, and what is served there, by path. ``port``: while it is open."""

    key: str
    loss: str
    address: tuple[IPAddress, int] | None
    routes: _Routes
    page: Shown | None = None
    pool: Pool = field(default_factory=partial(Pool, MAX_CONNECTIONS))
    port: Port | None = None

    @property
    def number(self) -> int:
        """The port's number; 0 while it is not open."""
        return self.port.number if self.port else 0


class ObserveServer:
    """Answers probes, Prometheus and ``nodeport-nft status``.

    All public methods may be called from any thread. An address None is not served; its
    port 0 is one that the kernel chooses. Sockets belong to the network namespace of the thread that made the server.

    /healthz is on both ports, as with kube-proxy, and answers alike. (On kube-proxy's metrics port it says "ok" of
    any process that runs, which hides what the question is about.)
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        healthz: tuple[IPAddress, int] | None,
        metrics_address: tuple[IPAddress, int] | None,
        page: Shown | None = None,
    ) -> None:
        self._metrics = metrics
        self._status = Status()
        self._healthz = _Place(
            "healthzBindAddress",
            "probes of the node fail until then",
            healthz,
            {"/healthz": self._answer_healthz, "/livez": self._answer_livez},
        )
        self._observed = _Place(
            "metricsBindAddress",
            "there are no metrics, and no `nodeport-nft status`, until then",
            metrics_address,
            {"/metrics": self._answer_metrics, "/status": self._answer_status, "/healthz": self._answer_healthz},
            page,
        )
        self._scraper = ThreadPoolExecutor(1, "observe-metrics")
        self._scraper.submit(int).result()  # its thread is there before there may be no room for it
        self._scrape: asyncio.Future[bytes] | None = None
        self._server = Server("observe")

    def set_status(self, status: Status) -> None:
        """What is told from now on."""
        self._status = status

    def listen(self) -> tuple[str, ...]:
        """Open what is not open yet. Returns what cannot be opened, one text each; call again to try again.

        After ``close`` nothing is done.
        """
        return self._server.call(self._open, closed=())

    @property
    def healthz_port(self) -> int:
        """The port of /healthz and /livez; 0 while it is not open."""
        return self._healthz.number

    @property
    def metrics_port(self) -> int:
        """The port of /metrics and /status; 0 while it is not open."""
        return self._observed.number

    def close(self) -> None:
        """Close ports and connections and end the thread; a second call does nothing.

        A scrape that is being made is not waited for: its collector may need the caller's own thread.
        """
        self._server.close()
        self._scraper.shutdown(wait=False, cancel_futures=True)
        self._healthz.port = self._observed.port = None

    # From here on everything runs on the server's thread.

    async def _open(self) -> tuple[str, ...]:
        troubles = []
        for place in (self._healthz, self._observed):
            if place.address is None or place.port is not None:
                continue
            answer = partial(self._answer, place)
            try:
                passed = take_passed(*place.address)
                # [::] is all there is to kube-proxy (Go), and kubeadm's "bindAddress: ::" becomes it: kubelet's
                # probes of the DaemonSet come by 127.0.0.1 all the same.
                place.port = self._server.open(place.key, place.address, answer, place.pool, passed, both=True)
            except OSError as error:
                troubles.append(_trouble(place, *place.address, error))
        return tuple(troubles)

    async def _answer(self, place: _Place, request: Request) -> Answer:
        route = place.routes.get(request.path)
        page = place.page
        if route is None and page and page.serves(request.path):
            return _refused(request) or await page.answer(request)
        if request.by_browser and not names_us(request.host, self._status.node):
            text = "a browser is answered at an address, localhost and the node's name alone"
            return _plain(HTTPStatus.MISDIRECTED_REQUEST, text)
        if route is None:
            return _plain(
                HTTPStatus.NOT_FOUND, f"there are {', '.join((*(page.paths if page else ()), *place.routes))}"
            )
        return _refused(request) or await route()

    async def _answer_healthz(self) -> Answer:
        return self._probed(Probe.HEALTHZ, is_healthy)

    async def _answer_livez(self) -> Answer:
        return self._probed(Probe.LIVEZ, is_live)

    def _probed(self, probe: Probe, is_well: Callable[[Status, float], bool]) -> Answer:
        status, now = self._status, time.time()
        code = HTTPStatus.OK if is_well(status, now) else HTTPStatus.SERVICE_UNAVAILABLE
        self._metrics.probed(probe, code)
        return Answer(code, _JSON, health_body(status, now, with_node=probe is Probe.HEALTHZ).encode())

    async def _answer_status(self) -> Answer:
        return Answer(HTTPStatus.OK, _JSON, to_json(self._status).encode())

    async def _answer_metrics(self) -> Answer:
        try:
            if self._scrape is None or self._scrape.done():
                self._scrape = asyncio.get_running_loop().run_in_executor(self._scraper, self._metrics.exposition)
            body = await self._scrape  # which others may do as well
        except Exception as error:  # a collector is somebody else's; Prometheus tells what it is answered
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR, f"a collector failed: {type(error).__name__}: {error}")
        return Answer(HTTPStatus.OK, CONTENT_TYPE, body)


def _refused(request: Request) -> Answer | None:
    """The answer to who wants to change something; None for all others."""
    if request.method in ("GET", "HEAD"):
        return None
    return _plain(HTTPStatus.METHOD_NOT_ALLOWED, "nothing can be changed here; ask with GET", ("Allow", "GET, HEAD"))


def _plain(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", f"{text}\n".encode(errors="backslashreplace"), headers)


def _trouble(place: _Place, address: IPAddress, number: int, error: OSError) -> str:
    where = socket_address(address, number)
    reason = os.strerror(error.errno) if error.errno else str(error)
    remedy = _REMEDIES.get(error.errno or 0, "mend the cause").format(port=number)
    return f"{place.key}: {where} cannot be opened: {reason}; {remedy}, or choose another address; {place.loss}"
