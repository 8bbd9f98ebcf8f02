"""A small dual-stack cluster: an external client, a router, nodes and pods, each a network namespace.

::

    client 172.30.0.10 ── router 172.30.N.1 ──┬── worker-1 172.30.1.2 ── pods 10.244.1.x
           fd00:30::10           fd00:30:N::1 └── worker-2 172.30.2.2 ── pods 10.244.2.x
                                                           fd00:30:N::2       fd00:244:N::x

Each pod has a veth of its own into its node and is routed as a single address, as Calico does it. There is no
bridge, so that every packet, also one between two pods of a node or from a pod back to itself, passes the
node's netfilter hooks. The node-side veths carry no IPv4 address: a node speaks to its pods, and masquerades,
as its node address. The router knows the nodes' and the pods' networks and nothing else, Service addresses
least of all: what a node leaves untranslated comes back as ICMP "network unreachable".
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from lab.namespaces import LabError, Namespace, in_namespace
from lab.topology import (
    CLIENT,
    HOST_SYSCTLS,
    ROUTER,
    ROUTER_SYSCTLS,
    Host,
    node_networks,
    pod_networks,
)

Result = TypeVar("Result")

# A link of systemd-resolved's leads into /run, which is empty in here.
_MOUNT = """
while [ "$1" != -- ]; do
    target=$(readlink -m "$2")
    [ -e "$target" ] || { mkdir -p "${target%/*}" && touch "$target"; } || exit
    mount --bind "$1" "$target" || exit
    shift 2
