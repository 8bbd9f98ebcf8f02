"""The log's way out, on real pipes, FIFOs and devices: nobody waits, little is lost, and what is lost is counted."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodeport_nft.daemon.limiter import SECONDS, Limiter
from nodeport_nft.daemon.outlet import Outlet
from tests.daemon.running import wait_for

WAIT = 60.0


@contextmanager
def outlet(descriptor: int | None) -> Iterator[Outlet]:
    made = Outlet(descriptor, lambda lines: f"{lines} lost\n")
    try:
        yield made
    finally:
        made.close(0.1)


def received(descriptor: int, end: bytes) -> bytes:
    """All that comes until ``end``."""
    data = b""
    while not data.endswith(end):
        more = os.read(descriptor, 1 << 16)
        assert more, f"{data[-100:]!r} and no more"
        data += more
    return data


def test_lines_come_whole_and_in_order() -> None:
    reading, writing = os.pipe()
    with outlet(writing) as out:
        for number in range(200):
            out.write(f"{number} {'x' * (number * 7 % 9000)}\n")
        out.write("end\n")
        lines = received(reading, b"end\n").decode().splitlines()
    assert [line.split()[0] for line in lines] == [*map(str, range(200)), "end"]
    assert (out.lost, out.fault) == (0, "")
    os.close(reading)
    os.close(writing)


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_its_gap_is_told() -> None:
    """Lines and bytes have an end, and each line is either written or counted."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    changes: list[str] = []
    with outlet(writing) as out:
        out.changed = lambda: changes.append(out.fault)
        for number in range(10_000):
            out.write(f"line {number}\n")
        assert out.lost > 0
        wait_for(lambda: out.fault, "the fault", WAIT)
        assert "nobody reads it" in out.fault
        lost, number, gaps = out.lost, 0, 0
        with os.fdopen(os.dup(reading)) as lines:
            while number < 10_000:  # each is there, or is one of those that are missing at its place
                line = lines.readline()
                if line.endswith(" lost\n"):
                    gaps += int(line.split()[0])
                    number += int(line.split()[0])
                else:
                    assert line == f"line {number}\n"
                    number += 1
        assert (number, gaps) == (10_000, lost)
        wait_for(lambda: not out.fault, "that it goes on", WAIT)
    assert [bool(change) for change in changes] == [True, False]
    os.close(reading)
    os.close(writing)


def test_what_waits_is_bounded_in_bytes_too() -> None:
    reading, writing = os.pipe()
    with outlet(writing) as out:
        for _ in range(200):
            out.write("x" * 100_000)
        assert 180 <= out.lost <= 190
    os.close(reading)
    os.close(writing)


def test_a_reader_that_comes_back_gets_what_waited(tmp_path: Path) -> None:
    """As at journald's restart: the reader of a FIFO goes, and another one comes."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(fifo, os.O_WRONLY)
    with outlet(writing) as out:
        os.close(reading)
        out.write("unheard\n")
        wait_for(lambda: out.fault, "the fault", WAIT)
        assert "Broken pipe" in out.fault
        reading = os.open(fifo, os.O_RDONLY)
        assert received(reading, b"unheard\n") == b"unheard\n"
        wait_for(lambda: not out.fault, "that all is well", WAIT)
    assert out.lost == 0
    os.close(reading)
    os.close(writing)


def test_a_full_disk_is_told_with_its_remedy() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with outlet(full) as out:
        out.write("one\n")
        wait_for(lambda: out.fault, "the fault", WAIT)
        assert out.fault == "No space left on device; make room on its disk"
    os.close(full)


def test_without_a_descriptor_all_is_counted() -> None:
    with outlet(None) as out:
        out.write("one\n")
        out.write("two\n")
    assert (out.lost, bool(out.fault)) == (2, True)


@pytest.mark.parametrize("blocking", [True, False])
def test_the_end_waits_for_what_can_be_written_and_not_for_more(blocking: bool) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    out = Outlet(writing, str)
    for number in range(50):
        out.write(f"{number}\n")
    out.close(WAIT)
    os.close(writing)
    assert len(os.read(reading, 1 << 16).splitlines()) == 50
    os.close(reading)
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    out = Outlet(writing, str)
    for _ in range(50):
        out.write("x" * 4096)
    out.close(0.2)  # the reader never comes
    os.close(reading)
    os.close(writing)


def test_a_kind_of_line_comes_a_few_times_a_minute_and_then_as_a_number() -> None:
    now = 0.0
    limiter = Limiter(lambda: now)
    assert [limiter.lets_through("a", "accept", 3) for _ in range(1237)] == [True] * 3 + [False] * 1234
    assert limiter.lets_through("b", "other", 3), "each kind for itself"
    assert list(limiter.ended()) == []
    now = SECONDS
    assert list(limiter.ended()) == [("accept", 1234, SECONDS)]
    assert limiter.lets_through("a", "accept", 3), "the next minute"
    assert list(limiter.ended(at_once=True)) == []


def test_kinds_without_number_take_no_memory_without_end() -> None:
    limiter = Limiter(lambda: 0.0)
    assert all(limiter.lets_through(number, "many", 1) for number in range(5000))
    assert len(list(limiter.ended(at_once=True))) == 0
