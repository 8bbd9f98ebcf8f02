"""Whatever others have in the kernel: our tables are written, read back, changed and removed beside it."""

from __future__ import annotations

import functools
import itertools
import os
import resource
import signal
import socket
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from msgspec.structs import replace

from lab.cluster import Cluster
from lab.outcome import Kind
from lab.probe import connect
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel import nft as nft_module
from nodeport_nft.kernel.host import foreign_chains
from nodeport_nft.kernel.host.addresses import read_host
from nodeport_nft.kernel.host.foreign_chains import Obstacles, Served
from nodeport_nft.kernel.libnftables import answers, library
from nodeport_nft.kernel.netlink import dumps
from nodeport_nft.kernel.netlink.batch import Message
from nodeport_nft.kernel.netlink.messages import DUMP, message
from nodeport_nft.kernel.netlink.others import read_base_chains
from nodeport_nft.kernel.nft import BeyondUs, Nft
from nodeport_nft.model import EndpointSlice, Family, Snapshot
from nodeport_nft.plan import AddChain, AddRules, Replace, Transaction
from nodeport_nft.reconcile import compile_snapshot, read_tables, removal
from nodeport_nft.ruleset import Chain, Drop
from nodeport_nft.scarcity import scarcity
from tests.builders import make_port, make_service
from tests.by_text import NOTHING, run_text
from tests.netns import strangers
from tests.netns.kernel import facts, slices_of, sync
from tests.netns.strangers import FORWARDS, STRANGERS, a_set, committing, put, typeof
from tests.netns.test_forwarding import MANIFESTS, PROGRAM

NODE, NODE_IP = "worker-1", "172.30.1.2"
PLAIN = make_service("web", make_port(80, node_port=30080))
STICKY = replace(
    make_service("sticky", make_port(80, node_port=30081), ips=("10.96.0.11",)), session_affinity_seconds=600
)
GUARDED = replace(
    make_service("guarded", make_port(80, node_port=30082), ips=("10.96.0.12",)),
    node_port_source_ranges=(ip_network("172.30.0.0/16"),),
)
ALL = (PLAIN, STICKY, GUARDED)
CLOSED = "in the forward hook drops by default and accepts no translated connections"


def walk(cluster: Cluster, before: tuple[object, ...] = ()) -> None:
    """All that is ever done with our tables, with packets that show it is in force."""

    def of(*pods: str) -> tuple[EndpointSlice, ...]:
        return tuple(slices_of(cluster, pods, service=service.name) for service in ALL)

    [*_, first] = sync(cluster, ALL, of("web-1"))
    assert isinstance(first.operations[0], Replace)
    assert sync(cluster, ALL, of("web-1")) == (), "read back as written"
    changed = sync(cluster, ALL, of("web-3", "tester"))
    assert any(isinstance(op, AddRules) for tx in changed for op in tx.operations), "not elements alone"
    for port in (30080, 30081, 30082):
        outcome = connect(cluster, "client", (NODE_IP, port))
        assert (outcome.kind, outcome.name in ("web-3", "tester")) == (Kind.REACHED, True)
    cluster.call(NODE, _asked)
    assert not before or cluster.call(NODE, strangers.everything) == list(before), "others' tables are theirs"

    def remove() -> int:
        nft = Nft()
        nft.apply(removal(nft))
        return len(removal(nft))

    assert cluster.call(NODE, remove) == 0


def _asked() -> None:
    """What is asked for people's sake does not end us, and says what it cannot tell."""
    nft = Nft()
    nft.check(())
    use_libnftables(nft)
    assert ("ip", "nodeport-nft", "nat-prerouting") in {each[:3] for each in read_base_chains()}
    for family, table, chain in (("inet", "fw", "forward"), ("ip", "nodeport-nft", "services")):
        said = _listed(nft, family, table, chain)
        if family == "inet" and f"chain {chain} {{" not in said:
            assert "No such file" in said or f"table {family} {table} holds what" in said
        else:
            assert f"chain {chain} {{" in said


def use_libnftables(nft: Nft) -> None:
    """Have it do something, over no table at all."""
    run_text(nft, "list tables", view=NOTHING)


def _listed(nft: Nft, *named: str) -> str:
    try:
        return nft.list_chain(*named)
    except KernelError as error:
        return str(error)


@pytest.fixture
def free(cluster: Cluster) -> Iterator[Cluster]:
    yield cluster
    cluster.reset()


