"""A mapping of a kubeconfig, field by field: what is wrong is noted with its file, line and field.

Fields of null and of empty text are left out, as kubectl takes them. Secrets are never quoted.
"""

from __future__ import annotations

import binascii
import re
import stat
from base64 import b64decode
from collections.abc import Callable, Collection
from pathlib import Path as FilePath
from typing import Any, TypeVar

from nodeport_nft.config.file import ConfigFile
from nodeport_nft.config.given import Given, as_text
from nodeport_nft.config.kubeconfig.access import SERVICE_ACCOUNT, Pem
from nodeport_nft.config.values import flag
from nodeport_nft.problems import MOST_TOLD, Path, Problem, field_text, nearest
from nodeport_nft.trust import file_fault

T = TypeVar("T")

_PEM = re.compile(rb"-----BEGIN [A-Z0-9 ]+-----")


class Entry:
    """The mapping at ``path`` of ``file``."""

    def __init__(self, file: ConfigFile, path: Path, value: Any) -> None:
        self.file = file
        self.path = path
        self.value: dict[str, Any] = value if isinstance(value, dict) else {}
        self.is_mapping = value is None or isinstance(value, dict)
        if not self.is_mapping:
            self.problem("", f"{Given(value, path, file.written)} stands where 'key: value' lines belong")

    def problem(self, name: str, message: str) -> None:
        """Note what is wrong with a field; "": with the mapping itself."""
        path = (*self.path, name) if name else self.path
        self.file.problem(self.file.line(path), message, key=field_text(path))

    def warning(self, name: str, message: str) -> None:
        """Note what had better be otherwise."""
        path = (*self.path, name)
        place = f"{self.file.name}:{self.file.line(path)}"
        self.file.warnings.append(str(Problem(place, "", field_text(path), message)))

    def unknown(self, known: Collection[str]) -> None:
        """Warn of fields that nobody reads: kubectl passes over them, and a slip is found here."""
        strangers = [name for name in self.value if name not in known]
        for name in strangers[:MOST_TOLD]:
            near = nearest(name, known)
            self.warning(
                name,
                f"unknown field, which counts for nothing; {f'did you mean {near}?' if near else 'leave it out'}",
            )

    def has(self, name: str) -> bool:
        """Whether there is something to read."""
        return self.value.get(name) not in (None, "")

    def text(self, name: str, what: str, remedy: str, *, parse: Callable[[str], str] = str) -> str:
        """A text, "" where there is none or a wrong one; ``what`` and ``remedy`` as ``as_text`` has them."""
        return self._text((name,), self.value.get(name), what, remedy, parse)

    def texts(self, name: str, what: str, remedy: str, *, parse: Callable[[str], str] = str) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(
            self._text((name, index), item, what, remedy, parse, may_be_empty=True)
            for index, item in enumerate(self.items(name))
        )

    def items(self, name: str) -> list[Any]:
        """The items of a list, none where there is none or something else."""
        found = self.value.get(name)
        if found is None or isinstance(found, list):
            return found or []
        self.problem(
            name, f"{self._given((name,), found)} stands where a list belongs; write it with - before each item"
        )
        return []

    def below(self, *names: str | int) -> Entry:
        """The mapping in a field, empty where there is none."""
        value: Any = self.value
        for name in names:
            value = value[name] if isinstance(name, int) else value.get(name)
        return Entry(self.file, (*self.path, *names), value)

    def secret(self, name: str) -> str:
        """A text that is never shown, and goes to the server in a header's line."""
        found = self.value.get(name)
        if found is None or isinstance(found, str):
            if isinstance(found, str) and re.search(r"[\0\r\n]", found.strip()):
                self.problem(
                    name, "has a line break or a NUL character in it, which no header can carry; write it as one line"
                )
                return ""
            return (found or "").strip() if name == "token" else found or ""
        self.problem(name, "is not text (not shown, since it is a secret); put it in quotes")
        return ""

    def switch(self, name: str) -> bool:
        """True or false; false where there is none."""
        if self.value.get(name) is None:
            return False
        try:
            return flag(self._given((name,), self.value[name]))
        except ValueError as error:
            self.problem(name, str(error))
            return False

    def file_named(self, name: str, what: str, *, is_secret: bool) -> str:
        """The path of a file that is there and may be believed; those that are relative begin at the kubeconfig's."""
        path = self.text(name, "a path", f"name {what}")
        if not path:
            return ""
        path = self.resolved(path)
        try:
            if not FilePath(path).exists():
                self.problem(name, f"{path}: there is no such file; name another")
            elif fault := file_fault(path):
                self.problem(name, fault if path in fault else f"{path}: {fault}")
            elif is_secret and is_open(path):
                self.warning(name, f"everybody may read {path}, and it is a secret; chmod o-rwx {path}")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.problem(name, f"{path}: cannot be looked at: {reason}; make it readable for this user")
        return path

    def pem(self, name: str, what: str, *, is_secret: bool) -> Pem:
        """Certificates or a key: the field ``name-data``, PEM in base64, goes before the file that ``name`` says."""
        inline = f"{name}-data"
        if not self.has(inline):
            path = self.file_named(name, what, is_secret=is_secret)
            return Pem(path=path)
        if self.has(name):
            self.warning(name, f"counts for nothing beside {inline}; leave one of them out")
        encoded = self.value[inline]
        if not isinstance(encoded, str):
            self.problem(inline, "is not text (not shown, since it may be a secret); put it in quotes")
            return Pem()
        try:
            data = b64decode("".join(encoded.split()), validate=True)
        except (binascii.Error, ValueError):
            hint = "; it is PEM already: name its file instead, or encode it" if "-----BEGIN" in encoded else ""
            self.problem(inline, f"is not base64{hint or '; encode the PEM file with base64 -w0'}")
            return Pem()
        if not _PEM.search(data):
            self.problem(inline, "is base64, and not of PEM; encode the file that begins with -----BEGIN")
            return Pem()
        return Pem(data=data)

    def resolved(self, path: str) -> str:
        """A path of the kubeconfig, from the directory it lies in."""
        return str(FilePath(self.file.path).absolute().parent / path)

    def _text(
        self,
        path: Path,
        value: Any,
        what: str,
        remedy: str,
        parse: Callable[[str], str],
        *,
        may_be_empty: bool = False,
    ) -> str:
        if value == "" or (value is None and not may_be_empty):
            return ""
        try:
            return as_text(self._given(path, value), parse, what, remedy)
        except ValueError as error:
            whole = (*self.path, *path)
            self.file.problem(self.file.line(whole), str(error), key=field_text(whole))
            return ""

    def _given(self, path: Path, value: Any) -> Given:
        return Given(value, (*self.path, *path), self.file.written)


def is_open(path: str) -> bool:
    """Whether everybody may read a file. A pod's own volumes are nobody else's. Raises OSError."""
    return not path.startswith(f"{SERVICE_ACCOUNT}/") and bool(FilePath(path).stat().st_mode & stat.S_IROTH)
