"""Transactions as batches of messages: elements by ``elements``, all else by ``declarations``.

The messages stand in the order of the operations, which is one that the kernel can carry out.
"""

from __future__ import annotations

from collections.abc import Iterable

from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink.batch import Message, join
from nodeport_nft.kernel.netlink.declarations import declaration_messages
from nodeport_nft.kernel.netlink.elements import element_messages
from nodeport_nft.plan import Add, Delete, Operation, Remember, Replace, Transaction


def encode(transactions: Iterable[Transaction], *, dry: bool = False) -> bytes | bytearray:
    """One batch of all of them, in their order; nothing where there is nothing to do.

    ``dry``: one that the kernel looks at and drops. Raises KernelError over what cannot be in a table.
    """
    messages = [
        message
        for transaction in transactions
        for operation in transaction.operations
        for message in _messages(transaction, operation)
    ]
    return join(messages, dry=dry) if messages else b""


def _messages(transaction: Transaction, operation: Operation) -> Iterable[Message]:
    try:
        declared = declaration_messages(transaction, operation)
    except (KeyError, ValueError, OSError) as error:
        raise _unwritable(transaction, str(error)) from error
    if declared is not None:
        yield from declared
    for portion in _elements(operation):
        written = element_messages(transaction, portion)
        if written is None:
            raise _unwritable(transaction, f"elements of {portion.map}, which its maps cannot have")
        yield from written


def _elements(operation: Operation) -> Iterable[Add | Delete | Remember]:
    """What of an operation is about elements."""
    if not isinstance(operation, Replace):
        return (operation,) if isinstance(operation, Add | Delete | Remember) else ()
    table = operation.table
    return (
        *(Remember(name, kept) for name, kept in sorted(table.memories.items()) if kept),
        *(Add(name, tuple(held.values())) for name, held in sorted(table.elements.items()) if held),
    )


def _unwritable(transaction: Transaction, what: str) -> KernelError:
    whose = f"{transaction.family} {transaction.name}"
    return KernelError(f"nftables was not given the transaction; nothing was changed:\n{whose}: {what}")
