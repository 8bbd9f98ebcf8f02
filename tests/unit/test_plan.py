"""The planner: places of endpoints, contested frontends, shared elements, and the size of a change."""

from __future__ import annotations

import pytest

from nodeport_nft.plan import (
    Add,
    AddChain,
    AddMap,
    AddRules,
    Contest,
    Delete,
    DeleteChain,
    DeleteMap,
    Desired,
    Edits,
    FlushChain,
    Remove,
    Replace,
    Transaction,
    diff,
    place,
    plan_edits,
    plan_replacement,
)
from nodeport_nft.ruleset import (
    Chain,
    Contender,
    Drop,
    Element,
    Field,
    Goto,
    Key,
    Map,
    Memory,
    Pool,
    Schema,
    Shared,
    Table,
)

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


def contender(name: str, *pools: Pool, created: str = "", shared: tuple[Shared, ...] = ()) -> Contender:
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
    shared = (("shared", ("10.0.0.1",)),)
    desired.update(("default", "a"), contender("a", shared=shared))
    desired.update(("default", "b"), contender("b", shared=shared))
    desired.update(("default", "a"), None)
    assert ("10.0.0.1",) in desired.elements["shared"]
    desired.update(("default", "b"), None)
    assert desired.elements["shared"] == {}


def test_an_owner_may_change_while_it_keeps_a_shared_element() -> None:
    desired = Desired()
    shared = (("shared", ("10.0.0.1",)),)
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


# --- who has what -------------------------------------------------------------


def test_a_frontend_has_one_holder_in_all_its_maps_and_the_losers_are_told_in_order() -> None:
    inside = Pool("inside", (1,), Goto("draw"), "", (), "")
    desired = Desired()
    assert desired.holder("frontends", (1,)) is None
    for name in ("d", "c", "b"):
        desired.update(("default", name), contender(name, pool(2, A), pool(1, A), created="2025"))
    desired.update(("default", "old"), Contender(("2024", "default", "old"), ((pool(1, A), inside),)))
    assert {key: desired.holder("frontends", (key,)) for key in (1, 2, 3)} == {
        1: ("default", "old"),
        2: ("default", "b"),
        3: None,
    }
    assert desired.holder("inside", (1,)) == ("default", "old"), "its key leads the frontend in another map"
    assert desired.holder("inside", (2,)) is None, "who has the frontend has no such element"
    old, b, c, d = (("2024", "default", "old"), *(("2025", "default", name) for name in "bcd"))
    assert desired.contests() == tuple(
        Contest("frontends", (key,), holder, loser)
        for loser, key, holder in ((b, 1, old), (c, 1, old), (c, 2, b), (d, 1, old), (d, 2, b))
    )
    desired.update(("default", "old"), None)
    assert desired.holder("frontends", (1,)) == ("default", "b")
    assert desired.holder("inside", (1,)) is None
    assert desired.contender(("default", "old")) is None
    assert desired.contender(("default", "b")) == contender("b", pool(2, A), pool(1, A), created="2025")


@pytest.mark.parametrize("owners", [1, 2, 3, 4])
def test_a_shared_element_is_there_as_long_as_anybody_wants_it(owners: int) -> None:
    """However often each of them is updated, and in whatever order they go."""
    desired, element = Desired(), Element(("10.0.0.1",))
    names = [f"o{i}" for i in range(owners)]
    for name in (*names, *names, *reversed(names)):
        desired.update(("default", name), contender(name, shared=(("shared", element.key),)))
        assert desired.elements["shared"] == {element.key: element}
    assert len([edit for edit in desired.take_edits().elements.values() if edit]) == 1
    for left in range(owners - 1, -1, -1):
        desired.update(("default", names[left]), None)
        assert bool(desired.elements["shared"]) == (left > 0)
    assert desired.take_edits().elements == {"shared": {element.key: (element, None)}}


