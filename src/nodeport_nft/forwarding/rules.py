"""A rule as nft lists it, taken apart into conditions and what it does; what is not understood is a condition.

Statements that neither match nor decide are left out. Time grows with the length of a line, not faster: anybody may
write lines of any length.

Source: nft(8), "Statements"; what nft 1.0.6 lists of rules that iptables-nft made (``xt match NAME``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from nodeport_nft.forwarding.conditions import CONTINUE, Comparison, Condition, Doubt, Elements, Verdict
from nodeport_nft.forwarding.sets import changes, elements_of, read_elements, words
from nodeport_nft.forwarding.values import FIELDS, Field, field_at

Sets = Callable[[str], str]
"""The listing of a named set or map of the table; raises LookupError where it cannot be had."""


@dataclass(frozen=True, slots=True)
class Rule:
    """``vmap`` is asked for the verdict where there is one. ``text`` is the rule without its counters, for people."""

    text: str
    conditions: tuple[Condition, ...] = ()
    verdict: Verdict = CONTINUE
    vmap: Comparison | None = None

    def targets(self) -> Iterable[str]:
        """The chains that it may lead to."""
        verdicts = self.vmap.elements().verdicts() if self.vmap else (self.verdict,)
        return [verdict.chain for verdict in verdicts if verdict.chain]


_COUNTER = re.compile(r"\bcounter packets \d+ bytes \d+")
_VERDICTS = frozenset(("accept", "drop", "return", "continue", "jump", "goto", "reject", "queue"))
_NEGATED = ("!=", "!")
_ORDERED = ("<", ">", "<=", ">=")
_LOG = frozenset(("prefix", "level", "group", "snaplen", "queue-threshold", "flags"))
_BITWISE = frozenset(("&", "|", "^", "<<", ">>", "and", "or", "xor"))
# Those of one word, and all first words, of what differs from packet to packet, or that nobody else can know.
_SINGLE = frozenset(
    ("mark", "iifgroup", "oifgroup", "iiftype", "oiftype", "skuid", "skgid", "cpu", "rtclassid", "length", "priority")
)
_VARYING = _SINGLE | frozenset(
    (
        *("ip", "ip6", "tcp", "udp", "th", "sctp", "dccp", "udplite", "ether", "vlan", "arp", "icmp", "icmpv6"),
        *("ct", "meta", "fib", "rt", "socket", "osf", "numgen", "jhash", "symhash", "ipsec", "cgroup", "igmp"),
        *("frag", "exthdr", "dst", "hbh", "mh", "ah", "esp", "comp", "random", "time", "hour", "day"),
        *("ibrname", "obrname"),
    )
)


def read_rule(line: str, sets: Sets) -> Rule:
    """Take a rule apart."""
    text = " ".join(_COUNTER.sub("", line).split())
    return _Reader(words(text), sets).rule(text)


class _Reader:
    """Reads a rule from its first word to its last."""

    def __init__(self, tokens: Sequence[str], sets: Sets) -> None:
        self._tokens = tokens
        self._at = 0
        self._sets = sets
        self._conditions: list[Condition] = []

    def rule(self, text: str) -> Rule:
        while self._at < len(self._tokens):
            piece = self._tokens[self._at]
            if piece in _VERDICTS:
                return Rule(text, tuple(self._conditions), self._verdict(piece))
            if not self._statement(piece):
                vmap = self._expression(piece)
                if vmap is not None:
                    return Rule(text, tuple(self._conditions), vmap=vmap)
        return Rule(text, tuple(self._conditions))

    def _next(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else ""

    def _since(self, begin: int) -> str:
        return " ".join(self._tokens[begin : self._at])

    def _doubt(self, begin: int, doubt: Doubt) -> None:
        self._conditions.append(Condition(self._since(begin), doubt))

    def _verdict(self, word: str) -> Verdict:
        if word in ("jump", "goto"):
            return Verdict(word, self._next(1))
        if word == "reject":
            if self._tokens[self._at + 1 : self._at + 4] == ["with", "tcp", "reset"]:
                self._compare(self._at, (FIELDS["meta", "l4proto"],), "", [["tcp"]])
            return Verdict("drop")
        return Verdict(word)

    def _statement(self, piece: str) -> bool:
        """Pass by a statement that is no comparison; False if this is none."""
        begin = self._at
        match piece:
            case "counter":
                self._at += 3 if self._next(1) == "name" else 1
            case "comment":
                self._at += 2
            case "notrack" | "last":
                self._at += 1
            case "log":
                self._at += 1
                while self._next() in _LOG:
                    self._at += 3 if self._next() == "flags" and self._next(1) in ("tcp", "ip") else 2
            case "flow" | "dup":
                self._at += 3
            case "xt":
                self._at += 3
                if self._tokens[begin + 1 : begin + 2] == ["match"]:
                    self._doubt(begin, Doubt.UNREADABLE)
            case "limit" | "quota" | "meter" | "add" | "update" | "delete":
                self._pass_limit(piece)
                self._doubt(begin, Doubt.VARIES)
            case "ct" if self._next(1) == "count":
                self._at += 4 if self._next(2) == "over" else 3
                self._doubt(begin, Doubt.VARIES)
            case _:
                return False
        return True

    def _pass_limit(self, piece: str) -> None:
        """Pass by what ends with a block of its own, or with numbers and their units."""
        self._at += 1
        if piece in ("limit", "quota"):
            number = re.compile(r"\d|(?:rate|over|until|used|burst|name|packets|[kmg]?bytes)\b|\"")
            while number.match(self._next()):
                self._at += 1
            return
        while self._next() not in ("{", ""):
            self._at += 1
        self._pass_block()

    def _pass_block(self) -> list[str]:
        """Pass by what stands in braces; the tokens in there."""
        begin, depth = self._at + 1, 0
        while self._at < len(self._tokens):
            piece = self._tokens[self._at]
            depth += (piece == "{") - (piece == "}")
            self._at += 1
            if not depth:
                break
        return list(self._tokens[begin : self._at - 1])

    def _expression(self, piece: str) -> Comparison | None:
        """Read a comparison, or a statement that sets something; a map of verdicts is returned."""
        begin = self._at
        fields = self._fields()
        if fields is None:
            if piece in _VARYING:
                self._varying(begin)
            else:
                self._unreadable(begin)
            return None
        operator = self._next()
        if operator == "set":
            self._set()
            return None
        if operator == "vmap":
            self._at += 1
            named = self._next()
            pieces = self._pass_block() if named == "{" else None
            self._at += pieces is None
            return self._comparison(begin, fields, "", named, pieces)
        if operator in _BITWISE:
            self._varying(begin)
            self._conditions[-1].doubt = Doubt.UNREADABLE if fields[0].flags else Doubt.VARIES
            return None
        if operator in ("==", *_NEGATED, *_ORDERED):
            self._at += 1
        else:
            operator = ""
        value = self._next()
        if value == "{":
            pieces = self._pass_block()
            self._conditions.append(self._comparison(begin, fields, operator, "{", pieces))
        elif value.startswith("@"):
            self._at += 1
            self._conditions.append(self._comparison(begin, fields, operator, value, None))
        else:
            parts = [value]
            self._at += 1
            if operator in ("==", "!="):
                fields = tuple(of.whole() for of in fields)
                while self._next() == "|" and fields[0].name.startswith("ct "):
                    parts = [f"{parts[0]} | {self._next(1)}"]
                    self._at += 2
            while self._next() == ".":
                parts.append(self._next(1))
                self._at += 2
            if self._next() == "/" and fields[0].name == "flags":
                self._at += 2
            if operator in _ORDERED:
                parts = [_ordered(operator, value)]
            self._compare(begin, fields, operator, [parts])
        return None

    def _fields(self) -> tuple[Field, ...] | None:
        """The fields that are named from here on, past them; None, and nothing passed, if one is not understood."""
        begin, fields = self._at, []
        while True:
            found = field_at(self._tokens, self._at)
            if found is None:
                self._at = begin
                return None
            fields.append(found[0])
            self._at = found[1]
            if self._next() != ".":
                return tuple(fields)
            self._at += 1

    def _compare(self, begin: int, fields: tuple[Field, ...], operator: str, elements: list[list[str]]) -> None:
        made = Elements(fields)
        for parts in elements:
            made.add(parts)
        self._conditions.append(Comparison(self._since(begin), fields=fields, operator=operator, make=lambda: made))

    def _comparison(
        self, begin: int, fields: tuple[Field, ...], operator: str, named: str, pieces: list[str] | None
    ) -> Comparison:
        sets, fields = self._sets, tuple(of.whole() for of in fields)

        def make() -> Elements:
            if pieces is not None:
                return read_elements(fields, pieces)
            try:
                listing = sets(named[1:])
            except LookupError:
                return Elements(fields, strange=True)
            if changes(listing):
                return Elements(fields, strange=True, changes=True)
            return read_elements(fields, elements_of(listing))

        return Comparison(self._since(begin), fields=fields, operator=operator, make=make)

    def _varying(self, begin: int) -> None:
        """Pass by a comparison whose outcome differs from packet to packet."""
        self._at = begin
        self._pass_operand()
        while self._next() == ".":
            self._at += 1
            self._pass_operand()
        while self._next() in _BITWISE:
            self._at += 1
            self._at += 1
        if self._next() == "set":
            self._set()
            return
        if self._next() == "vmap":  # as good as any number of rules under a condition
            self._unreadable(begin)
            return
        if self._next() in ("==", *_NEGATED, *_ORDERED):
            self._at += 1
        if self._next() == "{":
            self._pass_block()
        elif self._next() not in _VERDICTS:
            self._at += 1
            while self._next() in (".", "/") or self._next().startswith('-"'):
                self._at += 1 if self._next().startswith("-") else 2
        self._doubt(begin, Doubt.VARIES)

    def _pass_operand(self) -> None:
        """Pass by the words that name a field which is not understood."""
        found = field_at(self._tokens, self._at)
        if found is not None:
            self._at = found[1]
            return
        word, following = self._next(), self._next(1)
        if word in ("fib", "numgen", "jhash", "symhash"):
            ends = ("type", "oif", "oifname") if word == "fib" else ("mod",)
            while self._next() not in (*ends, ""):
                self._at += 1
            self._at += 1 if word == "fib" else 2
            while self._next() in ("seed", "offset"):
                self._at += 2
        elif following == "option":
            self._at += 3 if self._next(3) in ("exists", "missing") else 4
        elif following in ("original", "reply", "in", "out", "ip", "ip6"):
            self._at += 4 if following in ("original", "reply") and self._next(2) in ("ip", "ip6") else 3
        elif word in ("ip", "ip6", "tcp", "udp", "th", "sctp", "ct", "meta", "ether", "vlan", "arp", "rt", "frag"):
            self._at += 2
        elif following in ("==", *_NEGATED, *_ORDERED, *_BITWISE, "{", "set", "vmap") or word in _SINGLE:
            self._at += 1
        else:
            self._at += 2

    def _set(self) -> None:
        """Pass by what a statement sets something to: a value, or another field, or what a map has for that."""
        self._at += 1
        while True:
            if self._next() in _VARYING:
                self._pass_operand()
            else:
                self._at += 1
            if self._next() == "map":
                self._at += 1
                if self._next() == "{":
                    self._pass_block()
                else:
                    self._at += 1
            if self._next() not in _BITWISE:
                return
            self._at += 1

    def _unreadable(self, begin: int) -> None:
        """Take all up to the verdict for one condition that is not understood."""
        depth = 0
        self._at = max(self._at, begin + 1)
        while self._at < len(self._tokens):
            piece = self._tokens[self._at]
            depth += (piece == "{") - (piece == "}")
            if depth <= 0 and (piece in _VERDICTS or piece == "comment"):
                break
            self._at += 1
        self._doubt(begin, Doubt.UNREADABLE)


def _ordered(operator: str, value: str) -> str:
    """The range that ``< 1024`` stands for."""
    try:
        number = int(value, 0)
    except ValueError:
        return value
    most = 0xFFFFFFFF
    return {
        "<": f"0-{number - 1}",
        "<=": f"0-{number}",
        ">": f"{number + 1}-{most}",
        ">=": f"{number}-{most}",
    }[operator]
