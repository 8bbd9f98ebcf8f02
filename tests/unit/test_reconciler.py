"""The reconciler over tables that refuse, fail and are changed by others: what they hold then, and who is told.

The tables are ``tests.property.fake.FakeTables``, as atomic as the kernel's; a fault is a function that says why a
transaction is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from nodeport_nft.errors import KernelError
from nodeport_nft.flows import UDP
from nodeport_nft.model import Endpoint, EndpointSlice, Family, NodeFacts
from nodeport_nft.plan import Add, Delete, Replace
from nodeport_nft.reconcile import Reconciler, Synced, reconciler
from nodeport_nft.ruleset import Element, Goto, Key
from tests.builders import make_endpoint, make_slice
from tests.property.fake import FOREIGN, FakeTables
from tests.property.reconciling import (
    MOVED,
    REMARKED,
    Node,
    cluster_ip,
    endpoints,
    gone,
    name_of,
    out_of_memory,
    out_of_memory_after,
    refuses,
    service,
    too_long,
)

pytestmark = pytest.mark.proves("K1", "K8")


@pytest.mark.parametrize("others", [1, 2, 50])
@pytest.mark.parametrize("affinity", [0, 60])
@pytest.mark.parametrize(
    "change",
    [(1, 2, 3, 4), (2, 3), (3,), (4, 5, 6), ()],
    ids=["one more", "the first less", "but the last", "all others", "none"],
)
def test_a_refused_service_keeps_its_state_and_the_others_are_written_at_once(
    others: int, affinity: int, change: tuple[int, ...]
) -> None:
    node = Node()
    node.sync(*(service(n, affinity=affinity) for n in range(others + 1)))
    node.sync(*(endpoints(n, 1, 2, 3) for n in range(others + 1)))
    last_good, chains = node.held(0), node.chains(0)
    node.backend.faults.append(refuses(0))
    node.backend.commits.clear()

    node.sync(endpoints(0, *change), *(endpoints(n, 1, 2, 3, 4) for n in range(1, others + 1)))
    assert len(node.backend.commits) == 1, "all the others together"
    assert (node.held(0), node.chains(0)) == (last_good, chains)
    assert set(node.reconciler.refused) == {name_of(0)}
    assert "EINVAL: s0" in node.reconciler.refused[name_of(0)]
    node.put(endpoints(0, 1, 2, 3))
    assert node.is_right(), "but for the refused change, all is as it should be"
    node.put(endpoints(0, *change))

    node.sync(*(endpoints(n, 2) for n in range(1, others + 1)))
    assert (node.held(0), node.chains(0)) == (last_good, chains), "also at a later sync"
    assert set(node.reconciler.refused) == {name_of(0)}
    node.repair()
    assert node.is_right()
    assert not node.reconciler.refused


def test_a_new_service_that_is_refused_leaves_nothing_behind() -> None:
    node = Node()
    node.sync(service(1), endpoints(1, 1, 2))
    node.backend.faults.append(refuses(0))
    node.sync(service(0, affinity=60), endpoints(0, 1, 2), service(2), endpoints(2, 1))
    assert (node.held(0), node.chains(0)) == ({}, {})
    assert node.held(2)
    assert set(node.reconciler.refused) == {name_of(0)}
    node.repair()
    assert node.is_right()


def test_of_many_services_several_are_refused() -> None:
    node = Node()
    bad = (3, 4, 17, 39)
    node.sync(*(made for n in range(40) for made in (service(n), endpoints(n, 1, 2))))
    last_good = {n: node.held(n) for n in bad}
    node.backend.faults.append(refuses(*bad))
    node.backend.commits.clear()
    node.sync(*(endpoints(n, 2, 3, 4) for n in range(40)))
    assert set(node.reconciler.refused) == set(map(name_of, bad))
    assert {n: node.held(n) for n in bad} == last_good
    assert [late.late for commit in node.backend.commits for late in commit] == [False, True], "then the pairs"
    node.put(*(endpoints(n, 1, 2) for n in bad))
    assert node.is_right()
    node.put(*(endpoints(n, 2, 3, 4) for n in bad))
    node.repair()
    assert node.is_right()


def test_a_refused_service_that_is_put_right_or_deleted_is_no_longer_refused() -> None:
    node = Node()
    node.sync(service(0), endpoints(0, 1), service(1), endpoints(1, 1))
    node.backend.faults.append(refuses(0))
    node.sync(endpoints(0, 1, 2))
    assert set(node.reconciler.refused) == {name_of(0)}
    node.sync(endpoints(0, 1), endpoints(1, 1, 2))
    assert not node.reconciler.refused, "as it was, it needs nothing"
    assert node.is_right()
    node.sync(endpoints(0, 1, 2))
    node.backend.faults.clear()
    node.sync(gone(service(0)), gone(endpoints(0)))
    assert not node.reconciler.refused
    assert node.is_right()


def test_what_is_refused_is_not_tried_until_it_is_told_so() -> None:
    node = Node()
    node.sync(service(0), endpoints(0, 1), service(1), endpoints(1, 1))
    node.backend.faults.append(refuses(0))
    node.sync(endpoints(0, 1, 2))
    refusals = len(node.backend.refusals)
    node.sync(endpoints(1, 1, 2))
    assert len(node.backend.refusals) == refusals
    node.reconciler.retry()
    node.sync()
    assert len(node.backend.refusals) > refusals
    assert set(node.reconciler.refused) == {name_of(0)}


# --- the start ----------------------------------------------------------------


@pytest.mark.parametrize("before", ["absent", "own", "foreign"])
def test_a_service_that_is_refused_at_the_start(before: str) -> None:
    backend = FakeTables()
    if before == "own":
        Node(backend).sync(*(made for n in range(1, 6) for made in (service(n), endpoints(n, 1, 2, 3))))
    elif before == "foreign":
        backend.put_foreign("ip")
        backend.put_foreign("ip6")
    backend.commits.clear()
    backend.faults.append(refuses(0))
    node = Node(backend)
    synced = node.sync(*(made for n in range(6) for made in (service(n), endpoints(n, 2, 3, 4))))
    assert [len({t.family for t in commit}) for commit in backend.commits if not commit[0].late] == [
        1 if before == "own" else 2
    ]
    assert bool(synced.differences) == (before == "foreign")
    assert set(node.reconciler.refused) == {name_of(0)}
    assert node.held(0) == {}
    node.put(gone(service(0)))
    assert node.is_right()
    node.put(service(0))
    node.repair()
    assert node.is_right()


@pytest.mark.parametrize("before", ["absent", "own", "foreign"])
def test_a_kernel_without_memory_at_the_start(before: str) -> None:
    backend = FakeTables()
    if before == "own":
        Node(backend).sync(service(0), endpoints(0, 1, 2, 3))
    elif before == "foreign":
        backend.put_foreign("ip")
    kernels = dict(backend.kernels)
    backend.faults.append(out_of_memory)
    node = Node(backend)
    node.put(*(made for n in range(3) for made in (service(n), endpoints(n, 2, 3))))
    for _ in range(2):
        with pytest.raises(KernelError, match="ENOBUFS"):
            node.sync()
        assert backend.kernels == kernels
        assert not node.reconciler.refused
    node.repair()
    assert node.is_right()


@pytest.mark.proves("K4")
def test_a_start_over_what_is_there_already_writes_nothing() -> None:
    backend = FakeTables()
    objects = [made for n in range(5) for made in (service(n, affinity=60 * (n % 2)), endpoints(n, 1, 2, 3))]
    Node(backend).sync(*objects)
    backend.commits.clear()
    again = Node(backend)
    assert again.sync(*objects).transactions == ()
    assert backend.commits == []
    assert backend.reads == 0, "what the constructor was given is enough"


# --- others at the tables -----------------------------------------------------

SLOT = (cluster_ip(0), "tcp", 80, 0)
VERDICT = SLOT[:-1]


def without(map: str, key: Key) -> Callable[[FakeTables], None]:
    def damage(backend: FakeTables) -> None:
        del backend.kernels["ip"].elements[map][key]

    return damage


def with_element(map: str, element: Element) -> Callable[[FakeTables], None]:
    def damage(backend: FakeTables) -> None:
        backend.kernels["ip"].elements[map][element.key] = element

    return damage


def with_rule(chain: str, goal: str) -> Callable[[FakeTables], None]:
    def damage(backend: FakeTables) -> None:
        backend.kernels["ip"].rules[chain].append((Goto(goal),))

    return damage


DAMAGES: dict[str, Callable[[FakeTables], None]] = {
    "ENOENT, a slot": without("service-endpoints", SLOT),
    "ENOENT, a verdict": without("service-ips", VERDICT),
    "EEXIST, a slot": with_element("service-endpoints", Element((*VERDICT, 2), ("192.0.2.1", 80))),
    "EEXIST, a hairpin pair": with_element("hairpin-connections", Element(("10.244.0.4", "10.244.0.4", "tcp", 8080))),
    "ENOENT, the table": lambda backend: backend.lose("ip"),
    "another table of our name": lambda backend: backend.put_foreign("ip"),
    "EBUSY, a rule of a common chain": with_rule("services", "affinity/default/s1/80"),
    "EBUSY, a rule of another service": with_rule("affinity/default/s2/80", "affinity/default/s1/80"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_change_that_meets_what_others_did_repairs_it(damage: str) -> None:
    node = Node()
    node.sync(
        *(service(n, affinity=60 * (n > 0)) for n in range(3)),
        *(endpoints(n, 1, 2) for n in range(3)),
    )
    DAMAGES[damage](node.backend)
    assert not node.is_right()
    node.backend.commits.clear()
    synced = node.sync(endpoints(0, 2, 3, 4), gone(service(1)))
    assert node.is_right()
    assert synced.whole
    assert node.backend.reads == 1
    assert len([commit for commit in node.backend.commits if not commit[0].late]) == 1
    assert not node.reconciler.refused
    assert node.sync().transactions == ()


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_others_did_is_repaired_once_it_is_known(damage: str) -> None:
    node = Node()
    node.sync(*(service(n, affinity=60 * (n > 0)) for n in range(3)), *(endpoints(n, 1, 2) for n in range(3)))
    DAMAGES[damage](node.backend)
    node.reconciler.distrust()
    synced = node.sync()
    assert node.is_right()
    assert synced.whole
    assert node.backend.reads == 1
    assert bool(synced.differences.get(Family.IPV4)) == (
        damage in ("another table of our name", "EBUSY, a rule of a common chain")
    )
    assert synced.differences.get(Family.IPV4, (FOREIGN,)) == (FOREIGN,)


HAIRPIN = "10.244.0.4", "10.244.0.4", "tcp", 8080
THEIRS = Element(SLOT, ("192.0.2.1", 80))

# What others have done to elements, in their order, each told as it happens: by map, what they have added (an
# element) or deleted (a key). Then how many elements have to be written for it, and deleted.
TOLD: dict[str, tuple[list[tuple[str, Element | Key]], int]] = {
    "a slot deleted": ([("service-endpoints", SLOT)], 1),
    "a verdict deleted": ([("service-ips", VERDICT)], 1),
    "a hairpin pair deleted": ([("hairpin-connections", ("10.244.0.1", "10.244.0.1", "tcp", 8080))], 1),
    "an address of the node deleted": ([("node-port-ips", ("172.30.1.2",))], 1),
    "a slot added": ([("service-endpoints", Element((*VERDICT, 2), ("192.0.2.1", 80)))], 1),
    "a verdict added": ([("service-ips", Element((cluster_ip(99), "tcp", 80), Goto("refuse")))], 1),
    "a hairpin pair added": ([("hairpin-connections", Element(HAIRPIN))], 1),
    "a clusterIP added": ([("cluster-ips", Element(("10.96.9.9",)))], 1),
    "a slot's value changed": ([("service-endpoints", SLOT), ("service-endpoints", THEIRS)], 2),
    "a slot's value changed, and deleted": (
        [("service-endpoints", SLOT), ("service-endpoints", THEIRS), ("service-endpoints", SLOT)],
        1,
    ),
    "a slot added and deleted again": (
        [("service-endpoints", Element((*VERDICT, 2), ("192.0.2.1", 80))), ("service-endpoints", (*VERDICT, 2))],
        0,
    ),
    "a hairpin pair added and deleted again": (
        [("hairpin-connections", Element(HAIRPIN)), ("hairpin-connections", HAIRPIN)],
        0,
    ),
}


def damage_and_tell(node: Node, done: list[tuple[str, Element | Key]]) -> None:
    elements = node.backend.kernels["ip"].elements
    for name, what in done:
        if isinstance(what, Element):
            elements[name][what.key] = what
        else:
            del elements[name][what]
        key = what.key if isinstance(what, Element) else what
        node.reconciler.damaged(Family.IPV4, name, key, present=isinstance(what, Element))


@pytest.mark.parametrize("others", [0, 20])
@pytest.mark.parametrize("damage", TOLD)
def test_elements_that_others_are_told_to_have_changed_are_mended_without_a_look_at_the_tables(
    damage: str, others: int
) -> None:
    done, operations = TOLD[damage]
    node = Node()
    node.sync(*(made for n in range(others + 1) for made in (service(n), endpoints(n, 1, 2))))
    damage_and_tell(node, done)
    node.backend.commits.clear()
    synced = node.sync()
    assert node.is_right()
    assert (synced.operations, node.backend.reads, synced.whole) == (operations, 0, False)
    assert [t.family for commit in node.backend.commits for t in commit] == ["ip"] * bool(operations)
    assert node.sync().transactions == (), "it is mended once"


@pytest.mark.parametrize("damage", TOLD)
def test_what_others_changed_and_what_the_objects_change_go_together(damage: str) -> None:
    """The same elements are meant: they are to go, to stay as they are, or to be others."""
    for change in ((1, 2, 3, 4), (2,), (3,), ()):
        node = Node()
        node.sync(service(0), endpoints(0, 1, 2), service(1), endpoints(1, 1))
        damage_and_tell(node, TOLD[damage][0])
        synced = node.sync(endpoints(0, *change))
        assert node.is_right()
        assert (node.backend.reads, synced.whole) == (0, False)
        assert node.sync().transactions == ()


@pytest.mark.parametrize("facts", [MOVED, REMARKED], ids=["an address", "the schema"])
def test_what_others_changed_is_mended_also_where_the_facts_change_before(facts: NodeFacts) -> None:
    node = Node()
    node.sync(service(0), endpoints(0, 1, 2))
    damage_and_tell(node, TOLD["a slot deleted"][0])
    node.reconciler.refit(facts)
    node.sync()
    assert node.is_right()
    assert node.sync().transactions == ()


def test_flows_that_came_while_an_element_was_gone_are_looked_for() -> None:
    """They went untranslated, or to an endpoint of somebody else's; those of other frontends did not."""
    node = Node()
    node.sync(*(made for n in (0, 1) for made in (service(n, protocol="UDP"), endpoints(n, 1, protocol="UDP"))))
    place, other = ((UDP, ip_address(cluster_ip(n)).packed, 80) for n in (0, 1))
    damage_and_tell(node, [("service-ips", (cluster_ip(0), "udp", 80))])
    told = node.sync().frontends[Family.IPV4]
    assert told.is_stale(place, place[1:])
    assert not told.is_stale(place, (ip_address("10.244.0.1").packed, 8080))
    assert not told.concerns(other)


