"""No other user can hold, squat or replace what keeps processes from programming a node at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.cluster import Cluster
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.host.node_lock import DaemonPresence, NodeLock, NodeLockError, daemon_pid
from tests.cli.program import SCRIPT
from tests.daemon.objects import Desired, service
from tests.daemon.running import Daemon, wait_for
from tests.daemon.tables import ABSENT
from tests.security.nobody import give, nobody
from tests.security.others import as_nobody

RUN = Path("/run/nodeport-nft")
PATIENCE = 60.0


@pytest.fixture
def open_dir(private_namespaces: None) -> Iterator[Path]:  # noqa: ARG001 (where /run is private)
    """A directory that everybody can reach, and root alone can write to."""
    made = Path(tempfile.mkdtemp(dir="/run"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def desired(open_dir: Path) -> Iterator[Desired]:
    store = Desired(open_dir / "store.db")
    yield store
    store.close()


@pytest.fixture
def daemon(cluster: Cluster, tmp_path: Path, desired: Desired) -> Iterator[Daemon]:
    made = Daemon(cluster, tmp_path, desired)
    yield made
    made.close()


@pytest.fixture
def turn(cluster: Cluster) -> Iterator[NodeLock]:
    """The turn of worker-1, for the test to take."""
    with cluster.host("worker-1").namespace.entered():
        made = NodeLock(str(RUN))
    yield made
    made.close()


def sync_once(store: Path, *words: str, node: str = "worker-1") -> list[str]:
    return [str(SCRIPT), "sync", "--once", "--store", str(store), "--node-name", node, *words]


def hold_all_there_is(directory: Path) -> list[str]:
    """As any user: hold what can be held, make what can be made; what that was. It stays until the process ends."""
    held = []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("\0nodeport-nft/daemon")
    listener.listen()
    held.append(f"address {listener.detach()}")
    places = {directory, *directory.parents, RUN, *directory.glob("*"), *RUN.glob("*"), Path("/var/lib/nodeport-nft")}
    inode = Path("/proc/thread-self/ns/net").stat().st_ino
    names = [RUN / f"netns-{inode}.{kind}" for kind in ("lock", "daemon")]
    for place in sorted({*places, *names}):
        try:
            descriptor = os.open(place, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        held.append(str(place))
    acts: list[Callable[[], object]] = [RUN.mkdir]
    acts += [act for name in names for act in (name.touch, name.unlink)]
    for act in acts:
        with contextlib.suppress(OSError):
            act()
            held.append("a name in /run")
    return held


@pytest.mark.parametrize("is_first", [True, False])
def test_nobody_holds_no_sync_up(
    cluster: Cluster, daemon: Daemon, desired: Desired, open_dir: Path, *, is_first: bool
) -> None:
    """Whoever comes first, he or the daemon: it starts and syncs, others sync beside it, a second one is refused."""
    desired.apply(service("web", 10))
    if is_first:
        shutil.rmtree(RUN, ignore_errors=True)
    else:
        daemon.start(seconds=PATIENCE)
    with cluster.host("worker-1").namespace.entered():
        holding = nobody(lambda: hold_all_there_is(open_dir))
        held = holding.__enter__()
    try:
        assert str(RUN.parent) in held, "he can hold what is not the program's"
        assert not [each for each in held if each.startswith(str(RUN)) or "name" in each]
        if is_first:
            daemon.start(seconds=PATIENCE)
        for number in range(11, 14):
            desired.apply(service(f"more-{number}", number))
            daemon.settle(PATIENCE)
        other = Desired(open_dir / "other.db")
        other.apply(service("other", 20))
        other.close()
        done = cluster.run("worker-1", sync_once(other.path), check=False)
        assert done.returncode == 0, done.stderr
        assert "a daemon programs this node" in done.stderr
        daemon.settle(PATIENCE)
        second = daemon.cli("sync", "--store", str(desired.path), "--metrics-bind-address", "none")
        assert second.returncode == 1
        assert f"pid {daemon.pid}" in second.stderr
    finally:
        holding.__exit__(None, None, None)


def squat(path: Path) -> None:
    """As nobody: make the run directory, and the locks in it."""
    path.mkdir(mode=0o755)
    (path / "netns-1.lock").touch()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: (path.mkdir(), path.chmod(0o777)), "others than its owner may write to"),
        (lambda path: (path.mkdir(), path.chmod(0o770)), "others than its owner may write to"),
        (lambda path: (path.mkdir(), path.chmod(0o1777)), "choose a directory of your own"),
        (lambda path: (path.mkdir(), shutil.chown(path, "nobody")), "who may put anything there"),
        (lambda path: (path.parent.chmod(0o1777), as_nobody(lambda: squat(path))), "who may put anything there"),
        (
            lambda path: (path.parent.chmod(0o1777), as_nobody(lambda: path.symlink_to("/run"))),
            "who may put anything there",
        ),
        (lambda path: path.parent.chmod(0o777), "others than its owner may write to"),
        (lambda path: path.touch(), "is not a directory"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.symlink_to(path.parent / "missing" / "x"), "File exists"),
    ],
)
def test_a_directory_that_others_may_have_made_is_refused(
    cluster: Cluster, desired: Desired, open_dir: Path, tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    desired.apply(service("web", 10))
    run_dir = open_dir / "d" / "run"
    run_dir.parent.mkdir()
    make(run_dir)
    config = tmp_path / "config.yaml"
    config.write_text(f"runDir: {run_dir}\n")
    own = ("--state-dir", str(tmp_path), "--config", str(config))
    for argv in (
        sync_once(desired.path, *own),
        [str(SCRIPT), "sync", "--store", str(desired.path), *own],
        [str(SCRIPT), "cleanup", "--store", str(desired.path), *own],
    ):
        done = cluster.run("worker-1", argv, check=False)
        assert done.returncode == 1, done.stderr
        assert f"error: runDir {run_dir}: " in done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert cluster.ruleset("worker-1") == ""
    diff = [str(SCRIPT), "diff", "--store", str(desired.path), "--config", str(config)]
    assert cluster.run("worker-1", diff, check=False).returncode == 1, "who only reads needs no lock"


@pytest.mark.parametrize("below", [(), ("deeper", "still")], ids=["there", "deeper"])
def test_where_anybody_may_make_a_directory_and_nobody_take_it_away_it_is_made(
    cluster: Cluster, desired: Desired, open_dir: Path, tmp_path: Path, below: tuple[str, ...]
) -> None:
    """As in a /run that is a tmpfs of a container's."""
    desired.apply(service("web", 10))
    (open_dir / "d").mkdir()
    (open_dir / "d").chmod(0o1777)
    run_dir = (open_dir / "d" / "run").joinpath(*below)
    config = tmp_path / "config.yaml"
    config.write_text(f"runDir: {run_dir}\n")
    own = ("--state-dir", str(tmp_path), "--config", str(config))
    for argv in (
        [str(SCRIPT), "cleanup", "--store", str(desired.path), *own],  # which makes nothing
        sync_once(desired.path, *own),
        [str(SCRIPT), "cleanup", "--store", str(desired.path), *own],
    ):
        cluster.run("worker-1", argv)
    assert (run_dir.stat().st_uid, run_dir.stat().st_mode & 0o777) == (0, 0o700)


