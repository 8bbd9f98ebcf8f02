"""Transactions → one batch of messages: elements packed here, all else compiled by libnftables, portion by portion.

libnftables hands over what a command makes as one message, which has to fit into a socket; and it keeps the memory of
its largest command. So it is given no more than ``_PORTION`` characters at a time, and shown with each portion what
those before it have made (see ``answers``). Elements, the bulk of every table, never pass through it.

The order of a batch is: elements that go, everything that has rules in it, elements that come. ``plan`` has them in
that order within a family's table, and the families have nothing in common.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from nodeport_nft.kernel.libnftables.answers import View
from nodeport_nft.kernel.libnftables.library import Done, Library
from nodeport_nft.kernel.netlink.batch import FAMILIES, Message
from nodeport_nft.kernel.netlink.elements import element_messages
from nodeport_nft.kernel.netlink.layouts import NFNL_SUBSYS_NFTABLES
from nodeport_nft.kernel.netlink.messages import attribute, find
from nodeport_nft.plan import Add, AddChain, AddMap, AddRules, Operation, Remember, Remove, Replace, Transaction
from nodeport_nft.render import write_transaction
from nodeport_nft.ruleset import Table

_PORTION = 1 << 15
"""Characters of a command: what libnftables makes of them is about four times as much."""

_ELEMENTS = 500
"""Elements of a set of intervals in one command."""

_DELTABLE = NFNL_SUBSYS_NFTABLES << 8 | 2
# NFT_MSG_NEWTABLE, NEWCHAIN, NEWSET, and the attribute that names what is made.
_SHOWN = {NFNL_SUBSYS_NFTABLES << 8 | kind: named for kind, named in ((0, 0), (3, 3), (9, 2))}
_WORD = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)


class Refused(Exception):
    """libnftables does not take a command; ``done`` says why."""

    def __init__(self, done: Done) -> None:
        super().__init__(done.error)
        self.done = done


def compile_messages(transactions: Iterable[Transaction], library: Library) -> list[Message]:
    """What carries out all of them as one. Raises Refused, and what ``Library.run`` raises."""
    going: list[Message] = []
    coming: list[Message] = []
    texts: list[str] = []
    seen: set[str] = set()
    for transaction in transactions:
        replaced = any(isinstance(operation, Replace) for operation in transaction.operations)
        if not replaced:
            seen.add(transaction.family)
        for operation in _expanded(transaction.operations):
            packed = element_messages(transaction, operation)
            if packed is None and isinstance(operation, Remove):
                naming = attribute(1, operation.name.encode() + b"\0")
                packed = [Message(_DELTABLE, 0, FAMILIES[operation.family], naming)]
            if packed is None:
                texts.append(write_transaction(Transaction(transaction.family, transaction.name, (operation,))))
            else:
                (coming if isinstance(operation, Add | Remember) else going).extend(packed)
    return [*going, *_compiled(texts, seen, library), *coming]


def _compiled(texts: Iterable[str], seen: Collection[str], library: Library) -> list[Message]:
    messages: list[Message] = []
    made: dict[str, dict[tuple[int, int], Message]] = {}
    for portion in _portions(texts):
        names = set(_WORD.findall(portion))
        shown = [each for name in ("", *sorted(names)) for each in made.get(name, {}).values()]
        done = library.run(portion, View.ours(seen, names), shown)
        if done.code != 0:
            raise Refused(done)
        messages += done.messages
        for each in done.messages:
            if each.kind in _SHOWN:
                made.setdefault(_name(each), {})[each.kind, each.family] = each
    return messages


def _portions(texts: Iterable[str]) -> Iterator[str]:
    waiting = ""
    for text in texts:
        if waiting and len(waiting) + len(text) > _PORTION:
            yield waiting
            waiting = ""
        waiting += text
    if waiting:
        yield waiting


def _name(made: Message) -> str:
    """The name of this chain or set of ours; "" for a table, which all commands need."""
    which = _SHOWN[made.kind]
    name = made.attributes[slice(*find(made.attributes, 0, len(made.attributes), which))] if which else b""
    return name.rstrip(b"\0").decode()


def _expanded(operations: Iterable[Operation]) -> Iterator[Operation]:
    """The same with a table that is put in place taken apart, and no element list longer than a command may be."""
    for operation in operations:
        if isinstance(operation, Replace):
            yield from _apart(operation.table)
        elif isinstance(operation, Add):
            # Elements that are packed here are packed as a whole; portions of them are as good.
            for start in range(0, len(operation.elements), _ELEMENTS):
                yield Add(operation.map, operation.elements[start : start + _ELEMENTS])
        else:
            yield operation


def _apart(table: Table) -> Iterator[Operation]:
    yield Replace(Table(table.schema))
    maps, chains = sorted(table.maps.items()), sorted(table.chains.items())
    yield from (AddMap(declared) for _, declared in maps)
    yield from (AddChain(chain) for _, chain in chains)
    yield from (AddRules(chain) for _, chain in chains)
    yield from (Remember(name, held) for name, held in sorted(table.memories.items()) if held)
    adding = (Add(name, tuple(sorted(held.values()))) for name, held in sorted(table.elements.items()) if held)
    yield from _expanded(adding)