# --- a kernel that cannot just now --------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 30])
def test_where_everything_is_refused_nobody_is_to_blame(count: int) -> None:
    node = Node()
    node.sync(*(made for n in range(count) for made in (service(n), endpoints(n, 1, 2))))
    kernels = dict(node.backend.kernels)
    node.backend.faults.append(out_of_memory)
    node.put(*(endpoints(n, 2, 3) for n in range(count)))
    for _ in range(2):
        with pytest.raises(KernelError, match="ENOBUFS"):
            node.sync()
        assert node.backend.kernels == kernels
        assert not node.reconciler.refused
    node.put(service(99), endpoints(99, 1))
    with pytest.raises(KernelError, match="ENOBUFS"):
        node.sync()
    node.backend.faults.clear()
    node.sync()
    assert node.is_right()


@pytest.mark.parametrize("before", ["absent", "running"])
def test_what_is_too_much_at_once_is_written_in_parts(before: str) -> None:
    limit, count = 100, 60
    backend = FakeTables()
    node = Node(backend)
    if before == "running":
        node.sync(*(made for n in range(count) for made in (service(n), endpoints(n, 1, 2, 3))))
        backend.commits.clear()
    backend.faults.append(too_long(limit))
    synced = node.sync(*(made for n in range(count) for made in (service(n), endpoints(n, 2, 3, 4, 5))))
    assert node.is_right()
    assert not node.reconciler.refused
    assert len([commit for commit in backend.commits if not commit[0].late]) > 1
    assert synced.transactions == tuple(transaction for commit in backend.commits for transaction in commit)
    assert node.sync().transactions == ()


