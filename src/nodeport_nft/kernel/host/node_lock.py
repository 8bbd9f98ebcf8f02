"""Who may write when: one process at a time in a network namespace, and one daemon.

Whoever reads the kernel's tables and then writes the difference wants nobody in between. And two daemons would undo
each other's work for ever.

Both are locks on empty files in the run directory, two for each network namespace, named by its inode. Nobody but
root can open them, so nobody else can hold them, and they end with their process, however that ends. The files stay.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.host.directory import open_file, opened
from nodeport_nft.trust import file_fault

_SECONDS, _QUIET_SECONDS, _PAUSE, _TRIES = 60.0, 2.0, 0.005, 10
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)
_FLOCK = struct.Struct("hhqqi0q")  # struct flock: type, whence, start, length (0: to the end), pid (fcntl(2))


class NodeLockError(KernelError):
    """Another process programs this node."""


def network_namespace() -> int:
    """The inode of the caller's network namespace, which no other one has while it lives (namespaces(7))."""
    return Path("/proc/thread-self/ns/net").stat().st_ino


def boot_id() -> str:
    """This boot of this kernel (proc_sys_kernel(5), random/boot_id). Raises OSError."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


class NodeLock:
    """Who may program the caller's network namespace, whatever the store: flock(2) on a file in ``run_dir``."""

    def __init__(self, run_dir: str) -> None:
        self.path = Path(run_dir).absolute() / f"netns-{network_namespace()}.lock"
        self.is_ours = False
        self._descriptor = -1

    def close(self) -> None:
        """Give it back, if it is ours."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self.is_ours = -1, False

    def take(self) -> bool:
        """Whether it is ours now; False: another process has it. Nothing is waited for.

        Raises KernelError where the file cannot be opened or believed.
        """
        for _ in range(_TRIES):
            if self._descriptor < 0:
                self._descriptor = _open(self.path, make=True)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if _is_at(self._descriptor, self.path):
                self.is_ours = True
                return True
            self.close()  # somebody has cleared the directory, and others lock the file that is there now
        return False

    def give_back(self) -> None:
        """Let others have it."""
        if self.is_ours:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self.is_ours = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Have it in the block, unless it is ours already. Raises NodeLockError if another process has it."""
        if self.is_ours:
            yield
            return
        if not self.take():
            raise NodeLockError(f"another process programs this node{_named(self.holder())}; it is waited for")
        try:
            yield
        finally:
            self.give_back()

    @contextmanager
    def wait(self, seconds: float = _SECONDS, tell: Callable[[str], None] | None = None) -> Iterator[None]:
        """Have it in the block. Raises NodeLockError if another process does not give it up in time.

        ``tell`` hears of who is waited for, once that takes long.
        """
        begin = time.monotonic()
        while not self.take():
            waited = time.monotonic() - begin
            if tell and waited > _QUIET_SECONDS:
                tell(
                    f"another process programs this node{_named(self.holder())}; waiting for it, up to {seconds:g} s"
                )
                tell = None
            if waited > seconds:
                raise NodeLockError(
                    f"another process{_named(self.holder())} programs this node and has not been done for "
                    f"{seconds:g} s: it holds {self.path}; end it or wait"
                )
            time.sleep(_PAUSE)
        try:
            yield
        finally:
            self.give_back()

    def holder(self) -> int | None:
        """The process id of who has it, as far as that can be seen from here (proc_locks(5))."""
        if self._descriptor < 0:
            return None
        found = os.fstat(self._descriptor)
        place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        with suppress(OSError, ValueError):
            for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
                words = line.split()
                if words[1] == "FLOCK" and words[5] == place:
                    return max(0, int(words[4])) or None
        return None


@contextmanager
def alone(run_dir: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Let one process at a time program this node, as ``NodeLock.wait`` does. Raises NodeLockError."""
    lock = NodeLock(run_dir)
    try:
        with lock.wait(tell=tell):
            yield
    finally:
        lock.close()


class DaemonPresence:
    """Says that there is a daemon in this network namespace, for as long as the process lives.

    A record lock (fcntl(2)), of which the kernel tells the process. Children do not inherit it.
    """

    def __init__(self, run_dir: str) -> None:
        """Raises KernelError if there is one already, or where that cannot be known."""
        # This descriptor alone: to close any other one of the file would end the lock.
        self._descriptor = _open(_presence(run_dir), make=True)
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = _record_holder(self._descriptor)
            self.close()
            raise KernelError(
                f"another daemon programs this node already{_named(pid)}; there can be one in a network "
                "namespace: stop it first"
            ) from error

    def close(self) -> None:
        """There is none any more."""
        os.close(self._descriptor)


def daemon_pid(run_dir: str) -> int | None:
    """The process id of this network namespace's daemon, 0 if it is of another pid namespace; None if none runs.

    Not to be asked by a daemon: its own lock would end. Raises KernelError where that cannot be known.
    """
    try:
        descriptor = _open(_presence(run_dir), make=False)
    except FileNotFoundError:
        return None
    try:
        return _record_holder(descriptor)
    finally:
        os.close(descriptor)


def daemons_elsewhere(run_dir: str) -> list[int]:
    """The process ids of other network namespaces' daemons, as far as this run directory and pid namespace know them.

    Not to be asked by a daemon, as ``daemon_pid``. Raises KernelError where that cannot be known.
    """
    found = []
    for path in Path(run_dir).absolute().glob("netns-*.daemon"):
        if path == _presence(run_dir):
            continue
        with suppress(FileNotFoundError):
            descriptor = _open(path, make=False)
            try:
                found.append(_record_holder(descriptor) or 0)
            finally:
                os.close(descriptor)
    return [pid for pid in found if pid]


def refuse_beside_daemon(run_dir: str, what: str) -> None:
    """Raise KernelError if a daemon runs here, which would undo ``what``."""
    pid = daemon_pid(run_dir)
    if pid is not None:
        raise KernelError(f"a daemon programs this node{_named(pid)} and would undo {what}; stop it first")


def _presence(run_dir: str) -> Path:
    return Path(run_dir).absolute() / f"netns-{network_namespace()}.daemon"


def _open(path: Path, *, make: bool) -> int:
    """A descriptor of a lock's file. Raises KernelError; FileNotFoundError where there is none and none is made."""
    try:
        with opened(path.parent, "runDir", make=make) as directory:
            if fault := file_fault(path):
                raise KernelError(f"runDir {path.parent}: {fault}")
            descriptor = open_file(directory, path.name, make=make)
            os.fchmod(descriptor, 0o600)  # whoever can open a file can lock it
            return descriptor
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not make:
            raise
        remedy = "" if error.errno in _SHORTAGES else "; run as root, or name another directory as runDir"
        raise KernelError(f"runDir {path.parent}: no lock can be had there: {error.strerror}{remedy}") from error


def _is_at(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    return False


def _record_holder(descriptor: int) -> int | None:
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else int(pid)


def _named(pid: int | None) -> str:
    return f" (pid {pid})" if pid else ""
