"""A manifest directory may hold anything: what is no file, what is held by others, and what never answers."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodeport_nft.manifest import Problems, read_manifests
from nodeport_nft.model import Ranges
from nodeport_nft.sources import aside
from tests.hanging import Op, hanging
from tests.unit.test_manifest_follower import Desk, replace_file, run, service, text, write

NOBODY = 65534


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    directory = tmp_path / "manifests"
    directory.mkdir()
    return Desk(tmp_path, directory, tmp_path / "state" / "store.db")


# --- what is no file --------------------------------------------------------------------------------------


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def _device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))


OTHERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "pipe": (os.mkfifo, "is a named pipe"),
    "socket": (_socket, "is a socket"),
    "device": (_device, "is a device"),
    "terminal": (lambda path: path.symlink_to("/dev/ptmx"), "is a device"),
    "kernel messages": (lambda path: path.symlink_to("/proc/kmsg"), "is a file of the kernel's own (proc)"),
    "process": (lambda path: path.symlink_to("/proc/self/environ"), "is a file of the kernel's own (proc)"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_file_is_told_and_not_opened(desk: Desk, kind: str) -> None:
    """It leaves what the file held before in force; others go on, and it may become a file again."""
    make, expected = OTHERS[kind]
    web, other, here = desk.manifests / "web.yaml", desk.manifests / "other.yaml", desk.manifests / "here.yaml"
    write(web, service("web"))
    write(other, service("other"))
    try:
        make(here)
    except OSError as error:
        pytest.skip(f"{kind}: {error.strerror}")

    async def scenario() -> None:
        async with desk.following() as followed:
            assert followed.names() == {"web", "other"}
            (problem,) = followed.problems
            assert problem.startswith(f"{here}: ")
            assert expected in problem
            await followed.settled(other)
            web.unlink()
            make(web)
            await followed.until(lambda: any(problem.startswith(f"{web}: ") for problem in followed.problems))
            await followed.settled(other)
            assert "web" in followed.names()
            here.unlink()
            replace_file(web, service("web", target=9090))
            await followed.until(lambda: followed.targets()["web"] == 9090)
            await followed.until(lambda: not followed.problems)

    run(scenario())
    web.unlink()
    make(web)
    with pytest.raises(Problems) as caught:
        read_manifests([str(desk.manifests)], ranges=Ranges())
    assert expected in str(caught.value)


def test_a_link_to_dev_null_masks_a_file(desk: Desk) -> None:
    web, other = desk.manifests / "web.yaml", desk.manifests / "other.yaml"
    write(web, service("web"))
    write(other, service("other"))

    async def scenario() -> None:
        async with desk.following() as followed:
            web.unlink()
            web.symlink_to("/dev/null")
            await followed.until(lambda: followed.names() == {"other"})
            assert followed.reports == []

    run(scenario())
    assert [made.name for made in read_manifests([str(desk.manifests)], ranges=Ranges()).objects] == ["other"]


def test_links_that_are_exchanged_all_the_time_hold_nobody_up(desk: Desk) -> None:
    """Between the look and the reading a file becomes a pipe, a device, a directory, another file."""
    pipe, first, second = desk.root / "pipe", desk.root / "first", desk.root / "second"
    os.mkfifo(pipe)
    write(first, service("web", target=1))
    write(second, service("web", target=2))
    link, other = desk.manifests / "web.yaml", desk.manifests / "other.yaml"
    targets = (first, pipe, Path("/dev/ptmx"), second, Path("/dev/null"), desk.root, Path("/nowhere"))

    def point(target: Path) -> None:
        temporary = desk.manifests / ".web"
        temporary.symlink_to(target)
        temporary.rename(link)

    point(first)

    async def scenario() -> None:
        async with desk.following() as followed:
            stop = threading.Event()

            def exchange() -> None:
                for number in range(20000):
                    if stop.is_set():
                        return
                    point(targets[number % len(targets)])

            thread = threading.Thread(target=exchange)
            thread.start()
            try:
                for _ in range(5):
                    await followed.settled(other)
            finally:
                stop.set()
                await asyncio.to_thread(thread.join)
            point(second)
            await followed.until(lambda: followed.targets().get("web") == 2)
            await followed.until(lambda: not followed.problems)

    run(scenario())


# --- what others hold -------------------------------------------------------------------------------------


@contextmanager
def leased(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another user's process that has a lease on its file, and gives it up when it gets SIGUSR1 alone."""
    os.chown(path, NOBODY, NOBODY)
    code = f"""
import fcntl, os, signal, sys
file = os.open({str(path)!r}, os.O_RDWR)
os.setresgid({NOBODY}, {NOBODY}, {NOBODY})
os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
signal.signal(signal.SIGIO, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, lambda *_: fcntl.fcntl(file, {fcntl.F_SETLEASE}, fcntl.F_UNLCK))
fcntl.fcntl(file, {fcntl.F_SETLEASE}, fcntl.F_WRLCK)
print(flush=True)
while True:
    signal.pause()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            pytest.skip("this file system has no leases")
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.mark.usefixtures("private_namespaces")  # that is: as root
def test_a_file_that_another_user_has_a_lease_on_is_waited_for_by_nobody(desk: Desk) -> None:
    web, other = desk.manifests / "web.yaml", desk.manifests / "other.yaml"
    write(web, service("web"))
    write(other, service("other"))

    async def scenario() -> None:
        async with desk.following() as followed:
            with leased(web) as holder:
                web.touch()
                await followed.until(lambda: followed.problems)
                (problem,) = followed.problems
                assert problem.startswith(f"{web}: cannot be read: another process holds a lease on it")
                await followed.settled(other)
                assert "web" in followed.names()
                assert followed.problems == (problem,)
                holder.send_signal(signal.SIGUSR1)
                await followed.until(lambda: not followed.problems)

    run(scenario())


@pytest.mark.usefixtures("private_namespaces")
def test_read_once_a_lease_is_waited_for(desk: Desk) -> None:
    web = desk.manifests / "web.yaml"
    write(web, service("web"))
    with leased(web) as holder, ThreadPoolExecutor(1) as other:
        reading = other.submit(read_manifests, [str(desk.manifests)], ranges=Ranges())
        with pytest.raises(TimeoutError):
            reading.result(timeout=1)
        holder.send_signal(signal.SIGUSR1)
        assert [made.name for made in reading.result(timeout=120).objects] == ["web"]


# --- what the system does not give ------------------------------------------------------------------------


@pytest.mark.usefixtures("private_namespaces")
def test_without_a_thread_it_is_told_and_tried_again() -> None:
    """As another user, since root may have as many as there are."""
    root = Path(tempfile.mkdtemp(prefix="manifests-"))
    manifests = root / "manifests"
    manifests.mkdir()
    web = manifests / "web.yaml"
    write(web, service("web"))
    for path in (root, manifests, web):
        os.chown(path, NOBODY, NOBODY)
    desk = Desk(root, manifests, root / "state" / "store.db")

    async def scenario() -> None:
        async with desk.following() as followed:
            before = resource.getrlimit(resource.RLIMIT_NPROC)
            resource.setrlimit(resource.RLIMIT_NPROC, (1, before[1]))
            replace_file(web, service("web", target=1))
            await followed.until(lambda: followed.problems)
            (problem,) = followed.problems
            assert "the system gives no more threads" in problem
            assert followed.targets() == {"web": 8080}
            resource.setrlimit(resource.RLIMIT_NPROC, before)
            await followed.until(lambda: followed.targets() == {"web": 1})
            await followed.until(lambda: not followed.problems)

    child = os.fork()
    if child == 0:
        try:
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            run(scenario())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        shutil.rmtree(root)


# --- what never answers -----------------------------------------------------------------------------------


@pytest.fixture
def _short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs is counted in looks, so that where they are short nobody waits for what never answers."""
    monkeypatch.setattr(aside, "_LOOK_SECONDS", 0.1)