def test_in_parts_too_a_refused_service_is_left_out() -> None:
    node = Node()
    node.sync(*(made for n in range(40) for made in (service(n), endpoints(n, 1, 2, 3))))
    last_good = node.held(7)
    node.backend.faults += [too_long(60), refuses(7)]
    node.sync(*(endpoints(n, 2, 3, 4) for n in range(40)))
    assert set(node.reconciler.refused) == {name_of(7)}
    assert node.held(7) == last_good
    node.put(endpoints(7, 1, 2, 3))
    assert node.is_right()


def test_one_service_alone_that_is_too_much_is_named() -> None:
    node = Node()
    node.sync(*(made for n in range(5) for made in (service(n), endpoints(n, 1, 2, 3))))
    node.backend.faults.append(too_long(60))
    node.sync(endpoints(2, *range(1, 100)), *(endpoints(n, 1, 2, 3, 4) for n in (0, 1, 3, 4)))
    assert set(node.reconciler.refused) == {name_of(2)}
    node.put(endpoints(2, 1, 2, 3))
    assert node.is_right()
    node.put(endpoints(2, *range(1, 100)))
    node.repair()
    assert node.is_right()


def test_a_failure_in_the_midst_of_the_parts_loses_nothing() -> None:
    """The kernel runs out of memory after some of the parts, or before the first one."""
    count = 40
    for most in range(6):
        node = Node()
        node.sync(*(made for n in range(count) for made in (service(n), endpoints(n, 1, 2, 3))))
        commits = node.backend.commits
        commits.clear()
        node.backend.faults += [too_long(60), out_of_memory_after(most, commits)]
        node.put(*(endpoints(n, 2, 3, 4) for n in range(count)))
        with pytest.raises(KernelError):
            node.sync()
        node.repair()
        assert node.is_right()


