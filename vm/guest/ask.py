"""Knock at a lab responder and say what came back: `ask.py tcp|udp|sctp ADDRESS PORT [COUNT] [SECONDS]`

One JSON line for each of COUNT connections, one after the other, each from a port of its own: the responder's own
({"name", "source", "to"}), or {"fate": "refused" | "unreachable" | "silent"}. A program of its own, so that it
runs in any machine and, with `ip netns exec`, in any pod.
"""

from __future__ import annotations

import errno
import json
import socket
import sys

KINDS = {
    "tcp": (socket.SOCK_STREAM, 0),
    "udp": (socket.SOCK_DGRAM, 0),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}


def ask(protocol: str, address: str, port: int, seconds: float) -> str:
    """One connection. EPERM is how a packet filter's drop on the way out shows, EACCES an unreachable route."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, *KINDS[protocol]) as sock:
        sock.settimeout(seconds)
        try:
            sock.connect((address, port))
            if protocol == "udp":
                sock.send(b"who are you?\n")
            return sock.recv(1 << 16).decode().strip() or json.dumps({"fate": "silent"})
        except TimeoutError:
            return json.dumps({"fate": "silent"})
        except OSError as error:
            if error.errno == errno.EPERM:
                return json.dumps({"fate": "silent"})
            refused = error.errno in (errno.ECONNREFUSED, errno.ECONNRESET)
            return json.dumps({"fate": "refused" if refused else "unreachable", "error": str(error)})


if __name__ == "__main__":
    protocol, address, port, *rest = sys.argv[1:]
    count, seconds = [*rest, *("1", "3")[len(rest) :]]
    for _ in range(int(count)):
        print(ask(protocol, address, int(port), float(seconds)), flush=True)
