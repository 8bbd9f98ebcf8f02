"""Session affinity (P7) in the kernel: who is remembered, for how long, and what becomes of it."""

from __future__ import annotations

import time
from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from lab.cluster import Cluster
from lab.probe import connect_many
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import EndpointSlice, Family, Service, Snapshot
from nodeport_nft.plan import AddChain, AddRules, DeleteChain, FlushChain, ListedTable, Replace
from nodeport_nft.reconcile import compile_snapshot, read_tables
from nodeport_nft.ruleset import Table
from nodeport_nft.trace import Packet, trace
from tests.builders import make_endpoint, make_port, make_service
from tests.netns.kernel import facts, slices_of, sync, written

NODE, NODE_IP = "worker-1", "172.30.1.2"
PODS = ("web-1", "web-2", "web-3", "tester")
FRONTENDS = (("10.96.0.10", 80), (NODE_IP, 30080), ("192.0.2.7", 80))
WEB = replace(
    make_service("web", make_port(80, node_port=30080)),
    session_affinity_seconds=10800,
    external_ips=(ip_address("192.0.2.7"),),
)
TICK = 100  # ms: more than a tick of any kernel's clock, and than what is left off where it is told
UDP = replace(WEB, ports=(make_port(80, node_port=30080, protocol="UDP"),))


def listed(cluster: Cluster) -> ListedTable:
    """The IPv4 table of worker-1."""
    known = facts(cluster)
    table = cluster.call(NODE, lambda: read_tables(Nft(), known))[Family.IPV4]
    assert table is not None
    return table


def reached(
    cluster: Cluster, source: str = "web-2", to: tuple[str, int] = FRONTENDS[0], protocol: str = "TCP"
) -> str:
    """The one endpoint that a connection and ten more after it reach."""
    address = ip_address(to[0]), to[1]
    first = connect_many(cluster, source, address, protocol, 1)
    (name,) = {outcome.name for outcome in (*first, *connect_many(cluster, source, address, protocol, 10))}
    assert name
    return name


@pytest.mark.proves("P7")
@pytest.mark.parametrize("service", [WEB, UDP], ids=["TCP", "UDP"])
def test_a_client_keeps_its_endpoint_over_every_frontend_of_the_port(cluster: Cluster, service: Service) -> None:
    protocol = service.ports[0].protocol
    endpoints = slices_of(cluster, PODS)
    ports = tuple(replace(port, protocol=protocol) for port in endpoints.ports)
    sync(cluster, (service,), (replace(endpoints, ports=ports),))
    # From pods and the node; the client outside, whose address no other has, to the nodePort alone.
    for source in ("web-1", "web-2", NODE):
        assert len({reached(cluster, source, to, protocol) for to in FRONTENDS}) == 1
    assert reached(cluster, "client", FRONTENDS[1], protocol) == reached(cluster, "client", FRONTENDS[1], protocol)
    held = [memory.key[0] for memories in listed(cluster).memories.values() for memory in memories]
    assert sorted(map(str, held)) == sorted(str(cluster.address(s)) for s in ("client", "web-1", "web-2", NODE))


@pytest.mark.proves("P7")
def test_it_is_kept_when_others_change_and_dropped_when_its_own_leaves(cluster: Cluster) -> None:
    sync(cluster, (WEB,), (slices_of(cluster, PODS),))
    mine = reached(cluster)
    others = [pod for pod in PODS if pod != mine]
    for present in ((mine, others[0]), (mine,), (mine, *others), (*others[1:], mine)):
        sync(cluster, (WEB,), (slices_of(cluster, present),))
        assert reached(cluster) == mine
    sync(cluster, (WEB,), (slices_of(cluster, tuple(others)),))
    other = reached(cluster)
    assert other != mine
    sync(cluster, (WEB,), (slices_of(cluster, PODS),))
    assert reached(cluster) == other, "what has come back is nobody's any more"


@pytest.mark.proves("P7")
def test_each_connection_begins_the_timeout_anew(cluster: Cluster) -> None:
    sync(cluster, (WEB,), (slices_of(cluster, PODS),))

    def left() -> tuple[int, int]:
        (memory,) = [memory for memories in listed(cluster).memories.values() for memory in memories]
        return memory.timeout, memory.expires

    reached(cluster)
    timeout, early = left()
    time.sleep(1)
    _, later = left()
    begun = time.monotonic()
    reached(cluster)
    _, anew = left()
    passed = (time.monotonic() - begun) * 1000
    assert timeout == 10_800_000
    assert later <= early - 1000 + TICK
    # However long the connections and the listing take: without them it would have the second that was slept less.
    assert timeout - TICK <= anew + passed
    assert anew <= timeout


@pytest.mark.proves("P7")
def test_a_client_whose_time_is_up_is_forgotten_and_a_shorter_timeout_holds_at_once(cluster: Cluster) -> None:
    sync(cluster, (WEB,), (slices_of(cluster, PODS),))
    reached(cluster)
    changed = sync(cluster, (replace(WEB, session_affinity_seconds=1),), (slices_of(cluster, PODS),))
    assert not any(isinstance(operation, Replace) for operation in changed[0].operations)
    (mine,) = connect_many(cluster, "web-2", FRONTENDS[0])  # one alone: what a second one finds is a matter of time
    deadline = time.monotonic() + 60
    while any(listed(cluster).memories.values()):
        assert time.monotonic() < deadline, "one second is over, and the client is still remembered"
        time.sleep(0.2)
    assert mine.name in PODS


