"""doctor on a node of the lab: each check sees the thing broken, and its remedy mends it where a namespace allows."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from lab.cluster import Cluster
from nodeport_nft import __version__
from nodeport_nft.cli import app
from nodeport_nft.config import Config
from nodeport_nft.doctor import CHECKS, Answer, Examination, Finding, State, connecting, examine
from nodeport_nft.doctor.connecting import CHECKS as CONNECTING
from nodeport_nft.kernel.host.node_lock import DaemonPresence
from nodeport_nft.kernel.netlink.events import TableEvents
from nodeport_nft.model import Ranges
from nodeport_nft.observe.status import Status
from tests.cli.program import SCRIPT, Program
from tests.damage import damage, rewrite
from tests.netns import strangers

pytestmark = pytest.mark.proves("U6")

NODE = "worker-1"

OBJECTS = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints:
  - {addresses: ["%(web-1)s"], nodeName: worker-1}
  - {addresses: ["%(web-3)s"], nodeName: worker-2}
---
apiVersion: v1
kind: Node
metadata: {name: worker-1}
spec: {podCIDR: 10.244.1.0/24}
status: {addresses: [{type: InternalIP, address: 172.30.1.2}]}
---
apiVersion: v1
kind: Node
metadata: {name: worker-2}
spec: {podCIDR: 10.244.2.0/24}
status: {addresses: [{type: InternalIP, address: 172.30.2.2}]}
"""

IDLE = """
---
apiVersion: v1
kind: Service
metadata: {name: idle}
spec:
  type: NodePort
  clusterIP: 10.96.0.11
  ports: [{name: http, port: 80, nodePort: 30081}, {name: dns, port: 53, protocol: UDP}]
"""


