"""Descriptors that are used up, in a process of its own with a real limit: there is a reserve, and nothing spins."""

from __future__ import annotations

import subprocess
import sys

_CHILD = """
import asyncio, errno, logging, os, resource, socket, threading, time
from nodeport_nft.serving.accepting import Acceptor, listen

warnings = []
class Handler(logging.Handler):
    def emit(self, record):
        warnings.append(record.getMessage())
logging.getLogger().addHandler(Handler())

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
held = []

def drop_oldest():
    if held:
        held.pop(0).close()
        return True
    return False

def serve():
    listening = listen("127.0.0.1", 0, socket.AF_INET)
    loop.call_soon_threadsafe(lambda: Acceptor(loop, listening, lambda taken, peer: held.append(taken), drop_oldest))
    return listening.getsockname()

def connect(count):
    # A child's, so that they are not of our descriptors.
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
        for _ in range(count):
            socket.create_connection(address).detach()
        os.write(writing, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(reading, 1)
    return pid

def spare():
    # How many this process may still open.
    opened = []
    try:
        while True:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        assert error.errno == errno.EMFILE
    for descriptor in opened:
        os.close(descriptor)
    return len(opened)

def limit(count):
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, 4096))

def wait_for(condition):
    for _ in range(3000):
        if condition():
            return True
        time.sleep(0.02)
    return False
"""


def child(text: str) -> None:
    """Run it, after what all of them need."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD + text], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stdout + done.stderr


def test_clients_never_have_the_last_descriptors() -> None:
    child(
        """
reading, writing = os.pipe()
limit(256)
address = serve()
pids = [connect(400), connect(400)]
assert wait_for(lambda: len(held) > 100)
time.sleep(1)
left = spare()
assert left >= 31, left
newest = socket.create_connection(address)
assert wait_for(lambda: any(s.getpeername() == newest.getsockname() for s in list(held))), "the newest has its turn"
assert warnings == [], warnings
for pid in pids:
    os.kill(pid, 9)
print("done")
"""
    )


def test_where_there_are_none_it_waits_and_comes_back() -> None:
    child(
        """
address = serve()
used = max(map(int, os.listdir("/proc/self/fd")))
client = socket.socket()
blocker = []
limit(64)
while True:
    try:
        blocker.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        break
client.connect(address)  # into the backlog
assert wait_for(lambda: len(warnings) >= 3), "it tries again"
assert "Too many open files" in warnings[0], warnings
assert len(warnings) < 50, "and not all the time"
assert held == []
for descriptor in blocker:
    os.close(descriptor)
assert wait_for(lambda: held), "it takes who has waited"
print("done")
"""
    )


def test_listening_sockets_leave_twice_as_many() -> None:
    child(
        """
limit(256)
opened = []
try:
    for _ in range(300):
        opened.append(listen("127.0.0.1", 0, socket.AF_INET))
except OSError as error:
    assert error.errno == errno.EMFILE
left = spare()
assert left >= 63, left
print("done")
"""
    )
