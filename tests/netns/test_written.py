"""Tables written over netlink are those that nft makes of the rendered text, as nft lists them."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from lab.cluster import Cluster
from nodeport_nft.compile import compile_schema
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.flowtable import check_flowtables, plan_devices, read_devices
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import Family
from nodeport_nft.plan import AddChain, AddRules, Replace, Transaction
from nodeport_nft.reconcile import compile_snapshot, read_tables, removal
from nodeport_nft.render import write_transaction
from nodeport_nft.ruleset import Chain, Drop, Field, Goto, InSet, Table
from tests.builders import FACTS
from tests.netns.test_differential import random_snapshot
from tests.netns.test_elements import RAW, TEXT, Node, make_node
from tests.property.test_netlink_messages import nodes

FAMILIES = {"ip": Family.IPV4, "ip6": Family.IPV6}


@pytest.fixture
def raw(cluster: Cluster) -> Node:
    return make_node(cluster, RAW)


def has_flowtables(node: Node) -> bool:
    try:
        check_flowtables(node.nft)
    except KernelError:
        return False
    return True


def replacement(table: Table) -> Transaction:
    return Transaction(table.schema.family, table.schema.name, (Replace(table),))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tables_of_every_kind_of_node_are_listed_as_rendered(raw: Node, family: str) -> None:
    """Those with a flowtable where the kernel has such."""
    whose = f"{family} nodeport-nft"
    for schema in {compile_schema(FAMILIES[family], facts) for facts in nodes()}:
        if schema.flowtable and not has_flowtables(raw):
            continue
        transaction = replacement(Table(schema))
        raw.apply([transaction])
        listed = raw.cluster.run(RAW, ["nft", "list", "table", *whose.split()]).stdout
        rendered = write_transaction(transaction).removeprefix(f"add table {whose}\ndelete table {whose}\n")
        assert lines(listed) == lines(rendered)


def lines(text: str) -> list[str]:
    """Without those that are empty, which nft sets elsewhere, and what it leaves out, as a reset says it already."""
    return [line.replace("meta l4proto tcp reject", "reject") for line in text.splitlines() if line]


def spelled(listing: str) -> list[str]:
    """A listing without the kernel's order of elements."""
    return sorted(piece for line in listing.splitlines() for piece in line.strip(" \t,}").split(", "))


@pytest.mark.parametrize("seed", range(3))
def test_random_services_are_listed_as_from_text(cluster: Cluster, raw: Node, seed: int) -> None:
    """With chains and sets of their own that come, change and go."""
    chance = random.Random(seed)
    text = make_node(cluster, TEXT)
    words = set()
    for _ in range(4):
        programme = compile_snapshot(random_snapshot(chance, cluster), FACTS, read_tables(raw.nft, FACTS))
        tables = programme.tables
        for transactions in (tables.first_transaction(), tables.transaction(tables.take_edits())):
            words |= {type(operation).__name__ for each in transactions for operation in each.operations}
            raw.apply(transactions)
            text.write_text(transactions)
            assert spelled(raw.listing()) == spelled(text.listing())
    assert words >= {"Replace", "Add", "Delete", "AddMap", "AddChain", "AddRules", "FlushChain", "DeleteChain"}
    raw.apply(removal(raw.nft))
    assert "nodeport-nft" not in cluster.ruleset(RAW)


@pytest.fixture
def links(cluster: Cluster) -> Iterator[tuple[str, ...]]:
    cluster.run(RAW, ["ip", "link", "add", "fast0", "type", "veth", "peer", "name", "fast1"])
    yield "fast0", "fast1"
    cluster.run(RAW, ["ip", "link", "del", "fast0"])


def test_devices_come_and_go(raw: Node, links: tuple[str, ...]) -> None:
    schemas = {family: compile_schema(family, replace(FACTS, flowtable=True)) for family in Family}
    if not has_flowtables(raw):
        with pytest.raises(KernelError, match="flowtable"):
            read_devices(raw.nft, schemas)
        return
    raw.apply(replacement(Table(schema)) for schema in schemas.values())
    nothing = dict.fromkeys(Family, frozenset[str]())
    assert read_devices(raw.nft, schemas) == nothing
    for wanted in (links, links[1:], links, ()):
        raw.apply(plan_devices(schemas, read_devices(raw.nft, schemas), wanted))
        assert read_devices(raw.nft, schemas) == dict.fromkeys(Family, frozenset(wanted))
        listed = re.findall(r"devices = \{ ([^}]*) \}", raw.cluster.ruleset(RAW))
        assert [sorted(names.replace('"', "").split(", ")) for names in listed] == [sorted(wanted)] * 2 * bool(wanted)


LOOKING = Chain("firewall/x", ((InSet((Field.SADDR,), "pod-cidrs"), Drop()), (InSet((Field.SADDR,), "gone"), Drop())))
REFUSED = {
    "a set that is not there": (
        (AddChain(LOOKING), AddRules(LOOKING)),
        r"add rule ip nodeport-nft firewall/x: ip saddr @gone drop: No such file or directory",
    ),
    "a chain that is not there": (
        (AddRules(Chain("gone", ((Drop(),),))),),
        r"add rule ip nodeport-nft gone: drop: No such file or directory",
    ),
    "a loop": (
        (AddRules(Chain("refuse", ((Goto("services"),),))),),
        r"Too many l",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_names_what_is_refused(raw: Node, case: str) -> None:
    operations, words = REFUSED[case]
    raw.apply([replacement(Table(compile_schema(Family.IPV4, FACTS)))])
    with pytest.raises(KernelError, match=words) as refused:
        raw.apply([Transaction("ip", "nodeport-nft", operations)])
    assert "nothing was changed" in str(refused.value)


def test_our_tables_are_written_and_read_without_libnftables(cluster: Cluster) -> None:
    def served() -> list[str]:
        nft = Nft()
        transactions = [replacement(Table(compile_schema(family, FACTS))) for family in Family]
        nft.check(transactions)
        nft.apply(transactions)
        assert all(listed is not None for listed in read_tables(nft, FACTS).values())
        nft.apply(removal(nft))
        return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()

    assert cluster.call(RAW, served) == []
