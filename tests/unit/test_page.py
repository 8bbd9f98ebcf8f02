"""The page: what it shows of a state, to whom, and that no text of an object is more than text in it.

It is asked over HTTP, on the port that /metrics has. The kernel is asked by ``daemon/test_page.py`` alone.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from html.parser import HTMLParser
from http.client import HTTPConnection
from ipaddress import ip_address
from urllib.parse import quote

import pytest
from msgspec.structs import replace

from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink.meters import Meters
from nodeport_nft.model import Node, ObjectName, Pod, Service, Snapshot
from nodeport_nft.observe.metrics import Metrics
from nodeport_nft.observe.server import ObserveServer
from nodeport_nft.observe.status import Status
from nodeport_nft.page.answers import Page
from nodeport_nft.page.pace import LONGEST, Pace
from nodeport_nft.page.reading import ROWS
from nodeport_nft.reconcile import NodeState, compile_snapshot
from tests.builders import FACTS, make_endpoint, make_port, make_service, make_slice

pytestmark = pytest.mark.proves("U5")

PATIENCE = 60.0
HOSTILE = "<script>alert(1)</script>\"'&\x1b[31m\u202e\n</title>{{ 7 * 7 }}"


@pytest.fixture(autouse=True)
def _no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may look into this machine's tables."""

    def refuse(*_: object) -> None:
        raise KernelError(f"nothing to count here {HOSTILE}")

    monkeypatch.setattr(Meters, "some", refuse)


class Shown:
    """A page over a state, on a port of its own."""

    def __init__(self, state: NodeState | None, status: Status | None = None) -> None:
        self.page = Page("Worker-1")
        at = ip_address("127.0.0.1"), 0
        self.server = ObserveServer(Metrics("1"), healthz=None, metrics_address=at, page=self.page)
        self.server.listen()
        told = status or Status(version="1", node="worker-1", started=time.time(), synced=time.time())
        self.page.follow(lambda: told)
        if state is not None:
            self.page.begin(lambda: state)

    def ask(self, path: str, *, host: str | None = None, method: str = "GET") -> tuple[int, Message, str]:
        connection = HTTPConnection("127.0.0.1", self.server.metrics_port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, path, headers={} if host is None else {"Host": host})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()

    def get(self, path: str) -> str:
        code, _, body = self.ask(path)
        assert code == 200, body
        return body

    def close(self) -> None:
        self.server.close()
        self.page.close()


@pytest.fixture
def show() -> Iterator[Callable[..., Shown]]:
    with contextlib.ExitStack() as stack:

        def made(*services: Service, status: Status | None = None, **more: tuple[object, ...]) -> Shown:
            snapshot = Snapshot(services, **more)  # type: ignore[arg-type]
            return stack.enter_context(contextlib.closing(Shown(compile_snapshot(snapshot, FACTS), status)))

        yield made


class Text(HTMLParser):
    """What a browser would show of a page, what elements there are, and the links."""

    def __init__(self, body: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: set[str] = set()
        self.attributes: dict[str, list[str]] = {}
        self.seen: list[str] = []
        self.feed(body)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.seen.append(" ")
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")

    def handle_data(self, data: str) -> None:
        self.seen.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.seen).split())


WEB = make_service("web", make_port(80, node_port=30080))
CLIENT = Pod("default", "client", {}, (ip_address("10.244.1.9"),))
WEB_SLICE = make_slice("10.244.1.2", make_endpoint("10.244.2.2", node="worker-2"))


def test_services_and_their_endpoints_are_shown(show: Callable[..., Shown]) -> None:
    shown = show(WEB, make_service("idle", ips=("10.96.0.11",)), slices=(WEB_SLICE,))
    services = Text(shown.get("/"))
    assert "2 Services." in services.text
    assert "default idle ClusterIP 10.96.0.11 80/TCP none" in services.text
    assert "/services/default/web" in services.attributes["href"]
    web = Text(shown.get("/services/default/web"))
    for words in ("Service default/web", "Port 80/TCP → 8080, nodePort 30080", "10.244.1.2:8080", "worker-2"):
        assert words in web.text
    assert "svg" in web.elements
    assert "└── endpoints" in web.text
    (way,) = (link for link in web.attributes["href"] if link.startswith("/trace?"))
    form = Text(shown.get(way))
    assert {"10.96.0.10", "80", ""} <= set(form.attributes["value"])
    assert "100 % forwarded" in form.text or "50.0 % forwarded" in form.text
    assert "script" not in web.elements | services.elements
    assert "refused or dropped" in Text(shown.get("/services/default/idle")).text
    code, _, body = shown.ask("/services/default/none")
    assert code == 404
    assert "there is no Service default/none" in Text(body).text
    assert shown.ask("/services/default")[0] == shown.ask("/services/a/b/c")[0] == shown.ask("/other")[0] == 404
    assert shown.ask("/other")[2] == "there are /, /trace, /metrics, /status, /healthz\n"


