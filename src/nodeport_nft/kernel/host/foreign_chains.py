"""The chains of others, read from the kernel with what they are asked about; ``forwarding`` judges them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from ipaddress import ip_network

from msgspec import Struct
from msgspec.structs import replace

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
from nodeport_nft.kernel.netlink.others import read_base_chains
from nodeport_nft.kernel.nft import BeyondUs, Nft
from nodeport_nft.model import Family, IPNetwork, NodeFacts
from nodeport_nft.plan import Desired
from nodeport_nft.ruleset import Dnat

_MOST_ENDPOINTS = 20_000
"""Endpoints that are asked about, of each family."""


class Served(Struct, frozen=True):
    """What this node translates: its tables as they should be, what they were made from, the host's network.

    The tables are not copied: what they hold when they are looked at counts.
    """

    tables: Mapping[Family, Desired]
    facts: NodeFacts
    host: Host


class Question(Struct, frozen=True):
    """What the chains are asked: whether they are in the way of these endpoints, as the node is.

    ``serves``: there are Services. It is a copy, to be answered while the tables change.
    """

    endpoints: tuple[Endpoint, ...]
    serves: bool
    facts: NodeFacts
    host: Host


def unseen(error: KernelError) -> str:
    """The problem that nothing is known of them."""
    return f"chains of others cannot be looked at: {error}"


class Obstacles:
    """What keeps translated connections from their endpoints: ``read`` the chains, ``ask``, and ``answer``.

    What was read is kept for the next question. ``read`` and ``answer`` may take long, the first some half a minute;
    any one thread at a time may call them, and ``legacy_changed``. ``failed``: something could not be read that may
    be the next time.

    ``trusted`` are chains that the operator vouches for, as "FAMILY TABLE CHAIN". What cannot be listed, since
    somebody's table is beyond this nft, is told with the reason: it must not stop anything here.
    """

    def __init__(self, nft: Nft) -> None:
        self._nft = nft
        self._judges: tuple[Judge, ...] = ()
        self._faults: tuple[str, ...] = ()
        self._tables = Tables(nft)
        self._legacy: list[bytes] = []  # what it had when it was read
        self._out: dict[str, str] = {}
        self._host: Host | None = None

    def find(self, served: Served, trusted: Collection[str]) -> tuple[str, ...]:
        """Read the chains, and say what is in the way of what is served, each with its remedy."""
        self.read(trusted)
        return self.answer(self.ask(served))

    def between(self, source: str, question: Question, trusted: Collection[str]) -> tuple[str, ...]:
        """Read the chains, and say what is in the way from a source elsewhere to these endpoints alone."""
        self.read(trusted)
        endpoints = question.endpoints
        out = devices_to({source, *(endpoint.address for endpoint in endpoints)}) if self._judges else {}
        traffic = _traffic(question, out)
        if device := out.get(source):
            family = endpoints[0].family
            is_outside = device in traffic.uplinks[family]
            traffic = replace(traffic, uplinks={family: (device,)}, inside=traffic.inside if is_outside else {})
        return _printable((*obstacles(self._judges, traffic), *self._faults))

    @property
    def failed(self) -> bool:
        """Whether it pays to read them again although nobody has changed them."""
        return self._tables.failed

    def read(self, trusted: Collection[str]) -> None:
        """Read the chains, with all that they lead to."""
        saved = tuple(read_saved())
        self._legacy = [each.digest() for each in saved]
        # Who vouches for a chain of theirs has looked.
        faults = [each.fault for each in saved if each.fault and f"{each.family} filter FORWARD" not in trusted]
        tables = self._tables = Tables(self._nft)
        try:
            chains = read_chains()
        except KernelError as error:
            chains, tables.failed = (), True
            words = " ".join(str(error).split())
            faults.append(f"chains of others cannot be listed, look whether they let Services through: {words}")
        judges = (*self._of_nft(chains, tables, trusted), *_of_legacy(saved, trusted))
        self._judges = tuple(judge for judge in judges if judge.may_drop)
        self._faults = tuple(faults)

    def legacy_changed(self) -> bool:
        """Whether the old iptables has other rules by now, of which no event tells, or can be read at last."""
        return [each.digest() for each in read_saved()] != self._legacy

    def ask(self, served: Served) -> Question:
        """The question about what is served now; without endpoints where nothing can drop a packet, as a rule."""
        endpoints = tuple(served_endpoints(served)) if self._judges else ()
        serves = any(desired.elements.get("cluster-ips") for desired in served.tables.values())
        return Question(endpoints, serves, served.facts, served.host)

    def answer(self, question: Question) -> tuple[str, ...]:
        """What is in the way, each with its remedy, and what is not known."""
        faults = self._faults if question.serves else ()
        if not self._judges:  # nothing is asked of the kernel then
            return _printable(faults)
        if self._host != question.host:
            self._out, self._host = {}, question.host
        wanted = {endpoint.address for endpoint in question.endpoints if endpoint.address}
        self._out = {address: self._out[address] for address in self._out.keys() & wanted}
        self._out |= devices_to(wanted - self._out.keys())
        return _printable((*obstacles(self._judges, _traffic(question, self._out)), *faults))

    def _of_nft(self, chains: Iterable[BaseChain], tables: Tables, trusted: Collection[str]) -> Iterator[Judge]:
        for chain in chains:
            if str(chain) not in trusted and not self._nft.is_dormant(chain.family, chain.table):
                yield Judge(chain, tables.listing(chain.family, chain.table))


def _printable(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(re.sub(r"[^\x20-\x7e…]", "?", text) for text in texts)


def _of_legacy(saved: Iterable[Saved], trusted: Collection[str]) -> Iterator[Judge]:
    for each in saved:
        chains, tables = read_legacy(each.family, each.text)
        for chain in chains:
            if str(chain) not in trusted:
                yield Judge(chain, Listing(tables[chain.table].__getitem__, _NO_SETS.__getitem__))


def read_chains() -> tuple[BaseChain, ...]:
    """The base chains of others that translated packets meet. Raises KernelError."""
    try:
        return base_chains(read_base_chains(), TABLE)
    except OSError as error:
        raise KernelError(f"nftables does not tell its chains: {error.strerror}") from error


def served_endpoints(served: Served) -> Iterator[Endpoint]:
    """What is served, as far as it is looked at; of a family that has Services without an endpoint, any."""
    for family, desired in served.tables.items():
        found: dict[Endpoint, None] = {}
        for each in _of_table(family, desired):
            found[each] = None
            if len(found) == _MOST_ENDPOINTS:  # the loop gathers them, and there may be many more
                break
        if not found and desired.elements.get("cluster-ips"):
            found = {Endpoint(family, "tcp", "", 0, "", 0): None}
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


def _uplinks(question: Question) -> dict[Family, tuple[str, ...]]:
    """The devices by which clients outside come: those of the default routes and of the node's own addresses."""
    wanted = {*question.host.sources, *question.facts.addresses}
    return {
        family: tuple(
            dict.fromkeys(
                held.interface
                for held in question.host.addresses
                if held.address in wanted and held.address.version == family
            )
        )
        for family in Family
    }


