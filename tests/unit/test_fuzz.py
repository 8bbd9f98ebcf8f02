"""The fuzzer itself: what falls is found, told and cut down; the same seed gives the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzz.engine import Fall, Session, Target
from fuzz.targets import TARGETS

HERE = str(Path(__file__).parent)


def session(run: Callable[[bytes], None], *seeds: bytes, seed: int = 1, tokens: tuple[bytes, ...] = ()) -> Session:
    """A session over a target of this file, whose lines count."""
    return Session(Target("own", run, lambda: seeds or (b"seed",), tokens), seed, HERE)


def nested(data: bytes) -> None:
    """Falls over what no one change of the seed makes: only inputs that come nearer lead there."""
    if data[:1] == b"{":
        if data[1:2] == b"{":
            if data[2:3] == b"[":
                raise LookupError
            return
        return
    return


def test_what_comes_nearer_is_kept_and_leads_on() -> None:
    own = session(nested, b"....", tokens=(b"{", b"["))
    falls = list(own.go_on(runs=20_000, seconds=120))
    assert [fall.where.split(" at ")[0] for fall in falls] == ["own: LookupError"]
    assert falls[0].data == b"{{["
    assert {b"{", b"{{"} <= {kept[: len(kept) - len(kept.lstrip(b"{"))] for kept in own.corpus}


def test_a_seed_gives_the_same_inputs_again_and_another_gives_others() -> None:
    def inputs(seed: int) -> list[bytes]:
        seen: list[bytes] = []
        list(session(seen.append, b"a: [1, 2]\nb: {c: d}\n", b'{"e": 1}', seed=seed).go_on(runs=500))
        return seen

    assert inputs(1) == inputs(1)
    assert inputs(1) != inputs(2)


def endless(data: bytes) -> None:
    while data:
        pass


def test_what_never_ends_falls_by_its_lines() -> None:
    fall = session(endless).attempt(b"x")
    assert fall is not None
    assert "lines" in fall.where
    assert session(endless).attempt(b"") is None


def hungry(data: bytes) -> None:
    b"x" * (len(data) * 300 << 20)


def test_what_takes_too_much_memory_falls() -> None:
    """In a process of its own, whose peak is not this one's."""
    program = (
        "from tests.unit.test_fuzz import hungry, session\n"
        "fall = session(hungry).attempt(b'x')\n"
        "assert session(hungry).attempt(b'') is None\n"
        "print(fall.where)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "own: memory\n"


def test_one_kind_of_fall_is_told_once_and_with_little() -> None:
    def falls(data: bytes) -> None:
        if b"7" in data:
            raise KeyError(data)

    told = list(session(falls, b"1234567890" * 50).go_on(runs=200))
    assert [fall.data for fall in told] == [b"7"]


def test_an_interrupt_is_not_a_fall() -> None:
    def interrupted(_data: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(session(interrupted).go_on(runs=1))


def test_a_fall_is_written_with_its_story(tmp_path: Path) -> None:
    path = Fall("own", b"\xff\0", "own: KeyError at x.py:1", "told \ud800").write(tmp_path / "new")
    assert path.read_bytes() == b"\xff\0"
    assert "own: KeyError at x.py:1" in path.with_suffix(".txt").read_text()


def test_tracing_of_others_goes_on() -> None:
    before = sys.gettrace()
    session(nested).attempt(b"x")
    assert sys.gettrace() is before


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_seeds_do_not_fall(target: Target) -> None:
    for seed in target.seeds()[:6]:
        target.run(seed)


def fuzz(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fuzz", *words, "--output", str(directory)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=Path(__file__).parents[2],
    )


def test_the_program_tells_what_it_did_and_tries_an_input_again(tmp_path: Path) -> None:
    done = fuzz(tmp_path, "--runs", "30", "--seconds", "200", "--target", "configuration")
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.startswith("configuration: 30 inputs, ")
    path = tmp_path / "config"
    path.write_bytes(b"serviceCIDRs: [nonsense]")
    again = fuzz(tmp_path, "--target", "configuration", "--replay", str(path))
    assert (again.returncode, again.stdout) == (0, "does not fall\n")
