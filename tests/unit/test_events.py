"""What is told of objects as Events: once, however long it lasts and on how many nodes, and never much at once."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from nodeport_nft.model import Ref
from nodeport_nft.store.api import Happening
from nodeport_nft.store.kubernetes.events import Due, Notebook, event_about, note
from tests.unit.test_agenda import Clock

WEB = Ref("Service", "default", "web")
CONTESTED = Happening(WEB, "FrontendContested", "192.0.2.1 tcp 80 is held by Service/default/old")


class Node:
    """A notebook and its clock; what it would write is written at once, as an Event of ``own``."""

    def __init__(self, chance: float = 0.0, own: str = "web.1") -> None:
        self.clock = Clock()
        self.notebook = Notebook(self.clock, lambda: chance)
        self.own = own

    def pass_on(self, seconds: float, *happenings: Happening) -> list[tuple[float, Due]]:
        """What is written in so many seconds, each with its time, while these happenings last."""
        end, written = self.clock.now + seconds, []
        self.notebook.tell(happenings)
        while (rest := self.notebook.rest()) <= end - self.clock.now:
            self.clock.now += rest
            due = self.notebook.next()
            assert due is not None, "who has rested finds something"
            written.append((self.clock.now, due))
            self.notebook.written(due, self.own)
        self.clock.now = end
        return written


@pytest.mark.proves("W6")
def test_what_lasts_is_one_event_renewed_before_the_api_server_forgets_it() -> None:
    node = Node(chance=1.0)
    written = node.pass_on(4 * 3600, CONTESTED)
    assert [due.event for _, due in written] == ["", *["web.1"] * (len(written) - 1)]
    assert [due.count for _, due in written] == list(range(len(written)))
    times = [at for at, _ in written]
    assert len(times) >= 4
    assert all(1500 <= later - at < 3600 for at, later in pairwise(times))


def test_another_nodes_event_is_looked_for_again_and_never_renewed() -> None:
    node = Node(own="")
    assert {due.event for _, due in node.pass_on(4 * 3600, CONTESTED)} == {""}


def test_what_is_told_in_between_changes_nothing() -> None:
    node = Node()
    (first,) = node.pass_on(10, CONTESTED)
    assert sum(len(node.pass_on(1, CONTESTED)) for _ in range(600)) == 0
    assert first[1].happening == CONTESTED


def test_nodes_that_find_it_at_once_come_one_after_the_other() -> None:
    times = [Node(chance=chance / 10).pass_on(60, CONTESTED)[0][0] for chance in range(11)]
    assert len(set(times)) == len(times)


@pytest.mark.parametrize("between", [(), (Happening(WEB, "FrontendContested", "another"),)])
def test_what_comes_and_goes_is_told_every_five_minutes_at_most(between: tuple[Happening, ...]) -> None:
    node = Node()
    written = [each for _ in range(300) for now in ((CONTESTED,), between) for each in node.pass_on(2, *now)]
    times = [at for at, _ in written]
    assert len(times) >= 3
    assert all(later - at >= 300 for at, later in pairwise(times))


def test_what_is_past_before_its_turn_is_never_told() -> None:
    node = Node(chance=1.0)
    assert node.pass_on(1, CONTESTED) == []
    assert node.pass_on(4000) == []


def test_another_note_of_the_same_reason_is_another_event() -> None:
    node = Node()
    node.pass_on(400, CONTESTED)
    other = Happening(WEB, "FrontendContested", "192.0.2.1 tcp 80 is held by Service/default/older")
    ((_, due),) = node.pass_on(10, other)
    assert (due.happening, due.event, due.count) == (other, "", 0)


def test_a_thousand_faults_at_once_are_a_trickle() -> None:
    node = Node()
    many = [Happening(Ref("Service", "default", f"s{n}"), "KernelRefused", "no") for n in range(2000)]
    written = node.pass_on(600, *many)
    assert len(written) <= 25 + 600 / 30 + 1
    assert len({due.happening.ref for _, due in written}) == len(written), "each has its turn"


def test_what_was_told_and_is_gone_is_forgotten() -> None:
    node = Node()
    for number in range(50):
        node.pass_on(60, Happening(Ref("Service", "default", f"s{number}"), "KernelRefused", "no"))
    node.pass_on(400)
    node.notebook.tell(())
    assert len(node.notebook._noted) == 0


# --- the Event itself -------------------------------------------------------------------------------------------


def event(happening: Happening = CONTESTED, uid: str = "u1", node: str = "node-1") -> dict[str, object]:
    return event_about(happening, uid, node, "2026-01-01T00:00:00.000000Z")


def test_all_nodes_mean_the_same_event_and_other_faults_are_others() -> None:
    def name(**others: str) -> object:
        reason = others.pop("reason", CONTESTED.reason)
        message = others.pop("message", CONTESTED.message)
        return event(Happening(WEB, reason, message), **others)["metadata"]

    assert name(node="node-1") == name(node="node-2")
    different = [name(), name(uid="u2"), name(reason="KernelRefused"), name(message="another")]
    assert len({str(each) for each in different}) == len(different)


@pytest.mark.parametrize("name", ["web", "a" * 63, "a" * 253, f"{'a' * 199}.b", f"{'a' * 198}-.b", "a.b-c"])
@pytest.mark.parametrize("kind", ["Service", "Node"])
def test_each_name_makes_a_name(name: str, kind: str) -> None:
    """A DNS subdomain (RFC 1123) of at most 253 characters."""
    namespace = "shop" if kind == "Service" else ""
    made = event(Happening(Ref(kind, namespace, name), "SyncFailed", "x"), node="n" * 253)
    metadata = made["metadata"]
    assert isinstance(metadata, dict)
    assert len(metadata["name"]) <= 253
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", metadata["name"])
    assert metadata["namespace"] == (namespace or "default"), "those of what has no namespace go there"
    assert len(str(made["reportingInstance"])) <= 128


@pytest.mark.parametrize("messages", [["short"], ["x" * 2000], ["ü" * 2000], ["🦀" * 700], ["a", "b" * 5000]])
def test_a_note_has_at_most_1024_bytes(messages: list[str]) -> None:
    text = note(messages)
    assert 0 < len(text.encode()) <= 1024
    assert text.endswith("…") == (sum(len(each.encode()) for each in messages) > 1024)


def test_a_note_is_one_printable_line() -> None:
    assert note(["a\x1b[31m\nb", "c"]).isprintable()