# --- between the two commits --------------------------------------------------


def test_a_failure_between_the_main_and_the_late_commit_is_made_up_for() -> None:
    node = Node()
    node.sync(service(0), endpoints(0, 1, 2), service(1), endpoints(1, 1))
    once = ["EINTR"]
    node.backend.late_faults.append(lambda _: once.pop() if once else None)
    node.sync(endpoints(0, 2))
    assert not once
    assert node.is_right()
    assert node.sync(endpoints(1, 1, 2)).services == 1
    assert node.is_right()


def test_a_late_commit_that_fails_again_and_again_is_told_and_repaired_later() -> None:
    node = Node()
    node.sync(service(0), endpoints(0, 1, 2), service(1), endpoints(1, 1))
    node.backend.late_faults.append(lambda _: "ENOMEM")
    with pytest.raises(KernelError, match="ENOMEM"):
        node.sync(endpoints(0, 2), endpoints(1, 1, 2))
    assert not node.reconciler.refused
    node.repair()
    assert node.is_right()


def test_tables_that_cannot_be_read_keep_the_changes_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    node.sync(service(0), endpoints(0, 1, 2))
    node.reconciler.distrust()

    def fail(_: NodeFacts) -> None:
        raise KernelError("EINTR")

    with monkeypatch.context() as patched:
        patched.setattr(node.backend, "read", fail)
        with pytest.raises(KernelError, match="EINTR"):
            node.sync(endpoints(0, 2, 3))
    node.sync()
    assert node.is_right()