def test_a_connection_is_traced_by_a_form(show: Callable[..., Shown]) -> None:
    shown = show(WEB, slices=(WEB_SLICE,))
    empty = Text(shown.get("/trace"))
    assert {"from", "to", "port", "protocol"} <= set(empty.attributes["name"])
    traced = Text(shown.get("/trace?from=192.0.2.7&to=172.30.1.2&port=30080&protocol=tcp"))
    assert "50.0 % forwarded 10.244.1.2:8080" in traced.text
    assert "masqueraded" in traced.text
    assert "192.0.2.7" in traced.attributes["value"]
    assert "refresh" not in traced.attributes.get("http-equiv", [])
    assert "untouched" in Text(shown.get("/trace?from=192.0.2.7&to=172.30.1.2&port=1")).text
    refused = show(WEB)
    assert "100 % refused" in Text(refused.get("/trace?from=192.0.2.7&to=172.30.1.2&port=30080")).text
    for query, wrong in [
        ("from=x&to=172.30.1.2&port=1", "From: a Service opens no connections"),
        ("from=172.30.1.9:1&to=172.30.1.2&port=1", "From: leave out the port"),
        ("from=pod/none&to=172.30.1.2&port=1", "From: this daemon knows no Pod none in namespace default"),
        ("from=192.0.2.7&port=1", "To: it is missing"),
        ("from=192.0.2.7&to=fd00::1&port=1", "of two families"),
        ("to=wbe", "To: there is no Service wbe in namespace default; did you mean web?"),
        ("to=web&namespace=shop", "To: there is no Service web in namespace shop; there is one as web.default"),
        ("to=web:80&port=81", "Port: To has another one"),
        ("to=172.30.1.2", "Port: which one?"),
        ("from=192.0.2.7&to=172.30.1.2&port=65536", "Port: '65536' is not a port"),
        ("from=192.0.2.7&to=172.30.1.2&port=%D9%A1", "is not a port"),
        ("from=192.0.2.7&to=172.30.1.2&port=1&protocol=icmp", "Protocol: 'icmp'"),
        ("from=%FF%00&to=172.30.1.2&port=1", "is neither an address nor a Service"),
    ]:
        assert wrong in Text(shown.get(f"/trace?{query}")).text


@pytest.mark.parametrize(
    "query", ["to=web", "to=svc/web:80", "to=web.default:30080&protocol=tcp", "to=10.96.0.10:80"]
)
def test_a_connection_is_traced_by_names_as_the_command_does(show: Callable[..., Shown], query: str) -> None:
    """Nobody in From is a client outside; the port and the protocol are the Service's."""
    traced = Text(show(WEB, slices=(WEB_SLICE,), pods=(CLIENT,)).get(f"/trace?{query}"))
    assert "50.0 % forwarded 10.244.1.2:8080" in traced.text
    assert "192.0.2.1 → " in traced.text


def test_a_connection_is_traced_from_a_pod(show: Callable[..., Shown]) -> None:
    shown = show(WEB, slices=(WEB_SLICE,), pods=(CLIENT,))
    assert "10.244.1.9 → 10.96.0.10:80/tcp" in Text(shown.get("/trace?from=pod/client&to=web")).text


def test_trouble_is_told_as_status_tells_it(show: Callable[..., Shown]) -> None:
    now = time.time()
    status = Status(node="worker-1", started=now, synced=now, problems=("annotation x of Service/a/b",))
    text = Text(show(WEB, status=status).get("/")).text
    assert "Health there is 1 problem" in text
    assert "1 Service." in text


def test_many_services_are_found_page_by_page(show: Callable[..., Shown]) -> None:
    count = 2 * ROWS + 3
    services = [make_service(f"web-{number:04}", ips=(f"10.96.1.{number + 1}",)) for number in range(count)]
    services.append(make_service("other", make_port(80, node_port=30123), ips=("10.96.9.9",)))
    shown = show(*services)

    def rows(path: str) -> list[str]:
        return re.findall(r'href="/services/default/([^"]+)"', shown.get(path).partition("<tbody>")[2])

    assert [len(rows(f"/?page={page}")) for page in (1, 2, 3, 4, 0, "x", 10**30)] == [ROWS, ROWS, 4, 4, ROWS, ROWS, 4]
    assert rows("/?page=2")[0] == f"web-{ROWS - 1:04}"
    assert rows("/?q=WEB-0007") == ["web-0007"]
    assert rows("/?q=10.96.9.9") == rows("/?q=30123") == rows("/?q=default/oth") == ["other"]
    assert rows("/?q=nothing") == []
    second = Text(shown.get("/?q=web&page=2&refresh=0"))
    assert f"{count} of {count + 1} Services fit, page 2 of 3" in second.text
    assert "/?q=web&refresh=0&page=3" in second.attributes["href"]
    assert "refresh" not in second.attributes.get("http-equiv", [])
    assert len(shown.get("/")) < 100_000


