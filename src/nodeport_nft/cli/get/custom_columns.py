"""Tables of columns that the user chooses: ``-o custom-columns=NAME:.metadata.name,PORT:.spec.ports[*].port``.

Values are written as kubectl writes them: several with commas between them, ``<none>`` where there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from nodeport_nft.cli.get.jsonpath import Path, PathError, relaxed
from nodeport_nft.cli.layout import NONE
from nodeport_nft.problems import shown


class Column(NamedTuple):
    """A title, and what stands below it."""

    title: str
    path: Path


def parse_columns(text: str) -> tuple[Column, ...]:
    """Columns as ``TITLE:PATH,TITLE:PATH``. Raises PathError."""
    if not text:
        raise PathError("custom-columns: no columns are given; write custom-columns=NAME:.metadata.name")
    columns = []
    for part in _between_commas(text):
        title, colon, path = part.partition(":")
        if not (title and colon and path):
            raise PathError(
                f"custom-columns: {shown(part)} is not a column; write TITLE:PATH, as NAME:.metadata.name"
            )
        columns.append(Column(title, relaxed(path)))
    return tuple(columns)


def parse_column_lines(text: str) -> tuple[Column, ...]:
    """Columns as a file has them: a line of titles, and a line of as many paths. Raises PathError."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) != 2:
        raise PathError("write two lines into it: the titles, and below them as many paths, with blanks in between")
    titles, paths = lines
    if len(titles) != len(paths):
        raise PathError(f"it has {len(titles)} titles and {len(paths)} paths; write a path below each title")
    return tuple(Column(title, relaxed(path)) for title, path in zip(titles, paths, strict=True))


def column_cells(columns: Sequence[Column], document: Any) -> tuple[str, ...]:
    """The cells of one document. Raises PathError for an index out of bounds."""
    return tuple(",".join(map(_written, column.path.values(document))) or NONE for column in columns)


def _between_commas(text: str) -> Iterable[str]:
    """The parts of a text between commas; those in brackets belong to a path."""
    depth, start = 0, 0
    for at, sign in enumerate(text):
        depth += (sign == "[") - (sign == "]")
        if sign == "," and depth == 0:
            yield text[start:at]
            start = at + 1
    yield text[start:]


def _written(value: Any) -> str:
    """A value as Go's fmt has it, since that is what kubectl's columns hold."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_written(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_written, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)