done
shift
exec "$@"
"""

RESPONDER = Path(__file__).with_name("responder.py")


class Cluster:
    """The running cluster; a context manager that ends every process it started and frees all namespaces.

    ``pods`` maps a pod's name to its node; more come with ``add_pod``. Building it takes some 5 ms a host.
    Raises LabError where the privilege or a program is missing.
    """

    def __init__(
        self, nodes: Sequence[str] = ("worker-1", "worker-2"), pods: Mapping[str, str] | None = None
    ) -> None:
        self.nodes = tuple(nodes)
        self.hosts: dict[str, Host] = {}
        self._processes: list[subprocess.Popen[str]] = []
        try:
            networks = node_networks(0)
            self._add_host(ROUTER, networks[0][1], networks[1][1], forwards=True)
            self._add_uplinked(CLIENT, 0)
            for number, node in enumerate(self.nodes, start=1):
                self._add_uplinked(node, number)
            for pod, node in (pods or {}).items():
                self.add_pod(pod, node)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill what was started here, with its children, and free the namespaces; safe to call twice."""
        for process in self._processes:
            self.stop(process)
        self._processes.clear()
        for host in self.hosts.values():
            host.namespace.close()
        self.hosts.clear()

    @property
    def pods(self) -> tuple[str, ...]:
        """The pods' names, in the order in which they came."""
        return tuple(name for name, host in self.hosts.items() if host.node)

    def host(self, name: str) -> Host:
        """The host of this name. Raises LabError if there is none."""
        try:
            return self.hosts[name]
        except KeyError:
            raise LabError(f"no host {name!r} in the lab; there are {', '.join(self.hosts)}") from None

    def address(self, name: str, family: int = 4) -> IPv4Address | IPv6Address:
        """The host's address of IP family 4 or 6."""
        host = self.host(name)
        return host.ipv6 if family == 6 else host.ipv4

    def name_of(self, address: IPv4Address | IPv6Address) -> str:
        """The host that has this address, "" if none has."""
        return next((host.name for host in self.hosts.values() if address in (host.ipv4, host.ipv6)), "")

    def add_pod(self, name: str, node: str, index: int | None = None) -> Host:
        """Start an empty pod on ``node``, at the ``index``-th address of its pod CIDRs (default: a free one).

        Raises LabError if the name or the address is taken.
        """
        if node not in self.nodes:
            raise LabError(f"pod {name}: no node {node!r} in the lab; there are {', '.join(self.nodes)}")
        number = self.nodes.index(node) + 1
        ipv4_network, ipv6_network = pod_networks(number)
        taken = {host.ipv4 for host in self.hosts.values()}
        if index is None:
            index = next(free for free in range(2, 255) if ipv4_network[free] not in taken)
        if ipv4_network[index] in taken:
            raise LabError(f"pod {name}: {ipv4_network[index]} is taken; choose another index")
        pod = self._add_host(name, ipv4_network[index], ipv6_network[index], node=node)
        veth, gateway = f"pod{index}", self.host(node)
        self._ip(
            node,
            f"link add name {veth} type veth peer name eth0 netns {pod.namespace.path}",
            f"link set {veth} up",
            f"address add fe80::1/64 dev {veth} nodad",  # IPv6 answers neighbours by interface, IPv4 for all
            f"route add {pod.ipv4}/32 dev {veth} src {gateway.ipv4}",
            f"route add {pod.ipv6}/128 dev {veth}",
        )
        self._ip(
            name,
            "link set eth0 up",
            f"address add {pod.ipv4}/32 dev eth0",
            f"address add {pod.ipv6}/128 dev eth0 nodad",
            f"route add default via {gateway.ipv4} dev eth0 onlink",
            "route add default via fe80::1 dev eth0",
        )
        return pod

    def popen(
        self,
        host: str,
        argv: Sequence[str],
        *,
        hosts_file: str | Path | None = None,
        resolv_conf: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> subprocess.Popen[str]:
        """Start a program on ``host``; ``close`` ends it at the latest, and it dies when this process does.

        ``hosts_file`` and ``resolv_conf`` stand in for /etc/hosts and /etc/resolv.conf in the program's view alone,
        as they are at this moment. The program leads a process group of its own: Ctrl-C does not reach it, and
        ``stop`` reaches its children.
        """
        command = ["setpriv", "--pdeathsig", "KILL", *argv]
        stand_ins = {"/etc/hosts": hosts_file, "/etc/resolv.conf": resolv_conf}
        mounts = [word for path, own in stand_ins.items() if own for word in (str(Path(own).absolute()), path)]
        if mounts:
            command = ["unshare", "--mount", "sh", "-c", _MOUNT, "sh", *mounts, "--", *command]
        try:
            with self.host(host).namespace.entered():
                process = subprocess.Popen(
                    command,
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    env=env,
                    cwd=cwd,
                    text=True,
                    start_new_session=True,
                )
        except FileNotFoundError as error:
            raise LabError(f"the program {error.filename!r} is missing; install util-linux") from None
        self._processes.append(process)
        return process

    def stop(self, process: subprocess.Popen[str]) -> None:
        """Kill a program started with ``popen`` and its process group, unless it was waited for already."""
        if process.returncode is None:  # else its process id may by now be somebody else's
            _kill_group(process)
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    def run(
        self,
        host: str,
        argv: Sequence[str],
        *,
        timeout: float = 60.0,
        check: bool = True,
        text: str = "",
        hosts_file: str | Path | None = None,
        resolv_conf: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on ``host`` to its end, with ``text`` on its standard input.

        Raises LabError when it is not done after ``timeout`` seconds, and, with ``check``, when it fails.
        """
        process = self.popen(
            host,
            argv,
            hosts_file=hosts_file,
            resolv_conf=resolv_conf,
            env=env,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            output, errors = process.communicate(text, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise LabError(f"{host}: {' '.join(argv)}: not done within {timeout:g} s") from None
        finally:
            _kill_group(process)  # what it left running in the background, too
            self.stop(process)
            self._processes.remove(process)
        if check and process.returncode != 0:
            raise LabError(f"{host}: {' '.join(argv)}: exit {process.returncode}: {(errors or output).strip()}")
        return subprocess.CompletedProcess(list(argv), process.returncode, output, errors)

    def call(self, host: str, function: Callable[[], Result], *, timeout: float = 60.0) -> Result:
        """``in_namespace`` on ``host``: run ``function`` in a forked child there and return its result."""
        return in_namespace(self.host(host).namespace, function, timeout=timeout)

    def socket(self, host: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of ``host``, for this process to use; the caller closes it."""
        with self.host(host).namespace.entered():
            return socket.socket(family, kind, protocol)

    def sysctl(self, host: str, values: Mapping[str, str]) -> None:
        """Write sysctls of the host's network namespace, such as {"net.ipv4.ip_forward": "1"}."""
        with self.host(host).namespace.entered():  # /proc/sys/net shows the namespace of the thread that reads
            for name, value in values.items():
                path = Path("/proc/sys", *name.split("."))
                try:
                    path.write_text(value)
                except OSError as error:
                    raise LabError(f"cannot set {name}={value}: {error.strerror}; run as root") from None

    def nft(self, host: str, text: str) -> None:
        """Load a ruleset text in one transaction. Raises LabError with nft's own message if it is refused."""
        self.run(host, ["nft", "-f", "-"], text=text)

    def ruleset(self, host: str) -> str:
        """All tables of the host, as nft lists them; sets print their elements, too."""
        return self.run(host, ["nft", "list", "ruleset"]).stdout

    def reset(self) -> None:
        """Take every nft table and every connection-tracking entry off nodes, router and client.

        Without the latter, a new UDP flow that happens to get an earlier one's port would follow its path.
        """
        for host in (CLIENT, ROUTER, *self.nodes):
            self.nft(host, "flush ruleset")
            self.run(host, ["conntrack", "-F"])

    def start_responder(
        self, host: str, ports: Sequence[int], name: str = "", *, timeout: float = 60.0
    ) -> subprocess.Popen[str]:
        """Serve ``ports`` on ``host`` over TCP and UDP, as ``responder`` describes; it listens on return.

        ``name`` is what it answers, the host's name by default. Raises LabError if it does not start in
        ``timeout`` seconds.
        """
        argv = [sys.executable, "-IS", str(RESPONDER), name or host, *map(str, ports)]
        process = self.popen(host, argv, stdout=subprocess.PIPE)
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], timeout)
        if not ready or process.stdout.readline() != "ready\n":
            raise LabError(f"{host}: the responder on {', '.join(map(str, ports))} did not start")
        return process

    def _add_host(
        self, name: str, ipv4: IPv4Address, ipv6: IPv6Address, *, node: str = "", forwards: bool = False
    ) -> Host:
        if name in self.hosts:
            raise LabError(f"two hosts named {name}; choose another name")
        host = Host(name, Namespace(), ipv4, ipv6, node)
        self.hosts[name] = host
        if forwards:
            self.sysctl(name, ROUTER_SYSCTLS)
        self.sysctl(name, HOST_SYSCTLS)
        self._ip(name, "link set lo up")
        return host

    def _add_uplinked(self, name: str, number: int) -> None:
        """The client (number 0) or a node, with its link to the router and the routes on both."""
        ipv4_network, ipv6_network = node_networks(number)
        forwards = number > 0
        last, last_ipv6, veth = (2, 2, f"node{number}") if forwards else (10, 0x10, CLIENT)
        host = self._add_host(name, ipv4_network[last], ipv6_network[last_ipv6], forwards=forwards)
        pods = pod_networks(number) if forwards else ()
        self._ip(
            ROUTER,
            f"link add name {veth} type veth peer name eth0 netns {host.namespace.path}",
            f"link set {veth} up",
            f"address add {ipv4_network[1]}/24 dev {veth}",
            f"address add {ipv6_network[1]}/64 dev {veth} nodad",
        )
        self._ip(
            name,
            "link set eth0 up",
            f"address add {host.ipv4}/24 dev eth0",
            f"address add {host.ipv6}/64 dev eth0 nodad",
            f"route add default via {ipv4_network[1]}",
            f"route add default via {ipv6_network[1]}",
            *(f"route add unreachable {network}" for network in pods),  # no pod there: not back to the router
        )
        self._ip(
            ROUTER,
            *(f"route add {network} via {host.ipv4 if network.version == 4 else host.ipv6}" for network in pods),
        )

    def _ip(self, host: str, *commands: str) -> None:
        """Run iproute2 commands on ``host`` in one process."""
        self.run(host, ["ip", "-batch", "-"], text="\n".join(commands))


def _kill_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
