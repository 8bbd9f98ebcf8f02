"""What a turn tells, and of whom it does not know: a person at a terminal, or a daemon's log, status and metrics."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol as Interface


class Report(Interface):
    """Whoever is told. A turn tells what there is; whether that is news, and what follows, is the listener's."""

    def problems(self, where: str, problems: Iterable[str], failed: Iterable[str] = ()) -> None:
        """These are the problems that there are now in one part of the work, and no others.

        ``failed`` are those of them that kept something from being done which was asked for.
        """

    def advice(self, advice: Iterable[str], failed: Iterable[str] = ()) -> None:
        """What would be better otherwise and is no trouble; ``failed``: why it could not be had, though asked for."""

    def serves(self, node_ports_on: str, *, deleted: bool) -> None:
        """Where this node serves nodePorts, in words. ``deleted``: its Node object is being deleted."""

    def sysctl_set(self, name: str, value: str) -> None:
        """A sysctl was set."""

    def hosts_written(self, path: Path, *, changed: bool) -> None:
        """The hosts file is up to date; whether it was ``changed`` for that."""

    def names_written(self, path: Path, files: int) -> None:
        """The hosts files in a directory are up to date; how many were changed for that."""

    def kube_proxy_removed(self, what: tuple[str, ...]) -> None:
        """What kube-proxy had left was removed, each in words."""

    def devices_given(self, links: int) -> None:
        """The flowtables have got these many links."""