# --- facts --------------------------------------------------------------------


@pytest.mark.proves("X2")
@pytest.mark.parametrize("facts", [MOVED, REMARKED], ids=["an address", "the schema"])
def test_other_facts_of_the_node_are_written(facts: NodeFacts) -> None:
    node = Node()
    node.sync(*(made for n in range(4) for made in (service(n), endpoints(n, 3, 2, 1))))
    slots = node.held(1)
    node.backend.commits.clear()
    node.reconciler.refit(facts)
    node.sync()
    assert node.is_right()
    assert len(node.backend.commits) == 1
    kinds = {type(operation) for t in node.backend.commits[0] for operation in t.operations}
    assert kinds == ({Replace} if facts is REMARKED else {Add, Delete})
    if facts is MOVED:
        assert node.held(1) == slots
    node.reconciler.refit(facts)
    synced = node.sync()
    assert (synced.services, synced.whole) == (0, False), "the same facts change nothing"


@pytest.mark.proves("X2")
def test_facts_that_change_twice_before_a_sync_move_no_endpoint() -> None:
    node = Node()
    node.sync(service(0), endpoints(0, 1, 2, 3))
    node.sync(endpoints(0, 2, 3))
    slots = node.held(0)
    node.reconciler.refit(MOVED)
    node.reconciler.refit(replace(MOVED, node_port_ips=(ip_address("172.30.1.8"),)))
    node.sync()
    assert node.is_right()
    assert node.held(0) == slots


