"""What commands say of endpoints that have failed: that they have, why, and since when (C5, C7)."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import pytest

from nodeport_nft.cli.columns import object_listing
from nodeport_nft.cli.description import describe_pod, describe_service
from nodeport_nft.cli.listing import Look
from nodeport_nft.kube import parse_object
from nodeport_nft.model import MEMBER, PROBE_FAILURE, Member, Parsed, ProbeFailure, Ref, Snapshot
from nodeport_nft.resolve import Index, Resolver
from nodeport_nft.resolve.absence import Around
from nodeport_nft.store.objects import made_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SINCE = NOW.timestamp() - 30
LOST: Parsed = (Ref(MEMBER, "", "worker-1"), (Member("worker-1", SINCE),))


def fails(address: str, since: float = SINCE) -> Parsed:
    return Ref(PROBE_FAILURE, "default", address), (ProbeFailure("default", ip_address(address), since),)


def pod(name: str, address: str, node: str, containers: int = 1) -> Any:
    return parse_object(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
            "spec": {"nodeName": node, "containers": [{"name": f"c{n}"} for n in range(containers)]},
            "status": {"podIP": address},
        }
    )


SERVICE = parse_object(
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.10", "ports": [{"port": 80}]},
    }
)
ONE, TWO = pod("one", "10.244.1.1", "worker-1"), pod("two", "10.244.2.1", "worker-2", containers=2)

CASES: dict[str, tuple[list[Parsed], list[str], str]] = {
    "well": ([], ["1/1", "2/2"], ""),
    "lost": ([LOST], ["0/1", "2/2"], "10.244.1.1:80  node worker-1 is lost since 2026-01-01 11:59:30 UTC (30s ago)"),
    "fails": (
        [fails("10.244.2.1")],
        ["1/1", "0/2"],
        "10.244.2.1:80  readiness probe fails since 2026-01-01 11:59:30 UTC (30s ago)",
    ),
    "never": ([fails("10.244.1.1", 0.0)], ["0/1", "2/2"], "10.244.1.1:80  readiness probe has never passed"),
    "both": (
        [LOST, fails("10.244.1.1", 0.0)],
        ["0/1", "2/2"],
        "10.244.1.1:80  node worker-1 is lost since 2026-01-01 11:59:30 UTC (30s ago); "
        "readiness probe has never passed",
    ),
    "another's": ([fails("10.244.9.9")], ["1/1", "2/2"], ""),
}


@pytest.mark.parametrize("case", CASES)
def test_a_failed_pod_is_not_ready_and_describe_says_why(case: str) -> None:
    heard, ready, line = CASES[case]
    table = object_listing("Pod", (ONE, TWO), wide=False, now=NOW, heard=heard).text(Look()).splitlines()
    assert [row.split()[1] for row in table[1:]] == ready

    snapshot: Snapshot = made_of(
        [*SERVICE.values, *ONE.values, *TWO.values, *(value for _, values in heard for value in values)]
    )
    around = Around(snapshot, lambda *_: ())
    told = describe_service(SERVICE, Resolver(around.index, ""), around, NOW).splitlines()
    assert [" ".join(row.split()[1:]) for row in told if row.startswith("Failing:")] == (
        [line.replace("  ", " ")] if line else []
    )

    for each, count in zip((ONE, TWO), ready, strict=True):
        lines = [row for row in describe_pod(each, {}, around.index, NOW).splitlines() if row.startswith("Ready:")]
        why = line.partition("  ")[2]
        assert [" ".join(row.split()[1:]) for row in lines] == ([f"False ({why})"] if count.startswith("0") else [])


def test_of_many_that_fail_some_are_named_and_the_rest_counted() -> None:
    pods = [pod(f"p{n}", f"10.244.1.{n}", "worker-1") for n in range(1, 6)]
    index = Index.of(made_of([*SERVICE.values, *(each.values[0] for each in pods), *LOST[1]]))
    around = Around(Snapshot(), lambda *_: (), index)
    told = describe_service(SERVICE, Resolver(index, ""), around, NOW)
    assert told.count("is lost since") == 3
    assert "+ 2 more..." in told
