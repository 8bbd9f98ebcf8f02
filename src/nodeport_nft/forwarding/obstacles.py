"""Which chains of others stop the connections that are translated here, and what lets them through."""

from __future__ import annotations

import bisect
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct, field

from nodeport_nft.forwarding.chains import FAMILIES, BaseChain
from nodeport_nft.forwarding.packet import Endpoint, Packet
from nodeport_nft.forwarding.remedies import Remedy, remedies
from nodeport_nft.forwarding.rules import Known, Rule, read_rule
from nodeport_nft.forwarding.values import ABSENT, Values
from nodeport_nft.forwarding.walk import Budget, Cause, Fate, Spent, Walk, Ways, rules_of
from nodeport_nft.model import Family, IPNetwork

_MOST_LOOKS = 300_000
"""Rules that are looked at for all packets together: about a second."""

_MOST_RULES = 20_000
"""Rules that are read of one base chain and what it leads to; behind them, nothing is known."""

_NAMED = 3
"""Endpoints that are named; the others are counted. As many rules of one base chain are named."""

_MOST_TOLD = 30
"""What is said of chains at most, or little more; behind it, they are counted."""

_RULE_LENGTH = 160
_REASON_LENGTH = 600


_SOME = tuple(Packet(family, "", "", "tcp", 0, 0, (0,), 0) for family in Family)


class Unlisted(LookupError):
    """A chain or a set that cannot be listed; ``str()`` says why."""


class Listing(Struct, frozen=True):
    """The table of a base chain as the kernel has it: the rules of its chains, the listings of its sets, by name.

    Both raise LookupError where there are none to be had, ``Unlisted`` where it is known why.
    """

    rules: Callable[[str], Iterable[str]]
    sets: Callable[[str], str]


class Traffic(Struct, frozen=True):
    """What is translated: to these endpoints, by these devices.

    ``out`` is the device that leads to an address, "" for one of this host; an address that none leads to is not in
    it. ``uplinks`` are the devices by which clients outside come, by family. ``nodes`` are the addresses that serve
    nodePorts, none where that may be any; ``inside`` are networks of which no client by an uplink is.
    """

    endpoints: Iterable[Endpoint]
    out: Mapping[str, str]
    uplinks: Mapping[Family, Sequence[str]]
    nodes: Mapping[Family, Sequence[str]] = field(default_factory=dict)
    inside: Mapping[Family, Sequence[IPNetwork]] = field(default_factory=dict)


class _Stop(Struct):
    """What one rule of a base chain does to endpoints."""

    ways: Ways
    cause: Cause | None
    unsure: bool
    packet: Packet
    endpoints: list[Endpoint] = field(default_factory=list)
    devices: set[str] = field(default_factory=set)
    uplinks: set[str] = field(default_factory=set)


