"""A server that says who it is, over IPv4 and IPv6: `responder.py NAME PORT... [sctp/PORT...]`

A plain port is served over TCP and UDP; SCTP is for kernels that have its sockets. Each connection is greeted with
one JSON line {"name", "source": [ip, port], "to": [ip, port]}; every line that the client sends later comes back
behind the name ("web-1 hello"). Each UDP datagram is answered with the same JSON line, from the address it came to.
It prints "ready" when all ports listen and serves until it is killed. One thread and epoll carry thousands of
connections; it is a program of its own, with the standard library alone, so that it starts in a few milliseconds.
"""

from __future__ import annotations

import contextlib
import functools
import json
import resource
import selectors
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

IP_PKTINFO = 8  # <linux/in.h>; a constant of Python's socket module only in later versions
LARGEST_LINE = 1 << 16

Callback = Callable[[], None]


def answer(name: str, source: tuple[Any, ...], to_ip: str, to_port: int) -> bytes:
    """The JSON line; socket addresses are (ip, port, …)."""
    return json.dumps({"name": name, "source": source[:2], "to": [to_ip, to_port]}).encode() + b"\n"


class Connection:
    """One TCP connection, greeted at once, echoing lines until the client ends it."""

    def __init__(self, name: str, selector: selectors.BaseSelector, sock: socket.socket) -> None:
        self.name, self.selector, self.sock = name, selector, sock
        self.unfinished = b""
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, self.read)

    def send(self, data: bytes) -> None:
        """Send, or give the connection up: its few bytes fit into any socket buffer unless nobody reads."""
        try:
            self.sock.send(data)
        except OSError:
            self.close()

    def read(self) -> None:
        """Echo the lines that have come in full."""
        try:
            data = self.sock.recv(LARGEST_LINE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self.unfinished = (self.unfinished + data).split(b"\n")
        if not data or len(self.unfinished) > LARGEST_LINE:
            self.close()
        elif lines:
            self.send(b"".join(self.name.encode() + b" " + line + b"\n" for line in lines))

    def close(self) -> None:
        """End the connection; a second call does nothing."""
        if self.sock.fileno() >= 0:
            self.selector.unregister(self.sock)
            self.sock.close()


def accept_all(name: str, selector: selectors.BaseSelector, listener: socket.socket) -> None:
    """Take every connection that waits, and greet it."""
    while True:
        try:
            sock, source = listener.accept()
        except BlockingIOError:
            return
        except ConnectionError:  # the client was gone before it was taken
            continue
        to_ip, to_port = sock.getsockname()[:2]
        Connection(name, selector, sock).send(answer(name, source, to_ip, to_port))


def answer_datagram(name: str, sock: socket.socket) -> None:
    """Answer one datagram from the address it was sent to, which its packet info tells (ip(7), ipv6(7))."""
    port = sock.getsockname()[1]
    with contextlib.suppress(OSError):  # an ICMP error that answers an earlier reply; the client may be gone
        _, ancillary, _, source = sock.recvmsg(LARGEST_LINE, 128)
        level, kind, info = ancillary[0]
        if sock.family == socket.AF_INET6:
            local = info[:16]
            reply_info = struct.pack("=16sI", local, 0)  # interface 0: let the routes choose
        else:
            local = info[4:8]
            reply_info = struct.pack("=I4s4x", 0, local)
        to_ip = socket.inet_ntop(sock.family, local)
        sock.sendmsg([answer(name, source, to_ip, port)], [(level, kind, reply_info)], 0, source)


def listen_sctp(name: str, selector: selectors.BaseSelector, family: socket.AddressFamily, port: int) -> None:
    """Open ``port`` for SCTP associations, which come as connections do (RFC 6458, section 4). Raises OSError."""
    sctp = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
    if family == socket.AF_INET6:
        sctp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sctp.setblocking(False)
    sctp.bind(("", port))
    sctp.listen(4096)
    selector.register(sctp, selectors.EVENT_READ, functools.partial(accept_all, name, selector, sctp))


def listen(name: str, selector: selectors.BaseSelector, family: socket.AddressFamily, port: int) -> None:
    """Open ``port`` for TCP and UDP on every address of ``family``. Raises OSError if it is taken."""
    tcp = socket.socket(family, socket.SOCK_STREAM)
    udp = socket.socket(family, socket.SOCK_DGRAM)
    for sock in (tcp, udp):
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        udp.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    tcp.bind(("", port))
    udp.bind(("", port))
    tcp.listen(4096)
    selector.register(tcp, selectors.EVENT_READ, functools.partial(accept_all, name, selector, tcp))
    selector.register(udp, selectors.EVENT_READ, functools.partial(answer_datagram, name, udp))


def main(name: str, ports: list[str]) -> None:
    """Serve until killed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    selector = selectors.DefaultSelector()
    for port in ports:
        protocol, _, number = port.rpartition("/")
        for family in (socket.AF_INET, socket.AF_INET6):
            (listen_sctp if protocol == "sctp" else listen)(name, selector, family, int(number))
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            callback: Callback = key.data
            callback()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