@pytest.mark.usefixtures("private_namespaces", "_short_looks")
def test_files_that_hang_hold_up_nothing_else(desk: Desk) -> None:
    far, near = desk.manifests / "far", desk.manifests / "near.yaml"
    far.mkdir()
    write(near, service("near"))
    names = [f"{letter}.yaml" for letter in "abcdefgh"]
    files = {name: text(service(name[0])) for name in names}

    async def scenario() -> None:
        with hanging(far, files) as server:
            async with desk.following(desk.manifests, near) as followed:
                assert followed.names() == {"near", *(name[0] for name in names)}
                threads = threading.active_count()
                server.hold(*names)
                server.write("h.yaml", text(service("h", target=9090)))
                write(near, service("near", target=1))
                await followed.until(lambda: followed.targets()["near"] == 1)
                await followed.until(lambda: len(followed.problems) == 3)
                for name in ("a.yaml", "b.yaml"):
                    assert any(
                        problem.startswith(f"{far}/{name}: reading has taken more than 5 s; ")
                        for problem in followed.problems
                    )
                assert any(problem.startswith(f"{far}: does not answer; ") for problem in followed.problems)
                server.asked.clear()
                for target in (2, 3, 4):
                    write(near, service("near", target=target))
                    await followed.until(lambda wanted=target: followed.targets()["near"] == wanted)  # type: ignore[misc]
                assert not server.asked, "what hangs is left alone"
                # Two, and one more for each file that this machine was too busy to read within a look.
                assert threading.active_count() < threads + len(names), "what hangs has no thread of its own each"
                assert followed.targets()["h"] == 8080, "what it held stays in force"
                assert len(followed.names()) == 9
                server.release()
                await followed.until(lambda: not followed.problems)
                await followed.until(lambda: followed.targets()["h"] == 9090)

    run(scenario())


@pytest.mark.usefixtures("private_namespaces", "_short_looks")
@pytest.mark.parametrize("what", ["directory", "content"])
def test_what_hangs_at_the_start_is_read_when_it_answers(desk: Desk, what: str) -> None:
    far = desk.root / "far"
    far.mkdir()
    write(desk.manifests / "near.yaml", service("near"))
    desk.seed(service("far", target=1), service("stale"))

    async def scenario() -> None:
        with hanging(far, {"far.yaml": text(service("far"))}) as server:
            if what == "content":
                server.hold("far.yaml", only=Op.READ)
            else:
                server.hold("")
            async with desk.following(far, desk.manifests) as followed:
                assert followed.targets() == {"near": 8080, "far": 1, "stale": 8080}, "nothing is deleted blindly"
                assert any("reading has taken more than 5 s" in problem for problem in followed.problems)
                server.release()
                await followed.until(lambda: followed.targets() == {"near": 8080, "far": 8080})
                await followed.until(lambda: not followed.problems)

    run(scenario())


@pytest.mark.usefixtures("private_namespaces")
def test_cancelled_while_something_hangs_it_ends(desk: Desk) -> None:
    far = desk.root / "far"
    far.mkdir()
    near = desk.manifests / "near.yaml"
    write(near, service("near"))

    async def scenario() -> None:
        with hanging(far, {"far.yaml": text(service("far"))}) as server:
            async with desk.following(far, desk.manifests) as followed:
                server.hold("", "far.yaml")
                write(near, service("near", target=1))
                await followed.until(server.waiting)
            assert server.waiting(), "it has ended before what hangs did"

    run(scenario())
