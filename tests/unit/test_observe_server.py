"""Probes, metrics and status over HTTP on the loopback interface, on ports that the kernel chooses (H2, H3)."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from http.client import HTTPConnection
from ipaddress import ip_address

import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from nodeport_nft.model import IPAddress
from nodeport_nft.observe.metrics import Metrics
from nodeport_nft.observe.server import MAX_CONNECTIONS, ObserveServer
from nodeport_nft.observe.status import Status, from_json
from nodeport_nft.serving import server as server_module
from nodeport_nft.serving.server import MAX_BYTES

FOUR, SIX = ip_address("127.0.0.1"), ip_address("::1")
ABSENT = ip_address("192.0.2.1")  # RFC 5737: for documentation only
PATIENCE = 60.0  # seconds until a test gives up

Answer = tuple[int, Message, bytes]


class Slow(Collector):
    """Waits for ``go``; ``entered`` is set once it does, ``left`` when it does no more, ``calls`` tells how often."""

    def __init__(self) -> None:
        self.entered, self.go, self.left = threading.Event(), threading.Event(), threading.Event()
        self.calls = 0

    def collect(self) -> Iterator[GaugeMetricFamily]:
        self.calls += 1
        self.entered.set()
        went = self.go.wait(PATIENCE)
        self.left.set()
        assert went
        yield GaugeMetricFamily("slow_calls", "", value=self.calls)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test leaves an error in the log, where those of the server's own tasks and threads end."""
    yield
    gc.collect()  # a task tells of its exception when it is forgotten
    records = [*caplog.get_records("call"), *caplog.get_records("teardown")]
    assert [record.getMessage() for record in records if record.levelno >= logging.ERROR] == []


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("0.1")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, metrics: Metrics) -> Iterator[ObserveServer]:
    """A server on both ports whose time limits nobody reaches, so that no other limit can hide behind them."""
    monkeypatch.setattr(server_module, "_SECONDS", 10 * PATIENCE)
    monkeypatch.setattr(server_module, "_LIFETIME", 10 * PATIENCE)
    with contextlib.closing(make(metrics)) as made:
        assert made.listen() == ()
        yield made


def make(
    metrics: Metrics,
    healthz: tuple[IPAddress, int] | None = (FOUR, 0),
    metrics_address: tuple[IPAddress, int] | None = (FOUR, 0),
) -> ObserveServer:
    return ObserveServer(metrics, healthz=healthz, metrics_address=metrics_address)


def synced(**fields: object) -> Status:
    return Status(**{"started": time.time(), "synced": time.time(), **fields})  # type: ignore[arg-type]


def ask(port: int, path: str, *, method: str = "GET", address: IPAddress = FOUR) -> Answer:
    with contextlib.closing(HTTPConnection(str(address), port, timeout=PATIENCE)) as connection:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def knock(port: int) -> socket.socket:
    return socket.create_connection((str(FOUR), port), timeout=PATIENCE)


def rest(connection: socket.socket) -> bytes:
    """What comes until the other side hangs up; a timeout is an error."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return received


def is_open(port: int) -> bool:
    try:
        knock(port).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.proves("H2")
def test_probes_tell_the_status_of_the_moment(server: ObserveServer) -> None:
    port = server.healthz_port
    late = time.time() - 61
    for status, healthz, livez in [
        (Status(started=time.time()), 503, 200),
        (synced(), 200, 200),
        (synced(node_deleted=True), 503, 200),
        (synced(pending=1, pending_since=late), 503, 503),
        (synced(pending=1, pending_since=late, sync_period=3600.0), 200, 200),
    ]:
        server.set_status(status)
        assert (ask(port, "/healthz")[0], ask(port, "/livez")[0]) == (healthz, livez)
        assert ask(server.metrics_port, "/healthz")[0] == healthz


@pytest.mark.proves("H2")
def test_before_the_first_status_nobody_should_choose_this_node(server: ObserveServer) -> None:
    assert [ask(server.healthz_port, path)[0] for path in ("/healthz", "/livez")] == [503, 200]


@pytest.mark.proves("H2")
@pytest.mark.proves("W4")
@pytest.mark.parametrize("address", [FOUR, SIX], ids=str)
def test_all_addresses_of_ipv6_are_those_of_ipv4_too(metrics: Metrics, address: IPAddress) -> None:
    """As of kube-proxy: kubeadm has "bindAddress: ::" on IPv6 alone, and kubelet's probes come to 127.0.0.1."""
    everywhere = make(metrics, healthz=(ip_address("::"), 0), metrics_address=(ip_address("::"), 0))
    with contextlib.closing(everywhere):
        assert everywhere.listen() == ()
        for port, path in ((everywhere.healthz_port, "/livez"), (everywhere.metrics_port, "/metrics")):
            code, _, _ = ask(port, path, address=address)
            assert code in (200, 503)


