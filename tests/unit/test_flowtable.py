"""The fast path (X11): what the tables have of it, and which devices take part."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from nodeport_nft.compile import FLOWTABLE, compile_schema
from nodeport_nft.config import ConfigError, load_config
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.flowtable import MOST_DEVICES, eligible, left_out, plan_devices
from nodeport_nft.kernel.netlink import flowtables
from nodeport_nft.kernel.netlink.messages import BODY
from nodeport_nft.model import Family, NodeFacts
from nodeport_nft.plan import AddDevices, DeleteDevices, Transaction
from nodeport_nft.reconcile import NodeTables
from nodeport_nft.render import write_transaction
from tests.listings.read import read_table

PLAIN = NodeFacts("worker-1")
OFFLOADING = replace(PLAIN, flowtable=True)
SCHEMAS = {family: compile_schema(family, OFFLOADING) for family in Family}

# As nft 1.0.6 lists it on Linux 6.1.
LISTED = """\
	flowtable fast-path {
		hook ingress priority filter
		devices = { eth0, eth1, web-1 }
	}
"""


def written(facts: NodeFacts, family: Family = Family.IPV4) -> str:
    """The text of an empty table as it is made anew."""
    tables = NodeTables(facts)
    made = dict(zip(Family, tables.first_transaction(), strict=True))
    return write_transaction(made[family])


@pytest.mark.proves("X11")
@pytest.mark.parametrize("family", Family)
def test_only_translated_connections_go_the_fast_path(family: Family) -> None:
    text = written(OFFLOADING, family)
    assert "\tflowtable fast-path {\n\t\thook ingress priority filter\n\t}\n" in text
    rules = [line.strip() for line in text.splitlines() if "flow add" in line]
    assert rules == ["ct state established ct status dnat flow add @fast-path"]


def test_it_is_off_unless_asked_for() -> None:
    assert "fast-path" not in written(PLAIN)
    assert "hook forward" not in written(PLAIN)
    assert compile_schema(Family.IPV4, PLAIN) != SCHEMAS[Family.IPV4]


def test_a_listing_is_the_same_whatever_its_devices() -> None:
    text = written(OFFLOADING).split("delete table ip nodeport-nft\n")[1]
    empty = text.replace("forward priority filter", "forward priority 0")
    full = text.replace("\tflowtable fast-path {\n\t\thook ingress priority filter\n\t}\n", LISTED)
    assert "devices" in full
    for listing in (text, empty, full):
        assert read_table(listing, SCHEMAS[Family.IPV4]).differences == ()
    assert "flowtable fast-path" in read_table(full, compile_schema(Family.IPV4, PLAIN)).differences
    other = full.replace("hook ingress priority filter\n", "hook ingress priority 10\n")
    assert read_table(other, SCHEMAS[Family.IPV4]).differences == ("flowtable fast-path",)


def test_what_is_missing_is_added_in_both_families() -> None:
    held = {Family.IPV4: frozenset({"eth0"}), Family.IPV6: frozenset({"eth0", "web-1"})}
    (only,) = plan_devices(SCHEMAS, held, ("eth0", "web-1"))
    assert (only.family, only.operations) == ("ip", (AddDevices(FLOWTABLE, ("web-1",)),))
    assert write_transaction(only) == (
        'add flowtable ip nodeport-nft fast-path { hook ingress priority filter; devices = { "web-1" }; }\n'
    )
    assert plan_devices(SCHEMAS, dict.fromkeys(Family, frozenset({"eth0", "web-1"})), ("eth0", "web-1")) == ()


def test_what_is_listed_without_a_link_is_deleted() -> None:
    """Kernels before 6.16 do that by themselves when the link goes, and would refuse it."""
    held = dict.fromkeys(Family, frozenset({"eth0", "gone"}))
    for each in plan_devices(SCHEMAS, held, ("eth0",)):
        assert each.operations == (DeleteDevices(FLOWTABLE, ("gone",)),)
        assert write_transaction(each).startswith(f"delete flowtable {each.family} nodeport-nft fast-path {{ hook")


def test_many_links_are_added_in_portions_and_bounded() -> None:
    links = tuple(f"veth{number}" for number in range(MOST_DEVICES + 44))
    for each in plan_devices(SCHEMAS, {}, links):
        portions = [operation.devices for operation in each.operations if isinstance(operation, AddDevices)]
        assert all(len(portion) < 256 for portion in portions)  # NFT_NETDEVICE_MAX
        assert tuple(name for portion in portions for name in portion) == links[:MOST_DEVICES]
    assert "44 of 300 links take no part" in left_out(links)[0]
    assert left_out(links[:MOST_DEVICES]) == ()


def test_no_name_of_a_link_becomes_syntax() -> None:
    odd = ('a"b', "c}d", "e{f", "x*", "g,h", "i j", "veth@if7", "br-12.34", "ü")
    assert eligible(odd) == ("veth@if7", "br-12.34", "ü")


def test_the_configuration_has_a_key() -> None:
    assert not load_config(None, {}).flowtable
    assert load_config(None, {"flowtable": True}).flowtable
    with pytest.raises(ConfigError, match='flowtable: "yes" is neither true nor false'):
        load_config(None, {"flowtable": "yes"})


def test_chains_to_trust_are_named_in_full() -> None:
    assert load_config(None, {"trustedChains": ["ip  filter FORWARD"]}).trusted_chains == ("ip filter FORWARD",)
    with pytest.raises(ConfigError, match='trustedChains: "FORWARD" is not a chain; write FAMILY TABLE CHAIN'):
        load_config(None, {"trustedChains": ["FORWARD"]})


def test_a_kernel_without_flowtables_is_told_with_the_remedy() -> None:
    from nodeport_nft.kernel.flowtable import check_flowtables

    class Refusing:
        def check(self, transactions: Iterable[Transaction]) -> None:
            assert "flowtable" in "".join(map(write_transaction, transactions))
            raise KernelError("refused:\nadd flowtable ip probe probe: No such file or directory")

    with pytest.raises(KernelError) as told:
        check_flowtables(Refusing())  # type: ignore[arg-type]
    assert "modprobe nft_flow_offload" in str(told.value)
    assert str(told.value).endswith("It says: add flowtable ip probe probe: No such file or directory")


def test_devices_have_any_bytes_for_names() -> None:
    """A link may be called what is not UTF-8; the system's other answers tell it so, too."""
    names = ("eth0", os.fsdecode(b"caf\xe9"))
    made = flowtables.new("ip", "nodeport-nft", FLOWTABLE, names)
    assert b"caf\xe9\0" in made.attributes
    assert flowtables.devices(bytes(BODY) + made.attributes) == set(names)
