"""The driver: one target, one seed, one input after the other."""

from __future__ import annotations

import gc
import hashlib
import random
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from fuzz.lines import Lines, TooManyLines
from fuzz.mutations import TOKENS, mutated

FREE_LINES = 1_000_000
"""Lines that any input may take. The worst seed takes 240,000: it fills consistent-hashing tables."""

LINES_PER_BYTE = 300
"""Lines for each byte of an input beyond that. What only grows takes 6, Services times endpoints take more."""

MOST_SECONDS = 300
"""Processor time of one input, ten times what its lines may take. It keeps regular expressions from hanging here."""

MOST_GROWTH = 256 << 10
"""KiB by which one input may raise the peak of memory."""

MOST_MEMORY = 2 << 20
"""KiB of memory at which a run ends: what an input leaves behind adds up."""

MINIMISING = 400
"""Inputs that are tried to cut one fall down."""


class TooSlow(BaseException):
    """An input has used up its processor time."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is fuzzed. ``run`` raises for whatever is no documented error; ``tokens`` are words of its language."""

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    tokens: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Fall:
    """An input that fell: ``where`` tells falls of a kind apart, ``story`` is for people."""

    target: str
    data: bytes
    where: str
    story: str
    slow: bool = False

    def write(self, directory: Path) -> Path:
        """Write the input, and what became of it beside it; returns the input's path."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.target}-{hashlib.sha256(self.where.encode()).hexdigest()[:12]}"
        path.with_suffix(".txt").write_text(
            f"{self.where}\n\n{self.story}", encoding="utf-8", errors="backslashreplace"
        )
        path.with_suffix(".input").write_bytes(self.data)
        return path.with_suffix(".input")


@dataclass(slots=True)
class Session:
    """A target under way. ``package`` is the directory whose lines count."""

    target: Target
    seed: int
    package: str
    runs: int = 0
    falls: dict[str, Fall] = field(default_factory=dict)
    corpus: list[bytes] = field(default_factory=list)
    lines: Lines = field(init=False)

    def __post_init__(self) -> None:
        self.lines = Lines(self.package)

    def go_on(self, *, seconds: float = float("inf"), runs: float = float("inf")) -> Iterator[Fall]:
        """Try inputs until the time or their number is up; each kind of fall once, cut down."""
        rng = random.Random(f"{self.target.name} {self.seed}")
        tokens = (*TOKENS, *self.target.tokens)
        end = time.monotonic() + seconds
        seeds = list(self.target.seeds())
        self.corpus = self.corpus or [b""]
        gc.enable()
        while time.monotonic() < end and self.runs < runs and _memory() < MOST_MEMORY:
            is_seed = bool(seeds)
            data = seeds.pop() if is_seed else mutated(rng, self.corpus, tokens)
            before = self.lines.seen
            fall = self.attempt(data)
            self.runs += 1
            if fall is not None and fall.where not in self.falls:
                self.falls[fall.where] = self._minimal(fall)
                yield self.falls[fall.where]
            elif fall is None and (is_seed or self.lines.seen > before):
                self.corpus.append(data)

    def attempt(self, data: bytes) -> Fall | None:
        """Run the target on one input; how it falls, None if it does not."""
        before = _lowered_peak()
        try:
            with bounded(MOST_SECONDS, TooSlow()), self.lines.counted(FREE_LINES + LINES_PER_BYTE * len(data)):
                self.target.run(data)
        except KeyboardInterrupt:
            raise
        except TooManyLines as error:
            return self._fall(data, f"more than {FREE_LINES} lines and {LINES_PER_BYTE} a byte", error)
        except TooSlow as error:
            return replace(self._fall(data, f"more than {MOST_SECONDS} s of processor time", error), slow=True)
        except BaseException as error:
            return self._fall(data, type(error).__name__, error)
        grown = _memory("VmHWM") - before
        if grown > MOST_GROWTH:
            return Fall(self.target.name, data, f"{self.target.name}: memory", f"the peak has grown by {grown} KiB\n")
        return None

    def _fall(self, data: bytes, what: str, error: BaseException) -> Fall:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if frame.filename.startswith(self.package)]
        last = (ours or frames)[-1]
        # Lines run out anywhere in what takes too many of them.
        place = "" if isinstance(error, TooManyLines) else f" at {Path(last.filename).name}:{last.lineno}"
        story = "".join(traceback.format_exception(error))
        return Fall(self.target.name, data, f"{self.target.name}: {what}{place}", story)

    def _minimal(self, fall: Fall) -> Fall:
        """The same fall with as little as can be found: halves, quarters … left out as long as it falls the same."""
        if fall.slow:
            return fall  # each try would take as long again
        tries, size = MINIMISING, len(fall.data) // 2
        while size and tries > 0:
            at, cut = 0, False
            while at < len(fall.data) and tries > 0:
                tries -= 1
                less = self.attempt(fall.data[:at] + fall.data[at + size :])
                if less is not None and less.where == fall.where:
                    fall, cut = less, True
                else:
                    at += size
            size = size if cut and size > 1 else size // 2
        return fall


@contextmanager
def bounded(seconds: float, error: BaseException) -> Iterator[None]:
    """``error`` in the midst of the block once it has used up its processor time; for the main thread.

    Of the process alone, so that a busy machine is no fault. Regular expressions look for signals, too.
    """

    def stop(_signal: int, _frame: object) -> None:
        raise error

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _lowered_peak() -> int:
    """Let the peak of memory be what is taken now, and return it in KiB (proc(5), clear_refs)."""
    with suppress(OSError):  # a kernel without it: then only the first input that raises the peak falls
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _memory("VmHWM")


def _memory(which: str = "VmRSS") -> int:
    """KiB that this process has now, or had at the peak (proc(5), status)."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition(f"\n{which}:")[2].split(maxsplit=1)[0])
