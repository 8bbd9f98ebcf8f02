"""Which probes a node runs, what their results mean, and what one probe makes of a server (X9)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from msgspec.structs import replace

from nodeport_nft.daemon.probes import Probes
from nodeport_nft.daemon.verdicts import LocalVerdicts
from nodeport_nft.model import (
    MEMBER,
    PROBE_FAILURE,
    Endpoint,
    EndpointSlice,
    HttpGet,
    Member,
    Pod,
    Probe,
    ProbeFailure,
    Ref,
    TcpSocket,
    Value,
)
from nodeport_nft.probing import prober
from nodeport_nft.probing.asking import USER_AGENT, Unheard, ask
from nodeport_nft.probing.prober import MOST, Prober, Watch
from nodeport_nft.probing.ring import Ring
from nodeport_nft.probing.streak import NEVER_PASSED, Streak
from nodeport_nft.probing.targets import Target, Targets, Turn
from nodeport_nft.store.api import Change

PROBE = Probe(TcpSocket(80))
OTHER = Probe(TcpSocket(81))
PATIENCE = 60.0


# --- what a row of results means --------------------------------------------------------------------------------


def judged(streak: Streak, results: str) -> str:
    """The verdict after each result, a probe a second from 100 on: + passes, - fails."""
    found = ""
    for number, result in enumerate(results):
        before = streak.failing_since
        changed = streak.result(result == "+", 100.0 + number)
        assert changed == (streak.failing_since != before)
        found += "+" if streak.failing_since is None else "-"
    return found


@pytest.mark.parametrize(
    ("failures", "successes", "results", "verdicts"),
    [
        (3, 1, "---+", "++-+"),
        (3, 1, "--+--+---", "++++++++-"),  # in a row
        (1, 1, "-+-+", "-+-+"),
        (2, 3, "--++-+++", "+-----" + "-+"),
        (3, 1, "+++", "+++"),
        (1, 2, "-+-++", "----+"),
    ],
)
def test_thresholds(failures: int, successes: int, results: str, verdicts: str) -> None:
    assert judged(Streak(Probe(TcpSocket(80), 0, 1, 1, successes, failures)), results) == verdicts


def test_what_fails_does_so_since_the_first_of_the_failures_in_a_row() -> None:
    """What a switch takes along is noticed within a period, whatever the thresholds."""
    streak = Streak(PROBE)
    judged(streak, "-+---")
    assert streak.failing_since == 102.0
    judged(streak, "--")
    assert streak.failing_since == 102.0, "it stays"


@pytest.mark.parametrize(
    ("probe", "at_once", "results", "verdicts"),
    [
        (PROBE, "+", "-+---", "-+++-"),  # one failure will do, until it has passed
        (PROBE, "+", "+--", "+++"),
        (PROBE, "+", "---+", "---+"),
        (replace(PROBE, success_threshold=2), "-", "+-++", "---+"),
        (replace(PROBE, initial_delay=5), "-", "+--", "+++"),
    ],
)
def test_of_what_is_new_the_first_result_decides(probe: Probe, at_once: str, results: str, verdicts: str) -> None:
    streak = Streak.of_new(probe)
    assert ("+" if streak.failing_since is None else "-") == at_once
    assert judged(streak, results) == verdicts


def test_what_is_new_and_fails_has_never_passed() -> None:
    streak = Streak.of_new(PROBE)
    judged(streak, "-")
    assert streak.failing_since == NEVER_PASSED
    judged(streak, "+---")
    assert streak.failing_since == 101.0


# --- what is to be probed, by whom ------------------------------------------------------------------------------


def target(address: str, probe: Probe = PROBE, *more: str) -> Target:
    return Target("default", (address, *more), probe)


def pod(address: str, node: str = "", probe: Probe = PROBE) -> tuple[Value, ...]:
    return (Pod("default", "web", ips=(ip_address(address),), node_name=node, probes=(probe,)),)


def piece(*addresses: str, probe: Probe | None = PROBE, node: str = "", name: str = "web") -> tuple[Value, ...]:
    endpoints = tuple(Endpoint(ip_address(address), node_name=node) for address in addresses)
    return (EndpointSlice("default", name, name, (), endpoints, probe=probe),)


WEB = Ref("Pod", "default", "web")
SLICE = Ref("EndpointSlice", "default", "web")


def put(targets: Targets, ref: Ref, values: tuple[Value, ...], before: tuple[Value, ...] | None = None) -> Turn:
    targets.put(ref, values, before)
    return targets.turn()


def test_what_an_object_has_to_be_probed_begins_and_ends_with_it() -> None:
    targets = Targets("a")
    assert put(targets, WEB, pod("10.1.0.1")).begun == (target("10.1.0.1"),)
    assert put(targets, WEB, pod("10.1.0.1")) == Turn()
    changed = put(targets, WEB, pod("10.1.0.1", probe=OTHER))
    assert (changed.begun, changed.ended) == ((target("10.1.0.1", OTHER),), (target("10.1.0.1"),))
    assert put(targets, WEB, ()) == Turn(ended=(target("10.1.0.1", OTHER),))
    assert len(targets) == 0


def test_a_pod_is_probed_at_its_first_address_on_behalf_of_all() -> None:
    ips = (ip_address("10.1.0.1"), ip_address("fd00::1"))
    turn = put(Targets("a"), WEB, (Pod("default", "web", ips=ips, probes=(PROBE, OTHER)),))
    assert set(turn.begun) == {target("10.1.0.1", PROBE, "fd00::1"), target("10.1.0.1", OTHER, "fd00::1")}


def test_the_same_probe_of_several_objects_is_one_and_lasts_as_long_as_one_of_them() -> None:
    targets = Targets("a")
    second = Ref("EndpointSlice", "default", "second")
    assert len(put(targets, SLICE, piece("10.1.0.1", "10.1.0.1", "10.1.0.2")).begun) == 2
    assert put(targets, second, piece("10.1.0.1", name="second")) == Turn()
    assert put(targets, SLICE, ()).ended == (target("10.1.0.2"),)
    assert put(targets, second, ()).ended == (target("10.1.0.1"),)


def test_an_address_that_an_object_had_before_it_had_a_probe_is_not_new() -> None:
    """A slip in a probe that is added must not empty a Service in a moment."""
    targets = Targets("a")
    bare, probed = piece("10.1.0.1", probe=None), piece("10.1.0.1", "10.1.0.2")
    assert put(targets, SLICE, bare, ()) == Turn()
    turn = put(targets, SLICE, probed, bare)
    assert set(turn.begun) == {target("10.1.0.1"), target("10.1.0.2")}
    assert turn.new == {target("10.1.0.2")}
    assert put(targets, WEB, pod("10.1.0.2"), ()).new == frozenset(), "another object has it"
    assert put(targets, Ref("Pod", "default", "b"), pod("10.1.0.3"), ()).new == {target("10.1.0.3")}
    assert put(targets, Ref("Pod", "default", "c"), pod("10.1.0.4"), None).new == frozenset(), "all that there is"


def test_each_probe_of_a_new_pod_is_new() -> None:
    """One for each of its containers; what is ready when the first has passed is not the whole Pod."""
    both = tuple(replace(one, probes=(PROBE, OTHER)) for one in pod("10.1.0.1") if isinstance(one, Pod))
    assert put(Targets("a"), WEB, both, ()).new == {target("10.1.0.1"), target("10.1.0.1", OTHER)}


def shares(members: list[str], node: str, count: int = 60) -> dict[str, set[str]]:
    """Which addresses each node probes, of endpoints of which nobody knows where they are, or on ``node``."""
    found = {}
    for name in members:
        targets = Targets(name)
        for member in members:
            targets.put(Ref(MEMBER, "", member), (Member(member),))
        turn = put(targets, SLICE, piece(*(f"10.1.0.{n}" for n in range(1, count + 1)), node=node))
        found[name] = {each.addresses[0] for each in turn.begun}
    return found


@pytest.mark.parametrize("node", ["", "gone"])
def test_what_is_on_no_live_node_is_dealt_out_each_to_one(node: str) -> None:
    found = shares(["a", "b", "c"], node)
    assert sum(map(len, found.values())) == 60
    assert len(set().union(*found.values())) == 60
    assert all(found.values())


def test_what_is_on_a_live_node_is_that_ones() -> None:
    found = shares(["a", "b", "c"], "b")
    assert [len(found[name]) for name in ("a", "b", "c")] == [0, 60, 0]


def test_members_come_and_go() -> None:
    """As the store tells of them: what is one's own stays, the rest is dealt out anew, and none is left alone."""
    a, b = Targets("a"), Targets("b")
    everywhere = piece(*(f"10.1.0.{n}" for n in range(1, 21)))
    on_b = pod("10.2.0.1", "b")
    for targets in (a, b):
        targets.put(SLICE, everywhere)
        targets.put(WEB, on_b)
    assert len(a.turn().begun) == 21, "alone as far as it knows"
    b.turn()
    registered = (Ref(MEMBER, "", "b"), (Member("b"),))
    turn = put(a, *registered)
    assert set(turn.ended) == turn.elsewhere, "nothing of it is gone"
    assert target("10.2.0.1") in turn.elsewhere
    b.put(Ref(MEMBER, "", "a"), (Member("a"),))
    assert b.turn().elsewhere.isdisjoint(turn.elsewhere)
    assert len(a) + len(b) == 21
    away = put(a, Ref(MEMBER, "", "b"), (Member("b", is_live=False),))
    assert set(away.begun) == set(turn.ended), "long before it counts as lost"
    assert away.new == frozenset()
    assert put(a, Ref(MEMBER, "", "b"), (Member("b", lost_at=1.0, is_live=False),)) == Turn()
    assert put(a, Ref(MEMBER, "", "b"), ()) == Turn()
    assert set(put(a, *registered).ended) == set(turn.ended)


