"""Health checks over HTTP on the loopback interface, as load balancers ask for them (H1)."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from http.client import HTTPConnection
from ipaddress import ip_address

import pytest

from nodeport_nft.health import HealthCheck
from nodeport_nft.health.server import MAX_CONNECTIONS, HealthServer
from nodeport_nft.model import Family, ObjectName
from nodeport_nft.serving import server as server_module
from nodeport_nft.serving.server import MAX_BYTES

# Whose ports these are nobody else asks: suites may run side by side.
pytestmark = [pytest.mark.proves("H1"), pytest.mark.usefixtures("private_namespaces")]

FOUR, SIX = ip_address("127.0.0.1"), ip_address("::1")
BOTH = (FOUR, SIX)
ANY = (ip_address("0.0.0.0"), ip_address("::"))
ABSENT = ip_address("192.0.2.1")  # RFC 5737: for documentation only
PATIENCE = 60.0  # seconds until a test gives up

Answer = tuple[int, Message, bytes]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HealthServer]:
    """A healthy server whose time limit nobody reaches, so that no other limit can hide behind it."""
    monkeypatch.setattr(server_module, "_SECONDS", 10 * PATIENCE)
    with contextlib.closing(HealthServer()) as made:
        made.set_healthy(True)
        yield made


@pytest.fixture
def ports() -> list[int]:
    """Ports that are free in both families, above the range of random ones if that is the kernel's default."""
    found: list[int] = []
    for port in range(61000, 65535):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                stack.enter_context(socket.create_server((address, port), family=family))
            found.append(port)
        if len(found) == 6:
            return found
    pytest.fail("fewer than six ports are free")


def check(four: int | None = 1, six: int | None = None, *, name: str = "web") -> HealthCheck:
    numbers = {Family.IPV4: four, Family.IPV6: six}
    return HealthCheck(ObjectName("shop", name), {f: number for f, number in numbers.items() if number is not None})


