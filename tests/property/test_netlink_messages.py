"""What is sent to the kernel is what libnftables makes of the text that is rendered, attribute by attribute.

The tables of every kind of node, and any rule of which a table could be made. Nothing here asks the kernel.
"""

from __future__ import annotations

import contextlib
import itertools
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import ModuleType

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from nodeport_nft.compile import FLOWTABLE, compile_schema
from nodeport_nft.kernel.libnftables.library import Library
from nodeport_nft.kernel.netlink import declarations, flowtables, rules
from nodeport_nft.kernel.netlink.declarations import declaration_messages
from nodeport_nft.kernel.netlink.disassembly import disassemble, matches
from nodeport_nft.kernel.netlink.expressions import (
    Instruction,
    Opaque,
    Operand,
    Verdict,
    instruct,
    pack,
    unpack,
)
from nodeport_nft.kernel.netlink.rules import assemble
from nodeport_nft.model import Family, NodeFacts, NodePortMode
from nodeport_nft.plan import (
    AddChain,
    AddDevices,
    AddMap,
    AddRules,
    DeleteChain,
    DeleteDevices,
    DeleteMap,
    FlushChain,
    Operation,
    Remove,
    Replace,
    Transaction,
)
from nodeport_nft.ruleset import (
    Chain,
    Dispatch,
    Dnat,
    DnatSlot,
    Drop,
    Established,
    Field,
    Goto,
    GotoChance,
    InSet,
    Interface,
    Jump,
    Learn,
    Local,
    MarkFlip,
    MarkHas,
    MarkSet,
    Masquerade,
    NotIn,
    Offload,
    Reject,
    Rule,
    Schema,
    Statement,
    Table,
    Translated,
)
from tests.builders import FACTS
from tests.oracle import by_libnftables, spelled

FAMILIES = {"ip": Family.IPV4, "ip6": Family.IPV6}


@pytest.fixture(scope="module")
def library() -> Iterator[Library]:
    made = Library()
    yield made
    made.close()


def nodes() -> Iterator[NodeFacts]:
    """One node of each kind whose tables are of another schema, with every third bit for masquerading."""
    plain = replace(FACTS, pod_cidrs=())
    detectors = FACTS, replace(plain, pod_interface="cali*"), replace(plain, pod_interface="cbr0"), plain
    kinds = itertools.product(detectors, (NodePortMode.ALL, NodePortMode.PRIMARY), (False, True), (False, True))
    for number, (facts, mode, everything, flowtable) in enumerate(kinds):
        bit = 3 * number % 32
        yield replace(facts, masquerade_bit=bit, node_port_mode=mode, masquerade_all=everything, flowtable=flowtable)


def written(transaction: Transaction) -> dict[int, list[object]]:
    """What is said by the messages that we send."""
    said = (declaration_messages(transaction, operation) for operation in transaction.operations)
    return spelled(message for messages in said if messages for message in messages)


def whole(schema: Schema, *operations: Operation) -> Transaction:
    """A transaction that needs nothing that was there: with sets and chains of services, and their end."""
    words = ("affinity", "firewall", "firewall-node-ports")
    maps = {name: schema.new_map(name) for name in sorted(f"{word}/default/web" for word in words)}
    chain = Chain("affinity/default/web", tuple(every_rule(schema)))
    table = Table(schema, maps=maps, chains={chain.name: chain})
    return Transaction(schema.family, schema.name, (Replace(table), *operations))


def every_rule(schema: Schema) -> Iterator[Rule]:
    """Those that Services bring, and what no schema has at once."""
    ip4 = schema.family == "ip"
    affinity = "affinity/default/web"
    yield (Learn(affinity, 10800),)
    yield (Dnat("udp", "10.244.1.2" if ip4 else "fd00:244:1::2", 53),)
    yield InSet((Field.SADDR,), affinity), Goto(affinity)
    yield (GotoChance(affinity, 2, 7),)
    yield InSet((Field.SADDR,), "firewall/default/web", negated=True), Drop()
    yield NotIn(Field.SADDR, "172.16.0.0/12" if ip4 else "fe80::/10"), Drop()
    yield Interface("cbr0"), Drop()
    yield Interface("cali*"), Drop()
    yield Local(Field.DADDR), Drop()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tables_of_every_kind_of_node(library: Library, family: str) -> None:
    schemas = {compile_schema(FAMILIES[family], facts) for facts in nodes()}
    assert len(schemas) == 32
    for schema in schemas:
        transaction = whole(schema)
        assert written(transaction) == spelled(by_libnftables([transaction], library))
    for rule in {rule for schema in schemas for chain in schema.chains for rule in chain.rules}:
        instructions = assemble(family, rule)
        assert unpack(pack(instructions)) == instructions
        assert disassemble(family, instructions) == rule


