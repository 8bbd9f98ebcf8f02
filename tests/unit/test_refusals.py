"""Services that the kernel refuses are tried again ever later, and soon where one more is refused."""

from __future__ import annotations

import math

from nodeport_nft.agenda import Agenda
from nodeport_nft.daemon.due import Due
from nodeport_nft.daemon.refusals import Refusals
from nodeport_nft.model import ObjectName
from tests.unit.test_agenda import Clock

WEB, DNS = ObjectName("default", "web"), ObjectName("default", "dns")


class Kernel:
    """Syncs after which some are refused."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.agenda = Agenda(Due, self.clock)
        self.refusals = Refusals(self.agenda)

    def sync(self, *refused: ObjectName, later: float = 0.0) -> float:
        """Seconds until the next try."""
        self.clock.now += later
        list(self.agenda.due())
        self.refusals.after_sync(refused)
        return self.agenda.when(Due.REFUSED) - self.clock.now


def test_each_try_that_is_refused_doubles_the_pause_up_to_five_minutes() -> None:
    kernel = Kernel()
    pauses = [1.0]
    assert kernel.sync(WEB) == 1
    while len(pauses) < 12:
        pauses.append(kernel.sync(WEB, later=pauses[-1]))
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_a_sync_of_others_meanwhile_puts_nothing_off() -> None:
    kernel = Kernel()
    kernel.sync(WEB)
    kernel.sync(WEB, later=1)
    assert kernel.sync(WEB, later=0.5) == 1.5
    assert kernel.sync(WEB, later=1) == 0.5


def test_one_more_has_a_try_of_its_own() -> None:
    kernel = Kernel()
    kernel.sync(WEB)
    assert kernel.sync(WEB, DNS, later=0.75) == 2
    assert kernel.sync(WEB, later=0.5) == 1.5, "one less changes nothing"
    assert kernel.sync(WEB, DNS, later=0.5) == 4, "it was taken in between"


def test_where_none_is_refused_there_is_no_try_and_the_next_begins_with_the_shortest_pause() -> None:
    kernel = Kernel()
    assert kernel.sync() == math.inf
    kernel.sync(WEB)
    kernel.sync(WEB, later=1)
    assert kernel.sync() == math.inf
    assert kernel.sync(WEB) == 1
