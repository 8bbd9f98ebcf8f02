"""libnftables in this process: run a transaction, list a table.

A context's netlink socket belongs to the network namespace in which the context was made. libnftables builds one
netlink batch of all commands in a buffer, and the kernel commits a batch as a whole or not at all. Transactions of
elements alone go past it (see ``elements``).
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from nodeport_nft.kernel.elements import ElementWriter, encode, too_long
from nodeport_nft.kernel.netlink import KernelError
from nodeport_nft.plan import Transaction
from nodeport_nft.render import ListedTable, read_table, write_transaction
from nodeport_nft.ruleset import Schema

__all__ = ["BULK", "CHECK", "KernelError", "Nft", "too_old"]

_CAP_NET_ADMIN = 12  # linux/capability.h

_LIBRARY = "libnftables.so.1"

CHECK = "--check"
"""What has ``apart`` run its commands dry."""

BULK = 1 << 18
"""Characters of a transaction above which a child process runs it. libnftables keeps the memory of its largest
command for good (200 MB after 10,000 services, written or listed); a child gives it back when it ends."""

_ROOM, _ROOM_EACH = 16 << 20, 8
"""Bytes that a command may need, and for each of its characters; rather too many than too few."""

_APART_SECONDS = 900.0
"""What a child may take at most; 100,000 services take it half a minute."""

_ERROR_LIMIT = 2000
"""Characters of libnftables' words that an error repeats: it echoes whole commands, which can be megabytes."""


class Nft:
    """A libnftables context, and a socket for elements, in the caller's network namespace."""

    def __init__(self) -> None:
        """Raises KernelError if the library or the capability is missing."""
        if not _may_administer():
            raise KernelError("nftables needs CAP_NET_ADMIN; run as root, or give the program that capability")
        try:
            import nftables  # late: --help and render must not need the library
        except ImportError as error:
            raise KernelError("the Python module nftables is missing; install pip-nftables") from error
        try:
            self._context = nftables.Nftables(_LIBRARY)
        except OSError as error:
            raise KernelError(
                f"libnftables cannot be loaded ({error}); install it (Debian: apt-get install libnftables1)"
            ) from error
        _widen()
        self._elements = ElementWriter()

    def apply(self, transactions: Iterable[Transaction]) -> int:
        """Commit all of them as one, or raise KernelError and leave everything as it was (K1).

        The late ones among them are committed after that, as one. Returns how many commits it was.
        """
        transactions = tuple(transactions)
        commits = 0
        for late in (False, True):
            due = [transaction for transaction in transactions if transaction.late is late]
            batch = encode(due)
            if batch:
                self._elements.commit(batch)
                commits += 1
                continue
            text = "".join(map(write_transaction, due))
            if len(text) > BULK:
                _run_apart(text)
            elif text:
                self.run(text)
            commits += bool(text)
        return commits

    def check(self, transactions: Iterable[Transaction]) -> None:
        """Ask the kernel whether it would take all of them as one; raises KernelError if not. Nothing is changed."""
        text = "".join(write_transaction(transaction) for transaction in transactions if not transaction.late)
        if len(text) > BULK:
            _run_apart(text, CHECK)
            return
        self.run(text, dry=True)

    def version(self) -> str:
        """libnftables' version, such as ``1.0.6``."""
        before = self._context.set_json_output(True)
        try:
            listed = json.loads(self.run("list flowtables"))
        finally:
            self._context.set_json_output(before)
        return str(listed["nftables"][0]["metainfo"]["version"])

    def list_table(self, schema: Schema, *, bulk: bool = False) -> ListedTable | None:
        """What the kernel holds of this table; None if there is no such table. ``bulk``: it may be large (see BULK).

        Raises KernelError if it cannot be listed.
        """
        if not self.has_table(schema.family, schema.name):
            return None
        command = f"list table {schema.family} {schema.name}"
        return read_table(_run_apart(command) if bulk else self.run(command), schema)

    def has_table(self, family: str, name: str) -> bool:
        """Whether the kernel has a table of this name."""
        # nft 1.0.6 reads every element of every table for `list tables`, but none for `list chains`.
        return f"table {family} {name} {{" in self.run(f"list chains {family}").splitlines()

    def run(self, text: str, *, dry: bool = False) -> str:
        """Run commands in nft's language as one batch; their output. Raises KernelError, MemoryError.

        ``dry``: let the kernel look at the batch and carry out none of it.
        """
        _make_sure_of_room(len(text))
        self._set_dry_run(dry)
        code, output, error = self._context.cmd(text)
        if code != 0:
            raise KernelError(_explain(error))
        return str(output)

    def _set_dry_run(self, dry: bool) -> None:
        # The binding has no method for it, and keeps the context that the library asks for to itself.
        set_dry_run = ctypes.CDLL(_LIBRARY).nft_ctx_set_dry_run
        set_dry_run.argtypes = [ctypes.c_void_p, ctypes.c_bool]
        set_dry_run(self._context._Nftables__ctx, dry)