def test_a_probes_body(server: ObserveServer) -> None:
    server.set_status(synced(node_deleted=True))
    _, headers, body = ask(server.healthz_port, "/healthz?verbose")
    assert (headers["Content-Type"], headers["X-Content-Type-Options"]) == ("application/json", "nosniff")
    told = json.loads(body)
    assert (told["nodeEligible"], told["healthy"]) == (False, True)
    assert "nodeEligible" not in json.loads(ask(server.healthz_port, "/livez")[2])


@pytest.mark.proves("H3")
def test_metrics_are_what_was_counted(server: ObserveServer, metrics: Metrics) -> None:
    metrics.counted(services=12, refused=0)
    ask(server.healthz_port, "/healthz")
    ask(server.healthz_port, "/livez")
    status, headers, body = ask(server.metrics_port, "/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = body.decode().splitlines()
    assert "nodeport_nft_services 12.0" in lines
    assert 'kubeproxy_proxy_healthz_total{code="503"} 1.0' in lines
    assert 'kubeproxy_proxy_livez_total{code="200"} 1.0' in lines


def test_status_is_the_status(server: ObserveServer) -> None:
    status = synced(node="worker-1", refused=(("shop/web", "no"),), problems=("é\n",))
    server.set_status(status)
    code, headers, body = ask(server.metrics_port, "/status")
    assert (code, headers["Content-Type"]) == (200, "application/json")
    assert from_json(body) == status


def test_each_port_has_its_own_paths(server: ObserveServer) -> None:
    for port, paths in [
        (server.healthz_port, ("/", "/metrics", "/status", "/healthz/x", "/HEALTHZ", "*")),
        (server.metrics_port, ("/", "/livez", "/metrics/", "/favicon.ico")),
    ]:
        assert {ask(port, path)[0] for path in paths} == {404}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "NONSENSE"])
