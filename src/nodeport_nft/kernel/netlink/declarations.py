"""Tables, chains, rules, sets and flowtables as messages: all of a transaction but its elements.

What is sent is what libnftables 1.0.6 makes of the text that ``render`` writes. That includes what is for nft alone,
the user data: a table's, chain's and set's comment, and how the keys and values of a set are spelled
(``typeof ip daddr . th dport``), which the kernel keeps as it is and nft lists. nft reads what older versions of it
have written.

Messages name chains and sets. Numbers (NFTA_SET_ID) are for sets without a name; but the kernel wants one.

Source: linux/netfilter/nf_tables.h; libnftnl include/libnftnl/udata.h; nftables 1.0.6 src/mnl.c, and for the user
data src/expression.c, payload.c, meta.c, numgen.c (``*_build_udata``), include/datatype.h, include/proto.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from nodeport_nft.compile import COMMENT_LIMIT
from nodeport_nft.kernel.netlink import flowtables
from nodeport_nft.kernel.netlink.batch import FAMILIES, Message
from nodeport_nft.kernel.netlink.expressions import pack
from nodeport_nft.kernel.netlink.layouts import NFNL_SUBSYS_NFTABLES
from nodeport_nft.kernel.netlink.messages import APPEND, CREATE, NESTED, attribute
from nodeport_nft.kernel.netlink.rules import ADDRESS_SIZES, META_L4PROTO, assemble
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
from nodeport_nft.render import schema_comment
from nodeport_nft.ruleset import Chain, Field, Map, Schema, Table

NEWTABLE, DELTABLE, NEWCHAIN, DELCHAIN, NEWRULE, DELRULE, NEWSET, DELSET = (
    NFNL_SUBSYS_NFTABLES << 8 | kind for kind in (0, 2, 3, 5, 6, 8, 9, 11)
)
TABLE_NAME = 1  # in messages about tables, chains, rules and sets alike
TABLE_FLAGS, TABLE_USERDATA = 2, 6
CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY, CHAIN_TYPE, CHAIN_USERDATA = 3, 4, 5, 7, 12
HOOK_NUMBER, HOOK_PRIORITY = 1, 2
RULE_CHAIN, RULE_EXPRESSIONS = 2, 4
SET_NAME, SET_FLAGS, SET_KEY_TYPE, SET_KEY_LENGTH, SET_DATA_TYPE, SET_DATA_LENGTH = 2, 3, 4, 5, 6, 7
SET_NUMBER, SET_USERDATA, SET_EXPRESSION = 10, 13, 17
SET_INTERVAL, SET_MAP, SET_TIMEOUT, SET_EVAL = 0x4, 0x8, 0x10, 0x20  # NFT_SET_*

HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
"""By the kernel's numbers (linux/netfilter.h, NF_INET_*)."""

_ACCEPT = 1  # NF_ACCEPT
_VERDICT_TYPE = 0xFFFFFF00  # NFT_DATA_VERDICT

# Of nft's enum datatypes: what the key and the value of a set are, for nft alone.
_IPADDR, _IP6ADDR = 7, 8
_TYPES = {Field.L4PROTO: 12, Field.SPORT: 13, Field.DPORT: 13, Field.SLOT: 4}
_TYPE_BITS = 6  # of each type in the type of several fields (TYPE_BITS)
_REGISTER = 4

# User data: attributes with a type and a length of a byte each (NFTNL_UDATA_*); numbers are in this machine's order.
TABLE_COMMENT = CHAIN_COMMENT = 0
KEY_ORDER, DATA_ORDER, KEY_TYPEOF, DATA_TYPEOF, DATA_INTERVAL, SET_COMMENT = 0, 1, 3, 4, 6, 7
_TYPEOF_EXPRESSION, _TYPEOF_DETAILS = 0, 1
_BIG_ENDIAN = 2  # enum byteorder of nft; 0 for what has several fields
# enum expr_types of nft, enum proto_desc_id, and the numbers of fields in these headers (ip and ip6: 12 and 13).
_VERDICT, _PAYLOAD, _META, _CONCAT, _NUMGEN = 1, 7, 9, 13, 23
_TH = 11
_PORTS = {Field.SPORT: 1, Field.DPORT: 2}
_ADDRESSES = {
    ("ip", Field.SADDR): (12, 11),
    ("ip", Field.DADDR): (12, 12),
    ("ip6", Field.SADDR): (13, 8),
    ("ip6", Field.DADDR): (13, 9),
}
_RANDOM, _SLOTS = 1, 65536  # ``numgen random mod 65536``