def _widen() -> None:
    """Let this process' netlink sockets send as much at once as anybody may.

    A batch is one message, which the send buffer must hold. libnftables (1.0.6) asks for more than net.core.wmem_max
    alone (SO_SNDBUFFORCE), which takes CAP_NET_ADMIN in the first user namespace, and in another one leaves it at the
    default, which our schema exceeds. Which socket is its own it does not tell; the others it does no harm.
    """
    for descriptor in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 (numbers, not paths)
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            found = socket.socket(fileno=descriptor)
        except OSError:
            continue  # closed meanwhile, as that of the listing is
        try:
            if found.family == socket.AF_NETLINK:
                found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, (1 << 31) - 1)  # cut to wmem_max
        finally:
            found.detach()  # it is not ours


def _make_sure_of_room(size: int) -> None:
    """Raise MemoryError where a command of so many characters may not find room: libnftables would end us."""
    try:
        mmap.mmap(-1, _ROOM + _ROOM_EACH * size).close()  # address space alone: nothing touches it
    except OSError as error:
        raise MemoryError from error


def _run_apart(text: str, *options: str) -> str:
    """``Nft.run`` in a child process, in our own network namespace."""
    command = [sys.executable, "-P", "-m", "nodeport_nft.kernel.apart", *options]
    # S603: what is run is this very interpreter and a module of our own.
    try:
        child = subprocess.run(  # noqa: S603
            command, input=text.encode(), capture_output=True, check=False, timeout=_APART_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise KernelError(f"nftables has not answered for {_APART_SECONDS:g} s") from error
    if child.returncode != 0:
        reason = child.stderr.decode(errors="replace").strip()
        raise KernelError(reason or f"the child that runs nftables died: {child.returncode}")
    return child.stdout.decode()


def _may_administer() -> bool:
    """Whether this process has CAP_NET_ADMIN; without it libnftables would print to stderr on its own."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> _CAP_NET_ADMIN & 1)


_SECOND_ERROR = re.compile(r"(?<=\n)Error: ")


def _explain(error: str) -> str:
    words = error.strip()
    # libnftables tells each command that fails, with an echo of it. The first says what the others say.
    _, *others = re.findall(r"^Error: ", words, re.MULTILINE) or ["", ""]
    words = _SECOND_ERROR.split(words, maxsplit=1)[0]
    # A comment or a key may be echoed: keep the terminal safe from control characters.
    words = re.sub(r"[^\x20-\x7e\n\t]", "?", words)[:_ERROR_LIMIT].rstrip()
    if "Operation not permitted" in words:
        words += "\nanother process may own the table (flags owner); nft list tables shows it"
    if os.strerror(errno.EMSGSIZE) in words:
        words += f"\n{too_long()}"
    more = f"\nand {len(others)} more" if others and others != [""] else ""
    return f"nftables refused the transaction; nothing was changed:\n{words}{more}"


_OLDEST = {"nftables": (1, 0, 1), "Linux": (5, 13)}
"""What kube-proxy's nftables mode asks for too (KEP-3866); nft 0.9.8 was seen to refuse our maps."""


def too_old(nft_version: str, kernel_release: str) -> tuple[str, ...]:
    """What is older than this program can work with, each with its remedy."""
    found = {"nftables": nft_version, "Linux": kernel_release}
    return tuple(
        f"{name} {version} is older than {'.'.join(map(str, _OLDEST[name]))}, which our tables need; upgrade it"
        for name, version in found.items()
        if _numbers(version) < _OLDEST[name]
    )


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"[0-9]{1,9}(?:\.[0-9]{1,9})*", version)
    return tuple(map(int, match[0].split("."))) if match else ()
