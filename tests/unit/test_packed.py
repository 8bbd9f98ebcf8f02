"""Elements as the kernel tells them: what is ours is compared as it is, what is not is named, nothing is an error."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nodeport_nft.compile import compile_schema, nft_family
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink import reading
from nodeport_nft.kernel.netlink.dumps import Interrupted
from nodeport_nft.kernel.netlink.layouts import (
    DATA_VALUE,
    DATA_VERDICT,
    ELEM_DATA,
    ELEM_EXPIRATION,
    ELEM_EXPR,
    ELEM_EXPRESSIONS,
    ELEM_FLAGS,
    ELEM_KEY,
    ELEM_PAD,
    ELEM_TIMEOUT,
    ELEM_USERDATA,
    LIST_ELEM,
    LIST_ELEMENTS,
    Layout,
    layout_of,
)
from nodeport_nft.kernel.netlink.messages import BODY, attribute
from nodeport_nft.kernel.netlink.packed import OddElement, PackedElements, make_reader
from nodeport_nft.kernel.netlink.reading import read_elements, read_memories, read_prefixes
from nodeport_nft.model import Family
from nodeport_nft.plan import Endpoints, SlotsView, diff
from nodeport_nft.plan.edits import differing
from nodeport_nft.ruleset import Element, Field, Goto, Key, Map, Memory, Pool, Table, Value
from tests.builders import FACTS

SCHEMAS = {family: compile_schema(family, FACTS) for family in Family}
MAPS = [declared for declared in SCHEMAS[Family.IPV4].maps if not declared.interval]
COUNTER = attribute(1, b"counter\0") + attribute(
    2, attribute(1, struct.pack(">Q", 7 << 32)) + attribute(2, struct.pack(">Q", 3))
)
ONE_COUNTER = attribute(ELEM_EXPR, COUNTER)
COMMENTS = st.text(st.characters(exclude_characters='"\n\0', codec="utf-8"), max_size=30)


def key_of(declared: Map, family: Family, data: st.DataObject) -> Key:
    kinds: dict[Field, st.SearchStrategy[Any]] = {
        Field.L4PROTO: st.sampled_from(("tcp", "udp", "sctp")),
        Field.DPORT: st.integers(0, 65535),
        Field.SLOT: st.integers(0, 65535),
    }
    addresses = st.ip_addresses(v=4 if family is Family.IPV4 else 6).map(str)
    return tuple(data.draw(kinds.get(field, addresses)) for field in declared.key)


def value_of(declared: Map, family: Family, data: st.DataObject) -> Value:
    if declared.data == "verdict":
        return Goto(data.draw(st.sampled_from(("refuse", "service/1", "a" * 200))))
    return key_of(Map("", declared.data), family, data) if isinstance(declared.data, tuple) else None  # type: ignore[return-value]


def told(layout: Layout, element: Element, *more: bytes, counter: bytes = ONE_COUNTER) -> bytes:
    """An element as the kernel tells it, with these attributes besides."""
    parts = attribute(ELEM_KEY, attribute(DATA_VALUE, layout.key.pack(element.key)))
    if isinstance(element.value, Goto):
        parts += verdict(-4, element.value.chain)
    elif element.value:
        assert layout.value is not None
        parts += attribute(ELEM_DATA, attribute(DATA_VALUE, layout.value.pack(element.value)))
    parts += counter + b"".join(more)
    if element.comment:
        text = element.comment.encode()[:200] + b"\0"
        parts += attribute(ELEM_USERDATA, bytes((0, len(text))) + text)
    return attribute(LIST_ELEM, parts)


def verdict(code: int, chain: str = "") -> bytes:
    named = attribute(2, chain.encode() + b"\0") if chain else b""
    return attribute(ELEM_DATA, attribute(DATA_VERDICT, attribute(1, struct.pack(">i", code)) + named))


def message(elements: Iterable[bytes]) -> bytes:
    return bytes(BODY) + attribute(1, b"nodeport-nft\0") + attribute(LIST_ELEMENTS, b"".join(elements))


def read(layout: Layout, *elements: bytes) -> PackedElements:
    packed: dict[bytes, bytes] = {}
    assert make_reader(layout)(message(elements), packed) == len(elements)
    return PackedElements(layout, packed)


def layout(family: Family, name: str) -> Layout:
    found = layout_of(nft_family(family), name)
    assert found is not None
    return found


@given(st.sampled_from(MAPS), st.sampled_from(Family), st.data())
def test_what_is_told_is_read_and_what_is_equal_makes_no_difference(
    declared: Map, family: Family, data: st.DataObject
) -> None:
    known = layout(family, declared.name)
    counters = st.sampled_from(
        (b"", attribute(ELEM_EXPR, COUNTER), attribute(ELEM_EXPRESSIONS, attribute(1, COUNTER)))
    )
    keys = [key_of(declared, family, data) for _ in range(data.draw(st.integers(0, 4)))]
    elements = {key: Element(key, value_of(declared, family, data), data.draw(COMMENTS)) for key in keys}
    there = read(known, *(told(known, element, counter=data.draw(counters)) for element in elements.values()))
    assert dict(there) == dict(there.items()) == elements
    assert list(there.values()) == list(elements.values())
    assert all(key in there for key in elements)
    assert there.differing(elements) == {}
    schema = SCHEMAS[family]
    wanted = {**elements}
    for key in keys[:1]:
        wanted[key] = wanted[key]._replace(comment="another")
    for key in keys[1:2]:
        wanted.pop(key, None)
    more = key_of(declared, family, data)
    wanted[more] = Element(more, value_of(declared, family, data))
    want = Table(schema, {declared.name: wanted})
    assert diff(Table(schema, {declared.name: there}), want) == diff(Table(schema, {declared.name: elements}), want)


def test_the_endpoints_behind_a_frontend_end_with_the_first_empty_slot() -> None:
    known = layout(Family.IPV6, "node-port-endpoints")
    ends = {slot: (f"fd00::1:{slot:x}", 80 + slot) for slot in (0, 1, 3, 32768)}
    there = read(known, *(told(known, Element(("tcp", 30080, slot), end)) for slot, end in ends.items()))

    def run(protocol: str, first: int = 0, likely: Endpoints = ()) -> Endpoints:
        key, verdict = (protocol, 30080), Goto("node-port/2")
        return there.run(Pool("node-ports", key, verdict, "node-port-endpoints", likely, "", first))

    assert run("tcp") == (ends[0], ends[1])
    assert run("tcp", 32768) == (ends[32768],)
    for likely in ((ends[0], ends[1]), (ends[1], ends[0]), (ends[0],), (ends[0], ends[1], ends[3])):
        assert run("tcp", 0, likely) == (ends[0], ends[1])
    assert run("udp") == run("no such") == ()


ENDS = ("10.244.1.1", 80), ("10.244.1.2", 80), ("10.244.1.3", 80)


@pytest.mark.parametrize("held", [ENDS[:1], ENDS[:2], ENDS, (ENDS[1], ENDS[0])])
@pytest.mark.parametrize("comment", ["default/web", "default/other", ""])
def test_what_was_looked_at_for_its_places_differs_as_it_would_have(held: Endpoints, comment: str) -> None:
    known = layout(Family.IPV4, "node-port-endpoints")
    slots = [Element(("tcp", 30080, slot), end, comment) for slot, end in enumerate(held)]
    there, again = (read(known, *(told(known, slot) for slot in slots)) for _ in range(2))
    pool = Pool("node-ports", ("tcp", 30080), Goto("node-port/2"), "node-port-endpoints", ENDS[:2], "default/web")
    twin = replace(pool, comment="default/twin")
    assert there.run(pool) == held
    for wanted in (pool, twin):
        view = SlotsView({0: {pool.key: wanted}})
        assert there.differing(view) == again.differing(view) == differing(dict(again), dict(view))


def test_no_key_of_the_map_is_in_it() -> None:
    known = layout(Family.IPV4, "service-ips")
    there = read(known)
    for key in (("x", "tcp", 80), ("10.0.0.1", "tcp", 70000), ("10.0.0.1",), "no key"):
        assert key not in there
    assert there.get(("10.0.0.1", "tcp", 70000)) is None


VIP = Element(("10.96.0.10", "tcp", 80), Goto("refuse"))


@pytest.mark.parametrize(
    ("code", "words"), [(0, "drop"), (1, "accept"), (-3, "jump refuse"), (-5, "return"), (9, "9")]
)
def test_another_verdict_is_read_and_equal_to_none_of_ours(code: int, words: str) -> None:
    known = layout(Family.IPV4, "service-ips")
    told_verdict = verdict(code, "refuse" if code == -3 else "")
    there = read(known, told(known, VIP._replace(value=None), told_verdict, counter=b""))
    assert there[VIP.key].value == Goto(words)
    assert there.differing({VIP.key: VIP._replace(value=Goto(words))}).keys() == {VIP.key}


VIPS = layout(Family.IPV4, "service-ips")
BARE = VIP._replace(value=None)
LIMIT = attribute(1, attribute(1, b"limit\0"))
ODD = {
    "a timeout": told(VIPS, VIP, attribute(ELEM_TIMEOUT, bytes(8))),
    "flags": told(VIPS, VIP, attribute(ELEM_FLAGS, struct.pack(">I", 1))),
    "an end of its key": told(VIPS, VIP, attribute(10, attribute(DATA_VALUE, bytes(12)))),
    "an object": told(VIPS, VIP, attribute(9, b"quota\0")),
    "something new": told(VIPS, VIP, attribute(99, b"")),
    "another expression": told(VIPS, VIP, counter=attribute(ELEM_EXPR, attribute(1, b"limit\0"))),
    "another expression besides": told(VIPS, VIP, counter=attribute(ELEM_EXPRESSIONS, attribute(1, COUNTER) + LIMIT)),
    "no key": attribute(LIST_ELEM, verdict(-4, "refuse") + attribute(ELEM_FLAGS, struct.pack(">I", 2))),
    "a longer key": attribute(LIST_ELEM, attribute(ELEM_KEY, attribute(DATA_VALUE, bytes(16)))),
    "a value": told(VIPS, BARE, attribute(ELEM_DATA, attribute(DATA_VALUE, bytes(8)))),
    "nothing": attribute(LIST_ELEM, b""),
}


@pytest.mark.parametrize("odd", ODD)
def test_an_element_that_is_none_of_ours_is_named(odd: str) -> None:
    with pytest.raises(OddElement) as raised:
        read(VIPS, ODD[odd])
    assert str(raised.value).isprintable()


NETLINK = cast(socket.socket, None)  # nothing is asked: the answers are given here
ONE, TWO = told(VIPS, VIP), told(VIPS, VIP._replace(key=("10.96.0.11", "tcp", 80)))


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[list[bytes]]:
    """What the dumps that follow tell, one after the other; the last again and again."""
    given: list[list[bytes]] = []

    def dump(*_: object) -> Iterator[bytes]:
        yield from given.pop(0) if len(given) > 1 else given[0]

    monkeypatch.setattr(reading, "dump", dump)
    monkeypatch.setattr(reading, "settled", lambda _: b"")
    monkeypatch.setattr(reading, "_PAUSE", 0)
    return given


def test_a_dump_that_has_an_element_twice_may_lack_another_and_is_read_again(answers: list[list[bytes]]) -> None:
    """As while the kernel grows a map's hash table between two pieces."""
    answers += [[message((ONE,)), message((ONE,))], [message((ONE,)), message((TWO,))]]
    assert len(read_elements(NETLINK, VIPS)) == 2


