"""The chains of others, read from the kernel with what they are asked about; ``forwarding`` judges them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import islice

from nodeport_nft.compile import TABLE
from nodeport_nft.compile.schema import NODE_PORTS, VIPS
from nodeport_nft.errors import KernelError
from nodeport_nft.facts import Host
from nodeport_nft.forwarding import (
    BaseChain,
    Endpoint,
    Judge,
    Listing,
    Traffic,
    Unlisted,
    base_chains,
    obstacles,
    read_legacy,
)
from nodeport_nft.kernel.host.iptables_legacy import Saved, read_saved
from nodeport_nft.kernel.host.routes import devices_to
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import Family, IPNetwork, NodeFacts
from nodeport_nft.plan import Desired
from nodeport_nft.ruleset import Dnat

_MOST_ENDPOINTS = 20_000
"""Endpoints that are asked about, of each family."""


@dataclass(frozen=True, slots=True)
class Served:
    """What this node translates: its tables as they should be, what they were made from, the host's network.

    The tables are not copied: what they hold when they are looked at counts.
    """

    tables: Mapping[Family, Desired]
    facts: NodeFacts
    host: Host


class Obstacles:
    """What keeps translated connections from their endpoints. What was read of others' chains is kept for ``again``.

    ``trusted`` are chains that the operator vouches for, as "FAMILY TABLE CHAIN". What cannot be listed, since
    somebody's table is beyond this nft, is told with the reason: it must not stop anything here.
    """

    def __init__(self, nft: Nft) -> None:
        self._nft = nft
        self._judges: tuple[Judge, ...] = ()
        self._faults: tuple[str, ...] = ()
        self._trusted: Collection[str] | None = None  # of a search without the chains of nft, for the next one
        self._out: dict[str, str] = {}
        self._host: Host | None = None

    def find(self, served: Served, trusted: Collection[str]) -> tuple[str, ...]:
        """Read the chains, and say what is in the way of these endpoints, each with its remedy."""
        saved = tuple(read_saved())
        # Who vouches for a chain of theirs has looked.
        faults = [each.fault for each in saved if each.fault and f"{each.family} filter FORWARD" not in trusted]
        try:
            chains, self._trusted = read_chains(self._nft), None
        except KernelError as error:
            chains, self._trusted = (), trusted
            words = " ".join(str(error).split())
            faults.append(f"chains of others cannot be listed, look whether they let Services through: {words}")
        self._judges = (*self._of_nft(chains, trusted), *_of_legacy(saved, trusted))
        self._faults = tuple(faults)
        return self._judged(served)

    def again(self, served: Served) -> tuple[str, ...]:
        """The same of other endpoints, where no chain has changed; those that could not be listed are tried again."""
        return self._judged(served) if self._trusted is None else self.find(served, self._trusted)

    def _judged(self, served: Served) -> tuple[str, ...]:
        judges = [judge for judge in self._judges if judge.may_drop]
        if not judges:  # as a rule: nothing is asked of the kernel then
            return self._told(served, ())
        endpoints = tuple(_endpoints(served))
        if self._host != served.host:
            self._out, self._host = {}, served.host
        wanted = {endpoint.address for endpoint in endpoints if endpoint.address}
        self._out = {address: self._out[address] for address in self._out.keys() & wanted}
        self._out |= devices_to(wanted - self._out.keys())
        return self._told(served, obstacles(judges, _traffic(served, endpoints, self._out)))

    def _told(self, served: Served, found: Iterable[str]) -> tuple[str, ...]:
        faults = (
            self._faults if any(desired.elements.get("cluster-ips") for desired in served.tables.values()) else ()
        )
        return tuple(re.sub(r"[^\x20-\x7e…]", "?", text) for text in (*found, *faults))

    def _of_nft(self, chains: Iterable[BaseChain], trusted: Collection[str]) -> Iterator[Judge]:
        for chain in chains:
            if str(chain) not in trusted and not self._nft.is_dormant(chain.family, chain.table):
                table = Table(self._nft, chain.family, chain.table)
                yield Judge(chain, Listing(table.rules, table.elements))


def _of_legacy(saved: Iterable[Saved], trusted: Collection[str]) -> Iterator[Judge]:
    for each in saved:
        chains, tables = read_legacy(each.family, each.text)
        for chain in chains:
            if str(chain) not in trusted:
                yield Judge(chain, Listing(tables[chain.table].__getitem__, _NO_SETS.__getitem__))


def read_chains(nft: Nft) -> tuple[BaseChain, ...]:
    """The base chains of others that translated packets meet. Raises KernelError."""
    # Asked without a family, so that one listing tells of all; chains alone, no element of any set.
    return base_chains(nft.list_chains(), TABLE)


def _endpoints(served: Served) -> Iterator[Endpoint]:
    """What is served, as far as it is looked at; of a family that has Services without an endpoint, any."""
    for family, desired in served.tables.items():
        found = tuple(islice(dict.fromkeys(_of_table(family, desired)), _MOST_ENDPOINTS))
        if not found and desired.elements.get("cluster-ips"):
            found = (Endpoint(family, "tcp", "", 0, "", 0),)
        yield from found


def _of_table(family: Family, desired: Desired) -> Iterator[Endpoint]:
    for (protocol, port, *_), (_, value, _) in desired.elements.get(NODE_PORTS.slots, {}).items():
        if isinstance(value, tuple):
            yield Endpoint(family, str(protocol), *value, "", int(port))
    for (asked, protocol, port, *_), (_, value, _) in desired.elements.get(VIPS.slots, {}).items():
        if isinstance(value, tuple):
            yield Endpoint(family, str(protocol), *value, str(asked), int(port))
    for chain in desired.chains.values():  # of session affinity: whatever leads there
        for rule in chain.rules:
            for statement in rule:
                if isinstance(statement, Dnat):
                    yield Endpoint(family, statement.protocol, statement.address, statement.port, "", 0)


def _uplinks(served: Served) -> dict[Family, tuple[str, ...]]:
    """The devices by which clients outside come: those of the default routes and of the node's own addresses."""
    wanted = {*served.host.sources, *served.facts.addresses}
    return {
        family: tuple(
            dict.fromkeys(
                held.interface
                for held in served.host.addresses
                if held.address in wanted and held.address.version == family
            )
        )
        for family in Family
    }