class Judge:
    """Asks one base chain about packets. Its rules are read once, however many packets there are."""

    def __init__(self, chain: BaseChain, listing: Listing) -> None:
        self.chain = chain
        self._listing = listing
        self._rules: dict[str, tuple[Rule, ...]] = {}
        self._known: Known = {}
        self._unread: set[str] = set()
        self._reasons: dict[str, str] = {}  # why a chain (``rules_of``) or a set ("@name") cannot be read
        self._explore()
        self._masked: set[str] = set()
        self._bounds = self._all_bounds()
        self._devices = self._device_values()

    @property
    def may_drop(self) -> bool:
        """Whether anything here can drop a packet at all."""
        if self.chain.drops or self._unread:
            return True
        verdicts = (
            verdict
            for rules in self._rules.values()
            for rule in rules
            for verdict in (rule.vmap.elements().verdicts() if rule.vmap else (rule.verdict,))
        )
        strange = any(
            rule.vmap and rule.vmap.elements().is_strange for rules in self._rules.values() for rule in rules
        )
        return strange or any(verdict.word in ("drop", "queue") for verdict in verdicts)

    def ways(self, packet: Packet, budget: Budget) -> Ways:
        """What becomes of a packet: accepted or dropped, the policy included. Raises Spent."""
        return self._walk(packet, budget, self._of)

    def helps(self, remedy: Remedy, packet: Packet, budget: Budget) -> bool:
        """Whether the packet is accepted for sure once this remedy is in place. Raises Spent."""
        accepting = read_rule("ct status dnat accept", self._set)

        def rules(name: str) -> tuple[Rule, ...]:
            return (accepting, *self._of(name)) if name == remedy.chain else self._of(name)

        return Fate.DROPPED not in self._walk(packet, budget, rules).possible

    def remedy(self, packet: Packet, budget: Budget) -> Remedy:
        """The best that helps this packet. Raises Spent."""
        found = tuple(remedies(self.chain, frozenset(self._rules)))
        return next((remedy for remedy in found if self.helps(remedy, packet, budget)), found[-1])

    def key(self, packet: Packet) -> tuple[object, ...]:
        """What of a packet these rules can tell from another's: as many walks are enough."""
        return (
            packet.family,
            self._device("iif", packet.iif),
            self._device("oif", packet.oif),
            packet.local,
            packet.protocol,
            self._between("daddr", packet.daddr),
            self._between("dport", packet.dport),
            *(self._between("asked", address) for address in packet.asked),
            self._between("asked port", packet.asked_port),
        )

    def _between(self, name: str, value: int | None) -> int | None:
        """Between which of the numbers that rules name this one is; it itself where they ask for some of its bits."""
        return value if value is None or name in self._masked else bisect.bisect(self._bounds[name], value)

    def _walk(self, packet: Packet, budget: Budget, rules: Callable[[str], tuple[Rule, ...]]) -> Ways:
        walk = Walk(
            rules, packet.at(self.chain.hook), budget, compat=self.chain.family != "inet" and not self.chain.legacy
        )
        try:
            found = walk.through(self.chain.name)
        except LookupError:
            doubt = Cause(self.chain.name, "", rules_of(self.chain.name))
            found = Ways(Fate.ON, {Fate.ON: None, Fate.ACCEPTED: doubt, Fate.DROPPED: doubt}, doubt)
        policy = Fate.DROPPED if self.chain.drops else Fate.ACCEPTED
        ways = Ways(policy if found.default is Fate.ON else found.default, cause=found.cause)
        for fate, cause in found.possible.items():
            ways.add(policy if fate is Fate.ON else fate, cause)
        return ways

    def reason(self, doubt: str) -> str:
        """Why what a cause doubts cannot be read, in brackets; "" where it can, or where that is not known."""
        known = (self._reasons[what] for what in (doubt, *doubt.split()) if what in self._reasons)
        why = " ".join(next(known, "").split())
        return f" ({_cut(why, _REASON_LENGTH)})" if why else ""

    def _set(self, name: str) -> str:
        try:
            return self._listing.sets(name)
        except Unlisted as error:
            self._reasons[f"@{name}"] = str(error)
            raise

    def _of(self, name: str) -> tuple[Rule, ...]:
        if name not in self._rules:
            raise LookupError(name)
        return self._rules[name]

    def _explore(self) -> None:
        """Read the base chain's rules and those of all chains that it may lead to."""
        waiting, read = [self.chain.name], 0
        while waiting:
            name = waiting.pop()
            if name in self._rules or name in self._unread:
                continue
            try:
                lines = list(self._listing.rules(name))
            except LookupError as error:
                self._unread.add(name)
                self._reasons[rules_of(name)] = str(error) if isinstance(error, Unlisted) else ""
                continue
            read += len(lines)
            if read > _MOST_RULES:
                self._unread.add(name)
                self._reasons[rules_of(name)] = f"more than {_MOST_RULES:,} rules are too many to be looked through"
                continue
            self._rules[name] = tuple(read_rule(line, self._set, self._known) for line in lines)
            for rule in self._rules[name]:
                waiting += rule.targets()

    def _all_bounds(self) -> Mapping[str, list[int]]:
        found: dict[str, set[int]] = defaultdict(set)
        for name, values in self._values():
            if name.endswith(" masked"):
                self._masked.add(name.removesuffix(" masked"))
            elif name in ("daddr", "dport", "asked", "asked port"):
                found[name].update(values.bounds())
        return {name: sorted(found[name]) for name in ("daddr", "dport", "asked", "asked port")}

    def _device_values(self) -> Mapping[str, tuple[frozenset[str], tuple[str, ...]]]:
        words: dict[str, set[str]] = defaultdict(set)
        prefixes: dict[str, set[str]] = defaultdict(set)
        for name, values in self._values():
            words[name] |= values.words
            prefixes[name].update(values.prefixes)
        return {name: (frozenset(words[name]), tuple(sorted(prefixes[name]))) for name in ("iif", "oif")}

    def _values(self) -> Iterable[tuple[str, Values]]:
        seen: set[int] = set()  # the elements of named sets belong to many rules
        for rules in self._rules.values():
            for rule in rules:
                for condition in (*rule.conditions, *((rule.vmap,) if rule.vmap else ())):
                    fields = getattr(condition, "fields", ())
                    if all(of.read(some) in (None, ABSENT) for of in fields for some in _SOME):
                        continue  # a blocklist of sources may be long, and is never asked
                    elements = condition.elements()
                    if elements is not None and id(elements) not in seen:
                        seen.add(id(elements))
                        for of, values in elements.values():
                            yield of.name, values

    def _device(self, name: str, device: str | None) -> object:
        if device is None:
            return None
        words, prefixes = self._devices[name]
        return device if device in words else tuple(device.startswith(prefix) for prefix in prefixes)


