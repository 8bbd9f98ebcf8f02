"""What is wrong with a manifest, as values: all of it at once, each with its place, its field and the remedy.

Manifests come from strangers, and their text ends on a terminal: whatever is printed passes ``printable``
(no control or formatting characters) and ``shown`` (capped values), so that a name with an escape sequence or
a megabyte in it can neither play with the terminal nor bury the message.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]

_LONGEST_VALUE = 80
_LONGEST_LINE = 1000
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,63}")
_PRINTABLE_ASCII = re.compile(r"[ -~]*")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    ``source`` is ``file:line`` ("" where there is no file), ``object`` ``kind/namespace/name`` ("" if unknown),
    ``field`` a path as ``spec.ports[0].nodePort`` ("" if none); ``message`` says what is wrong and the remedy.
    """

    source: str
    object: str
    field: str
    message: str

    def __str__(self) -> str:
        """One printable line; parts that are empty are left out."""
        parts = (self.source, self.object, self.field, self.message)
        return printable(": ".join(part for part in parts if part))[:_LONGEST_LINE]


class Problems(Exception):
    """Everything that is wrong, in the order of the documents; ``str()`` gives one problem a line."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def printable(text: str) -> str:
    """``text`` on one line, every control, formatting, surrogate or unassigned character replaced by U+FFFD."""
    if _PRINTABLE_ASCII.fullmatch(text):
        return text
    return "".join("\ufffd" if unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" else c for c in text)


def clipped(text: str, longest: int = _LONGEST_VALUE) -> str:
    """``text`` made printable and cut to ``longest`` characters, an ellipsis standing for the rest."""
    return printable(text if len(text) <= longest else text[: longest - 1] + "…")


def shown(value: Any) -> str:
    """A value out of a document as a message quotes it: as YAML would write it, capped at 80 characters."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            # Python refuses to print integers of thousands of digits.
            return str(value) if isinstance(value, float) or value.bit_length() < 256 else "a huge number"
        case str():
            return f'"{clipped(value)}"'
        case list():
            return "a list" if value else "an empty list"
        case _:
            return "a mapping" if value else "an empty mapping"


def field_text(path: Path) -> str:
    """A path as people write it: ``("spec", "ports", 0, "nodePort")`` is ``spec.ports[0].nodePort``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{shown(part)}]"
    return text