def test_the_files_are_of_roots_own(cluster: Cluster, desired: Desired) -> None:
    desired.apply(service("web", 10))
    shutil.rmtree(RUN, ignore_errors=True)
    before = os.umask(0)
    try:
        cluster.run("worker-1", sync_once(desired.path))
    finally:
        os.umask(before)
    modes = [(path.stat().st_mode & 0o7777, path.stat().st_size) for path in RUN.iterdir()]
    assert modes == [(0o600, 0)]
    assert RUN.stat().st_mode & 0o7777 == 0o700


def test_another_user_needs_a_directory_of_his_own(open_dir: Path) -> None:
    RUN.mkdir(mode=0o700, exist_ok=True)
    own = open_dir / "own"
    own.mkdir(mode=0o700)
    give(own)

    def take(path: Path) -> str:
        try:
            return f"taken: {NodeLock(str(path)).take()}"
        except KernelError as error:
            return str(error)

    told = as_nobody(lambda: take(RUN))
    assert told.startswith(f"runDir {RUN}: no lock can be had there: Permission denied; ")
    assert "name another directory as runDir" in told
    assert as_nobody(lambda: take(own)) == "taken: True"


def test_syncs_from_different_stores_wait_for_each_other(
    cluster: Cluster, open_dir: Path, turn: NodeLock, desired: Desired
) -> None:
    desired.apply(service("web", 10))
    assert turn.take()
    waiting = cluster.popen("worker-1", sync_once(desired.path), stderr=subprocess.PIPE)
    assert waiting.stderr is not None
    assert f"another process programs this node (pid {os.getpid()}); waiting for it" in waiting.stderr.readline()
    elsewhere = cluster.run("worker-2", sync_once(desired.path, node="worker-2"))
    assert "1 service" in elsewhere.stdout, "another network namespace is another node"
    assert waiting.poll() is None
    assert cluster.ruleset("worker-1") == ""
    turn.give_back()
    assert waiting.wait(PATIENCE) == 0
    assert "default/web" in cluster.ruleset("worker-1")

    stores = []
    for number in range(6):
        other = Desired(open_dir / f"{number}.db")
        other.apply(service(f"of-{number}", 10 + number))
        other.close()
        stores.append(other.path)
    running = [cluster.popen("worker-1", sync_once(path), stderr=subprocess.DEVNULL) for path in stores]
    assert [process.wait(PATIENCE) for process in running] == [0] * len(running)
    last = cluster.ruleset("worker-1")
    assert len({number for number in range(6) if f"default/of-{number}" in last}) == 1, "each writes all of its own"


