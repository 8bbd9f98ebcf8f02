"""All that kube-proxy has left on a node, of whatever mode it had."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from msgspec import Struct, field

from nodeport_nft.kernel.host.kube_proxy.ipvs import IpvsRemains, find_ipvs, remove_ipvs
from nodeport_nft.kernel.host.kube_proxy.legacy import LegacyRemains, find_legacy, remove_legacy
from nodeport_nft.kernel.host.kube_proxy.nftables import NftRemains, find_nft
from nodeport_nft.model import PortRange


class Remains(Struct, frozen=True):
    """What there is; true where anything can go."""

    nft: NftRemains = field(default_factory=NftRemains)
    legacy: tuple[LegacyRemains, ...] = ()
    ipvs: IpvsRemains = field(default_factory=IpvsRemains)

    def __bool__(self) -> bool:
        return bool(self.nft or any(self.legacy) or self.ipvs)

    def __iter__(self) -> Iterator[str]:
        """Each in words."""
        return chain(self.nft, *self.legacy, self.ipvs)

    def others(self) -> Iterator[str]:
        """Of what cannot go, or is not known, why."""
        return chain(self.nft.others(), *(each.others() for each in self.legacy))

    def remove_beside(self) -> None:
        """Delete what is no part of nftables, in the order in which one needs the other. Raises KernelError."""
        for each in self.legacy:
            if each:
                remove_legacy(each)
        if self.ipvs:
            remove_ipvs(self.ipvs)


def find_remains(node_ports: PortRange) -> Remains:
    """All that there is. Raises KernelError."""
    return Remains(find_nft(), find_legacy(), find_ipvs(node_ports))
