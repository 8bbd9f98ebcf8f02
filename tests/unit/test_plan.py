"""The planner: places of endpoints, contested frontends, shared elements, and the size of a change."""

from __future__ import annotations

import pytest

from nodeport_nft.plan import Add, Delete, Desired, Edits, diff, place, plan_edits
from nodeport_nft.ruleset import Contender, Element, Field, Goto, Key, Map, Pool, Schema, Table

A, B, C, D = (("10.244.0.1", 80), ("10.244.0.2", 80), ("10.244.0.3", 80), ("10.244.0.4", 80))
SCHEMA = Schema(
    "ip",
    "test",
    (Map("frontends", (Field.DPORT,), "verdict"), Map("slots", (Field.DPORT, Field.SLOT), ()), Map("shared", ())),
    (),
)


def held(**maps: list[Element]) -> dict[str, dict[Key, Element]]:
    return {name: {element.key: element for element in elements} for name, elements in maps.items()}


def pool(port: int, *endpoints: tuple[str, int], verdict: str = "draw", comment: str = "") -> Pool:
    return Pool("frontends", (port,), Goto(verdict), "slots", endpoints, comment)


def contender(name: str, *pools: Pool, created: str = "", shared: tuple[tuple[str, Element], ...] = ()) -> Contender:
    return Contender((created, "default", name), tuple((p,) for p in pools), shared)


def slots(desired: Desired) -> dict[int, list[tuple[str, int]]]:
    found: dict[int, list[tuple[str, int]]] = {}
    for (port, slot), element in sorted(desired.elements["slots"].items()):
        assert isinstance(port, int)
        assert isinstance(element.value, tuple)
        places = found.setdefault(port, [])
        assert slot == len(places), "slots are dense"
        places.append(element.value)
    return found


@pytest.mark.parametrize(
    ("before", "endpoints", "after"),
    [
        ((), (A, B), (A, B)),
        ((A, B, C), (A, B, C), (A, B, C)),
        ((C, A, B), (A, B, C), (C, A, B)),  # who is there keeps the place, whatever the order
        ((A, B, C), (A, B), (A, B)),
        ((A, B, C), (B, C), (C, B)),  # the last one moves into the hole
        ((A, B), (A, B, C), (A, B, C)),
        ((A, B, C), (D, B), (D, B)),
        ((A, A, B), (A, B), (A, B)),  # a damaged table may hold one twice
        ((A, B, C), (), ()),
    ],
)
def test_place(
    before: tuple[tuple[str, int], ...], endpoints: tuple[tuple[str, int], ...], after: tuple[tuple[str, int], ...]
) -> None:
    assert place(before, endpoints) == after


def test_adopted_places_are_kept() -> None:
    desired = Desired(adopted=held(slots=[Element((1, 0), C), Element((1, 1), A)]))
    desired.update(("default", "web"), contender("web", pool(1, A, B, C)))
    assert slots(desired) == {1: [C, A, B]}


@pytest.mark.proves("F10")
def test_the_older_claimant_holds_a_frontend_with_its_whole_pool() -> None:
    desired = Desired()
    desired.update(("default", "young"), contender("young", pool(1, A, B, C, verdict="draw/4"), created="2026"))
    desired.update(("default", "old"), contender("old", pool(1, D, verdict="draw/1"), created="2025"))
    assert slots(desired) == {1: [D]}
    assert desired.elements["frontends"][(1,)].value == Goto("draw/1")
    (contest,) = desired.contests()
    assert (contest.holder[2], contest.loser[2]) == ("old", "young")


@pytest.mark.proves("F10")
def test_the_next_claimant_takes_over_when_the_holder_leaves() -> None:
    desired = Desired()
    desired.update(("default", "young"), contender("young", pool(1, A, B), created="2026"))
    desired.update(("default", "old"), contender("old", pool(1, C), created="2025"))
    desired.update(("default", "old"), None)
    assert slots(desired) == {1: [A, B]}
    assert desired.contests() == ()


@pytest.mark.proves("F10")
def test_without_a_creation_time_the_name_decides() -> None:
    desired = Desired()
    desired.update(("default", "b"), contender("b", pool(1, B)))
    desired.update(("default", "a"), contender("a", pool(1, A)))
    assert slots(desired) == {1: [A]}


