"""A trace as a person reads it at 3 a.m., and as JSON; pure functions.

First the answer in one line, then what became of the packet, then the rules that made it so, in nft's own words, so
that what is read here can be found in ``nft list table``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from ipaddress import ip_address
from typing import Any

from msgspec import Struct

from nodeport_nft.cli.wrapping import wrapped
from nodeport_nft.notation import socket_address
from nodeport_nft.render import write_rule
from nodeport_nft.resolve.absence import Cause
from nodeport_nft.ruleset import DnatSlot, Element, Goto, GotoChance, InSet, Learn, MarkSet
from nodeport_nft.trace import Fate, Hit, Outcome, Place, Step, Trace

_LABEL = 12

_IN_SET = {
    "cluster-ips": "the clusterIP has no such port",
    "service-cidrs": "an unallocated clusterIP",
}
"""What it means to be stopped because of having been found in a set."""

_IN_CHAIN = {
    "refuse": "has no endpoint",
    "no-local-endpoint": "has no endpoint on this node (policy Local)",
    "firewall": "has source ranges, and the client is in none of them",
    "firewall-node-ports": "has source ranges, and the client is in none of them",
}
"""What it means that a frontend leads to a chain that stops the packet: by the word that its name begins with."""


class Besides(Struct, frozen=True):
    """What is known of the connection besides what our tables make of it.

    ``obstacles`` keep it from endpoints that it is sent to; ``unseen``: what was not looked at, "" for nothing.
    ``node_port``: where the same port of the Service is served on the node. ``is_example``: nobody said where it
    comes from.
    """

    obstacles: tuple[Cause, ...] = ()
    unseen: str = ""
    node_port: str = ""
    is_example: bool = False


NOTHING_BESIDES = Besides()


def trace_text(
    walked: Trace,
    family: str,
    why: Sequence[Cause] = (),
    besides: Besides = NOTHING_BESIDES,
    width: int | None = None,
) -> str:
    """The whole trace; ``family`` is the table's. The last line has no newline.

    ``why``: why it is stopped for want of an endpoint. The answer says the likeliest cause, lines below the others.
    Prose is wrapped behind its label where a ``width`` is given, in columns; nft's words never are.
    """
    causes = [*why, *besides.obstacles]

    def prose(label: str, lines: Iterable[str]) -> Iterator[str]:
        return _labelled(label, lines, width)

    lines = list(prose("answer", [answer(walked, family, why, besides.obstacles)]))
    lines += prose("packet", [_packet(walked, is_example=besides.is_example)])
    lines += _labelled("frontend", [_frontend(found) for found in _frontends(walked)] or ["none"])
    lines += prose("chain", _doings(walked))
    lines += _labelled("endpoints", _endpoints(walked))
    lines += prose("outcome", _fates(walked, family))
    lines += prose("why", map(str, causes[1:]))
    lines += _rules(walked, family)
    last = [*prose("nodePort", [f"to trace it: nodeport-nft trace {besides.node_port}"] if besides.node_port else [])]
    last += prose("not seen", [besides.unseen] if besides.unseen else [])
    return "\n".join([*lines, *([""] if last else []), *last])


def trace_json(walked: Trace, family: str, why: Sequence[Cause] = (), besides: Besides = NOTHING_BESIDES) -> str:
    """The same as JSON, with exact probabilities ("1/3")."""
    packet = walked.packet
    value = {
        "answer": answer(walked, family, why, besides.obstacles),
        "packet": {
            "source": packet.source,
            "destination": packet.destination,
            "protocol": packet.protocol,
            "port": packet.port,
            "hook": _hook(walked),
        },
        "outcomes": [_outcome_value(walked, outcome, family) for outcome in walked.outcomes],
        "why": _cause_values(why),
        "obstacles": _cause_values(besides.obstacles),
        "notLookedAt": besides.unseen,
        "steps": [_step_value(step, family) for step in walked.steps],
    }
    return json.dumps(value, indent=2).replace("\x7f", "\\u007f")  # ASCII: see ``output_formats``


def _cause_values(causes: Iterable[Cause]) -> list[dict[str, str]]:
    return [{"reason": cause.reason, "text": cause.text, "remedy": cause.remedy} for cause in causes]


def answer(walked: Trace, family: str, why: Sequence[Cause] = (), obstacles: Sequence[Cause] = ()) -> str:
    """What becomes of the connection, in one line; ``obstacles`` are behind our tables."""
    reached = [outcome for outcome in walked.outcomes if outcome.fate is Fate.FORWARDED]
    if not reached:
        if not why:
            return "; ".join(_fates(walked, family))
        fate = walked.outcomes[0].fate
        if owner := _owner(walked.outcomes):
            return f"{_IN_SHORT[fate]}: {owner} has no endpoint for it: {why[0]}"
        said = "nobody is asked" if fate is Fate.UNTOUCHED and why[0].expected else _IN_SHORT[fate]
        return f"{said}: {why[0]}"
    share = sum((outcome.probability for outcome in reached), Fraction(0))
    targets = list(dict.fromkeys(_target(outcome) for outcome in reached))
    places = ", ".join(targets[:_NAMED]) + (f" and {len(targets) - _NAMED} more" if len(targets) > _NAMED else "")
    whose = _owner(reached)
    text = places if len(targets) == 1 else f"one of {len(targets)} endpoints: {places}"
    stopped = "" if share == 1 else f"; {percent(1 - share)} of such connections reach nobody"
    reaches, but = ("would reach", f", but {obstacles[0]}") if obstacles else ("reaches", "")
    return f"{reaches} {f'{whose}, ' if whose else ''}{text}{stopped}{but}"


_NAMED = 3
"""Endpoints that the answer names."""

_IN_SHORT = {Fate.UNTOUCHED: "nothing is there", Fate.REFUSED: "refused", Fate.DROPPED: "dropped"}


def _owner(reached: Sequence[Outcome]) -> str:
    """Whose frontend led there; "" where no element says it."""
    comments = [hit.element.comment for outcome in reached for hit in _verdicts(outcome) if hit.element.comment]
    return comments[0] if comments else ""


# --- text -------------------------------------------------------------------------------------------------


def _labelled(label: str, lines: Iterable[str], width: int | None = None) -> Iterator[str]:
    pieces = (piece for line in lines for piece in wrapped(line, _LABEL, width))
    for number, line in enumerate(pieces):
        yield f"{'' if number else label:<{_LABEL}}{line}"


def _packet(walked: Trace, *, is_example: bool = False) -> str:
    packet = walked.packet
    source, whence = packet.source, ", from a pod or from outside the node"
    if packet.from_node:
        whence = ", from a process on the node"
    elif is_example:
        source, whence = f"a client outside ({packet.source}, for example)", ""
    return f"{source} → {packet.destination} {packet.protocol} port {packet.port}{whence} ({_hook(walked)})"


def _hook(walked: Trace) -> str:
    return "output" if walked.packet.from_node else "prerouting"


def _frontends(walked: Trace) -> tuple[Hit, ...]:
    return _unique(found for outcome in walked.outcomes for found in _verdicts(outcome))


def _verdicts(outcome: Outcome) -> Iterator[Hit]:
    """The elements of verdict maps that led to this outcome."""
    return (found for place in outcome.path for found in place.hits if isinstance(found.element.value, Goto))


def _frontend(hit: Hit) -> str:
    verdict = hit.element.value
    assert isinstance(verdict, Goto)  # as _verdicts chose it
    return f"{hit.map}: {_element(hit.element)} → {verdict.chain}"


def _element(element: Element) -> str:
    comment = f" ({element.comment})" if element.comment else ""
    return f"{' . '.join(map(str, element.key))}{comment}"


def _doings(walked: Trace) -> Iterator[str]:
    """Of each chain that marks or draws, that it does, and how many slots are filled."""
    doings: dict[str, list[str]] = {}
    for step in walked.steps:
        for statement in step.place.rule:
            told = doings.get(step.place.chain, [])
            match statement:
                case MarkSet() if step.taken:
                    doings[step.place.chain] = [*told, "marks for masquerading"]
                case DnatSlot(slots=slots, offset=first, hashed=hashed) if not told or "slot" not in told[-1]:
                    whence = f" from {first} on" if first else ""
                    how = "takes by a hash of client and source port" if hashed else "draws"
                    number = f"one of {slots} slots" if slots > 1 else "the one slot"
                    doing = f"{how} {number}{whence}, {len(step.place.hits)} of them filled"
                    doings[step.place.chain] = [*told, doing]
                case GotoChance() if step.reached and "draws for a new client" not in told:
                    doings[step.place.chain] = [*told, "draws for a new client"]
                case InSet(set=name) if step.taken and name.startswith("affinity/"):
                    doings[step.place.chain] = [*told, "knows the client, which keeps its endpoint"]
                case Learn(seconds=seconds) if step.taken:
                    doings[step.place.chain] = [*told, f"keeps the client for {seconds} seconds from now"]
    return (f"{chain}: {'; '.join(told)}" for chain, told in doings.items())


def _endpoints(walked: Trace) -> Iterator[str]:
    reached = [outcome for outcome in walked.outcomes if outcome.fate is Fate.FORWARDED]
    names = [_target(outcome) for outcome in reached]
    shares = [percent(outcome.probability) for outcome in reached]
    for name, share, outcome in zip(names, shares, reached, strict=True):
        here = ", on this node itself" if outcome.here else ""
        columns = f"{name:<{max(map(len, names))}}  {share:>{max(map(len, shares))}}"
        yield f"{columns}  sees {_seen(walked, outcome)}{here}"


def _target(outcome: Outcome) -> str:
    return socket_address(ip_address(outcome.destination), outcome.port)


def _seen(walked: Trace, outcome: Outcome) -> str:
    return "an address of this node (masqueraded)" if outcome.masqueraded else walked.packet.source


def _fates(walked: Trace, family: str) -> Iterator[str]:
    shares: dict[str, Fraction] = {}
    for outcome in walked.outcomes:
        text = _fate(outcome, family)
        shares[text] = shares.get(text, Fraction(0)) + outcome.probability
    for text, share in shares.items():
        yield text if share == 1 else f"{percent(share)} {text}"


def _fate(outcome: Outcome, family: str) -> str:
    match outcome.fate:
        case Fate.FORWARDED:
            return "forwarded"
        case Fate.REFUSED:
            how = "a tcp reset" if outcome.tcp_reset else "an icmp error (port unreachable)"
            return f"refused with {how}: {_reason(outcome, family)}"
        case Fate.DROPPED:
            return f"dropped: {_reason(outcome, family)}"
        case Fate.UNTOUCHED:
            whither = "to the node itself" if outcome.here else "where it was going"
            return f"untouched: no rule of ours is for it; it goes on {whither}"


def _reason(outcome: Outcome, family: str) -> str:
    """Why a packet was stopped: what its frontend lacks, or the set it was found in, or the rule itself."""
    stopped = outcome.path[-1]
    for found in _verdicts(outcome):
        lacking = _IN_CHAIN.get(
            stopped.chain.partition("/")[0], f"has none of its slots filled ({_place(stopped, family)})"
        )
        return f"{found.element.comment or _element(found.element)} {lacking}"
    sets = [found.map for place in outcome.path for found in place.hits if found.map in _IN_SET]
    return _IN_SET[sets[-1]] if sets else _place(stopped, family)


def _place(place: Place, family: str) -> str:
    return f"{place.chain}, rule {place.number}: {write_rule(family, place.rule)}"


def _rules(walked: Trace, family: str) -> Iterator[str]:
    """Every rule the packet came to, and for how many of such packets it held."""
    yield ""
    yield "rules, and what share of such packets comes to each: + it holds for all of them, ± for some, - for none"
    places = [f"{'  ' * step.depth}{step.place.chain} {step.place.number}" for step in walked.steps]
    width = max(map(len, places), default=0)
    hook = ""
    for place, step in zip(places, walked.steps, strict=True):
        if step.hook != hook:
            hook = step.hook
            yield f"  {hook}"
        sign = "+" if step.taken == step.reached else "±" if step.taken else "-"
        yield f"    {place:<{width}}  {percent(step.reached):>7}  {sign} {write_rule(family, step.place.rule)}"


def percent(share: Fraction) -> str:
    """A probability to two decimals: "100 %", "33.33 %"; what is neither none nor all is never shown as such."""
    if share == 1:
        return "100 %"
    rounded = round(share * 10000)
    if rounded <= 0:
        return "0 %" if share == 0 else "<0.01 %"
    return f"{min(rounded, 9999) / 100:.2f} %"


def _unique(items: Iterable[Hit]) -> tuple[Hit, ...]:
    return tuple(dict.fromkeys(items))


# --- JSON -------------------------------------------------------------------------------------------------


def _outcome_value(walked: Trace, outcome: Outcome, family: str) -> dict[str, Any]:
    value: dict[str, Any] = {
        "fate": outcome.fate.value,
        "probability": str(outcome.probability),
        "destination": outcome.destination,
        "port": outcome.port,
        "onNode": outcome.here,
    }
    if outcome.fate is Fate.FORWARDED:
        value |= {
            "masqueraded": outcome.masqueraded,
            "source": None if outcome.masqueraded else walked.packet.source,
        }
    if outcome.fate is Fate.REFUSED:
        value["with"] = "tcp reset" if outcome.tcp_reset else "icmp port unreachable"
    if outcome.fate in (Fate.REFUSED, Fate.DROPPED):
        value["reason"] = _reason(outcome, family)
    return value | {"frontends": [_found_value(found) for found in _verdicts(outcome)]}


def _step_value(step: Step, family: str) -> dict[str, Any]:
    """A draw tells how many slots are filled; what is in them, the outcomes tell."""
    found = step.place.hits
    draws = any(isinstance(statement, DnatSlot) for statement in step.place.rule)
    return {
        "hook": step.hook,
        "chain": step.place.chain,
        "rule": step.place.number,
        "text": write_rule(family, step.place.rule),
        "reached": str(step.reached),
        "taken": str(step.taken),
        **({"filled": len(found)} if draws else {"found": [_found_value(each) for each in found]}),
    }


def _found_value(hit: Hit) -> dict[str, Any]:
    value = hit.element.value
    told = {"goto": value.chain} if isinstance(value, Goto) else value
    return {"map": hit.map, "key": hit.element.key, "value": told, "comment": hit.element.comment}