def obstacles(judges: Iterable[Judge], traffic: Traffic) -> tuple[str, ...]:
    """What an operator should know of these chains, each with its remedy."""
    judges = [judge for judge in judges if judge.may_drop]
    if not judges:
        return ()
    budget = Budget(_MOST_LOOKS)
    inside = {
        family: tuple((int(each[0]), int(each[-1])) for each in networks)
        for family, networks in traffic.inside.items()
        if traffic.uplinks.get(family)
    }
    packets = [
        (
            endpoint,
            Packet.to(
                endpoint,
                iif=uplink,
                oif=traffic.out.get(endpoint.address),
                nodes=traffic.nodes.get(endpoint.family, ()),
                inside=inside.get(endpoint.family, ()),
            ),
        )
        for endpoint in dict.fromkeys(traffic.endpoints)
        if endpoint.address in traffic.out or not endpoint.address
        for uplink in traffic.uplinks.get(endpoint.family) or (None,)
    ]
    found: list[str] = []
    more = 0
    for judge in judges:
        try:
            said = _told(judge, packets, budget)
            if len(found) < _MOST_TOLD:
                found += said
            else:
                more += bool(said)
        except Spent:
            found.append(
                f"chain {judge.chain.where} cannot be judged: it has too many rules, or too large sets, for "
                "so many endpoints; look whether it lets Services through, and list it under trustedChains in the "
                "configuration"
            )
            break
    if more:
        found.append(
            f"{more} more chain{'s' * (more > 1)} of others may stop Services; let them through in the same way, nft "
            "list chains shows all"
        )
    return tuple(found)


def _told(judge: Judge, packets: Sequence[tuple[Endpoint, Packet]], budget: Budget) -> list[str]:
    """What is said of one base chain."""
    chain = judge.chain
    known: dict[tuple[object, ...], Ways] = {}
    stops: dict[tuple[Cause | None, bool], _Stop] = {}
    met: set[Endpoint] = set()
    for endpoint, packet in packets:
        if endpoint.family not in FAMILIES[chain.family] or not chain.meets(local=packet.local):
            continue
        met.add(endpoint)
        key = judge.key(packet)
        if key not in known:
            known[key] = judge.ways(packet, budget)
        ways = known[key]
        unsure = ways.default is not Fate.DROPPED
        cause = ways.possible.get(Fate.DROPPED) if unsure else ways.cause
        if unsure and not (cause and cause.doubt):
            continue
        stop = stops.setdefault((cause, unsure), _Stop(ways, cause, unsure, packet))
        stop.endpoints.append(endpoint)
        stop.devices.add(packet.oif or "")
        stop.uplinks.add(packet.iif or "")
    places = len({_place(endpoint) for endpoint in met})
    said = [_say(judge, stop, places, judge.remedy(stop.packet, budget)) for stop in stops.values()]
    if len(said) > _NAMED:
        more = len(said) - _NAMED
        said[_NAMED:] = [f"chain {chain.where} has {more} more rule{'s' * (more > 1)} that drop"]
    return said


def _say(judge: Judge, stop: _Stop, met: int, remedy: Remedy) -> str:
    chain, cause = judge.chain, stop.cause
    helping = f"{remedy.command} (or list the chain under trustedChains in the configuration)"
    kept = f"; {remedy.kept}" if remedy.kept else ""
    whom = _whom(stop, met)
    begin = f"chain {chain.where}"
    if stop.unsure:
        assert cause is not None
        rule = f" in {_rule(chain, cause)}" if cause.rule and cause.rule != cause.doubt else ""
        return (
            f"{begin} cannot be judged: whether Services answer ({whom}) depends on "
            f"'{_cut(cause.doubt)}'{judge.reason(cause.doubt)}{rule}; "
            f"if they do not, let them through: {helping}{kept}"
        )
    does = "drops by default" if cause is None or not cause.rule else f"drops or rejects by {_rule(chain, cause)}"
    if cause is not None and not cause.rule and cause.doubt:
        but = f"its rules cannot be read{judge.reason(cause.doubt)}"
    elif len(stop.ways.possible) > 1:
        but = "accepts only some connections"
    else:
        but = "accepts no translated connections"
    return f"{begin} {does} and {but}, so Services may not answer ({whom}); let them through: {helping}{kept}"


def _rule(chain: BaseChain, cause: Cause) -> str:
    inside = f" of chain {cause.chain}" if cause.chain != chain.name else ""
    return f"the rule '{_cut(cause.rule)}'{inside}"


def _whom(stop: _Stop, met: int) -> str:
    """The endpoints concerned, the first of them by name."""
    if not any(endpoint.address for endpoint in stop.endpoints):
        return "they have no endpoint yet"
    texts = list(dict.fromkeys(_place(endpoint) for endpoint in stop.endpoints))
    shown = ", ".join(texts[:_NAMED]) + (f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else "")
    devices = sorted(device for device in stop.devices if device)
    by = f" by {', '.join(devices[:_NAMED])}{', …' if len(devices) > _NAMED else ''}" if devices else " on this host"
    share = "every endpoint" if len(texts) == met else f"{len(texts)} of {met} endpoints"
    return f"{share}: {shown}{by}"


def _place(endpoint: Endpoint) -> str:
    return f"{endpoint}" + (f"/{endpoint.protocol.upper()}" if endpoint.protocol != "tcp" else "")


def _cut(text: str, longest: int = _RULE_LENGTH) -> str:
    text = re.sub(r"[^\x20-\x7e]", "?", text)
    return text if len(text) <= longest else f"{text[:longest]}…"