class Patient:
    """A node of the lab with a store, and ways to look at it and to break it."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        self.program = Program(directory)
        self.config = Config(
            store=str(self.program.store), run_dir=str(directory / "run"), state_dir=str(directory / "state")
        )
        self.answer = Answer(silence="no daemon answers")
        self.name = NODE
        self.restore = ExitStack()

    def apply(self, text: str) -> None:
        pods = {pod: str(self.cluster.address(pod)) for pod in ("web-1", "web-3")}
        self.program.ok("apply", "-f", "-", stdin=text % pods if "%(" in text else text)

    def ip(self, words: str, undo: str = "") -> None:
        self.cluster.run(NODE, ["ip", *words.split()])
        if undo:
            self.restore.callback(self.cluster.run, NODE, ["ip", *undo.split()], check=False)

    def sysctl(self, name: str, value: str, before: str) -> None:
        self.cluster.sysctl(NODE, {name: value})
        self.restore.callback(self.cluster.sysctl, NODE, {name: before})

    def command(self, *words: str, node: str = NODE) -> tuple[int, str, str]:
        """A command of the program on a node, in a fork of this process."""
        own = ("--store", str(self.program.store), "--node-name", node, "--state-dir", self.config.state_dir)

        def run() -> tuple[int, str, str]:
            done = CliRunner().invoke(app, [*words, *own])
            assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
            return done.exit_code, done.stdout, done.stderr

        return self.cluster.call(node, run)

    def sync(self, node: str = NODE, *words: str) -> None:
        code, _, err = self.command("sync", "--once", *words, node=node)
        assert code == 0, err

    def every(self, *ids: str) -> list[tuple[str, Finding]]:
        """What the checks of these ids find, on the node."""
        checks = [each for each in (*CHECKS, *CONNECTING) if each.id in ids]
        assert len(checks) == len(ids)

        def look() -> list[tuple[str, Finding]]:
            examination = Examination(self.config, name=self.name, ask=lambda: self.answer)
            return [(check.id, found) for check, found in examine(checks, examination)]

        return self.cluster.call(NODE, look)

    def findings(self, check: str) -> list[Finding]:
        """What one check finds."""
        return [found for _, found in self.every(check)]

    def only(self, check: str) -> Finding:
        [found] = self.findings(check)
        return found


@pytest.fixture
def patient(cluster: Cluster, tmp_path: Path) -> Iterator[Patient]:
    made = Patient(cluster, tmp_path)
    made.apply(OBJECTS)
    with made.restore:
        yield made


def broken(patient: Patient, check: str, seen: str, state: State = State.FAILED) -> Finding:
    """The one finding of this check that is no more well; it says what it means and what to do."""
    bad = [found for found in patient.findings(check) if found.state is not State.OK]
    assert len(bad) == 1, bad
    assert (bad[0].state, seen in bad[0].seen) == (state, True), bad
    assert bad[0].means
    assert bad[0].remedy
    return bad[0]


def well(patient: Patient, check: str) -> None:
    found = patient.findings(check)
    assert {each.state for each in found} == {State.OK}, found


@pytest.mark.parametrize("family", [strangers.IP, strangers.IP6])
def test_a_table_of_our_name_that_somebody_owns(patient: Patient, family: int) -> None:
    with patient.cluster.host(NODE).namespace.entered(), strangers.owned("nodeport-nft", family):
        found = broken(patient, "nftables", "another process may own the table (flags owner)")
        assert "end the process that owns the table" in found.remedy
    well(patient, "nftables")


def test_a_node_that_is_programmed_is_well(patient: Patient) -> None:
    """All checks, in the order of the table; what there is nothing of is not looked at, and says why."""
    patient.sync()
    skipped = []
    for check, found in patient.every(*(each.id for each in CHECKS)):
        assert found.seen
        if found.state is State.SKIPPED:
            skipped.append(check)
        elif found.state is not State.OK:
            assert (check, found.state) in (
                ("daemon", State.WARNING),
                ("conntrack", State.WARNING),  # the lab's hosts are as the kernel makes them
                ("rp-filter", State.WARNING),
            ), found
    assert skipped == ["flowtable", "bridge-filtering", "names", "dns-server", "sync"]
    assert len({check.id for check in CHECKS}) == len(CHECKS)


@pytest.mark.parametrize(
    ("check", "name", "value", "right", "state"),
    [
        ("forwarding", "net.ipv4.ip_forward", "0", "1", State.FAILED),
        ("conntrack", "net.netfilter.nf_conntrack_tcp_be_liberal", "0", "1", State.WARNING),
    ],
)
def test_sysctls(patient: Patient, check: str, name: str, value: str, right: str, state: State) -> None:
    patient.sync()
    patient.sysctl(name, value, right)
    found = broken(patient, check, f"{name} is not {right}", state)
    command, *_ = found.remedy.split(",")
    patient.cluster.run(NODE, shlex.split(command))
    well(patient, check)


def test_strict_reverse_path_filters_where_there_are_several_ways(patient: Patient) -> None:
    uplink = patient.cluster.run(NODE, ["ip", "-o", "route", "get", "192.0.2.1"]).stdout.split(" dev ")[1].split()[0]
    for device in ("all", uplink):
        path = f"net.ipv4.conf.{device}.rp_filter"
        before = patient.cluster.run(NODE, ["sysctl", "-n", path]).stdout.strip()
        patient.restore.callback(patient.cluster.sysctl, NODE, {path: before})
    patient.cluster.sysctl(NODE, {"net.ipv4.conf.all.rp_filter": "0", f"net.ipv4.conf.{uplink}.rp_filter": "1"})
    found = [each for each in patient.findings("rp-filter") if uplink in each.seen]
    assert [each.state for each in found] == [State.WARNING], found
    for command in found[0].remedy.split("; "):
        patient.cluster.run(NODE, shlex.split(command))
    assert not any(f"strict on {uplink}" in each.seen for each in patient.findings("rp-filter"))


def test_bridges_that_pods_share(patient: Patient) -> None:
    patient.ip("link add br-pods type bridge", "link delete br-pods")
    patient.ip("address add 10.244.1.1/24 dev br-pods")
    there = patient.cluster.run(NODE, ["sysctl", "-n", "net.bridge.bridge-nf-call-iptables"], check=False)
    if there.stdout.strip() == "1":
        well(patient, "bridge-filtering")
        return
    remedy = broken(patient, "bridge-filtering", "").remedy
    assert "bridge-nf-call-iptables=1" in remedy or remedy == "load the module: modprobe br_netfilter"


@pytest.mark.parametrize("kind", ["unreachable", "blackhole"])
def test_routes_to_endpoints(patient: Patient, kind: str) -> None:
    [found] = patient.findings("endpoint-routes")
    assert found.state is State.OK
    assert "by the default route (the router there has to know it)" in found.seen  # as the lab has it
    address = patient.cluster.address("web-3")
    patient.ip(f"route add {kind} {address}/32", f"route delete {kind} {address}/32")
    assert (
        f"ip route add {address}/32"
        in broken(patient, "endpoint-routes", f"no route leads to 1 address: {address}").remedy
    )
    patient.restore.close()
    well(patient, "endpoint-routes")


def test_routes_to_cluster_ips_and_who_else_uses_them(patient: Patient) -> None:
    well(patient, "service-routes")
    assert "fd" not in patient.only("service-routes").seen  # no Service is of IPv6
    well(patient, "collisions")
    _, *route = patient.cluster.run(NODE, ["ip", "-4", "route", "show", "default"]).stdout.split()
    patient.ip("route delete default", f"route replace default {' '.join(route)}")
    assert "ip route add 10.96.0.0/12 dev" in broken(patient, "service-routes", "no route leads").remedy
    patient.restore.close()
    patient.ip("address add 10.96.0.10/32 dev lo", "address delete 10.96.0.10/32 dev lo")
    assert "10.96.0.10" in broken(patient, "collisions", "holds this node's address").seen
    patient.config = dataclasses.replace(patient.config, own_routes=(ip_network("10.96.0.10/32"),))  # the remedy
    well(patient, "collisions")


def test_addresses_that_serve_node_ports(patient: Patient) -> None:
    well(patient, "node-addresses")
    patient.name = "worker-2"
    assert "--node-name" in broken(patient, "node-addresses", "does not have 172.30.2.2", State.WARNING).remedy
    patient.name = "wroker-1"
    found = broken(
        patient, "node-addresses", "no Node is called wroker-1 (there are worker-1, worker-2)", State.WARNING
    )
    assert "--node-name" in found.remedy
    _, *route = patient.cluster.run(NODE, ["ip", "-6", "route", "show", "default"]).stdout.split()
    patient.ip("-6 route delete default", f"-6 route replace default {' '.join(route)}")
    [seen] = [each.seen for each in patient.findings("node-addresses") if each.state is State.OK]
    assert "; no IPv6, as no default route leads out from fd" in seen
    assert seen.endswith(": to serve it, set nodeIPs")


def test_chains_of_others_that_drop(patient: Patient) -> None:
    patient.sync()
    well(patient, "foreign-chains")
    wall = "chain ip walls forward { type filter hook forward priority 0; policy drop; }"
    patient.cluster.nft(NODE, f"add table ip walls; add {wall}")
    assert broken(patient, "foreign-chains", "ip walls forward")
    patient.cluster.nft(NODE, "delete table ip walls")
    well(patient, "foreign-chains")


def test_other_proxies(patient: Patient) -> None:
    well(patient, "kube-proxy")
    patient.cluster.nft(NODE, "add table ip kube-proxy")
    assert "--replace-kube-proxy" in broken(patient, "kube-proxy", "kube-proxy has left").remedy
    patient.cluster.nft(NODE, "delete table ip kube-proxy")
    well(patient, "kube-proxy")
    patient.ip("link add cilium_host type veth peer name cilium_net", "link delete cilium_host")
    assert "Cilium" in broken(patient, "other-proxies", "cilium_host", State.WARNING).seen


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "172.30.1.2"])
def test_a_process_that_listens_on_a_node_port(patient: Patient, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with patient.cluster.socket(NODE, family, socket.SOCK_STREAM) as listener:
        listener.bind((address, 30080))
        listener.listen()
        found = broken(patient, "port-collisions", "listens on tcp port 30080, the nodePort of default/web")
        assert re.match(r"\S+ \(process \d+\) listens", found.seen)  # this process, or the fork that looks
    well(patient, "port-collisions")
    with patient.cluster.socket(NODE, socket.AF_INET, socket.SOCK_STREAM) as listener:  # nobody's business
        listener.bind(("127.0.0.1", 30080))
        listener.listen()
        well(patient, "port-collisions")


def test_tables_that_are_not_as_they_should_be(patient: Patient) -> None:
    found = broken(patient, "tables", "the kernel has no table ip nodeport-nft and no table ip6 nodeport-nft")
    assert "nodeport-nft sync --once" in found.remedy
    patient.sync()
    well(patient, "tables")
    patient.cluster.nft(NODE, "delete element ip nodeport-nft node-ports { tcp . 30080 }")
    broken(patient, "tables", "table ip nodeport-nft differs by 1 element")
    patient.cluster.nft(NODE, "insert rule ip nodeport-nft services drop")
    broken(patient, "tables", "table ip nodeport-nft is not of this program's schema")
    patient.sync()
    well(patient, "tables")


def test_services_without_endpoints(patient: Patient) -> None:
    well(patient, "services")
    patient.apply(IDLE)
    found = broken(patient, "services", "1 Service has no endpoint: default/idle", State.WARNING)
    command, _, _ = found.remedy.partition(" says")
    described = patient.program(*shlex.split(command)[1:])
    assert "no selector, and no EndpointSlice or Endpoints named idle" in described.out


def test_stores(patient: Patient) -> None:
    well(patient, "store")
    well(patient, "store-integrity")
    with rewritten(patient.program.store):
        broken(patient, "store", "web")
    rewrite(patient.program.store, "DELETE FROM node_ports")
    found = broken(patient, "store-integrity", "30080")
    assert found.remedy == "nodeport-nft check --repair"
    assert patient.program("check", "--repair").code == 0
    well(patient, "store-integrity")
    patient.config = dataclasses.replace(patient.config, store=str(patient.program.directory / "none.db"))
    assert "nodeport-nft apply" in broken(patient, "store", "there is no store").remedy
    assert patient.only("tables").state is State.SKIPPED
    patient.config = dataclasses.replace(patient.config, store="kubernetes:", kubeconfig="/no/kubeconfig")
    seen = dict(patient.every("store", "tables", "forwarding", "clock"))
    assert (seen["store"].state, "/no/kubeconfig" in seen["store"].seen) == (State.FAILED, True)
    for each in ("tables", "clock"):  # a reason, and no comparison with nothing
        assert (seen[each].state, "/no/kubeconfig" in seen[each].seen) == (State.SKIPPED, True)
    assert seen["forwarding"].state is State.OK


@contextmanager
def rewritten(store: Path) -> Iterator[None]:
    """A store with a Service that cannot be read, for a while."""
    before = store.read_bytes()
    damage(store, "no-json")
    try:
        yield
    finally:
        for suffix in ("-wal", "-shm"):
            store.with_name(store.name + suffix).unlink(missing_ok=True)
        store.write_bytes(before)


def test_the_daemon_and_its_last_sync(patient: Patient) -> None:
    assert "sync --once alone" in broken(patient, "daemon", "no daemon programs this node", State.WARNING).means
    with running(patient) as pid:
        found = broken(patient, "daemon", f"a daemon runs (process {pid}), and does not tell how it is")
        assert found.means == "nobody knows whether it works"
    status = Status(version=__version__, node=NODE, pid=7, synced=time.time() - 9, source="store.db")
    patient.answer = Answer(status)
    well(patient, "daemon")
    well(patient, "sync")
    patient.answer = Answer(replace(status, version="0.0.1"))
    assert "systemctl restart" in broken(patient, "daemon", "version 0.0.1", State.WARNING).remedy
    patient.answer = Answer(replace(status, node="worker-2"))
    assert "--node-name worker-2" in broken(patient, "daemon", "programs node worker-2", State.WARNING).remedy
    patient.answer = Answer(status, ("the last sync failed",))
    broken(patient, "sync", "the last sync failed")


@contextmanager
def running(patient: Patient) -> Iterator[int]:
    """A process that is there as a daemon is, and answers nobody."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            patient.cluster.host(NODE).namespace.enter()
            presence = DaemonPresence(patient.config.run_dir)
            os.close(reading)
            os.write(writing, b"+")
            time.sleep(600)
            presence.close()
        finally:
            os._exit(0)
    os.close(writing)
    try:
        assert os.read(reading, 1) == b"+"
        yield child
    finally:
        os.close(reading)
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_clocks(patient: Patient) -> None:
    well(patient, "clock")
    future = time.time() + 3600
    os.utime(patient.program.store, (future, future))
    found = [each for each in patient.findings("clock") if each.state is State.FAILED]
    assert len(found) == 1
    assert "in the future" in found[0].seen
    os.utime(patient.program.store)
    well(patient, "clock")


