"""What is known of a kind at an API server: what is told after a list, after an event, and after another history."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from nodeport_nft.model import Ref
from nodeport_nft.store.errors import StoreError
from nodeport_nft.store.kubernetes.decoding import Garbled, Item, read_bookmark, read_event, read_item, read_page
from nodeport_nft.store.kubernetes.errors import Refused, Unreachable
from nodeport_nft.store.kubernetes.known import Known, is_behind
from nodeport_nft.store.kubernetes.patience import AWAY_SECONDS, Refusals, is_away


def service(name: str, revision: int, port: Any = 80, uid: str = "u") -> Item:
    metadata = {"name": name, "namespace": "default", "uid": uid + name, "resourceVersion": str(revision)}
    spec = {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [{"port": port, "protocol": "TCP"}]}
    return read_item(msgspec.Raw(json.dumps({"metadata": metadata, "spec": spec}).encode()))


def listed(known: Known, revision: int, *items: Item) -> bool:
    listing = known.begin()
    known.note(listing, items)
    return known.adopt(listing, str(revision))


def told(known: Known) -> dict[str, bool]:
    """Which objects were to be told of, and whether they are there."""
    found = {ref.name: bool(values) for ref, values in known.pending.items()}
    known.pending = {}
    return found


def named(names: Iterable[str]) -> set[Ref]:
    return {Ref("Service", "default", name) for name in names}


@pytest.fixture
def known() -> Known:
    """Two Services that have been told of, at revision 10."""
    made = Known("Service")
    assert listed(made, 10, service("a", 5), service("b", 6))
    assert told(made) == {"a": True, "b": True}
    return made


def test_only_what_differs_is_told_after_another_list(known: Known) -> None:
    assert listed(known, 20, service("a", 5), service("c", 15))
    assert told(known) == {"b": False, "c": True}
    assert listed(known, 21, service("a", 5), service("c", 15))
    assert told(known) == {}
    assert listed(known, 22, service("a", 5, uid="another"), service("c", 15))
    assert told(known) == {"a": True}


def test_events_are_told_once(known: Known) -> None:
    assert known.change(service("a", 11, 81), deleted=False)
    assert not known.change(service("a", 11, 81), deleted=False)
    assert known.change(service("b", 12), deleted=True)
    assert not known.change(service("b", 12), deleted=True)
    assert told(known) == {"a": True, "b": False}
    assert known.revision == "12"
    known.reached("40")
    known.reached("30")
    known.reached("")
    assert known.revision == "40"


def test_everything_is_told_of_another_history(known: Known) -> None:
    assert not listed(known, 9, service("a", 5), service("b", 6)), "compared with what is not comparable"
    assert told(known) == {}
    assert not known.is_current
    assert known.is_listed, "what was told stays"
    assert listed(known, 9, service("a", 5))
    assert told(known) == {"a": True, "b": False}


def test_everything_is_told_once_it_is_forgotten(known: Known) -> None:
    begun_before = known.begin()
    known.note(begun_before, [service("a", 5), service("b", 6)])
    known.forget()
    assert not known.change(service("a", 11), deleted=False), "a list will have it"
    assert not known.adopt(begun_before, "10"), "it has left out what had been told"
    assert listed(known, 12, service("a", 5))
    assert told(known) == {"a": True}


def test_what_cannot_be_read_keeps_its_last_state_and_is_read_when_it_is_mended(known: Known) -> None:
    broken = Item("default", "a", "ua 11", None, "its body is not JSON")
    assert known.change(broken, deleted=False)
    assert told(known) == {}
    assert set(known.damaged) == named("a")
    assert listed(known, 12, broken, service("b", 6))
    assert (told(known), set(known.damaged)) == ({}, named("a"))
    assert known.change(service("a", 13), deleted=False)
    assert (told(known), known.damaged) == ({"a": True}, {})


def test_an_item_without_a_name_takes_none_for_gone(known: Known) -> None:
    nameless = read_item(msgspec.Raw(b'{"metadata":{}}'))
    assert listed(known, 20, service("a", 5), nameless)
    assert told(known) == {}
    assert known.damaged
    assert known.is_listed
    assert not known.is_current, "it is listed again, and may be mended then"
    assert listed(known, 21, service("a", 5))
    assert told(known) == {"b": False}
    assert not known.damaged
    assert known.is_current
    assert known.change(nameless, deleted=False)
    assert not known.is_current


def test_what_is_passed_over_is_told_once(known: Known) -> None:
    strange = service("a", 11, "eighty")
    assert known.change(strange, deleted=False)
    (texts,) = known.untold.values()
    assert "spec.ports[0].port" in texts[0]
    known.untold = {}
    assert known.change(service("a", 12, "eighty"), deleted=False)
    known.forget()
    assert listed(known, 13, strange)
    assert not known.untold
    assert known.change(service("a", 14, "ninety"), deleted=False)
    assert known.untold


@pytest.mark.parametrize(
    ("one", "other", "behind"),
    [("9", "10", True), ("10", "9", False), ("9", "9", False), ("", "9", False), ("9", "", False), ("x", "y", False)],
)
def test_revisions_are_compared_as_numbers(one: str, other: str, behind: bool) -> None:
    assert is_behind(one, other) is behind


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"{}",
        b'{"metadata":7}',
        b'{"metadata":{},"items":{}}',
        b'{"kind":"Status","metadata":{},"status":"Success"}',
        b'{"kind":"Service","metadata":{"name":"a","resourceVersion":"7"}}',
        b'{"kind":"ServiceList","metadata":{}}',
        b'{"metadata":{"resourceVersion":"7"}}',
        b'{"kind":"ServiceList","metadata":{"resourceVersion":"7"}}',
        b'{"kind":"ServiceList","metadata":{"resourceVersion":"7"},"items":{}}',
        b"<html>",
        b"\xff",
    ],
)
def test_what_is_no_list_is_garbled(body: bytes) -> None:
    with pytest.raises(Garbled):
        read_page(body)


def test_a_list_of_nothing_has_null_for_its_items() -> None:
    assert read_page(b'{"kind":"ServiceList","metadata":{"resourceVersion":"7"},"items":null}').items == ()


@pytest.mark.parametrize(
    "line", [b"", b"7", b"{}", b'{"type":"ADDED"}', b'{"type":7,"object":{}}', b'{"type":"ADDED","object":{']
)
def test_what_is_no_event_is_garbled(line: bytes) -> None:
    with pytest.raises(Garbled):
        read_event(line)


@pytest.mark.parametrize(
    ("annotations", "is_end"), [("", False), (',"annotations":{"k8s.io/initial-events-end":"true"}', True)]
)
def test_bookmarks(annotations: str, is_end: bool) -> None:
    metadata = f'{{"resourceVersion":"12"{annotations}}}'
    line = f'{{"type":"BOOKMARK","object":{{"kind":"Service","metadata":{metadata}}}}}'
    assert read_bookmark(read_event(line.encode())) == ("12", is_end)


@pytest.mark.parametrize(
    ("body", "name", "why"),
    [
        (b'{"metadata":{"name":"a"},"spec":1e999}', "a", "not JSON"),
        (b'{"metadata":{"name":"a"},"spec":"\xff"}', "a", "not JSON"),
        (b'{"metadata":{"name":7}}', "", "no name"),
        (b'{"metadata":{"name":""}}', "", "no name"),
        (b"[]", "", "not a mapping"),
        (b"7", "", "not a mapping"),
        (b"null", "", "not a mapping"),
    ],
)
def test_an_item_that_cannot_be_decoded_says_which_it_is_if_it_can(body: bytes, name: str, why: str) -> None:
    item = read_item(msgspec.Raw(body))
    assert (item.name, item.raw) == (name, None)
    assert why in item.why


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (Unreachable("no connection"), True),
        (Refused("bad gateway", 502), True),
        (Refused("unavailable", 503), True),
        (Refused("unavailable", 503, retry_after=1.0), False),
        (Refused("timeout", 504), True),
        (Refused("internal", 500), False),
        (Refused("many", 429), False),
        (Refused("who", 401), False),
        (StoreError("other"), False),
    ],
)
def test_who_is_away(error: StoreError, away: bool) -> None:
    assert is_away(error) is away


def test_a_server_is_left_alone_for_longer_and_longer_and_as_long_as_it_asks() -> None:
    refusals = Refusals()
    pauses = [refusals.pause(Refused("internal", 500)) for _ in range(12)]
    assert pauses[0] <= 0.2
    assert 15.0 <= pauses[-1] <= 30.0
    assert refusals.pause(Refused("many", 429, retry_after=45.0)) >= 45.0
    assert refusals.pause(Refused("many", 429, retry_after=1e9)) <= 150.0, "a slip is not for ever"
    refusals.over()
    assert refusals.pause(Refused("internal", 500)) <= 0.2
    assert AWAY_SECONDS < 2.0
