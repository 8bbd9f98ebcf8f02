"""A real process of the user nobody, who tries what he can."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import pwd
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

NOBODY = pwd.getpwnam("nobody")

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@contextlib.contextmanager
def nobody(act: Callable[[], Result]) -> Iterator[Result]:
    """What ``act`` returned in a process of nobody's, which lives in the block with all it has opened and locked."""
    answers, answer = os.pipe()
    stops, stop = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(stop)
            os.setsid()
            os.setgroups([])
            os.setresgid(*[NOBODY.pw_gid] * 3)
            os.setresuid(*[NOBODY.pw_uid] * 3)
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of the user forgets it
            try:
                told = pickle.dumps((act(), ""))
            except Exception as error:  # the parent shall see it
                told = pickle.dumps((None, f"{type(error).__name__}: {error}"))
            with os.fdopen(answer, "wb") as pipe:
                pipe.write(told)
            os.read(stops, 1)
        finally:
            os._exit(0)
    os.close(answer)
    os.close(stops)
    try:
        with os.fdopen(answers, "rb") as pipe:
            result, failure = pickle.load(pipe)
        assert not failure, failure
        yield result
    finally:
        os.close(stop)
        os.waitpid(child, 0)


def give(path: Path) -> None:
    """Let it be nobody's."""
    os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid, follow_symlinks=False)
