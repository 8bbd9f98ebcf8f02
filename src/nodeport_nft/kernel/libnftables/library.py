"""libnftables, kept at arm's length: it runs in a child (``child``) and hears from us alone what the kernel holds.

A command of nft's language goes in; what comes out is text, and the messages that would carry the command out, which
are for the caller to send. So libnftables cannot be ended by what others have in the kernel (``answers``), and where
it ends all the same, that is an error with a name.

The child is started when it is needed and stays for the next command: to start it takes a tenth of a second. What
libnftables keeps of a large command (it gives no memory back) goes with it when it has been idle.

Its netlink socket is one end of a pair of Unix sockets of type SEQPACKET: such a one takes no notice of the address
that a message is sent to, and the address of our end is as long as a netlink socket's, as libmnl wants it to be.
"""

from __future__ import annotations

import itertools
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import weakref
from typing import IO, NamedTuple

from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.libnftables.answers import Answers, View
from nodeport_nft.kernel.libnftables.child import NO_LIBRARY, NO_MEMORY, REPLY, REQUEST
from nodeport_nft.kernel.netlink.batch import Message, split
from nodeport_nft.kernel.netlink.messages import NETFILTER

_SECONDS = 150.0
"""How long a child may neither ask nor answer; 100,000 services take it half a minute."""

_END_SECONDS = 5.0

_MOST = 1 << 26
"""Bytes that libnftables may have sent and we not received: more than it is given to compile at once."""

_LARGE = 1 << 20
"""Bytes of commands or output above which a child is not kept: libnftables gives back no memory."""

_SO_SNDBUFFORCE = 32  # asm-generic/socket.h
_BATCH = 16  # NFNL_MSG_BATCH_BEGIN
_OWN_FAULTS = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL})


class LibraryError(KernelError):
    """libnftables has ended over what it was told, by a fault of its own: it would do so again."""


class Done(NamedTuple):
    """What became of a command: libnftables' code, output and words about errors, and the messages to be sent."""

    code: int
    output: str
    error: str
    messages: list[Message]


class Library:
    """libnftables, shown the tables of the network namespace in which this was made. Any thread may use it."""

    def __init__(self) -> None:
        """Raises KernelError where there is no netlink for nftables."""
        try:
            self.netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
        except OSError as error:
            raise KernelError(f"nftables cannot be reached: {error.strerror}") from error
        weakref.finalize(self, self.netlink.close)
        self._child: _Child | None = None
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._is_used = False

    def run(self, text: str, view: View, *, seconds: float | None = None) -> Done:
        """Run commands in nft's language over what ``view`` shows.

        ``seconds``: how long it may neither ask nor answer, if not as long as the largest tables of ours take.
        Nothing is changed in the kernel. Raises KernelError where libnftables cannot be had, LibraryError where it
        dies of it, MemoryError, and OSError where no child can be started.
        """
        with self._lock:
            self._is_used = True
            child, self._child = self._child or _Child(), None
            answers, done = Answers(self.netlink, view, next(self._numbers)), None
            try:
                done = child.run(text, answers, seconds or _SECONDS)
            finally:
                if done is None or len(text) + len(done.output) > _LARGE:
                    child.end()
                else:
                    self._child = child
            if answers.fault:
                raise KernelError(f"nftables does not tell what it holds: {answers.fault.strerror}")
            return done

    def rest(self) -> None:
        """Let the child go if there was nothing to do since the last call."""
        if not self._is_used:
            self.close()
        self._is_used = False

    def close(self) -> None:
        """Let the child go; the next command starts another one."""
        with self._lock:
            child, self._child = self._child, None
        if child:
            child.end()


