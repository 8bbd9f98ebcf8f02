"""What neither ends the daemon nor blinds it: a log that nobody takes, descriptors and memory that are used up."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cluster import Cluster
from nodeport_nft.observe.status import Status
from tests.daemon.objects import Desired, service, slices
from tests.daemon.running import Daemon, wait_for

WAIT = 60.0


def told(daemon: Daemon) -> Status | None:
    """The daemon's status once its first sync is done."""
    assert daemon.lives()
    try:
        status = daemon.status()
    except OSError:
        return None
    return status if status.synced else None


def begin(daemon: Daemon, *words: str, stderr: int | None = None, before: tuple[str, ...] = ()) -> None:
    """Start it where its log may tell nothing."""
    daemon.spawn(*words, stderr=stderr, before=before)
    wait_for(lambda: told(daemon), "the daemon's first sync", WAIT)


def goes_on(daemon: Daemon, desired: Desired, number: int) -> None:
    """It serves what comes, and an orderly end is still one."""
    desired.apply(service(f"more-{number}", number))
    daemon.settle(WAIT)


def log_fault(daemon: Daemon) -> str:
    return next((problem for problem in daemon.status().problems if problem.startswith("log: ")), "")


def fill(descriptor: int) -> None:
    """Write until no more is taken."""
    try:
        while True:
            os.write(descriptor, b"x" * 512)
    except OSError:
        return


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            continue  # the test has closed it


# --- the log --------------------------------------------------------------------------------------------------


def test_the_end_of_who_reads_its_log_is_not_the_daemons(
    daemon: Daemon, desired: Desired, pipe: tuple[int, int]
) -> None:
    reading, writing = pipe
    begin(daemon, stderr=writing)
    os.close(reading)
    goes_on(daemon, desired, 11)
    wait_for(lambda: "Broken pipe" in log_fault(daemon), "the fault in the status", WAIT)
    goes_on(daemon, desired, 12)
    said = daemon.cli("status")
    assert said.returncode == 1
    assert "log: cannot be written: Broken pipe; " in said.stdout
    assert daemon.stop(seconds=WAIT) == 0


def test_a_log_that_nobody_reads_holds_nothing_up_and_is_read_later(
    daemon: Daemon, desired: Desired, pipe: tuple[int, int]
) -> None:
    """Also where it is full before the first line."""
    reading, writing = pipe
    os.set_blocking(writing, False)
    fill(writing)
    os.set_blocking(writing, True)
    begin(daemon, stderr=writing)
    goes_on(daemon, desired, 11)
    wait_for(lambda: "nobody reads it" in log_fault(daemon), "the fault in the status", WAIT)
    text = b""
    while b'"event": "problem gone"' not in text:
        text += os.read(reading, 1 << 16)
    assert b'"event": "starting"' in text, "what waited has been written"
    assert text.count(b'"event": "sync"') >= 2
    assert log_fault(daemon) == ""
    assert daemon.stop(seconds=WAIT) == 0


def test_a_full_disk_under_the_log_is_told_and_it_goes_on_when_there_is_room(
    daemon: Daemon, desired: Desired, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        (disk / "ballast").write_bytes(b"x" * (60 << 10))
        log = disk / "log"
        with log.open("ab") as stream:
            begin(daemon, stderr=stream.fileno())
        with (disk / "more").open("ab", buffering=0) as filler:
            fill(filler.fileno())
        assert len(log.read_bytes()) < 4096, "the rest of its page"
        for _ in range(1000):  # each is a line or two; several that come at once are one
            if "No space left" in log_fault(daemon):
                break
            daemon.send(signal.SIGHUP)
        goes_on(daemon, desired, 11)
        wait_for(lambda: "No space left" in log_fault(daemon), "the fault in the status", WAIT)
        (disk / "ballast").unlink()
        wait_for(lambda: not log_fault(daemon), "that it is gone", WAIT)
        goes_on(daemon, desired, 12)
        assert daemon.stop(seconds=WAIT) == 0
        lines = log.read_text().splitlines()
        assert all(line.startswith("{") and line.endswith("}") for line in lines), "whole lines alone"
        assert '"event": "stopped"' in lines[-1]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_no_log_at_all_from_the_start_is_told_and_counted(daemon: Daemon, desired: Desired, stderr: str) -> None:
    begin(daemon, before=("sh", "-c", f'exec "$@" {stderr}', "sh"))
    goes_on(daemon, desired, 11)
    wait_for(lambda: log_fault(daemon), "the fault in the status", WAIT)
    if "&-" in stderr:
        wait_for(lambda: daemon.status().log_lost > 2, "a count of what is lost", WAIT)
        assert "lines could not be written since the start" in daemon.cli("status").stdout
    assert daemon.stop(seconds=WAIT) == 0


# --- descriptors ----------------------------------------------------------------------------------------------


def test_who_connects_cannot_use_up_its_descriptors(cluster: Cluster, daemon: Daemon, desired: Desired) -> None:
    daemon.start(before=("sh", "-c", 'ulimit -n 128; exec "$@"', "sh"), seconds=WAIT)
    held = []
    try:
        for number in range(300):
            client = cluster.socket(daemon.node, socket.AF_INET, socket.SOCK_STREAM)
            client.connect(("127.0.0.1", (10249, 10256)[number % 2]))
            held.append(client)
        goes_on(daemon, desired, 11)
        assert daemon.status().error == ""
    finally:
        for client in held:
            client.close()
    goes_on(daemon, desired, 12)
    assert daemon.events("sync failed") == []
    assert daemon.stop(seconds=WAIT) == 0


def test_without_any_descriptor_it_waits_says_little_and_comes_back(
    cluster: Cluster, daemon: Daemon, desired: Desired
) -> None:
    daemon.start()
    limit = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (5, limit[1]))
    held = []
    try:
        for port in (10249, 10256) * 20:
            client = cluster.socket(daemon.node, socket.AF_INET, socket.SOCK_STREAM)
            client.connect(("127.0.0.1", port))  # into the backlog
            held.append(client)
        desired.apply(service("more", 11))
        wait_for(lambda: len(daemon.events("accepting")) >= 4, "that it says so", WAIT)
        assert all("Too many open files" in failed["error"] for failed in daemon.events("sync failed"))
        assert len(daemon.events()) < 200, "and not without end"
    finally:
        for client in held:
            client.close()
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limit)
    daemon.settle(WAIT)
    assert wait_for(lambda: told(daemon), "an answer", WAIT).error == ""
    assert daemon.stop(seconds=WAIT) == 0


