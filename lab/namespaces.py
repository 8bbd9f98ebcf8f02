"""Network namespaces, each held by a file descriptor and by nothing else.

``ip netns`` keeps a namespace alive by a mount in /run/netns, which has to be made and cleaned away, and
which a killed program leaves behind. A descriptor needs neither: the kernel frees the namespace when the last
process in it and the last descriptor on it are gone, however this program ends (namespaces(7)).
``ip link … netns PATH`` and ``nsenter --net=PATH`` take the path of such a descriptor.

Two facts make the lab fast. A socket belongs to the namespace in which it was made, for as long as it lives;
and setns(2) moves one thread, at a cost of microseconds. So one process may hold sockets of many namespaces
at once, and a child process is needed only for code that opens sockets at moments of its own choosing
(``in_namespace``), libnftables and pyroute2 among it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pickle
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import TypeVar

Result = TypeVar("Result")

# <linux/sched.h>, <linux/mount.h>, <linux/prctl.h>
CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
PR_SET_PDEATHSIG = 1

OWN_NAMESPACE = "/proc/thread-self/ns/net"

libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The lab could not be built, or a program in it failed; the message says which and why."""


def enter_private_namespaces() -> None:
    """Move the calling thread into a mount and a network namespace of its own, with ``lo`` up and an empty /run.

    From here on nothing this process does to mounts, links or rulesets is seen by the machine, and two runs
    never meet. There is no way back. Call it while the process has one thread: others stay where they are.
    Raises LabError where the kernel refuses (unshare(2): CAP_SYS_ADMIN is needed for both).
    """
    _unshare(CLONE_NEWNS | CLONE_NEWNET)
    # Without this, a mount made here would spread back to the machine wherever / is shared (systemd does so).
    if libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        raise LabError(f"cannot make mounts private: {os.strerror(ctypes.get_errno())}; run as root")
    # Locks that programs keep there would meet those of other runs, and stay behind.
    if libc.mount(b"lab", b"/run", b"tmpfs", 0, b"mode=755") != 0:
        raise LabError(f"cannot mount a /run: {os.strerror(ctypes.get_errno())}; run as root")
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise LabError("the program `ip` is missing; install the package iproute2") from None
    except subprocess.CalledProcessError as error:
        raise LabError(f"cannot bring lo up: {error.stderr.strip()}; CAP_NET_ADMIN is needed") from None


class Namespace:
    """One network namespace, alive until ``close`` (and as long as processes or sockets in it live)."""

    def __init__(self) -> None:
        """Make an empty namespace; the calling thread stays where it is. Raises LabError where refused."""
        with _way_back():
            _unshare(CLONE_NEWNET)
            self._descriptor = os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def path(self) -> str:
        """A path that other processes of this user may open while this process lives."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def enter(self) -> None:
        """Move the calling thread into this namespace for good."""
        _setns(self._descriptor)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Run the block in this namespace: sockets made and processes started in it stay there."""
        with _way_back():
            self.enter()
            yield

    def close(self) -> None:
        """Let go of the namespace; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def in_namespace(namespace: Namespace, function: Callable[[], Result], *, timeout: float = 60.0) -> Result:
    """Call ``function`` in a forked child inside ``namespace`` and return what it returned, pickled.

    ``timeout`` is in seconds. An exception of the function is raised here, with the child's traceback as a
    note. Raises LabError if the child ends without an answer or not in time. What the function started and
    left running is killed.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()  # or what is buffered would be written by both
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            os.setsid()
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            namespace.enter()
            answer = _pickled_call(function)
            sys.stdout.flush()
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(answer)
        finally:
            os._exit(0)  # the parent's atexit handlers and finally blocks are not the child's
    os.close(writing)
    try:
        data = _read_all(reading, time.monotonic() + timeout)
        if data is None:
            raise LabError(f"a function in a namespace did not finish within {timeout:g} s")
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # it has no more to say; let it end by itself
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # not there yet only if setsid was not reached: killed just below
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if not data:
        raise LabError("a function in a namespace ended its process without an answer")
    result, error, trace = pickle.loads(data)
    if error is not None:
        error.add_note(f"in the namespace's child process:\n{trace}")
        raise error
    answer_value: Result = result
    return answer_value


def _pickled_call(function: Callable[[], object]) -> bytes:
    """The pickle of (result, exception, traceback); what cannot be pickled becomes a LabError."""
    try:
        return pickle.dumps((function(), None, ""))
    except BaseException as error:  # whatever it is, the parent shall see it
        trace = traceback.format_exc()
        with contextlib.suppress(Exception):
            data = pickle.dumps((None, error, trace))
            pickle.loads(data)  # some exceptions pickle well and cannot be built again
            return data
        return pickle.dumps((None, LabError(f"{type(error).__name__}: {error}"), trace))


def _read_all(descriptor: int, deadline: float) -> bytes | None:
    """Everything until end of file, or None if ``deadline`` (time.monotonic) passes first."""
    chunks: list[bytes] = []
    while True:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)


@contextlib.contextmanager
def _way_back() -> Iterator[None]:
    """Bring the calling thread back to its network namespace when the block ends."""
    home = os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        _setns(home)
        os.close(home)


def _unshare(flags: int) -> None:
    if libc.unshare(flags) == 0:
        return
    code = ctypes.get_errno()
    if code == errno.EPERM:
        raise LabError("network namespaces are refused: CAP_SYS_ADMIN is missing; run as root")
    if code == errno.ENOSPC:
        raise LabError("no more network namespaces: raise the sysctl user.max_net_namespaces")
    raise LabError(f"network namespaces are refused: {os.strerror(code)}; the kernel needs CONFIG_NET_NS")


def _setns(descriptor: int) -> None:
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise LabError(f"setns was refused: {os.strerror(ctypes.get_errno())}; CAP_SYS_ADMIN is needed")