def changes(schema: Schema) -> tuple[Operation, ...]:
    """All kinds of operations that are not about elements."""
    added = Chain(
        "firewall/default/api", (((InSet((Field.SADDR,), "firewall/default/api"), Drop())),), comment="added"
    )
    return (
        AddMap(schema.new_map("firewall/default/api")),
        AddChain(added),
        AddRules(added),
        FlushChain("affinity/default/web"),
        DeleteChain("affinity/default/web"),
        DeleteMap("affinity/default/web"),
        AddDevices(FLOWTABLE, ("eth0",)),
        DeleteDevices(FLOWTABLE, ("eth0",)),
        Remove(schema.family, schema.name),
    )


OFFLOADING = replace(FACTS, flowtable=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_of_change(library: Library, family: str) -> None:
    schema = compile_schema(FAMILIES[family], OFFLOADING)
    transaction = whole(schema, *changes(schema))
    assert written(transaction) == spelled(by_libnftables([transaction], library))


# --- any rule ---------------------------------------------------------------------------------------------

MARKS = st.integers(1, 0xFFFFFFFF)
BITS = st.integers(0, 31).map(lambda bit: 1 << bit)
INTERFACES = st.from_regex(r"[a-z][a-z0-9._-]{0,13}\*?", fullmatch=True)
CHAINS = st.sampled_from(("services", "refuse", "service/1", "node-port-inside/maglev"))
PORTS = st.integers(1, 65535)
SHARES = st.tuples(st.integers(1, 2**30), st.integers(1, 2**30))
VIP, PORT = (Field.DADDR, Field.L4PROTO, Field.DPORT), (Field.L4PROTO, Field.DPORT)
SETS = {
    "cluster-ips": (Field.DADDR,),
    "service-cidrs": (Field.DADDR,),
    "pod-cidrs": (Field.SADDR,),
    "hairpin-connections": (Field.SADDR, *VIP),
}
DRAWS = st.tuples(
    st.sampled_from(((VIP, "service-endpoints"), (PORT, "node-port-endpoints"))),
    st.integers(1, 65536),
    st.integers(0, 65535),
    st.sampled_from(((), (Field.SADDR,), (Field.SADDR, Field.SPORT), (Field.SPORT, Field.DADDR))),
)


def addresses(family: str) -> st.SearchStrategy[str]:
    kind, bits = (IPv4Address, 32) if family == "ip" else (IPv6Address, 128)
    return st.integers(1, 2**bits - 1).map(lambda number: str(kind(number)))


def prefixes(family: str) -> st.SearchStrategy[str]:
    """Prefixes that are not all there is, spelled as ``NotIn`` has them."""
    kind, bits = (IPv4Network, 32) if family == "ip" else (IPv6Network, 128)

    def make(number: int, length: int) -> str:
        return str(kind((number >> bits - length << bits - length, length)))

    return st.builds(make, st.integers(0, 2**bits - 1), st.integers(1, bits))


def conditions(family: str) -> st.SearchStrategy[Statement]:
    fields = st.sampled_from((Field.SADDR, Field.DADDR))
    return st.one_of(
        st.builds(
            lambda named, negated: InSet(named[1], named[0], negated),
            st.sampled_from(sorted(SETS.items(), key=str)),
            st.booleans(),
        ),
        st.builds(NotIn, fields, prefixes(family)),
        st.builds(Local, fields),
        st.builds(Interface, INTERFACES, st.booleans()),
        st.sampled_from((Translated(), Established(), Offload(FLOWTABLE))),
        st.builds(MarkHas, BITS),
        st.builds(MarkSet, MARKS),
        st.builds(MarkFlip, MARKS),
        st.builds(Learn, st.just("affinity/default/web"), st.integers(1, 86400 * 7)),
    )


def ends(family: str) -> st.SearchStrategy[Statement]:
    return st.one_of(
        st.builds(Jump, CHAINS),
        st.builds(Goto, CHAINS),
        st.sampled_from((Drop(), Reject(), Reject(tcp_reset=True), Masquerade())),
        st.builds(Dispatch, st.just(VIP), st.sampled_from(("service-ips", "firewall-ips"))),
        st.builds(Dnat, st.sampled_from(("tcp", "udp", "sctp")), addresses(family), PORTS),
        st.builds(lambda chain, shares: GotoChance(chain, min(shares), sum(shares)), CHAINS, SHARES),
        DRAWS.map(lambda draw: DnatSlot(draw[0][0], draw[1], draw[0][1], draw[2], draw[3])),
    )


def some_rules(family: str) -> st.SearchStrategy[tuple[Rule, ...]]:
    rule = st.builds(lambda before, end: (*before, end), st.lists(conditions(family), max_size=3), ends(family))
    return st.lists(rule, min_size=1, max_size=25).map(tuple)


@pytest.mark.parametrize("family", FAMILIES)
@settings(
    max_examples=30,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_rule_is_assembled_as_by_libnftables_and_read_back(
    library: Library, family: str, data: st.DataObject
) -> None:
    made = data.draw(some_rules(family))
    schema = compile_schema(FAMILIES[family], OFFLOADING)
    chains = (*(replace(chain, rules=()) for chain in schema.chains), Chain("any", made))
    learned = schema.new_map("affinity/default/web")
    table = Table(replace(schema, chains=chains), maps={learned.name: learned})
    transaction = Transaction(schema.family, schema.name, (Replace(table),))
    assert written(transaction) == spelled(by_libnftables([transaction], library))
    for rule in made:
        instructions = assemble(family, rule)
        assert unpack(pack(instructions)) == instructions
        assert disassemble(family, instructions) == rule


# --- what is no rule of ours ------------------------------------------------------------------------------

REGISTERS = {"to", "source", "address", "port"}


def of_all_nodes(family: str) -> set[Rule]:
    schemas = [compile_schema(FAMILIES[family], facts) for facts in nodes()]
    own = (rule for schema in schemas for rule in every_rule(schema))
    return {rule for schema in schemas for chain in schema.chains for rule in chain.rules} | set(own)


def elsewhere(instruction: Instruction) -> Instruction:
    """The same in other registers, as another version of nft might choose them."""
    moved = {
        name: operand + 4 if name in REGISTERS and isinstance(operand, int) and operand >= 0 else operand
        for name, operand in instruction.operands
    }
    return instruct(instruction.kind, **moved)


def altered(operand: Operand) -> Operand:
    match operand:
        case Verdict(code, chain):
            return Verdict(code, f"{chain}x")
        case bytes():
            return bytes((operand[0] ^ 1,)) + operand[1:]
        case int():
            return operand + 1
        case _:
            return f"{operand}x"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_rule_is_known_in_any_registers_and_by_all_that_it_says(family: str) -> None:
    for rule in of_all_nodes(family):
        right = assemble(family, rule)
        assert matches(family, rule, tuple(map(elsewhere, right)))
        for at, instruction in enumerate(right):
            before, after = right[:at], right[at + 1 :]
            assert disassemble(family, (*before, *after)) != rule
            assert disassemble(family, (*before, Opaque("counter", b""), instruction, *after)) is None
            for name, operand in instruction.operands:
                wrong = instruct(instruction.kind, **{**dict(instruction.operands), name: altered(operand)})
                assert not matches(family, rule, (*before, wrong, *after)), (rule, wrong)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_shorter_or_longer_than_ours_is_another_rule_and_no_error(family: str) -> None:
    for rule in of_all_nodes(family):
        right = assemble(family, rule)
        for at, instruction in enumerate(right):
            for name, operand in instruction.operands:
                for wrong in (b"", operand[:-1], operand + b"\1", operand * 5) if isinstance(operand, bytes) else ():
                    odd = instruct(instruction.kind, **{**dict(instruction.operands), name: wrong})
                    assert disassemble(family, (*right[:at], odd, *right[at + 1 :])) != rule


def test_what_is_not_known_is_opaque() -> None:
    known = pack([instruct("flow_offload", flowtable="fast-path")])
    assert unpack(known.replace(b"flow_offload", b"flow_unknown"))[0].kind == "flow_unknown"
    (odd,) = unpack(known.replace(b"fast-path", b"fast\xffpath"))
    assert isinstance(odd, Opaque)
    assert disassemble("ip", (odd,)) is None


# --- that the comparisons can fail ------------------------------------------------------------------------

NOT_SENT = {"COMMENT_LIMIT", "NFNL_SUBSYS_NFTABLES", "ACK", "BODY", "_GETFLOWTABLE"}
CONSTANTS = [
    (module, name)
    for module in (rules, declarations, flowtables)
    for name, value in vars(module).items()
    if type(value) is int and name not in NOT_SENT
]


@pytest.fixture(scope="module")
def everything(library: Library) -> list[tuple[Transaction, dict[int, list[object]]]]:
    """For each family all that can be written, and what libnftables says for it."""
    schemas = [compile_schema(family, OFFLOADING) for family in Family]
    transactions = [whole(schema, *changes(schema)) for schema in schemas]
    return [(transaction, spelled(by_libnftables([transaction], library))) for transaction in transactions]


@pytest.mark.parametrize(("module", "name"), CONSTANTS, ids=lambda part: getattr(part, "__name__", part))
def test_a_number_that_is_another_one_is_seen(
    everything: list[tuple[Transaction, dict[int, list[object]]]],
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    name: str,
) -> None:
    """The comparison above can fail: each of our numbers makes a difference to it."""
    monkeypatch.setattr(module, name, vars(module)[name] + 4)
    with contextlib.suppress(struct.error):  # it does not even fit
        assert any(written(transaction) != right for transaction, right in everything)
