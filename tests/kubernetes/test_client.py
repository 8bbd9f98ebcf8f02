"""What is asked of an API server, what is made of its answers, and what is said where there is none."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import ClientConnectorError
from aiohttp.client_reqrep import ConnectionKey

from nodeport_nft.config.kubeconfig import Cluster
from nodeport_nft.store.kubernetes.answers import refusal, retry_after, warnings
from nodeport_nft.store.kubernetes.client import Blocking, Client
from nodeport_nft.store.kubernetes.connection import Connection
from nodeport_nft.store.kubernetes.errors import Cause, Refused, Unreachable
from nodeport_nft.store.kubernetes.faults import unreachable as unreachable_error
from nodeport_nft.store.kubernetes.proxies import proxy_of
from tests.kubernetes.certificates import Authority
from tests.kubernetes.kubeconfigs import kubeconfig, with_client
from tests.kubernetes.running import apiserver
from tests.kubernetes.scripted import END, SECONDS, STREAM, Request, answer, chunk, connecting, server_tls, serving

Result = TypeVar("Result")
pytestmark = pytest.mark.proves("W2", "W3")
PATH = "/api/v1/services"
LONGER = (0.3, 3.0, 30.0)  # seconds: what is too short on a machine that stalls is tried once more
TOKEN = {"token": "secret-token"}


class Scripted:
    """A server that gives one answer after the other, the last one again and again, and keeps what it was asked."""

    def __init__(self, *answers: bytes | str) -> None:
        self.answers = list(answers)
        self.heard: list[Request] = []

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.heard.append(request)
        given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if given == "close":
            writer.close()
        elif given == "reset":
            writer.transport.abort()
        elif given == "hang":
            await asyncio.Event().wait()
        else:
            assert isinstance(given, bytes)
            writer.write(given)


def run(directory: Path, script: Scripted, work: Callable[[Client], Awaitable[Result]], **cluster: Any) -> Result:
    """What becomes of this work at a server without TLS."""

    async def begin() -> Result:
        async with serving(script) as port:
            path = kubeconfig(directory / "config", f"http://127.0.0.1:{port}/prefix/", TOKEN, **cluster)
            return await with_client(path, work)

    return asyncio.run(begin())


async def get(client: Client) -> bytes:
    return (await client.request("GET", PATH)).body


async def lines(client: Client, silent_seconds: float | None = None) -> list[bytes]:
    async with client.stream(PATH, {"watch": "1"}, silent_seconds=silent_seconds) as stream:
        return [line async for portion in stream for line in portion]


def status(code: int, reason: str, message: str = "told", **details: Any) -> str:
    said = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return json.dumps({**said, "details": details})


# --- requests -------------------------------------------------------------------


def test_what_is_asked(tmp_path: Path) -> None:
    script = Scripted(answer("201 Created", '{"a": 1}', 'Warning: 299 - "unknown field \\"x\\""'))

    async def work(client: Client) -> None:
        made = await client.request("POST", PATH, {"fieldManager": "a b"}, b"{}", "application/apply-patch+yaml")
        assert (made.status, made.body, made.warnings) == (201, b'{"a": 1}', ('unknown field "x"',))
        await client.request("GET", PATH)

    run(tmp_path, script, work)
    post, plain = script.heard
    assert (post.method, post.path, post.body) == ("POST", f"/prefix{PATH}?fieldManager=a+b", b"{}")
    assert post.all("Content-Type") == ["application/apply-patch+yaml"]
    assert post.all("Authorization") == ["Bearer secret-token"]
    assert post.all("Accept") == ["application/json"]
    assert re.fullmatch(r"nodeport-nft/\S+ \(linux/\w+\)", post["User-Agent"])
    assert "gzip" in post["Accept-Encoding"]
    assert (plain.method, plain["Content-Type"]) == ("GET", "")


def test_compressed_answers_and_none_where_they_are_disabled(tmp_path: Path) -> None:
    packed = answer("200 OK", gzip.compress(b'{"a": 1}'), "Content-Encoding: gzip")
    assert run(tmp_path, Scripted(packed), get) == b'{"a": 1}'
    script = Scripted(answer())
    run(tmp_path, script, get, **{"disable-compression": True})
    assert script.heard[0]["Accept-Encoding"] == "identity"


def test_an_answer_of_failure_is_a_refusal(tmp_path: Path) -> None:
    causes = [{"reason": "FieldValueInvalid", "message": "no", "field": "spec.ports[0].port"}]
    script = Scripted(answer("422 Unprocessable Entity", status(422, "Invalid", "is invalid", causes=causes)))
    with pytest.raises(Refused) as raised:
        run(tmp_path, script, get)
    refused = raised.value
    assert (str(refused), refused.code, refused.reason) == ("is invalid", 422, "Invalid")
    assert refused.causes == (Cause("FieldValueInvalid", "no", "spec.ports[0].port"),)


def test_a_server_that_is_busy_is_asked_again_when_it_says(tmp_path: Path) -> None:
    script = Scripted(
        answer("429 Too Many Requests", status(429, "TooManyRequests"), "Retry-After: 0"),
        answer("503 Service Unavailable", "", "Retry-After: 1"),
        answer(body="done"),
    )
    assert run(tmp_path, script, get) == b"done"
    assert len(script.heard) == 3


@pytest.mark.parametrize(
    ("given", "after"),
    [
        (answer("429 Too Many Requests", "", "Retry-After: 99"), 99.0),
        (answer("429 Too Many Requests", status(429, "TooManyRequests", retryAfterSeconds=77)), 77.0),
        (answer("500 Internal Server Error", status(500, "InternalError")), 0.0),
    ],
)
def test_a_server_that_is_busy_for_longer_is_a_refusal(tmp_path: Path, given: bytes, after: float) -> None:
    script = Scripted(given)
    with pytest.raises(Refused) as raised:
        run(tmp_path, script, get)
    assert raised.value.retry_after == after
    assert len(script.heard) == 1


def test_nobody_is_led_elsewhere(tmp_path: Path) -> None:
    """The token would go there, too."""
    elsewhere = Scripted(answer())

    async def begin() -> None:
        async with serving(elsewhere) as port:
            script = Scripted(answer("302 Found", "", f"Location: http://127.0.0.1:{port}/"))
            async with serving(script) as here:
                path = kubeconfig(tmp_path / "config", f"http://127.0.0.1:{here}", TOKEN)
                with pytest.raises(Refused, match=r"status 302, which leads to http://127\.0\.0\.1:"):
                    await with_client(path, get)
                with pytest.raises(Refused, match=r"status 302, which leads to http://127\.0\.0\.1:"):
                    await with_client(path, lines)

    asyncio.run(begin())
    assert elsewhere.heard == []


@pytest.mark.parametrize("code", ["502 Bad Gateway", "200 OK"])
def test_a_page_for_people_is_none_of_an_api_server(tmp_path: Path, code: str) -> None:
    html = answer(code, "<html><title>Log\n in</title></html>", kind="text/html; charset=utf-8")
    told = rf'status {code[:3]} with a page of HTML \("Log in"\): who answers is not an API server'
    with pytest.raises(Refused, match=told):
        run(tmp_path, Scripted(html), get)
    with pytest.raises(Refused, match=told):
        run(tmp_path, Scripted(html), lines)


@pytest.mark.parametrize(
    ("code", "body", "told"),
    [
        (400, b"Client sent an HTTP request to an HTTPS server.\n", "HTTPS server; write https:// as the server"),
        (404, b"404 page not found\n", "404 page not found"),
        (502, b"", "status 502 without a word"),
        (500, b"\xff\x1b[2J" + 1000 * b"x", "�"),
        (500, b'{"kind": "Status", "details": 7, "message": null}', "status 500 without a reason"),
        (500, b'{"kind": "Status", "details": {"causes": [7, {"field": 7}]}, "message": "m"}', "m"),
        (500, b"[" * 10_000, "["),
        (403, b'{"kind": "Status", "message": "denied\\n by \\u001b[2J"}', "denied\n by \ufffd[2J"),
        (500, b'["Status"]', "Status"),
    ],
)
def test_whatever_a_failure_is_written_in_it_is_told(code: int, body: bytes, told: str) -> None:
    refused = refusal(code, body, {})
    assert told in str(refused)
    assert (str(refused).replace("\n", "").isprintable(), refused.code) == (True, code)
    assert len(str(refused)) < 500


def test_headers_that_warn() -> None:
    assert warnings(['299 - "a", 299 x "b \\\\ \\"c\\"" "Wed, 21 Oct 2015 07:28:00 GMT"', '299 - "a"']) == (
        "a",
        'b \\ "c"',
    )
    assert warnings(['199 - "of a cache"', "nonsense", ""]) == ()


def test_when_to_ask_again() -> None:
    assert [retry_after(text) for text in ("7", " 7 ", "", "x", "-1", "9" * 40)] == [7.0, 7.0, 0.0, 0.0, 0.0, 0.0]
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert retry_after("Wed, 21 Oct 2099 07:28:00 GMT") > 1e6


# --- streams --------------------------------------------------------------------


def test_lines_however_they_are_cut_up(tmp_path: Path) -> None:
    """Also those of objects as large as etcd takes, and with events that hold several lines' ends at once."""
    large = json.dumps({"object": "x" * 1_500_000}).encode()
    events = [b'{"a": 1}', large, b"{}"]
    text = b"\n".join(events) + b"\n\n"
    for size in (1, 7, 100_000, len(text)):
        source = text if size > 7 else text.replace(large, b'{"b": 2}')
        pieces = (source[start : start + size] for start in range(0, len(source), size))
        script = Scripted(STREAM + b"".join(map(chunk, pieces)) + END)
        expected = events if size > 7 else [b'{"a": 1}', b'{"b": 2}', b"{}"]
        assert run(tmp_path, script, lines) == expected
    assert script.heard[0].path == f"/prefix{PATH}?watch=1"
    assert script.heard[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (END, "the stream broke off in the middle of an object"),
        (b"", "the connection broke off; the API server may be restarting"),
        (b"5\r\n{}", "the connection broke off|what was answered is not HTTP"),
        (b"zz\r\n", "what was answered is not HTTP|the connection broke off"),
    ],
)
def test_a_stream_that_breaks_off_in_the_middle_of_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: bytes, told: str
) -> None:
    """What came whole before is given."""
    monkeypatch.setattr("nodeport_nft.store.kubernetes.client._LOOK_SECONDS", 0.2)
    seen = []

    async def work(client: Client) -> None:
        async with client.stream(PATH, {}) as stream:
            async for portion in stream:
                seen.extend(portion)

    class Cut(Scripted):
        async def __call__(self, _: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(STREAM + chunk(b'{"a": 1}\n{"b":'))
            await writer.drain()
            await asyncio.sleep(0.1)
            writer.write(end)
            await writer.drain()
            writer.close()

    with pytest.raises(Unreachable, match=told):
        run(tmp_path, Cut(), work)
    assert seen == [b'{"a": 1}']


def test_a_stream_that_is_silent(tmp_path: Path) -> None:
    """A server that says nothing, before its first word and after; whoever asks says how long it may be."""

    class Silent(Scripted):
        async def __call__(self, _: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(STREAM + chunk(b"{}\n"))
            await writer.drain()
            await asyncio.Event().wait()

    for seconds in LONGER:
        with pytest.raises(Unreachable) as raised:
            run(tmp_path, Silent(), partial(lines, silent_seconds=seconds))
        if "no answer in time" not in str(raised.value):
            break
    assert "the stream is silent, so it is begun again" in str(raised.value)
    with pytest.raises(Unreachable, match="no answer in time"):
        run(tmp_path, Scripted("hang"), lambda client: lines(client, 0.3))


def test_what_goes_wrong_with_the_reader_of_a_stream_is_his_own(tmp_path: Path) -> None:
    """An error of the one who reads is no error of the server's."""
    script = Scripted(STREAM + chunk(b"{}\n"))

    async def impatient(client: Client) -> None:
        async with client.stream(PATH, {}) as stream, asyncio.timeout(0.1):
            async for _ in stream:
                pass

    async def failing(client: Client) -> None:
        async with client.stream(PATH, {}):
            raise FileNotFoundError

    async def work(client: Client) -> None:
        with pytest.raises(TimeoutError):
            await impatient(client)
        with pytest.raises(FileNotFoundError):
            await failing(client)

    run(tmp_path, script, work)


def test_refused_streams_are_refusals(tmp_path: Path) -> None:
    """429 is for whoever asks to wait for, with how long."""
    script = Scripted(answer("429 Too Many Requests", status(429, "TooManyRequests"), "Retry-After: 3"))
    with pytest.raises(Refused) as raised:
        run(tmp_path, script, lines)
    assert (raised.value.code, raised.value.retry_after, len(script.heard)) == (429, 3.0, 1)


# --- no answer ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("close", "the connection broke off; the API server may be restarting"),
        ("reset", "the connection broke off; the API server may be restarting"),
        (answer()[:-5], "the connection broke off|what was answered"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "what was answered is not HTTP that can be read"),
    ],
)
def test_answers_that_are_none(tmp_path: Path, script: bytes | str, told: str) -> None:
    """Whether it was carried out is not known."""

    class Closing(Scripted):
        async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
            await super().__call__(request, writer)
            writer.close()

    async def work(client: Client) -> None:
        await client.request("POST", PATH, None, b"{}")

    with pytest.raises(Unreachable, match=told) as raised:
        run(tmp_path, Closing(script), work)
    assert raised.value.is_sent
    assert str(raised.value).startswith("kubernetes http://127.0.0.1:")


