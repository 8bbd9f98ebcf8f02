"""Who hears of what a command has stored: where no daemon does, a person at a terminal is told what to do next.

`apply` prints "created", as kubectl does, and a newcomer takes that for a Service that answers. Scripts, and whoever
cannot program this node (no root, no CAP_NET_ADMIN, as in a container that fills a store for others), hear nothing.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nodeport_nft.cli.options import say

if TYPE_CHECKING:
    from nodeport_nft.cli.listing import Listing
    from nodeport_nft.config import Config

_UNITS = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")


def say_why_unknown(config: Config, tables: Iterable[Listing]) -> None:
    """Say on a terminal why ``get nodes`` cannot tell how nodes of a file are: nothing reports there.

    etcd has what daemons report, and an API server what kubelets do.
    """
    from nodeport_nft.store import is_shared

    if sys.stderr is None or not sys.stderr.isatty() or is_shared(config.store):
        return
    nodes = [row for each in tables if each.resource.kind == "Node" for row in each.rows]
    if any(cell.partition(",")[0] == "Unknown" for row in nodes for cell in row[2:3]):
        say("Unknown: no daemon and no kubelet reports to a file; nodeport-nft status asks this node's daemon")


def tell_if_unheard(config: Config) -> None:
    """Say in one line on a terminal if no daemon takes to the kernel what this store has just been given.

    A store that nodes share is given things from where no node is; of those that follow it the store itself knows,
    where they register with it.
    """
    from nodeport_nft.store import is_shared

    if sys.stderr is None or not sys.stderr.isatty():
        return
    if is_shared(config.store):
        _tell_if_no_node_is_alive(config)
        return
    if not _may_program():
        return
    from nodeport_nft.config import Config as Defaults
    from nodeport_nft.errors import KernelError
    from nodeport_nft.kernel.host.node_lock import daemon_pid, daemons_elsewhere

    try:
        pid, elsewhere = daemon_pid(config.run_dir), daemons_elsewhere(config.run_dir)
    except KernelError:
        return  # it cannot be known
    if any(_follows(other, config.store) for other in elsewhere):
        return  # the store is that of another network namespace, and not this node's to be programmed from
    if pid is not None:
        followed = "" if _follows(pid, config.store) else next(iter(sorted(_stores(pid))), "")
        if followed:
            say(
                f"the daemon of this node (pid {pid}) follows the store {followed}, so nothing of this is in the "
                "kernel: name that store with --store, or start the daemon with this one"
            )
        return
    own = config.store == Defaults().store
    option = "" if own else f" --store {shlex.quote(config.store)}"
    lasting = "systemctl start nodeport-nft" if own and _has_unit() else f"nodeport-nft sync{option}"
    say(
        "no daemon programs this node, so nothing of this is in the kernel yet: "
        f"run nodeport-nft sync --once{option}, or the daemon: {lasting}"
    )


def _tell_if_no_node_is_alive(config: Config) -> None:
    from nodeport_nft.store import StoreError, open_members

    members = open_members(config)
    if members is None:  # an API server, with which none of our nodes registers
        return
    with closing(members), suppress(StoreError):  # what was to be done is done
        if not any(one.is_alive for one in members.list()):
            say(
                f"no node of {config.store} is alive, so nothing of this is in any kernel yet: "
                "start nodeport-nft sync on one"
            )


def _has_unit() -> bool:
    """Whether contrib/systemd's service is installed (systemd.unit(5), "Unit File Load Path")."""
    return any(Path(place, "nodeport-nft.service").exists() for place in _UNITS)


def _may_program() -> bool:
    """Whether this process is root's and may write to nftables."""
    from nodeport_nft.kernel.netlink.messages import may_administer

    with suppress(OSError):
        return os.geteuid() == 0 and may_administer()
    return False


def _follows(pid: int, store: str) -> bool:
    """Whether a daemon has this store open."""
    with suppress(OSError):
        ours = Path(store).stat()
        return any(os.path.samestat(found, ours) for _, found in _opened(pid))
    return False


def _stores(pid: int) -> set[str]:
    """The stores that a daemon has open, as far as that can be seen: each together with its log, ``-wal``."""
    names = {name for name, _ in _opened(pid)}
    return {name for name in names if f"{name}-wal" in names}


def _opened(pid: int) -> Iterator[tuple[str, os.stat_result]]:
    """The files that a process has open."""
    with suppress(OSError):  # it is of another pid namespace, or has ended
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                yield str(descriptor.readlink()), descriptor.stat()