_COUNTER = attribute(1, b"counter\0") + attribute(2 | NESTED, b"")  # NFTA_EXPR_NAME, NFTA_EXPR_DATA


def declaration_messages(transaction: Transaction, operation: Operation) -> list[Message] | None:
    """The messages that carry out this operation of the transaction; None if it is about elements alone.

    Of a table that is put in place, the table with all its maps, chains and rules, but none of its elements.
    """
    family, table = transaction.family, transaction.name
    match operation:
        case Replace(table=made):
            return list(replacement(made))
        case Remove(family=family, name=table):
            return [_message(DELTABLE, family, table)]
        case AddMap(map=declared):
            return [new_set(family, table, declared)]
        case DeleteMap(name=name):
            return [_message(DELSET, family, table, _text(SET_NAME, name))]
        case AddChain(chain=chain):
            return [new_chain(family, table, chain)]
        case AddRules(chain=chain):
            return list(_new_rules(family, table, chain))
        case FlushChain(name=name):
            return [_message(DELRULE, family, table, _text(RULE_CHAIN, name))]
        case DeleteChain(name=name):
            return [_message(DELCHAIN, family, table, _text(CHAIN_NAME, name))]
        case AddDevices(flowtable=name, devices=devices):
            return [flowtables.new(family, table, name, devices)]
        case DeleteDevices(flowtable=name, devices=devices):
            return [flowtables.take_away(family, table, name, devices)]
    return None


def _message(kind: int, family: str, table: str, attributes: bytes = b"", *, flags: int = 0) -> Message:
    return Message(kind, flags, FAMILIES[family], _text(TABLE_NAME, table) + attributes)


def replacement(made: Table, *, hooked: bool = True) -> Iterator[Message]:
    """Put a table in place without its elements. ``hooked``: with its base chains; no packet sees it without."""
    schema = made.schema
    family, table = schema.family, schema.name
    flags = _number(TABLE_FLAGS, 0)
    # Made first, so that deleting it succeeds where there is none; all of it commits at once.
    yield _message(NEWTABLE, family, table, flags)
    yield _message(DELTABLE, family, table)
    comment = attribute(TABLE_USERDATA, _user_text(TABLE_COMMENT, schema_comment(schema)))
    yield _message(NEWTABLE, family, table, flags + comment)
    if schema.flowtable:
        yield flowtables.new(family, table, schema.flowtable)
    for declared in (*schema.maps, *made.maps.values()):
        yield new_set(family, table, declared)
    chains = (*schema.chains, *made.chains.values())
    yield from _new_chains(family, table, [chain for chain in chains if hooked or not chain.hook])


def base_chains(schema: Schema) -> Iterator[Message]:
    """Give a table the chains that ``replacement`` has left out."""
    yield from _new_chains(schema.family, schema.name, [chain for chain in schema.chains if chain.hook])


# --- chains and rules -------------------------------------------------------------------------------------


def _new_chains(family: str, table: str, chains: Sequence[Chain]) -> Iterator[Message]:
    yield from (new_chain(family, table, chain) for chain in chains)
    for chain in chains:  # which may lead to each other
        yield from _new_rules(family, table, chain)


def new_chain(family: str, table: str, chain: Chain) -> Message:
    parts = _text(CHAIN_NAME, chain.name)
    if chain.hook is not None:
        hook = _number(HOOK_NUMBER, HOOKS.index(chain.hook.name))
        hook += attribute(HOOK_PRIORITY, struct.pack(">i", chain.hook.priority))
        parts += attribute(CHAIN_HOOK | NESTED, hook)
        parts += _number(CHAIN_POLICY, _ACCEPT) + _text(CHAIN_TYPE, chain.hook.type)
    if chain.comment:
        parts += attribute(CHAIN_USERDATA, _user_text(CHAIN_COMMENT, chain.comment))
    return _message(NEWCHAIN, family, table, parts, flags=CREATE)


def _new_rules(family: str, table: str, chain: Chain) -> Iterator[Message]:
    naming = _text(RULE_CHAIN, chain.name)
    for rule in chain.rules:
        expressions = attribute(RULE_EXPRESSIONS | NESTED, pack(assemble(family, rule)))
        yield _message(NEWRULE, family, table, naming + expressions, flags=CREATE | APPEND)


# --- maps and sets ----------------------------------------------------------------------------------------


