"""nftables: transactions written, tables read.

What is written is packed here and goes over netlink as one batch, which the kernel commits as a whole or not at all
(``netlink.transactions``, ``netlink.batch``); our own tables are read over netlink, too (``netlink.tables``). Others'
chains are put into nft's words by libnftables, which never meets the kernel (``libnftables``). The sockets belong to
the network namespace in which they were made.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress

from msgspec.structs import replace

from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.libnftables.answers import (
    View,
    ask,
    generation,
    has_table,
    is_anonymous,
    is_dormant,
)
from nodeport_nft.kernel.libnftables.library import Library, LibraryError
from nodeport_nft.kernel.netlink import flowtables
from nodeport_nft.kernel.netlink.ahead import ReadAhead, is_worth_it
from nodeport_nft.kernel.netlink.batch import BatchWriter, Message, join
from nodeport_nft.kernel.netlink.dumps import Interrupted, open_netlink
from nodeport_nft.kernel.netlink.messages import may_administer
from nodeport_nft.kernel.netlink.others import Allowance, TooMuch, hooked_tables, sets_of_rules, weigh_set
from nodeport_nft.kernel.netlink.tables import read_table
from nodeport_nft.kernel.netlink.transactions import encode, portions
from nodeport_nft.plan import ListedTable, Remove, Replace, Transaction
from nodeport_nft.ruleset import Schema, Table

_ERROR_LIMIT = 2000
"""Characters of libnftables' words that an error repeats: it echoes whole commands, which can be megabytes."""

_MOST_RULES, _MOST_WITHIN, _MOST_ELEMENTS = 1 << 23, 1 << 21, 1 << 20
"""Bytes of messages that others' rules, the elements within these, and a set of theirs may take to be listed.

Some ten thousand rules, a hundred thousand addresses within them, half as many in a set: libnftables is never shown
more, so that neither its memory nor its time grow with what others have.
"""

_SECONDS = 30.0
"""How long libnftables may take over what is others': there is little of it."""

_MANY = 4096
"""Elements from which on it pays to write them in many commits."""


class BeyondUs(KernelError):
    """What others have cannot be listed, and will not be the next time either, as long as it is as it is."""