@pytest.mark.proves("F10")
def test_a_loser_that_leaves_changes_nothing() -> None:
    desired = Desired()
    desired.update(("default", "old"), contender("old", pool(1, A), created="2025"))
    desired.update(("default", "young"), contender("young", pool(1, B), created="2026"))
    desired.take_edits()
    desired.update(("default", "young"), None)
    assert desired.take_edits() == Edits()


def test_pools_that_go_together_are_held_together() -> None:
    """A loser gets nothing of a contested frontend, also no pool that the holder does not want."""
    inside = Pool("inside", (1,), Goto("draw"), "slots", (A, B), "")
    outside = Pool("frontends", (1,), Goto("draw"), "slots", (A,), "", 1000)
    desired = Desired()
    desired.update(("default", "young"), Contender(("2026", "default", "young"), ((outside, inside),)))
    assert set(desired.elements["slots"]) == {(1, 0), (1, 1), (1, 1000)}
    desired.update(("default", "old"), contender("old", pool(1, C), created="2025"))
    assert slots(desired) == {1: [C]}
    assert desired.elements["inside"] == {}
    desired.update(("default", "old"), None)
    assert set(desired.elements["slots"]) == {(1, 0), (1, 1), (1, 1000)}
    assert (1,) in desired.elements["inside"]
    desired.update(("default", "young"), None)
    assert not any(desired.elements.values())


def test_shared_elements_leave_with_their_last_owner() -> None:
    desired = Desired()
    shared = (("shared", Element(("10.0.0.1",))),)
    desired.update(("default", "a"), contender("a", shared=shared))
    desired.update(("default", "b"), contender("b", shared=shared))
    desired.update(("default", "a"), None)
    assert ("10.0.0.1",) in desired.elements["shared"]
    desired.update(("default", "b"), None)
    assert desired.elements["shared"] == {}


def test_an_owner_may_change_while_it_keeps_a_shared_element() -> None:
    desired = Desired()
    shared = (("shared", Element(("10.0.0.1",))),)
    desired.update(("default", "a"), contender("a", pool(1, A), shared=shared))
    desired.take_edits()
    desired.update(("default", "a"), contender("a", pool(1, A), shared=shared))
    assert desired.take_edits() == Edits()


def test_a_change_that_is_taken_back_is_none() -> None:
    desired = Desired()
    desired.update(("default", "a"), contender("a", pool(1, A)))
    desired.take_edits()
    desired.update(("default", "a"), contender("a", pool(1, A, B)))
    desired.update(("default", "a"), contender("a", pool(1, A)))
    assert desired.take_edits() == Edits()


def test_deletions_go_before_additions_and_keys_are_sorted() -> None:
    have = held(slots=[Element((2, 0), A), Element((1, 0), A)])
    want = held(slots=[Element((2, 0), B), Element((3, 0), A)])
    (transaction,) = plan_edits(SCHEMA, diff(Table(SCHEMA, have), Table(SCHEMA, want)))
    delete, add = transaction.operations
    assert delete.keys == ((1, 0), (2, 0))  # type: ignore[union-attr]  # it is a Delete, or this fails
    assert [element.key for element in add.elements] == [(2, 0), (3, 0)]  # type: ignore[union-attr]  # an Add
    assert transaction.size == 4


def test_lingering_elements_leave_in_a_transaction_of_their_own() -> None:
    schema = Schema("ip", "test", (*SCHEMA.maps, Map("pairs", (Field.SADDR,), lingers=True)), ())
    have = held(slots=[Element((1, 0), A)], pairs=[Element(("a",)), Element(("b",), None, "x")])
    want = held(pairs=[Element(("b",)), Element(("c",))])
    now, after = plan_edits(schema, diff(Table(SCHEMA, have), Table(SCHEMA, want)))
    assert (now.late, after.late) == (False, True)
    assert now.operations == (
        Delete("slots", ((1, 0),)),
        Delete("pairs", (("b",),)),
        Add("pairs", (Element(("b",)), Element(("c",)))),
    )
    assert after.operations == (Delete("pairs", (("a",),)),)


def test_equal_states_need_no_transaction() -> None:
    have = held(slots=[Element((1, 0), A)], shared=[])
    assert not plan_edits(SCHEMA, diff(Table(SCHEMA, have), Table(SCHEMA, held(slots=[Element((1, 0), A)]))))
