"""The daemon, and the clock by which it judges."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from pathlib import Path

from nodeport_nft import __version__
from nodeport_nft.doctor.examination import Examination
from nodeport_nft.doctor.finding import Check, Finding, State, failed, of_text, ok, skipped, warning
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.host.node_lock import daemon_pid
from nodeport_nft.store import is_shared

_START = "systemctl enable --now nodeport-nft, or nodeport-nft sync"
_SKEW_SECONDS = 5.0
_TIME_ERROR = 5  # adjtimex(2)


def _daemon(examination: Examination) -> Iterator[Finding]:
    answer = examination.answer
    try:
        pid = daemon_pid(examination.config.run_dir)
    except KernelError as error:
        yield skipped(str(error))
        pid = None
    if answer.status is None:
        if pid is None:
            yield warning(
                "no daemon programs this node",
                "changes of Services and endpoints come to the kernel at the next nodeport-nft sync --once alone",
                _START,
            )
        else:
            seen = f"a daemon runs (process {pid or 'of another container'}), and does not tell how it is"
            remedy = "journalctl -u nodeport-nft, then systemctl restart nodeport-nft"
            yield of_text(State.FAILED, f"{seen}: {answer.silence}", "nobody knows whether it works", remedy)
        return
    status = answer.status
    yield ok(f"version {status.version}, process {status.pid}, from {status.source or 'its store'}")
    if status.version != __version__:
        yield warning(
            f"the daemon is version {status.version}, this program {__version__}",
            "it was not started again after an upgrade",
            "systemctl restart nodeport-nft (the rules stay in force meanwhile)",
        )
    if status.node and status.node != examination.name:
        yield warning(
            f"the daemon programs node {status.node}, and {examination.name} is looked at",
            "what is told above is of another node's view",
            f"nodeport-nft doctor --node-name {status.node}",
        )


def _sync(examination: Examination) -> Iterator[Finding]:
    answer = examination.answer
    if answer.status is None:
        yield skipped("no daemon answers")
        return
    status = answer.status
    for text in answer.troubles:
        yield failed(text, "the kernel may not have all that was wanted", "nodeport-nft status tells more")
    if not answer.troubles:
        past = max(time.time() - status.synced, 0.0)
        lag = f"{status.pending} to be written" if status.pending else "nothing waits"
        yield ok(f"last sync {past:,.0f} s ago, in {status.sync_seconds:.3g} s; {lag}")


def _clock(examination: Examination) -> Iterator[Finding]:
    now, fine = time.time(), True
    for what, moment in _moments(examination):
        if moment > now + _SKEW_SECONDS:
            fine = False
            yield failed(
                f"{what} is {moment - now:,.0f} s in the future, by this node's clock",
                "when endpoints failed or nodes were lost is judged wrongly, and certificates may not be valid yet",
                "chronyc makestep (or timedatectl set-ntp true), here or there",
            )
    if ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024)) == _TIME_ERROR:
        fine = False
        make = warning if is_shared(examination.config.store) else None
        if make:
            yield make(
                "no time server keeps this clock",
                "nodes of a cluster judge by their clocks when one of them is lost",
                "apt-get install chrony, or timedatectl set-ntp true",
            )
        else:
            yield ok("no time server keeps it, which is no matter for one node alone")
    if fine:
        yield ok("kept by a time server, and nothing is from the future")


def _moments(examination: Examination) -> Iterator[tuple[str, float]]:
    """Times that have passed, by whatever clock."""
    if examination.answer.status:
        yield "the daemon's last sync", examination.answer.status.synced
    config = examination.config
    if not is_shared(config.store):
        if (path := Path(config.store)).exists():
            yield f"the last write of {path}", path.stat().st_mtime
        return
    for each in examination.registered:
        yield f"what node {each.name} last wrote to its kernel", each.report.programmed


CHECKS = (
    Check("daemon", "daemon", _daemon),
    Check("sync", "last sync", _sync),
    Check("clock", "clock", _clock),
)