@pytest.mark.proves("K9")
@pytest.mark.parametrize("kind", STRANGERS)
def test_tables_that_libnftables_cannot_read_are_in_nobodys_way(free: Cluster, kind: str) -> None:
    free.call(NODE, functools.partial(put, STRANGERS[kind]))
    before = free.call(NODE, strangers.everything)
    assert before
    walk(free, tuple(before))


_OTHER_FAMILIES = """
table bridge nodeport-nft {
  set s { type ether_addr; flags timeout; elements = { 02:00:00:00:00:01 timeout 1h }; }
  chain services { type filter hook forward priority 0; ether saddr @s accept; vlan id 3 drop; }
}
table arp nodeport-nft { chain services { type filter hook input priority 0; arp operation request accept; }; }
table netdev nodeport-nft {
  map service-ips { type ipv4_addr : verdict; }
  chain services { type filter hook ingress device lo priority 0; ip daddr 192.0.2.2 fwd to lo; }
  chain e { type filter hook egress device lo priority 0; ip daddr 192.0.2.3 dup to lo; }
}
table inet nodeport-nft { chain services { type filter hook ingress device lo priority 0; meta mark 1 drop; }; }
"""
_OBJECTS = """
table inet fw {
  counter c { }
  quota q { over 25 mbytes; }
  limit l { rate 1/second; }
  ct helper h { type "ftp" protocol tcp; }
  ct timeout t { protocol tcp; policy = { established: 100 }; }
  synproxy y { mss 1460; wscale 7; }
  set dyn { type ipv4_addr . inet_service; flags dynamic,timeout; size 10; timeout 1m; }
  map m { type ipv4_addr . inet_service : verdict; flags interval; elements = { 192.0.2.0/24 . 1-9 : drop }; }
  chain forward {
    type filter hook forward priority 0;
    quota name q drop
    limit name l accept
    ip saddr . tcp dport vmap @m
    ip saddr 192.0.2.1 add @dyn { ip saddr . tcp dport limit rate 1/second burst 5 packets }
    %s
  }
}
"""
_NETWORKS = [f"198.18.{number >> 5}.{(number & 31) * 8}/30" for number in range(3000)]
_SPOKEN = {
    "in all other families, by our name": _OTHER_FAMILIES,
    "objects, and sets that packets fill": _OBJECTS % "tcp option maxseg size set rt mtu",
    "a rule of many statements": _OBJECTS
    % f'ip saddr 192.0.2.1 {"counter " * 100} log prefix "{"p" * 100}" comment "{"c" * 120}"',
    "a rule of 3,000 networks": _OBJECTS % f"ip saddr {{ {', '.join(_NETWORKS)} }} drop",
}


@pytest.mark.proves("K9")
@pytest.mark.parametrize("kind", _SPOKEN)
def test_tables_of_all_kinds_are_in_nobodys_way(free: Cluster, kind: str) -> None:
    free.nft(NODE, _SPOKEN[kind])
    walk(free, tuple(free.call(NODE, strangers.everything)))


def test_a_table_that_its_owner_keeps(free: Cluster) -> None:
    with free.host(NODE).namespace.entered(), strangers.owned():
        walk(free)


@pytest.mark.proves("K9")
def test_somebody_who_commits_without_an_end(free: Cluster) -> None:
    """libnftables would read everything again after each of these commits, and never be done."""
    with committing(free.host(NODE).namespace.enter):
        walk(free)


@pytest.mark.proves("K9")
def test_a_chain_is_seen_whatever_others_make_and_delete_meanwhile(free: Cluster) -> None:
    """The kernel hands out chains in pieces, and counts where it was: what is deleted before hides another."""
    much = (strangers.table("a"), *(strangers.chain("a", f"c{i}") for i in range(2000)))
    there = (strangers.table("z"), strangers.chain("z", "forward", strangers.DROPS))

    def looked() -> int:
        return sum(("inet", "z") not in {each[:2] for each in read_base_chains()} for _ in range(1500))

    free.call(NODE, lambda: put((*much, *there)))
    batches = (strangers.dropped("a"),), (*much, strangers.dropped("z"), *there)
    with committing(free.host(NODE).namespace.enter, batches):
        assert free.call(NODE, looked, timeout=300) == 0


