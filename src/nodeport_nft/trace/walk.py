"""The walk of one packet through the NAT hooks of one table.

How the kernel walks (nf_tables_core.c, nf_nat_core.c), as far as it matters here:

* A rule's statements are carried out in order. One that does not hold breaks the rule, and what those before it did
  (a mark, say) stays; the next rule follows. A look-up that finds nothing breaks it, too.
* ``jump`` comes back to the rule behind it, ``goto`` does not: when its chain ends, the one that called the chain
  with the ``goto`` goes on. When a base chain ends, its policy accepts.
* A translation ends the hook: the NAT chains of a later priority are not asked any more.
* What comes in from elsewhere passes prerouting, then input if the destination is by now the node's, else
  postrouting. What the node sends passes output and postrouting, to itself as well; on its way in again through
  ``lo`` its connection has both translations settled, and no NAT chain is asked.

The only chance in the rules is a draw, of a slot or of a chain. A filled slot ends the hook: a draw turns k filled
slots of N into endings, k/N of the packet's probability, and goes on with the rest. A chain that is drawn has to end
the way of its part. So at any rule there is one state of the packet and the probability of its coming so far, in
exact fractions. A hash of fields that a packet here does not have (its source port) counts as a draw: one packet has
one way, packets like it have all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from fractions import Fraction

from msgspec import Struct, field
from msgspec.structs import replace

from nodeport_nft.ruleset import (
    Chain,
    Dispatch,
    Dnat,
    DnatSlot,
    Drop,
    Element,
    Established,
    Field,
    Goto,
    GotoChance,
    InSet,
    Interface,
    Jump,
    Key,
    Learn,
    Local,
    MarkFlip,
    MarkHas,
    MarkSet,
    Masquerade,
    NotIn,
    Offload,
    Reject,
    Rule,
    Statement,
    Table,
    Translated,
)
from nodeport_nft.trace.lookup import Sets
from nodeport_nft.trace.state import Flow, Then, Visit
from nodeport_nft.trace.values import (
    Fate,
    Hit,
    Outcome,
    Packet,
    Place,
    Step,
    Trace,
    TraceError,
    read_address,
    read_network,
)

DEEPEST = 16
"""Chains one inside the other, the base chain among them (NFT_JUMP_STACK_SIZE, linux/netfilter/nf_tables.h). The
kernel refuses more when it is loaded, gotos counted too, and with that every loop."""

_DNAT_HOOKS = frozenset({"prerouting", "output"})
_MASQUERADE_HOOKS = frozenset({"postrouting"})
_REJECT_HOOKS = frozenset({"prerouting", "input", "output"})


def trace(table: Table, packet: Packet, own_addresses: Collection[str]) -> Trace:
    """Every way ``packet`` can go through ``table``, which is of its family.

    ``own_addresses`` are the node's addresses (canonical text); loopback ones need not be among them. Raises
    TraceError where the table holds what this walk does not know or the kernel would refuse.
    """
    walk = _Walk(table, own_addresses)
    interface = "" if packet.from_node else packet.interface
    start = Flow(packet.source, packet.destination, packet.protocol, packet.port, interface)
    outcomes: dict[Outcome, Fraction] = defaultdict(Fraction)
    for flow, share in walk.through("output" if packet.from_node else "prerouting", start, Fraction(1)):
        if flow.fate is not None:
            outcomes[walk.outcome(flow)] += share
            continue
        second = "input" if walk.is_own(flow.destination) and not packet.from_node else "postrouting"
        for last, rest in walk.through(second, flow, share):
            outcomes[walk.outcome(last)] += rest
    told = (replace(outcome, probability=share) for outcome, share in outcomes.items())
    return Trace(packet, walk.steps(), tuple(sorted(told, key=_order)))


def _order(outcome: Outcome) -> tuple[object, ...]:
    address = read_address(outcome.destination)
    return tuple(Fate).index(outcome.fate), int(address), outcome.port, outcome.masqueraded


_Call = tuple[str, int]
_At = tuple[str, tuple[_Call, ...], str, int]
"""A rule on its way of calls: hook, chains and rules that led to it, chain, number."""


class _Tally(Struct):
    """What a Step is made of."""

    rule: Rule
    reached: Fraction = Fraction(0)
    taken: Fraction = Fraction(0)
    hits: dict[Hit, None] = field(default_factory=dict)


class _Walk:
    """One table, one packet; collects the steps of all hooks."""

    def __init__(self, table: Table, own_addresses: Collection[str]) -> None:
        self._chains = {chain.name: chain for chain in table.schema.chains} | dict(table.chains)
        self._sets = Sets(table)
        self._own = frozenset(own_addresses)
        self._tallies: dict[_At, _Tally] = {}
        self._ended: dict[Flow, Fraction] = {}

    def is_own(self, address: str) -> bool:
        """Whether the node itself has this address."""
        return address in self._own or read_address(address).is_loopback

    def through(self, hook: str, flow: Flow, share: Fraction) -> tuple[tuple[Flow, Fraction], ...]:
        """Every state in which a packet leaves a hook, with its probability; these add up to ``share``."""
        self._ended = {}
        bases = [chain for chain in self._chains.values() if chain.hook is not None and chain.hook.name == hook]
        for base in sorted(bases, key=_priority):
            flow, share = self._run(base.name, hook, flow, share, ())
            if not share:
                break
        if share:
            self._end(flow, share)
        return tuple(self._ended.items())

    def outcome(self, flow: Flow) -> Outcome:
        """What a packet has come to that has gone all its way; its probability is left open."""
        changed = Fate.FORWARDED if flow.dnat or flow.masqueraded else Fate.UNTOUCHED
        return Outcome(
            probability=Fraction(0),
            fate=flow.fate or changed,
            destination=flow.destination,
            port=flow.port,
            here=self.is_own(flow.destination),
            masqueraded=flow.masqueraded,
            tcp_reset=flow.tcp_reset,
            path=flow.path,
        )

    def steps(self) -> tuple[Step, ...]:
        """Each rule the packet came to, in the order it first came there."""
        return tuple(
            Step(hook, len(calls), Place(chain, number, tally.rule, tuple(tally.hits)), tally.reached, tally.taken)
            for (hook, calls, chain, number), tally in self._tallies.items()
        )

    def _run(
        self, name: str, hook: str, flow: Flow, share: Fraction, trail: tuple[Place, ...]
    ) -> tuple[Flow, Fraction]:
        """Take a packet through a chain: how it comes back from there, and how much of its probability does."""
        chain = self._chains.get(name)
        if chain is None:
            raise TraceError(f"{_told(trail)} leads to {name!r}, which is not a chain of the table")
        if len(trail) == DEEPEST:
            raise TraceError(f"{_told(trail)} leads to {name}, deeper than {DEEPEST} chains: is it a loop?")
        for number, rule in enumerate(chain.rules, start=1):
            visit = Visit(hook, trail, name, number, rule, flow, share)
            then = self._carry_out(visit)
            self._note(visit, share)
            flow, share = visit.flow, visit.share
            if isinstance(then, Goto):
                return self._run(then.chain, hook, flow, share, (*trail, visit.place))
            if isinstance(then, GotoChance):
                share -= self._branch(then, visit, (*trail, visit.place))
            if isinstance(then, Jump):
                flow, share = self._run(then.chain, hook, flow, share, (*trail, visit.place))
            if not share:
                break
        return flow, share

    def _branch(self, chance: GotoChance, visit: Visit, trail: tuple[Place, ...]) -> Fraction:
        """Take a part of a packet's probability to a chain, where its way has to end; returns that part."""
        _, back = self._run(chance.chain, visit.hook, visit.flow, visit.taken, trail)
        if back:
            raise visit.error(f"chain {chance.chain} is drawn and does not end the packet's way")
        return visit.taken

    def _note(self, visit: Visit, reached: Fraction) -> None:
        at = visit.hook, tuple((place.chain, place.number) for place in visit.trail), visit.chain, visit.number
        tally = self._tallies.setdefault(at, _Tally(visit.rule))
        tally.reached += reached
        tally.taken += visit.taken
        tally.hits.update(dict.fromkeys(visit.hits))

    def _end(self, flow: Flow, share: Fraction) -> None:
        self._ended[flow] = self._ended.get(flow, Fraction(0)) + share

    def _carry_out(self, visit: Visit) -> Then | Goto | GotoChance | Jump:
        then: Then | Goto | GotoChance | Jump = Then.HELD
        for statement in visit.rule:
            then = self._statement(visit, statement)
            if then is not Then.HELD:
                break
        if isinstance(then, GotoChance):
            if not 0 <= then.share <= then.of or not then.of:
                raise visit.error(f"{then.share} of {then.of} is no chance")
            visit.taken = visit.share * Fraction(then.share, then.of)
        elif then not in (Then.BROKEN, Then.ENDED):
            visit.taken = visit.share
        return then

    def _statement(self, visit: Visit, statement: Statement) -> Then | Goto | GotoChance | Jump:
        flow = visit.flow
        match statement:
            case InSet(fields, name, negated):
                return _held((self._find(visit, name, fields) is None) is negated)
            case NotIn(of, prefix):
                return _held(read_address(visit.address(of)) not in read_network(prefix))
            case Local(of):
                return _held(self.is_own(visit.address(of)))
            case Interface(name, negated):
                return _held(visit.came_in_on(name) is not negated)
            case Translated():
                return _held(flow.translated)
            case Established():
                return Then.BROKEN  # the packet here is a connection's first
            case MarkHas(bits):
                return _held(flow.mark & bits == bits)
            case MarkSet(bits):
                visit.flow = replace(flow, mark=flow.mark | bits)
                return Then.HELD
            case MarkFlip(bits):
                visit.flow = replace(flow, mark=flow.mark ^ bits)
                return Then.HELD
            case Dispatch(fields, name):
                return self._dispatch(visit, name, fields)
            case DnatSlot(fields, slots, name, offset, _):
                visit.only_in(_DNAT_HOOKS, "dnat")
                return self._draw(visit, name, visit.key(fields), range(offset, offset + slots))
            case Jump() | Goto() | GotoChance():
                return statement
            case Learn() | Offload():
                return Then.HELD
            case Dnat(protocol, address, port):
                visit.only_in(_DNAT_HOOKS, "dnat")
                if protocol != flow.protocol:
                    return Then.BROKEN
                self._translate(visit, (address, port), visit.share)
                visit.taken, visit.share = visit.share, Fraction(0)
                return Then.ENDED
            case Drop():
                return self._stop(visit, Fate.DROPPED)
            case Reject(tcp_reset):
                visit.only_in(_REJECT_HOOKS, "reject")
                if tcp_reset and flow.protocol != "tcp":
                    return Then.BROKEN
                return self._stop(visit, Fate.REFUSED, tcp_reset=tcp_reset)
            case Masquerade():
                visit.only_in(_MASQUERADE_HOOKS, "masquerade")
                return self._stop(visit, None, masqueraded=True)
            case _:
                raise visit.error(f"unknown statement {statement!r}")

    def _find(self, visit: Visit, name: str, fields: tuple[Field, ...]) -> Element | None:
        element = self._sets.find(name, visit.key(fields))
        if element is not None:
            visit.hits.append(Hit(name, element))
        return element

    def _dispatch(self, visit: Visit, name: str, fields: tuple[Field, ...]) -> Then | Goto:
        element = self._find(visit, name, fields)
        if element is None:
            return Then.BROKEN
        if not isinstance(element.value, Goto):
            raise visit.error(f"{name} holds no verdict for {element.key}: {element.value!r}")
        return element.value

    def _draw(self, visit: Visit, name: str, key: Key, slots: range) -> Then:
        """DNAT to each filled slot with its part of the packet's probability; go on with that of the empty ones."""
        if not slots:
            raise visit.error("a draw of no slots")
        filled = [found for slot in slots if (found := self._sets.find(name, (*key, slot))) is not None]
        visit.hits += [Hit(name, element) for element in filled]
        for value, count in Counter(element.value for element in filled).items():
            if not isinstance(value, tuple) or len(value) != 2:
                raise visit.error(f"{name} holds no address and port for {key}: {value!r}")
            self._translate(visit, value, visit.share * Fraction(count, len(slots)))
        visit.taken = visit.share * Fraction(len(filled), len(slots))
        visit.share -= visit.taken
        return Then.BROKEN if visit.share else Then.ENDED

    def _translate(self, visit: Visit, to: tuple[str, int], share: Fraction) -> None:
        """End the hook for a part of the packet's probability with a new destination."""
        address, port = to
        changed = to != (visit.flow.destination, visit.flow.port)
        flow = replace(
            visit.flow,
            destination=address,
            port=port,
            dnat=True,
            translated=visit.flow.translated or changed,
            path=visit.flow.path + visit.trail,
        )
        self._end(flow, share)

    def _stop(self, visit: Visit, fate: Fate | None, *, tcp_reset: bool = False, masqueraded: bool = False) -> Then:
        """End the hook for all that is left of the packet."""
        path = (*visit.flow.path, *visit.trail, visit.place)
        flow = replace(visit.flow, fate=fate, tcp_reset=tcp_reset, masqueraded=masqueraded, path=path)
        self._end(flow, visit.share)
        visit.taken, visit.share = visit.share, Fraction(0)
        return Then.ENDED


def _priority(chain: Chain) -> int:
    assert chain.hook is not None  # only base chains are sorted
    return chain.hook.priority


def _held(holds: bool) -> Then:
    return Then.HELD if holds else Then.BROKEN


def _told(trail: tuple[Place, ...]) -> str:
    return f"chain {trail[-1].chain}, rule {trail[-1].number}"
