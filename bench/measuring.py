"""What a process and the kernel's tables cost, and when the kernel has what was written: seconds, megabytes."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from nodeport_nft.kernel.netlink.events import TableEvents
from nodeport_nft.kernel.netlink.messages import NETFILTER, messages

QUIET_SECONDS = 0.12
"""So long after a commit nothing more has come of the same change."""

_NEWGEN = 10 << 8 | 15  # NFT_MSG_NEWGEN, linux/netfilter/nf_tables.h
_GROUP = 1 << 6  # NFNLGRP_NFTABLES
_SO_RCVBUFFORCE = 33
_BUFFER = 256 << 20
_POLL_SECONDS = 0.02


class NotDone(Exception):
    """What was waited for has not come in time."""


def memory(pid: int, what: str) -> float:
    """``what`` of /proc/PID/status, such as VmRSS or VmHWM. 0 where the process is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) / 1024
    return 0.0


def processor_seconds(pid: int) -> float:
    """User and system time of a process that lives, and of the children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


class ChildrenPeak:
    """The largest that the children of a process have been together, looked at every 20 ms until it ends."""

    def __init__(self, pid: int) -> None:
        self.megabytes = 0.0
        self._pid = pid
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        threads = Path(f"/proc/{self._pid}/task")
        while threads.exists():
            with contextlib.suppress(OSError):  # a thread has ended meanwhile
                children = [each for path in threads.glob("*/children") for each in path.read_text().split()]
                together = sum(memory(int(child), "VmHWM") for child in children)
                self.megabytes = max(self.megabytes, together)
            time.sleep(_POLL_SECONDS)


def generation() -> int:
    """How many commits the ruleset of this thread's network namespace has seen."""
    events = TableEvents()
    try:
        return events.generation()
    finally:
        events.close()


class Commits:
    """Listens for commits in the network namespace of the thread that makes it. Use it as a context manager."""

    def __init__(self, *, seconds: float) -> None:
        """``seconds``: how long to wait for the first."""
        self.times: list[float] = []
        self._deadline = time.perf_counter() + seconds
        self._events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
        self._events.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._events.bind((0, _GROUP))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._events.close()

    def last(self) -> float:
        """When the last commit was made (``time.perf_counter``), after which it was quiet. Raises NotDone."""
        self._thread.join()
        if not self.times:
            raise NotDone("no commit came")
        return self.times[-1]

    def _listen(self) -> None:
        while (left := self._deadline - time.perf_counter()) > 0:
            try:
                self._events.settimeout(QUIET_SECONDS if self.times else left)
                data = self._events.recv(1 << 20)
            except TimeoutError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:  # a commit larger than the buffer; its end comes, or the next one
                    continue
                return  # closed
            if any(kind == _NEWGEN for kind, _ in messages(data)):
                self.times.append(time.perf_counter())


@dataclass(frozen=True, slots=True)
class Ended:
    """What a process has used that has ended: its largest resident memory, user and system time."""

    megabytes: float
    processor_seconds: float


def waited_for(process: subprocess.Popen[Any], *, seconds: float) -> Ended:
    """Wait for a process that ends by itself; its ``returncode`` is set.

    Raises NotDone where it takes longer than ``seconds``; it is killed then.
    """
    limit = threading.Timer(seconds, process.kill)
    limit.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        limit.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode == -signal.SIGKILL:
        raise NotDone(f"it was not ready within {seconds:g} s")
    return Ended(usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)


def ended(process: subprocess.Popen[Any], *, seconds: float = 60.0) -> None:
    """Ask a process of ours to end, and see to it."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(seconds)
