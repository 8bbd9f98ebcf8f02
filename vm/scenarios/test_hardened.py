"""Scenario 10: the unit under a real systemd, beside a person's commands, and without a port of its own."""

from __future__ import annotations

import pytest

from vm.desired import service
from vm.machines import ROOT, Lab, eventually
from vm.topology import Worker

HERE = Worker(1)
BOTH = {HERE.pods[0].name, Worker(2).pods[0].name}
UNITS = "/etc/systemd/system"
DROP_IN = f"{UNITS}/nodeport-nft.service.d/no-ports.conf"
SOCKET = f"{UNITS}/nodeport-nft.socket"
DEFAULTS = "/etc/default/nodeport-nft"
STORE = "/var/lib/nodeport-nft/store.db"
SHARED = "etcd://192.168.56.11:2379/lab"


@pytest.mark.services(service("beside-a-person", 30082))
@pytest.mark.usefixtures("desired")
def test_the_service_and_a_person_see_one_run_directory(lab: Lab) -> None:
    """The locks are in the host's /run, of which the service sees nothing else."""
    machine = lab.workers[0]
    lab.client.reaches(BOTH, HERE.ipv4, 30082)
    assert machine.run("stat --format '%U %a' /run/nodeport-nft").strip() == "root 700"
    daemon = machine.run("systemctl show --property MainPID --value nodeport-nft").strip()
    said = machine.run("nodeport-nft cleanup 2>&1", check=False)
    assert f"a daemon programs this node (pid {daemon})" in said
    said = machine.run("nodeport-nft sync --once 2>&1")
    assert "nothing changed" in said
    locked = "setpriv --reuid 65534 --regid 65534 --clear-groups flock --nonblock /run/nodeport-nft true 2>&1"
    assert "Permission denied" in machine.run(locked, check=False)


@pytest.mark.services(service("without-ports", 30083))
@pytest.mark.usefixtures("desired")
def test_without_ports_of_its_own_it_answers_probes_and_serves(lab: Lab) -> None:
    """With no-ports.conf systemd hands the daemon its sockets; nothing else of IP is left to it, and so no etcd."""
    machine = lab.workers[0]
    machine.put(ROOT / "contrib/systemd/no-ports.conf", "/tmp/no-ports.conf")
    machine.put(ROOT / "contrib/systemd/nodeport-nft.socket", "/tmp/nodeport-nft.socket")
    machine.run(
        f"install -D -m 0644 /tmp/no-ports.conf {DROP_IN} && install -m 0644 /tmp/nodeport-nft.socket {SOCKET}"
    )
    machine.run(f"nodeport-nft store copy {SHARED} {STORE}")
    machine.run(f"echo NODEPORT_NFT_FLAGS=--store {STORE} > {DEFAULTS}")
    try:
        machine.run("systemctl daemon-reload && systemctl restart nodeport-nft", timeout=240)
        machine.run("systemd-analyze security --threshold=15 nodeport-nft >&2")  # 1.5 at most
        for port in (10256, 10249):
            ask = (
                f"curl --silent --max-time 5 --output /dev/null --write-out '%{{http_code}}' 127.0.0.1:{port}/healthz"
            )
            eventually(lambda ask=ask: machine.run(ask, check=False) == "200", ask)  # type: ignore[misc]
        lab.client.reaches(BOTH, HERE.ipv4, 30083)
        said = machine.run("nodeport-nft status", check=False)
        assert "Problems:      none" in said
    finally:
        machine.run(
            f"rm -f {DROP_IN} {SOCKET} {STORE}* {DEFAULTS}; systemctl daemon-reload; "
            "systemctl stop nodeport-nft.socket 2>/dev/null; "
            "systemctl restart nodeport-nft",
            timeout=240,
        )