# --- what a change costs ------------------------------------------------------


@pytest.mark.proves("X1")
@pytest.mark.parametrize("affinity", [0, 60])
def test_a_change_costs_the_same_among_5_and_among_500_services(affinity: int) -> None:
    costs = []
    for count in (5, 500):
        node = Node()
        node.sync(*(made for n in range(count) for made in (service(n, affinity=affinity), endpoints(n, 1, 2, 3))))
        for change in ((1, 2, 3, 4), (2, 3, 4), (2, 3)):
            node.backend.commits.clear()
            synced = node.sync(endpoints(2, *change))
            assert synced.services == 1
            operations = [sum(t.size for t in commit) for commit in node.backend.commits]
            assert sum(operations) == synced.operations > 0
            costs.append(operations)
        assert (node.backend.reads, node.backend.checks) == (0, 0)
    assert costs[:3] == costs[3:]


# --- UDP flows ----------------------------------------------------------------


@pytest.mark.proves("K2")
def test_the_flows_of_an_endpoint_that_has_drained_are_looked_for() -> None:
    """No table changes when such an endpoint goes: it had left the tables when it began to drain."""
    node = Node()
    leaving = make_endpoint("10.244.0.1", ready=False, serving=True, terminating=True)
    stays = make_endpoint("10.244.0.2")
    ref, _ = endpoints(0, protocol="UDP")

    def sync(*values: EndpointSlice) -> Synced:
        return node.sync((ref, values))

    def piece(*held: object) -> EndpointSlice:
        return make_slice(*held, service="s0", name="s0-1", protocol="UDP")  # type: ignore[arg-type]  # endpoints

    node.sync(service(0, protocol="UDP"))
    sync(piece(make_endpoint("10.244.0.1"), stays))
    flow = (UDP, ip_address(cluster_ip(0)).packed, 80), (ip_address("10.244.0.1").packed, 8080)
    assert not sync(piece(leaving, stays)).frontends[Family.IPV4].is_stale(*flow)
    synced = sync(piece(stays))
    assert synced.transactions == ()
    assert synced.frontends[Family.IPV4].is_stale(*flow)
    assert not synced.frontends[Family.IPV4].is_stale(flow[0], (ip_address("10.244.0.2").packed, 8080))


