"""The configuration file, read as manifests are: no file can take the program down or keep it waiting.

One that others can have written is not read at all. Where there is none, which is so nearly everywhere, no command
takes the time to import what reads it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from nodeport_nft.config.config import DEFAULT_PATH
from nodeport_nft.problems import Path, Problem, clipped, shown
from nodeport_nft.terminal import printable
from nodeport_nft.text.document import Document, Fault
from nodeport_nft.text.files import read_text, short_path, unreadable
from nodeport_nft.trust import file_fault

if TYPE_CHECKING:
    import yaml

_MAX_BYTES = 1 << 20
_LONGEST_FAULT = 500  # characters; it names a file, and its remedy comes last
_LONGEST_LINE = 1000  # characters that are searched for what may be wrong with them
_NULL = os.makedev(1, 3)  # /dev/null, by which a user says that there is none

_QUOTED = re.compile(r"""(["']).*?(?:\1|$)""")
_IPV6 = re.compile(r"(?<![0-9A-Za-z:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![0-9A-Za-z])")

_BEGINNINGS = ("cannot start any token", "scanning an alias", "scanning an anchor", "scanning a tag", "has no anchor")
"""Of the words for what begins with "@", "*", "&" and "!"."""


def _as_it_is(line: int) -> int:
    return line


class ConfigFile(Struct):
    """What a file says: its ``values`` by key, ``problems`` with the lines they stand on, and ``warnings``.

    ``name`` is its ``path`` as messages give it. ``lines``: which line of the file is the one of this number here,
    where it is a text inside of the file.
    """

    name: str
    path: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    problems: list[tuple[int, Problem]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    lines: Callable[[int], int] = _as_it_is
    _document: Document | None = None
    _text: str = ""
    _root: yaml.Node | None = None
    _is_composed: bool = False

    def line(self, path: Path) -> int:
        """The line of a field, from 1."""
        return self.lines(self._document.line(path) if self._document else 1)

    def problem(self, line: int, message: str, *, key: str = "", more: int = 0) -> None:
        """Note what is wrong; ``more`` as a Problem's."""
        self.problems.append((line, Problem(f"{self.name}:{line}" if line else self.name, "", key, message, more)))

    def written(self, path: Path) -> str | None:
        """The text of the scalar at ``path`` as its author wrote it; None where that cannot be told."""
        import yaml

        node = self._at(path)
        return printable(node.value) if isinstance(node, yaml.ScalarNode) else None

    def _at(self, path: Path) -> yaml.Node | None:
        """What stands at ``path``, as PyYAML has it."""
        import yaml

        if not self._is_composed:
            self._is_composed, self._root = True, self._composed()
        node = self._root
        for part in path:
            if isinstance(node, yaml.MappingNode):
                # Of a key that stands there twice the last one counts.
                node = next((value for key, value in reversed(node.value) if key.value == part), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
            else:
                return None
        return node

    def inside(self, path: Path) -> ConfigFile:
        """The text at ``path`` as a file of its own, as a ConfigMap holds one; its problems are among ours."""
        import yaml

        first = self.line(path)
        lines: Callable[[int], int] = lambda line: first  # noqa: E731, ARG005 (a text in quotes is on one line)
        node = self._at(path)
        if isinstance(node, yaml.ScalarNode) and node.style == "|":
            above = node.start_mark.line + 1
            lines = lambda line: above + line  # noqa: E731
        found = ConfigFile(self.name, self.path, problems=self.problems, warnings=self.warnings, lines=lines)
        text = self._document and _value_at(self._document.value, path)
        if isinstance(text, str):
            read_into(found, text)
        return found

    def _composed(self) -> yaml.Node | None:
        """The first document as PyYAML's nodes. It recurses: only what ``read_documents`` took may come here."""
        import yaml

        if self._document is None:
            return None
        try:
            return next(yaml.compose_all(self._text, Loader=yaml.CSafeLoader), None)
        except yaml.YAMLError:
            return None


def _value_at(value: Any, path: Path) -> Any:
    for part in path:
        value = value[part]
    return value


def read_config_file(path: str | None) -> ConfigFile:
    """The file at ``path``; None: the default one, which need not be there."""
    name = path or DEFAULT_PATH
    file = ConfigFile(printable(short_path(name)), name)
    try:
        found = FilePath(name).stat()
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == _NULL:
            return file  # nobody can write anything into it
        fault = "is a pipe, which may never end; name a file" if stat.S_ISFIFO(found.st_mode) else file_fault(name)
    except FileNotFoundError:
        if path is not None:
            file.problem(0, "no such file; leave --config out or write one")
        return file
    except (OSError, ValueError) as error:
        file.problems.append((0, unreadable(name, error)))
        return file
    if fault:
        file.problem(0, clipped(fault.removeprefix(f"{name} "), _LONGEST_FAULT))
        return file
    text = read_text(name, _MAX_BYTES, remedy="a configuration is a few lines; is this the right file?")
    if isinstance(text, Problem):
        file.problems.append((0, text))
    else:
        read_into(file, text)
    return file


def read_into(file: ConfigFile, text: str) -> None:
    """Take the one document of ``text``, a mapping; what is wrong with it is noted."""
    from nodeport_nft.text.json_text import read_documents

    documents: list[Document] = []
    sound = True
    for document in read_documents(text):
        if isinstance(document, Fault):
            sound = False
            file.problem(file.lines(document.line), document.message + _quotes_missing(document, text))
            continue
        documents.append(document)
        for fault in document.faults:
            file.problem(file.lines(fault.line), fault.message, more=fault.more)
        for key in document.doubled:
            file.warnings.append(
                str(
                    Problem(
                        f"{file.name}:{file.lines(key.line)}", "", "", f"{key.message}; the last one counts", key.more
                    )
                )
            )
        if len(documents) > 1:
            file.problem(file.lines(document.first), "a second document begins; write one")
        elif not isinstance(document.value, dict):
            file.problem(file.lines(document.first), f"holds {shown(document.value)}; write 'key: value' lines")
        else:
            file.values, file._document = document.value, document
    file._text = text if sound else ""


def _quotes_missing(fault: Fault, text: str) -> str:
    """The remedy for the commonest reasons why a line of ``key: value`` is not YAML; else ""."""
    if any(words in fault.message for words in _BEGINNINGS):
        return "; put a text that begins like this in quotes"
    lines = text.split("\n")
    line = lines[fault.line - 1] if fault.line <= len(lines) else ""
    line = _QUOTED.sub("", line[:_LONGEST_LINE].partition(" #")[0])
    found = any("::" in like[0] or like[0].count(":") > 2 for like in _IPV6.finditer(line))
    return "; put IPv6 addresses in quotes" if found and fault.message.startswith("not YAML") else ""