def test_nobody_is_there_whom_a_new_listing_does_not_name() -> None:
    """Or what a node that was forgotten has probed would be nobody's for ever."""
    a = Targets("a")
    everywhere = piece(*(f"10.1.0.{n}" for n in range(1, 21)))
    a.put(Ref(MEMBER, "", "b"), (Member("b"),))
    assert 0 < len(put(a, SLICE, everywhere).begun) < 20
    a.forget()
    put(a, SLICE, everywhere)
    assert len(a) == 20


def test_what_could_not_be_begun_is_so_the_next_time() -> None:
    a = Targets("a")
    turn = put(a, SLICE, piece("10.1.0.1", "10.1.0.2", "10.1.0.3"))
    a.give_back(turn.begun[1:])
    assert len(a) == 1
    assert set(a.turn().begun) == set(turn.begun[1:])
    a.give_back(turn.begun)
    assert put(a, SLICE, ()) == Turn(), "of what has gone meanwhile nothing was begun"


def test_all_there_is_once_more_ends_nothing_that_is_still_there() -> None:
    targets = Targets("a")
    put(targets, WEB, pod("10.1.0.1"))
    put(targets, SLICE, piece("10.1.0.2"))
    targets.forget()
    assert put(targets, WEB, pod("10.1.0.1")) == Turn(ended=(target("10.1.0.2"),))