def test_an_answer_that_does_not_come_in_time(tmp_path: Path) -> None:
    async def hurried(client: Client, seconds: float) -> None:
        await client.request("GET", PATH, seconds=seconds)

    for seconds in LONGER:
        with pytest.raises(Unreachable) as raised:
            run(tmp_path, Scripted("hang"), partial(hurried, seconds=seconds))
        if raised.value.is_sent:
            break
    assert raised.value.is_sent
    assert "no answer in time" in str(raised.value)


def unreachable(path: Path) -> str:
    """What is said, by a request and by a stream alike; nothing can have been carried out."""
    said = set()
    for work in (get, lines):
        with pytest.raises(Unreachable) as raised:
            asyncio.run(with_client(path, work))
        assert not raised.value.is_sent
        said.add(str(raised.value))
    (one,) = said
    return one


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


def test_a_connection_that_is_refused(tmp_path: Path) -> None:
    told = unreachable(kubeconfig(tmp_path / "c", f"https://127.0.0.1:{free_port()}", TOKEN))
    assert re.search(
        r"no connection \(Connection refused\); is the API server up, and the network between\?", told
    ), told


@pytest.mark.parametrize(
    ("bare", "number"),
    [
        (ConnectionResetError(), errno.ECONNRESET),
        (ConnectionRefusedError(), errno.ECONNREFUSED),
        (ConnectionAbortedError(), errno.ECONNABORTED),
        (BrokenPipeError(), errno.EPIPE),
        (TimeoutError(), errno.ETIMEDOUT),
    ],
)
def test_an_error_without_words_is_told_in_those_of_the_system(bare: OSError, number: int) -> None:
    """asyncio raises such. In other words than the system's, one outage would be two problems that come and go."""
    numbered = OSError(number, os.strerror(number))
    assert told_of_connecting(bare) == told_of_connecting(numbered)
    assert os.strerror(number) in told_of_connecting(bare)