THEIRS = (
    a_set("nodeport-nft", "theirs", typeof(200), family=strangers.IP),
    a_set("nodeport-nft", "theirs", key_type=63, family=strangers.IP),
)


@pytest.mark.parametrize("theirs", THEIRS, ids=["it dies of it", "it says so"])
def test_what_others_put_into_our_table_has_it_replaced(free: Cluster, theirs: Message) -> None:
    slices = (slices_of(free, ("web-1",)),)
    sync(free, (PLAIN,), slices)
    free.call(NODE, lambda: put((theirs,)))
    read = free.call(NODE, lambda: read_tables(Nft(), facts(free)))[Family.IPV4]
    assert read is not None
    assert read.differences == ("set theirs",)
    (repair,) = sync(free, (PLAIN,), slices)
    assert isinstance(repair.operations[0], Replace)
    assert sync(free, (PLAIN,), slices) == ()


@pytest.mark.proves("K9")
def test_how_much_others_have_is_not_even_asked_for(free: Cluster) -> None:
    """200,000 elements, 1,000 sets: what the kernel tells us is the same with them and without."""
    services, slices = ALL, tuple(slices_of(free, ("web-1", "web-3"), service=service.name) for service in ALL)

    def told() -> list[int]:
        """What messages the kernel sends for a reading and for a change with rules in it."""
        heard: list[int] = []
        received = dumps.received

        def listen(netlink: socket.socket, buffer: memoryview) -> Iterator[tuple[int, int, bytes]]:
            for kind, flags, data in received(netlink, buffer):
                heard.append(kind)
                yield kind, flags, data

        dumps.received = listen
        nft = Nft()
        read_tables(nft, known)
        nft.check(changed)
        return heard

    known = facts(free)
    sync(free, services, slices)
    chain = Chain("firewall/x", ((Drop(),),))
    changed = (Transaction("ip", "nodeport-nft", (AddChain(chain), AddRules(chain))),)
    alone = free.call(NODE, told, timeout=60)
    assert len(alone) > 100
    addresses = ", ".join(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}" for i in range(200_000))
    more = "".join(f"set s{i} {{ type ipv4_addr; }}\n" for i in range(1000))
    free.nft(NODE, f"table ip fw {{\nset large {{ type ipv4_addr; elements = {{ {addresses} }}; }}\n{more}}}\n")
    assert free.call(NODE, told, timeout=60) == alone


def test_a_child_without_memory_is_a_want_of_memory_and_the_next_one_has_it(free: Cluster) -> None:
    """What libnftables needs it asks for in a process of its own, whose end is not ours."""

    def tried() -> tuple[str, bool]:
        nft = Nft()
        use_libnftables(nft)
        (child,) = map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
        size = int(Path(f"/proc/{child}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(child, resource.RLIMIT_AS, (size + (1 << 20), size + (1 << 20)))
        try:
            use_libnftables(nft)
        except MemoryError as error:
            use_libnftables(nft)
            return scarcity(error), True
        return "", False

    said, goes_on = free.call(NODE, tried, timeout=60)
    assert "out of memory" in said
    assert goes_on


@pytest.mark.parametrize("ended", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP])
def test_a_child_that_ends_is_an_error_with_a_name_and_the_next_one_goes_on(
    free: Cluster, ended: signal.Signals
) -> None:
    def tried() -> tuple[str, bool]:
        nft = Nft()
        use_libnftables(nft)
        (child,) = map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
        os.kill(child, ended)
        seconds, library._SECONDS = library._SECONDS, 1.0  # for the one that has stopped
        try:
            use_libnftables(nft)
        except KernelError as error:
            library._SECONDS = seconds
            use_libnftables(nft)
            return str(error), True
        return "", False

    said, goes_on = free.call(NODE, tried, timeout=60)
    words = "has not answered for" if ended is signal.SIGSTOP else f"signal {ended.value}"
    assert words in said
    assert goes_on


def test_chains_that_could_not_be_listed_are_told_of_and_listed_the_next_time(free: Cluster) -> None:
    """Until then nobody knows whether they let Services through."""

    def looked() -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[bool, bool]]:
        nft = Nft()
        use_libnftables(nft)
        programme = compile_snapshot(Snapshot((PLAIN,), (slices_of(free, ("web-1",)),)), facts(free))
        served = Served(programme.tables.desired, facts(free), read_host())
        looking = Obstacles(nft)
        (child,) = map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
        os.kill(child, signal.SIGKILL)
        first, failed = looking.find(served, ()), looking.failed
        return first, looking.find(served, ()), looking.answer(looking.ask(served)), (failed, looking.failed)

    free.nft(NODE, "table inet fw { chain c { type filter hook forward priority 0; policy drop; }; }")
    (fault,), (then,), (still,), failed = free.call(NODE, looked, timeout=60)
    assert failed == (True, False)
    assert fault.startswith("chain inet fw c in the forward hook drops by default and its rules cannot be read (")
    assert "signal 9" in fault
    assert then == still
    assert then.startswith(
        "chain inet fw c in the forward hook drops by default and accepts no translated connections"
    )


