"""Scenario 7: the fast path, on a kernel that has flowtables."""

from __future__ import annotations

import json
import re

import pytest

from vm.desired import Desired, service
from vm.machines import Lab, Machine, eventually, traffic
from vm.topology import Worker, objects_of

HERE, ELSEWHERE = Worker(1), Worker(2)
ON_ELSEWHERE = {"app": "my-ser", "on": ELSEWHERE.name}
SECONDS = 4
CONFIG = "/etc/nodeport-nft/config.yaml"

# One UDP socket that goes on asking; the names of those who answer, line by line.
ASKING = (
    "import socket, sys, time\n"
    "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    "s.settimeout(1)\n"
    "s.connect((sys.argv[1], int(sys.argv[2])))\n"
    "while True:\n"
    "    try:\n"
    "        s.send(b'who?\\n')\n"
    "        print(s.recv(4096).decode().strip(), flush=True)\n"
    "    except OSError as error:\n"
    "        print(error, flush=True)\n"
    "    time.sleep(0.2)\n"
)


@pytest.mark.services(
    service("transfer", 30070, selector=ON_ELSEWHERE, target_port=5201),
    service("fast", 30071),
    service("fast-udp", 30072, protocols=("UDP",)),
)
def test_established_connections_take_the_fast_path(lab: Lab, desired: Desired) -> None:
    """Switched on and off while traffic flows; links that come take part; what has no endpoint leaves the path."""
    machine, pod = lab.workers[0], ELSEWHERE.pods[0]
    lab.everywhere(lambda each: each.run("systemctl stop lab-capture"))  # it would be what is measured
    lab.workers[1].run(f"systemd-run --quiet --unit lab-iperf ip netns exec {pod.name} iperf3 --server")
    try:
        plain = throughput(lab.client)
        assert "OFFLOAD" not in tracked(machine)
        doors = [(HERE.ipv4, 30071), (HERE.ipv6, 30071)]
        with traffic(lab.client, ("connect", doors), ("stream", doors)) as results:
            machine.run(f"echo 'flowtable: true' >>{CONFIG}")
            eventually(lambda: {"eth0", "eth1", "web-1", "tester-1"} <= devices(machine), "the devices take part")
            eventually(lambda: re.search(r"dport=30071 .*\[OFFLOAD\]", tracked(machine)) is not None, "OFFLOAD")
        for each in results:
            assert not each["failures"]
        fast = throughput(lab.client)
        ratio = fast / plain
        print(f"\nthroughput over the fast path: {fast:.0f} Mbit/s, {ratio:.2f} times the plain path's {plain:.0f}")

        machine.run("/opt/lab/pod add extra-9")
        eventually(lambda: "extra-9" in devices(machine), "a link that comes takes part")
        machine.run("/opt/lab/pod delete extra-9")
        eventually(lambda: "extra-9" not in devices(machine), "a link that goes has left")

        # K2: a UDP flow that is on the fast path moves on when its endpoint goes.
        lab.client.run("cat >/tmp/asking.py", text=ASKING)
        unit = "lab-asking"
        lab.client.run(
            f"systemd-run --quiet --unit {unit} -p StandardOutput=truncate:/run/{unit} "
            f"python3 -IS /tmp/asking.py {HERE.ipv4} 30072"
        )
        eventually(lambda: re.search(r"udp .*dport=30072 .*\[OFFLOAD\]", tracked(machine)) is not None, "UDP on it")
        first = answered_by(lab.client, unit)
        leaves, stays = (HERE, ELSEWHERE) if first == HERE.pods[0].name else (ELSEWHERE, HERE)
        desired.delete(*(each for each in objects_of(leaves) if each["metadata"]["name"] == first))
        eventually(lambda: answered_by(lab.client, unit) == stays.pods[0].name, "the flow has moved on")
    finally:
        lab.client.run("systemctl stop lab-asking 2>/dev/null; true")
        lab.workers[1].run("systemctl stop lab-iperf")
        machine.run(f"sed -i /flowtable/d {CONFIG}")
    eventually(lambda: "flowtable" not in machine.run("nft -t list table ip nodeport-nft"), "switched off")
    lab.client.reaches({stays.pods[0].name}, HERE.ipv4, 30071)


def throughput(client: Machine) -> float:
    """Mbit/s from the client through the first worker to a pod on the second."""
    said = client.run(f"iperf3 --json --time {SECONDS} --client {HERE.ipv4} --port 30070")
    return float(json.loads(said)["end"]["sum_received"]["bits_per_second"]) / 1e6


def tracked(machine: Machine) -> str:
    """The connections that the kernel tracks."""
    return machine.run("conntrack -L 2>/dev/null; true")


def devices(machine: Machine) -> set[str]:
    """The devices that take part, of both families."""
    found = []
    for family in ("ip", "ip6"):
        listing = machine.run(f"nft list flowtable {family} nodeport-nft fast-path 2>/dev/null", check=False)
        found.append(set(listing.partition("devices = {")[2].partition("}")[0].replace(",", " ").split()))
    return found[0] & found[1]


def answered_by(client: Machine, unit: str) -> str:
    """Who has answered last."""
    last = client.run(f"tail -n 1 /run/{unit}").strip()
    try:
        return str(json.loads(last)["name"])
    except ValueError:
        return last
