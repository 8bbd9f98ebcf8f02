"""From a request to the answer: which page is asked for, and who gets it.

Whoever reaches the port may ask, so an answer is bounded in size and time, and is made one at a time in a thread of
its own. It changes nothing. A browser is told to fetch nothing from elsewhere and to run no script, so that a text of
an object which should come through as HTML after all could do nothing.

Only requests are answered that name an address, localhost or this node: no web site can read it through the browser
of somebody who is inside (``serving.asked``).
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlencode

from tornado.escape import to_unicode, xhtml_escape
from tornado.template import Loader

from nodeport_nft.graph import tree
from nodeport_nft.model import ObjectName
from nodeport_nft.observe.health import troubles
from nodeport_nft.observe.status import Status
from nodeport_nft.page.drawing import draw
from nodeport_nft.page.ends import Ask, AskError
from nodeport_nft.page.reading import BusyError, Reading
from nodeport_nft.reconcile import NodeState
from nodeport_nft.serving.asked import names_us
from nodeport_nft.serving.server import Answer, Request
from nodeport_nft.terminal import visible, visible_lines
from nodeport_nft.trace import TraceError

HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'",
    ),
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
)
"""Of every answer; browsers that do not know the first keep the page out of frames by the last."""

REFRESH_SECONDS = 5

_REST = 3.0
"""How many times as long as an answer has kept the processor busy the next one waits: the daemon has other work, and
who asks all the time gets no more than a quarter of it."""

_MOST_WAITING = 8  # requests; whoever comes then is to try again
_MOST_PROBLEMS = 100
_MOST_FIELDS = 20  # behind the ? of an address
_LONGEST = 200  # characters of what is searched for
_HTML = "text/html; charset=utf-8"
_HERE = Path(__file__).parent / "templates"
_FILES = {"/style.css": ("style.css", "text/css; charset=utf-8"), "/icon.svg": ("icon.svg", "image/svg+xml")}

_log = logging.getLogger("page")

_Fields = Mapping[str, str]


class Page:
    """Answers for ``/`` and what is linked there. ``begin`` once there is a state; before, it shows the status alone.

    ``answer`` is for the server's thread, the rest for any.
    """

    def __init__(self, node: str) -> None:
        self._node = node.lower()
        self._reading: Reading | None = None
        self._status: Callable[[], Status] = Status
        self._waiting = 0
        self._rested = 0.0  # until then there is no next answer
        self._thread = ThreadPoolExecutor(1, "page")
        self._thread.submit(int).result()  # it is there before there may be no room for it

    def follow(self, status: Callable[[], Status]) -> None:
        """Whom to ask for the status."""
        self._status = status

    def begin(self, state: Callable[[], NodeState]) -> None:
        """Whom to ask for the state."""
        self._reading = Reading(state)

    def close(self) -> None:
        """Make no more answers; one that is being made is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def paths(self) -> tuple[str, ...]:
        """Where somebody begins, for a text that says what there is."""
        return ("/", "/trace")

    def serves(self, path: str) -> bool:
        """Whether a path is one of the page's."""
        return path in (*self.paths, *_FILES) or path.startswith("/services/")

    async def answer(self, request: Request) -> Answer:
        """The answer to a request for one of its paths."""
        if not names_us(request.host, self._node):
            text = "this page answers to an address, to localhost and to the node's name alone\n"
            return Answer(HTTPStatus.MISDIRECTED_REQUEST, "text/plain; charset=utf-8", text.encode(), HEADERS)
        if request.path in _FILES:  # it costs nothing, and a page without its style is none: no waiting in line
            return _file(request.path)
        if self._waiting >= _MOST_WAITING:
            return self._failed(HTTPStatus.SERVICE_UNAVAILABLE, "too many ask at once; try again in a moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._made, request)
        finally:
            self._waiting -= 1

    # From here on everything runs on the page's own thread.

    def _made(self, request: Request) -> Answer:
        time.sleep(max(self._rested - time.monotonic(), 0.0))
        begun = time.thread_time()
        try:
            return self._tried(request)
        finally:
            self._rested = time.monotonic() + _REST * (time.thread_time() - begun)

    def _tried(self, request: Request) -> Answer:
        try:
            given = parse_qs(request.query, encoding="utf-8", errors="replace", max_num_fields=_MOST_FIELDS)
        except ValueError:
            return self._failed(HTTPStatus.BAD_REQUEST, f"the address has more than {_MOST_FIELDS} fields")
        fields = {name: values[0].strip()[:_LONGEST] for name, values in given.items()}
        try:
            return self._page(request.path, fields)
        except BusyError as error:
            return self._failed(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except Exception:
            _log.exception("the page %s could not be made", visible(request.path))
            return self._failed(HTTPStatus.INTERNAL_SERVER_ERROR, "this page could not be made; the log says why")

    def _page(self, path: str, fields: _Fields) -> Answer:
        reading = self._reading
        if reading is None:
            return self._shown("starting.html", fields, title="Starting")
        if path == "/":
            return self._services(reading, fields)
        if path == "/trace":
            return self._trace(reading, fields)
        parts = [unquote(part, errors="replace") for part in path.split("/")[2:]]
        detail = reading.service(ObjectName(*parts)) if len(parts) == 2 else None
        if detail is None:
            return self._failed(HTTPStatus.NOT_FOUND, f"there is no Service {'/'.join(parts)}")
        return self._shown(
            "service.html",
            fields,
            title=f"{detail.row.namespace}/{detail.row.name}",
            detail=detail,
            svg=draw(detail.graph, "From clients by addresses and ports to endpoints and nodes"),
            tree=xhtml_escape(visible_lines(tree(detail.graph))),
        )

    def _services(self, reading: Reading, fields: _Fields) -> Answer:
        search = fields.get("q", "")
        number = fields.get("page", "")
        listing = reading.services(search, int(number) if number.isascii() and number.isdecimal() else 1)

        def at(page: int) -> str:
            kept = {key: value for key, value in fields.items() if key in ("q", "refresh")}
            return f"/?{urlencode({**kept, 'page': page})}"

        return self._shown("services.html", fields, title="Services", listing=listing, search=search, at=at)

    def _trace(self, reading: Reading, fields: _Fields) -> Answer:
        traced, error = None, ""
        if any(fields.get(name) for name in ("from", "to", "port")):  # else somebody is still to fill it in
            try:
                traced = reading.trace(_asked(fields))
            except (AskError, TraceError) as wrong:
                error = str(wrong)
        # What was typed must not go while somebody types: no refresh.
        asked = {**fields, "refresh": "0"}
        return self._shown("trace.html", asked, title="Trace", traced=traced, error=error, is_still=True)

    def _failed(self, code: HTTPStatus, text: str) -> Answer:
        return self._shown("failed.html", {"refresh": "0"}, code, title=code.phrase, text=text, is_still=True)

    def _shown(
        self,
        template: str,
        fields: _Fields,
        code: HTTPStatus = HTTPStatus.OK,
        *,
        is_still: bool = False,
        **values: object,
    ) -> Answer:
        status, now = self._status(), time.time()
        body = (
            _loader()
            .load(template)
            .generate(
                **{
                    "fields": fields,
                    "refresh": 0 if fields.get("refresh") == "0" else REFRESH_SECONDS,
                    "is_still": is_still,
                    "still": f"?{urlencode({**fields, 'refresh': '0'})}",
                    "again": f"?{urlencode({name: value for name, value in fields.items() if name != 'refresh'})}",
                    "status": status,
                    "troubles": tuple(troubles(status, now)),
                    "ago": lambda at: _ago(now - at) if at else "never",
                    "problems": [visible(text) for text in status.problems[:_MOST_PROBLEMS]],
                    "refused": [(visible(name), visible(words)) for name, words in status.refused[:_MOST_PROBLEMS]],
                    "error": "",
                    "rate": _rate,
                    "path_of": lambda name: f"/services/{'/'.join(quote(part, safe='') for part in name.split('/'))}",
                    **values,
                }
            )
        )
        return Answer(code, _HTML, body, HEADERS)


@functools.cache
def _file(path: str) -> Answer:
    name, kind = _FILES[path]
    return Answer(HTTPStatus.OK, kind, (_HERE / name).read_bytes(), HEADERS)


@functools.cache
def _loader() -> Loader:
    """Templates in which every value is escaped, unless it says that it is HTML."""
    return Loader(str(_HERE), autoescape="shown", namespace={"shown": _escaped}, whitespace="oneline")


def _escaped(value: str | bytes) -> str:
    """Text for HTML, in which what could steer a browser or a terminal is written out."""
    return xhtml_escape(visible(to_unicode(value)))


def _asked(fields: _Fields) -> Ask:
    """What the form says. Raises AskError."""
    target = fields.get("to", "")
    if not target:
        raise AskError("To: it is missing; write svc/web, node/worker-2:30080 or 172.30.1.2:30080")
    return Ask(
        target,
        fields.get("from", ""),
        _port(fields.get("port", "")),
        _protocol(fields.get("protocol", "")),
        fields.get("namespace") or "default",
    )


def _port(text: str) -> int | None:
    if not text:
        return None
    if text.isascii() and text.isdecimal() and 0 < int(text) < 65536:
        return int(text)
    raise AskError(f"Port: {visible(text)!r} is not a port; give one from 1 to 65535")


def _protocol(text: str) -> str:
    protocol = text.lower()
    if protocol not in ("", "tcp", "udp", "sctp"):
        raise AskError(f"Protocol: {visible(protocol)!r} is none that a Service may have; choose tcp, udp or sctp")
    return protocol


def _rate(rate: float | None) -> str:
    """New connections a second, as exact as it is of use."""
    if rate is None:
        return "…"
    if not rate:
        return "0"
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 0.1 else f"{rate:.2g}"


def _ago(seconds: float) -> str:
    seconds = max(seconds, 0.0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