def _traffic(question: Question, out: Mapping[str, str]) -> Traffic:
    uplinks = _uplinks(question)
    addresses = question.facts.node_port_ips
    nodes = {family: tuple(str(ip) for ip in addresses if ip.version == family) for family in Family}
    inside = {family: tuple(_inside(question, family, uplinks[family])) for family in Family}
    return Traffic(question.endpoints, out, uplinks, nodes, inside)


def _inside(question: Question, family: Family, uplinks: Collection[str]) -> Iterator[IPNetwork]:
    """The networks of which nobody is who comes by an uplink: those on other devices, and those of pods.

    A network on another device is one that the host itself has an address in, or a single address. A wide one that
    holds what is routed by an uplink says nothing.
    """
    yield _LOOPBACK[family]
    yield from (cidr for cidr in question.facts.pod_cidrs if cidr.version == family)
    routes = [route for route in question.host.routes if route.prefix.version == family]
    outside = [route.prefix for route in routes if route.interface in uplinks]
    for route in routes:
        prefix = route.prefix
        if route.interface in uplinks or any(each.subnet_of(prefix) for each in outside):  # type: ignore[arg-type]
            continue
        held = (each.address in prefix for each in question.host.addresses if each.interface == route.interface)
        if prefix.prefixlen == prefix.max_prefixlen or (prefix.prefixlen >= _WIDEST and any(held)):
            yield prefix


_LOOPBACK: Mapping[Family, IPNetwork] = {Family.IPV4: ip_network("127.0.0.0/8"), Family.IPV6: ip_network("::1/128")}

_WIDEST = 8
"""Bits of the widest network that is one: halves of all there is lead into a tunnel."""


class Tables:
    """The rules and the sets of others' tables, as nft lists them.

    ``failed``: something could not be listed that may be the next time. All that is listed is bounded, however many
    base chains, rules and sets there are: whoever runs `sync --once` or `doctor` waits for it.
    """

    def __init__(self, nft: Nft) -> None:
        self._nft = nft
        self._left, self._left_text, self._left_seconds = _MOST_LISTED, _MOST_TEXT, _MOST_SECONDS
        self.failed = False

    def listing(self, family: str, table: str) -> Listing:
        """What a table holds, read when it is asked for."""
        return Listing(partial(self._rules, family, table), partial(self._elements, family, table))

    def _rules(self, family: str, table: str, chain: str) -> Iterable[str]:
        return rules_of_listing(self._listed(self._nft.list_chain, family, table, chain))

    def _elements(self, family: str, table: str, name: str) -> str:
        return self._listed(self._nft.list_set, family, table, name)

    def _listed(self, how: Callable[[str, str, str], str], family: str, table: str, name: str) -> str:
        self._left -= 1
        if self._left < 0 or self._left_text < 0:
            raise Unlisted("there are too many chains and sets to be looked through")
        if self._left_seconds < 0:
            self.failed = True
            raise Unlisted("it takes too long to list what others have")
        begun = time.monotonic()
        try:
            text = how(family, table, name)
        except BeyondUs as error:
            raise Unlisted(str(error)) from error
        except (KernelError, OSError, MemoryError) as error:
            # A want of memory or of processes is no reason to do nothing else.
            self.failed = True
            raise Unlisted(str(error) or "out of memory") from error
        finally:
            self._left_seconds -= time.monotonic() - begun
        self._left_text -= len(text)
        return text


_MOST_LISTED, _MOST_TEXT, _MOST_SECONDS = 2000, 1 << 24, 30.0
"""How many listings are asked for, and characters of them: a few seconds. No more are asked for after so many."""


def rules_of_listing(text: str) -> list[str]:
    """The rules of the chain in a listing, each as a line; what stands in quotes may have been written in several."""
    _, _, text = _QUOTED.sub(lambda quoted: quoted[0].replace("\n", " "), text).partition("\n\tchain ")
    lines = (line.strip() for line in text.partition("\n\t}")[0].split("\n")[1:])
    return [line for line in lines if line and not line.startswith(_NO_RULE)]


_QUOTED = re.compile(r'"[^"]*"')
_NO_SETS: Mapping[str, str] = {}
_NO_RULE = ("table ", "chain ", "type ", "policy ", "}", "#", 'comment "')