def test_a_chain_of_others_is_listed_with_the_sets_in_its_rules_and_without_what_named_ones_hold(
    free: Cluster,
) -> None:
    addresses = ", ".join(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}" for i in range(50_000))
    free.nft(NODE, f"table inet fw {{ set large {{ type ipv4_addr; elements = {{ {addresses} }}; }}; chain c {{ "
             "ip saddr @large tcp dport { 80, 443 } drop; }; }")  # fmt: skip

    def listed() -> tuple[str, int]:
        told = 0
        ask = answers.ask

        def heard(netlink: socket.socket, question: bytes) -> list[tuple[int, bytes]]:
            nonlocal told
            found = ask(netlink, question)
            told += sum(len(data) for _, data in found)
            return found

        answers.ask = heard
        return Nft().list_chain("inet", "fw", "c"), told

    text, told = free.call(NODE, listed, timeout=60)
    assert "ip saddr @large tcp dport { 80, 443 } drop" in text
    assert told < 50_000


def looked_at(cluster: Cluster) -> tuple[tuple[str, ...], int]:
    """What is said of others' chains in the node, and the most memory that libnftables took for it, in KiB."""
    library._LARGE = 1 << 30  # the child stays, to be looked at
    nft = Nft()
    use_libnftables(nft)
    programme = compile_snapshot(Snapshot((PLAIN,), (slices_of(cluster, ("web-1",)),)), facts(cluster))
    said = Obstacles(nft).find(Served(programme.tables.desired, facts(cluster), read_host()), ())
    (child,) = map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
    status = Path(f"/proc/{child}/status").read_text().splitlines()
    return said, next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


BASE = "type filter hook forward priority 0; policy drop;"


def much() -> dict[str, str]:
    """Tables with a great deal in them and a chain that lets nothing of ours through, by kind."""
    addresses = ", ".join(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}" for i in range(100_000))
    chains = "".join(f"chain c{i} {{ ip saddr {{ 9.9.9.9, 9.9.8.8 }} drop; }}\n" for i in range(1000))
    jumps = "".join(f"jump c{i}\n" for i in range(1000))
    asks = "ip saddr @s drop\nip daddr @s drop\n"
    return {
        "elements": f"table inet fw {{ set s {{ type ipv4_addr; elements = {{ {addresses} }}; }}\n"
        f"chain f {{ {BASE}\n{asks}}}\n}}",
        "elements within a rule": f"table inet fw {{ chain f {{ {BASE}\nip saddr {{ {addresses} }} drop\n}}\n}}",
        "chains": f"table inet fw {{ {chains}chain f {{ {BASE}\n}}\n}}",
        "chains that it leads to": f"table inet fw {{ {chains}chain f {{ {BASE}\n{jumps}}}\n}}",
    }


@pytest.mark.proves("K9")
@pytest.mark.parametrize("kind", much())
def test_a_chain_among_very_much_is_judged_in_little_memory(free: Cluster, kind: str) -> None:
    free.nft(NODE, much()[kind])
    (said,), peak = free.call(NODE, lambda: looked_at(free), timeout=120)
    assert said.startswith(
        "chain inet fw f in the forward hook drops by default and accepts no translated connections"
    )
    assert peak < 150 << 10


@pytest.mark.proves("K9")
def test_tables_of_others_take_no_memory_of_ours(free: Cluster) -> None:
    """libnftables takes half a megabyte for each that it is shown."""
    free.nft(NODE, f"table inet fw {{ chain f {{ {BASE}\n}}\n}}")
    alone = free.call(NODE, lambda: looked_at(free), timeout=60)
    made = ((strangers.table(f"t{i}"), strangers.chain(f"t{i}", "c", FORWARDS)) for i in range(300))
    free.call(NODE, lambda: put(tuple(itertools.chain.from_iterable(made))))
    among = free.call(NODE, lambda: looked_at(free), timeout=60)
    assert among[0] == alone[0]
    assert among[1] < alone[1] + (20 << 10)