def told_of_connecting(error: OSError) -> str:
    key = ConnectionKey(
        "127.0.0.1", 6443, is_ssl=True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None
    )
    return str(unreachable_error(ClientConnectorError(key, error), "kubernetes"))


def test_a_name_that_is_none(tmp_path: Path) -> None:
    told = unreachable(kubeconfig(tmp_path / "c", "https://no-such-name.invalid:6443", TOKEN))
    assert "the name no-such-name.invalid cannot be resolved" in told


def test_a_server_that_does_not_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes connections and does no more than that, as one that hangs."""
    monkeypatch.setattr("nodeport_nft.store.kubernetes.client._CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        told = unreachable(kubeconfig(tmp_path / "c", f"https://127.0.0.1:{mute.getsockname()[1]}", TOKEN))
    assert "no answer to the attempt to connect; is the API server up" in told


def over_tls(directory: Path, tls: ssl.SSLContext | None, user: dict[str, Any], **cluster: Any) -> bytes:
    async def begin() -> bytes:
        async with serving(Scripted(answer(body="done")), tls=tls) as port:
            return await with_client(kubeconfig(directory / "c", f"https://127.0.0.1:{port}", user, **cluster), get)

    return asyncio.run(begin())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


def test_certificates_that_cannot_be_believed(tmp_path: Path, authority: Authority) -> None:
    ca = {"certificate-authority": str(authority.certificate)}
    right = server_tls(authority.issue("right", "/CN=s", alternative="IP:127.0.0.1"))
    named = server_tls(authority.issue("named", "/CN=127.0.0.1", alternative="DNS:kubernetes,IP:10.0.0.1"))
    old = server_tls(authority.issue("old", "/CN=s", alternative="IP:127.0.0.1", days=-1))
    other = tmp_path / "other"
    other.mkdir()
    stranger = {"certificate-authority": str(Authority(other).certificate)}

    assert over_tls(tmp_path, right, TOKEN, **ca) == b"done"
    assert over_tls(tmp_path, named, TOKEN, **ca, **{"tls-server-name": "kubernetes"}) == b"done"
    for context in (right, named, old):
        assert over_tls(tmp_path, context, TOKEN, **{"insecure-skip-tls-verify": True}) == b"done"
    for context, cluster, told in (
        (right, stranger, "the server's certificate is of an authority that is not known|is signed by itself"),
        (right, {}, "is of an authority that is not known; name it as certificate-authority-data"),
        (named, ca, "the server's certificate is for other addresses; name one of them as the server"),
        (named, {**ca, "tls-server-name": "api"}, "the server's certificate is for other names"),
        (old, ca, "the server's certificate has expired; renew it"),
    ):
        with pytest.raises(Unreachable, match=told) as raised:
            over_tls(tmp_path, context, TOKEN, **cluster)
        assert not raised.value.is_sent


def wait_for_port(port: int) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with socket.socket() as tried:
            if not tried.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.02)


@contextmanager
def strict_server(authority: Authority, pair: tuple[Path, Path], version: str) -> Iterator[int]:
    """The port of openssl's own server, which says why it refuses a client's certificate; Python's hangs up."""
    port = free_port()
    process = subprocess.Popen(
        [
            *("openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", pair[0], "-key", pair[1], version),
            *("-CAfile", authority.certificate, "-Verify", "1", "-verify_return_error", "-www", "-quiet"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port)
        yield port
    finally:
        process.kill()
        process.wait(SECONDS)


@pytest.mark.parametrize("version", ["-tls1_3", "-tls1_2"])
def test_a_server_that_takes_no_certificate_of_ours(tmp_path: Path, authority: Authority, version: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    strangers, old = Authority(other).issue("me", "/CN=me"), authority.issue("late", "/CN=me", days=-1)
    pair = authority.issue("strict", "/CN=s", alternative="IP:127.0.0.1")

    def user(pair: tuple[Path, Path]) -> dict[str, str]:
        return {"client-certificate": str(pair[0]), "client-key": str(pair[1])}

    with strict_server(authority, pair, version) as port:
        for who, told in (
            (TOKEN, "wants a client certificate"),
            (user(strangers), "the server knows no authority of our client certificate; take one of its cluster's"),
            (user(old), "our client certificate has expired; renew it"),
        ):
            path = kubeconfig(
                tmp_path / "c", f"https://127.0.0.1:{port}", who,
                **{"certificate-authority": str(authority.certificate)},
            )  # fmt: skip
            with pytest.raises(Unreachable, match=told):
                asyncio.run(with_client(path, get))


def test_a_server_without_tls(tmp_path: Path) -> None:
    """One that answers whatever comes, as most do."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(answer("400 Bad Request"))
        writer.close()

    async def begin() -> None:
        async with await asyncio.start_server(one, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(Unreachable, match="the server speaks no TLS there; write http:// if that is meant"):
                await with_client(kubeconfig(tmp_path / "c", f"https://127.0.0.1:{port}", TOKEN), get)

    asyncio.run(begin())


# --- proxies --------------------------------------------------------------------


def test_proxies(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kubeconfig's goes before the environment's, which leaves this machine itself out."""
    tls = server_tls(authority.issue("behind", "/CN=s", alternative="DNS:kubernetes"))
    ca = {"certificate-authority": str(authority.certificate), "tls-server-name": "kubernetes"}

    async def begin() -> None:
        async with (
            serving(Scripted(answer(body="done")), tls=tls) as port,
            connecting(password=b64encode(b"me:secret").decode()) as (proxy, asked),
            connecting(refuse="403 Forbidden") as (strict, _),
        ):

            def config(proxy_url: str, host: str = "127.0.0.1") -> Path:
                return kubeconfig(tmp_path / "c", f"https://{host}:{port}", TOKEN, **ca, **{"proxy-url": proxy_url})

            assert await with_client(config(f"http://me:secret@127.0.0.1:{proxy}"), get) == b"done"
            assert asked == [f"127.0.0.1:{port}"]
            for url, told in (
                (f"http://127.0.0.1:{proxy}", rf"the proxy http://127.0.0.1:{proxy} refuses \(407 .*name user and"),
                (f"http://me:wrong@127.0.0.1:{proxy}", rf"the proxy http://127.0.0.1:{proxy} refuses \(407"),
                (f"http://127.0.0.1:{strict}", r"refuses \(403 Forbidden\); see the proxy's own log"),
                (f"http://127.0.0.1:{free_port()}", r"the proxy http://127.0.0.1:\d+ does not answer"),
            ):
                with pytest.raises(Unreachable, match=told) as raised:
                    await with_client(config(url), get)
                assert not raised.value.is_sent
                assert "secret" not in str(raised.value)
            own = server_tls(authority.issue("proxy", "/CN=p", alternative="IP:127.0.0.1"))
            async with connecting(tls=own) as (secure, _):
                assert await with_client(config(f"https://127.0.0.1:{secure}"), get) == b"done"
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{strict}")
            assert await with_client(config(""), get) == b"done"

    asyncio.run(begin())


@pytest.mark.parametrize(
    ("server", "environ", "expected"),
    [
        ("https://api", {"HTTPS_PROXY": "http://p:1", "HTTP_PROXY": "http://q:1"}, "http://p:1"),
        ("http://api", {"https_proxy": "http://p:1", "http_proxy": "q:1"}, "http://q:1"),
        ("https://api", {}, ""),
        ("https://localhost", {"HTTPS_PROXY": "p:1"}, ""),
        ("https://127.9.9.9", {"HTTPS_PROXY": "p:1"}, ""),
        ("https://[::1]:6443", {"HTTPS_PROXY": "p:1"}, ""),
        ("https://10.1.2.3", {"HTTPS_PROXY": "p:1", "NO_PROXY": "a, 10.0.0.0/8"}, ""),
        ("https://11.1.2.3", {"HTTPS_PROXY": "p:1", "NO_PROXY": "10.0.0.0/8"}, "http://p:1"),
        ("https://[fd00::1]", {"HTTPS_PROXY": "p:1", "no_proxy": "fd00::/8"}, ""),
        ("https://[fd00::1]", {"HTTPS_PROXY": "p:1", "no_proxy": "[fd00::1]:443"}, ""),
        ("https://api.example", {"HTTPS_PROXY": "p:1", "NO_PROXY": "example"}, ""),
        ("https://api.example", {"HTTPS_PROXY": "p:1", "NO_PROXY": ".example"}, ""),
        ("https://example", {"HTTPS_PROXY": "p:1", "NO_PROXY": ".example"}, "http://p:1"),
        ("https://api.example", {"HTTPS_PROXY": "p:1", "NO_PROXY": "*.example"}, ""),
        ("https://api.example:6443", {"HTTPS_PROXY": "p:1", "NO_PROXY": "api.example:443"}, "http://p:1"),
        ("https://api.example:6443", {"HTTPS_PROXY": "p:1", "NO_PROXY": "api.example:6443"}, ""),
        ("https://myexample", {"HTTPS_PROXY": "p:1", "NO_PROXY": "example,,"}, "http://p:1"),
        ("https://api", {"HTTPS_PROXY": "p:1", "NO_PROXY": "*"}, ""),
    ],
)
def test_proxies_of_the_environment(server: str, environ: dict[str, str], expected: str) -> None:
    assert proxy_of(Cluster(server), environ) == expected
    assert proxy_of(Cluster(server, proxy="http://own:1"), environ) == "http://own:1"


# --- addresses ------------------------------------------------------------------

_ASK = """
import asyncio, sys
from pathlib import Path
from tests.kubernetes.kubeconfigs import with_client
from tests.kubernetes.test_client import get
import nodeport_nft.store.kubernetes.client as client
client._CONNECT_SECONDS = float(sys.argv[2])
print(asyncio.run(with_client(Path(sys.argv[1]), get)))
"""


def test_all_addresses_of_a_name_are_tried(tmp_path: Path, authority: Authority) -> None:
    """One refuses, one takes connections and says nothing, one is somebody else's; the last one serves."""
    if os.geteuid() != 0:
        pytest.skip("a hosts file of its own needs root")
    addresses = ["127.5.0.1", "127.5.0.2", "127.5.0.3"]
    (tmp_path / "hosts").write_text("".join(f"{address} api.example\n" for address in addresses))

    async def begin() -> str:
        tls = server_tls(authority.issue("many", "/CN=s", alternative="DNS:api.example"))
        async with serving(Scripted(answer(body="done")), tls=tls, host=addresses[2]) as port:
            with socket.create_server((addresses[1], port)):
                path = kubeconfig(
                    tmp_path / "c", f"https://api.example:{port}", TOKEN,
                    **{"certificate-authority": str(authority.certificate)},
                )  # fmt: skip
                for seconds in ("1", "5", "25"):  # to connect in; what is too short where the machine is slow is not
                    process = await asyncio.create_subprocess_exec(
                        *("unshare", "--mount", "sh", "-ec", 'mount --bind "$0" /etc/hosts; exec "$@"'),
                        *(tmp_path / "hosts", sys.executable, "-c", _ASK, path, seconds),
                        stdout=subprocess.PIPE,
                        cwd=Path(__file__).parents[2],
                    )
                    printed, _ = await asyncio.wait_for(process.communicate(), 120)
                    if printed:
                        break
                return printed.decode()

    assert asyncio.run(begin()) == "b'done'\n"


def test_the_kernel_asks_after_a_peer_that_is_silent(tmp_path: Path) -> None:
    """The connection of a stream, by what the kernel holds of it."""
    script = Scripted(STREAM + chunk(b"{}\n"))

    async def work(client: Client) -> str:
        async with client.stream(PATH, {}):
            found = await asyncio.create_subprocess_exec(
                "ss", "-tonH", "state", "established", "dport", f"= :{client.server.split(':')[2].split('/')[0]}",
                stdout=subprocess.PIPE,
            )  # fmt: skip
            return (await found.communicate())[0].decode()

    told = run(tmp_path, script, work)
    seconds = re.search(r"timer:\(keepalive,(\d+)(?:\.\d+)?sec,0\)", told)
    assert seconds, told
    assert 0 < int(seconds[1]) <= 15


# --- commands -------------------------------------------------------------------


def test_a_client_that_waits(tmp_path: Path) -> None:
    with (
        apiserver(tmp_path / "server") as server,
        Blocking(Connection(str(server.kubeconfig))) as api,
    ):
        found = api.run(api.client.request("GET", "/version"))
        assert json.loads(found.body)["major"] == "1"
        assert (api.client.server, api.client.warnings) == (server.url, ())
        server.stop()
        with pytest.raises(Unreachable):
            api.run(api.client.request("GET", "/version"))
        server.start()
        assert api.run(api.client.request("GET", "/version")).status == 200
