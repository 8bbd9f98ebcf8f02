"""The service manager's end: what it is told (sd_notify(3)), and what it says of signs of life, read to the letter.

sd_watchdog_enabled(3) is the source of the latter.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from nodeport_nft.daemon.manager import Manager, read_watchdog

PATIENCE = 60.0

WORDS: dict[str, Callable[[Manager], None]] = {
    "READY=1\nSTATUS=3 services on 192.0.2.1": lambda manager: manager.ready("3 services on 192.0.2.1"),
    "STATUS=sync failed": lambda manager: manager.status("sync failed"),
    "STOPPING=1": Manager.stopping,
    "WATCHDOG=1": Manager.alive,
}


def open_socket(address: str | bytes) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.settimeout(PATIENCE)
    made.bind(address)
    return made


@pytest.fixture
def manager_at() -> Iterator[Callable[[str], Manager]]:
    """Makes one for a ``NOTIFY_SOCKET``."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(closing(Manager({"NOTIFY_SOCKET": name})))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


@pytest.fixture
def listening(path: str) -> Iterator[socket.socket]:
    with open_socket(path) as made:
        yield made


def fill(path: str) -> int:
    """Leave no room for a message; how many there are now."""
    count = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.connect(path)
        try:
            while True:
                sender.send(b"x")
                count += 1
        except BlockingIOError:
            return count


@pytest.mark.parametrize("text", WORDS)
def test_it_is_told_in_its_own_words(
    manager_at: Callable[[str], Manager], path: str, listening: socket.socket, text: str
) -> None:
    WORDS[text](manager_at(path))
    assert listening.recv(1 << 16).decode() == text


def test_a_reload_says_when_it_began(
    manager_at: Callable[[str], Manager], path: str, listening: socket.socket
) -> None:
    before = time.monotonic_ns() // 1000
    manager_at(path).reloading()
    first, began = listening.recv(1 << 16).decode().splitlines()
    assert first == "RELOADING=1"
    assert before <= int(began.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


@pytest.mark.parametrize("name", ["plain", "with a blank", "a@b", "é", "x" * 80])
def test_its_socket_may_have_an_abstract_name(manager_at: Callable[[str], Manager], name: str) -> None:
    name = f"{os.getpid()}/{name}"  # of the whole network namespace
    with open_socket(b"\0" + os.fsencode(name)) as listening:
        manager_at(f"@{name}").stopping()
        assert listening.recv(1 << 16) == b"STOPPING=1"


def test_its_socket_may_have_a_name_that_is_no_utf_8(manager_at: Callable[[str], Manager], tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff"
    with open_socket(name) as listening:
        manager_at(os.fsdecode(name)).stopping()
        assert listening.recv(1 << 16) == b"STOPPING=1"


@pytest.mark.parametrize("name", ["", "@", "/", "relative", "vsock:2:1", "/dev/null", "/no/such", "/" + "x" * 200])
def test_where_there_is_none_nobody_is_told_and_nothing_falls(
    manager_at: Callable[[str], Manager], name: str
) -> None:
    for manager in (manager_at(name), Manager({})):
        for tell in WORDS.values():
            tell(manager)
        manager.reloading()
        manager.close()
        manager.stopping()


def test_a_relative_name_is_none(
    manager_at: Callable[[str], Manager], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_socket("notify") as listening:
        manager_at("notify").stopping()
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.recv(1)


def test_one_that_comes_late_or_opens_its_socket_anew_is_told(
    manager_at: Callable[[str], Manager], path: str
) -> None:
    manager = manager_at(path)
    for _ in range(2):
        manager.stopping()  # nobody is there
        with open_socket(path) as listening:
            manager.stopping()
            assert listening.recv(1 << 16) == b"STOPPING=1"
        Path(path).unlink()


@pytest.mark.parametrize("text", ["x" * 5000, "ü" * 2000])
def test_no_message_is_longer_than_it_reads_and_the_first_line_is_whole(
    manager_at: Callable[[str], Manager], path: str, listening: socket.socket, text: str
) -> None:
    """systemd ignores more than PIPE_BUF bytes as a whole, and would wait for READY=1 for ever."""
    manager_at(path).ready(text)
    message = listening.recv(1 << 16)
    assert message.startswith(b"READY=1\nSTATUS=")
    assert len(message) == 4096


def test_what_steers_a_terminal_is_told_as_escapes(
    manager_at: Callable[[str], Manager], path: str, listening: socket.socket
) -> None:
    manager_at(path).status("ü \x1b[31m \u202e \udcff")
    assert listening.recv(1 << 16) == rb"STATUS=\xfc \x1b[31m \u202e \udcff"


def test_a_sign_of_life_waits_for_nobody_and_all_else_for_room(
    manager_at: Callable[[str], Manager], path: str, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Manager._send.__kwdefaults__ is not None
    monkeypatch.setitem(Manager._send.__kwdefaults__, "seconds", PATIENCE)  # for room, which comes when it is read
    manager = manager_at(path)
    for _ in range(fill(path)):  # the other messages wait; there are many of these
        manager.alive()
    waiting = threading.Thread(target=manager.stopping)
    waiting.start()
    seen = set()
    while b"STOPPING=1" not in seen:
        seen.add(listening.recv(1 << 16))
    waiting.join()
    assert seen == {b"x", b"STOPPING=1"}


NO_DESCRIPTORS = """
import os, resource, sys
from nodeport_nft.daemon.manager import Manager
manager = Manager(os.environ)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
manager.alive()
"""


def test_signs_of_life_go_on_without_descriptors(path: str, listening: socket.socket) -> None:
    subprocess.run(
        [sys.executable, "-c", NO_DESCRIPTORS],
        env={**os.environ, "NOTIFY_SOCKET": path},
        check=True,
        timeout=PATIENCE,
    )
    assert listening.recv(1 << 16) == b"WATCHDOG=1"


# --- the watchdog -----------------------------------------------------------------------------------------


def test_half_of_what_the_manager_allows() -> None:
    assert read_watchdog({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 7) == (15.0, "")
    assert read_watchdog({"WATCHDOG_USEC": "30000000"}, 7) == (15.0, "")


@pytest.mark.parametrize("environment", [{}, {"WATCHDOG_PID": "7"}, {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "8"}])
def test_nothing_is_wanted_of_this_process(environment: dict[str, str]) -> None:
    assert read_watchdog(environment, 7) == (None, "")


@pytest.mark.parametrize("name", ["WATCHDOG_USEC", "WATCHDOG_PID"])
@pytest.mark.parametrize(
    "value", ["", "²", "٣", "1_000", "-1", "+1", " 1", "1\n", "0", "1e6", "0x10", "9" * 5000, "\udcff"]
)
def test_what_is_no_number_is_told_and_counts_for_nothing(name: str, value: str) -> None:
    seconds, wrong = read_watchdog({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"} | {name: value}, 7)
    assert seconds is None
    assert wrong.startswith(f"{name}: ")
    assert "is not a number" in wrong
    assert len(wrong) < 200


@pytest.mark.parametrize(("value", "seconds"), [("1", 0.05), ("9" * 19, 3600.0)])
def test_a_beat_is_neither_all_there_is_nor_never(value: str, seconds: float) -> None:
    assert read_watchdog({"WATCHDOG_USEC": value}, 7) == (seconds, "")
