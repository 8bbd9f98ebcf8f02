"""Three machines under a storm of writes and of connections, whatever becomes of etcd (C1, C2, C4).

After each failure nothing that was acknowledged is missing in any machine's kernel, no number was given twice, and no
connection to a Service that has not changed has failed. With SOAK=1 what is away is so for a minute. Each test prints
a row of the table in docs/scale.md.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from lab.cluster import Cluster
from lab.probe import connect
from nodeport_nft.store.etcd import open_blocking
from nodeport_nft.store.etcd.errors import Cause, EtcdError
from nodeport_nft.store.opening import etcd_connection
from tests.cluster.machines import NODES, PODS, SECONDS, TOKEN_SECONDS, Machines
from tests.cluster.storm import Storm
from tests.daemon.lengths import LENGTHS
from tests.daemon.objects import PORTS, endpoint_slice, service
from tests.daemon.running import wait_for
from tests.daemon.traffic import Client

pytestmark = pytest.mark.proves("C1", "C2", "C4")

Failure = Callable[[Machines, Storm], None]

MORE = 10
"""Writes that have to be acknowledged while something is away, and again after it has come back."""

PAUSE = 0.02  # seconds that a client rests after it has been to all machines
STABLE = [(ip, 30010) for ip in NODES.values()]


@pytest.fixture(scope="module")
def storm(private_namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storm]:  # noqa: ARG001
    """One set of machines for all failures, and those who write to it."""
    with Cluster(nodes=tuple(NODES), pods=PODS) as cluster:
        for pod in PODS:
            cluster.start_responder(pod, PORTS)
        machines = Machines(cluster, tmp_path_factory.mktemp("machines"))
        storm = Storm(machines)
        try:
            machines.begin()
            for node in NODES:
                machines.start_daemon(node)
            machines.run("worker-1", "apply", "-f", "-", text=json.dumps(stable(cluster)))
            storm.begin()
            storm.until("acknowledged", MORE)
            for each in STABLE:
                wait_for(lambda each=each: connect(cluster, "client", each).name, f"{each} answers", SECONDS)  # type: ignore[misc]
            yield storm
        finally:
            storm.close()
            machines.close()


def stable(cluster: Cluster) -> dict[str, object]:
    """The Service that does not change: an endpoint on each machine."""
    endpoints = [
        {"addresses": [str(cluster.address(pod))], "nodeName": node, "conditions": {"ready": True}}
        for pod, node in PODS.items()
    ]
    ports = [{"port": 80, "targetPort": 8080, "nodePort": 30010}]
    web = service(
        "web", 10, ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack", clusterIPs=["10.96.0.10"], ports=ports
    )
    items = [web, endpoint_slice("web", "web-4", 4, 8080, endpoints)]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def outage() -> None:
    """As long as what is away is away."""
    time.sleep(LENGTHS.outage_seconds)


# --- what happens -----------------------------------------------------------------------------------------------


def the_leader_is_killed(machines: Machines, storm: Storm) -> None:
    leader = machines.leader()
    machines.end_member(leader)
    storm.until("acknowledged", MORE)
    machines.start_member(leader)


def the_member_in_use_is_killed(machines: Machines, storm: Storm) -> None:
    used = machines.used_by("worker-3")
    machines.end_member(used)
    storm.until("acknowledged", MORE)
    wait_for(lambda: machines.in_use("worker-3") not in ("", used), "the daemon has another member", SECONDS)
    machines.start_member(used)


def a_disk_is_lost(machines: Machines, storm: Storm) -> None:
    node = machines.used_by("worker-3")
    others = [name for name in NODES if name != node]
    machines.lose_disk(node)
    storm.until("acknowledged", MORE)
    listed = json.loads(machines.control("member", "list", "-w", "json", at=others))["members"]
    number = next(member["ID"] for member in listed if member["name"] == node)
    machines.control("member", "remove", f"{number:x}", at=others)
    machines.control("member", "add", node, f"--peer-urls=https://{NODES[node]}:2380", at=others)
    machines.start_member(node, joins=True)


def the_member_in_use_is_frozen(machines: Machines, storm: Storm) -> None:
    used = machines.used_by("worker-3")
    machines.signal_member(used, signal.SIGSTOP)
    outage()
    storm.until("acknowledged", MORE)
    machines.signal_member(used, signal.SIGCONT)


def the_majority_is_lost(machines: Machines, _: Storm) -> None:
    lost = ["worker-2", "worker-3"]
    for node in lost:
        machines.end_member(node)
    outage()
    for node in lost:
        machines.start_member(node)


def a_machine_is_cut_off(machines: Machines, storm: Storm) -> None:
    machines.cut_off("worker-3")
    outage()
    storm.until("acknowledged", MORE)
    storm.pause()
    machines.until_programmed(machines.snapshot(), ("worker-1", "worker-2"))
    storm.go()
    machines.heal("worker-3")


def changes_are_compacted_away_meanwhile(machines: Machines, storm: Storm) -> None:
    """While a machine stands still, and its connection is gone when it goes on."""
    used = machines.used_by("worker-3")
    machines.signal_daemon("worker-3", signal.SIGSTOP)
    machines.end_member(used)
    machines.start_member(used)
    storm.until("acknowledged", MORE)
    outage()
    machines.until_well()
    revision = max(status["header"]["revision"] for status in machines.statuses().values())
    machines.control("compact", str(revision))
    machines.signal_daemon("worker-3", signal.SIGCONT)


def a_snapshot_is_restored(machines: Machines, storm: Storm) -> None:
    """What came after it is gone, by the will of whoever restores it; what came before is there."""
    path = machines.directory / "snapshot"
    storm.pause()
    machines.control("snapshot", "save", str(path), at=("worker-1",))
    saved = time.monotonic()
    storm.go()
    storm.until("acknowledged", 2 * MORE)
    outage()
    storm.pause()
    storm.forgotten |= {entry.name for entry in storm.entries(saved)}
    machines.restore(path)
    machines.until_well()
    storm.go()


def etcd_is_full(machines: Machines, storm: Storm) -> None:
    def fill() -> None:
        with open_blocking(etcd_connection(machines.config("worker-1"))) as etcd:

            def put_all() -> None:
                for number in range(1_000):
                    etcd.run(etcd.client.put(f"filler/{number}", b"x" * 1_400_000))

            with pytest.raises(EtcdError) as full:
                put_all()
        assert full.value.cause is Cause.FULL

    machines.cluster.call("worker-1", fill, timeout=2 * SECONDS)
    storm.until("refused")
    outage()
    refused = [entry for entry in storm.entries() if entry.came == "refused"]
    assert "space" in refused[-1].error
    # As the error says, and etcd's manual.
    machines.control("del", "--prefix", "lab/filler/")
    machines.control("compact", str(max(each["header"]["revision"] for each in machines.statuses().values())))
    machines.control("defrag")
    machines.control("alarm", "disarm")


def logins_end(machines: Machines, storm: Storm) -> None:
    """By time, with a change of users, and where the member is another."""
    storm.pause()
    time.sleep(TOKEN_SECONDS + 1)
    storm.go()
    storm.until("acknowledged", MORE)
    machines.control("user", "add", f"another-{time.time_ns()}:password")
    storm.until("acknowledged", MORE)
    used = machines.used_by("worker-3")
    machines.end_member(used)
    storm.until("acknowledged", MORE)
    outage()
    machines.start_member(used)


def a_member_has_a_wrong_certificate(machines: Machines, storm: Storm) -> None:
    used = machines.used_by("worker-3")
    machines.end_member(used)
    machines.start_member(used, files=machines.of_stranger)
    storm.until("acknowledged", MORE)
    outage()
    wait_for(lambda: machines.in_use("worker-3") not in ("", used), "the daemon has another member", SECONDS)
    machines.end_member(used)
    machines.start_member(used)


def a_machine_has_a_wrong_certificate(machines: Machines, storm: Storm) -> None:
    told = len(machines.events("worker-3", "problem"))
    machines.use("worker-3", machines.of_stranger)
    for node in NODES:  # what is connected stays so, and it may be to any of them
        machines.end_member(node)
        machines.start_member(node)
        machines.until_well()
    machines.until_told("worker-3", "with the certificates of the members", told)
    storm.until("acknowledged", MORE)
    outage()
    wait_for(lambda: machines.in_use("worker-3") == "", "the daemon has no member", SECONDS)  # but when it tries
    machines.use("worker-3", machines.of_node["worker-3"])


@pytest.mark.parametrize(
    "failure",
    [
        the_leader_is_killed,
        the_member_in_use_is_killed,
        a_disk_is_lost,
        the_member_in_use_is_frozen,
        the_majority_is_lost,
        a_machine_is_cut_off,
        changes_are_compacted_away_meanwhile,
        a_snapshot_is_restored,
        etcd_is_full,
        logins_end,
        a_member_has_a_wrong_certificate,
        a_machine_has_a_wrong_certificate,
    ],
    ids=lambda failure: failure.__name__,
)
def test_nothing_is_lost_where(failure: Failure, storm: Storm) -> None:
    if storm.broken_by:
        pytest.fail(f"not tried: the machines are as {storm.broken_by} has left them")
    storm.broken_by = failure.__name__
    machines = storm.machines
    begin = time.monotonic()
    clients = [
        Client(machines.cluster, "client", "connect", *STABLE, pause=PAUSE),
        Client(machines.cluster, "client", "stream", STABLE[1], pause=PAUSE),
    ]
    try:
        failure(machines, storm)
        machines.until_well()
        storm.until("acknowledged", MORE)
        storm.pause()
        snapshot = machines.complete_snapshot()
        storm.check(snapshot)
        machines.until_programmed(snapshot)
        done = [client.finish() for client in clients]
        storm.go()
        storm.broken_by = ""
    finally:
        for client in clients:
            client.abandon()
    print(row(failure.__name__, storm, begin, done[0].done))
    assert [each.failures for each in done] == [[], []]
    assert set(done[0].names) == set(PODS)


def row(name: str, storm: Storm, begin: float, connections: int) -> str:
    """What happened, as a row of a table in Markdown."""
    entries = storm.entries(begin)
    times = [begin, *(entry.at for entry in entries if entry.came == "acknowledged"), time.monotonic()]
    gap = max(after - before for before, after in pairwise(times))
    came = [sum(entry.came == kind for entry in entries) for kind in ("acknowledged", "refused", "unknown")]
    cells = [name.replace("_", " "), f"{times[-1] - begin:.0f}", *map(str, came), f"{gap:.1f}", f"{connections:,}"]
    return f"| {' | '.join(cells)} |"