class Nft:
    """nftables in the caller's network namespace. ``commits`` of ours there were so far."""

    def __init__(self) -> None:
        """Raises KernelError if the capability or netlink is missing."""
        if not may_administer():
            raise KernelError("nftables needs CAP_NET_ADMIN; run as root, or give the program that capability")
        self.commits = 0
        self._writer = BatchWriter()
        self._library = Library()
        try:
            self._reader = open_netlink()
        except OSError as error:
            raise KernelError(f"nftables cannot be reached: {error.strerror}") from error
        weakref.finalize(self, self._reader.close)

    def apply(self, transactions: Iterable[Transaction]) -> int:
        """Commit all of them as one, or raise KernelError and leave everything as it was (K1).

        The late ones among them are committed after that, as one. Much that no packet sees yet goes in many commits
        (``_load``). Returns how many commits it was.
        """
        transactions = tuple(transactions)
        before = self.commits
        for late in (False, True):
            due = [transaction for transaction in transactions if transaction.late is late]
            if tables := self._loadable(due):
                self._load(tables)
            elif batch := encode(due):
                self._commit(batch)
        return self.commits - before

    def _commit(self, batch: bytes | bytearray) -> None:
        self._writer.commit(batch)
        self.commits += 1

    def _loadable(self, transactions: Collection[Transaction]) -> list[Table]:
        """The tables of which these transactions consist, where they are large and packets meet none of that name."""
        operations = [operation for transaction in transactions for operation in transaction.operations]
        tables = [operation.table for operation in operations if isinstance(operation, Replace)]
        if len(tables) < len(operations) or sum(transaction.size for transaction in transactions) < _MANY:
            return []
        names = {(table.schema.family, table.schema.name) for table in tables}
        if any(self.has_table(*name) for name in names):
            try:
                hooked = hooked_tables(self._reader)
            except OSError as error:
                raise KernelError(f"the chains of nftables cannot be read: {error.strerror}") from error
            if hooked is None or hooked & names:  # in doubt, too: nobody may be let through untranslated meanwhile
                return []
        return tables

    def _load(self, tables: Collection[Table]) -> None:
        """Put tables in place in many commits, of which the last makes packets see them.

        While the kernel carries one out, the next is packed. Where one is refused, nothing stays of those before it.
        Who is killed in between leaves tables without base chains. They are unequal to their schema, so that the next
        who reads them puts them in place anew.
        """
        from concurrent.futures import Future, ThreadPoolExecutor  # half of what this module takes to be read in

        done = False
        try:
            with ThreadPoolExecutor(max_workers=1, thread_name_prefix="load") as kernel:
                running: Future[None] | None = None
                for batch in portions(tables):
                    if running:
                        running.result()
                    running = kernel.submit(self._commit, batch)
                if running:
                    running.result()
            done = True
        finally:
            if not done:
                self._unload(tables)

    def _unload(self, tables: Collection[Table]) -> None:
        """Delete what a load has left; where that fails, whoever reads it next finds it unequal, as after a crash."""
        names = {(table.schema.family, table.schema.name) for table in tables}
        with suppress(KernelError):
            there = sorted(name for name in names if self.has_table(*name))
            if batch := encode(Transaction(*name, (Remove(*name),)) for name in there):
                self._commit(batch)

    def remove_others(self, messages: Iterable[Message]) -> None:
        """Delete what is not ours: all that these messages delete or, with a KernelError, nothing."""
        self._commit(join(messages))

    def check(self, transactions: Iterable[Transaction]) -> None:
        """Ask the kernel whether it would take all of them as one; raises KernelError if not. Nothing is changed."""
        if batch := encode((tx for tx in transactions if not tx.late), dry=True):
            self._writer.commit(batch)

    def rest(self) -> None:
        """Give back what is kept for the next command, if there was none since the last call."""
        self._library.rest()

    def close(self) -> None:
        """Give it back now; another command is possible all the same."""
        self._library.close()

    def list_table(self, schema: Schema) -> ListedTable | None:
        """What the kernel holds of this table; None if there is no such table. Raises KernelError."""
        return read_table(self._reader, schema)

    def read_ahead(self, schemas: Sequence[Schema]) -> ReadAhead | None:
        """These tables as they are read in another process, to be closed; None where that does not pay, or fails."""
        try:
            return ReadAhead(self._reader, schemas) if is_worth_it(self._reader) else None
        except (OSError, Interrupted):
            return None

    def has_table(self, family: str, name: str) -> bool:
        """Whether the kernel has a table of this name. Raises KernelError."""
        return has_table(self._library.netlink, family, name)

    def is_dormant(self, family: str, name: str) -> bool:
        """Whether a table is switched off, of which listings of its chains say nothing; not if it is gone."""
        return is_dormant(self._library.netlink, family, name)

    def devices(self, family: str, table: str, flowtable: str) -> frozenset[str]:
        """The devices of a flowtable. Raises KernelError, also where it is not there."""
        try:
            answers = ask(self._library.netlink, flowtables.question(family, table, flowtable))
        except OSError as error:
            whose = f"flowtable {flowtable} of table {family} {table}"
            raise KernelError(f"{whose} cannot be read: {error.strerror}") from error
        return frozenset().union(*(flowtables.devices(data) for _, data in answers))

    def list_chain(self, family: str, table: str, chain: str) -> str:
        """nft's listing of one chain with its rules. Raises KernelError: BeyondUs where it can never be listed.

        Others than nft may have given it a name that is none in nft's language, such as iptables a chain ``reject``;
        then it is all that nft gets to see, and need not be named. Sets are listed as well then.
        """
        command = f"list chain {family} {table} {chain}"
        for last in (False, False, True):
            before = generation(self._library.netlink)
            try:
                sets = _weigh_rules(family, table, chain)
                return self._list_chain(command, replace(View.table(family, table), sets=sets), table, chain)
            except LibraryError as error:
                # A rule may have come meanwhile with a set that was not shown.
                if last or generation(self._library.netlink) == before:
                    raise BeyondUs(
                        f"{command}: {error}; table {family} {table} holds what this version of libnftables cannot "
                        "read: upgrade libnftables, or have its owner write it with an older nft"
                    ) from error
        raise AssertionError

    def _list_chain(self, command: str, view: View, table: str, chain: str) -> str:
        if _NAME.fullmatch(table) and _NAME.fullmatch(chain):
            try:
                return self._list(command, view, seconds=_SECONDS)
            except LibraryError as error:
                if "syntax error" not in str(error):
                    raise
        text = self._list("list ruleset", replace(view, chain=chain), seconds=_SECONDS)
        if "\n\tchain " not in text:
            raise KernelError(f"{command}: there is no such chain")
        return text

    def list_set(self, family: str, table: str, name: str) -> str:
        """nft's listing of one set or map with its elements. Raises KernelError, also where these are very many."""
        if not all(map(_NAME.fullmatch, (table, name))):
            raise BeyondUs(f"'{family} {table} {name}' is not a name in nft's language")
        try:
            weigh_set(family, table, name, Allowance(_MOST_ELEMENTS))
        except TooMuch:
            raise BeyondUs(f"set {name} of table {family} {table} is too large to be looked through") from None
        view = replace(View.table(family, table), names=frozenset({name}))
        try:
            return self._list(f"list set {family} {table} {name}", view, seconds=_SECONDS)
        except LibraryError:
            return self._list(f"list map {family} {table} {name}", view, seconds=_SECONDS)

    def _list(self, command: str, view: View, seconds: float | None = None) -> str:
        """A listing. Raises LibraryError also where libnftables says that it cannot read what it is told."""
        done = self._library.run(command, view, seconds=seconds)
        if done.code != 0 or "Error: " in done.error:  # 1.0.6 leaves out a set it does not know, and yet gives 0
            raise LibraryError(f"libnftables says: {_first(done.error)}")
        return done.output


