"""Where the verdicts of this node's readiness probes go: into its own tables, or to all nodes of a shared store.

A store of one node has nobody else to tell. Its verdicts are put into the node's state, and noted in a file in the
run directory, so that a restart keeps them: a dead backend must not come back for as long as it takes to find it dead
again. After a reboot nothing is known, and the file is gone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

from nodeport_nft.config import Config
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.host.directory import opened, read, replace
from nodeport_nft.kernel.host.node_lock import network_namespace
from nodeport_nft.model import ProbeFailure, Ref
from nodeport_nft.sources.by_scheme import this_place
from nodeport_nft.store.etcd import open_client
from nodeport_nft.store.etcd.address import is_etcd
from nodeport_nft.store.etcd.verdicts import EtcdVerdicts
from nodeport_nft.store.opening import etcd_connection
from nodeport_nft.trust import file_fault

_MOST_BYTES = 64 << 20
_NOTE_SECONDS = 1.0


class Verdicts(Protocol):
    """Who is told of the endpoints that fail; what is told here never waits for a network.

    ``known`` are failures of an earlier run, to begin with. ``is_local``: whether what is told is in the node's state
    by this alone; else it comes back from the store.
    """

    is_local: bool

    def known(self) -> Mapping[Ref, ProbeFailure]: ...

    def put(self, failure: ProbeFailure) -> None:
        """An endpoint fails, or does so since another time."""

    def clear(self, ref: Ref) -> None:
        """It passes, or there is nothing to probe any more."""

    def leave(self, ref: Ref) -> None:
        """Another node probes it from now on; what was told stays until that one has told its own verdict."""

    async def run(self) -> None:
        """Do what takes time, until cancelled."""


def open_verdicts(
    config: Config,
    node: str,
    change: Callable[[Ref, tuple[ProbeFailure, ...]], None],
    report: Callable[[tuple[str, ...]], None],
) -> Verdicts:
    """Where the verdicts of a node go that is programmed from the store that ``config.store`` names.

    ``change``, ``report``: as ``LocalVerdicts`` has them.
    """
    if is_etcd(config.store):
        connection = etcd_connection(config)
        client = open_client(connection, first=connection.any_endpoint())
        return EtcdVerdicts(client, node, report, place=this_place())
    return LocalVerdicts(config.run_dir, f"{node} {config.store}", change, report)


class LocalVerdicts:
    """``change`` puts values into the node's state; ``report`` is told what is wrong with the notes."""

    is_local = True

    def __init__(
        self,
        run_dir: str,
        whose: str,
        change: Callable[[Ref, tuple[ProbeFailure, ...]], None],
        report: Callable[[tuple[str, ...]], None],
    ) -> None:
        """``whose``: the node and its store; the notes of another one say nothing here."""
        self._path = Path(run_dir).absolute() / f"netns-{network_namespace()}.probes.json"
        self._whose = whose
        self._change = change
        self._report = report
        self._failing: dict[Ref, ProbeFailure] = {}
        self._changed = asyncio.Event()

    def known(self) -> Mapping[Ref, ProbeFailure]:
        """What was noted; nothing where that cannot be read or believed."""
        try:
            with opened(self._path.parent, "runDir") as directory:
                if fault := file_fault(self._path):
                    self._report((f"{self._path}: the verdicts noted there are not believed: {fault}",))
                    return {}
                noted = json.loads(read(directory, self._path.name, _MOST_BYTES) or b"")
            if noted["whose"] != self._whose:
                return {}
            failures = [ProbeFailure(space, ip_address(ip), float(at)) for space, ip, at in noted["failing"]]
        except (OSError, KernelError, ValueError, KeyError, TypeError, RecursionError):
            return {}  # the first run, or no file of ours: then nothing is known
        if failures:
            self._changed.set()  # what is probed no longer is not to be believed by the next run
        return {failure.ref: failure for failure in failures}

    def put(self, failure: ProbeFailure) -> None:
        self._failing[failure.ref] = failure
        self._changed.set()
        self._change(failure.ref, (failure,))

    def clear(self, ref: Ref) -> None:
        if self._failing.pop(ref, None):
            self._changed.set()
        self._change(ref, ())

    leave = clear

    async def run(self) -> None:
        """Note what has changed, once a second at most."""
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                try:
                    await asyncio.to_thread(self._note, self._text())
                except asyncio.CancelledError:
                    self._changed.set()  # no thread may have come to it yet
                    raise
                await asyncio.sleep(_NOTE_SECONDS)
        finally:
            if self._changed.is_set():
                with suppress(RuntimeError):
                    self._note(self._text())

    def _text(self) -> str:
        failing = [[each.namespace, str(each.address), each.since] for each in self._failing.values()]
        return json.dumps({"whose": self._whose, "failing": failing})

    def _note(self, text: str) -> None:
        try:
            with opened(self._path.parent, "runDir", make=True) as directory:
                replace(directory, self._path.name, text, mode=0o600)
        except (OSError, KernelError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            self._report((f"{self._path}: verdicts of probes cannot be noted, and a restart forgets them: {why}",))
        else:
            self._report(())
