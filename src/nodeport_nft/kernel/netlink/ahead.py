"""Large tables read in a second process, while this one reads the store.

At a start both have to be read, and each keeps one processor busy: a hundred thousand Services, 4.5 s for either.
Threads would take turns. So ``python -m nodeport_nft.kernel.netlink.ahead`` reads the tables, in the network
namespace of its parent; the elements come back packed, which takes a tenth of the time that reading them does.

It is a short cut and nothing else. Whoever asks for what was read gets nothing where the process could not be
started or has failed, where the tables are to be of another schema than was thought, or where somebody has committed
meanwhile, and reads the tables himself then.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from nodeport_nft.compile import TABLE
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink.dumps import dump, open_netlink, settled
from nodeport_nft.kernel.netlink.layouts import LIST_TABLE, NFNL_SUBSYS_NFTABLES
from nodeport_nft.kernel.netlink.messages import BODY, attribute, find
from nodeport_nft.kernel.netlink.tables import SET_COUNT, read_table
from nodeport_nft.plan import ListedTable
from nodeport_nft.ruleset import Schema

WORTH_IT = 100_000
"""Elements from which on a process of its own is: starting it takes as long as reading half as many."""

_GETSET = NFNL_SUBSYS_NFTABLES << 8 | 10
_READ_SECONDS = 60.0  # until the process is given up; half a million elements take it 5 s
_END_SECONDS = 10.0

Tables = Sequence[ListedTable | None]


def is_worth_it(netlink: socket.socket) -> bool:
    """Whether our tables hold very much, as the kernel tells (NFTA_SET_COUNT), and there is a second processor.

    Raises OSError.
    """
    if len(os.sched_getaffinity(0)) < 2:
        return False
    naming = attribute(LIST_TABLE, TABLE.encode() + b"\0")
    count = 0
    for family in (socket.AF_INET, socket.AF_INET6):
        for data in dump(netlink, _GETSET, int(family), naming, None):
            count += int.from_bytes(data[slice(*find(data, BODY, len(data), SET_COUNT))], "big")
    return count >= WORTH_IT


class ReadAhead:
    """The tables of these schemas, as they are being read in another process.

    Raises OSError where there is none, or netlink is missing.
    """

    def __init__(self, netlink: socket.socket, schemas: Sequence[Schema]) -> None:
        self._netlink = netlink
        self._schemas = tuple(schemas)
        self._begun = settled(netlink)
        # S603: what is run is this very interpreter and a module of our own.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "nodeport_nft.kernel.netlink.ahead"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as given:  # it has failed: `tables` says so
            pickle.dump(self._schemas, given)

    def tables(self, schemas: Sequence[Schema]) -> Tables | None:
        """What the tables of these schemas hold, waited for; None where that is not known. Once. Raises OSError."""
        try:
            if tuple(schemas) != self._schemas:
                return None
            assert self._process.stdout is not None
            waiting = select.poll()  # it reads all there is before it says anything
            waiting.register(self._process.stdout, select.POLLIN)
            if not waiting.poll(_READ_SECONDS * 1000):
                return None
            # S301: it comes from a process of our own making.
            tables: Tables = pickle.load(self._process.stdout)  # noqa: S301
        except (EOFError, pickle.UnpicklingError):
            return None
        finally:
            self.close()
        return tables if settled(self._netlink) == self._begun else None

    def close(self) -> None:
        """End the process, whatever it is at."""
        if self._process.stdout:
            self._process.stdout.close()
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)


def main() -> None:
    """Read what the parent names, and give it back."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        # It takes as much memory as the daemon has for the tables: where there is too little, it goes, and no other.
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    # S301: it comes from our own parent.
    schemas: Sequence[Schema] = pickle.load(sys.stdin.buffer)  # noqa: S301
    with open_netlink() as netlink:
        tables = [read_table(netlink, schema) for schema in schemas]
    pickler = pickle.Pickler(sys.stdout.buffer, pickle.HIGHEST_PROTOCOL)
    pickler.fast = True  # it need not remember what it has written: nothing of a listing comes twice
    pickler.dump(tables)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        main()
    except (KernelError, OSError, MemoryError):
        os._exit(1)
    os._exit(0)  # what is left of it need not be taken apart
