"""Clients at work in the lab while something happens."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from lab.cluster import RESPONDER, Cluster

CLIENT = RESPONDER.with_name("client.py")
SECONDS = 90.0  # more than the client gives both of its destinations

NODE_PORT = (("172.30.1.2", 30010), ("fd00:30:1::2", 30010))
CLUSTER_IP = (("10.96.0.10", 80), ("fd00:10:96::a", 80))
"""The frontends of the service ``web`` on worker-1."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a client has done: answers, failures, and the answers by who gave them."""

    done: int
    failures: list[str]
    names: Mapping[str, int]


class Client:
    """One client program; it is at work once this is made. ``pause``: seconds that it rests after each round."""

    def __init__(
        self, cluster: Cluster, host: str, mode: str, *destinations: tuple[str, int], pause: float = 0.0
    ) -> None:
        words = [word for address, port in destinations for word in (address, str(port))]
        self._process: subprocess.Popen[str] = cluster.popen(
            host,
            [sys.executable, "-IS", str(CLIENT), mode, *words],
            stdout=subprocess.PIPE,
            env={**os.environ, **({"PAUSE": str(pause)} if pause else {})},
        )
        self._cluster = cluster
        assert self._line() == "begun\n"

    def finish(self) -> Done:
        """End it, and hear what it has done."""
        self._process.send_signal(signal.SIGTERM)
        done = Done(**json.loads(self._line()))
        assert self._process.wait(SECONDS) == 0
        self._cluster.stop(self._process)
        return done

    def abandon(self) -> None:
        """End it without a word; nothing after ``finish``."""
        self._cluster.stop(self._process)

    def _line(self) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], SECONDS)
        assert ready, "the client says nothing"
        return self._process.stdout.readline()


@contextmanager
def traffic(cluster: Cluster, *, stream: bool = True) -> Iterator[list[Done]]:
    """Connections to the service ``web`` without a pause: from outside to the nodePort, from a pod to the clusterIP,
    and with ``stream`` two that last all the while. The list has what came of each once the block has ended.
    """
    results: list[Done] = []
    clients: list[Client] = []
    try:
        clients.append(Client(cluster, "client", "connect", *NODE_PORT))
        clients.append(Client(cluster, "web-1", "connect", *CLUSTER_IP))
        if stream:
            clients.append(Client(cluster, "client", "stream", NODE_PORT[0]))
            clients.append(Client(cluster, "web-1", "stream", CLUSTER_IP[1]))
        yield results
        results += [client.finish() for client in clients]
    finally:
        for client in clients:
            client.abandon()
