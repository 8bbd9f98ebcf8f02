"""Values → nft's text, spelled as nft 1.0.6 and later list it.

Everything that enters the text is an address, a number, a name from a fixed vocabulary or a comment made of DNS
labels, all checked where they were made; ``_quoted`` refuses the one character that could end a comment early.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache

from nodeport_nft.plan import (
    Add,
    AddChain,
    AddDevices,
    AddMap,
    AddRules,
    Delete,
    DeleteChain,
    DeleteDevices,
    DeleteMap,
    FlushChain,
    Operation,
    Remember,
    Remove,
    Replace,
    Transaction,
)
from nodeport_nft.ruleset import (
    HASH_SEED,
    Chain,
    Dispatch,
    Dnat,
    DnatSlot,
    Drop,
    Element,
    Established,
    Field,
    Goto,
    GotoChance,
    InSet,
    Interface,
    Jump,
    Key,
    Learn,
    Local,
    Map,
    MarkFlip,
    MarkHas,
    MarkSet,
    Masquerade,
    Memory,
    NotIn,
    Offload,
    Reject,
    Rule,
    Schema,
    Statement,
    Table,
    Translated,
    Value,
)

FLOWTABLE_LINES = ("hook ingress priority filter",)
"""What stands between the braces of a flowtable, but for its devices."""

PRIORITIES = {("prerouting", -100): "dstnat", ("postrouting", 100): "srcnat", ("forward", 0): "filter"}
"""Priorities that nft lists by name; in the output hook, -100 has none (nft(8), table "Standard priority names")."""


def write_transaction(transaction: Transaction) -> str:
    """The whole transaction, one command after the other; "" if there is nothing to do."""
    return "".join(_operation(transaction, operation) for operation in transaction.operations)


def _operation(tx: Transaction, operation: Operation) -> str:
    whose = f"{tx.family} {tx.name}"
    match operation:
        case Delete(map=name, keys=keys):
            return _elements("delete", tx, name, (_key(key) for key in keys))
        case Add(map=name, elements=elements):
            return _elements("add", tx, name, (_element(element) for element in elements))
        case Remember(map=name, memories=memories):
            return _elements("add", tx, name, (_memory(memory) for memory in memories))
        case AddMap(map=declared):
            lines = "".join(f"\t{line}\n" for line in map_lines(tx.family, declared))
            return f"add {_kind(declared)} {whose} {declared.name} {{\n{lines}}}\n"
        case DeleteMap(name=name):
            return f"delete set {whose} {name}\n"
        case AddChain(chain=chain):
            comment = f" {{ comment {_quoted(chain.comment)}; }}" if chain.comment else ""
            return f"add chain {whose} {chain.name}{comment}\n"
        case AddRules(chain=chain):
            rules = (write_rule(tx.family, rule) for rule in chain.rules)
            return "".join(f"add rule {whose} {chain.name} {rule}\n" for rule in rules)
        case FlushChain(name=name):
            return f"flush chain {whose} {name}\n"
        case DeleteChain(name=name):
            return f"delete chain {whose} {name}\n"
        case AddDevices(flowtable=name, devices=devices):
            return f"add flowtable {whose} {name} {_devices(devices)}\n"
        case DeleteDevices(flowtable=name, devices=devices):
            return f"delete flowtable {whose} {name} {_devices(devices)}\n"
        case Replace(table=table):
            # Made first, so that deleting it succeeds where there is none; all of it commits at once.
            return f"add table {whose}\ndelete table {whose}\n" + _table(table)
        case Remove(family=family, name=name):
            return f"delete table {family} {name}\n"


def _elements(verb: str, tx: Transaction, name: str, elements: Iterable[str]) -> str:
    return f"{verb} element {tx.family} {tx.name} {name} {{\n\t" + ",\n\t".join(elements) + "\n}\n"


def _table(table: Table) -> str:
    schema, own = table.schema, sorted(table.maps.items())
    blocks = [f"\tcomment {_quoted(schema_comment(schema))}\n"]
    if schema.flowtable:
        blocks.append(_block("flowtable", schema.flowtable, FLOWTABLE_LINES))
    for declared in (*schema.maps, *(declared for _, declared in own)):
        listed = [_element(element) for element in sorted(table.elements.get(declared.name, {}).values())]
        listed += [_memory(memory) for memory in table.memories.get(declared.name, ())]
        held = ("elements = { " + ",\n\t\t\t     ".join(listed) + " }",) if listed else ()
        blocks.append(_block(_kind(declared), declared.name, (*map_lines(schema.family, declared), *held)))
    for chain in (*schema.chains, *(chain for _, chain in sorted(table.chains.items()))):
        blocks.append(_block("chain", chain.name, chain_lines(schema.family, chain)))
    return f"table {schema.family} {schema.name} {{\n" + "\n".join(blocks) + "}\n"


def _kind(declared: Map) -> str:
    return "set" if declared.data is None else "map"


def _block(kind: str, name: str, lines: Iterable[str]) -> str:
    return f"\t{kind} {name} {{\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n"


@lru_cache(maxsize=4)  # a node has one of each family, which only another configuration exchanges
def schema_comment(schema: Schema) -> str:
    """The table's comment: whose it is, and a hash of maps, chains and rules, to tell versions apart.

    What services have added is not part of it, but the patterns of that are.
    """
    lines = [line for declared in (*schema.maps, *schema.own_maps) for line in map_lines(schema.family, declared)]
    for chain in schema.chains:
        lines += [chain.name, *chain_lines(schema.family, chain)]
    if schema.flowtable:
        lines += [schema.flowtable, *FLOWTABLE_LINES]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return f"written by nodeport-nft; schema {digest[:16]}"


def map_lines(family: str, declared: Map) -> Iterator[str]:
    """What stands between a map's braces, but for the elements, line by line, as nft lists it."""
    yield _declaration(family, declared)
    if declared.learned:
        # No size: the kernel makes it LEARNED_SIZE when a rule learns, and takes memory as the set fills. Given one,
        # it takes 2 MB a set at once (Linux 6.18: 1,500 sets in 7.3 s and 3 GB; without a size in 0.4 s and 13 MB).
        yield "flags dynamic,timeout"
    if declared.interval:
        yield "flags interval"
    if declared.counter:
        yield "counter"
    if declared.comment:
        yield f"comment {_quoted(declared.comment)}"


