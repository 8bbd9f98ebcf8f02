"""What ``get`` lists of one kind: rows, and what of them is to be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from nodeport_nft.cli.layout import equations, joined, table
from nodeport_nft.cli.selectors import labels_of
from nodeport_nft.kinds import Resource

Row = tuple[str, ...]


class Look(Struct, frozen=True):
    """What a table shows beside its columns: the column NAMESPACE, the kind before each name, labels, titles."""

    namespaces: bool = False
    kinds: bool = False
    labels: bool = False
    label_columns: tuple[str, ...] = ()
    titles: bool = True


class Listing(Struct, frozen=True):
    """Rows of one kind below their ``titles``; each begins with the namespace and the name of its object.

    ``documents``: the object of each row, where somebody asks more of it than its cells.
    """

    resource: Resource
    titles: Row
    rows: list[Row]
    documents: list[dict[str, Any]] = field(default_factory=list)

    def only(self, chosen: Sequence[int]) -> Listing:
        """The rows of these numbers, in their order."""
        documents = [self.documents[number] for number in chosen]
        return replace(self, rows=[self.rows[number] for number in chosen], documents=documents)

    def text(self, look: Look) -> str:
        """The table; "" without rows."""
        return table(*self.lines(look)) if self.rows else ""

    def lines(self, look: Look) -> tuple[Row | None, list[Row]]:
        """Its titles, None where they are not to be seen, and its rows."""
        start = 0 if look.namespaces and self.resource.namespaced else 1
        titles, rows = ("NAMESPACE", "NAME", *self.titles)[start:], self.rows
        if look.kinds:
            rows = [(row[0], f"{self.resource.full}/{row[1]}", *row[2:]) for row in rows]
        if start:
            rows = [row[1:] for row in rows]
        if look.labels or look.label_columns:
            shown = map(labels_of, self.documents)
            rows = [(*row, *_label_cells(labels, look)) for row, labels in zip(rows, shown, strict=True)]
            last = (each.rpartition("/")[2].upper() for each in look.label_columns)
            titles = (*titles, *last, *(("LABELS",) if look.labels else ()))
        return (titles if look.titles else None), rows


def _label_cells(labels: dict[str, str], look: Look) -> Row:
    cells = tuple(str(labels.get(key, "")) for key in look.label_columns)
    return (*cells, joined(equations(labels))) if look.labels else cells