def _traffic(served: Served, endpoints: Iterable[Endpoint], out: Mapping[str, str]) -> Traffic:
    uplinks = _uplinks(served)
    nodes = {family: tuple(str(ip) for ip in served.facts.node_port_ips if ip.version == family) for family in Family}
    inside = {family: tuple(_inside(served, family, uplinks[family])) for family in Family}
    return Traffic(endpoints, out, uplinks, nodes, inside)


def _inside(served: Served, family: Family, uplinks: Collection[str]) -> Iterator[IPNetwork]:
    """The networks of which nobody is who comes by an uplink: those on other devices, and those of pods.

    A network on another device is one that the host itself has an address in, or a single address. A wide one that
    holds what is routed by an uplink says nothing.
    """
    yield _LOOPBACK[family]
    yield from (cidr for cidr in served.facts.pod_cidrs if cidr.version == family)
    routes = [route for route in served.host.routes if route.prefix.version == family]
    outside = [route.prefix for route in routes if route.interface in uplinks]
    for route in routes:
        prefix = route.prefix
        if route.interface in uplinks or any(each.subnet_of(prefix) for each in outside):  # type: ignore[arg-type]
            continue
        held = (each.address in prefix for each in served.host.addresses if each.interface == route.interface)
        if prefix.prefixlen == prefix.max_prefixlen or (prefix.prefixlen >= _WIDEST and any(held)):
            yield prefix


_LOOPBACK: Mapping[Family, IPNetwork] = {Family.IPV4: ip_network("127.0.0.0/8"), Family.IPV6: ip_network("::1/128")}

_WIDEST = 8
"""Bits of the widest network that is one: halves of all there is lead into a tunnel."""


class Table:
    """The rules and the sets of one table, as nft lists them."""

    def __init__(self, nft: Nft, family: str, name: str) -> None:
        self._nft = nft
        self._family = family
        self._name = name

    def rules(self, chain: str) -> Iterable[str]:
        """The rules of a chain, a line each. Raises Unlisted."""
        lines = (line.strip() for line in self._listed(self._nft.list_chain, chain).splitlines())
        return [line for line in lines if line and not line.startswith(_NO_RULE)]

    def elements(self, name: str) -> str:
        """The listing of a set, or of a map. Raises Unlisted."""
        return self._listed(self._nft.list_set, name)

    def _listed(self, how: Callable[[str, str, str], str], name: str) -> str:
        if not (_NAME.fullmatch(name) and _NAME.fullmatch(self._name)):
            # It must not be put into a command.
            raise Unlisted(f"'{self._family} {self._name} {name}' is no name in nft's language")
        try:
            return how(self._family, self._name, name)
        except KernelError as error:
            raise Unlisted(str(error)) from error


_NO_SETS: Mapping[str, str] = {}
_NAME = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)
_NO_RULE = ("table ", "chain ", "type ", "policy ", "}", "#", 'comment "')
