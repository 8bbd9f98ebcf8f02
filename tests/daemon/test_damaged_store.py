"""A damaged store neither blinds nor disarms the daemon: it keeps what works, tells what is wrong, and recovers."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lab.cluster import Cluster
from tests.daemon.objects import Desired, service, slices
from tests.daemon.running import Daemon, wait_for
from tests.damage import damage

LONG = 60.0
ENDS = [("web-1", 8080), ("web-2", 8080)]


def elements(cluster: Cluster, name: str) -> list[str]:
    """What the kernel's tables hold of a Service, without counters."""
    text = re.sub(r" counter packets \d+ bytes \d+", "", cluster.ruleset("worker-1"))
    return sorted(" ".join(each.split()) for each in re.findall(rf'[^{{}},]* comment "default/{name}"[^,}}]*', text))


def problems(daemon: Daemon, words: str) -> list[str]:
    return [problem for problem in daemon.status().problems if words in problem]


@pytest.mark.proves("K4")
@pytest.mark.parametrize(("kind", "row"), [("Service", "web"), ("EndpointSlice", "web-4-8080")])
def test_what_cannot_be_read_stays_over_a_restart_until_it_is_mended(
    cluster: Cluster, desired: Desired, daemon: Daemon, kind: str, row: str
) -> None:
    documents = [service("web", 10), *slices(cluster, "web", ENDS)]
    desired.apply(*documents, service("api", 11), *slices(cluster, "api", ENDS[:1]))
    daemon.start(seconds=LONG)
    before = elements(cluster, "web")
    assert before
    damage(desired.path, "not-utf8", kind, row)
    desired.apply(service("new", 12))
    wait_for(lambda: elements(cluster, "new"), "the new Service", LONG)
    assert elements(cluster, "web") == before
    daemon.stop(seconds=LONG)
    for number in (13, 14):  # the second time, what is kept is all that there was of it
        daemon.start(seconds=LONG)
        assert elements(cluster, "web") == before
        [problem] = problems(daemon, f"{kind}/default/{row} in {desired.path} cannot be read: ")
        assert problem.endswith("apply it again or delete it; until then it stays as it was")
        assert problem in [event["problem"] for event in daemon.events("problem")]
        desired.apply(service(f"new-{number}", number))
        wait_for(lambda: elements(cluster, f"new-{number}"), "what else changes", LONG)  # noqa: B023
        assert elements(cluster, "web") == before
        daemon.stop(seconds=LONG)
    daemon.start(seconds=LONG)
    desired.apply(*documents)
    wait_for(lambda: not problems(daemon, "cannot be read"), "no problem any more", LONG)
    assert elements(cluster, "web") == before
    desired.delete("Service", "web")
    wait_for(lambda: not elements(cluster, "web"), "the end of the Service", LONG)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def a_text(path: Path) -> None:
    other = path.with_name("text")
    other.write_text("apiVersion: v1\n" * 1000)
    other.rename(path)


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_blank_database(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("VACUUM")


def a_torn_copy(path: Path) -> None:
    content, other = path.read_bytes(), path.with_name("torn")
    other.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    other.rename(path)


def test_a_store_that_turns_into_something_else_takes_nothing_away(
    cluster: Cluster, desired: Desired, daemon: Daemon
) -> None:
    desired.apply(service("web", 10), *slices(cluster, "web", ENDS))
    daemon.start(seconds=LONG)
    desired.close()
    before = elements(cluster, "web")
    good = desired.path.with_name("good")
    with closing(sqlite3.connect(desired.path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(desired.path, good)
    ways: tuple[Callable[[Path], None], ...] = (emptied, a_text, a_directory, a_blank_database, a_torn_copy)
    for number, spoil in enumerate(ways, 20):
        for beside in ("-wal", "-shm"):
            desired.path.with_name(f"{desired.path.name}{beside}").unlink(missing_ok=True)
        spoil(desired.path)
        [problem] = wait_for(lambda: problems(daemon, f"{desired.path}: "), f"a problem: {spoil.__name__}", LONG)
        assert problem.endswith("what was read last is served")
        assert elements(cluster, "web") == before, spoil.__name__
        if desired.path.is_dir():
            desired.path.rmdir()
        for beside in ("-wal", "-shm"):
            desired.path.with_name(f"{desired.path.name}{beside}").unlink(missing_ok=True)
        shutil.copy(good, desired.path)  # into the file that is there, if there is one
        wait_for(lambda: not problems(daemon, str(desired.path)), f"the problem gone: {spoil.__name__}", LONG)
        assert elements(cluster, "web") == before, spoil.__name__
        again = Desired(desired.path)
        again.apply(service(f"new-{number}", number))
        again.close()
        wait_for(lambda: elements(cluster, f"new-{number}"), f"a change after it: {spoil.__name__}", LONG)  # noqa: B023
    assert not daemon.events("sync failed")
    desired.store = Desired(desired.path).store  # for the fixture's end


@pytest.mark.proves("K4")
def test_a_store_that_has_lost_everything_is_no_reason_to_begin(
    cluster: Cluster, desired: Desired, daemon: Daemon
) -> None:
    desired.apply(service("web", 10), *slices(cluster, "web", ENDS))
    daemon.start(seconds=LONG)
    daemon.stop(seconds=LONG)
    before = cluster.ruleset("worker-1")
    desired.close()
    desired.path.write_bytes(b"")
    daemon.spawn()
    assert daemon.wait(LONG) == 1
    assert "has lost what it held" in str(daemon.events())
    assert cluster.ruleset("worker-1") == before


def test_a_store_on_a_read_only_file_system_is_followed(cluster: Cluster, desired: Desired, daemon: Daemon) -> None:
    """As a container sees a directory of its host: others write to it, this daemon cannot."""
    desired.apply(service("web", 10), *slices(cluster, "web", ENDS))
    desired.close()
    here = desired.path.parent
    view = here.with_name("view")
    view.mkdir()
    subprocess.run(["mount", "--bind", str(here), str(view)], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(view)], check=True)
    try:
        daemon.start("--store", str(view / desired.path.name), seconds=LONG)
        assert elements(cluster, "web")
        for number in (12, 13):
            again = Desired(desired.path)
            again.apply(service(f"new-{number}", number))
            again.close()
            wait_for(lambda: elements(cluster, f"new-{number}"), "what another process has written", LONG)  # noqa: B023
        daemon.stop(seconds=LONG)
    finally:
        daemon.close()
        subprocess.run(["umount", str(view)], check=True)
