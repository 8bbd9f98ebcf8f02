"""``make demo``: from a NodePort Service to "Welcome to nginx!" on every node, step by step, with real packets.

Each step prints the command it runs, with the host it runs on, and the command's own answer; then it checks the
answer, so that a demo that ends well is a proof. All of it happens in namespaces that only this process holds and
in one temporary folder: whatever ends the demo (its end, a failed check, Ctrl-C, SIGTERM), nothing stays behind.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from lab.cluster import Cluster
from lab.namespaces import LabError, enter_private_namespaces
from lab.nginx import start_nginx
from lab.topology import CLIENT

EXAMPLES = Path(__file__).parent.parent / "examples"
DNS = Path(__file__).parent.parent / "contrib" / "dns"
PROGRAM = Path(sys.executable).with_name("nodeport-nft")
OTHER_PROGRAMS = ("curl", "dnsmasq", "ip", "mount", "nft", "nginx", "setpriv", "unshare", "wget")
"""What `make demo` installs where it is missing."""

PODS = {"web-1": "worker-1", "web-2": "worker-1", "web-3": "worker-2"}  # as in examples/pods.yaml
SHELL = "tst"  # a pod to try things out in
CONFIGURATION = Path("/etc/nodeport-nft/config.yaml")
CLUSTER_CIDR = "10.244.0.0/16"
CLUSTER_DNS, NODE_DNS = "10.96.0.10", "169.254.20.10"  # as in contrib/dns
DNS_SECONDS = 30.0  # until dnsmasq has to be up
NAMES = Path("/run/names")  # of this process's own /run, which everybody may read
WELCOME = "Welcome to nginx!"

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Unexpected(Exception):
    """A command's answer is not what it has to be; the message says which and why."""