# --- the environment ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["²", "٣", "1_0", "9" * 5000])
def test_a_watchdog_that_is_no_number_is_a_problem_and_no_end(daemon: Daemon, desired: Desired, value: str) -> None:
    daemon.start(before=("env", f"WATCHDOG_USEC={value}"), seconds=WAIT)
    wait_for(lambda: [p for p in daemon.status().problems if p.startswith("WATCHDOG_USEC: ")], "a problem", WAIT)
    goes_on(daemon, desired, 11)


# --- what a terminal would obey -------------------------------------------------------------------------------

EVIL = "\x1b[31m\x07nft"


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_name_of_another_process_does_not_steer_who_reads_the_log(
    cluster: Cluster, daemon: Daemon, desired: Desired, tmp_path: Path, form: str
) -> None:
    nft = shutil.which("nft")
    assert nft
    evil = tmp_path / EVIL
    evil.symlink_to(nft)
    desired.apply(service("web", 10))
    log = tmp_path / "log"
    with log.open("ab") as stream:
        begin(daemon, "--log-format", form, stderr=stream.fileno())
    cluster.run(daemon.node, [str(evil), "flush ruleset"])
    wait_for(lambda: "changed by others" in log.read_text(), "that it is told", WAIT)
    text = log.read_text()
    assert "[31m" in text, "its name is in it"
    assert [c for c in text if not c.isprintable() and c != "\n"] == []


# --- memory and threads ---------------------------------------------------------------------------------------


def limit_memory(daemon: Daemon, more: int) -> tuple[int, int]:
    """Let it have so many bytes more than it has; the limit before. Where there are none at all, CPython gives up."""
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    size = int(next(line for line in status.splitlines() if line.startswith("VmSize:")).split()[1]) << 10
    before = resource.prlimit(daemon.pid, resource.RLIMIT_AS)
    return resource.prlimit(daemon.pid, resource.RLIMIT_AS, (size + more, before[1]))


def test_want_of_memory_is_a_sentence_and_what_was_lost_is_made_up_for(
    cluster: Cluster, daemon: Daemon, desired: Desired
) -> None:
    desired.apply(service("web", 10))
    daemon.start(seconds=WAIT)
    before = limit_memory(daemon, 8 << 20)
    try:
        more = service("more", 20)
        more["spec"]["note"] = "x" * (64 << 20)
        desired.apply(more, *slices(cluster, "more", [("web-1", 8080)]))
        wait_for(lambda: scarce(daemon), "a failure in words", WAIT)
        assert "out of memory" in daemon.status().error
        assert daemon.cli("status").returncode == 1
    finally:
        resource.prlimit(daemon.pid, resource.RLIMIT_AS, before)
    daemon.settle(2 * WAIT)  # its pauses grow up to half a minute
    wait_for(lambda: daemon.status().error == "", "that all is well", WAIT)
    goes_on(daemon, desired, 11)
    assert daemon.stop(seconds=WAIT) == 0


def scarce(daemon: Daemon) -> list[str]:
    """The failures for want of memory or threads."""
    told = [event["error"] for event in daemon.events("sync failed")]
    return [error for error in told if "out of memory" in error or "no thread can be started" in error]


def test_want_of_memory_at_the_start_is_a_sentence(daemon: Daemon, desired: Desired, tmp_path: Path) -> None:
    desired.apply(service("web", 10))
    errors = tmp_path / "errors"

    def said_so() -> bool:  # with a little more memory it lives, and says so each time it tries
        return "out of memory" in errors.read_text()

    for megabytes in (90, 110, 130, 150, 170, 190, 210):
        with errors.open("wb") as stream:
            limited = ("sh", "-c", f'ulimit -v {megabytes << 10}; exec "$@"', "sh")
            daemon.spawn(stderr=stream.fileno(), before=limited)
            wait_for(lambda: not daemon.lives() or told(daemon) or said_so(), "an end, a sentence or a sync", WAIT)
        if daemon.lives() and told(daemon):
            break
        # 127 is of the shell's loader; -15 of one that has said so, and gets our signal while it ends by itself.
        assert daemon.stop(seconds=WAIT) in (0, 1, 127, -15)
        said = errors.read_text()
        assert "Traceback" not in said
        assert "error" in said, megabytes
