"""Draining, with real connections: what is there lives on, what is new goes elsewhere (C5, E2)."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.cluster import Cluster
from lab.outcome import Kind
from lab.probe import connect_many
from tests.cli.program import Program
from tests.daemon.objects import Desired, endpoint_slice, node, service
from tests.daemon.running import Daemon, wait_for

pytestmark = pytest.mark.proves("C7")

SECONDS = 60.0
NODE_PORT = "172.30.1.2", 30010
MANY = 40  # of two endpoints each has some of them, but for one time in 10^12


class Connection:
    """An established TCP connection from the client to the Service's nodePort on worker-1."""

    def __init__(self, cluster: Cluster) -> None:
        self._sock = cluster.socket("client", socket.AF_INET, socket.SOCK_STREAM)
        self._sock.settimeout(SECONDS)
        self._sock.connect(NODE_PORT)
        self._lines = self._sock.makefile("rb")
        self.name: str = json.loads(self._lines.readline())["name"]

    def is_answered(self) -> bool:
        """Whether a line comes back from who has answered first."""
        self._sock.sendall(b"still there?\n")
        return self._lines.readline() == f"{self.name} still there?\n".encode()

    def close(self) -> None:
        self._lines.close()
        self._sock.close()


@contextmanager
def connections(cluster: Cluster) -> Iterator[dict[str, Connection]]:
    """One to each of the two endpoints, by its name."""
    found: dict[str, Connection] = {}
    try:
        for _ in range(MANY):
            made = Connection(cluster)
            found.setdefault(made.name, made)
            if found[made.name] is not made:
                made.close()
            if len(found) == 2:
                break
        yield found
    finally:
        for made in found.values():
            made.close()


def names(cluster: Cluster, count: int = MANY) -> set[str]:
    """Who answers new connections."""
    outcomes = connect_many(cluster, "client", NODE_PORT, count=count, timeout=SECONDS)
    assert {outcome.kind for outcome in outcomes} == {Kind.REACHED}
    return {outcome.name for outcome in outcomes}


def documents(cluster: Cluster) -> list[dict[str, Any]]:
    """The Service ``web`` with a pod on each node."""
    endpoints = [
        {"addresses": [str(cluster.address(pod))], "nodeName": cluster.host(pod).node} for pod in ("web-1", "web-3")
    ]
    return [
        service("web", 10, clusterIPs=["10.96.0.10"], ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack"),
        endpoint_slice("web", "web-1", 4, 8080, endpoints),
        node("worker-1"),
    ]


def test_what_is_drained_keeps_its_connections_and_gets_no_new_ones_while_there_are_others(
    cluster: Cluster, desired: Desired, daemon: Daemon, tmp_path: Path
) -> None:
    desired.apply(*documents(cluster))
    daemon.start("--min-sync-period", "0", seconds=SECONDS)

    def command(*words: str) -> None:
        done = Program(tmp_path).run(*words, "--store", str(desired.path))
        assert done.code == 0, done.err

    def until(wanted: set[str], what: str) -> None:
        wait_for(lambda: names(cluster, 8) <= wanted, what, SECONDS)
        wait_for(lambda: names(cluster) == wanted, what, SECONDS)

    with connections(cluster) as held:
        assert set(held) == {"web-1", "web-3"}
        for words, pod, other in (
            (("worker-2",), "web-3", "web-1"),
            (("endpoint", str(cluster.address("web-1"))), "web-1", "web-3"),
        ):
            command("drain", *words)
            until({other}, f"{pod} gets no new connections")
            assert held[pod].is_answered(), "what is established lives on"
            drained = desired.snapshot()
            desired.apply(*documents(cluster))
            assert desired.snapshot() == drained, "who applies the manifests once more has not meant that"
            command("uncordon", *words)
            until({pod, other}, f"{pod} is back")
        command("drain", "worker-1", "worker-2")
        daemon.settle()
        assert names(cluster) == {"web-1", "web-3"}, "there is nothing else"
        assert all(each.is_answered() for each in held.values())
