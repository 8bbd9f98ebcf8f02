"""One packet's way through the chains of a table, with every outcome that is possible.

Where a condition is not known, both ways are gone. One of them is the *default*: what becomes of the packet if no
condition that is not known holds. What is possible beside that is remembered with the rule that would bring it about.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from msgspec import Struct, field
from msgspec.structs import replace

from nodeport_nft.forwarding.conditions import Condition, Doubt, Verdict
from nodeport_nft.forwarding.packet import Packet
from nodeport_nft.forwarding.rules import Rule

_DEEPEST = 100
"""Jumps within each other that are followed: nftables has 16 at most, the old iptables as many as chains."""

_ELEMENTS_OF_A_RULE = 16
"""How many elements of a set are looked at in the time of a rule, where they have to be gone through."""

_LIMITS = ("limit rate ", "xt match limit", "xt match hashlimit")


class Fate(enum.Enum):
    """What becomes of a packet in a chain."""

    ACCEPTED = enum.auto()
    DROPPED = enum.auto()
    ON = enum.auto()  # the chain ends, or returns
    NEXT = enum.auto()  # the next rule is asked


class Spent(Exception):
    """More rules were to be looked at than there is time for."""


class Budget(Struct):
    """How many rules may still be looked at."""

    left: int

    def spend(self, elements: int = 0) -> None:
        """Look at one more, and at so many elements of sets one by one. Raises Spent."""
        self.left -= 1 + elements // _ELEMENTS_OF_A_RULE
        if self.left < 0:
            raise Spent


class Cause(Struct, frozen=True):
    """The rule that decides, in its chain. ``doubt``: a condition on the way to it that is not understood."""

    chain: str
    rule: str
    doubt: str = ""


class Ways(Struct):
    """The possible outcomes, each with the first rule that leads to it (None: the end of the chain).

    ``cause`` is the rule that leads to the default.
    """

    default: Fate = Fate.NEXT
    possible: dict[Fate, Cause | None] = field(default_factory=dict)
    cause: Cause | None = None

    def add(self, fate: Fate, cause: Cause | None) -> None:
        """One more outcome is possible; a cause that may concern every packet goes before those that vary."""
        known = self.possible.get(fate)
        if fate not in self.possible or (known is not None and not known.doubt and cause and cause.doubt):
            self.possible[fate] = cause


def rules_of(chain: str) -> str:
    """What is doubted where the rules of a chain cannot be had."""
    return f"the rules of chain {chain}"


Rules = Callable[[str], tuple[Rule, ...]]
"""The rules of a chain of one table; raises LookupError where they cannot be had."""


class Walk:
    """A packet's way. Each chain is gone through once, however many rules lead there."""

    def __init__(self, rules: Rules, packet: Packet, budget: Budget, *, compat: bool = False) -> None:
        """``compat``: the rules may be those of iptables, of which nft does not show every negation."""
        self._rules = rules
        self._packet = packet
        self._budget = budget
        self._compat = compat
        self._known: dict[str, Ways] = {}

    def through(self, chain: str, depth: int = 0) -> Ways:
        """What becomes of the packet in this chain: accepted, dropped, or on. Raises Spent, LookupError."""
        if chain in self._known:
            return self._known[chain]
        if depth >= _DEEPEST:
            raise LookupError(chain)
        self._known[chain] = Ways(Fate.ON, {Fate.ON: None})  # what a loop finds, which the kernel never has
        ways = Ways()
        for rule in self._rules(chain):
            conditions = (*rule.conditions, rule.vmap) if rule.vmap else rule.conditions
            before = sum(condition.looked() for condition in conditions)
            ended = self._rule(chain, rule, ways, depth)
            self._budget.spend(sum(condition.looked() for condition in conditions) - before)
            if ended:
                break
        else:
            self._take(ways, Ways(Fate.ON, {Fate.ON: None}), Cause(chain, ""))
        self._known[chain] = ways
        return ways

    def _rule(self, chain: str, rule: Rule, ways: Ways, depth: int) -> bool:
        """Add what a rule makes of it; whether nothing goes past that rule."""
        known, doubt = self._holds(rule)
        if known is False:
            return False
        if rule.vmap is not None:
            return self._vmap(chain, rule, ways, depth, known=known, doubt=doubt)
        if known and self._may_be_negated(rule):
            known = None
        led = self._led(chain, rule, rule.verdict, depth)
        if known is None and rule.verdict.word == "return" and self._is_limited(rule):
            led.possible.setdefault(Fate.NEXT, None)
        elif known is None:
            self._perhaps(led, doubt)
        return self._take(ways, led, Cause(chain, rule.text, doubt))

    def _is_limited(self, rule: Rule) -> bool:
        """Whether it holds up to some rate of packets."""
        unknown = [condition.text for condition in rule.conditions if condition.holds(self._packet) is None]
        return all(text.startswith(_LIMITS) and " over " not in text for text in unknown)

    @staticmethod
    def _perhaps(led: Ways, doubt: str) -> None:
        """It may be led there, or not: what is not known behind a condition that varies concerns some alone."""
        led.default = Fate.NEXT
        led.possible.setdefault(Fate.NEXT, None)
        if not doubt:
            led.possible = {fate: cause and replace(cause, doubt="") for fate, cause in led.possible.items()}

    def _vmap(self, chain: str, rule: Rule, ways: Ways, depth: int, *, known: bool | None, doubt: str) -> bool:
        assert rule.vmap is not None
        sure = False
        elements = rule.vmap.elements()
        for holds, verdict in elements.matching([of.read(self._packet) for of in rule.vmap.fields]):
            led = self._led(chain, rule, verdict, depth)
            sure = bool(holds and known)
            if not sure:
                self._perhaps(led, doubt)
            if self._take(ways, led, Cause(chain, rule.text, doubt)):
                return True
        if not sure and elements.is_strange:
            self._take(
                ways,
                Ways(Fate.NEXT, {Fate.NEXT: None, Fate.DROPPED: None, Fate.ACCEPTED: None}),
                Cause(chain, rule.text, rule.vmap.text),
            )
        return False

    def _holds(self, rule: Rule) -> tuple[bool | None, str]:
        """Whether all conditions hold; and one that is not understood, where that is not known for it alone."""
        known: bool | None = True
        unreadable: Condition | None = None
        varies = False
        for condition in rule.conditions:
            holds = condition.holds(self._packet)
            if holds is False:
                return False, ""
            if holds is None:
                known = None
                if condition.doubt is Doubt.VARIES:
                    varies = True
                else:
                    unreadable = unreadable or condition
        return known, unreadable.text if unreadable and not varies else ""

    def _may_be_negated(self, rule: Rule) -> bool:
        """Whether ``ct status dnat drop`` may be iptables' ``! --ctstate DNAT``, which nft 1.0.6 shows as that."""
        return (
            self._compat
            and rule.verdict.word == "drop"
            and any(condition.text == "ct status dnat" for condition in rule.conditions)
        )

    def _led(self, chain: str, rule: Rule, verdict: Verdict, depth: int) -> Ways:
        """What a verdict leads to."""
        here = Cause(chain, rule.text)
        match verdict.word:
            case "accept":
                return Ways(Fate.ACCEPTED, {Fate.ACCEPTED: here}, here)
            case "drop":
                return Ways(Fate.DROPPED, {Fate.DROPPED: here}, here)
            case "queue":  # a program decides, or nobody, where none listens
                asked = Cause(chain, rule.text, rule.text)
                return Ways(Fate.ACCEPTED, {Fate.ACCEPTED: here, Fate.DROPPED: asked})
            case "return":
                return Ways(Fate.ON, {Fate.ON: None})
            case "jump" | "goto":
                found = self._called(verdict.chain, here, depth)
                if verdict.word == "goto":
                    return Ways(found.default, dict(found.possible), found.cause)
                default = Fate.NEXT if found.default is Fate.ON else found.default
                return Ways(
                    default, {Fate.NEXT if f is Fate.ON else f: c for f, c in found.possible.items()}, found.cause
                )
        return Ways(Fate.NEXT, {Fate.NEXT: None})

    def _called(self, chain: str, here: Cause, depth: int) -> Ways:
        """What becomes of it in a chain that a rule leads to; anything may, where that cannot be listed."""
        try:
            return self.through(chain, depth + 1)
        except LookupError:
            doubt = Cause(here.chain, here.rule, rules_of(chain))
            return Ways(Fate.ON, {Fate.ON: None, Fate.DROPPED: doubt, Fate.ACCEPTED: doubt})

    @staticmethod
    def _take(ways: Ways, led: Ways, cause: Cause) -> bool:
        """Add what a rule leads to; whether nothing goes on to the next rule."""
        if ways.default is Fate.NEXT:
            ways.default, ways.cause = led.default, led.cause
        for fate, found in led.possible.items():
            if fate is Fate.NEXT:
                continue
            if cause.doubt:
                ways.add(fate, cause)
            else:
                ways.add(fate, found)
        return Fate.NEXT not in led.possible