def test_one_more_takes_a_share_of_each_and_moves_nothing_else() -> None:
    ring = Ring()
    assert ring.owner("x") == ""
    names = [f"node-{n}" for n in range(20)]
    keys = [f"default/10.0.{n >> 8}.{n & 255}" for n in range(2000)]
    assert ring.become(names[:-1])
    before = {key: ring.owner(key) for key in keys}
    assert ring.become(names)
    after = {key: ring.owner(key) for key in keys}
    assert {after[key] for key in keys if after[key] != before[key]} == {names[-1]}
    counts = [list(after.values()).count(name) for name in names]
    assert 25 < min(counts) <= max(counts) < 250
    assert not ring.become(names[::-1])
    assert ring.become(names[:-1])
    assert {key: ring.owner(key) for key in keys} == before


# --- what a daemon makes of it ----------------------------------------------------------------------------------

SELDOM = Probe(TcpSocket(80), period=100_000)
ON_B = Ref(MEMBER, "", "b"), (Member("b"),)
B_IS_AWAY = Ref(MEMBER, "", "b"), (Member("b", is_live=False),)
FAILS = ProbeFailure("default", ip_address("10.2.0.1"), 77.0)
FAILURE = Ref(PROBE_FAILURE, "default", "10.2.0.1")


class Shared:
    """Verdicts for all nodes of a store: those that were told last."""

    is_local = False

    def __init__(self) -> None:
        self.told: dict[Ref, ProbeFailure | None] = {}

    def known(self) -> dict[Ref, ProbeFailure]:
        return {}

    def put(self, failure: ProbeFailure) -> None:
        self.told[Ref(PROBE_FAILURE, failure.namespace, str(failure.address))] = failure

    def clear(self, ref: Ref) -> None:
        self.told[ref] = None

    leave = clear

    async def run(self) -> None:
        await asyncio.Event().wait()


