"""What every scenario has: the machines, a desired state that is put back, and evidence where it fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from vm.desired import Desired
from vm.machines import ROOT, Lab, Machine, MachineError, eventually
from vm.topology import Worker

FAILURES = ROOT / "vm-failures"

EVIDENCE = {
    "ruleset": "nft list ruleset",
    "journal": "journalctl --no-pager --output short-precise",
    "conntrack": "conntrack -L; conntrack -L -f ipv6",
    "network": "ip -details address; ip route; ip -6 route; ip neighbour; sysctl -a -r forward",
    "units": "systemctl --no-pager --all list-units; systemctl --no-pager --failed status",
    "objects": "nodeport-nft status; nodeport-nft get services,endpoints,pods,nodes -A -o yaml",
}
"""Commands whose output is kept of each machine when a scenario has failed."""

failed = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """The marker that scenarios use."""
    config.addinivalue_line("markers", "services(*services): what the scenario wants to be served from the start")
    config.addinivalue_line("markers", "newcomer: the scenario wants another worker")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Note whether a scenario has failed, for ``evidence``."""
    report = yield
    item.stash[failed] = item.stash.get(failed, False) or (report.failed and report.when != "teardown")
    return report


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The machines, with every service of theirs running; another worker begins to start if a scenario wants one."""
    # A short path: ssh's sockets lie in it. In memory where vm/local has made one.
    directory = Path(tempfile.mkdtemp(prefix="lab-", dir=os.environ.get("LAB_STATE", "/tmp")))
    try:
        found = Lab(directory, int(os.environ.get("WORKERS", "2")))
        for worker in found.workers:
            eventually(partial(is_up, worker), f"{worker.name}: the daemon, network and pods are active")
        if any(item.get_closest_marker("newcomer") for item in request.session.items):
            found.prepare(Worker(len(found.workers) + 1))
        yield found
        found.abandon()
        for machine in found.machines:
            machine.forget_connection()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def is_up(worker: Machine) -> bool:
    """Whether all that a worker runs is running."""
    said = worker.run("systemctl is-active nodeport-nft lab-network 'lab-pod@*' | sort -u", check=False)
    return said == "active\n"


@pytest.fixture(scope="session")
def applied(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Desired]:
    """The desired state, over all scenarios; what they want from the start is applied at once: it saves minutes."""
    state = Desired(lab)
    wanted = [each for item in request.session.items for mark in item.iter_markers("services") for each in mark.args]
    if wanted:
        state.apply(*wanted)
    yield state
    state.clear()


@pytest.fixture
def desired(applied: Desired) -> Iterator[Desired]:
    """The desired state, for a scenario to change."""
    yield applied
    applied.put_back()


@pytest.fixture(autouse=True)
def evidence(lab: Lab, desired: Desired, request: pytest.FixtureRequest) -> Iterator[None]:  # noqa: ARG001 (order)
    """Packets are captured on every machine; where the scenario fails, all that can tell why is collected."""
    lab.everywhere(lambda machine: machine.run("systemctl restart lab-capture"))
    yield
    if request.node.stash.get(failed, False):
        folder = FAILURES / request.node.name
        shutil.rmtree(folder, ignore_errors=True)
        lab.everywhere(lambda machine: collect(machine, folder / machine.name))
        print(f"\nrulesets, journals, conntrack and packets of every machine are in {folder}")


def collect(machine: Machine, folder: Path) -> None:
    """Bring the evidence of one machine here."""
    folder.mkdir(parents=True, exist_ok=True)
    console = Path(os.environ.get("LAB_STATE", "/"), f"{machine.name}.console")
    if console.exists():  # in machines of vm/local alone
        shutil.copy(console, folder / "console.txt")
    for name, command in EVIDENCE.items():
        try:
            said = machine.run(f"{command} 2>&1", check=False)
        except MachineError as error:  # a machine that is down must not hide what the others have to say
            said = str(error)
        (folder / f"{name}.txt").write_text(said, encoding="utf-8")
    with (folder / "packets.tar").open("wb") as packets:
        words = ["ssh", "-F", str(machine.config), machine.name, "sudo tar -C /run/lab-capture -c ."]
        subprocess.run(words, stdout=packets, stderr=subprocess.DEVNULL, timeout=120, check=False)
