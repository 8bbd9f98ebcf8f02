"""A node to measure on: three network namespaces, a client's, the node's and one for all pods, and nothing else.

    client 172.30.1.10 — 172.30.1.2 node 172.30.2.1 — 172.30.2.2 pods, which answer for all of 10.128.0.0/9

The one host behind the node answers for every endpoint's address, so that each Service of any load works.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Self

from bench.accounting import KernelAccount
from bench.measuring import Commits, generation
from bench.workload import NODE_ADDRESS, POD_CIDR
from lab.namespaces import Namespace

CLIENT = "172.30.1.10"
_SECONDS = 60.0


class Node:
    """Use it as a context manager; what still runs in it then is its starter's to end."""

    def __init__(self) -> None:
        self.client, self.node, self.pods = Namespace(), Namespace(), Namespace()
        self._account: KernelAccount | None = None

    def __enter__(self) -> Self:
        for name, inside, outside, other, gateway in (
            ("client", f"{CLIENT}/24", f"{NODE_ADDRESS}/24", self.client, NODE_ADDRESS),
            ("pods", "172.30.2.2/24", "172.30.2.1/24", self.pods, "172.30.2.1"),
        ):
            self._ip(self.node, f"link add {name} type veth peer name eth0 netns {other.path}")
            self._ip(self.node, f"address add {outside} dev {name}", f"link set {name} up")
            self._ip(other, f"address add {inside} dev eth0", "link set eth0 up", "link set lo up")
            self._ip(other, f"route add default via {gateway}")
        self._ip(
            self.node, "link set lo up", f"route add {POD_CIDR} via 172.30.2.2", "route add default via 172.30.1.10"
        )
        self._ip(self.pods, f"route add local {POD_CIDR} dev lo")
        self.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        self.run(["sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535"], self.client)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self.client, self.node, self.pods):
            each.close()

    def run(self, command: Sequence[str], where: Namespace | None = None, **options: Any) -> str:
        """What a command says that runs on the node, or elsewhere. Raises CalledProcessError, TimeoutExpired."""
        options = {"capture_output": True, "text": True, "check": True, "timeout": _SECONDS} | options
        with (where or self.node).entered():
            done = subprocess.run(command, **options)
        return str(done.stdout)

    def popen(
        self, command: Sequence[str], where: Namespace | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """A process on the node, or elsewhere, for the caller to end."""
        with (where or self.node).entered(), self._account.charged() if self._account else nullcontext():
            return subprocess.Popen(command, **options)

    def start(
        self, command: Sequence[str], where: Namespace | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """The same for one that stays: the kernel ends it with this process, however that ends."""
        return self.popen(["setpriv", "--pdeathsig", "KILL", *command], where, **options)

    @contextmanager
    def charged(self, account: KernelAccount | None) -> Iterator[None]:
        """What processes that are started here in the block allocate in the kernel is charged to the account."""
        self._account = account
        try:
            yield
        finally:
            self._account = None

    def flush(self) -> None:
        """Take everything out of the node's nftables."""
        self.run(["nft", "flush", "ruleset"], timeout=1_800)

    def generation(self) -> int:
        with self.node.entered():
            return generation()

    def listen(self, *, seconds: float) -> Commits:
        """For commits on the node."""
        with self.node.entered():
            return Commits(seconds=seconds)

    def forget_connections(self) -> None:
        """Empty the node's connection tracking."""
        self.run(["conntrack", "-F"])

    def packets_to_pods(self) -> int:
        """How many packets have left the node towards its pods."""
        links = json.loads(self.run(["ip", "-json", "-statistics", "link", "show", "dev", "pods"]))
        return int(links[0]["stats64"]["tx"]["packets"])

    def _ip(self, where: Namespace, *commands: str) -> None:
        for command in commands:
            self.run(["ip", *command.split()], where)
