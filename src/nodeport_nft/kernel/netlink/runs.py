"""Large slot maps read by their keys, where the kernel says how many elements they have.

A dump costs the square of a map's size, keys asked for one by one do not (Linux 6.18, kernel and all, 300,000
elements: 10 s against 1.5 s). The keys are known: each verdict leads to a chain that draws below some number, and
what is behind it stands in a run of slots from the first on. Only if as many elements are found so as the kernel
counts, is that all there is; else the map is dumped, as it is on kernels that do not tell (before NFTA_SET_COUNT).

Source: net/netfilter/nf_tables_api.c (nf_tables_getsetelem answers key by key, and ends at the first that is not
there).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from nodeport_nft.kernel.netlink.dumps import make_buffer, received
from nodeport_nft.kernel.netlink.layouts import (
    DATA_VALUE,
    ELEM_KEY,
    GETSETELEM,
    LIST_ELEM,
    LIST_ELEMENTS,
    Layout,
)
from nodeport_nft.kernel.netlink.messages import ACK, ERROR, NESTED, attribute, code, failed_message, message
from nodeport_nft.kernel.netlink.packed import OddElement, make_reader
from nodeport_nft.ruleset import Chain, DnatSlot, Goto, GotoChance, Jump

LARGE = 40_000
"""Elements from which on a map is read so: below, a dump takes less."""

_PORTION = 64
"""Keys asked for at a time: their answers, a message each and one more for each run, fit into most sockets."""

_packed_slot = struct.Struct("=I").pack


class Run(NamedTuple):
    """Slots of a map: the packed key without the slot, the first of them, how many there may be at most."""

    frontend: bytes
    first: int
    most: int


Draws = Mapping[str, Mapping[tuple[str, int], int]]
"""By chain: from which slot maps its rules draw, from which slot on, and below which number at most."""


def draws_of(chains: Iterable[Chain]) -> Draws:
    """What packets that come to each of these chains may draw, there or in those that it leads to."""
    known = {chain.name: chain for chain in chains}
    found: dict[str, dict[tuple[str, int], int]] = {}

    def look(name: str) -> dict[tuple[str, int], int]:
        if name in found:
            return found[name]
        draws: dict[tuple[str, int], int] = {}
        found[name] = draws  # also the end of a loop
        for statement in (each for rule in known[name].rules for each in rule) if name in known else ():
            if isinstance(statement, DnatSlot):
                place = statement.map, statement.offset
                draws[place] = max(draws.get(place, 0), statement.slots)
            elif isinstance(statement, Goto | GotoChance | Jump):
                for place, count in look(statement.chain).items():
                    draws[place] = max(draws.get(place, 0), count)
        return draws

    for name in known:
        look(name)
    return found


def read_runs(netlink: socket.socket, layout: Layout, runs: Iterable[Run]) -> dict[bytes, bytes]:
    """The elements of these runs, as of ``PackedElements``.

    Raises OddElement, and OSError: ENOBUFS where the socket takes less than the answers, of which some are left then.
    """
    take_in = make_reader(layout)
    size = layout.key.size
    head = attribute(LIST_ELEM | NESTED, attribute(ELEM_KEY | NESTED, attribute(DATA_VALUE, bytes(size))))[:-size]
    buffer = make_buffer()
    packed: dict[bytes, bytes] = {}
    coming, begun = iter(runs), list[Run]()
    while asked := _portion(coming, begun):
        questions = []
        for number, (frontend, first, most) in enumerate(asked):
            keys = map(_packed_slot, range(first, first + min(most, _PORTION)))
            elements = b"".join([head + frontend + key for key in keys])
            body = layout.naming + attribute(LIST_ELEMENTS | NESTED, elements)
            questions.append(message(GETSETELEM, ACK, layout.family, body, sequence=number))
        netlink.send(b"".join(questions))
        waiting = len(questions)
        refusal: OddElement | OSError | None = None
        while waiting:  # for all of it in any case: what is left would be taken for the answer to the next question
            for kind, _, data in received(netlink, buffer):
                if kind != ERROR:
                    try:
                        take_in(data, packed)
                    except OddElement as error:
                        refusal = error
                    continue
                waiting -= 1
                failure = code(data)
                frontend, first, most = asked[failed_message(data)]
                if failure not in (0, errno.ENOENT):
                    refusal = OSError(failure, os.strerror(failure))
                elif not failure and most > _PORTION:  # all that was asked for is there
                    begun.append(Run(frontend, first + _PORTION, most - _PORTION))
        if refusal:
            raise refusal
    return packed


def _portion(coming: Iterator[Run], begun: list[Run]) -> list[Run]:
    """The next runs to ask for, those that are begun first."""
    found: list[Run] = []
    keys = 0
    while keys < _PORTION and (run := begun.pop() if begun else next(coming, None)):
        found.append(run)
        keys += min(run.most, _PORTION)
    return found
