"""Values → nft's text, spelled as nft 1.0.6 and later list it.

Everything that enters the text is an address, a number, a name from a fixed vocabulary or a comment made of DNS
labels, all checked where they were made; ``_quoted`` refuses the one character that could end a comment early.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from nodeport_nft.plan import Add, Delete, Remove, Replace, Transaction
from nodeport_nft.ruleset import (
    Chain,
    Dispatch,
    DnatSlot,
    Drop,
    Element,
    Elements,
    Field,
    Goto,
    InSet,
    Interface,
    Jump,
    Key,
    Local,
    Map,
    MarkFlip,
    MarkHas,
    MarkSet,
    Masquerade,
    NotIn,
    Reject,
    Rule,
    Schema,
    Statement,
    Translated,
    Value,
)

PRIORITIES = {("prerouting", -100): "dstnat", ("postrouting", 100): "srcnat"}
"""Priorities that nft lists by name; in the output hook, -100 has none (nft(8), table "Standard priority names")."""


def write_transaction(transaction: Transaction) -> str:
    """The whole transaction, one command after the other; "" if there is nothing to do."""
    return "".join(_operation(transaction, operation) for operation in transaction.operations)


def _operation(tx: Transaction, operation: Delete | Add | Replace | Remove) -> str:
    match operation:
        case Delete(map=name, keys=keys):
            return _elements("delete", tx, name, (_key(key) for key in keys))
        case Add(map=name, elements=elements):
            return _elements("add", tx, name, (_element(element) for element in elements))
        case Replace(table=table):
            # Made first, so that deleting it succeeds where there is none; all of it commits at once.
            name = f"{tx.family} {tx.name}"
            return f"add table {name}\ndelete table {name}\n" + _table(table.schema, table.elements)
        case Remove(family=family, name=name):
            return f"delete table {family} {name}\n"


def _elements(verb: str, tx: Transaction, name: str, elements: Iterable[str]) -> str:
    return f"{verb} element {tx.family} {tx.name} {name} {{\n\t" + ",\n\t".join(elements) + "\n}\n"


def _table(schema: Schema, elements: Elements) -> str:
    blocks = [f"\tcomment {_quoted(schema_comment(schema))}\n"]
    for declared, (name, lines) in zip(schema.maps, map_lines(schema), strict=True):
        listed = [_element(element) for element in sorted(elements.get(name, {}).values())]
        held = ("elements = { " + ",\n\t\t\t     ".join(listed) + " }",) if listed else ()
        blocks.append(_block("set" if declared.data is None else "map", name, (*lines, *held)))
    blocks += [_block("chain", chain.name, chain_lines(schema.family, chain)) for chain in schema.chains]
    return f"table {schema.family} {schema.name} {{\n" + "\n".join(blocks) + "}\n"


def _block(kind: str, name: str, lines: Iterable[str]) -> str:
    return f"\t{kind} {name} {{\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n"


def schema_comment(schema: Schema) -> str:
    """The table's comment: whose it is, and a hash of maps, chains and rules, to tell versions apart."""
    lines = [*(line for _, body in map_lines(schema) for line in body)]
    for chain in schema.chains:
        lines += [chain.name, *chain_lines(schema.family, chain)]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return f"written by nodeport-nft; schema {digest[:16]}"


def map_lines(schema: Schema) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each map's name and what stands between its braces, but for the elements, line by line, as nft lists it."""
    for declared in schema.maps:
        lines = [_declaration(schema.family, declared)]
        if declared.interval:
            lines.append("flags interval")
        if declared.counter:
            lines.append("counter")
        if declared.comment:
            lines.append(f"comment {_quoted(declared.comment)}")
        yield declared.name, tuple(lines)


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
        yield f"type nat hook {hook.name} priority {priority}; policy accept;"
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
        case DnatSlot(fields, slots, name, offset):
            draw = f"numgen random mod {slots}" + (f" offset {offset}" if offset else "")
            return f"dnat {family} to {_fields(family, fields)} . {draw} map @{name}"
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


def _quoted(text: str) -> str:
    if '"' in text or "\n" in text:
        raise ValueError(f"a comment that nft cannot hold: {text!r}")
    return f'"{text}"'