def new_set(family: str, table: str, declared: Map) -> Message:
    flags = _flags(declared)
    parts = _text(SET_NAME, declared.name) + _number(SET_FLAGS, flags)
    parts += _number(SET_KEY_TYPE, _type(family, declared.key))
    parts += _number(SET_KEY_LENGTH, _length(family, declared.key))
    if isinstance(declared.data, tuple):
        parts += _number(SET_DATA_TYPE, _type(family, declared.data))
        parts += _number(SET_DATA_LENGTH, _length(family, declared.data))
    elif declared.data:
        parts += _number(SET_DATA_TYPE, _VERDICT_TYPE) + _number(SET_DATA_LENGTH, 0)
    parts += _number(SET_NUMBER, 1) + attribute(SET_USERDATA, _set_user_data(family, declared))
    if declared.counter:
        parts += attribute(SET_EXPRESSION | NESTED, _COUNTER)
    return _message(NEWSET, family, table, parts, flags=CREATE)


def _flags(declared: Map) -> int:
    flags = SET_INTERVAL if declared.interval else 0
    flags |= SET_TIMEOUT | SET_EVAL if declared.learned else 0
    return flags | (SET_MAP if declared.data is not None else 0)


def _type(family: str, fields: Iterable[Field]) -> int:
    """nft's number of what these fields are; the kernel keeps it and does not look at it."""
    address = _IPADDR if family == "ip" else _IP6ADDR
    number = 0
    for field in fields:
        number = number << _TYPE_BITS | _TYPES.get(field, address)
    return number


def _length(family: str, fields: tuple[Field, ...]) -> int:
    """Bytes of a key or value: its fields, each padded to whole registers where there are several."""
    sizes = {Field.L4PROTO: 1, Field.SPORT: 2, Field.DPORT: 2, Field.SLOT: 4}
    lengths = [sizes.get(field, ADDRESS_SIZES[family]) for field in fields]
    return lengths[0] if len(lengths) == 1 else sum(-(-length // _REGISTER) * _REGISTER for length in lengths)


def _set_user_data(family: str, declared: Map) -> bytes:
    """What lets nft list a set as it was declared: in what order bytes are, ``typeof``, the comment."""
    data = _user_number(KEY_ORDER, _order(declared.key))
    if declared.data is not None:
        fields = declared.data if isinstance(declared.data, tuple) else ()
        data += _user_number(DATA_ORDER, _order(fields))
        data += _user(KEY_TYPEOF, _typeof(family, declared.key))
        data += _user(DATA_TYPEOF, _typeof(family, fields) if fields else _typeof_expression(_VERDICT))
        data += _user_number(DATA_INTERVAL, 0)
    else:
        data += _user(KEY_TYPEOF, _typeof(family, declared.key))
    return data + (_user_text(SET_COMMENT, declared.comment) if declared.comment else b"")


def _order(fields: tuple[Field, ...]) -> int:
    return _BIG_ENDIAN if len(fields) == 1 else 0


def _typeof(family: str, fields: tuple[Field, ...]) -> bytes:
    parts = [_typeof_field(family, field) for field in fields]
    if len(parts) == 1:
        return parts[0]
    return _typeof_expression(_CONCAT, *(_user(number, part) for number, part in enumerate(parts)))


def _typeof_field(family: str, field: Field) -> bytes:
    if field is Field.L4PROTO:
        return _typeof_expression(_META, _user_number(0, META_L4PROTO))
    if field is Field.SLOT:
        drawn = (_RANDOM, _SLOTS, 0)  # kind of generator, modulus, offset
        return _typeof_expression(_NUMGEN, *(_user_number(number, value) for number, value in enumerate(drawn)))
    header, part = (_TH, _PORTS[field]) if field in _PORTS else _ADDRESSES[family, field]
    return _typeof_expression(_PAYLOAD, _user_number(0, header), _user_number(1, part))


def _typeof_expression(kind: int, *details: bytes) -> bytes:
    return _user_number(_TYPEOF_EXPRESSION, kind) + _user(_TYPEOF_DETAILS, b"".join(details))


# --- attributes -------------------------------------------------------------------------------------------


def _text(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _number(kind: int, number: int) -> bytes:
    return attribute(kind, struct.pack(">I", number))


def _user(kind: int, data: bytes) -> bytes:
    return bytes((kind, len(data))) + data


def _user_number(kind: int, number: int) -> bytes:
    return _user(kind, struct.pack("=I", number))


def _user_text(kind: int, text: str) -> bytes:
    """A comment. Raises ValueError over what nft's language could not hold, and a listing not show."""
    data = text.encode()
    if len(data) > COMMENT_LIMIT or any(byte in data for byte in b'"\n\0'):
        raise ValueError(f"a comment that nft cannot hold: {text!r}")
    return _user(kind, data + b"\0")
