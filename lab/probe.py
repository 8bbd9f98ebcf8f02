"""Knock at a door of the cluster and say what came back.

``connect`` and ``connect_many`` speak TCP and UDP with ``responder``'s servers, and SCTP as far as ``sctp``
goes. The sockets are made in the source's namespace and used from here, so that a thousand connections need
no process at all; they are driven by one epoll loop, a bounded number at a time.
"""

from __future__ import annotations

import errno
import json
import selectors
import socket
import struct
import time
from ipaddress import ip_address

from lab.cluster import Cluster
from lab.outcome import IPAddress, Kind, Outcome, of_errno, read_icmp_error, watch_icmp_errors
from lab.sctp import sctp_probe

Destination = tuple[IPAddress | str, int]

# Close with a reset: no TIME_WAIT holds the source port, so that thousands of connections don't run out.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
TCP_ESTABLISHED = 1  # <linux/tcp.h>: the first byte of TCP_INFO

ANSWER_SECONDS = 30.0
"""How long an answer is waited for: a machine with much else to do gives it late."""


def connect(
    cluster: Cluster,
    source: str,
    destination: Destination,
    protocol: str = "TCP",
    *,
    timeout: float = ANSWER_SECONDS,
) -> Outcome:
    """One new connection from host ``source`` to (address, port); ``protocol`` is TCP, UDP or SCTP.

    ``timeout`` (seconds) is how long silence has to last; who expects silence gives a short one. The outcome is
    REACHED only if a responder (or, for SCTP, a pod) says so: a TCP connection on which nothing is said is SILENT
    with the detail "connected".
    """
    return connect_many(cluster, source, destination, protocol, 1, timeout=timeout)[0]


def connect_many(
    cluster: Cluster,
    source: str,
    destination: Destination,
    protocol: str = "TCP",
    count: int = 1,
    *,
    timeout: float = ANSWER_SECONDS,
    concurrency: int = 64,
) -> tuple[Outcome, ...]:
    """``count`` new connections as ``connect`` makes them, in order of their start.

    At most ``concurrency`` are open at a time (SCTP: one).
    """
    address = ip_address(destination[0])
    if protocol == "SCTP":
        return tuple(sctp_probe(cluster, source, (address, destination[1]), timeout=timeout) for _ in range(count))
    outcomes: dict[int, Outcome] = {}
    active: dict[int, _Attempt] = {}
    started = 0
    with cluster.host(source).namespace.entered(), selectors.DefaultSelector() as selector:
        try:
            while len(outcomes) < count:
                while started < count and len(active) < concurrency:
                    active[started] = _Attempt((str(address), destination[1]), protocol, timeout)
                    selector.register(active[started].sock, selectors.EVENT_READ, active[started])
                    started += 1
                oldest = next(iter(active.values()))  # and so the first to run out of time
                for key, _ in selector.select(max(0.0, oldest.deadline - time.monotonic())):
                    key.data.advance()
                now = time.monotonic()
                for number, attempt in tuple(active.items()):
                    if outcome := attempt.outcome or attempt.silence(now):
                        outcomes[number] = outcome
                        selector.unregister(attempt.sock)
                        active.pop(number).sock.close()
        finally:
            for attempt in active.values():
                attempt.sock.close()
    return tuple(outcomes[number] for number in range(count))


class _Attempt:
    """One connection under way, made in the calling thread's namespace; ``outcome`` is None until known."""

    def __init__(self, destination: tuple[str, int], protocol: str, timeout: float) -> None:
        family = socket.AF_INET6 if ":" in destination[0] else socket.AF_INET
        self.is_tcp = protocol == "TCP"
        self.sock = socket.socket(family, socket.SOCK_STREAM if self.is_tcp else socket.SOCK_DGRAM)
        self.deadline = time.monotonic() + timeout
        self.outcome: Outcome | None = None
        self.received = b""
        self.sock.setblocking(False)
        watch_icmp_errors(self.sock)
        if self.is_tcp:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        code = self.sock.connect_ex(destination)
        if code == 0 and not self.is_tcp:
            try:
                self.sock.send(b"who are you?\n")
            except OSError as error:
                code = error.errno or errno.EIO
        # EPERM is how a packet filter's drop on the way out shows: what it sends back, if anything, follows.
        self.forbidden = code == errno.EPERM
        if code not in (0, errno.EINPROGRESS, errno.EPERM):
            self.outcome = read_icmp_error(self.sock) or of_errno(code)

    def advance(self) -> None:
        """Take in what has arrived: an ICMP error, a reset, (part of) an answer."""
        if self.outcome is None:
            self.outcome = read_icmp_error(self.sock) or self._read()

    def silence(self, now: float) -> Outcome | None:
        """SILENT if the time is up at ``now`` (time.monotonic), else None."""
        if now < self.deadline:
            return None
        connected = self.is_tcp and self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_ESTABLISHED
        return Outcome(Kind.SILENT, detail="connected" if connected else "EPERM" if self.forbidden else "")

    def _read(self) -> Outcome | None:
        try:
            data = self.sock.recv(1 << 16)
        except BlockingIOError:
            return None
        except OSError as error:
            code = error.errno or errno.EIO
            return of_errno(code, "reset" if self.is_tcp and code == errno.ECONNREFUSED else "")
        if not data:
            return Outcome(Kind.SILENT, detail="closed without an answer")
        self.received += data
        return parse_answer(self.received) if self.received.endswith(b"\n") else None


def parse_answer(line: bytes) -> Outcome:
    """A responder's JSON line as an outcome. Raises ValueError if it is none."""
    answer = json.loads(line)
    (source, source_port), (to, to_port) = answer["source"], answer["to"]
    return Outcome(Kind.REACHED, answer["name"], ip_address(source), source_port, ip_address(to), to_port)
