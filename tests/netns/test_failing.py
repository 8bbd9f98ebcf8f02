"""Endpoints on lost nodes and with failed probes, in the kernel: others answer, and the last ones go on (C5, C7)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from lab.cluster import Cluster
from lab.outcome import Kind
from lab.probe import connect_many
from nodeport_nft.kernel.netlink.conntrack import delete_stale_flows
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import Member, Node, ProbeFailure, Snapshot
from nodeport_nft.reconcile import compile_snapshot, read_tables, stale_frontends
from tests.builders import make_port, make_service
from tests.netns.kernel import facts, slices_of

pytestmark = pytest.mark.proves("C5", "C7")

NODE = "worker-1"
MANY = 40  # of two endpoints each has some of them, but for one time in 10^12
WHERE = {"clusterIP": ("web-2", ("10.96.0.10", 80)), "nodePort": ("client", ("172.30.1.2", 30080))}


def program(cluster: Cluster, snapshot: Snapshot) -> tuple[str, ...]:
    """Let worker-1 be as this snapshot wants it; what is told of it."""
    known = facts(cluster)

    def apply() -> tuple[str, ...]:
        nft = Nft()
        listed = read_tables(nft, known)
        state = compile_snapshot(snapshot, known, listed)
        nft.apply(state.tables.first_transaction())
        delete_stale_flows(stale_frontends(state.snapshot(), state.tables, listed, ()))
        return state.problems()

    return cluster.call(NODE, apply)


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_the_others_answer_and_where_there_are_none_the_last_good_ones(cluster: Cluster, protocol: str) -> None:
    web_1, web_3 = cluster.address("web-1"), cluster.address("web-3")
    service = make_service("web", make_port(80, node_port=30080, protocol=protocol))
    piece = slices_of(cluster, ("web-1", "web-3"))
    piece = replace(piece, ports=tuple(replace(port, protocol=service.ports[0].protocol) for port in piece.ports))
    lost, old = Member("worker-2", 2000.0), 1000.0

    def reached(
        members: tuple[Member, ...] = (), failures: tuple[ProbeFailure, ...] = (), nodes: tuple[Node, ...] = ()
    ) -> tuple[set[str], int]:
        found = Snapshot((service,), (piece,), (), nodes, members, failures)
        told = program(cluster, found)
        names = set()
        for source, destination in WHERE.values():
            outcomes = connect_many(cluster, source, destination, protocol, MANY, timeout=30.0)
            assert {outcome.kind for outcome in outcomes} == {Kind.REACHED}
            names |= {outcome.name for outcome in outcomes}
        return names, len(told)

    both = {"web-1", "web-3"}
    assert reached() == (both, 0)
    assert reached((lost,)) == ({"web-1"}, 0)
    assert reached((), (ProbeFailure("default", web_1, old),)) == ({"web-3"}, 0)
    assert reached((lost,), (ProbeFailure("default", web_1, old),)) == ({"web-3"}, 1), "its node was lost last"
    assert reached((lost,), (ProbeFailure("default", web_1, lost.lost_at),)) == (both, 1), "both at once"
    failing = ProbeFailure("default", web_3, old)
    assert reached((), (failing,), (Node("worker-1", drained=True),)) == ({"web-1"}, 0), "it serves till its end"
    assert reached() == (both, 0)
