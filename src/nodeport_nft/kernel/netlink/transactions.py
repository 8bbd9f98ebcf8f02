"""Transactions as batches of messages: elements by ``elements``, all else by ``declarations``.

The messages stand in the order of the operations, which is one that the kernel can carry out.

What a batch takes is in memory several times: here, in the socket, and in the kernel until all of it is committed. So
where no packet sees a table yet, it is put in place in many batches (``portions``). It is the base chains that send
packets into a table. They come last, and then all is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink.batch import Message, join
from nodeport_nft.kernel.netlink.declarations import base_chains, declaration_messages, replacement
from nodeport_nft.kernel.netlink.elements import UNFIT, element_messages, new_elements
from nodeport_nft.plan import Add, Delete, Operation, Remember, Replace, Transaction
from nodeport_nft.ruleset import Table

_PORTION = 1 << 17
"""Bytes of a batch among many: with one more message, what a socket takes without being told to take more."""


def encode(transactions: Iterable[Transaction], *, dry: bool = False) -> bytearray | None:
    """One batch of all of them, in their order; None where there is nothing to do.

    ``dry``: one that the kernel looks at and drops. Raises KernelError over what cannot be in a table.
    """
    messages = (
        message
        for transaction in transactions
        for operation in transaction.operations
        for message in _messages(transaction, operation)
    )
    first = next(messages, None)
    return join(chain((first,), messages), dry=dry) if first else None


def portions(tables: Iterable[Table]) -> Iterator[bytearray]:
    """Batches that put tables in place which no packet sees before the last of these, made as they are taken.

    Raises KernelError over what cannot be in a table.
    """
    tables = tuple(tables)
    waiting: list[Message] = []
    size = 0
    for table in tables:
        for message in _whole(table, hooked=False):
            waiting.append(message)
            size += len(message.attributes)
            if size >= _PORTION:
                yield join(waiting)
                waiting, size = [], 0
    if waiting:
        yield join(waiting)
    yield join(message for table in tables for message in base_chains(table.schema))


def _messages(transaction: Transaction, operation: Operation) -> Iterable[Message]:
    if isinstance(operation, Replace):
        return _whole(operation.table)
    whose = transaction.family, transaction.name
    if isinstance(operation, Add | Delete | Remember):
        written = element_messages(transaction, operation)
        if written is None:
            raise _unwritable(*whose, f"elements of {operation.map}, which its maps cannot have")
        return written
    try:
        return declaration_messages(transaction, operation) or ()
    except (KeyError, ValueError, OSError) as error:
        raise _unwritable(*whose, str(error)) from error


def _whole(table: Table, *, hooked: bool = True) -> Iterator[Message]:
    """What puts a table in place; but for its base chains, unless it is to be ``hooked``."""
    family, name = table.schema.family, table.schema.name
    try:
        yield from replacement(table, hooked=hooked)
        for learned, memories in sorted(table.memories.items()):
            if memories:
                yield from _messages(Transaction(family, name), Remember(learned, memories))
        for filled, elements in sorted(table.elements.items()):
            if elements:
                yield from new_elements(family, filled, elements)
    except UNFIT as error:
        raise _unwritable(family, name, str(error)) from error


def _unwritable(family: str, table: str, what: str) -> KernelError:
    return KernelError(f"nftables was not given the transaction; nothing was changed:\n{family} {table}: {what}")