def with_probes(work: Callable[[Probes, Shared], None]) -> None:
    """Let node ``a`` work on a store where ``b`` probes what is on it, one endpoint that fails."""

    async def run() -> None:
        verdicts = Shared()
        probes = Probes("a", verdicts, Mock(), lambda _: ())
        found = [(WEB, pod("10.2.0.1", "b", SELDOM)), ON_B, (FAILURE, (FAILS,))]
        try:
            probes.begin(Change(*each) for each in found)
            work(probes, verdicts)
        finally:
            probes.close()

    asyncio.run(run())


def test_who_takes_over_from_a_prober_takes_over_what_it_has_found_to_fail() -> None:
    """Its verdicts end with its lease, in the same moment as its registration."""

    def work(probes: Probes, verdicts: Shared) -> None:
        assert not verdicts.told
        for gone in [(FAILURE, ()), B_IS_AWAY]:
            probes.put(*gone)
        probes.turn()
        assert verdicts.told == {FAILURE: FAILS}

    with_probes(work)


def test_what_has_passed_before_its_prober_is_gone_is_not_taken_for_failing() -> None:
    def work(probes: Probes, verdicts: Shared) -> None:
        probes.put(FAILURE, ())
        probes.turn()
        probes.put(*B_IS_AWAY)
        probes.turn()
        assert not verdicts.told

    with_probes(work)


def test_what_could_not_be_begun_for_want_of_a_thread_is_begun_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(probes: Probes, verdicts: Shared) -> None:
        def no_more(_: object) -> None:
            raise RuntimeError("can't start new thread")

        probes.put(*B_IS_AWAY)
        with monkeypatch.context() as short:
            short.setattr(threading.Thread, "start", no_more)
            with pytest.raises(RuntimeError):
                probes.turn()
        assert not verdicts.told
        probes.begin([Change(WEB, pod("10.2.0.1", "b", SELDOM)), Change(FAILURE, (FAILS,))])
        assert verdicts.told == {FAILURE: FAILS}

    with_probes(work)


def test_a_note_outlives_a_restart_and_not_its_endpoint(tmp_path: Path) -> None:
    """Who gets the address later, is well, and sees another restart must not be taken for what was noted once."""

    def begin() -> LocalVerdicts:
        return LocalVerdicts(str(tmp_path / "run"), "a", Mock(), Mock())

    async def known_after(fails: bool) -> bool:
        verdicts = begin()
        known = bool(verdicts.known())
        if fails:
            verdicts.put(FAILS)
        running = asyncio.create_task(verdicts.run())
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait((running,))
        return known

    known = [asyncio.run(known_after(fails)) for fails in (True, True, False, False)]
    assert known == [False, True, True, False]