def _weigh_rules(family: str, table: str, chain: str) -> frozenset[str]:
    """The sets that a chain's rules look into, where all that is listed with them is small enough."""
    within = Allowance(_MOST_WITHIN)
    try:
        sets = sets_of_rules(family, table, chain, Allowance(_MOST_RULES))
        for name in sets:
            if is_anonymous(name):
                weigh_set(family, table, name, within)
    except TooMuch:
        raise BeyondUs(f"chain {chain} of table {family} {table} is too large to be looked through") from None
    except OSError as error:
        raise KernelError(f"chain {chain} of table {family} {table} cannot be listed: {error.strerror}") from error
    return sets


_NAME = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)
"""What can be put into a command, where it is not a word of nft's own."""

_SECOND_ERROR = re.compile(r"(?<=\n)Error: ")


def _first(error: str) -> str:
    """libnftables' words about the first thing that was wrong."""
    words = _SECOND_ERROR.split(error.strip(), maxsplit=1)[0]
    # A comment or a key may be echoed: keep the terminal safe from control characters.
    return re.sub(r"[^\x20-\x7e\n\t]", "?", words)[:_ERROR_LIMIT].rstrip()


_OLDEST = 5, 13
"""The Linux that kube-proxy's nftables mode asks for too (KEP-3866)."""


def too_old(kernel_release: str) -> tuple[str, ...]:
    """What is older than this program can work with, with its remedy."""
    if _numbers(kernel_release) >= _OLDEST:
        return ()
    oldest = ".".join(map(str, _OLDEST))
    return (f"Linux {kernel_release} is older than {oldest}, which our tables need; upgrade it",)


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"[0-9]{1,9}(?:\.[0-9]{1,9})*", version)
    return tuple(map(int, match[0].split("."))) if match else ()