def test_fixed_endpoints_stand_as_they_are_given_whatever_stood_there() -> None:
    def fixed(*endpoints: tuple[str, int]) -> Pool:
        return Pool("frontends", (1,), Goto("hash"), "slots", endpoints, "", fixed=True)

    desired = Desired(adopted=held(slots=[Element((1, 0), C), Element((1, 1), A)]))
    for endpoints in ((A, B, C), (C, B, A), (B, C), (A, A, B)):
        desired.update(("default", "web"), contender("web", fixed(*endpoints)))
        assert slots(desired) == {1: list(endpoints)}


def test_adopted_places_count_only_where_nothing_stands_yet() -> None:
    desired = Desired(adopted=held(slots=[Element((1, 0), C), Element((1, 1), A), Element((1, 3), D)]))
    desired.update(("default", "web"), contender("web", pool(1, A, B)))
    assert slots(desired) == {1: [B, A]}
    desired.update(("default", "web"), contender("web", pool(1, A, B, C)))
    assert slots(desired) == {1: [B, A, C]}, "and not C, A, B, as the kernel had it once"


def test_two_pools_of_one_key_keep_their_places_apart() -> None:
    """That of this node begins at a slot of its own, and loses its slots and no others."""

    def local(*endpoints: tuple[str, int]) -> Contender:
        outside = Pool("frontends", (1,), Goto("draw"), "slots", endpoints, "", 1000)
        return Contender(
            ("", "default", "web"), ((outside, Pool("inside", (1,), Goto("draw"), "slots", (A, B), "")),)
        )

    desired = Desired()
    for here in ((A, B, C), (B, C), (C,), (C, D, A), ()):
        desired.update(("default", "web"), local(*here))
        assert {desired.elements["slots"][1, slot].value for slot in (0, 1)} == {A, B}
        assert {key[1] for key in desired.elements["slots"]} == {0, 1, *range(1000, 1000 + len(here))}
        assert {e.value for key, e in desired.elements["slots"].items() if key[1] in range(1000, 2000)} == {*here}


def test_changes_are_noted_from_the_first_time_they_are_taken() -> None:
    desired = Desired(is_noting=False)
    desired.update(("default", "a"), contender("a", pool(1, A)))
    assert not desired.take_edits(), "what was there before is compared as a whole"
    desired.update(("default", "a"), contender("a", pool(1, B)))
    assert desired.edits() == desired.edits() == Edits({"slots": {(1, 0): (Element((1, 0), A), Element((1, 0), B))}})
    assert desired.take_edits()
    assert not desired.take_edits()
    desired.put([("shared", ("10.0.0.1",))])
    assert desired.edits().elements.keys() == {"shared"}


def test_an_owners_maps_and_chains_come_change_and_go_with_it() -> None:
    one, other = Chain("own/a/1", ((Drop(),),)), Chain("own/a/2", ((Goto("own/a/1"),),))
    changed, declared = Chain("own/a/1", ()), Map("own/a/set", (Field.SADDR,))

    def owner(*chains: Chain, maps: tuple[Map, ...] = ()) -> Contender:
        return Contender(("", "default", "a"), (), (), maps, chains)

    desired = Desired()
    desired.update(("default", "a"), owner(one, other, maps=(declared,)))
    assert desired.take_edits() == Edits(
        {}, {declared.name: (None, declared)}, {"own/a/1": (None, one), "own/a/2": (None, other)}
    )
    desired.update(("default", "a"), owner(changed, other, maps=(declared,)))
    assert desired.take_edits() == Edits({}, {}, {"own/a/1": (one, changed)}), "what stays as it is is no edit"
    desired.update(("default", "a"), owner(one))
    desired.update(("default", "a"), owner(changed, other, maps=(declared,)))
    assert desired.take_edits() == Edits(), "nor what is back to what it was"
    desired.update(("default", "a"), None)
    assert desired.take_edits() == Edits(
        {}, {declared.name: (declared, None)}, {"own/a/1": (changed, None), "own/a/2": (other, None)}
    )
    assert (desired.maps, desired.chains) == ({}, {})


# --- transactions -------------------------------------------------------------


