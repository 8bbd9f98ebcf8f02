"""`status` through the installed program, against a real server in this process."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from msgspec.structs import asdict

from nodeport_nft.observe.metrics import Metrics
from nodeport_nft.observe.server import ObserveServer
from nodeport_nft.observe.status import Status
from tests.cli.program import SCRIPT, Answer, Program, rest

FOUR, SIX = ip_address("127.0.0.1"), ip_address("::1")
PATIENCE = 60.0


@pytest.fixture
def server() -> Iterator[ObserveServer]:
    with contextlib.closing(ObserveServer(Metrics("0.1"), healthz=None, metrics_address=(FOUR, 0))) as made:
        assert made.listen() == ()
        yield made


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def ask(program: Program, server: ObserveServer, *words: str) -> Answer:
    return program.run("status", "--metrics-bind-address", f"127.0.0.1:{server.metrics_port}", *words)


def test_a_configuration_that_is_wrong_hides_no_status(program: Program, server: ObserveServer) -> None:
    """When it is broken is when one asks; the daemon goes on with what it read before."""
    server.set_status(well())
    (program.directory / "c.yaml").write_text("nodePortAddress: all\nmasqueradeBit: 99\n")
    answer = ask(program, server, "--config", "c.yaml")
    assert "Health:        all is well" in answer.out
    assert [line.partition(": unknown")[0] for line in answer.err.splitlines()] == [
        "warning: c.yaml:1: nodePortAddress",
        "warning: c.yaml:2: masqueradeBit: 99 is not a bit of the packet mark; choose a number from 0 to 31",
    ]
    (program.directory / "c.yaml").write_text("metricsBindAddress: 7\n")
    answer = program.run("status", "--config", "c.yaml")
    assert (answer.code, answer.out) == (2, "")
    assert "c.yaml:1: metricsBindAddress" in answer.err


def at(ago: float) -> float:
    return time.time() - ago


def well(**fields: object) -> Status:
    told: dict[str, object] = {
        "version": "0.1.0", "node": "worker-1", "node_ports_on": "172.30.1.2", "source": "/etc/m", "pid": 4242,
        "started": at(7200), "services": 12, "synced": at(5400), "sync_seconds": 0.0125, "sync_cause": "shop/web",
        "sync_operations": 3, "syncs": 17,
    }  # fmt: skip
    return Status(**{**told, **fields})  # type: ignore[arg-type]


def replied(program: Program, reply: bytes) -> Answer:
    """A run to which somebody replies so, whatever it asks."""
    with socket.create_server((str(FOUR), 0)) as held:
        held.settimeout(PATIENCE)

        def answer_once() -> None:
            connection, _ = held.accept()
            with connection:
                connection.settimeout(PATIENCE)
                connection.recv(65536)
                connection.sendall(reply)

        thread = threading.Thread(target=answer_once)
        thread.start()
        answer = program.run("status", "--metrics-bind-address", f"127.0.0.1:{held.getsockname()[1]}")
        thread.join(PATIENCE)
    return answer


def lines(answer: Answer) -> dict[str, str]:
    """What stands behind each name."""
    return dict(re.findall(r"^(\S[^:]*): +(.*)$", answer.out, re.MULTILINE))


def test_all_is_well(program: Program, server: ObserveServer) -> None:
    server.set_status(well(last_error="long ago", last_error_at=at(5400)))
    answer = ask(program, server)
    assert (answer.code, answer.err) == (0, "")
    told = lines(answer)
    moment = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert re.fullmatch(rf"since {moment} \(12\dm ago\)", told.pop("Running"))
    assert re.fullmatch(
        rf"{moment} \(9\dm ago\): 3 operations in 0\.0125 s, because of shop/web", told.pop("Last sync")
    )
    assert re.fullmatch(rf"{moment} \(9\dm ago\), solved since: long ago", told.pop("Last error"))
    assert told == {
        "Health": "all is well",
        "Node": "worker-1",
        "Daemon": "0.1.0, process 4242",
        "Source": "/etc/m",
        "NodePorts on": "172.30.1.2",
        "Services": "12",
        "Syncs": "17",
        "Lag": "none",
        "Refused": "none",
        "Problems": "none",
    }


def test_all_that_can_be_wrong_is_told(program: Program, server: ObserveServer) -> None:
    status = well(
        pending=2,
        pending_since=at(1000),
        refused=(("shop/web", "No space\nleft"), ("shop/db", "no \x1b[31m")),
        problems=("web.yaml: not YAML", "shop/a and shop/b claim 192.0.2.1:80"),
        error="the kernel said no",
        last_error="the kernel said no",
        last_error_at=at(5),
        node_deleted=True,
    )
    server.set_status(status)
    answer = ask(program, server)
    assert (answer.code, answer.err) == (1, "")
    told = lines(answer)
    assert told["Health"] == (
        "a change waits longer than it should; look at the last error and at the daemon's log; "
        "the node is being deleted; the kernel refuses 2 Services; the last sync failed; there are 2 problems"
    )
    assert re.fullmatch(r"2 Services to be written, the oldest for 10\d\d s", told["Lag"])
    assert told["Last error"].endswith(" ago): the kernel said no")
    column = answer.out.index("worker-1") - answer.out.index("\nNode:") - 1
    both = [
        "Refused:".ljust(column) + "shop/web: No space left",
        " " * column + "shop/db: no \\x1b[31m",
        "Problems:".ljust(column) + "web.yaml: not YAML",
        " " * column + "shop/a and shop/b claim 192.0.2.1:80",
    ]
    assert "\n".join(both) in answer.out


@pytest.mark.parametrize(
    ("count", "names", "told"),
    [
        (1, ("shop/web",), "1 Service: shop/web"),
        (2, ("shop/web", "shop/db"), "2 Services: shop/web, shop/db"),
        (12_345, tuple(f"shop/a{n}" for n in range(3)), "12345 Services: shop/a0, shop/a1, shop/a2 and 12342 more"),
        (1, ("shop/\x1b[31m",), "1 Service: shop/\\x1b[31m"),
        (1, (), "1 Service: 1 more"),
    ],
)
def test_services_without_endpoints_are_named_and_no_trouble_of_the_node(
    program: Program, server: ObserveServer, count: int, names: tuple[str, ...], told: str
) -> None:
    server.set_status(well(without_endpoints=count, idle=names))
    answer = ask(program, server)
    has = "1 Service has" if count == 1 else f"{count} Services have"
    assert (answer.code, lines(answer)["Health"]) == (0, f"all is well on this node; {has} no endpoint")
    assert lines(answer)["No endpoints"] == told
    assert ("describe service" in answer.out) == bool(names)


def test_the_command_that_is_named_looks_where_the_daemon_does(program: Program, server: ObserveServer) -> None:
    server.set_status(well(without_endpoints=1, idle=("shop/web",), source="kubernetes:"))
    assert "`nodeport-nft describe service web -n shop --store kubernetes:` says why" in ask(program, server).out


@pytest.mark.parametrize(
    ("status", "health"),
    [
        (Status(), "no sync is complete yet"),
        (
            Status(started=1.0),
            "no sync is complete yet; the start takes longer than it should; "
            "look at the last error and at the daemon's log",
        ),
        (well(node_deleted=True), "the node is being deleted"),
        (well(refused=(("a/b", "no"),)), "the kernel refuses 1 Service"),
        (well(error="no"), "the last sync failed"),
    ],
)
def test_each_trouble_alone_is_trouble(program: Program, server: ObserveServer, status: Status, health: str) -> None:
    server.set_status(status)
    answer = ask(program, server)
    assert (answer.code, lines(answer)["Health"]) == (1, health)


@pytest.mark.parametrize(
    ("count", "failing", "told"),
    [
        (1, 0, "1 readiness probe is run on this node, and passes"),
        (1, 1, "1 readiness probe is run on this node, and fails"),
        (3, 0, "3 readiness probes are run on this node; none of them fails"),
        (3, 1, "3 readiness probes are run on this node; 1 of them fails"),
        (3, 2, "3 readiness probes are run on this node; 2 of them fail"),
    ],
)
def test_probes_are_told_in_words(
    program: Program, server: ObserveServer, count: int, failing: int, told: str
) -> None:
    server.set_status(well(probes=count, probes_failing=failing))
    assert lines(ask(program, server))["Probes"] == told


def test_problems_are_trouble_and_a_short_lag_is_none(program: Program, server: ObserveServer) -> None:
    server.set_status(well(problems=("contested",), pending=1, pending_since=at(0), sync_operations=1))
    answer = ask(program, server)
    assert (answer.code, lines(answer)["Problems"]) == (1, "contested")
    assert lines(answer)["Health"] == "there is 1 problem"
    assert lines(answer)["Lag"].startswith("1 Service to be written, the oldest for ")
    assert ": 1 operation in " in lines(answer)["Last sync"]


@pytest.mark.parametrize(("status", "code"), [(well(node="é"), 0), (well(error="no"), 1)])
def test_json_is_what_the_daemon_tells(program: Program, server: ObserveServer, status: Status, code: int) -> None:
    server.set_status(status)
    answer = ask(program, server, "-o", "json")
    assert (answer.code, answer.err) == (code, "")
    assert json.loads(answer.out) == json.loads(json.dumps(asdict(status)))


def test_the_address_comes_from_the_configuration(program: Program, server: ObserveServer, tmp_path: Path) -> None:
    """One on all addresses is asked on the loopback interface."""
    server.set_status(well())
    config = tmp_path / "config.yaml"
    config.write_text(f"metricsBindAddress: 0.0.0.0:{server.metrics_port}\n")
    assert program.run("status", "--config", str(config)).code == 0


def test_ipv6(program: Program) -> None:
    with contextlib.closing(ObserveServer(Metrics("0.1"), healthz=None, metrics_address=(SIX, 0))) as server:
        assert server.listen() == ()
        server.set_status(well())
        assert program.run("status", "--metrics-bind-address", f"[::1]:{server.metrics_port}").code == 0
        assert program.run("status", "--metrics-bind-address", f"[::]:{server.metrics_port}").code == 0


def test_no_daemon(program: Program) -> None:
    with socket.create_server((str(FOUR), 0)) as held:
        port = held.getsockname()[1]
    answer = program.run("status", "--metrics-bind-address", f"127.0.0.1:{port}")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (
        f"error: no daemon answers at 127.0.0.1:{port}: Connection refused; start it with `nodeport-nft sync`, "
        "or name the metricsBindAddress it has\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--metrics-bind-address", "none"], "error: metricsBindAddress is none, so no daemon can be asked; "),
        (
            ["--metrics-bind-address", "localhost:1"],
            'error: --metrics-bind-address: "localhost:1" is not an address with a port; ',
        ),
    ],
)
def test_an_address_that_cannot_be_asked(program: Program, words: list[str], message: str) -> None:
    answer = program.run("status", *words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(message)


@pytest.mark.parametrize(
    ("answered", "message"),
    [
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            " answers 404 to /status, which our daemon does not; ",
        ),
        (b"SSH-2.0-OpenSSH\r\n", " answers is not HTTP (BadStatusLine); "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", " answers is not our daemon's: Expecting property name"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", " answers is not our daemon's: Expecting value"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"synced": "\x1b"}', " answers is not our daemon's: Invalid control character"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"synced": "x"}', " answers is not our daemon's: its field synced holds "),
    ],
)
def test_somebody_else_answers(program: Program, answered: bytes, message: str) -> None:
    answer = replied(program, answered)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert answer.err.endswith("name the daemon's own metricsBindAddress, and stop kube-proxy if it is that\n")


def test_a_daemon_that_is_just_ending(program: Program) -> None:
    answer = replied(program, b"")
    assert answer.code == 2
    assert "no daemon answers at 127.0.0.1:" in answer.err
    assert ": Remote end closed connection without response; start it with " in answer.err


def test_who_accepts_and_says_nothing_keeps_nobody_waiting_for_ever(program: Program) -> None:
    with socket.create_server((str(FOUR), 0)) as held:
        answer = program.run("status", "--metrics-bind-address", f"127.0.0.1:{held.getsockname()[1]}")
    assert answer.code == 2
    assert "does not answer" in answer.err


def test_what_is_longer_than_a_terminal_goes_on_below_and_the_remedy_begins_a_line(
    program: Program, server: ObserveServer
) -> None:
    long = "net.ipv4.ip_forward is not 1: connections are not forwarded to pods; sysctl -w net.ipv4.ip_forward=1"
    server.set_status(well(problems=(long, "short; remedy")))
    words = ("status", "--metrics-bind-address", f"127.0.0.1:{server.metrics_port}", "--color", "never")
    terminal, its_end = pty.openpty()
    try:
        done = subprocess.run(
            [SCRIPT, *words], stdout=its_end, check=False, timeout=60, env={**os.environ, "COLUMNS": "80"}
        )
        os.close(its_end)
        out = rest(terminal)
    finally:
        os.close(terminal)
    assert done.returncode == 1
    below = out.splitlines()
    assert max(map(len, below)) <= 80
    start = next(number for number, line in enumerate(below) if line.startswith("Problems:"))
    assert [line.split() for line in below[start : start + 4]] == [
        ["Problems:", "net.ipv4.ip_forward", "is", "not", "1:", "connections", "are", "not", "forwarded", "to"],
        ["pods;"],
        ["sysctl", "-w", "net.ipv4.ip_forward=1"],
        ["short;", "remedy"],
    ]
    assert long in ask(program, server).out, "a pipe is read line by line"


def test_a_terminal_that_knows_ascii_alone(program: Program, server: ObserveServer) -> None:
    server.set_status(well(node="wörker"))
    words = ("status", "--metrics-bind-address", f"127.0.0.1:{server.metrics_port}")
    answer = program.run(*words, env={"PYTHONIOENCODING": "ascii", "PATH": os.environ["PATH"]})
    assert (answer.code, lines(answer)["Node"]) == (0, "w\\xf6rker")
