"""How ``get --watch`` prints what has become of objects: rows that are added to a table, or a document each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct, field

from nodeport_nft.cli import colour
from nodeport_nft.cli.get.listings import utc_now
from nodeport_nft.cli.get.output import Form, Output
from nodeport_nft.cli.layout import fitted
from nodeport_nft.cli.listing import Listing, Look
from nodeport_nft.cli.options import put
from nodeport_nft.kube import Object
from nodeport_nft.terminal import visible

if TYPE_CHECKING:
    from nodeport_nft.model import Parsed

    Heard = Callable[[], Iterable[Parsed]]

Event = Literal["ADDED", "MODIFIED", "DELETED"]
Happened = tuple[Event, Object | Listing]
"""What has become of an object, and how it is now; or of a row, alone in its listing."""


class EventPrinter(Struct):
    """Prints in the form of ``output``; ``events``: with the word for what has happened.

    ``shown`` is what people are to see of an object. Each kind has a table of its own, whose titles come once: what
    changes later comes in any order, and says by its name ("service/web") which it belongs to.
    """

    output: Output
    look: Look
    shown: Callable[[Object], Object]
    events: bool = False
    _widths: dict[str, list[int]] = field(default_factory=dict)
    _documents: int = 0

    def print(self, happened: Iterable[Happened], heard: Heard) -> None:
        """Print these, all of one kind. Raises OSError, and PathError.

        ``heard`` says what the store knows of the cluster.
        """
        told = list(happened)
        if not told:
            return
        if self.output.is_table:
            text = self._rows(told, heard)
        elif self.output.form is Form.columns:
            from nodeport_nft.cli.get.custom_columns import column_cells

            titles = [column.title for column in self.output.columns] if self.output.titles else None
            cells = [column_cells(self.output.columns, self._document(event, of)) for event, of in told]
            text = self._lines("", titles, cells)
        else:
            text = "".join(self._text(event, of) for event, of in told)
        put(text, end="", paint=colour.table if self.output.is_table else None)

    def _rows(self, told: Sequence[Happened], heard: Heard) -> str:
        from nodeport_nft.cli.columns import object_listing

        parts = [of for _, of in told if isinstance(of, Listing)]
        if objects := [of for _, of in told if isinstance(of, Object)]:
            kind, wide = objects[0].kind, self.output.form is Form.wide
            known = heard() if kind == "Pod" else ()
            parts.append(object_listing(kind, objects, wide=wide, now=utc_now(), heard=known))
        titles, rows = parts[0].lines(self.look)
        rows = [*rows, *(row for part in parts[1:] for row in part.lines(self.look)[1])]
        if self.events:
            titles = None if titles is None else ("EVENT", *titles)
            rows = [(f"{event:<8}", *row) for (event, _), row in zip(told, rows, strict=True)]
        return self._lines(parts[0].resource.kind, titles, rows)

    def _lines(self, table: str, titles: Sequence[str] | None, rows: Sequence[Sequence[str]]) -> str:
        """Rows below those of their table that are printed already; no column becomes narrower.

        Before the first stand the titles, below an empty line where another table is there.
        """
        lines = [[visible(cell) for cell in row] for row in rows]
        before = "\n" if self._widths and titles is not None and table not in self._widths else ""
        if titles is not None and table not in self._widths:
            lines.insert(0, list(titles))
        self._widths[table] = widths = [
            max(width, *(len(line[at]) for line in lines))
            for at, width in enumerate(self._widths.get(table) or [0] * len(lines[0]))
        ]
        return before + "".join(f"{fitted(line, widths)}\n" for line in lines)

    def _text(self, event: Event, of: Object | Listing) -> str:
        assert isinstance(of, Object)  # rows are for tables alone
        self._documents += 1
        form, document = self.output.form, self._document(event, of)
        if form is Form.name:
            return self.output.text((of,), single=True)
        if form is Form.json and self.events:
            return f"{json.dumps(document, separators=(',', ':'))}\n"
        between = "---\n" if form is Form.yaml and self._documents > 1 else ""
        return between + self.output.one(document)

    def _document(self, event: Event, of: Object | Listing) -> dict[str, Any]:
        assert isinstance(of, Object)
        raw = self.shown(of).raw
        return {"type": event, "object": raw} if self.events else raw
