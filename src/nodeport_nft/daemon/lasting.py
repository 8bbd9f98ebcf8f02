"""Work beside the loop that has to last as long as the daemon: none of it ends without a word.

Want of memory or threads is told, and the work begins again a little later. Anything else is a defect and ends the
daemon with its message: half a daemon would look like a whole one, and a service manager starts a whole one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from nodeport_nft.daemon.report import Reporter
from nodeport_nft.scarcity import scarcity

_PAUSE = 5.0


def start_workers(count: int) -> ThreadPoolExecutor:
    """Threads that are all there from the start. Raises RuntimeError where there can be no more.

    Later it would be too late: one that finds no memory for its first steps leaves whoever starts it waiting for ever
    (``threading.Thread.start``, CPython 3.11).
    """
    workers, started = ThreadPoolExecutor(count, "worker"), threading.Barrier(count + 1)
    try:
        for _ in range(count):
            workers.submit(started.wait)
    except RuntimeError:
        started.abort()
        raise
    started.wait()
    return workers


async def lasting(
    what: str,
    work: Callable[[], Coroutine[Any, Any, None]],
    reporter: Reporter,
    failed: Callable[[str], None] = lambda _: None,
) -> None:
    """Do ``work``, which people call ``what``, until it returns or is cancelled.

    ``failed`` is told what there was too little of. Raises what is no such want.
    """
    while True:
        try:
            await work()
        except Exception as error:
            wanting = scarcity(error)
            if not wanting:
                raise
            reporter.problems(what, [f"{what}: {wanting}; it begins again in {_PAUSE:g} s"])
            failed(wanting)
        else:
            return
        await asyncio.sleep(_PAUSE)
        reporter.problems(what, ())