def test_a_map_that_never_comes_to_rest_is_an_error(answers: list[list[bytes]]) -> None:
    answers.append([message((ONE, ONE))])
    with pytest.raises(KernelError, match="map service-ips cannot be read: it changes all the time"):
        read_elements(NETLINK, VIPS)


def test_commits_without_an_end_are_put_up_with(monkeypatch: pytest.MonkeyPatch, answers: list[list[bytes]]) -> None:
    answers.append([message((ONE, TWO))])

    def dump(*asked: object) -> Iterator[bytes]:
        yield from answers[0]
        if asked[-1] is not None:  # it is to be whole
            raise Interrupted

    monkeypatch.setattr(reading, "dump", dump)
    assert len(read_elements(NETLINK, VIPS)) == 2


PAD = attribute(ELEM_PAD, b"")
"""Stands before each number of 64 bits on machines that want it at an address that 8 divides."""


def learned(last: int, pad: bytes = b"") -> bytes:
    """What a set tells of the client 192.0.2.LAST."""
    key = attribute(ELEM_KEY, attribute(DATA_VALUE, bytes((192, 0, 2, last))))
    times = [pad + attribute(kind, struct.pack(">Q", ms)) for kind, ms in ((ELEM_TIMEOUT, 9), (ELEM_EXPIRATION, 7))]
    return attribute(LIST_ELEM, key + b"".join(times))