def test_who_waits_too_long_is_told_whom_for(turn: NodeLock, cluster: Cluster) -> None:
    assert turn.take()
    with cluster.host("worker-1").namespace.entered():
        other = NodeLock(str(RUN))
    with pytest.raises(NodeLockError) as told, other.wait(0.05):
        pass
    assert f"(pid {os.getpid()})" in str(told.value)
    assert str(turn.path) in str(told.value)
    turn.give_back()
    with other.wait():
        assert not turn.take()
        with pytest.raises(NodeLockError), turn.at_once():
            pass
    with turn.at_once():
        assert not other.take()
        with turn.at_once():
            pass
        assert not other.take(), "the inner block leaves it to the outer one"
    assert other.take()
    other.close()


def test_a_cleared_directory_makes_no_two_turns(turn: NodeLock, cluster: Cluster) -> None:
    with cluster.host("worker-1").namespace.entered():
        other = NodeLock(str(RUN))
    assert turn.take()
    turn.give_back()
    turn.path.unlink()
    assert other.take()
    assert not turn.take(), "it asks for the file that is there now"
    other.close()
    assert turn.take()


def test_the_daemon_waits_beside_its_loop(daemon: Daemon, desired: Desired, turn: NodeLock) -> None:
    desired.apply(service("web", 10))
    daemon.start(seconds=PATIENCE)
    assert turn.take()
    before = daemon.held()
    desired.apply(service("more", 11))

    def told() -> list[str]:
        return [problem for problem in daemon.status().problems if str(turn.path) in problem]

    wait_for(told, "who is waited for", PATIENCE)
    assert f"(pid {os.getpid()})" in told()[0]
    begin = time.monotonic()
    while time.monotonic() - begin < 1:  # many looks at the lock
        assert daemon.status().pending > 0
        daemon.send(signal.SIGHUP)
        time.sleep(0.05)
    assert daemon.held() == before
    assert not daemon.status().error, "nothing has failed"
    turn.give_back()
    daemon.settle(PATIENCE)
    wait_for(lambda: not told(), "nothing to wait for", PATIENCE)
    about = [event for event in daemon.events() if str(turn.path) in str(event)]
    assert [event["event"] for event in about] == ["problem", "problem gone"], "told once"


def test_a_daemon_that_waits_for_its_first_turn_hears_and_answers(
    daemon: Daemon, desired: Desired, turn: NodeLock
) -> None:
    desired.apply(service("web", 10))
    assert turn.take()
    daemon.spawn()
    wait_for(lambda: daemon.events("problem"), "who is waited for", PATIENCE)
    assert str(turn.path) in str(daemon.status().problems)
    assert daemon.held() == ABSENT
    assert daemon.stop(seconds=PATIENCE) == 0
    daemon.spawn()
    wait_for(lambda: daemon.events("problem"), "who is waited for", PATIENCE)
    turn.give_back()
    daemon.settle(PATIENCE)


def test_a_daemons_presence_ends_with_it_however_it_ends(daemon: Daemon, desired: Desired, cluster: Cluster) -> None:
    desired.apply(service("web", 10))
    cleanup = ("cleanup", "--store", str(desired.path), "--state-dir", str(daemon.directory))
    for end in (daemon.kill, daemon.stop):
        daemon.start(seconds=PATIENCE)
        with cluster.host("worker-1").namespace.entered():
            assert daemon_pid(str(RUN)) == daemon.pid
        refused = daemon.cli(*cleanup)
        assert f"a daemon programs this node (pid {daemon.pid}) and would undo the cleanup" in refused.stderr
        apart = ["unshare", "--pid", "--fork", str(SCRIPT), *cleanup]
        refused = cluster.run("worker-1", apart, check=False)
        assert "a daemon programs this node and would undo the cleanup" in refused.stderr, (
            "no pid of another namespace"
        )
        with cluster.host("worker-2").namespace.entered():
            assert daemon_pid(str(RUN)) is None
        end()
        assert daemon.cli(*cleanup).returncode == 0


def test_there_is_no_daemon_where_there_is_no_directory(tmp_path: Path) -> None:
    missing = tmp_path / "run"
    assert daemon_pid(str(missing)) is None
    assert not missing.exists(), "who asks makes nothing"
    presence = DaemonPresence(str(missing))
    assert daemon_pid(str(tmp_path / "other")) is None
    presence.close()
