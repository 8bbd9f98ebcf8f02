"""A rule as nft lists it, taken apart into conditions and what it does; what is not understood is a condition.

Statements that neither match nor decide are left out. Time grows with the length of a line, not faster: anybody may
write lines of any length.

Source: nft(8), "Statements"; what nft 1.0.6 lists of rules that iptables-nft made (``xt match NAME``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from nodeport_nft.forwarding.conditions import CONTINUE, Comparison, Condition, Doubt, Elements, Verdict
from nodeport_nft.forwarding.sets import read_elements, read_listing, words
from nodeport_nft.forwarding.values import FIELDS, Field, field_at, numbers

Sets = Callable[[str], str]
"""The listing of a named set or map of the table; raises LookupError where it cannot be had."""

Known = dict[tuple[object, ...], Elements]
"""The elements of named sets that rules have asked for, by the set and what is read of it: however many rules ask."""


class Rule(Struct, frozen=True):
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
_ORDERED = {"<": "<", ">": ">", "<=": "<=", ">=": ">=", "lt": "<", "gt": ">", "le": "<=", "ge": ">="}
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


# What marks a comparison of clients, of marks or of amounts, which tells some connections from others.
_OWNERS = frozenset(("saddr", "sport", "mark", "label", "bytes", "packets", "avgpkt", "osf"))
# What may stand behind a field that has no value.
_FOLLOWING = _VERDICTS | {"", "counter", "comment", "log", "limit"}


def read_rule(line: str, sets: Sets, known: Known | None = None) -> Rule:
    """Take a rule apart. ``known`` is what other rules of the table have asked for, to be kept for those to come."""
    text = " ".join(_COUNTER.sub("", line).split())
    return _Reader(words(text), sets, {} if known is None else known).rule(text)


class _Reader:
    """Reads a rule from its first word to its last."""

    def __init__(self, tokens: Sequence[str], sets: Sets, known: Known) -> None:
        self._tokens = tokens
        self._at = 0
        self._sets = sets
        self._known = known
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
                self._doubt(begin, Doubt.UNREADABLE)  # without a set, it counts those of all clients
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
        begin, depth, tokens = self._at + 1, 0, self._tokens
        for at in range(self._at, len(tokens)):
            piece = tokens[at]
            depth += (piece == "{") - (piece == "}")
            self._at = at + 1
            if not depth:
                break
        return list(tokens[begin : self._at - 1])

    def _expression(self, piece: str) -> Comparison | None:
        """Read a comparison, or a statement that sets something; a map of verdicts is returned."""
        begin = self._at
        fields = self._fields()
        if fields is None:
            if piece in _VARYING:
                return self._varying(begin)
            self._unreadable(begin)
            return None
        operator = self._next()
        if operator == "set":
            self._set()
            return None
        masked = operator == "&" and len(fields) == 1
        if masked:
            self._at += 1
            mask = _number(fields[0], self._value())
            operator = self._next()
            if mask is None or operator in _BITWISE:
                return self._varying(begin)
            fields = (fields[0].masked(mask),)
        if operator == "vmap":
            self._at += 1
            named = self._next()
            pieces = self._pass_block() if named == "{" else None
            self._at += pieces is None
            return self._comparison(begin, fields, "", named, pieces)
        if operator in _BITWISE:
            return self._varying(begin)
        if operator in ("==", *_NEGATED, *_ORDERED):
            self._at += 1
        else:
            operator = "==" if masked else ""
        value = self._next()
        if value == "{":
            pieces = self._pass_block()
            self._conditions.append(self._comparison(begin, fields, operator, "{", pieces))
        elif value.startswith("@"):
            self._at += 1
            self._conditions.append(self._comparison(begin, fields, operator, value, None))
        elif fields[0].flags:
            self._compare_bits(begin, fields[0], operator)
        else:
            parts = [self._value()]
            while self._next() == ".":
                self._at += 1
                parts.append(self._value())
            if operator in _ORDERED:
                parts = [_ordered(operator, value)]
            self._compare(begin, fields, operator, [parts])
        return None

    def _compare_bits(self, begin: int, of: Field, operator: str) -> None:
        """Read bits beside a field: any of them without an operator, none of them with ``!``, or behind a mask."""
        value = "0" if self._next() in _FOLLOWING else self._value()  # iptables' --ctstatus NONE
        if self._next() == "/":
            self._at += 1
            mask = _number(of, self._value())
        elif operator == "" and "|" in value and "(" not in value:
            mask, operator = 0xFFFFFFFF, "=="  # which nft leaves out where it lists this
        elif operator in ("", "!"):
            mask, value, operator = _number(of, value), "0", "!=" if not operator else "=="
        else:
            mask = 0xFFFFFFFF
        if operator in _ORDERED:
            number = _number(of, value)
            value = "?" if number is None else _ordered(operator, str(number))
            of = of if number is None else replace(of, literal=numbers)
        if mask is None:
            self._doubt(begin, Doubt.UNREADABLE)
        else:
            self._compare(begin, (of.masked(mask),), operator, [[value]])

    def _value(self) -> str:
        """Take a value: of one word, of several with ``|`` between them, or in parentheses."""
        begin = self._at
        self._at += 1
        if self._tokens[begin : begin + 1] and self._tokens[begin].startswith("("):
            while not self._tokens[self._at - 1].endswith(")") and self._at < len(self._tokens):
                self._at += 1
        while self._next() == "|":
            self._at += 2
        return self._since(begin)

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
        sets, known = self._sets, self._known

        def make() -> Elements:
            if pieces is not None:
                return read_elements(fields, pieces)
            key = named[1:], *((of.name, of.literal) for of in fields)
            if key not in known:
                try:
                    known[key] = read_listing(fields, sets(named[1:]))
                except LookupError:
                    known[key] = Elements(fields, strange=True)
            return known[key]

        return Comparison(
            self._since(begin), fields=fields, operator=operator, make=make, named=named.startswith("@")
        )

    def _varying(self, begin: int) -> Comparison | None:
        """Pass by a comparison whose outcome is not known beforehand; a map of verdicts is returned."""
        self._at = begin
        self._pass_operand()
        count = 1
        while self._next() == ".":
            self._at += 1
            self._pass_operand()
            count += 1
        while self._next() in _BITWISE:
            self._at += 1
            self._at += 1
        doubt = Doubt.UNREADABLE if _OWNERS.isdisjoint(self._tokens[begin : self._at]) else Doubt.VARIES
        if self._next() == "set":
            self._set()
            return None
        if self._next() == "vmap":
            self._doubt(begin, doubt)
            self._at += 1
            named = self._next()
            pieces = self._pass_block() if named == "{" else None
            self._at += pieces is None
            return self._comparison(begin, (_UNKNOWN,) * count, "", named, pieces)
        if self._next() in ("==", *_NEGATED, *_ORDERED):
            self._at += 1
        if self._next() == "{":
            self._pass_block()
        elif self._next() not in _VERDICTS:
            self._at += 1
            while self._next() in (".", "/") or self._next().startswith('-"'):
                self._at += 1 if self._next().startswith("-") else 2
        self._doubt(begin, doubt)
        return None

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
        depth, tokens = 0, self._tokens
        self._at = max(self._at, begin + 1)
        for at in range(self._at, len(tokens)):
            piece = tokens[at]
            depth += (piece == "{") - (piece == "}")
            if depth <= 0 and (piece in _VERDICTS or piece == "comment"):
                self._at = at
                break
        else:
            self._at = max(self._at, len(tokens))
        self._doubt(begin, Doubt.UNREADABLE)


_UNKNOWN = Field("unknown", lambda _: None)


def _number(of: Field, text: str) -> int | None:
    """The number that a text stands for beside a field; None for a range, or none."""
    value = of.literal(text)
    return value[0] if isinstance(value, tuple) and value[0] == value[1] else None


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
    }[_ORDERED[operator]]