def test_an_answer_stays_small_whatever_one_service_has(show: Callable[..., Shown]) -> None:
    ports = [make_port(1000 + number, name=f"p{number}", target=8080) for number in range(100)]
    addresses = tuple(f"10.244.{number // 250}.{number % 250 + 1}" for number in range(1500))
    shown = show(make_service("wide", *ports), make_service("deep"), slices=(make_slice(*addresses, service="deep"),))
    assert len(shown.get("/services/default/wide")) < 300_000
    deep = shown.get("/services/default/deep")
    assert len(deep) < 300_000
    assert "and 1300 more endpoints" in deep


def test_what_objects_say_is_text(show: Callable[..., Shown]) -> None:
    """Names are checked where objects are taken in; here they are not, and still no more than text."""
    name = ObjectName(HOSTILE, HOSTILE)
    bad = replace(
        WEB,
        namespace=name.namespace,
        name=name.name,
        selector={HOSTILE: HOSTILE},
        external_traffic_policy=HOSTILE,
        proxy_name=None,
        ports=(replace(WEB.ports[0], name=HOSTILE, target_port=HOSTILE),),
    )
    piece = replace(
        make_slice(make_endpoint("10.244.1.2", node=HOSTILE), port_name=HOSTILE),
        namespace=HOSTILE,
        service=HOSTILE,
        name=HOSTILE,
    )
    status = Status(
        version=HOSTILE,
        node=HOSTILE,
        node_ports_on=HOSTILE,
        source=HOSTILE,
        synced=time.time(),
        without_endpoints=1,
        idle=(HOSTILE,),
        refused=((HOSTILE, HOSTILE),),
        problems=(f"annotation {HOSTILE} of \udcff",),
        error=HOSTILE,
    )
    shown = show(bad, slices=(piece,), nodes=(Node(HOSTILE),), status=status)
    asked = quote(HOSTILE, safe="")
    for path in (
        "/",
        f"/?q={asked}&page={asked}&refresh={asked}",
        f"/services/{asked}/{asked}",
        f"/trace?from={asked}&to={asked}&port={asked}&protocol={asked}",
        "/trace?from=192.0.2.7&to=172.30.1.2&port=30080",
        f"/services/{asked}/none",
    ):
        _, _, body = shown.ask(path)
        text = Text(body)
        assert not text.elements & {"script", "iframe", "object", "base", "style"}, path
        assert not any(name.startswith("on") or name == "style" for name in text.attributes), path
        assert "49" not in text.text.replace(HOSTILE, "").split(), path
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", body), path
        assert "<script>" not in body
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in body, path
        assert all(link.startswith(("/", "?", "#")) for link in text.attributes.get("href", [])), path
        assert not any(link.startswith("//") for link in text.attributes.get("href", [])), path


def test_every_answer_is_shut_in(show: Callable[..., Shown]) -> None:
    shown = show(WEB)
    for path, kind in [("/", "text/html"), ("/style.css", "text/css"), ("/icon.svg", "image/svg+xml")]:
        code, headers, body = shown.ask(path)
        assert (code, headers.get_content_type()) == (200, kind)
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert "script-src" not in policy
        assert set(policy.values()) == {"'none'", "'self'"}
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "http:" not in body.replace("http://www.w3.org/2000/svg", "")
        assert "https:" not in body
        code, headers, body = shown.ask(path, method="HEAD")
        assert (code, body) == (200, "")
        assert shown.ask(path, method="POST")[0] == 405
    assert "nodeport_nft_build_info" in shown.get("/metrics")
    assert shown.ask("/status", host="evil.example")[0] == 200  # which programs ask, by whatever name


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1:10249", 200),
        ("[::1]:10249", 200),
        ("192.0.2.1", 200),
        ("localhost:8001", 200),
        ("worker-1:10249", 200),
        ("WORKER-1", 200),
        ("evil.example", 421),
        ("evil.example:10249", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
    ],
)
def test_names_that_anybody_may_lead_here_are_not_answered(show: Callable[..., Shown], host: str, code: int) -> None:
    shown = show(WEB)
    for path in ("/", "/services/default/web", "/trace"):
        answered, _, body = shown.ask(path, host=host)
        assert answered == code
        assert ("10.96.0.10" in body or "Trace" in body) is (code == 200)


