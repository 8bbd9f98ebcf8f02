"""The optional parts of the program: stores elsewhere need libraries, and all the rest runs without them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nodeport_nft.store.errors import StoreError


class LibraryMissing(StoreError):
    """The optional parts of the program that speak to a store are not installed; the message has the remedy."""


@dataclass(frozen=True, slots=True)
class Libraries:
    """What speaks to ``whom``: these ``packages``, which the program's ``extra`` installs."""

    packages: str
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
            raise LibraryMissing(
                f"{store}: the Python packages {self.packages}, which speak to {self.whom}, are missing; in a clone "
                f"of nodeport-nft, {shlex.quote(sys.executable or 'python3')} -m pip install '.[{self.extra}]'"
            ) from error