def test_what_leads_to_others_goes_first_and_comes_last() -> None:
    """The kernel refuses to delete what is led to, and to lead to what is not there."""
    gone, changed, new = (Chain(f"own/{name}", ((Drop(),), (Goto("own/stays"),))) for name in ("gone", "new", "x"))
    shorter = Chain(changed.name, ((Drop(),),))
    left, come = Map("sets/left", (Field.SADDR,)), Map("sets/come", (Field.SADDR,))
    have = Table(
        SCHEMA,
        held(frontends=[Element((1,), Goto("own/gone"))]) | {left.name: {("a",): Element(("a",))}},
        {left.name: left},
        {chain.name: chain for chain in (gone, changed)},
    )
    want = Table(
        SCHEMA,
        held(frontends=[Element((1,), Goto("own/x"))]) | {come.name: {("b",): Element(("b",))}},
        {come.name: come},
        {chain.name: chain for chain in (shorter, new)},
    )
    (transaction,) = plan_edits(SCHEMA, diff(have, want))
    assert transaction.operations == (
        Delete("frontends", ((1,),)),
        FlushChain("own/gone"),
        FlushChain("own/new"),
        DeleteChain("own/gone"),
        DeleteMap("sets/left"),
        AddMap(come),
        AddChain(new),
        AddRules(shorter),
        AddRules(new),
        Add("frontends", (Element((1,), Goto("own/x")),)),
        Add("sets/come", (Element(("b",)),)),
    )
    assert transaction.size == 1 + 2 + 1 + 1 + 1 + 1 + (1 + 2) + 1 + 1


def test_a_transaction_counts_what_it_writes() -> None:
    chain = Chain("c", ((Drop(),), (Drop(),)))
    table = Table(
        SCHEMA, held(slots=[Element((1, 0), A), Element((1, 1), B)], shared=[Element(("a",))]), {}, {"c": chain}
    )
    assert plan_replacement(table).size == 3 + 2
    assert Transaction("ip", "test", (Remove("ip", "test"),)).size == 1
    assert not Transaction("ip", "test")
    assert Transaction("ip", "test").size == 0


def test_a_replaced_table_keeps_what_it_has_learned_where_it_is_still_wanted() -> None:
    kept, lost = Map("affinity/a", (Field.SADDR,), learned=True), (Memory(("10.0.0.1",), 60_000, 5_000),)
    table = Table(SCHEMA, held(shared=[Element(("a",))]), {kept.name: kept}, {"c": Chain("c", ())})
    transaction = plan_replacement(table, {kept.name: lost, "affinity/gone": lost})
    assert (transaction.family, transaction.name, transaction.late) == ("ip", "test", False)
    (operation,) = transaction.operations
    assert operation == Replace(Table(SCHEMA, table.elements, table.maps, table.chains, {kept.name: lost}))


def test_who_is_second_in_line_holds_nothing_not_even_what_the_first_has_no_use_for() -> None:
    desired = Desired()
    inside = Pool("inside", (80,), Goto("draw"), "", (), "")
    desired.update(("default", "a"), Contender(("2026-01-01", "default", "a"), ((pool(80, A),),)))
    desired.update(("default", "b"), Contender(("2026-01-02", "default", "b"), ((pool(80, B), inside),)))
    assert desired.holder("frontends", (80,)) == ("default", "a")
    assert desired.holder("inside", (80,)) is None
    desired.update(("default", "a"), None)
    assert desired.holder("inside", (80,)) == ("default", "b")


def test_who_is_gone_leaves_nothing_behind() -> None:
    """A node runs for months, and Services come and go."""
    desired = Desired()
    shared = (("shared", (1,)),)
    for owner in ("a", "b"):
        desired.update(("default", owner), contender(owner, pool(80, A), shared=shared))
    assert len(desired.contests()) == 1
    for owner in ("b", "a"):
        desired.update(("default", owner), None)
    assert desired.contests() == ()
    assert not any(desired.elements.values())
    kept = (*desired._claims.values(), desired._waiting, desired._shares, desired._owners)
    assert not any(kept)


def test_edits_are_something_if_any_of_their_kinds_is() -> None:
    declared, chain = Map("own", (Field.SADDR,)), Chain("own", ())
    assert not Edits()
    assert Edits({"frontends": {(80,): (None, Element((80,)))}})
    assert Edits(maps={"own": (None, declared)})
    assert Edits(chains={"own": (chain, None)})
