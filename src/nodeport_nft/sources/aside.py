"""Work that may hang, beside the loop: each in a thread of its own, which is left alone when it hangs.

A file system whose server does not answer keeps a thread for as long as it likes; no signal and no timeout brings it
back. So the thread says at every step which path it is at. Has one step taken too long, the work is given up and that
path is not touched again until the thread comes back, however long that takes; all others are, in a new thread. After
a second path on the same mount the whole mount is left alone, so that not every file of it costs a thread and 5 s.

The threads are daemonic: they keep no process from ending.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from nodeport_nft.problems import Problem
from nodeport_nft.text.files import short_path
from nodeport_nft.text.steps import PATIENCE, Patience, Step, Steps

_LOOK_SECONDS = 1.0
_LONG = 30  # looks at one work, after which it is told where it is: no step hangs, but all together take long
_MOST_ON_A_MOUNT = 2
_MOST_HUNG = 32  # threads, of mounts that hang all at once; whatever hangs after these is waited for

Result = TypeVar("Result")


class Hung(Exception):
    """A work was given up; the path that it hangs at is not touched until it ends."""


class NoThread(Exception):
    """The system gives us no thread; the message says what to do."""


class _GivenUp(Exception):
    """Ends a work that nobody waits for any more."""


class Work(Steps):
    """The steps of one work. Belongs to its thread, but for ``step`` and ``given_up``."""

    def __init__(self, skips: Callable[[str], bool]) -> None:
        super().__init__()
        self.skips = skips
        """Whether a path, by its real directories, is not to be touched."""
        self.given_up = False

    def at(self, shown: str, real: str = "") -> None:
        """As ``Steps``; ends a work that was given up."""
        if self.given_up:
            raise _GivenUp
        super().at(shown, real)

    def done(self) -> None:
        """As ``Steps``; ends a work that was given up."""
        super().done()
        if self.given_up:
            raise _GivenUp


class _Hang(Struct, frozen=True):
    shown: str
    mount: str


class Aside:
    """The works of one event loop, one at a time.

    ``ended`` is told, on the loop, the real paths that can be touched again, each a file or all below a directory.
    ``on_problem`` is called when there is a new problem while a work goes on.
    """

    def __init__(self, ended: Callable[[set[str]], None], on_problem: Callable[[], None]) -> None:
        self._ended = ended
        self._on_problem = on_problem
        self._waited_for = ""
        self._hung: dict[str, _Hang] = {}  # by real path
        self._left_alone: tuple[str, ...] = ()  # mount points

    def __bool__(self) -> bool:
        """Whether anything hangs."""
        return bool(self._hung)

    def skips(self, real: str) -> bool:
        """Whether this path is not to be touched. Threads may ask."""
        return real in self._hung or any(_is_below(real, mount) for mount in self._left_alone)

    def problems(self) -> tuple[str, ...]:
        """What hangs now, a line each."""
        told = [
            Problem(
                short_path(hang.shown),
                "",
                "",
                f"reading has taken more than {PATIENCE} s; what was read from it before stays in force until it "
                f"answers; check the file system at {short_path(hang.mount)}",
            )
            for hang in self._hung.values()
        ]
        told += [
            Problem(short_path(mount), "", "", "does not answer; nothing on this file system is read until it does")
            for mount in self._left_alone
        ]
        waited_for = (self._waited_for,) if self._waited_for else ()
        return (*map(str, told), *waited_for)

    async def run(self, function: Callable[[Work], Result]) -> Result:
        """What ``function`` returns or raises. Raises Hung when it is given up, NoThread when it cannot begin."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Result] = loop.create_future()
        ended.add_done_callback(asyncio.Future.exception)  # it may be nobody's any more, and is no defect then
        work = Work(self.skips)

        def give(result: Result) -> None:
            ended.set_result(result)

        def body() -> None:
            try:
                deliver = partial(give, function(work))
            except BaseException as error:  # whoever waits for it gets it
                deliver = partial(ended.set_exception, error)
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(deliver)

        try:
            threading.Thread(target=body, name="manifests", daemon=True).start()
        except RuntimeError as error:
            text = "manifests: the system gives no more threads; raise the limit of tasks or end other programs"
            raise NoThread(text) from error
        patience, looks = Patience(), 0
        try:
            while not ended.done():
                await asyncio.wait([ended], timeout=_LOOK_SECONDS)
                step, looks = work.step, looks + 1
                if ended.done() or step is None:
                    continue
                if patience.ends(step):
                    if len(self._hung) < _MOST_HUNG:
                        self._leave_alone(step, ended)
                        raise Hung(step.shown)
                    self._wait_for(step, f"has taken more than {PATIENCE} s, and so do {_MOST_HUNG} other files")
                elif looks >= _LONG:
                    self._wait_for(step, f"is slow: it has gone on for more than {_LONG} s, with those before it")
        finally:
            self._waited_for = ""
            work.given_up = True
        return ended.result()

    def _wait_for(self, step: Step, what: str) -> None:
        if not self._waited_for:
            text = f"reading {what}; changes of manifests wait for it"
            self._waited_for = str(Problem(short_path(step.shown), "", "", text))
            self._on_problem()

    def _leave_alone(self, step: Step, ended: asyncio.Future[Result]) -> None:
        ended.add_done_callback(lambda _: self._answers(step.real))
        self._hung[step.real] = _Hang(step.shown, _mount_of(step.real))
        self._count()

    def _answers(self, real: str) -> None:
        """The thread that hung here has come back."""
        hang = self._hung.pop(real)
        again = {real}
        if hang.mount in self._left_alone:
            again.add(hang.mount)
        self._count()
        self._ended(again)

    def _count(self) -> None:
        counted = Counter(hang.mount for hang in self._hung.values())
        self._left_alone = tuple(mount for mount, number in counted.items() if number >= _MOST_ON_A_MOUNT)


def _mount_of(real: str) -> str:
    """The mount point that a path stands below, as text alone: nothing on it is touched (proc_pid_mountinfo(5))."""
    longest = "/"
    with suppress(OSError), Path("/proc/self/mountinfo").open(encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), line.split(" ")[4])
            if len(point) > len(longest) and _is_below(real, point):
                longest = point
    return longest


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