@pytest.mark.proves("P7", "K8")
@pytest.mark.parametrize(
    "damage",
    [
        "add chain ip nodeport-nft stranger",
        "add element ip nodeport-nft service-cidrs { 10.200.0.1-10.200.0.5 }",
        "add element ip nodeport-nft affinity/default/web/80/10.244.1.2.8080 "
        '{ 192.0.2.10 timeout 10m comment "x" }\nadd chain ip nodeport-nft stranger',
    ],
)
def test_what_was_learned_is_no_difference_and_survives_a_replacement(cluster: Cluster, damage: str) -> None:
    endpoints = slices_of(cluster, PODS)
    sync(cluster, (WEB,), (endpoints,))
    mine = {source: reached(cluster, source) for source in ("web-1", "web-2", NODE)}
    assert sync(cluster, (WEB,), (endpoints,)) == ()
    cluster.nft(NODE, damage)
    (repair,) = sync(cluster, (WEB,), (endpoints,))
    assert isinstance(repair.operations[0], Replace)
    assert {source: reached(cluster, source) for source in mine} == mine


@pytest.mark.proves("P7", "X4")
def test_the_tracer_knows_who_is_remembered_from_the_live_table(cluster: Cluster) -> None:
    sync(cluster, (WEB,), (slices_of(cluster, PODS),))
    mine = cluster.address(reached(cluster))
    held = listed(cluster)
    compiled = table(cluster, (WEB,), (slices_of(cluster, PODS),))
    packet = Packet(str(cluster.address("web-2")), "10.96.0.10", "tcp", 80)
    (known,) = trace(held.table(compiled.schema), packet, {NODE_IP}).outcomes
    assert (known.destination, float(known.probability)) == (str(mine), 1)
    assert len(trace(compiled, packet, {NODE_IP}).outcomes) == len(PODS)
    stranger = replace(packet, source="10.244.1.9")
    assert len(trace(held.table(compiled.schema), stranger, {NODE_IP}).outcomes) == len(PODS)


def table(cluster: Cluster, services: tuple[Service, ...], slices: tuple[EndpointSlice, ...]) -> Table:
    return compile_snapshot(Snapshot(services, slices), facts(cluster)).tables.tables()[0]


DRAW, ONE = "affinity/default/web/80", "affinity/default/web/80/10.244.1.2.8080"


@pytest.mark.proves("K8")
@pytest.mark.parametrize(
    "damage",
    [
        f"flush chain ip nodeport-nft {DRAW}",
        f"insert rule ip nodeport-nft {DRAW} drop",
        f"add rule ip nodeport-nft {ONE} counter",
        f"flush chain ip nodeport-nft {ONE}",
        f"flush chain ip nodeport-nft {DRAW}; flush chain ip nodeport-nft {ONE}; delete chain ip nodeport-nft {ONE}; "
        f"delete set ip nodeport-nft {ONE}",
        "add chain ip nodeport-nft affinity/default/gone",
        "add set ip nodeport-nft affinity/default/gone { typeof ip saddr; flags dynamic,timeout; "
        'comment "clients that keep this endpoint"; }',
    ],
)
def test_damage_to_a_services_own_chains_is_repaired_without_a_new_table(cluster: Cluster, damage: str) -> None:
    endpoints = slices_of(cluster, PODS)
    sync(cluster, (WEB,), (endpoints,))
    before = listed(cluster)
    cluster.nft(NODE, damage.replace("; flush", "\nflush").replace("; delete", "\ndelete"))
    (repair,) = sync(cluster, (WEB,), (endpoints,))
    assert not any(isinstance(operation, Replace) for operation in repair.operations)
    after = listed(cluster)
    assert (after.own_chains, after.own_maps, after.unreadable) == (before.own_chains, before.own_maps, ())


@pytest.mark.proves("P7")
def test_one_endpoint_more_or_less_touches_its_own_chain_and_the_draw(cluster: Cluster) -> None:
    def touched(pods: tuple[str, ...]) -> set[str]:
        (transaction,) = sync(cluster, (WEB,), (slices_of(cluster, pods),))
        by_name = [o.name for o in transaction.operations if isinstance(o, FlushChain | DeleteChain)]
        return {*by_name, *(o.chain.name for o in transaction.operations if isinstance(o, AddChain | AddRules))}

    sync(cluster, (WEB,), (slices_of(cluster, PODS[:2]),))
    new = f"{DRAW}/{cluster.address('web-3')}.8080"
    assert touched(PODS[:3]) == {DRAW, new}
    assert touched(PODS[:2]) == {DRAW, new}


@pytest.mark.proves("K7")
def test_names_of_any_length_load_and_read_back(cluster: Cluster) -> None:
    longest = "n" * 63
    service = replace(
        make_service(
            "s" * 63, replace(make_port(80, node_port=30080), name="p" * 63), ips=("10.96.0.10", "fd00:10:96::a")
        ),
        namespace=longest,
        session_affinity_seconds=86400,
    )
    pieces = tuple(
        replace(piece, namespace=longest, service=service.name, ports=(replace(piece.ports[0], name="p" * 63),))
        for piece in (
            slices_of(cluster, ("web-1", "web-2")),
            replace(slices_of(cluster, ()), endpoints=(make_endpoint("fd00:1111:2222:3333:4444:5555:6666:7777"),)),
        )
    )
    assert written(sync(cluster, (service,), pieces)) > 0
    assert sync(cluster, (service,), pieces) == ()
    assert reached(cluster) in ("web-1", "web-2")
