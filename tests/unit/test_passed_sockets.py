"""Sockets that a service manager passes: which one is taken, and that nothing else is touched."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, socket, sys
from ipaddress import ip_address
listening = socket.create_server(("127.0.0.1", 0))
port = listening.getsockname()[1]
sockets = {
    "listening": listening,
    "unix": socket.socket(socket.AF_UNIX),
    "datagrams": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "idle": socket.socket(socket.AF_INET, socket.SOCK_STREAM),
}
sockets["datagrams"].bind(("127.0.0.1", port))
chosen = [os.dup(sockets[name].fileno()) if name in sockets else None for name in sys.argv[3].split(",")]
high = [each if each is None else os.dup2(each, 60 + at) for at, each in enumerate(chosen)]
for name in sockets:
    sockets[name].close()
os.closerange(3, 60)
for at, each in enumerate(high, 3):
    if each is not None:
        os.dup2(each, at)
os.environ["LISTEN_PID"] = str(os.getpid() + int(sys.argv[1]))
os.environ["LISTEN_FDS"] = sys.argv[2]
from nodeport_nft.serving.passed import take_passed
found = take_passed(ip_address("127.0.0.1"), port)
assert take_passed(ip_address("127.0.0.1"), port ^ 1) is None
assert take_passed(ip_address("127.0.0.2"), port) is None
if found is None:
    sys.exit("none")
assert not os.get_inheritable(found.fileno())
assert not found.getblocking()
client = socket.create_connection(("127.0.0.1", port))
accepted, _ = found.accept()
client.sendall(b"x")
assert accepted.recv(1) == b"x"
"""


@pytest.mark.parametrize(
    ("process", "count", "passed", "taken"),
    [
        ("0", "1", "listening", True),
        ("0", "4", "unix,datagrams,idle,listening", True),
        ("0", "3", "unix,datagrams,idle,listening", False),  # the fourth is not passed
        ("0", "2", "gone,listening", True),
        ("0", "99", "listening", True),
        ("0", "-1", "listening", False),
        ("0", "9" * 5000, "listening", False),
        ("0", "٣", "listening", False),
        ("0", "", "listening", False),
        ("1", "1", "listening", False),  # passed to another process
    ],
)
def test_the_socket_at_the_address_is_taken_and_no_other(process: str, count: str, passed: str, taken: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, process, count, passed],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
    )
    assert (done.returncode, done.stderr) == ((0, "") if taken else (1, "none\n"))
