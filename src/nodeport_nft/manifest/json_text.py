"""Manifest text → documents, JSON by Python's C decoder, which is several times as fast as any YAML reader.

JSON tells no lines: only when one is asked for, to report a problem, the text is read once more as the YAML
that JSON also is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from nodeport_nft.manifest.document import MAX_DEPTH, Document, Fault, too_deep
from nodeport_nft.manifest.problems import clipped
from nodeport_nft.manifest.yaml_text import MARKER, finite, read_yaml

_LIKE_JSON = re.compile(r'\s*(\{\s*["}]|\[)')
_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep; flatten it"


def read_documents(text: str) -> Iterator[Document | Fault]:
    """The documents of YAML or JSON text (also several JSON values in a row), faults in between.

    Empty documents are left out. Never raises.
    """
    if not _LIKE_JSON.match(text):
        return read_yaml(text)
    documents, fault = _read_json(text)
    if fault is None:
        return iter(documents)
    # YAML's flow style may begin alike, and then take comments, trailing commas, or "---" for a second document.
    others = tuple(read_yaml(text))
    if MARKER.search(text) or not any(isinstance(other, Fault) for other in others):
        return iter(others)
    return iter((*documents, fault))


def _read_json(text: str) -> tuple[list[Document], Fault | None]:
    """The JSON values of ``text`` up to the first fault."""
    documents: list[Document] = []
    position = _skip_space(text, 0)
    line = 1 + text.count("\n", 0, position)
    while position < len(text):
        try:
            value, end = _JSON.raw_decode(text, position)
            if text.find("\\ud", position, end) >= 0 or text.find("\\uD", position, end) >= 0:
                json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair can't be printed or stored
        except json.JSONDecodeError as error:
            return documents, Fault(error.lineno, f"not JSON: {error.msg} (column {error.colno})")
        except UnicodeEncodeError:
            return documents, Fault(line, "a string has half of a surrogate pair (\\ud800 to \\udfff) in it")
        except RecursionError:
            return documents, Fault(line, _TOO_DEEP)
        except ValueError as error:
            return documents, Fault(line, f"not JSON: {clipped(str(error))}")
        if too_deep(value):
            return documents, Fault(line, _TOO_DEEP)
        documents.append(_document(value, text[position:end], line))
        following = _skip_space(text, end)
        position, line = following, line + text.count("\n", position, following)
    return documents, None


def _document(value: Any, text: str, line: int) -> Document:
    """A document that finds its lines in ``text``, which begins on ``line``, when asked for one."""

    def locate() -> Document | None:
        read = next(read_yaml(text, line - 1), None)
        return read if isinstance(read, Document) else None

    return Document(value, line, locate=locate)


def _skip_space(text: str, position: int) -> int:
    """The index of the next character that is no white space of JSON."""
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys differ; ``read_yaml``, which is asked next, says where they do not."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key is given twice in one object")
    return made


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no value of JSON")


_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_float=finite, parse_constant=_no_constant)
