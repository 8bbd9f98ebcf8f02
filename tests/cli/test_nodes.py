"""What ``get nodes`` and ``describe node`` say of a cluster's nodes, for each way that they can be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from nodeport_nft.cli.listing import Listing, Look
from nodeport_nft.cli.nodes import nodes_listing, registration_fields, select_nodes
from nodeport_nft.cli.resources import parse_targets
from nodeport_nft.cli.waiting import tell_waited
from nodeport_nft.kinds import BY_KIND
from nodeport_nft.kube import Object, parse_object
from nodeport_nft.model import Ranges, Ref
from nodeport_nft.store import Damaged
from nodeport_nft.store.api import NodeReport, Registered, Waited
from nodeport_nft.store.memory import MemoryStore
from tests.unit.test_store import NOW as CREATED
from tests.unit.test_store import RANGES
from tests.unit.test_store import node as stored_node

pytestmark = pytest.mark.proves("C5")

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOON = NOW.timestamp() - 30

WELL = NodeReport("a", version="1.2", programmed=SOON, started=SOON)
KINDS = {
    "well": Registered(WELL, is_alive=True, machine="rack-1"),
    "slow": Registered(NodeReport("a", version="1.2", programmed=SOON, pending=2, pending_since=SOON), is_alive=True),
    "refused": Registered(NodeReport("a", programmed=SOON, error="the kernel\nrefuses"), is_alive=True),
    "mended": Registered(NodeReport("a", programmed=SOON, last_error="busy", last_error_at=SOON), is_alive=True),
    "begins": Registered(NodeReport("a"), is_alive=True),
    "lost": Registered(NodeReport("a"), is_alive=False, lost_at=SOON),
    "just gone": Registered(NodeReport("a"), is_alive=False),
    "lost by a clock ahead": Registered(NodeReport("a"), is_alive=False, lost_at=SOON + 1000),
    "never registered": None,
}


def registered(kind: str) -> Registered:
    one = KINDS[kind]
    assert one
    return one


def node(**spec: object) -> Object:
    return Object(Ref("Node", "", "a"), {"metadata": {"name": "a"}, "spec": spec})


def text(listing: Listing) -> str:
    return listing.text(Look())


@pytest.mark.parametrize(
    ("kind", "cells"),
    [
        ("well", ["Ready", "1.2", "0s", "<none>"]),
        ("slow", ["Ready", "1.2", "30s", "<none>"]),
        ("refused", ["Ready", "<unknown>", "0s", "the kernel refuses"]),
        ("mended", ["Ready", "<unknown>", "0s", "busy"]),
        ("begins", ["Ready", "<unknown>", "<unknown>", "<none>"]),
        ("lost", ["NotReady", "<unknown>", "lost 30s", "<none>"]),
        ("just gone", ["NotReady", "<unknown>", "lost", "<none>"]),
        ("lost by a clock ahead", ["NotReady", "<unknown>", "lost 0s", "<none>"]),
        ("never registered", ["Unknown", "<none>", "<none>", "<none>"]),
    ],
)
def test_a_row_for_each_kind_of_node(kind: str, cells: list[str]) -> None:
    one = KINDS[kind]
    registered = {"a": one} if one else {}
    title, row = text(nodes_listing([node()], registered, wide=True, now=NOW)).splitlines()
    starts = [title.index(name) for name in ("STATUS", "VERSION", "LAG", "LAST-ERROR")]
    ends = [title.index(name) for name in ("ROLES", "LAG", "INTERNAL-IP")] + [len(row)]
    assert [row[start:end].strip() for start, end in zip(starts, ends, strict=True)] == cells
    assert "LAST-ERROR" not in text(nodes_listing([node()], registered, wide=False, now=NOW))


def test_a_node_that_takes_no_more_pods_is_ready_all_the_same() -> None:
    registered = {"a": KINDS["lost"] or KINDS["well"]}
    row = text(nodes_listing([node(unschedulable=True)], registered, wide=False, now=NOW))  # type: ignore[arg-type]
    assert "NotReady,SchedulingDisabled" in row


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("well", "Daemon", "1.2 on rack-1, since 2026-01-01 11:59:30 UTC (30s ago)"),
        ("well", "Lag", "none"),
        ("slow", "Lag", "2 Services to be written for 30s"),
        ("refused", "Last error", "the kernel refuses"),
        ("mended", "Last error", "2026-01-01 11:59:30 UTC (30s ago), solved since: busy"),
        ("begins", "Last sync", "<unknown>"),
        ("lost", "Ready", "False (its daemon is not to be seen since 2026-01-01 11:59:30 UTC (30s ago))"),
        ("just gone", "Ready", "False (its daemon is not to be seen)"),
        ("never registered", "Ready", "Unknown (no daemon has registered under this name)"),
    ],
)
def test_what_is_told_of_each_kind_of_node(kind: str, name: str, said: str) -> None:
    assert dict(registration_fields(KINDS[kind], NOW))[name] == said


@pytest.mark.proves("C6")
@pytest.mark.parametrize(
    ("waited", "is_well", "out", "err"),
    [
        (Waited(synced=(registered("well"),)), True, "node/a synced\n", ""),
        (Waited(synced=(registered("mended"),)), True, "node/a synced\n", ""),
        (Waited(synced=(registered("refused"),)), False, "", "error: node/a is not synced: the kernel\nrefuses\n"),
        (
            Waited(late=(registered("refused"),)),
            False,
            "",
            "is not synced after 5 s: its last sync failed: the kernel",
        ),
        (Waited(late=(registered("slow"),)), False, "", "is not synced after 5 s: 2 Services to be written"),
        (Waited(away=(registered("just gone"),)), True, "", "warning: node/a is not ready, and was not waited for\n"),
    ],
    ids=["well", "mended", "refused", "failed", "slow", "away"],
)
def test_a_node_is_synced_when_its_kernel_has_all_of_it(
    capsys: pytest.CaptureFixture[str], waited: Waited, is_well: bool, out: str, err: str
) -> None:
    assert tell_waited(waited, 5.0) is is_well
    told = capsys.readouterr()
    assert told.out == out
    assert err in told.err
    assert told.err == err or "after" in err


def test_nodes_are_listed_and_not_asked_for_one_by_one() -> None:
    """Of thousands that have registered, each with a question of its own, it would take seconds."""

    class Counting(MemoryStore):
        asked = 0

        def find(self, ref: Ref) -> Object | Damaged | None:
            self.asked += 1
            return super().find(ref)

    with Counting(RANGES) as store:
        store.write([stored_node("with")], now=CREATED)
        store.asked = 0
        names = ("with", *(f"without-{number}" for number in range(20)))
        told = {name: Registered(NodeReport(name), is_alive=True) for name in names}
        found, missing = select_nodes(store, parse_targets(["nodes"]), told)
        assert ([one.name for one in found], missing, store.asked) == (sorted(names), (), 0)


@pytest.mark.parametrize("document", [None, {}, {"spec": {"unschedulable": True}}, {"status": {"addresses": []}}])
def test_what_an_object_lacks_is_what_its_node_has_registered(document: dict[str, Any] | None) -> None:
    """`drain` makes an object of a name alone, where there is none: the node is shown with its addresses still."""
    one = Registered(NodeReport("a", addresses=("172.30.1.2",), pod_cidrs=("10.244.1.0/24",)), is_alive=True)
    with MemoryStore(Ranges()) as store:
        if document is not None:
            raw = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}, **document}
            store.write([parse_object(raw)], now="2026-01-01T00:00:00Z")
        [shown], missing = select_nodes(store, [(BY_KIND["Node"], None)], {"a": one})
    assert missing == ()
    assert "172.30.1.2" in text(nodes_listing([shown], {"a": one}, wide=True, now=NOW))
    assert shown.raw["spec"]["podCIDRs"] == ["10.244.1.0/24"]
    assert document is None or document.get("spec", {}).items() <= shown.raw["spec"].items()
