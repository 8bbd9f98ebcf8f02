"""Many writers at once, some of them killed: no number is given twice, and nothing leaks that `check` finds (C2)."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from lab.namespaces import Namespace, in_namespace
from nodeport_nft.allocate import holdings
from nodeport_nft.kube import parse_object
from nodeport_nft.model import PortRange, Ranges
from tests.daemon.lengths import FULL, LENGTHS
from tests.etcd.members import WAIT, Members
from tests.etcd.test_objects import check_claims, opened
from tests.unit.test_store import NOW, document

pytestmark = [pytest.mark.usefixtures("private_namespaces"), pytest.mark.proves("C2")]

WRITERS, EACH, LONGEST = (50, 200, 3600.0) if LENGTHS is FULL else (6, 20, 3 * WAIT)
ADDRESS = "etcd://127.0.0.1:2379"
# Hardly more numbers than are wanted, so that they look for the same ones.
RANGES = Ranges(PortRange(20000, 20000 + WRITERS * EACH + WRITERS), (IPv4Network("10.96.0.0/16"),))


def write(writer: int, directory: Path) -> None:
    """One writer, a process of its own: it notes what is acknowledged, and how often others were first."""
    from nodeport_nft.store.etcd.store import EtcdStore

    lost = 0
    commit: Callable[..., bool] = EtcdStore._commit

    def counting(*arguments: Any) -> bool:
        nonlocal lost
        done = commit(*arguments)
        lost += not done
        return done

    EtcdStore._commit = counting  # type: ignore[method-assign, assignment]
    with opened(ADDRESS, RANGES) as store, (directory / f"{writer}").open("a", buffering=1) as notes:
        for number in range(EACH):
            name = f"w{writer}-{number}"
            store.write([parse_object(document(name), ranges=RANGES)], now=NOW)
            notes.write(f"{name}\n")
        (directory / f"{writer}.lost").write_text(str(lost))


def started(writer: int, directory: Path) -> int:
    child = os.fork()  # nothing here has loaded grpc yet
    if child:
        return child
    code = 1
    try:
        write(writer, directory)
        code = 0
    except BaseException as error:
        (directory / f"{writer}.error").write_text(str(error))
    os._exit(code)


def acknowledged(directory: Path) -> dict[int, list[str]]:
    """What each writer was told that it is there; a line that was cut by a kill was not."""
    texts = {writer: directory / f"{writer}" for writer in range(WRITERS)}
    return {
        writer: [line for line in path.read_text().split("\n")[:-1] if line] if path.exists() else []
        for writer, path in texts.items()
    }


def storm(directory: Path, victims: list[int]) -> dict[str, Any]:
    """Let all of them write, kill some when they are at it, and look at what is there then."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=WAIT)
    members = Members(1, directory)
    members.start()
    begun = time.monotonic()
    try:
        writers = {writer: started(writer, directory) for writer in range(WRITERS)}
        alive = dict(writers)
        for victim in victims:
            while len(acknowledged(directory)[victim]) < EACH // 4:
                assert time.monotonic() - begun < LONGEST
                time.sleep(0.01)
            os.kill(alive.pop(victim), signal.SIGKILL)
        codes = {writer: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for writer, pid in writers.items()}
        seconds = time.monotonic() - begun
        errors = [path.read_text() for path in directory.glob("*.error")]
        lost = sum(int(path.read_text()) for path in directory.glob("*.lost"))
        with opened(ADDRESS, RANGES) as store:
            check_claims(ADDRESS, store)
            services = store.snapshot().services
        return {"codes": codes, "errors": errors, "lost": lost, "seconds": seconds, "services": services}
    finally:
        members.all[0].kill()


@pytest.mark.parametrize("killed", [0, WRITERS // 3], ids=["all live", "some are killed"])
def test_no_number_is_given_twice_and_nothing_leaks(tmp_path: Path, killed: int) -> None:
    victims = random.Random(killed).sample(range(WRITERS), killed)
    namespace = Namespace()
    try:
        done = in_namespace(namespace, lambda: storm(tmp_path, victims), timeout=LONGEST)
    finally:
        namespace.close()
    assert done["errors"] == []
    ended = {writer for writer, code in done["codes"].items() if code == -signal.SIGKILL}
    assert ended <= set(victims)
    assert bool(ended) is bool(victims), "some may have been done when their turn came, not all"
    names = {each.name for each in done["services"]}
    told = acknowledged(tmp_path)
    assert {name for some in told.values() for name in some} <= names, "nothing that was acknowledged is lost"
    # Of a killed one there may be one more, of which it was not told.
    assert len(names) <= sum(len(some) for some in told.values()) + len(ended)
    assert all(len(told[writer]) == EACH for writer in told if writer not in ended)
    ports = [port for each in done["services"] for port in holdings(each).node_ports]
    ips = [ip for each in done["services"] for ip in holdings(each).cluster_ips]
    assert len(set(ports)) == len(ports) == len(names)
    assert len(set(ips)) == len(ips) == len(names)
    figures = f"{WRITERS} writers, {len(names):,} Services, {done['seconds']:.1f} s, {done['lost']:,} writes anew"
    (tmp_path / "figures").write_text(figures)
    print(figures)