@pytest.mark.proves("K2")
def test_stale_flows_are_looked_for_at_the_start_though_nothing_is_to_be_written() -> None:
    backend = FakeTables()
    objects = [service(0, protocol="UDP"), endpoints(0, 1, protocol="UDP")]
    Node(backend).sync(*objects)
    synced = Node(backend).sync(*objects)
    assert synced.transactions == ()
    assert synced.frontends[Family.IPV4].serving


@pytest.mark.proves("K2")
def test_flows_are_looked_for_at_the_start_though_there_is_no_service_and_then_only_where_something_was_done() -> (
    None
):
    """What others let through untranslated is looked for among all flows, which costs as many as there are."""
    backend = FakeTables()
    Node(backend).sync()
    node = Node(backend)
    assert node.sync().frontends
    node.reconciler.distrust()
    synced = node.sync()
    assert (synced.whole, synced.transactions, synced.frontends) == (True, (), {}), "all is as it was left"
    node.sync(service(0), endpoints(0, 1))
    without("service-endpoints", SLOT)(backend)
    node.reconciler.distrust()
    assert node.sync().frontends, "somebody else has been there"


@pytest.mark.proves("X2")
def test_facts_that_change_before_the_first_sync_are_written_over_what_is_there() -> None:
    backend = FakeTables()
    Node(backend).sync(service(0), endpoints(0, 1, 2, 3), service(1), endpoints(1, 1))
    node = Node(backend)
    node.reconciler.refit(MOVED)
    node.sync(service(0), endpoints(0, 2, 3))
    assert node.is_right(), "the service that has gone meanwhile is gone"
    assert backend.reads == 0


@pytest.mark.parametrize("count", [2, 3, 5, 7])
def test_in_parts_of_any_size_every_service_is_written(count: int) -> None:
    node = Node()
    node.sync(*(made for n in range(count) for made in (service(n), endpoints(n, 1))))
    node.backend.faults.append(too_long(2 * 8))
    node.sync(*(endpoints(n, 1, 2, 3, 4) for n in range(count)))
    assert node.is_right()


def test_the_kernel_is_not_asked_for_ever_whom_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "_MOST_CHECKS", 9)
    node = Node()
    node.sync(*(made for n in range(20) for made in (service(n), endpoints(n, 1, 2))))
    node.backend.checks = 0
    node.backend.faults.append(refuses(*range(20)))
    with pytest.raises(KernelError):
        node.sync(*(endpoints(n, 2, 3, 4) for n in range(20)))
    assert node.backend.checks <= 10, "and once without any of the changes"


def test_a_kernel_that_was_not_read_yet_is_read_first() -> None:
    backend = FakeTables()
    Node(backend).sync(service(0), endpoints(0, 1, 2, 3))
    node = Node(backend)
    node.reconciler = Reconciler(backend, node.state, None)
    assert node.sync(service(1), endpoints(1, 1)).whole
    assert backend.reads == 1
    assert node.is_right()


def test_what_is_refused_stays_as_it_was_over_other_facts() -> None:
    node = Node()
    node.sync(service(0), endpoints(0, 1, 2), service(1), endpoints(1, 1))
    last_good = node.held(0)["service-endpoints"]
    node.backend.faults.append(refuses(0))
    node.sync(endpoints(0, 1, 2, 3))
    node.reconciler.refit(MOVED)
    node.sync()
    assert set(node.reconciler.refused) == {name_of(0)}
    assert node.held(0)["service-endpoints"] == last_good
    node.repair()
    assert node.is_right()