class Stopped(BaseException):
    """A signal asks the demo to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Screen:
    """Prints the steps, and runs their commands on the cluster's hosts in ``directory``."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        self.directory = directory
        # Neither the user's proxies nor their settings of curl and wget reach into the lab.
        self.env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self.env |= {"HOME": str(directory), "LC_ALL": "C.UTF-8"}
        self._bold = ("\033[1m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
        self._steps = 0

    def step(self, text: str) -> None:
        """Begin a step; ``text`` says what it is about."""
        self._steps += 1
        print(f"\n{self._steps}. {text}")

    def run(self, host: str, command: str) -> str:
        """Show and run a command that must succeed; all it said."""
        self.show(host, command)
        answer = self.run_quietly(host, command)
        self.answer(answer)
        return answer

    def show(self, host: str, command: str) -> None:
        """Show a command as it would be typed on ``host``."""
        before, after = self._bold
        print(f"\n   {host} $ {before}{command}{after}")

    def answer(self, text: str) -> None:
        """Show an answer, or a part of it."""
        for line in text.strip("\n").splitlines() or ["(no output)"]:
            print(f"   | {line}".rstrip())

    def run_quietly(self, host: str, command: str) -> str:
        """Run a command on ``host``; stderr and stdout of it. Raises Unexpected if it fails."""
        words = shlex.split(command)
        if words[0] == PROGRAM.name:
            words[0] = str(PROGRAM)
        resolv_conf = self.directory / "resolv.conf" if host == SHELL else None
        done = self.cluster.run(host, words, check=False, resolv_conf=resolv_conf, env=self.env, cwd=self.directory)
        said = done.stderr + done.stdout
        if done.returncode != 0:
            raise Unexpected(f"{host} $ {command}: exit {done.returncode}: {said.strip()}")
        return said


def demonstrate(directory: Path) -> None:
    """The whole walk, with every file in ``directory``. Raises Unexpected at the first answer that is wrong."""
    with Cluster() as cluster:
        for pod, node in PODS.items():
            cluster.add_pod(pod, node)
            start_nginx(cluster, pod, directory / pod)
        cluster.add_pod(SHELL, cluster.nodes[-1])
        for file in (EXAMPLES / "nodes.yaml", EXAMPLES / "pods.yaml", DNS / "dnsmasq.conf", DNS / "resolv.conf"):
            shutil.copy(file, directory)
        show_cluster(cluster)
        screen = Screen(cluster, directory)
        node_port, cluster_ip = create_service(screen)
        program_nodes(screen)
        welcomes = [visit_from_pod(screen, cluster_ip), *visit_nodes(screen, node_port)]
        show_kernel(screen, node_port)
        add_another(screen, node_port)
        clean_up(screen)
    print("\nThe cluster is gone, and all it had on this machine. It had answered:\n")
    for welcome in welcomes:
        print(f"   {WELCOME}  {welcome}")


def show_cluster(cluster: Cluster) -> None:
    """Say which hosts there are."""
    print("A small cluster is up, each host a network namespace of this machine:\n")
    print(f"   {CLIENT:<9} {cluster.address(CLIENT)!s:<12} outside, behind a router")
    for node in cluster.nodes:
        print(f"   {node:<9} {cluster.address(node)}")
        for pod in cluster.pods:
            if cluster.host(pod).node == node:
                what = "a shell with wget" if pod == SHELL else "nginx on port 80"
                print(f"     {pod:<7} {cluster.address(pod)!s:<12} pod, {what}")


def create_service(screen: Screen) -> tuple[int, str]:
    """Store nodes, pods and the Service; the nodePort and the clusterIP that it was given."""
    screen.step("Tell nodeport-nft which nodes and pods there are. (A Kubernetes API server would know.)")
    screen.run("worker-1", "nodeport-nft apply -f nodes.yaml -f pods.yaml --store store.db")
    screen.step("Create a Service of type NodePort: port 8000 leads to port 80 of every pod labelled app=my-ser.")
    screen.run("worker-1", "nodeport-nft create service nodeport my-ser --tcp=8000:80 --store store.db")
    screen.step("It was given a nodePort, unique in the cluster, and a clusterIP behind the scenes.")
    screen.run("worker-1", "nodeport-nft get services --store store.db")
    described = screen.run("worker-1", "nodeport-nft describe service my-ser --store store.db")
    node_port = int(field(described, r"NodePort: +<unset>  (\d+)/TCP"))
    cluster_ip = field(described, r"IP: +([\d.]+)")
    expect(field(described, r"Type: +(\S+)") == "NodePort", "my-ser is not of type NodePort")
    expect(30000 <= node_port <= 32767, f"nodePort {node_port} is outside 30000-32767")
    endpoints = ",".join(sorted(f"{screen.cluster.address(pod)}:80" for pod in PODS))
    expect(field(described, r"Endpoints: +(\S+)") == endpoints, f"the endpoints are not {endpoints}")
    return node_port, cluster_ip


def program_nodes(screen: Screen) -> None:
    """Write the tables of both nodes, and let the second one, on which the shell runs, answer to names."""
    screen.step(
        "Program the nodes: one nftables transaction each. The nodes share the store. The second one also keeps the\n"
        "   cluster's names for a dnsmasq of its own, to which it leads the clusterIP of Service kube-dns."
    )
    for node in screen.cluster.nodes:
        if node == screen.cluster.host(SHELL).node:
            start_dns(screen, node)
        screen.run(node, sync_command(node))


def start_dns(screen: Screen, node: str) -> None:
    """Start dnsmasq with the configuration of contrib/dns. Raises Unexpected if it does not come up."""
    NAMES.mkdir()
    config = screen.directory / "dnsmasq.conf"
    config.write_text(config.read_text().replace("/var/lib/nodeport-nft/names", str(NAMES)))
    screen.run(node, f"ip address add {NODE_DNS}/32 dev lo scope host")
    screen.show(node, "dnsmasq --conf-file=dnsmasq.conf &")
    is_up = screen.directory / "dnsmasq.pid"
    command = ["dnsmasq", "--keep-in-foreground", f"--conf-file={config}", f"--pid-file={is_up}"]
    server = screen.cluster.popen(node, command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + DNS_SECONDS
    while not is_up.exists():
        expect(server.poll() is None and time.monotonic() < deadline, f"{node} $ dnsmasq: does not come up")
        time.sleep(0.01)


def visit_from_pod(screen: Screen, cluster_ip: str) -> str:
    """Reach the Service by name from the shell; a line for the summary."""
    screen.step("Inside the cluster: a pod reaches the Service by its name. All it has to know is whom to ask.")
    screen.run(SHELL, "cat /etc/resolv.conf")
    answer = screen.run(SHELL, "wget --spider my-ser:8000")
    expect(f"{cluster_ip}|:8000" in answer, f"wget did not connect to {cluster_ip}:8000")
    expect("Remote file exists" in answer, "wget found nothing at my-ser:8000")
    read_welcome(screen, SHELL, "wget -qO- my-ser:8000")
    return f"my-ser:8000, asked by pod {SHELL}"


def visit_nodes(screen: Screen, node_port: int) -> list[str]:
    """Reach the nodePort of each node from outside; lines for the summary."""
    screen.step("Outside the cluster: every node answers on the nodePort, wherever the pod is that serves.")
    visited = []
    for node in screen.cluster.nodes:
        door = f"{screen.cluster.address(node)}:{node_port}"
        read_welcome(screen, CLIENT, f"curl {door}")
        visited.append(f"{door} ({node}), asked from outside")
    return visited


def read_welcome(screen: Screen, host: str, command: str) -> None:
    """Get the page, and show its headline of it alone."""
    screen.show(host, command)
    page = screen.run_quietly(host, command)
    headline = re.search(r"<h1>.*</h1>", page)
    expect(headline is not None and WELCOME in headline[0], f"{host} $ {command}: no {WELCOME!r} in: {page.strip()}")
    assert headline is not None
    screen.answer(f"…\n{headline[0]}\n…")


def show_kernel(screen: Screen, node_port: int) -> None:
    """Show the part of the first node's table that has to do with the Service."""
    screen.step(
        "In the kernel of a node: the Service is elements of four maps, and the counters have counted its\n"
        "   connections. Chains and rules are the same, however many Services there are."
    )
    command = "nft list table ip nodeport-nft"
    screen.show("worker-1", command)
    listing = screen.run_quietly("worker-1", command)
    # nft lists protocols as numbers where there is no /etc/protocols, as in slim images.
    chain = field(
        listing, rf'elements = {{ (?:tcp|6) \. {node_port} counter packets [1-9].* "default/my-ser" : goto (\S+)'
    )
    head, *blocks = listing.split("\n\n")  # the head ends with the first map
    telling = ("\tmap ", "\tchain services ", f"\tchain {chain} ")
    shown = "\n\n".join([head, *(block for block in blocks if block.startswith(telling))])
    screen.answer(f"{shown}\n\n\t…\n}}".expandtabs())
    hidden = len(listing.splitlines()) - len(shown.splitlines()) - 1
    print(f"\n   ({hidden} lines more. See them all: nft list table ip nodeport-nft, on a node of yours)")


def add_another(screen: Screen, node_port: int) -> None:
    """A second Service: another nodePort, and only the difference is written."""
    screen.step("Another Service gets another nodePort, and a node writes the difference alone.")
    screen.run("worker-1", "nodeport-nft create service nodeport other --tcp=8000:80 --store store.db")
    services = screen.run("worker-1", "nodeport-nft get services --store store.db")
    given = [int(port) for port in re.findall(r"8000:(\d+)/TCP", services)]
    expect(len(given) == 2 and node_port in given, f"my-ser does not hold {node_port} any more")
    expect(len(set(given)) == 2, f"the nodePorts {given} are not unique")
    changed = screen.run("worker-1", sync_command("worker-1"))
    expect("elements added" in changed, "the second sync did not just add elements")
    unchanged = screen.run("worker-1", sync_command("worker-1"))
    expect("nothing changed" in unchanged, "the third sync found something to change")


def clean_up(screen: Screen) -> None:
    """Take everything off the nodes with the program's own command."""
    screen.step("Clean up: the nodes are as they were.")
    for node in screen.cluster.nodes:
        screen.run(node, f"nodeport-nft cleanup --node-name {node} --store store.db --state-dir .")
        expect(screen.run(node, "nft list tables") == "", f"{node} still has tables")
    expect(not any(NAMES.iterdir()), "the names are still there")


def sync_command(node: str) -> str:
    """The command that programs ``node``; the one with the shell keeps names, too."""
    command = f"nodeport-nft sync --once --node-name {node} --cluster-cidr {CLUSTER_CIDR} --store store.db"
    if node == "worker-1":
        return command
    return f"{command} --cluster-dns {CLUSTER_DNS} --dns-hosts-dir {NAMES} --state-dir ."


def field(text: str, pattern: str) -> str:
    """The pattern's group, from the first line that begins with the pattern. Raises Unexpected if none does."""
    match = re.search(rf"^\s*{pattern}", text, re.MULTILINE)
    if match is None:
        raise Unexpected(f"nothing matches {pattern!r} in:\n{text}")
    return match[1]


def expect(fulfilled: bool, otherwise: str) -> None:
    """Raise Unexpected unless ``fulfilled``."""
    if not fulfilled:
        raise Unexpected(otherwise)


def check_programs() -> None:
    """Raise LabError if a program is missing."""
    missing = [name for name in OTHER_PROGRAMS if shutil.which(name) is None]
    if not PROGRAM.exists():
        missing.append(str(PROGRAM))
    if missing:
        raise LabError(f"missing: {', '.join(missing)}; `make demo` as root installs what it needs")


def hide_configuration() -> None:
    """Have the program find an empty configuration, in this process's private mounts alone."""
    if CONFIGURATION.exists():
        subprocess.run(["mount", "--bind", os.devnull, CONFIGURATION], check=True)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """In the block, the first signal to stop raises Stopped and later ones do nothing: cleaning up takes its time.

    To be used where these signals are blocked; they are blocked again after it.
    """

    def stop(number: int, _: FrameType | None) -> None:
        for each in STOP_SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    for each in STOP_SIGNALS:
        if signal.getsignal(each) is not signal.SIG_IGN:  # as `nohup` has it
            signal.signal(each, stop)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def main() -> int:
    """Exit code 0 if every step went as expected, 1 if one did not or something is missing, 128 + N on signal N."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a text file, whoever reads it
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        enter_private_namespaces()
        check_programs()
        hide_configuration()
        with tempfile.TemporaryDirectory(prefix="nodeport-nft-demo-") as directory, stoppable():
            demonstrate(Path(directory))
    except (LabError, Unexpected) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `make demo | head`; the interpreter must not complain while it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Stopped as stopped:
        print(f"demo: stopped by {signal.Signals(stopped.number).name}; nothing is left behind", file=sys.stderr)
        return 128 + stopped.number
    return 0


if __name__ == "__main__":
    sys.exit(main())
