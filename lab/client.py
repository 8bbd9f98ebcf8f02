"""A client that connects, or talks, without end: `client.py connect|stream ADDRESS PORT [ADDRESS PORT …]`

`connect` makes connections, one after the other, to each destination in turn, and takes a responder's greeting from
each. `stream` holds one connection and has line after line echoed. It prints "begun" when the first has worked, runs
until SIGTERM, and then prints one JSON line: {"done": N, "failures": [text, …], "names": {name: N}}. Anything but an
answer within 30 seconds is a failure; a lost packet is sent again by TCP before that. PAUSE in the environment is how
many seconds it rests after each round: none, unless the machine is a slow one.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
import time
from collections import Counter

SECONDS = 30.0
LINE = b"x" * 4000 + b"\n"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
PAUSE = float(os.environ.get("PAUSE", "0"))
stopping = False


def stop(number: int, frame: object) -> None:  # noqa: ARG001 (a signal handler)
    global stopping
    stopping = True


def opened(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(SECONDS)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    sock.connect((address, port))
    return sock


def line_of(sock: socket.socket, received: bytes = b"") -> bytes:
    while not received.endswith(b"\n"):
        data = sock.recv(1 << 16)
        if not data:
            raise ConnectionError("closed without an answer")
        received += data
    return received


def connect(destinations: list[tuple[str, int]], names: Counter[str], failures: list[str]) -> None:
    for address, port in destinations:
        try:
            with opened(address, port) as sock:
                names[json.loads(line_of(sock))["name"]] += 1
        except OSError as error:
            failures.append(f"{address} {port}: {type(error).__name__}: {error}")


def main(mode: str, destinations: list[tuple[str, int]]) -> None:
    signal.signal(signal.SIGTERM, stop)
    names: Counter[str] = Counter()
    failures: list[str] = []
    stream = opened(*destinations[0]) if mode == "stream" else None
    name = json.loads(line_of(stream))["name"] if stream else ""
    begun = False
    while not stopping:
        if stream is None:
            connect(destinations, names, failures)
        else:
            try:
                stream.sendall(LINE)
                if line_of(stream) != name.encode() + b" " + LINE:
                    failures.append("another line came back")
            except OSError as error:
                failures.append(f"{type(error).__name__}: {error}")
                break
            names[name] += 1
        if not begun and names:
            begun = True
            print("begun", flush=True)
        time.sleep(PAUSE)
    print(json.dumps({"done": names.total(), "failures": failures, "names": names}), flush=True)


if __name__ == "__main__":
    words = sys.argv[2:]
    main(sys.argv[1], [(words[i], int(words[i + 1])) for i in range(0, len(words), 2)])
