"""``python late_source.py PROGRAM WORDS…``: the daemon over a store that is far away: it lists late, at SIGUSR1.

At SIGALRM, memory is short.
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

loop_of = asyncio.get_running_loop


def open_late(config: Config, _node: str, _handover: Handover | None = None) -> Source:
    source = FakeSource(listed=False)

    def come() -> None:
        with Store(config.store, ranges=config.ranges, reading=True) as store:
            for ref, values in store.readable():
                source.put(ref, values)
        source.list_all()

    def lack() -> None:
        loop_of().call_later(1.0, source.list_all)  # it will be asked for all of it once more
        raise MemoryError

    source.fail("the store does not answer; it is asked again")
    loop_of().add_signal_handler(signal.SIGUSR1, come)
    loop_of().add_signal_handler(signal.SIGUSR2, lambda: source.fail(""))
    loop_of().add_signal_handler(signal.SIGALRM, lack)
    return source


vars(loop)["open_source"] = open_late
del sys.argv[0]
main()
