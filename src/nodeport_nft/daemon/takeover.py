"""In kube-proxy's place: what it has left is removed once our own tables are in force, and told where it may not be.

Both translate in nat chains of the same hooks and priorities. Among those the kernel asks first who came last, and
the first translation counts for all of a connection. So from our first sync on new connections are translated by us,
and what kube-proxy has left can go at any time: connections that it has translated are connection tracking's, and go
on. A kube-proxy that starts later comes before us in the same way, which is how one goes back.

While one runs, nothing is removed: it would write it again. Where none can be seen and its table is back all the
same, that is told, and it is removed again at the next full check at the earliest: we fight nobody in a loop.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from nodeport_nft.daemon.kernel_tables import KernelTables
from nodeport_nft.daemon.node import ThisNode
from nodeport_nft.daemon.telling import Report
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.host.kube_proxy.nftables import NftRemains, find_nft, has_nft
from nodeport_nft.kernel.host.kube_proxy.remains import Remains, find_remains
from nodeport_nft.kernel.host.kube_proxy.running import running
from nodeport_nft.store.kubernetes.connection import is_kubernetes

_WHERE = "kube-proxy"
_STOP = "stop it (kubectl -n kube-system delete daemonset kube-proxy, or a node selector in it that fits no node)"


class Takeover:
    """Looks after what kube-proxy has left. To be asked after the first sync that has succeeded, and not before."""

    def __init__(self, tables: KernelTables, node: ThisNode, report: Report) -> None:
        self._tables = tables
        self._node = node
        self._report = report
        self._may_remove = self._looks_everywhere = True
        self._was_removed = False
        self._last = Remains()
        self._stays: tuple[str, ...] = ()

    def look(self, refused: Collection[object] = ()) -> None:
        """Remove what there is, or tell what keeps it. To be called now and then.

        ``refused``: Services that the kernel does not take from us, which what is there may serve still.
        """
        config = self._node.config
        if not (config.replace_kube_proxy or is_kubernetes(config.store)):
            self._report.problems(_WHERE, ())
            return
        try:
            self._report.problems(_WHERE, self._looked(replaces=config.replace_kube_proxy, refused=len(refused)))
        except KernelError as error:
            self._report.problems(_WHERE, (), [f"what kube-proxy has left cannot be removed: {error}"])

    def again(self) -> None:
        """Remove at the next look what may have come back: at a full check, or since somebody asks for it."""
        self._may_remove = self._looks_everywhere = True

    def _looked(self, *, replaces: bool, refused: int) -> list[str]:
        """What keeps it from being removed. Raises KernelError."""
        pids = running()
        remains = self._found(everywhere=self._looks_everywhere and not pids)
        here = ", ".join(remains)
        if pids:
            self.again()  # once it has ended
            numbers = ", ".join(map(str, pids))
            beside = f"kube-proxy runs beside this program (process {numbers}), and whoever started last translates"
            return [
                f"{beside}: {_STOP}{f'; what it has left is removed then ({here})' if replaces and remains else ''}"
            ]
        self._looks_everywhere = False
        if not remains:
            self._may_remove = False
            return [*dict.fromkeys((*self._stays, *remains.others()))]
        if not replaces:
            told = (
                f"kube-proxy has left {here}, which comes first for new connections where it was written after ours"
            )
            return [f"{told}; add --replace-kube-proxy, or run kube-proxy --cleanup, once none runs here any more"]
        if refused:
            count = f"{refused} Service{'s' * (refused > 1)}"
            told = f"kube-proxy has left {here}, which stays as long as the kernel refuses {count} of ours"
            return [f"{told}: see what is told of them"]
        if self._was_removed and not self._may_remove:
            told = f"kube-proxy has written {here} again since it was removed, and comes first for new connections"
            when = "then send this program SIGHUP, or wait for its next full check"
            return [f"{told}: it runs where this program cannot see it; {_STOP}, {when}"]
        self._remove()
        return [*self._stays]

    def _found(self, *, everywhere: bool) -> Remains:
        """What there is; but ``everywhere``, nftables alone is asked, and what is there still is not counted again.

        All rules of iptables are read for that, a hundred thousand of them where there are 10,000 Services.
        """
        if everywhere:
            self._last = find_remains(self._node.config.ranges.node_ports)
        elif not has_nft():
            self._last = replace(self._last, nft=NftRemains())
        elif not self._last.nft:
            self._last = replace(self._last, nft=find_nft())
        return self._last

    def _remove(self) -> None:
        found = self._found(everywhere=True)
        self._tables.remove_kube_proxy(found)
        self._may_remove, self._was_removed = False, True
        self._last, self._stays = Remains(), tuple(found.others())
        self._report.kube_proxy_removed(tuple(found))