def test_names_and_the_server_of_the_node(patient: Patient, tmp_path: Path) -> None:
    patient.config = dataclasses.replace(patient.config, dns_hosts_dir=str(tmp_path / "names"))
    assert broken(patient, "names", "is not there").remedy == "nodeport-nft sync --once makes it"
    config = tmp_path / "config.yaml"
    config.write_text(f"dnsHostsDir: {tmp_path / 'names'}\n")
    patient.sync(NODE, "--config", str(config))
    assert not any("not up to date" in each.seen for each in patient.findings("names"))
    patient.apply(IDLE)
    assert [
        each for each in patient.findings("names") if "names of namespace default are not up to date" in each.seen
    ]

    server = ip_address("169.254.20.10")
    ranges = replace(patient.config.ranges, cluster_dns=(ip_address("10.96.0.53"),))
    assert isinstance(ranges, Ranges)
    patient.config = dataclasses.replace(patient.config, ranges=ranges, node_dns=(server,))
    patient.ip(f"address add {server}/32 dev lo", f"address delete {server}/32 dev lo")
    broken(patient, "dns-server", f"no DNS server answers at {server}")
    with patient.cluster.socket(NODE, socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((str(server), 53))
        listener.listen()
        well(patient, "dns-server")


def test_connections_to_everything(patient: Patient) -> None:
    """Each is as it should be, a refusal among them; a wall on the other node is seen from here."""
    patient.apply(IDLE)
    for node in ("worker-1", "worker-2"):
        patient.sync(node)

    def told() -> dict[str, State]:
        return {each.seen.partition(" in ")[0].partition(" (")[0]: each.state for each in patient.findings("connect")}

    assert told() == {
        "10.96.0.10:80 answered": State.OK,
        "10.96.0.11:80 refused": State.OK,
        "172.30.1.2:30080 answered": State.OK,
        "172.30.1.2:30081 refused": State.OK,
        "172.30.2.2:30080 answered": State.OK,
        "172.30.2.2:30081 refused": State.OK,
        "1 port of UDP and SCTP, which do not say whether anybody is there": State.SKIPPED,
    }
    wall = "add chain ip walls first { type filter hook prerouting priority -300; }"
    patient.cluster.nft("worker-2", f"add table ip walls\n{wall}\nadd rule ip walls first tcp dport 30080 drop")
    found = told()
    assert found["172.30.2.2:30080 timed out"] is State.FAILED
    assert found["172.30.2.2:30081 refused"] is State.OK
    assert found["172.30.1.2:30080 answered"] is State.OK


def test_what_nobody_should_answer_is_not_waited_for_and_no_more_is_made_than_is_tried(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Local on another node without an endpoint; and of very many connections those beyond are not even made."""
    patient.apply(OBJECTS.replace("  type: NodePort\n", "  type: NodePort\n  externalTrafficPolicy: Local\n"))
    patient.apply(OBJECTS.partition("---\n")[2].replace("nodeName: worker-2", "nodeName: worker-1"))
    for node in ("worker-1", "worker-2"):
        patient.sync(node)
    seen = [each.seen for each in patient.findings("connect") if each.state is State.SKIPPED]
    assert len(seen) == 1
    assert seen[0].startswith("1 connection that nobody should answer")
    made: list[object] = []
    trial = connecting._trial
    monkeypatch.setattr(connecting, "_MOST", 1)

    def counted(*given: object, is_own: bool) -> connecting.Trial:
        made.append(given)
        return trial(*given, is_own=is_own)  # type: ignore[arg-type]

    monkeypatch.setattr(connecting, "_trial", counted)

    def look() -> tuple[list[str], int]:
        (check,) = CONNECTING
        examination = Examination(patient.config, name=NODE, ask=lambda: patient.answer)
        return [each.seen for each in check.look(examination)], len(made)

    told, count = patient.cluster.call(NODE, look)
    assert "all connections beyond 1; trace says of each what would become of it" in told
    assert count == 2


def test_endpoints_that_do_not_listen_are_told_once_and_with_what_to_correct(patient: Patient) -> None:
    patient.apply(OBJECTS.replace("8080", "8081"))
    for node in ("worker-1", "worker-2"):
        patient.sync(node)
    bad = [each for each in patient.findings("connect") if each.state is State.FAILED]
    assert [each.seen.partition(" itself")[0] for each in bad] == [
        f"endpoint {patient.cluster.address(pod)}:8081 of default/web refused" for pod in ("web-1", "web-3")
    ]
    assert "10.96.0.10:80, 172.30.1.2:30080, 172.30.2.2:30080" in bad[0].seen
    assert {each.remedy for each in bad} == {
        "correct the targetPort of service default/web, or start the server on port 8081"
    }


# --- the program ------------------------------------------------------------------------------------------


def test_the_exit_code_and_the_summary(patient: Patient) -> None:
    code, out, err = patient.command("doctor")
    assert code == 1
    assert "try: nodeport-nft sync --once" in out
    assert out.splitlines()[0].split() == ["STATE", "CHECK", "SEEN"]
    assert "1 failed, " in err
    patient.sync()
    code, out, err = patient.command("doctor")
    assert (code, "0 failed, " in err) == (0, True), out


def test_without_privileges_and_with_a_broken_file_the_rest_is_looked_at(patient: Patient, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("syncPeriodd: 3\n")
    less = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", str(SCRIPT))
    words = ("--store", str(patient.program.store), "--node-name", NODE, "--config", str(config))
    done = patient.cluster.run(NODE, [*less, "doctor", "-o", "json", *words], check=False)
    assert done.returncode == 1, done.stderr
    found = {each["id"]: each for each in json.loads(done.stdout)["checks"]}
    assert found["configuration"]["state"] == "failed"
    assert f"{config}:1" in found["configuration"]["seen"]
    assert found["privileges"]["state"] == "failed"
    assert found["tables"]["state"] == found["foreign-chains"]["state"] == "not looked at"
    assert found["forwarding"]["state"] == found["store"]["state"] == "ok"


def test_nothing_is_changed(patient: Patient, tmp_path: Path) -> None:
    """Neither files, nor tables, nor the number of nftables' last commit, whether the node is programmed or not."""

    def all_there_is() -> object:
        # SQLite leaves these beside a store that is read.
        there = {path for path in tmp_path.rglob("*") if not path.name.endswith(("-wal", "-shm"))}
        files = {path: path.read_bytes() for path in there if path.is_file()}
        tables = patient.cluster.run(NODE, ["nft", "list", "ruleset"]).stdout
        sysctls = patient.cluster.run(NODE, ["sysctl", "net.ipv4.ip_forward", "net.ipv4.conf.all.rp_filter"]).stdout
        return there, files, tables, sysctls, patient.cluster.call(NODE, generation)

    for programmed in (False, True):
        if programmed:
            patient.sync()
        before = all_there_is()
        patient.every(*(each.id for each in CHECKS))
        patient.command("doctor")
        assert all_there_is() == before


def generation() -> int:
    with closing(TableEvents()) as events:
        return events.generation()


def test_nothing_is_run_that_lies_where_doctor_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is run as root, and anywhere."""
    ran = tmp_path / "ran"
    (tmp_path / "nftables.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    (check,) = (each for each in CHECKS if each.id == "libnftables")
    list(check.look(Examination(Config(), name=NODE, ask=lambda: Answer())))
    assert not ran.exists()
