"""What the daemon does at its time, and the wait for that time."""

from __future__ import annotations

import asyncio
import enum
from contextlib import suppress
from typing import Any

from nodeport_nft.agenda import Agenda


class Due(enum.Enum):
    """In the order in which it is done: the sync comes last, and writes what the others have brought up."""

    NETWORK = "read the host's network again: it has changed"
    CHECK = "compare the tables with what they should hold"
    LOOK = "look at what nobody tells of"
    REFUSED = "try the services again that the kernel has refused"
    ANEW = "read everything anew: it is not known whether what is known is all"
    NAMES = "write names that had to wait"
    SYNC = "write what has changed"


async def until_due(agenda: Agenda[Any], woken: asyncio.Event) -> None:
    """Return once something is due, or ``woken`` was set, which then is cleared."""
    with suppress(TimeoutError):
        async with asyncio.timeout(agenda.rest()):
            await woken.wait()
    woken.clear()
