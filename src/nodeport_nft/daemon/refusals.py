"""The services that the kernel refuses: tried again ever later, and soon where one more is refused."""

from __future__ import annotations

from collections.abc import Collection

from nodeport_nft.agenda import Agenda, Backoff
from nodeport_nft.daemon.due import Due
from nodeport_nft.model import ObjectName

_LONGEST_SECONDS = 300.0


class Refusals:
    """Puts the next try (``Due.REFUSED``) on the agenda."""

    def __init__(self, agenda: Agenda[Due]) -> None:
        self._agenda = agenda
        self._backoff = Backoff(_LONGEST_SECONDS)
        self._refused: frozenset[ObjectName] = frozenset()

    def after_sync(self, refused: Collection[ObjectName]) -> None:
        """These, and no others, were refused by a sync."""
        before, self._refused = self._refused, frozenset(refused)
        if not refused:
            self._agenda.drop(Due.REFUSED)
            self._backoff.succeeded()
        elif Due.REFUSED not in self._agenda or self._refused - before:
            self._agenda.after(Due.REFUSED, self._backoff.failed())