def _declaration(family: str, declared: Map) -> str:
    key = _fields(family, declared.key)
    if declared.data is None:
        return f"typeof {key}"
    data = declared.data if isinstance(declared.data, str) else _fields(family, declared.data)
    return f"typeof {key} : {data}"


def chain_lines(family: str, chain: Chain) -> Iterator[str]:
    """What stands between the braces of a chain, line by line, as nft lists it."""
    if chain.comment:
        yield f"comment {_quoted(chain.comment)}"
    if chain.hook is not None:
        hook = chain.hook
        priority = PRIORITIES.get((hook.name, hook.priority), str(hook.priority))
        yield f"type {hook.type} hook {hook.name} priority {priority}; policy accept;"
    yield from (write_rule(family, rule) for rule in chain.rules)


def write_rule(family: str, rule: Rule) -> str:
    """One rule of a table of ``family`` (``"ip"`` or ``"ip6"``)."""
    return " ".join(_statement(family, statement) for statement in rule)


def _statement(family: str, statement: Statement) -> str:
    match statement:
        case InSet(fields, name, negated):
            return f"{_fields(family, fields)} {'!= ' if negated else ''}@{name}"
        case NotIn(of, prefix):
            return f"{_field(family, of)} != {prefix.removesuffix('/128')}"
        case Local(of):
            return f"fib {of.value} type local"
        case Interface(name, negated):
            return f"iifname {'!= ' if negated else ''}{_quoted(name)}"
        case Translated():
            return "ct status dnat"
        case MarkHas(bits):
            return f"meta mark & 0x{bits:08x} == 0x{bits:08x}"
        case MarkSet(bits):
            return f"meta mark set meta mark | 0x{bits:08x}"
        case MarkFlip(bits):
            return f"meta mark set meta mark ^ 0x{bits:08x}"
        case Dispatch(fields, name):
            return f"{_fields(family, fields)} vmap @{name}"
        case DnatSlot(fields, slots, name, offset, hashed):
            draw = f"numgen random mod {slots}"
            if hashed:
                draw = f"jhash {_fields(family, hashed)} mod {slots} seed 0x{HASH_SEED:x}"
            draw += f" offset {offset}" if offset else ""
            return f"dnat {family} to {_fields(family, fields)} . {draw} map @{name}"
        case GotoChance(chain, share, of):
            return f"numgen random mod {of} < {share} goto {chain}"
        case Learn(name, seconds):
            return f"update @{name} {{ {_field(family, Field.SADDR)} timeout {write_time(seconds * 1000)} }}"
        case Dnat(protocol, address, port):
            where = f"[{address}]" if ":" in address else address
            return f"meta l4proto {protocol} dnat to {where}:{port}"
        case Established():
            return "ct state established"
        case Offload(name):
            return f"flow add @{name}"
        case Jump(chain):
            return f"jump {chain}"
        case Goto(chain):
            return f"goto {chain}"
        case Drop():
            return "drop"
        case Reject(tcp_reset):
            return "meta l4proto tcp reject with tcp reset" if tcp_reset else "reject"
        case Masquerade():
            return "masquerade fully-random"


def _devices(devices: Iterable[str]) -> str:
    named = ", ".join(_quoted(device) for device in devices)
    return f"{{ {FLOWTABLE_LINES[0]}; devices = {{ {named} }}; }}"


def _fields(family: str, fields: Iterable[Field]) -> str:
    return " . ".join([_field(family, field) for field in fields])


def _field(family: str, field: Field) -> str:
    return f"{family} {field.value}" if field in (Field.SADDR, Field.DADDR) else field.value


def _element(element: Element) -> str:
    text = _key(element.key)
    if element.comment:
        text += f" comment {_quoted(element.comment)}"
    return text if element.value is None else f"{text} : {_value(element.value)}"


def _key(key: Key) -> str:
    return " . ".join(map(str, key))


def _value(value: Value) -> str:
    match value:
        case Goto(chain):
            return f"goto {chain}"
        case (address, port):
            return f"{address} . {port}"
        case None:
            return ""


def _memory(memory: Memory) -> str:
    return f"{_key(memory.key)} timeout {write_time(memory.timeout)} expires {write_time(memory.expires)}"


UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))


def write_time(milliseconds: int) -> str:
    """A time as nft lists it: ``3h``, ``1m30s``, ``2h59m58s132ms``."""
    text = ""
    for unit, size in UNITS:
        count, milliseconds = divmod(milliseconds, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _quoted(text: str) -> str:
    if '"' in text or "\n" in text:
        raise ValueError(f"a comment that nft cannot hold: {text!r}")
    return f'"{text}"'