class _Child:
    """A process of ``child``. Raises OSError where none can be started."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.bind(b"\0nft-" + secrets.token_bytes(5))  # abstract; sizeof(struct sockaddr_nl) in all
            _widen(theirs)
            self._said = _memory()
            descriptor = theirs.fileno()
            try:
                # S603: what is run is this very interpreter and a module of our own.
                self._process = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-P", "-m", "nodeport_nft.kernel.libnftables.child", str(descriptor)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._said,
                    pass_fds=[descriptor],
                    cwd="/",
                )
            except BaseException:
                ours.close()
                self._said.close()
                raise
        self._questions = ours
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        self.end = weakref.finalize(
            self, _end, os.getpid(), self._process, ours, self._requests, self._replies, self._said
        )

    def run(self, text: str, answers: Answers, seconds: float) -> Done:
        request = text.encode()
        try:
            self._requests.write(REQUEST.pack(len(request)) + request)
            self._requests.flush()
            batches = self._attend(answers, seconds)
            code, output, error = REPLY.unpack(self._read(REPLY.size))
            texts = self._read(output), self._read(error)
        except (BrokenPipeError, ConnectionResetError, EOFError):
            raise self._death() from None
        told, refused = (text.decode(errors="replace") for text in texts)
        return Done(code, told, refused, split(batches))

    def _attend(self, answers: Answers, seconds: float) -> bytes:
        """Answer questions until there is a reply; what is to be sent to the kernel."""
        batches = b""
        poll = select.poll()
        poll.register(self._questions, select.POLLIN)
        poll.register(self._replies, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(seconds * 1000)}
            if not ready:
                self._process.kill()
                raise KernelError(f"libnftables has not answered for {seconds:g} s; it was ended")
            if self._questions.fileno() in ready:
                size = self._questions.recv_into(bytearray(1), 1, socket.MSG_PEEK | socket.MSG_TRUNC)
                if not size:
                    raise EOFError
                question = self._questions.recv(size)
                if int.from_bytes(question[4:6], sys.byteorder) == _BATCH:
                    batches += question
                    continue
                for answer in answers.to(question):
                    self._questions.send(answer)
            else:
                return batches

    def _read(self, size: int) -> bytes:
        data = self._replies.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def _death(self) -> Exception:
        """What became of it, as the error to be raised."""
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._said.seek(0)
        said = "".join(c for c in self._said.read(2000).decode(errors="replace") if c.isprintable() or c == "\n")
        said = said.strip()
        if code == NO_MEMORY:
            return MemoryError()
        if code == NO_LIBRARY and "nftables" in said and "No module" in said:
            return KernelError("the Python module nftables is missing; install pip-nftables")
        if code == NO_LIBRARY:
            return KernelError(
                f"libnftables cannot be loaded ({said}); install it (Debian: apt-get install libnftables1)"
            )
        if -code in _OWN_FAULTS:
            # The version is not asked for: that would take another child.
            return LibraryError(
                f"libnftables ended by signal {-code} ({signal.strsignal(-code)})" + (f": {said}" if said else "")
            )
        if "MemoryError" in said or "annot allocate memory" in said or "emory allocation failure" in said:
            return MemoryError()
        how = f"was ended by signal {-code}" if code < 0 else f"has ended with code {code}"
        return KernelError(f"the child that runs libnftables {how}" + (f": {said[-500:]}" if said else ""))


def _memory() -> IO[bytes]:
    """A file that nobody else sees, for what libnftables says at its end."""
    return os.fdopen(os.memfd_create("nft"), "w+b")


def _widen(theirs: socket.socket) -> None:
    """Let as much be sent at once as anybody may: the rules of a table are one message."""
    try:
        theirs.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _MOST)
    except PermissionError:  # a capability in a user namespace is not enough
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, (1 << 31) - 1)  # cut to net.core.wmem_max


def _end(owner: int, process: subprocess.Popen[bytes], questions: socket.socket, *pipes: IO[bytes]) -> None:
    """Close what leads to the child, and wait for its end. A fork of ours has no business with it but to close."""
    questions.close()
    for pipe in pipes:
        try:
            pipe.close()
        except OSError:  # what was not written is of no use
            continue
    if os.getpid() != owner:
        return
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
