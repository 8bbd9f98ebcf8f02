"""The tracer on tables made by hand, statement by statement, and on compiled ones."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from ipaddress import ip_address
from typing import cast, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields, replace

from nodeport_nft.compile import TRIES
from nodeport_nft.model import Family, NodePortMode, Snapshot
from nodeport_nft.reconcile import compile_snapshot
from nodeport_nft.ruleset import (
    Chain,
    Dispatch,
    Dnat,
    DnatSlot,
    Drop,
    Element,
    Field,
    Goto,
    GotoChance,
    Hook,
    InSet,
    Interface,
    Jump,
    Key,
    Learn,
    Local,
    Map,
    MarkFlip,
    MarkHas,
    MarkSet,
    Masquerade,
    Memory,
    NotIn,
    Reject,
    Rule,
    Schema,
    Statement,
    Table,
    Translated,
)
from nodeport_nft.trace import Fate, Packet, Trace, TraceError, UnknownInterface, trace
from tests.builders import FACTS, make_endpoint, make_port, make_service, make_slice

CLIENT, NODE, POD = "172.30.0.10", "172.30.1.2", "10.244.1.2"
OWN = (NODE, "fd00:30:1::2")
PACKET = Packet(CLIENT, NODE, "tcp", 30080)

PORT = (Field.L4PROTO, Field.DPORT)
MAPS = (
    Map("sources", (Field.SADDR,), interval=True),
    Map("verdicts", PORT, "verdict"),
    Map("slots", (*PORT, Field.SLOT), (Field.DADDR, Field.DPORT)),
)
REFUSE, DROP = (Reject(),), (Drop(),)


def table(
    *rules: Rule,
    hook: str = "prerouting",
    slots: dict[int, tuple[str, int]] | None = None,
    sources: tuple[str, ...] = (),
    verdict: object = None,
    post: tuple[Rule, ...] = (),
    chains: dict[str, tuple[Rule, ...]] | None = None,
) -> Table:
    """A table with these rules in one base chain, ``post`` in postrouting, and further chains."""
    own = [Chain(name, body) for name, body in (chains or {}).items()]
    bases = [Chain("base", rules, Hook(hook, -100)), Chain("post", post, Hook("postrouting", 100))]
    elements: dict[str, dict[Key, Element]] = {
        "sources": {(prefix,): Element((prefix,)) for prefix in sources},
        "slots": {("tcp", 30080, i): Element(("tcp", 30080, i), value) for i, value in (slots or {}).items()},
        "verdicts": {},
    }
    if verdict is not None:
        # Whatever somebody may have put into the kernel's map.
        elements["verdicts"]["tcp", 30080] = Element(("tcp", 30080), cast(Goto, verdict))
    return Table(Schema("ip", "test", MAPS, (*bases, *own)), elements)


def fates(walked: Trace) -> dict[Fate, Fraction]:
    found: dict[Fate, Fraction] = defaultdict(Fraction)
    for outcome in walked.outcomes:
        found[outcome.fate] += outcome.probability
    return dict(found)


def fate(made: Table, packet: Packet = PACKET) -> Fate:
    """The one fate of a packet that has no other."""
    ((only, share),) = fates(trace(made, packet, OWN)).items()
    assert share == 1
    return only


@pytest.mark.parametrize(
    "made",
    [
        table((DnatSlot(PORT, 1, "slots"),), slots={0: ("nonsense", 80)}),
        table((DnatSlot(PORT, 1, "slots"),), slots={0: ("10.0.0.999", 80)}),
        table((DnatSlot(PORT, 1, "slots"),), slots={0: cast(tuple[str, int], ("10.244.1.2", 80, 80))}),
        table((Dnat("tcp", "9" * 5000, 80),)),
        table((InSet((Field.SADDR,), "sources"), Drop()), sources=("172.30/99",)),
        table((InSet((Field.SADDR,), "sources"), Drop()), sources=("\x1b[2J/24",)),
        table((NotIn(Field.DADDR, "nowhere"), Drop())),
        table((GotoChance("one", 1, 0),), chains={"one": (DROP,)}),
        table((GotoChance("one", 3, 2),), chains={"one": (DROP,)}),
        table((GotoChance("one", -1, 2),), chains={"one": (DROP,)}),
    ],
)
def test_impossible_values_in_a_table_are_errors_in_its_own_words(made: Table) -> None:
    with pytest.raises(TraceError) as raised:
        trace(made, PACKET, OWN)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("packet", [Packet("x", NODE, "tcp", 30080), Packet(CLIENT, "1.2.3", "tcp", 80)])
def test_impossible_packets_are_errors_too(packet: Packet) -> None:
    with pytest.raises(TraceError, match="is not an address"):
        trace(table((Local(Field.SADDR), Drop())), packet, OWN)


# --- the vocabulary ---------------------------------------------------------------------------------------

KNOWN = {
    "InSet": ["fields", "set", "negated"],
    "NotIn": ["field", "prefix"],
    "Local": ["field"],
    "Interface": ["name", "negated"],
    "Translated": [],
    "Established": [],
    "Offload": ["flowtable"],
    "MarkHas": ["bits"],
    "MarkSet": ["bits"],
    "MarkFlip": ["bits"],
    "Dispatch": ["fields", "map"],
    "DnatSlot": ["fields", "slots", "map", "offset", "hashed"],
    "GotoChance": ["chain", "share", "of"],
    "Learn": ["set", "seconds"],
    "Dnat": ["protocol", "address", "port"],
    "Jump": ["chain"],
    "Goto": ["chain"],
    "Drop": [],
    "Reject": ["tcp_reset"],
    "Masquerade": [],
}
"""What the walk knows. An operand that comes to a statement must be taught to the walk, or it would be ignored."""


def test_the_walk_knows_the_whole_vocabulary_and_every_operand() -> None:
    assert {kind.__name__: [f.name for f in fields(kind)] for kind in get_args(Statement)} == KNOWN


@dataclass(frozen=True)
class Novelty:
    """A statement that the ruleset does not have yet."""


def test_an_unknown_statement_is_an_error_and_no_guess() -> None:
    made = table((cast(Statement, Novelty()),), DROP)
    with pytest.raises(TraceError, match=r"^chain base, rule 1: unknown statement Novelty\(\)$"):
        trace(made, PACKET, OWN)


SLOT_RULE = (DnatSlot(PORT, 1, "slots"),)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (table((Goto("nowhere"),)), "chain base, rule 1 leads to 'nowhere'"),
        (table((Dispatch(PORT, "verdicts"),), verdict=Goto("drop")), "leads to 'drop'"),
        (table((Dispatch(PORT, "verdicts"),), verdict=("10.244.1.2", 80)), "verdicts holds no verdict"),
        (table((Dispatch(PORT, "nothing"),)), "looks into nothing"),
        (table((InSet((Field.SLOT,), "sources"),)), "no packet has a field"),
        (table((Local(Field.DPORT),)), "'th dport' is not an address"),
        (table((DnatSlot(PORT, 0, "slots"),)), "a draw of no slots"),
        (table((DnatSlot(PORT, 1, "slots"),), slots={0: cast(tuple[str, int], Goto("x"))}), "no address and port"),
        (table(post=(SLOT_RULE,), slots={0: ("10.244.1.2", 80)}), "dnat in the hook postrouting"),
        (table((Masquerade(),)), "masquerade in the hook prerouting"),
        (table(post=(REFUSE,)), "reject in the hook postrouting"),
    ],
)
def test_what_the_kernel_would_refuse_is_an_error(made: Table, words: str) -> None:
    elsewhere = replace(PACKET, destination="192.0.2.1")  # so that it is forwarded
    with pytest.raises(TraceError, match=words):
        trace(made, elsewhere, OWN)


# --- chains -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "chains", "expected"),
    [
        ((), {}, Fate.UNTOUCHED),
        (((Jump("one"),), DROP), {"one": ()}, Fate.DROPPED),  # a jump comes back to the next rule
        (((Goto("one"),), DROP), {"one": ()}, Fate.UNTOUCHED),  # a goto does not: the policy accepts
        (((Jump("one"),), DROP), {"one": ((Goto("two"),), REFUSE), "two": ()}, Fate.DROPPED),
        (((Jump("one"),), DROP), {"one": ((Jump("two"),), REFUSE), "two": ()}, Fate.REFUSED),
        (((Jump("one"),), DROP), {"one": ((Goto("two"),),), "two": (REFUSE,)}, Fate.REFUSED),
        (((Dispatch(PORT, "verdicts"),), DROP), {"one": ()}, Fate.DROPPED),  # says nothing
    ],
)
def test_jump_returns_and_goto_does_not(
    rules: tuple[Rule, ...], chains: dict[str, tuple[Rule, ...]], expected: Fate
) -> None:
    assert fate(table(*rules, chains=chains)) is expected


def test_a_verdict_map_sends_the_packet_on_by_goto() -> None:
    made = table((Dispatch(PORT, "verdicts"),), DROP, verdict=Goto("one"), chains={"one": (REFUSE,)})
    (outcome,) = trace(made, PACKET, OWN).outcomes
    assert (outcome.fate, outcome.tcp_reset) == (Fate.REFUSED, False)
    assert [(place.chain, place.number) for place in outcome.path] == [("base", 1), ("one", 1)]
    assert [found.element.value for found in outcome.path[0].hits] == [Goto("one")]
    assert fate(made, replace(PACKET, port=1)) is Fate.DROPPED


def chain_of(length: int) -> Table:
    chains: dict[str, tuple[Rule, ...]] = {f"c{length - 1}": (DROP,)}
    for i in range(1, length - 1):
        chains[f"c{i}"] = ((Goto(f"c{i + 1}") if i % 2 else Jump(f"c{i + 1}"),),)
    return table((Jump("c1"),), chains=chains)


def test_sixteen_chains_deep_and_no_deeper() -> None:
    assert fate(chain_of(16)) is Fate.DROPPED
    with pytest.raises(TraceError, match="leads to c16, deeper than 16 chains"):
        trace(chain_of(17), PACKET, OWN)


def test_a_loop_is_an_error() -> None:
    with pytest.raises(TraceError, match="is it a loop"):
        trace(table((Jump("one"),), chains={"one": ((Goto("two"),),), "two": ((Goto("one"),),)}), PACKET, OWN)


def test_base_chains_go_by_priority_and_a_translation_ends_the_hook() -> None:
    dnat, drop = (DnatSlot(PORT, 1, "slots"),), Chain("late", (DROP,), Hook("prerouting", 0))
    made = table(dnat, slots={0: ("10.244.1.2", 80)})
    later = replace(made, schema=replace(made.schema, chains=(drop, *made.schema.chains)))
    assert fate(later) is Fate.FORWARDED
    first = replace(drop, hook=Hook("prerouting", -150))
    assert fate(replace(made, schema=replace(made.schema, chains=(*made.schema.chains, first)))) is Fate.DROPPED
    assert fate(later, replace(PACKET, port=1)) is Fate.DROPPED  # what is not translated comes to it


# --- statements -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "inside"),
    [
        ("10.244.0.0", True),
        ("10.244.255.255", True),
        ("10.245.0.0", False),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("fd00:244:0:1::5", True),
        ("fd00:245::1", False),
    ],
)
def test_an_interval_set_holds_what_its_prefixes_hold(source: str, inside: bool) -> None:
    held = ("10.244.0.0/16", "192.0.2.1", "fd00:244::/32")
    for negated in (False, True):
        made = table((InSet((Field.SADDR,), "sources", negated=negated), Drop()), sources=held)
        expected = Fate.DROPPED if inside is not negated else Fate.UNTOUCHED
        assert fate(made, replace(PACKET, source=source)) is expected


@pytest.mark.parametrize(
    ("destination", "expected"),
    [("127.0.0.9", Fate.UNTOUCHED), ("128.0.0.1", Fate.DROPPED), ("172.30.1.2", Fate.DROPPED)],
)
def test_not_in_a_prefix(destination: str, expected: Fate) -> None:
    made = table((NotIn(Field.DADDR, "127.0.0.0/8"), Drop()))
    assert fate(made, replace(PACKET, destination=destination)) is expected


@pytest.mark.parametrize(
    ("destination", "local"),
    [(NODE, True), ("127.0.0.1", True), ("::1", True), ("fd00:30:1::2", True), ("172.30.2.2", False)],
)
def test_local_is_an_address_of_the_node_or_loopback(destination: str, local: bool) -> None:
    made = table((Local(), Drop()))
    assert fate(made, replace(PACKET, destination=destination)) is (Fate.DROPPED if local else Fate.UNTOUCHED)


def test_local_may_ask_for_the_source() -> None:
    made = table((Local(Field.SADDR), Drop()))
    assert fate(made) is Fate.UNTOUCHED
    assert fate(made, replace(PACKET, source=NODE)) is Fate.DROPPED


def test_an_interface_that_nobody_knows_is_an_error_where_it_matters() -> None:
    with pytest.raises(UnknownInterface, match="comes in on eth0"):
        trace(table((Interface("eth0"), Drop())), PACKET, OWN)
    assert fate(table(DROP, (Interface("eth0"), Drop()))) is Fate.DROPPED


@pytest.mark.parametrize(
    ("name", "interface", "same"),
    [("eth0", "eth0", True), ("eth0", "eth01", False), ("cali*", "cali7", True), ("cali*", "eth0", False)],
)
def test_interfaces(name: str, interface: str, same: bool) -> None:
    for negated in (False, True):
        rule = Interface(name, negated), Drop()
        expected = Fate.DROPPED if same is not negated else Fate.UNTOUCHED
        assert fate(table(rule), replace(PACKET, interface=interface)) is expected
        # What the node sends came in on none, whatever one says.
        sent = replace(PACKET, interface=interface, from_node=True)
        assert fate(table(rule, hook="output"), sent) is (Fate.DROPPED if negated else Fate.UNTOUCHED)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (((MarkSet(0x4000),), (MarkHas(0x4000), Drop())), Fate.DROPPED),
        (((MarkSet(0x4000),), (MarkHas(0x4001), Drop())), Fate.UNTOUCHED),
        (((MarkSet(0x4001),), (MarkFlip(0x4000),), (MarkHas(0x4000), Drop())), Fate.UNTOUCHED),
        (((MarkSet(0x4001),), (MarkFlip(0x4000),), (MarkHas(0x1), Drop())), Fate.DROPPED),
        # What a rule did before it broke stays done.
        (((MarkSet(0x1), InSet((Field.SADDR,), "sources")), (MarkHas(0x1), Drop())), Fate.DROPPED),
    ],
)
def test_marks(rules: tuple[Rule, ...], expected: Fate) -> None:
    assert fate(table(*rules)) is expected


def test_a_drawn_chain_has_the_probability_of_its_share() -> None:
    chains: dict[str, tuple[Rule, ...]] = {"one": ((Dnat("tcp", "10.244.1.2", 80),),), "two": (DROP,)}
    made = table((GotoChance("one", 1, 2),), (GotoChance("two", 2, 3),), REFUSE, chains=chains)
    walked = trace(made, PACKET, OWN)
    assert fates(walked) == {
        Fate.FORWARDED: Fraction(1, 2),
        Fate.DROPPED: Fraction(1, 3),
        Fate.REFUSED: Fraction(1, 6),
    }
    assert [step.taken for step in walked.steps if isinstance(step.place.rule[0], GotoChance)] == [
        Fraction(1, 2),
        Fraction(1, 3),
    ]


def test_a_drawn_chain_has_to_end_the_packets_way() -> None:
    made = table((GotoChance("one", 1, 2),), chains={"one": ((MarkSet(1),),)})
    with pytest.raises(TraceError, match=r"chain base, rule 1: chain one is drawn and does not end the packet's way"):
        trace(made, PACKET, OWN)


def test_a_translation_to_one_endpoint_is_for_its_protocol_alone() -> None:
    made = table((Dnat("udp", "10.244.1.2", 53),), (Dnat("tcp", "10.244.1.3", 80),))
    (outcome,) = trace(made, PACKET, OWN).outcomes
    assert (outcome.fate, outcome.destination, outcome.port) == (Fate.FORWARDED, "10.244.1.3", 80)
    with pytest.raises(TraceError, match="dnat in the hook postrouting"):
        trace(table(post=((Dnat("tcp", "10.244.1.2", 80),),)), replace(PACKET, destination="192.0.2.1"), OWN)


def test_who_is_remembered_is_found_and_learning_changes_nothing() -> None:
    known = (InSet((Field.SADDR,), "affinity/x"), Drop())
    made = table((Learn("affinity/x", 60),), known, REFUSE)
    made = replace(made, maps={"affinity/x": Map("affinity/x", (Field.SADDR,), learned=True)})
    assert fate(made) is Fate.REFUSED
    assert fate(replace(made, memories={"affinity/x": (Memory((CLIENT,), 60000, 1),)})) is Fate.DROPPED


def test_a_hash_of_ports_counts_as_a_draw() -> None:
    slots = {0: ("10.244.1.2", 80), 1: ("10.244.1.2", 80), 2: ("10.244.1.3", 80), 3: ("10.244.1.2", 80)}
    walked = trace(table((DnatSlot(PORT, 4, "slots", hashed=(Field.SADDR, Field.SPORT)),), slots=slots), PACKET, OWN)
    assert [outcome.probability for outcome in walked.outcomes] == [Fraction(3, 4), Fraction(1, 4)]


@pytest.mark.parametrize(("protocol", "reset"), [("tcp", True), ("udp", False), ("sctp", False)])
def test_a_reset_is_for_tcp_alone(protocol: str, reset: bool) -> None:
    made = table((Reject(tcp_reset=True),), (Reject(),))
    (outcome,) = trace(made, replace(PACKET, protocol=protocol), OWN).outcomes
    assert (outcome.fate, outcome.tcp_reset) == (Fate.REFUSED, reset)


def test_the_mark_and_the_translation_are_known_in_postrouting() -> None:
    dnat = (MarkSet(1), DnatSlot(PORT, 1, "slots"))
    pod, itself = ("10.244.1.2", 80), (NODE, 30080)
    post = ((MarkHas(1), Translated(), Masquerade()),)
    (outcome,) = trace(table(dnat, slots={0: pod}, post=post), PACKET, OWN).outcomes
    assert (outcome.destination, outcome.port, outcome.masqueraded) == (*pod, True)
    (outcome,) = trace(table(post=post), replace(PACKET, destination="192.0.2.1"), OWN).outcomes
    assert (outcome.fate, outcome.masqueraded) == (Fate.UNTOUCHED, False)
    # A translation to where it was going sets no IPS_DST_NAT; and what ends on the node meets no postrouting …
    (outcome,) = trace(table(dnat, slots={0: itself}, post=post), PACKET, OWN).outcomes
    assert (outcome.fate, outcome.here, outcome.masqueraded) == (Fate.FORWARDED, True, False)
    # … but for what the node sends to itself, which goes out through lo first.
    sent = replace(PACKET, source=NODE, from_node=True)
    for slot, masqueraded in ((itself, False), ((NODE, 80), True)):
        (outcome,) = trace(table(dnat, hook="output", slots={0: slot}, post=post), sent, OWN).outcomes
        assert (outcome.here, outcome.masqueraded) == (True, masqueraded)


def test_a_packet_meets_the_hooks_of_its_way_and_no_others() -> None:
    hooks = ("prerouting", "input", "forward", "output", "postrouting")
    noop: Rule = (MarkSet(1),)
    chains = tuple(Chain(f"at-{hook}", (noop,), Hook(hook, 0)) for hook in hooks)
    made = Table(Schema("ip", "test", (), chains))

    def passed(packet: Packet) -> list[str]:
        return [step.hook for step in trace(made, packet, OWN).steps]

    away = replace(PACKET, destination="192.0.2.1")
    assert passed(PACKET) == ["prerouting", "input"]
    assert passed(away) == ["prerouting", "postrouting"]
    assert passed(replace(away, source=NODE, from_node=True)) == ["output", "postrouting"]
    assert passed(replace(PACKET, source=NODE, from_node=True)) == ["output", "postrouting"]


# --- draws ------------------------------------------------------------------------------------------------

draws = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2)), max_size=4)
"""Draws of (slots, offset): at most 256 ways they can turn out."""

fillings = st.dictionaries(st.integers(0, 5), st.integers(1, 3), max_size=6)
"""Slots and the endpoints in them; one endpoint may have several, as a heavier one has."""


@given(draws, fillings)
def test_draws_add_up_to_what_all_ways_they_can_turn_out_give(
    sizes: list[tuple[int, int]], filled: dict[int, int]
) -> None:
    slots = {slot: (f"10.244.1.{endpoint}", 80) for slot, endpoint in filled.items()}
    rules = [(DnatSlot(PORT, size, "slots", offset),) for size, offset in sizes]
    walked = trace(table(*rules, DROP, slots=slots), PACKET, OWN)

    ways = list(itertools.product(*(range(offset, offset + size) for size, offset in sizes)))
    expected: dict[str, Fraction] = defaultdict(Fraction)
    for way in ways:
        hits = [slots[slot][0] for slot in way if slot in slots]
        expected[hits[0] if hits else "dropped"] += Fraction(1, len(ways))

    found = {o.destination if o.fate is Fate.FORWARDED else "dropped": o.probability for o in walked.outcomes}
    assert found == dict(expected)
    assert sum(found.values()) == 1
    for step in walked.steps:
        assert 0 <= step.taken <= step.reached <= 1


# --- compiled tables --------------------------------------------------------------------------------------


def compiled(count: int, *, mode: NodePortMode = NodePortMode.PRIMARY, family: Family = Family.IPV4) -> Table:
    """default/web with a clusterIP, a nodePort and ``count`` endpoints, the first of them on this node."""
    first = ip_address("10.244.1.2" if family is Family.IPV4 else "fd00:244:1::2")
    endpoints = [make_endpoint(str(first + i), node="worker-2" if i else "worker-1") for i in range(count)]
    ips = ("10.96.0.10",) if family is Family.IPV4 else ("fd00:10:96::a",)
    service = make_service("web", make_port(80, node_port=30080), ips=ips)
    snapshot = Snapshot((service,), (make_slice(*endpoints),))
    tables = compile_snapshot(snapshot, replace(FACTS, node_port_mode=mode)).tables
    return Table(tables.schemas[family], tables.desired[family].elements)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 33, 65, 300])
def test_every_endpoint_has_its_share_but_for_the_stated_deviation(count: int) -> None:
    walked = trace(compiled(count), PACKET, OWN)
    assert sum(outcome.probability for outcome in walked.outcomes) == 1
    assert {outcome.fate for outcome in walked.outcomes} == {Fate.FORWARDED}
    shares = [outcome.probability * count for outcome in walked.outcomes]
    assert len(shares) == count
    assert min(shares) >= 1 - Fraction(1, 2) ** TRIES
    assert max(shares) <= 1 + Fraction(1, 2) ** TRIES
    if count & (count - 1) == 0:
        assert set(shares) == {1}


CLUSTER_IP = "10.96.0.10"


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (Packet(CLIENT, NODE, "tcp", 30080), {POD: "masqueraded", "10.244.1.3": "masqueraded"}),
        (Packet(NODE, NODE, "tcp", 30080, from_node=True), {POD: "masqueraded", "10.244.1.3": "masqueraded"}),
        (Packet(POD, CLUSTER_IP, "tcp", 80), {POD: "masqueraded", "10.244.1.3": "kept"}),  # a hairpin
        (Packet("10.244.1.3", CLUSTER_IP, "tcp", 80), {POD: "kept", "10.244.1.3": "kept"}),
        (Packet(NODE, CLUSTER_IP, "tcp", 80, from_node=True), {POD: "masqueraded", "10.244.1.3": "masqueraded"}),
    ],
)
def test_who_is_masqueraded(packet: Packet, expected: dict[str, str]) -> None:
    outcomes = trace(compiled(2), packet, OWN).outcomes
    assert {o.destination: "masqueraded" if o.masqueraded else "kept" for o in outcomes} == expected


@pytest.mark.parametrize(
    ("packet", "mode", "expected"),
    [
        (Packet(CLIENT, NODE, "tcp", 30081), NodePortMode.PRIMARY, Fate.UNTOUCHED),
        (Packet(CLIENT, NODE, "udp", 30080), NodePortMode.PRIMARY, Fate.UNTOUCHED),
        (Packet(CLIENT, "172.30.1.3", "tcp", 30080), NodePortMode.PRIMARY, Fate.UNTOUCHED),
        (Packet(CLIENT, NODE, "tcp", 30080), NodePortMode.ALL, Fate.REFUSED),
        (Packet(NODE, "127.0.0.1", "tcp", 30080, from_node=True), NodePortMode.ALL, Fate.UNTOUCHED),
        (Packet(POD, CLUSTER_IP, "tcp", 80), NodePortMode.PRIMARY, Fate.REFUSED),
        (Packet(POD, CLUSTER_IP, "tcp", 81), NodePortMode.PRIMARY, Fate.REFUSED),
        (Packet(POD, "10.96.0.11", "udp", 81), NodePortMode.PRIMARY, Fate.DROPPED),
        (Packet(POD, "10.112.0.1", "udp", 81), NodePortMode.PRIMARY, Fate.UNTOUCHED),
    ],
)
def test_without_endpoints_nothing_is_forwarded(packet: Packet, mode: NodePortMode, expected: Fate) -> None:
    assert fate(compiled(0, mode=mode), packet) is expected


def test_ipv6() -> None:
    made = compiled(2, family=Family.IPV6)
    pod = "fd00:244:1::2"
    outcomes = trace(made, Packet(pod, "fd00:10:96::a", "tcp", 80), OWN).outcomes
    assert [(o.destination, o.masqueraded) for o in outcomes] == [(pod, True), ("fd00:244:1::3", False)]
    assert fate(made, Packet(pod, "fd00:10:96::b", "tcp", 80)) is Fate.DROPPED


def test_half_a_change_never_lets_a_packet_through_untranslated() -> None:
    """A verdict for eight slots over the two that are left: the packet draws on until it meets one."""
    made, shrunk = compiled(8), compiled(2)
    torn = Table(made.schema, {**made.elements, "node-port-endpoints": shrunk.elements["node-port-endpoints"]})
    assert fates(trace(torn, PACKET, OWN)) == {Fate.FORWARDED: 1}
    empty = Table(made.schema, {**made.elements, "node-port-endpoints": {}})
    assert fates(trace(empty, PACKET, OWN)) == {Fate.DROPPED: 1}