LEARNED = layout(Family.IPV4, "affinity/default/web")


@pytest.mark.parametrize("pad", [b"", PAD])
def test_what_a_set_has_learned_is_read_on_any_machine(answers: list[list[bytes]], pad: bytes) -> None:
    answers.append([message((learned(1, pad),))])
    assert read_memories(NETLINK, LEARNED) == (Memory(("192.0.2.1",), 9, 7),)


def test_a_set_that_tells_a_client_twice_is_read_again_and_at_last_put_up_with(answers: list[list[bytes]]) -> None:
    answers += [[message((learned(1), learned(1)))], [message((learned(1), learned(2)))]]
    assert len(read_memories(NETLINK, LEARNED)) == 2
    answers[:] = [[message((learned(1), learned(1)))]]
    assert [memory.key for memory in read_memories(NETLINK, LEARNED)] == [("192.0.2.1",)]


def test_a_counter_is_padded_on_some_machines() -> None:
    padded = attribute(1, b"counter\0") + attribute(
        2, PAD + attribute(1, struct.pack(">Q", 7)) + PAD + attribute(2, struct.pack(">Q", 3))
    )
    assert dict(read(VIPS, told(VIPS, VIP, counter=attribute(ELEM_EXPR, padded)))) == {VIP.key: VIP}


@pytest.mark.parametrize("expression", [attribute(ELEM_EXPR, COUNTER), attribute(ELEM_EXPRESSIONS, LIMIT)])
def test_a_prefix_with_more_than_a_comment_is_named(answers: list[list[bytes]], expression: bytes) -> None:
    """Such as a limit, by which it is not always in the set."""
    prefixes = layout(Family.IPV4, "service-cidrs")
    key = attribute(ELEM_KEY, attribute(DATA_VALUE, bytes((240, 0, 0, 0))))
    answers.append([message((attribute(LIST_ELEM, key + expression),))])
    with pytest.raises(OddElement, match=r"240\.0\.0\.0, with more than a comment"):
        read_prefixes(NETLINK, prefixes)
