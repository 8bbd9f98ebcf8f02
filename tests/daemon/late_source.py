"""``python late_source.py PROGRAM WORDS…``: the daemon over a store that is far away: it lists late, at SIGUSR1.

Only what it lists from is fake; all else is the daemon itself.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from nodeport_nft.config import Config
from nodeport_nft.daemon import loop
from nodeport_nft.entry import main
from nodeport_nft.sources.handover import Handover
from nodeport_nft.store import Store
from nodeport_nft.store.api import Source
from nodeport_nft.store.fake import FakeSource


def open_late(config: Config, _: Handover | None = None) -> Source:
    source = FakeSource(listed=False)

    def come() -> None:
        with Store(config.store, ranges=config.ranges, reading=True) as store:
            for ref, values in store.readable():
                source.put(ref, values)
        source.list_all()

    source.fail("the store does not answer; it is asked again")
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, come)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, lambda: source.fail(""))
    return source


vars(loop)["open_source"] = open_late
del sys.argv[0]
main()
