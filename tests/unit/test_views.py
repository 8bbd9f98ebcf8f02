"""Elements that are made when somebody looks are those that would be kept."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from nodeport_nft.kernel.netlink.elements import new_elements
from nodeport_nft.plan.edits import differing
from nodeport_nft.plan.views import SetView, SlotsView, VerdictsView
from nodeport_nft.ruleset import Element, Goto, Key, Pool

A, B, C = ("10.244.0.1", 80), ("10.244.0.2", 80), ("10.244.0.3", 80)
WEB = Pool("frontends", ("10.96.0.1", "tcp", 80), Goto("draw/2"), "slots", (A, B), "default/web")
HERE = Pool("inside", ("10.96.0.1", "tcp", 80), Goto("draw/1"), "slots", (C,), "default/web", 1000)
DNS = Pool("frontends", ("10.96.0.2", "udp", 53), Goto("draw/1"), "slots", (C,), "default/dns")

SLOTS = {
    (*WEB.key, 0): Element((*WEB.key, 0), A, "default/web"),
    (*WEB.key, 1): Element((*WEB.key, 1), B, "default/web"),
    (*WEB.key, 1000): Element((*WEB.key, 1000), C, "default/web"),
    (*DNS.key, 0): Element((*DNS.key, 0), C, "default/dns"),
}
PAIRS: dict[Key, Element] = {("10.244.0.1",): Element(("10.244.0.1",)), ("10.244.0.2",): Element(("10.244.0.2",))}
VERDICTS = {pool.key: Element(pool.key, pool.verdict, pool.comment) for pool in (WEB, DNS)}


def views() -> tuple[VerdictsView, SlotsView]:
    by_key = {pool.key: pool for pool in (WEB, DNS)}
    return VerdictsView(by_key), SlotsView({0: by_key, 1000: {HERE.key: HERE}})


@pytest.mark.parametrize(
    ("view", "kept"),
    [*zip(views(), (VERDICTS, SLOTS), strict=True), (SetView(dict.fromkeys(PAIRS)), PAIRS)],
    ids=["verdicts", "slots", "set"],
)
def test_a_view_is_as_the_dict_would_be(view: Mapping[Key, Element], kept: dict[Key, Element]) -> None:
    assert view == kept
    assert len(view) == len(kept)
    assert sorted(view) == sorted(view.keys()) == sorted(kept)
    assert sorted(view.values()) == sorted(kept.values())
    assert sorted(view.items()) == sorted(kept.items())
    assert {key: view[key] for key in kept} == kept
    assert all(key in view and view.get(key) == element for key, element in kept.items())
    assert all(repr(element) in repr(view) for element in kept.values())


@pytest.mark.parametrize("key", [(*WEB.key, 2), (*WEB.key, 999), (*WEB.key, 1001), (*WEB.key, -1), (*DNS.key, 1000)])
def test_a_slot_that_is_empty_is_not_there(key: Key) -> None:
    _, slots = views()
    assert key not in slots
    assert slots.get(key) is None
    with pytest.raises(KeyError):
        slots[key]


def test_a_frontend_that_nobody_has_is_not_there() -> None:
    verdicts, slots = views()
    assert ("10.96.0.9", "tcp", 80) not in verdicts
    assert ("10.96.0.9", "tcp", 80, 0) not in slots
    assert ("10.244.0.9",) not in SetView(dict.fromkeys(PAIRS))
    assert SetView(dict.fromkeys(PAIRS)).get(("10.244.0.9",)) is None
    assert not VerdictsView({})
    assert not SlotsView({0: {}})


def test_a_view_shows_what_there_is_now() -> None:
    pools: dict[Key, Pool] = {}
    verdicts, slots = VerdictsView(pools), SlotsView({0: pools})
    pools[WEB.key] = WEB
    assert (len(verdicts), len(slots)) == (1, 2)


def test_slots_can_be_had_by_frontend() -> None:
    _, slots = views()
    assert [(pool.key, pool.first, pool.endpoints) for pool in slots.pools()] == [
        (WEB.key, 0, (A, B)),
        (DNS.key, 0, (C,)),
        (HERE.key, 1000, (C,)),
    ]


def test_what_differs_is_found_as_between_dicts() -> None:
    """Also where it is a comment alone, a slot more, another place, or a whole frontend."""
    changed = (
        replace(WEB, endpoints=(B, A)),
        replace(WEB, endpoints=(A, B, C)),
        replace(WEB, endpoints=(A,)),
        replace(WEB, comment="default/other"),
        replace(WEB, verdict=Goto("draw/4")),
        WEB,
    )
    views: list[tuple[VerdictsView, SlotsView]] = []
    for one in changed:
        for pools in ({one.key: one}, {one.key: one, DNS.key: DNS}):
            views += [(VerdictsView(pools), SlotsView({0: pools, 1000: here})) for here in ({}, {HERE.key: HERE})]
    for have in views:
        for want in views:
            for old, new in zip(have, want, strict=True):
                expected = differing(dict(old), dict(new))
                assert old.differing(new) == expected
                assert old.differing(dict(new)) == expected


def test_a_run_is_what_stands_in_a_frontends_slots() -> None:
    verdicts, slots = views()
    beside = replace(WEB, first=1000, endpoints=(A,))
    assert (slots.run(replace(WEB, endpoints=(C,))), slots.run(beside), slots.run(replace(DNS, first=1000))) == (
        (A, B),
        (C,),
        (),
    )
    assert verdicts.run(WEB) == ()


@pytest.mark.parametrize(
    ("family", "vip", "pods"), [("ip", "10.96.0.1", "10.244.0."), ("ip6", "fd00::1", "fd00:244::")]
)
def test_pools_are_written_as_their_elements_would_be(family: str, vip: str, pods: str) -> None:
    def pool(port: int, endpoints: int, comment: str, first: int = 0) -> Pool:
        ends = tuple((f"{pods}{number + 1}", 8000 + number) for number in range(endpoints))
        return Pool("service-ips", (vip, "tcp", port), Goto("service/4"), "service-endpoints", ends, comment, first)

    pools = (pool(80, 3, "default/web"), pool(81, 1, ""), pool(82, 2, "default/web:second"))
    local = pool(80, 2, "default/web", 32768)
    view = SlotsView({0: {each.key: each for each in pools}, 32768: {local.key: local}})
    written = [*new_elements(family, "service-endpoints", view)]
    assert written == [*new_elements(family, "service-endpoints", dict(view))]
    assert len(written) == 1
