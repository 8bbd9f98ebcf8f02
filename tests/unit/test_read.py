"""Reading a listing: the spellings of several nft versions, and what is not ours."""

from __future__ import annotations

import re

import pytest

from nodeport_nft.compile import compile_schema
from nodeport_nft.model import Family, Snapshot
from nodeport_nft.reconcile import compile_snapshot
from nodeport_nft.render import write_transaction
from nodeport_nft.ruleset import Goto
from tests.builders import FACTS, make_port, make_service, make_slice
from tests.listings.read import read_table, schema_differences
from tests.listings.rules import read_time
from tests.unit.endless import ended_within

SCHEMA = compile_schema(Family.IPV4, FACTS)


def listing() -> str:
    service = make_service("web", make_port(80, node_port=30080))
    tables = compile_snapshot(Snapshot((service,), (make_slice("10.244.1.1", "10.244.1.2"),)), FACTS).tables
    return write_transaction(tables.first_transaction()[0]).split("\n", 2)[2]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("hook output priority -100;", "hook output priority dstnat;"),  # nft 1.1.3
        ("meta l4proto tcp reject with tcp reset", "reject with tcp reset"),  # every nft: the reset implies it
        ("meta mark | 0x00004000", "meta mark or 0x00004000"),
        ("meta mark & 0x00004000 == 0x00004000", "meta mark and 0x4000 == 0x4000"),
        (" . tcp . 80 ", " . 6 . 80 "),  # a host without /etc/protocols
        (' comment "default/web"', ' counter packets 3 bytes 180 comment "default/web"'),
        (' comment "default/web"', ' comment "default/web" counter packets 3 bytes 180'),
    ],
)
def test_spellings_of_other_versions(ours: str, theirs: str) -> None:
    text = listing()
    assert ours in text
    other = read_table(text.replace(ours, theirs), SCHEMA)
    assert schema_differences(other, SCHEMA) == ()
    assert other.elements == read_table(text, SCHEMA).elements


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("\t\tdrop\n", "\t\taccept\n"),
        ("\t\tjump services\n", ""),
        ("policy accept", "policy drop"),
        ("schema ", "schema 0"),
        ("\tchain refuse {", "\tchain refuse2 {"),
        ("\tset cluster-ips {", "\tset cluster-ips-2 {"),
        ("\t\tflags interval\n", ""),
        ("\tmap service-ips {", "\tcounter strange {\n\t\tpackets 0 bytes 0\n\t}\n\n\tmap service-ips {"),
        (" mod 8 ", " mod 9 "),
    ],
)
def test_whatever_is_not_ours_is_seen(ours: str, theirs: str) -> None:
    text = listing()
    assert ours in text
    assert schema_differences(read_table(text.replace(ours, theirs, 1), SCHEMA), SCHEMA) != ()


def test_a_foreign_verdict_is_read_and_so_can_be_deleted() -> None:
    text = listing().replace(": goto service/2", ": drop")
    table = read_table(text, SCHEMA)
    assert table.elements["service-ips"]["10.96.0.10", "tcp", 80].value == Goto("drop")


@pytest.mark.parametrize(
    "broken",
    [
        "elements = { nonsense }",
        "elements = { 10.96.0.10 . tcp . 80 }",
        "elements = { 10.96.0.10 . tcp . 80 : goto service/2, }, 7 }",
        f"elements = {{ 10.96.0.10 . tcp . {'8' * 5000} : goto service/2 }}",
        "elements = { 10.96.0.10 . tcp . ٨٠ : goto service/2 }",
        "elements = { 10.96.0.10/// . tcp . 80 : goto service/2 }",
        "elements = { 10.96.0.10 . tćp . 80 : goto service/2 }",
    ],
)
def test_an_element_that_cannot_be_read_is_named_and_the_rest_is_read(broken: str) -> None:
    text = re.sub(r"elements = \{ 10.96.0.10 \. tcp \. 80 [^}]*\}", broken, listing(), count=1)
    table = read_table(text, SCHEMA)
    assert text != listing()
    (difference,) = schema_differences(table, SCHEMA)
    assert difference.startswith("map service-ips holds an unknown element")
    assert table.elements["service-endpoints"] == read_table(listing(), SCHEMA).elements["service-endpoints"]


@pytest.mark.parametrize("name", ["\x1b[2J", "\u202e", "affinity/\x07", "firewall/\ufeff"])
@pytest.mark.parametrize("kind", ["set", "map", "chain", "flowtable", "counter"])
def test_whatever_the_names_differences_can_be_printed(kind: str, name: str) -> None:
    """Over netlink, anybody may give anything any name."""
    text = listing().replace("\tmap service-ips {", f"\t{kind} {name} {{\n\t}}\n\n\tmap service-ips {{", 1)
    table = read_table(text, SCHEMA)
    assert table.differences
    assert all(difference.isprintable() for difference in table.differences)


@pytest.mark.parametrize("kind", ["set", "chain"])
@pytest.mark.parametrize(
    "name", ["affinity/\x1b[2J", "firewall/a\u202e", "affinity/x;flush", "firewall/é", "affinity/}"]
)
def test_names_that_no_command_can_hold_have_the_table_replaced(kind: str, name: str) -> None:
    """As one that only looks like a Service's they would be deleted by name, in a command that nft cannot read."""
    content = listing().split(f"\t{kind} ")[1].partition("{")[2].partition("\n\t}")[0]
    text = listing().replace("\tmap service-ips {", f"\t{kind} {name} {{{content}\n\t}}\n\n\tmap service-ips {{", 1)
    table = read_table(text, SCHEMA)
    assert table.differences
    assert all(difference.isprintable() for difference in table.differences)
    assert not {*table.own_chains, *table.own_maps}


@pytest.mark.parametrize(
    "head",
    [
        "\tmap service-ips {\n\t\telements = { ",
        "\tset affinity/x/1 {\n\t\ttypeof ip saddr\n\t\tflags dynamic,timeout\n\t\telements = { ",
        "\tchain affinity/x {\n\t\t",
        "\tchain services {\n\t\t",
        "\tflowtable x {\n\t\t",
        "",
    ],
)
@pytest.mark.parametrize(
    "part", ["1", "f:", "devices = {", "10.0.0.1 timeout ", "counter packets 1 bytes ", "0x0", "{ ", " "]
)
def test_no_listing_is_long_to_read(head: str, part: str) -> None:
    """A quarter of a megabyte, which takes minutes where time grows with the square."""
    text = f"table ip nodeport-nft {{\n{head}{part * (250_000 // len(part))}\n\t}}\n}}\n"
    with ended_within(60):
        assert read_table(text, SCHEMA).differences


def test_no_time_is_long_to_read() -> None:
    with ended_within(60):
        assert read_time("1" * 250_000) == 0
        assert read_time("1" * 5000 + "s") >= 0
        assert read_time("2h59m58s132ms") == 10_798_132
