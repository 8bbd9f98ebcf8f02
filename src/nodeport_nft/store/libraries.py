"""The optional parts of the program: stores elsewhere need libraries, and all the rest runs without them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from nodeport_nft.store.errors import StoreError


class LibraryMissing(StoreError):
    """The optional parts of the program that speak to a store are not installed; the message has the remedy."""


class Libraries(Struct, frozen=True):
    """What speaks to ``whom``: these ``packages``, which the program's ``extra`` installs."""

    packages: tuple[str, ...]
    whom: str
    extra: str

    @contextmanager
    def wanted(self, store: object) -> Iterator[None]:
        """Turns the want of one into LibraryMissing; what is missing of our own is a defect."""
        try:
            yield
        except ImportError as error:
            if (error.name or "").startswith("nodeport_nft"):
                raise
            names, are_many = " and ".join(self.packages), len(self.packages) > 1
            noun, speak, be = ("packages", "speak", "are") if are_many else ("package", "speaks", "is")
            raise LibraryMissing(
                f"{store}: the Python {noun} {names}, which {speak} to {self.whom}, {be} missing; in a clone of "
                f"nodeport-nft, {shlex.quote(sys.executable or 'python3')} -m pip install '.[{self.extra}]'"
            ) from error