@pytest.mark.parametrize("most", ["_MOST_RULES", "_MOST_WITHIN", "_MOST_ELEMENTS"])
def test_what_is_too_large_is_told_and_not_listed(free: Cluster, most: str) -> None:
    sets = "set s { type ipv4_addr; elements = { 1.1.1.1, 1.1.1.2 }; }"
    rules = "ip daddr { 1.1.1.1, 1.1.1.2 } drop\nip daddr @s drop"
    free.nft(NODE, f"table inet fw {{ {sets}\nchain f {{ {BASE}\n{rules}\n}}\n}}")

    def tried() -> str:
        setattr(nft_module, most, 50)
        nft = Nft()
        try:
            nft.list_chain("inet", "fw", "f")
            nft.list_set("inet", "fw", "s")
        except BeyondUs as error:
            return str(error)
        return ""

    what = "set s" if most == "_MOST_ELEMENTS" else "chain f"
    assert free.call(NODE, tried, timeout=60) == f"{what} of table inet fw is too large to be looked through"


def test_what_is_left_of_an_answer_is_none_to_the_next_question(free: Cluster) -> None:
    """Who asked may have had no memory for all of it."""
    free.nft(NODE, "table inet fw { chain f { type filter hook forward priority 0; policy drop; }; }")

    def asked() -> tuple[bool, bool, str]:
        nft = Nft()
        nft._library.netlink.send(message(strangers.NEWTABLE + 1, DUMP, 0, b""))
        gone = nft.has_table("inet", "gone")
        nft._library.netlink.send(message(strangers.NEWTABLE + 1, DUMP, 0, b""))
        return gone, nft.has_table("inet", "fw"), nft.list_chain("inet", "fw", "f")

    gone, there, listing = free.call(NODE, asked, timeout=60)
    assert (gone, there) == (False, True)
    assert "policy drop" in listing


def test_what_takes_too_long_to_list_is_told_and_tried_again(free: Cluster) -> None:
    """A child that does not answer is given up after some time; that must not be waited for with each chain."""
    free.nft(NODE, "table inet fw { chain d { drop; }; chain f { type filter hook forward priority 0; jump d; }; }")

    def looked() -> tuple[tuple[str, ...], tuple[str, ...]]:
        foreign_chains._MOST_SECONDS = 0.0
        programme = compile_snapshot(Snapshot((PLAIN,), (slices_of(free, ("web-1",)),)), facts(free))
        served = Served(programme.tables.desired, facts(free), read_host())
        looking = Obstacles(Nft())
        first = looking.find(served, ())
        foreign_chains._MOST_SECONDS = 30.0
        return first, looking.find(served, ())

    (first,), (then,) = free.call(NODE, looked, timeout=60)
    assert "depends on 'the rules of chain d' (it takes too long to list what others have)" in first
    assert "drops or rejects by the rule 'drop' of chain d" in then


@pytest.mark.proves("K9")
def test_the_program_beside_very_much_of_others(free: Cluster, tmp_path: Path) -> None:
    """Written, looked at and removed; what a newer nft has described is there as well."""
    free.nft(NODE, much()["elements"] + "\n" + much()["chains that it leads to"].replace("inet fw", "inet more"))
    free.call(NODE, lambda: put((a_set("fw", "newer", typeof(200)),)))
    (tmp_path / "web.yaml").write_text(MANIFESTS)
    store, node = ["--store", str(tmp_path / "store.db")], ["--node-name", NODE, "--node-ip", NODE_IP]
    done = free.run(
        NODE, [str(PROGRAM), "sync", "--once", "-f", str(tmp_path / "web.yaml"), *node, *store], timeout=120
    )
    for name in ("fw", "more"):
        assert f"chain inet {name} f {CLOSED}" in done.stderr
    assert free.run(NODE, [str(PROGRAM), "diff", *node, *store], timeout=120).stdout == ""
    done = free.run(NODE, [str(PROGRAM), "cleanup", *store], timeout=120)
    assert done.stdout.count("nodeport-nft removed") == 2
