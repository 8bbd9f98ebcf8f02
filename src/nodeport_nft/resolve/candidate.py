"""An endpoint of one Service port, and which of two copies of one counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from nodeport_nft.model import IPAddress


class Candidate(NamedTuple):
    """An endpoint of one Service port, before its conditions are weighed.

    ``is_drained``: it, or its node; ``once_each`` makes conditions of that.
    """

    address: IPAddress
    port: int
    ready: bool
    serving: bool
    terminating: bool
    node_name: str
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    weight: int = 1
    is_drained: bool = False

    @property
    def is_usable(self) -> bool:
        """Whether it may get connections: if it is ready, or where nothing is, if it serves till its end (E2)."""
        return self.ready or (self.serving and self.terminating)


def once_each(candidates: Iterable[Candidate]) -> Iterable[Candidate]:
    """Each address and port once; the copy that is not terminating wins, then the ready one (E3).

    Only then does it count whether the copy is drained, so that draining lets no other one win.
    """
    # By the packed address: the hash of an IPv6Address is one that whoever writes the address can choose.
    best: dict[tuple[bytes, int], Candidate] = {}
    for candidate in candidates:
        place = candidate.address.packed, candidate.port
        held = best.get(place)
        if held is None or _preference(candidate) > _preference(held):
            best[place] = candidate
    return (_drained(one) if one.is_drained else one for one in best.values())


def _drained(candidate: Candidate) -> Candidate:
    """A candidate as one that terminates: what could be used goes on to serve, and what could not does not begin to.

    Also of a Service that publishes what is not ready: that it is drained is not a matter of readiness.
    """
    return candidate._replace(ready=False, serving=candidate.is_usable, terminating=True)


def _preference(candidate: Candidate) -> tuple[object, ...]:
    c = candidate  # all of it, so that the order of the slices makes no difference
    return not c.terminating, c.ready, c.serving, c.node_name, c.weight, c.zones, c.nodes, not c.is_drained
