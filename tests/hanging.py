"""A file system whose server answers when it likes: a real FUSE mount, served by a thread of the test.

Sources: fuse(4), <linux/fuse.h> (protocol 7.31).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path

import pytest


class Op(IntEnum):
    """The requests that are answered, or need no answer."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    OPEN = 14
    READ = 15
    RELEASE = 18
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    INTERRUPT = 36
    BATCH_FORGET = 42


_UNANSWERED = (Op.FORGET, Op.INTERRUPT, Op.BATCH_FORGET)
_DIRECT_IO = 1
_ROOT = 1
_DETACH = 2

libc = ctypes.CDLL(None, use_errno=True)


class Hanging:
    """One directory of files; ``hold`` lets requests about some of them hang, ``release`` answers all of them."""

    def __init__(self, descriptor: int, files: dict[str, str]) -> None:
        self._descriptor = descriptor
        self._names = sorted(files)
        self._files = {name: (text.encode(), time.time_ns()) for name, text in files.items()}
        self._held: frozenset[str] = frozenset()
        self._only: int | None = None
        self._waiting: list[tuple[int, int, int, bytes]] = []
        self._lock = threading.Lock()
        self.asked: list[str] = []
        """The files that requests were about, "" for the directory."""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def write(self, name: str, text: str) -> None:
        """Give a file another content, as another machine does: nothing here is told of it."""
        with self._lock:
            self._files[name] = (text.encode(), time.time_ns())

    def hold(self, *names: str, only: int | None = None) -> None:
        """Answer nothing about these ("": the directory), or no requests of one kind."""
        with self._lock:
            self._held, self._only = frozenset(names), only

    def release(self) -> None:
        """Answer everything, late as it may be."""
        with self._lock:
            self._held, waiting, self._waiting = frozenset(), self._waiting, []
            for request in waiting:
                self._answer(*request)

    def waiting(self) -> int:
        """How many requests hang."""
        with self._lock:
            return len(self._waiting)

    def _serve(self) -> None:
        while True:
            try:
                request = os.read(self._descriptor, 1 << 18)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                return  # unmounted
            _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
            body = request[40:]
            if opcode in _UNANSWERED:
                continue
            about = body.split(b"\0")[0].decode() if opcode == Op.LOOKUP else self._name(node)
            with self._lock:
                self.asked.append(about)
                if about in self._held and opcode != Op.INIT and self._only in (None, opcode):
                    self._waiting.append((opcode, unique, node, body))
                else:
                    self._answer(opcode, unique, node, body)

    def _name(self, node: int) -> str:
        return "" if node <= _ROOT else self._names[node - 2]  # 0: about no file

    def _answer(self, opcode: int, unique: int, node: int, body: bytes) -> None:
        found = self._reply(opcode, node, body)
        error, content = (-found, b"") if isinstance(found, int) else (0, found)
        with suppress(OSError):  # whoever asked has gone
            os.write(self._descriptor, struct.pack("<IiQ", 16 + len(content), error, unique) + content)

    def _reply(self, opcode: int, node: int, body: bytes) -> bytes | int:
        match opcode:
            case Op.INIT:
                return struct.pack("<IIIIHHIIHH32x", 7, 31, 1 << 16, 0, 12, 10, 1 << 16, 1, 0, 0)
            case Op.LOOKUP:
                name = body.split(b"\0")[0].decode()
                if name not in self._files:
                    return errno.ENOENT
                node = self._names.index(name) + 2
                return struct.pack("<QQQQII", node, 0, 0, 0, 0, 0) + self._attributes(node)
            case Op.GETATTR:
                return struct.pack("<QII", 0, 0, 0) + self._attributes(node)
            case Op.OPEN | Op.OPENDIR:
                return struct.pack("<QII", 0, _DIRECT_IO if opcode == Op.OPEN else 0, 0)
            case Op.READ:
                _, offset, size = struct.unpack_from("<QQI", body)
                return self._files[self._name(node)][0][offset : offset + size]
            case Op.READDIR:
                _, offset, _ = struct.unpack_from("<QQI", body)
                return b"".join(
                    struct.pack("<QQII", number + 2, number + 1, len(name), stat.S_IFREG >> 12)
                    + name.encode().ljust(-(-len(name) // 8) * 8, b"\0")
                    for number, name in enumerate(self._names)
                    if number >= offset
                )
            case Op.RELEASE | Op.FLUSH | Op.RELEASEDIR:
                return b""
            case _:
                return errno.ENOSYS

    def _attributes(self, node: int) -> bytes:
        if node == _ROOT:
            mode, size, written = stat.S_IFDIR | 0o755, 0, 0
        else:
            content, written = self._files[self._name(node)]
            mode, size = stat.S_IFREG | 0o644, len(content)
        seconds, rest = divmod(written, 10**9)
        times = (seconds, seconds, seconds, rest, rest, rest)
        return struct.pack("<QQQQQQIIIIIIIIII", node, size, 0, *times, mode, 1, 0, 0, 0, 4096, 0)


@contextmanager
def hanging(directory: Path, files: dict[str, str]) -> Iterator[Hanging]:
    """``files`` mounted at ``directory``; skips where there is no FUSE. Wants a mount namespace of its own."""
    try:
        descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        pytest.skip(f"/dev/fuse: {error.strerror}")
    options = f"fd={descriptor},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if libc.mount(b"hanging", os.fsencode(directory), b"fuse", 0, options) != 0:
        error_number = ctypes.get_errno()
        os.close(descriptor)
        pytest.skip(f"FUSE cannot be mounted: {os.strerror(error_number)}")
    served = Hanging(descriptor, files)
    try:
        yield served
    finally:
        served.release()
        libc.umount2(os.fsencode(directory), _DETACH)
        os.close(descriptor)
