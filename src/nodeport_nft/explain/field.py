"""One explained field, and the short way to write down the explanation of several."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace


class Field(Struct, frozen=True):
    """A field of a kind: its ``path`` with dots between the names, lists without brackets.

    ``type`` is written as kubectl writes it: string, integer, boolean, Object, []Object, []string, map[string]string.
    ``default`` and ``allowed`` are "" where there is nothing to say. ``acts``: it has an effect here; else it is
    checked where the API server would check it, kept, and perhaps shown.
    """

    path: str
    type: str
    text: str
    default: str = ""
    allowed: str = ""
    acts: bool = True

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    def below(self, parent: str) -> Field:
        """The same field of something inside another object."""
        return replace(self, path=f"{parent}.{self.path}")


def below(parent: str, fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """The same fields of something inside another object."""
    return tuple(field.below(parent) for field in fields)