def test_what_is_too_much_at_once_for_a_table_of_another_make_is_told_and_not_left_out() -> None:
    node = Node()
    node.sync(*(made for n in range(9) for made in (service(n), endpoints(n, 1))))
    node.backend.put_foreign("ip")
    node.backend.put_foreign("ip6")
    node.backend.faults.append(too_long(100))
    node.reconciler.distrust()
    for _ in range(2):
        with pytest.raises(KernelError, match="EMSGSIZE"):
            node.sync(*(endpoints(n, 1, 2, 3, 4) for n in range(9)))
    assert not node.reconciler.refused
    node.repair()
    assert node.is_right()


def test_endpoints_have_the_slots_that_the_kernel_had_at_the_start_and_new_ones_afterwards() -> None:
    backend = FakeTables()
    old = Node(backend)
    old.sync(service(0), endpoints(0, 3))
    old.sync(endpoints(0, 1, 2, 3))
    slots = old.held(0)["service-endpoints"]
    node = Node(backend)
    node.sync(service(0), endpoints(0, 1, 2, 3))
    assert node.held(0)["service-endpoints"] == slots
    node.sync(gone(service(0)))
    node.sync(service(0))
    assert node.held(0)["service-endpoints"] != slots, "from the lowest address on"


@pytest.mark.proves("K2")
def test_the_flows_of_what_has_drained_are_looked_for_also_where_all_is_compared_and_nothing_written() -> None:
    node = Node()
    ref, _ = endpoints(0, protocol="UDP")
    stays = make_endpoint("10.244.0.2")
    leaving = make_endpoint("10.244.0.1", ready=False, serving=True, terminating=True)

    def sync(*held: Endpoint) -> Synced:
        return node.sync((ref, (make_slice(*held, service="s0", name="s0-1", protocol="UDP"),)))

    node.sync(service(0, protocol="UDP"))
    sync(leaving, stays)
    node.reconciler.distrust()
    synced = sync(stays)
    assert (synced.whole, synced.transactions) == (True, ())
    flow = (UDP, ip_address(cluster_ip(0)).packed, 80), (ip_address("10.244.0.1").packed, 8080)
    assert synced.frontends[Family.IPV4].is_stale(*flow)


def test_what_others_did_before_the_facts_changed_is_mended() -> None:
    node = Node()
    node.sync(service(0), endpoints(0, 1, 2))
    without("service-endpoints", SLOT)(node.backend)
    node.reconciler.distrust()
    node.reconciler.refit(MOVED)
    node.sync()
    assert node.is_right()


@pytest.mark.parametrize("before", ["nothing", "a sync that failed"])
def test_what_is_refused_with_the_first_sync_over_other_facts_stays_as_the_kernel_has_it(before: str) -> None:
    node = Node()
    node.sync(service(0), endpoints(0, 1, 2), service(1), endpoints(1, 1))
    last_good = node.held(0)["service-endpoints"]
    if before == "a sync that failed":
        node.backend.faults.append(out_of_memory)
        with pytest.raises(KernelError):
            node.sync(endpoints(0, 1, 2, 3))
        node.backend.faults.clear()
    node.reconciler.refit(MOVED)
    node.backend.faults.append(refuses(0))
    node.sync(endpoints(0, 1, 2, 3, 4))
    assert set(node.reconciler.refused) == {name_of(0)}
    assert node.held(0)["service-endpoints"] == last_good
    node.repair()
    assert node.is_right()


def test_whom_a_refusal_does_not_concern_keeps_its_slots() -> None:
    backend = FakeTables()
    old = Node(backend)
    old.sync(service(1), endpoints(1, 3))
    old.sync(endpoints(1, 1, 2, 3))
    slots = old.held(1)
    backend.faults.append(refuses(0))
    node = Node(backend)
    node.sync(service(0), endpoints(0, 1), service(1), endpoints(1, 1, 2, 3))
    assert set(node.reconciler.refused) == {name_of(0)}
    assert node.held(1) == slots