def test_without_a_state_it_says_so_and_without_the_setting_it_is_not_there() -> None:
    starting = Shown(None, Status(node="worker-1", started=time.time(), waits_for_store=True))
    with contextlib.closing(starting):
        assert "It waits for its store" in Text(starting.get("/")).text
    at = ip_address("127.0.0.1"), 0
    server = ObserveServer(Metrics("1"), healthz=None, metrics_address=at)
    with contextlib.closing(server):
        server.listen()
        connection = HTTPConnection("127.0.0.1", server.metrics_port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (404, b"there are /metrics, /status, /healthz\n")


def test_what_changes_while_it_is_read_is_read_again(
    show: Callable[..., Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = show(WEB, slices=(WEB_SLICE,))
    resolver = type(shown.page._reading._state().resolver)  # type: ignore[union-attr]
    endpoints, failing = resolver.endpoints, [2]

    def changing(self: object, service: Service) -> object:
        if failing[0]:
            failing[0] -= 1
            raise RuntimeError("dictionary changed size during iteration")
        return endpoints(self, service)  # type: ignore[arg-type]

    monkeypatch.setattr(resolver, "endpoints", changing)
    assert "10.244.1.2:8080" in shown.get("/services/default/web")
    failing[0] = 1000
    code, _, body = shown.ask("/")
    assert code == 503
    assert "changes all the time" in body


def test_who_asks_all_the_time_keeps_no_one_else_from_an_answer(show: Callable[..., Shown]) -> None:
    services = [
        make_service(f"web-{number:04}", ips=(f"10.96.{number >> 8}.{number & 255}",)) for number in range(2000)
    ]
    shown = show(*services)

    def flood(_: int) -> set[int]:
        return {shown.ask("/?q=1")[0] for _ in range(5)}

    with ThreadPoolExecutor(30) as threads:
        floods = [threads.submit(flood, number) for number in range(30)]
        for _ in range(20):
            assert shown.ask("/status")[0] == 200
        codes = set().union(*(done.result(PATIENCE) for done in floods))
    assert 200 in codes
    assert codes <= {200, 503}
    assert "1 of 2000" in Text(shown.get("/?q=web-1999")).text


def test_a_rate_is_what_came_between_two_looks() -> None:
    pace = Pace()
    assert pace.rates({"web": 10, "idle": 0}, 0.0) == {"web": None, "idle": None}
    assert pace.rates({"web": 30, "idle": 0}, 10.0) == {"web": 2.0, "idle": 0.0}
    assert pace.rates({"web": 31}, 10.5) == {"web": 2.0}  # somebody else looks on
    assert pace.rates({"web": 32}, 11.0) == {"web": 2.0}
    assert pace.rates({"web": 3}, 12.0) == {"web": None}  # it has begun anew
    assert pace.rates({"web": 5}, 14.0) == {"web": 1.0}
    assert pace.rates({"web": 500}, 15.0 + LONGEST) == {"web": None}
    for number in range(20_000):
        pace.rates({number: 1}, 0.0)
    assert len(pace._seen) == 10_000


def test_what_is_asked_for_in_too_many_words_is_answered_at_once(show: Callable[..., Shown]) -> None:
    code, _, body = show(WEB).ask(f"/?{'&'.join(f'q{number}=1' for number in range(21))}")
    assert code == 400
    assert "more than 20 fields" in Text(body).text


def test_the_style_waits_for_no_answer(show: Callable[..., Shown]) -> None:
    """Else a page without colours would stand there as long as others keep the daemon busy."""
    shown = show(WEB)
    shown.page._rested = time.monotonic() + 2 * PATIENCE
    assert shown.ask("/style.css")[0] == shown.ask("/icon.svg")[0] == 200
    assert shown.ask("/style.css", host="evil.example")[0] == 421


def test_nobody_waits_for_what_cannot_be_answered(
    show: Callable[..., Shown], caplog: pytest.LogCaptureFixture
) -> None:
    shown = show(WEB)

    def fail() -> Status:
        raise RuntimeError("no status")

    shown.page.follow(fail)
    assert shown.ask("/")[0] == 500
    assert "no answer could be made to GET '/'" in caplog.text
    assert shown.ask("/metrics")[0] == 200