def test_nothing_can_be_changed(server: ObserveServer, method: str) -> None:
    server.set_status(synced())
    for port, path in [(server.healthz_port, "/livez"), (server.metrics_port, "/metrics")]:
        status, headers, _ = ask(port, path, method=method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert ask(server.metrics_port, "/nowhere", method=method)[0] == 404


@pytest.mark.parametrize("path", ["/status", "/metrics", "/healthz", "/nowhere"])
@pytest.mark.parametrize(
    ("host", "by_browser", "is_answered"),
    [
        ("evil.example:10249", True, False),
        ("worker-1.evil.example", True, False),
        ("evil.example", False, True),  # Prometheus asks by whatever name it has found
        ("worker-1.corp.example:10249", False, True),
        ("127.0.0.1:10249", True, True),
        ("[::1]:10249", True, True),
        ("localhost", True, True),
        ("Worker-1:10249", True, True),
    ],
)
def test_no_web_site_reads_it_through_a_browser(
    server: ObserveServer, path: str, host: str, by_browser: bool, is_answered: bool
) -> None:
    server.set_status(synced(node="worker-1"))
    for of_browser in ("Accept-Language: de", "Origin: http://evil.example", "sec-fetch-site: same-origin"):
        with knock(server.metrics_port) as connection:
            more = f"{of_browser}\r\n" if by_browser else ""
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n".encode())
            code = int(rest(connection).split(b" ", 2)[1])
        assert code == ((404 if path == "/nowhere" else 200) if is_answered else 421)


def test_head_has_the_headers_and_no_body(server: ObserveServer) -> None:
    whole = ask(server.metrics_port, "/status")
    with knock(server.metrics_port) as connection:
        connection.sendall(b"HEAD /status HTTP/1.1\r\nHost: node\r\n\r\n")
        head, _, body = rest(connection).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert f"Content-Length: {len(whole[2])}" in lines
    assert body == b""


def test_both_families(metrics: Metrics) -> None:
    with contextlib.closing(make(metrics, (SIX, 0), (FOUR, 0))) as server:
        assert server.listen() == ()
        assert ask(server.healthz_port, "/livez", address=SIX)[0] == 200
        assert ask(server.metrics_port, "/status", address=FOUR)[0] == 200


def test_what_is_switched_off_is_not_served(metrics: Metrics) -> None:
    with contextlib.closing(make(metrics, None, None)) as server:
        assert server.listen() == ()
        assert (server.healthz_port, server.metrics_port) == (0, 0)


def test_a_port_in_use_is_told_and_tried_again(metrics: Metrics) -> None:
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(socket.create_server((str(FOUR), 0)))
        port = held.getsockname()[1]
        server = stack.enter_context(contextlib.closing(make(metrics, (FOUR, port))))
        assert server.listen() == (
            f"healthzBindAddress: 127.0.0.1:{port} cannot be opened: Address already in use; stop the program that "
            f"listens there (`ss -ltnp 'sport = :{port}'` names it), or choose another address; "
            "probes of the node fail until then",
        )
        assert len(server.listen()) == 1
        metrics_port = server.metrics_port
        assert (server.healthz_port, ask(metrics_port, "/status")[0]) == (0, 200)
        held.close()
        assert server.listen() == ()
        assert ask(port, "/livez")[0] == 200
        assert server.listen() == ()
        assert server.metrics_port == metrics_port


def test_an_address_the_node_does_not_have(metrics: Metrics) -> None:
    with contextlib.closing(make(metrics, None, (ABSENT, 10249))) as server:
        (trouble,) = server.listen()
    assert trouble.startswith("metricsBindAddress: 192.0.2.1:10249 cannot be opened: Cannot assign requested address")
    assert "give the node this address" in trouble


def test_a_slow_collector_keeps_no_probe_waiting_and_scrapes_share_it(
    server: ObserveServer, metrics: Metrics
) -> None:
    slow = Slow()
    metrics.registry.register(slow)
    with ThreadPoolExecutor(1) as pool, knock(server.metrics_port) as second:
        first = pool.submit(ask, server.metrics_port, "/metrics")
        try:
            assert slow.entered.wait(PATIENCE)
            second.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            # More rounds of the event loop than it takes to read the second request.
            assert [ask(server.healthz_port, "/livez")[0] for _ in range(10)] == [200] * 10
        finally:
            slow.go.set()
        assert b"\nslow_calls 1.0\n" in first.result(PATIENCE)[2]
        assert b"\nslow_calls 1.0\n" in rest(second)
    assert b"\nslow_calls 2.0\n" in ask(server.metrics_port, "/metrics")[2]


def test_a_collector_that_fails_is_named_and_nothing_else_fails(server: ObserveServer, metrics: Metrics) -> None:
    class Broken(Collector):
        def collect(self) -> list[GaugeMetricFamily]:
            raise RuntimeError("the kernel says\x1b no\udcff")

    broken = Broken()
    metrics.registry.register(broken)
    status, _, body = ask(server.metrics_port, "/metrics")
    assert status == 500
    assert body.startswith(b"a collector failed: RuntimeError: the kernel says")
    assert ask(server.healthz_port, "/livez")[0] == 200
    metrics.registry.unregister(broken)
    assert ask(server.metrics_port, "/metrics")[0] == 200


def test_an_answer_larger_than_every_buffer_arrives_whole(server: ObserveServer, metrics: Metrics) -> None:
    class Large(Collector):
        def collect(self) -> Iterator[GaugeMetricFamily]:
            family = GaugeMetricFamily("large", "", labels=["n"])
            for number in range(150_000):
                family.add_metric([f"{number:060}"], number)
            yield family

    metrics.registry.register(Large())
    body = ask(server.metrics_port, "/metrics")[2]
    assert len(body) > 10_000_000
    assert body.count(b"\nlarge{") == 150_000


def test_a_client_that_goes_away_harms_nobody(server: ObserveServer, metrics: Metrics) -> None:
    slow = Slow()
    metrics.registry.register(slow)
    with knock(server.metrics_port) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert slow.entered.wait(PATIENCE)
    slow.go.set()
    assert ask(server.metrics_port, "/metrics")[0] == 200


def test_who_holds_connections_open_pushes_out_its_own(server: ObserveServer) -> None:
    with contextlib.ExitStack() as stack:
        probe = stack.enter_context(knock(server.healthz_port))
        held = [stack.enter_context(knock(server.metrics_port)) for _ in range(MAX_CONNECTIONS + 1)]
        assert rest(held[0]) == b""
        held[1].sendall(b"GET /status HTTP/1.1\r\n\r\n")
        assert rest(held[1]).startswith(b"HTTP/1.1 200 OK")
        probe.sendall(b"GET /livez HTTP/1.1\r\n\r\n")
        assert rest(probe).startswith(b"HTTP/1.1 200 OK")
    assert server._observed.pool.dismissed == set()  # else each of them would stay in memory


def is_served(port: int) -> bool:
    """Whether a probe passes. Who asks on a machine that stalls does not finish in time himself, and asks again."""
    for _ in range(100):
        with contextlib.suppress(ConnectionError):
            return ask(port, "/livez")[0] == 200
    return False


@pytest.mark.parametrize("limit", ["_SECONDS", "_LIFETIME"])
@pytest.mark.parametrize(
    "sent", [b"", b"GET /livez HTTP/1.1\r\nHost:", b"GET /livez HTTP/1.1\r\nContent-Length: 5\r\n\r\na"]
)
def test_who_does_not_finish_is_hung_up_on(
    monkeypatch: pytest.MonkeyPatch, metrics: Metrics, limit: str, sent: bytes
) -> None:
    for name in ("_SECONDS", "_LIFETIME"):
        monkeypatch.setattr(server_module, name, 0.2 if name == limit else 10 * PATIENCE)
    with contextlib.closing(make(metrics)) as server:
        server.listen()
        with knock(server.healthz_port) as connection:
            connection.sendall(sent)
            assert rest(connection) == b""
        assert is_served(server.healthz_port)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /livez HTTP/1.1\r\nX: " + b"x" * MAX_BYTES,
        b"GET /livez HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BYTES + 1),
        b"\x16\x03\x01\x02\x00\r\n\r\n",
    ],
    ids=["header", "body", "no HTTP"],
)
def test_too_much_or_nonsense_is_refused(server: ObserveServer, sent: bytes) -> None:
    with knock(server.healthz_port) as connection:
        connection.sendall(sent)
        assert rest(connection) in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert ask(server.healthz_port, "/livez")[0] == 200


def test_close_ends_everything_once_and_for_all(metrics: Metrics) -> None:
    before = set(threading.enumerate())
    server = make(metrics)
    server.listen()
    ports = (server.healthz_port, server.metrics_port)
    ask(server.metrics_port, "/metrics")
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(knock(ports[1])) for _ in range(MAX_CONNECTIONS + 1)]  # one is pushed out
        server.close()
        assert [rest(connection) for connection in held] == [b""] * len(held)
    server.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
    assert set(threading.enumerate()) <= before  # of another test's threads one may just have ended
    assert not any(map(is_open, ports))
    assert server.listen() == ()
    server.set_status(synced())
    assert (server.healthz_port, server.metrics_port) == (0, 0)


def test_close_does_not_wait_for_a_scrape(metrics: Metrics) -> None:
    slow = Slow()
    metrics.registry.register(slow)
    before = set(threading.enumerate())
    server = make(metrics)
    server.listen()
    with knock(server.metrics_port) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert slow.entered.wait(PATIENCE)
        server.close()
        assert not slow.left.is_set()
        assert rest(connection) == b""
    slow.go.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
    assert set(threading.enumerate()) == before