def test_an_end_before_a_thread_has_come_to_it_notes_the_last_verdicts(tmp_path: Path) -> None:
    def begin() -> LocalVerdicts:
        return LocalVerdicts(str(tmp_path / "run"), "a", Mock(), Mock())

    async def end_while_workers_are_busy() -> None:
        workers, is_free = ThreadPoolExecutor(1), threading.Event()
        asyncio.get_running_loop().set_default_executor(workers)
        workers.submit(is_free.wait, PATIENCE)
        verdicts = begin()
        verdicts.put(FAILS)
        running = asyncio.create_task(verdicts.run())
        await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.wait((running,))
        is_free.set()

    asyncio.run(end_while_workers_are_busy())
    assert dict(begin().known()) == {FAILURE: FAILS}


# --- what one probe makes of a server ---------------------------------------------------------------------------


class Server:
    """Answers each connection with what it is given, byte for byte, whatever is asked; over TLS if it has that."""

    def __init__(self, answers: dict[str, bytes] | bytes, context: ssl.SSLContext | None = None) -> None:
        self._answers = answers
        self._context = context
        self.asked: list[str] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def _serve(self) -> None:
        with ThreadPoolExecutor(4) as workers, contextlib.suppress(OSError):
            while True:
                workers.submit(self._answer, self._listening.accept()[0])

    def _answer(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.settimeout(PATIENCE)
            if self._context:
                sock = self._context.wrap_socket(sock, server_side=True)
            with sock:
                request = sock.recv(65536).decode()
                self.asked.append(request)
                path = request.split(" ")[1]
                body = self._answers if isinstance(self._answers, bytes) else self._answers[path]
                sock.sendall(body.removesuffix(b"..."))
                if body.endswith(b"..."):  # and it hangs
                    self._closing.wait(PATIENCE)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def make(*words: Any) -> Server:
        servers.append(Server(*words))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def asked(probe: Probe, address: str = "127.0.0.1", *, seconds: int = int(PATIENCE)) -> str:
    """What a probe says that waits so long for an answer; of one that was read too late it is asked once more."""
    for _ in range(10):
        with contextlib.suppress(Unheard):
            return asyncio.run(ask(replace(probe, timeout=seconds), address))
    raise AssertionError("this machine was too busy ten times")


def http(status: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode() + body


OK = http("200 OK", "Content-Length: 2", body=b"ok")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (OK, ""),
        (http("200 OK", body=b"until the end"), ""),
        (b"HTTP/1.0 200 OK\r\n\r\nold", ""),
        (http("204 No Content"), ""),
        (http("299 Odd", "Content-Length: 0"), ""),
        (http("304 Not Modified"), ""),
        (http("300 Many", "Content-Length: 0", "Location: /there"), ""),  # a kubelet does not follow it
        (http("302 Found", "Content-Length: 0"), ""),  # to nowhere
        (http("400 Bad", "Content-Length: 0"), "HTTP status 400"),
        (http("500 No", "Content-Length: 3", body=b"bad"), "HTTP status 500"),
        (http("503 No", "Transfer-Encoding: chunked", body=b"1\r\nx\r\n0\r\n\r\n"), "HTTP status 503"),
        (http("100 Continue") + OK, ""),
        (http("200 OK", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n"), ""),
        (http("200 OK", "Content-Length: 1000000", body=b"x" * 20_000 + b"..."), ""),  # 10 KiB will do
        (http("200 OK", "Content-Length: 20", body=b"x"), "no whole answer over HTTP"),
        (b"", "no whole answer over HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no whole answer over HTTP"),
        (b"HTTP/1.1 abc\r\n\r\n", "no whole answer over HTTP"),
        (http("200 OK", "Content-Length: x"), "no whole answer over HTTP"),
        (http("200 OK", "no colon"), "no whole answer over HTTP"),
        (http("200 OK", "A: " + "x" * 100_000, "Content-Length: 0"), "no whole answer over HTTP"),
        (b"\x00" * 200_000, "no whole answer over HTTP"),
        (b"...", "no answer within 1 s"),
        (b"HTTP/1.1 200 OK\r\n...", "no answer within 1 s"),
        (http("200 OK", "Content-Length: 20", body=b"x..."), "no answer within 1 s"),
    ],
)
def test_what_an_answer_means(serve: Callable[..., Server], answer: bytes, why: str) -> None:
    seconds = 1 if why.startswith("no answer") else int(PATIENCE)
    assert asked(Probe(HttpGet(serve(answer).port)), seconds=seconds) == why


def test_what_is_asked(serve: Callable[..., Server]) -> None:
    server = serve(OK)
    headers = (("X-A", "1"), ("X-A", "2"), ("host", "web.example"), ("Accept", ""))
    assert asked(Probe(HttpGet(server.port, "/healthz?full=1", headers=headers))) == ""
    assert asked(Probe(HttpGet(server.port, host="localhost", headers=(("User-Agent", "me"),))), "127.9.9.9") == ""
    closing = ["Connection: close", "", ""]
    first, second = (sorted(text.split("\r\n")) for text in server.asked)
    assert first == sorted(
        [
            "GET /healthz?full=1 HTTP/1.1",
            "X-A: 1",
            "X-A: 2",
            "Host: web.example",
            f"User-Agent: {USER_AGENT}",
            *closing,
        ]
    )
    assert f"Host: localhost:{server.port}" in second
    assert "User-Agent: me" in second
    assert "Accept: */*" in second


def test_redirects_to_the_same_host_are_followed_and_others_are_a_success(serve: Callable[..., Server]) -> None:
    def to(where: str, status: str = "302 Found") -> bytes:
        return http(status, f"Location: {where}", "Content-Length: 0")

    server = serve(
        {
            "/ok": OK,
            "/bad": http("500 No", "Content-Length: 0"),
            "/good/": to("../ok", "301 Moved"),
            "/ill": to("/bad", "307 Temporary"),
            "/other": to("http://other.invalid/"),
            "/loop": to("/loop", "308 Permanent"),
            "/scheme": to("gopher://127.0.0.1/"),
            "/port": to("http://127.0.0.1:1/"),
        }
    )
    found = {path: asked(Probe(HttpGet(server.port, path))) for path in ("/good/", "/ill", "/other", "/loop")}
    assert found == {"/good/": "", "/ill": "HTTP status 500", "/other": "", "/loop": "more than 10 redirects"}
    assert sum("GET /loop " in text for text in server.asked) == 11
    assert asked(Probe(HttpGet(server.port, "/scheme"))) == "a redirect to no URL of HTTP"
    assert asked(Probe(HttpGet(server.port, "/port"))) == "connection refused"


def test_a_certificate_is_not_looked_at(serve: Callable[..., Server], tmp_path: Path) -> None:
    """Self-signed, and for another name."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-days", "1", "-subj", "/CN=somebody", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(argv, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    assert asked(Probe(HttpGet(serve(OK, context).port, tls=True))) == ""
    assert asked(Probe(HttpGet(serve(OK).port, tls=True))).startswith("TLS: ")


def test_a_socket_that_opens_will_do(serve: Callable[..., Server]) -> None:
    port = serve(b"...").port
    assert asked(Probe(TcpSocket(port))) == ""
    assert asked(Probe(TcpSocket(port, host="127.0.0.1")), "127.9.9.9") == ""
    with socket.create_server(("127.0.0.1", 0)) as free:
        unused = int(free.getsockname()[1])
    assert asked(Probe(TcpSocket(unused))) == "connection refused"
    assert asked(Probe(HttpGet(unused))) == "connection refused"
    assert asked(Probe(TcpSocket(unused)), "::1") == "connection refused"
    assert asked(Probe(TcpSocket(unused, host="nobody.invalid"))) == "no such host"


def test_an_answer_that_we_are_too_late_to_read_says_nothing(serve: Callable[..., Server]) -> None:
    """As after a SIGSTOP, or on a machine that does not come to it: the endpoint may well have answered in time."""

    async def held_up() -> str:
        asyncio.get_running_loop().call_later(0.2, time.sleep, 2.0)
        return await ask(Probe(HttpGet(serve(b"...").port)), "127.0.0.1")

    with pytest.raises(Unheard):
        asyncio.run(held_up())


# --- all of them, again and again -------------------------------------------------------------------------------


class Told:
    """What a prober tells, and its clock turned up: a second is a hundredth."""

    def __init__(self) -> None:
        self.verdicts: list[tuple[str, bool, str]] = []
        self.failures: list[BaseException] = []
        self.prober = Prober(self._told, self.failures.append)

    def _told(self, watch: Watch, since: float | None, why: str) -> None:
        self.verdicts.append((watch.target.addresses[0], since is None, why))

    def watch(self, address: str, probe: Probe, *, spread: bool = False) -> Watch:
        made = Watch(target(address, probe), Streak(probe))
        self.prober.begin(made, spread=spread)
        return made

    def until(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while len(self.verdicts) < count:
            assert time.monotonic() < deadline, self.verdicts
            time.sleep(0.005)


@pytest.fixture
def told() -> Iterator[Told]:
    made = Told()
    yield made
    made.prober.close()
    assert made.failures == []


def test_an_endpoint_that_dies_and_comes_back_is_told_twice(
    told: Told, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prober, "_HASTE", 0.02)
    answers = {"/": OK}
    server = serve(answers)
    watch = told.watch("127.0.0.1", Probe(HttpGet(server.port), timeout=60, period=1, failure_threshold=2))
    answers["/"] = http("500 No", "Content-Length: 0")
    told.until(1)
    answers["/"] = OK
    told.until(2)
    assert told.verdicts == [("127.0.0.1", False, "HTTP status 500"), ("127.0.0.1", True, "")]
    told.prober.end(watch)
    answers["/"] = b""
    count = len(server.asked)
    time.sleep(0.2)
    assert len(server.asked) <= count + 1, "one was under way"
    assert len(told.verdicts) == 2


def test_more_at_once_than_may_be_wait_for_their_turn(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, done = 0, 0, 0

    async def slow(*_: object) -> str:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        while most < MOST:  # as many as may be: they come one by one
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        running -= 1
        done += 1
        return "no"

    monkeypatch.setattr(prober, "ask", slow)
    probe = Probe(TcpSocket(80), period=1000, failure_threshold=1)
    watches = [told.watch(f"10.1.{n >> 8}.{n & 255}", probe) for n in range(4 * MOST)]
    told.prober.end(watches[-1])
    told.until(4 * MOST - 1)
    assert most == MOST
    assert done in (4 * MOST - 1, 4 * MOST)


def test_what_was_there_at_a_start_is_probed_at_its_time_not_all_at_once(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[float] = []

    async def quick(*_: object) -> str:
        begun.append(time.monotonic())
        return "no"

    monkeypatch.setattr(prober, "ask", quick)
    probe = Probe(TcpSocket(80), period=1, failure_threshold=1)
    for attempt in range(10):  # a machine that stalls for a moment may come to many of them at once, not each time
        begun.clear()
        watches = [told.watch(f"10.1.{attempt}.{n}", probe, spread=True) for n in range(50)]
        told.until(50 * (attempt + 1))
        first = begun[:50]
        for watch in watches:
            told.prober.end(watch)
        is_spread = max(first) - min(first) > 0.3
        if is_spread and sum(later - before < 0.0001 for before, later in pairwise(first)) < 40:
            return
    pytest.fail("they come all at once")


def test_a_prober_without_work_has_no_thread() -> None:
    before = threading.active_count()
    made = Told()
    assert threading.active_count() == before
    made.prober.close()


def test_an_end_amid_many_probes_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a task that was begun and never run, nor one that is still under way."""
    begun = ended = 0

    async def slow(*_: object) -> str:
        nonlocal begun, ended
        begun += 1
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            ended += 1
        return ""

    monkeypatch.setattr(prober, "ask", slow)
    monkeypatch.setattr(prober, "_HASTE", 0.0)
    made = Told()
    for n in range(2 * MOST):
        made.watch(f"10.1.{n >> 8}.{n & 255}", replace(PROBE, period=1), spread=n % 2 == 0)
    deadline = time.monotonic() + PATIENCE
    while begun < MOST:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    made.prober.close()
    gc.collect()  # a coroutine that nobody awaits says so then
    assert (begun, made.failures) == (ended, [])