def ask(
    port: int, address: object = FOUR, *, method: str = "GET", path: str = "/", body: bytes | None = None
) -> Answer:
    connection = HTTPConnection(str(address), port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request(method, path, body=body)
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def count(port: int, address: object = FOUR) -> int:
    return int(json.loads(ask(port, address)[2])["localEndpoints"])


def knock(port: int, address: object = FOUR) -> socket.socket:
    return socket.create_connection((str(address), port), timeout=PATIENCE)


def is_open(port: int, address: object = FOUR) -> bool:
    try:
        knock(port, address).close()
    except ConnectionRefusedError:
        return False
    return True


def rest(connection: socket.socket) -> bytes:
    """What comes until the other side hangs up; a timeout is an error."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return received


def test_an_answer_is_kube_proxys(server: HealthServer, ports: list[int]) -> None:
    assert server.update({ports[0]: check(3)}, [FOUR]) == ()
    status, headers, body = ask(ports[0])
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Load-Balancing-Endpoint-Weight"] == "3"
    assert json.loads(body) == {
        "service": {"namespace": "shop", "name": "web"},
        "localEndpoints": 3,
        "serviceProxyHealthy": True,
    }


def test_without_local_endpoints_it_is_503(server: HealthServer, ports: list[int]) -> None:
    server.update({ports[0]: check(0)}, [FOUR])
    status, headers, body = ask(ports[0])
    assert (status, headers["X-Load-Balancing-Endpoint-Weight"]) == (503, "0")
    assert json.loads(body)["serviceProxyHealthy"] is True


def test_an_unhealthy_node_is_503_whatever_its_endpoints(server: HealthServer, ports: list[int]) -> None:
    server.update({ports[0]: check(2)}, [FOUR])
    server.set_healthy(False)
    status, headers, body = ask(ports[0])
    assert (status, headers["X-Load-Balancing-Endpoint-Weight"]) == (503, "2")
    assert json.loads(body)["serviceProxyHealthy"] is False
    server.set_healthy(True)
    assert ask(ports[0])[0] == 200


def test_it_begins_unhealthy(ports: list[int]) -> None:
    with contextlib.closing(HealthServer()) as server:
        server.update({ports[0]: check()}, [FOUR])
        assert ask(ports[0])[0] == 503


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/healthz?verbose=1"), ("GET", "/a/b"), ("POST", "/"), ("PUT", "/")]
)
def test_any_path_and_method_is_answered(server: HealthServer, ports: list[int], method: str, path: str) -> None:
    server.update({ports[0]: check(4)}, [FOUR])
    status, _, body = ask(ports[0], method=method, path=path, body=None if method == "GET" else b"x" * MAX_BYTES)
    assert (status, json.loads(body)["localEndpoints"]) == (200, 4)


def test_head_has_the_headers_and_no_body(server: HealthServer, ports: list[int]) -> None:
    server.update({ports[0]: check(4)}, [FOUR])
    whole = ask(ports[0])
    with knock(ports[0]) as connection:
        connection.sendall(b"HEAD / HTTP/1.1\r\nHost: node\r\n\r\n")
        head, _, body = rest(connection).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert "X-Load-Balancing-Endpoint-Weight: 4" in lines
    assert f"Content-Length: {len(whole[2])}" in lines
    assert body == b""


def test_each_family_tells_its_own_number(server: HealthServer, ports: list[int]) -> None:
    assert server.update({ports[0]: check(2, 0)}, BOTH) == ()
    assert (ask(ports[0], FOUR)[0], count(ports[0], FOUR)) == (200, 2)
    assert (ask(ports[0], SIX)[0], count(ports[0], SIX)) == (503, 0)


def test_a_port_is_open_in_the_services_families_only(server: HealthServer, ports: list[int]) -> None:
    server.update({ports[0]: check(1), ports[1]: check(None, 1)}, BOTH)
    assert [is_open(port, address) for port in ports[:2] for address in BOTH] == [True, False, False, True]


def test_all_addresses_of_both_families(server: HealthServer, ports: list[int]) -> None:
    assert server.update({ports[0]: check(1, 2)}, ANY) == ()
    assert (count(ports[0], FOUR), count(ports[0], SIX)) == (1, 2)
    assert server.update({ports[0]: check(1, 2)}, ANY[1:]) == ()
    assert (is_open(ports[0], FOUR), is_open(ports[0], SIX)) == (False, True)


def test_from_all_addresses_to_one_and_back(server: HealthServer, ports: list[int]) -> None:
    for addresses in (ANY, BOTH, ANY):
        assert server.update({ports[0]: check(1, 2)}, addresses) == ()
        assert (count(ports[0], FOUR), count(ports[0], SIX)) == (1, 2)


def test_a_port_that_stays_keeps_its_connections(server: HealthServer, ports: list[int]) -> None:
    server.update({ports[0]: check(1), ports[1]: check(1)}, [FOUR])
    with knock(ports[0]) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        server.update({ports[0]: check(5, name="other")}, [FOUR])
        connection.sendall(b"Host: node\r\n\r\n")
        told = json.loads(rest(connection).partition(b"\r\n\r\n")[2])
    assert (told["service"]["name"], told["localEndpoints"]) == ("other", 5)


def test_a_port_that_goes_is_closed_with_its_connections(server: HealthServer, ports: list[int]) -> None:
    server.update({ports[0]: check(1), ports[1]: check(2)}, [FOUR])
    with knock(ports[0]) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        server.update({ports[1]: check(2)}, [FOUR])
        assert rest(connection) == b""
    assert not is_open(ports[0])
    assert count(ports[1]) == 2


def test_a_port_in_use_is_told_and_tried_again(server: HealthServer, ports: list[int]) -> None:
    wanted = {ports[0]: check(1, name="held"), ports[1]: check(2)}
    with socket.create_server((str(FOUR), ports[0])):
        assert server.update(wanted, [FOUR]) == (
            f"service shop/held: healthCheckNodePort {ports[0]} cannot be opened on 127.0.0.1: "
            f"Address already in use; stop the program that listens there; `ss -ltnp 'sport = :{ports[0]}'` names it",
        )
        assert count(ports[1]) == 2
    assert server.update(wanted, [FOUR]) == ()
    assert (count(ports[0]), count(ports[1])) == (1, 2)


def test_an_address_that_is_not_there_is_told(server: HealthServer, ports: list[int]) -> None:
    wanted = {port: check(1) for port in (ports[1], ports[0])}
    troubles = server.update(wanted, [ABSENT, FOUR])
    assert troubles == tuple(
        f"service shop/web: healthCheckNodePort {port} cannot be opened on 192.0.2.1: "
        "Cannot assign requested address; give the node this address, or correct nodePortAddresses"
        for port in ports[:2]
    )
    assert (count(ports[0]), count(ports[1])) == (1, 1)
    assert server.update(wanted, [ABSENT, FOUR]) == troubles


def test_hundreds_of_ports_come_and_go(server: HealthServer) -> None:
    wanted = {port: check(port % 7) for port in range(61000, 61300)}
    failed = {text.split()[3] for text in server.update(wanted, [FOUR])}
    served = [port for port in wanted if str(port) not in failed]
    assert served
    assert [count(port) for port in served[::50]] == [port % 7 for port in served[::50]]
    assert server.update({}, [FOUR]) == ()
    assert not any(is_open(port) for port in served)


def test_who_holds_connections_open_pushes_out_its_own(server: HealthServer, ports: list[int]) -> None:
    server.update({ports[0]: check(1), ports[1]: check(2)}, [FOUR])
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(knock(ports[0])) for _ in range(MAX_CONNECTIONS + 1)]
        assert count(ports[1]) == 2
        assert rest(held[0]) == b""
        held[-1].sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert rest(held[-1]).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost:", b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc"])
def test_who_does_not_finish_is_hung_up_on(monkeypatch: pytest.MonkeyPatch, ports: list[int], sent: bytes) -> None:
    monkeypatch.setattr(server_module, "_SECONDS", 0.2)
    with contextlib.closing(HealthServer()) as server:
        server.update({ports[0]: check(1)}, [FOUR])
        with knock(ports[0]) as connection:
            connection.sendall(sent)
            assert rest(connection) == b""
        for _ in range(100):  # who asks on a machine that stalls does not finish in time himself
            with contextlib.suppress(ConnectionError):
                assert count(ports[0]) == 1
                return
    pytest.fail("nobody is served any more")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_BYTES,
        b"GET / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BYTES + 1),
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (MAX_BYTES + 1),
        b"\x16\x03\x01\x02\x00\r\n\r\n",
    ],
    ids=["header", "body", "chunk", "no HTTP"],
)
def test_too_much_or_nonsense_is_refused(server: HealthServer, ports: list[int], sent: bytes) -> None:
    server.update({ports[0]: check(1)}, [FOUR])
    with knock(ports[0]) as connection:
        connection.sendall(sent)
        assert rest(connection) in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert count(ports[0]) == 1


def test_updates_from_many_threads(server: HealthServer, ports: list[int]) -> None:
    always, *others = ports
    server.update({always: check(9)}, BOTH)

    def change(seed: int) -> list[tuple[str, ...]]:
        chance = random.Random(seed)
        found = []
        for _ in range(25):
            chosen = chance.sample(others, chance.randint(0, len(others)))
            addresses = chance.choice((ANY, BOTH))
            found.append(server.update({always: check(9), **{p: check(1, 1) for p in chosen}}, addresses))
            server.set_healthy(True)
        return found

    with ThreadPoolExecutor(4) as pool:
        assert {text for found in pool.map(change, range(4)) for texts in found for text in texts} == set()
    assert server.update({always: check(9), others[0]: check(3)}, BOTH) == ()
    assert (count(always), count(others[0])) == (9, 3)
    assert not any(is_open(port, address) for port in others[1:] for address in BOTH)


def test_close_ends_everything_once_and_for_all(ports: list[int]) -> None:
    before = set(threading.enumerate())
    server = HealthServer()
    server.update({ports[0]: check(1)}, [FOUR])
    with knock(ports[0]) as connection:
        assert set(threading.enumerate()) > before
        server.close()
        assert rest(connection) == b""
    server.close()
    assert set(threading.enumerate()) == before
    assert not is_open(ports[0])
    assert server.update({ports[0]: check(1)}, [FOUR]) == ()
    assert not is_open(ports[0])
