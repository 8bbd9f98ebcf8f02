"""Maglev's look-up table: the same everywhere, even, and little moved by a change."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeport_nft.compile import MAGLEV_SLOTS
from nodeport_nft.compile.maglev import maglev

ENDPOINTS = st.lists(
    st.tuples(st.ip_addresses(v=4).map(str), st.integers(1, 65535)), min_size=1, max_size=40, unique=True
)

pytestmark = pytest.mark.proves("X7")


@given(ENDPOINTS)
def test_slots_are_shared_evenly(endpoints: list[tuple[str, int]]) -> None:
    counts = Counter(maglev(dict.fromkeys(endpoints, 1), MAGLEV_SLOTS))
    assert set(counts) == set(endpoints)
    assert counts.total() == MAGLEV_SLOTS
    assert max(counts.values()) - min(counts.values()) <= 1


@given(ENDPOINTS, st.data())
def test_weights_are_shares(endpoints: list[tuple[str, int]], data: st.DataObject) -> None:
    weights = {endpoint: data.draw(st.integers(1, 100)) for endpoint in endpoints}
    counts = Counter(maglev(weights, MAGLEV_SLOTS))
    assert counts.total() == MAGLEV_SLOTS
    # Each has one slot at first, and its share of the rest to within one; of which the first ones take up to a slot.
    rest, heaviest = MAGLEV_SLOTS - len(weights), max(weights.values())
    for endpoint, weight in weights.items():
        fair = 1 + rest * weight / sum(weights.values())
        assert counts[endpoint] >= 1
        assert abs(counts[endpoint] - fair) <= 2 + weight / heaviest * len(weights) / sum(weights.values()) * heaviest


@pytest.mark.parametrize(
    ("weights", "slots"),
    [((100, 100), (125, 126)), ((100, 100, 100), (83, 84)), ((90, 90, 90, 1), (1, 84)), ((5,) * 60, (4, 5))],
)
def test_heavy_endpoints_leave_room_for_all(weights: tuple[int, ...], slots: tuple[int, int]) -> None:
    endpoints = {(f"10.244.0.{i}", 80): weight for i, weight in enumerate(weights)}
    counts = Counter(maglev(endpoints, MAGLEV_SLOTS))
    assert (min(counts.values()), max(counts.values())) == slots
    assert len(counts) == len(weights)


def test_one_endpoint_less_moves_little_else() -> None:
    endpoints = [(f"10.244.0.{i}", 80) for i in range(1, 11)]
    before = maglev(dict.fromkeys(endpoints, 1), MAGLEV_SLOTS)
    for gone in endpoints:
        after = maglev({endpoint: 1 for endpoint in endpoints if endpoint != gone}, MAGLEV_SLOTS)
        moved = sum(old != new for old, new in zip(before, after, strict=True) if old != gone)
        # A table made from scratch would move nine of ten; Maglev's authors accept a few percent.
        assert moved / MAGLEV_SLOTS < 0.2


def test_more_endpoints_than_slots_and_none() -> None:
    many = [(f"10.244.{i // 256}.{i % 256}", 80) for i in range(300)]
    assert set(maglev(dict.fromkeys(many, 1), MAGLEV_SLOTS)) == set(many[:MAGLEV_SLOTS])
    assert maglev({}, MAGLEV_SLOTS) == ()
