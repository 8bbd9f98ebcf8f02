"""JSON Patch (RFC 6902), as the API server takes it: a list of operations, and what they make of a document.

The operations are python-jsonpath's. It takes more than the RFC has, for uses of its own, and that is refused before:
two more operations, and names that begin with "#" or "~", which mean the name itself there; and numbers of items that
only Python reads as such. What it compares are Python's values, to which true is 1.
"""

from __future__ import annotations

import copy
import json
import re
from typing import Any

from nodeport_nft.json_values import MAX_DEPTH, too_deep
from nodeport_nft.problems import shown

_MOST_BYTES = 3 << 20
"""So large a document may be copied to: as large as a request to an API server may be."""

_OPERATIONS = ("add", "remove", "replace", "move", "copy", "test")
_ODD_NUMBER = re.compile(r"\s.*|.*\s|\+.*|(?=.*[^\x00-\x7f])[\d_]+", re.DOTALL)


class OperationError(ValueError):
    """Operations that cannot be meant so; the message says what to write."""


class NotApplicableError(ValueError):
    """Operations that do not fit what is there."""


def check_operations(patch: list[Any]) -> None:
    """Raises OperationError for what is wrong with the operations, whatever they are for."""
    from jsonpath import JSONPatch
    from jsonpath.exceptions import JSONPatchError

    for number, each in enumerate(patch):
        where = f"operation {number}"
        if not isinstance(each, dict):
            raise OperationError(f"{where} is not a mapping; write op, path and value")
        if "op" in each and each["op"] not in _OPERATIONS:
            raise OperationError(f"{where}: op is not one of {', '.join(_OPERATIONS)}")
        for name in ("from", "path"):
            if isinstance(each.get(name), str):
                _check_pointer(each[name], f"{where}: {name} {shown(each[name])}")
        keeps = each.get("op") in ("remove", "test") or isinstance(each.get("value"), dict)
        if each.get("path") == "" and not keeps:
            raise OperationError(f"{where}: makes something else of the whole object; name a field of it in path")
    try:
        JSONPatch(copy.deepcopy(patch), unicode_escape=False)
    except JSONPatchError as error:
        raise OperationError(f"{error}; write operations as RFC 6902 has them") from error


def operated(document: dict[str, Any], patch: list[Any]) -> Any:
    """What checked operations make of a document, which stays as it is. Raises NotApplicableError."""
    from jsonpath import JSONPatch
    from jsonpath.exceptions import JSONPatchError

    made: Any = copy.deepcopy(document)
    for number, each in enumerate(copy.deepcopy(patch)):  # a value is handed out, and the next may change it
        if is_test := each["op"] == "test":
            each["value"] = _Exactly(each["value"])
        try:
            made = JSONPatch([each], unicode_escape=False).apply(made)
        except JSONPatchError as error:
            why = "there is another value, or none" if is_test else _absence(made, each)
            at = " from ".join(shown(each[name]) for name in ("path", "from") if isinstance(each.get(name), str))
            raise NotApplicableError(f"operation {number}: {each['op']} {at}: {why}") from error
        if why := _unfit(made, each["op"]):
            raise NotApplicableError(f"operation {number}: {each['op']} {shown(each['path'])}: {why}")
    return made


def _absence(document: Any, operation: dict[str, Any]) -> str:
    """Why there is no place for an operation; what is missing is named where that is not the place itself."""
    for name in ("from", "path"):
        pointer = operation.get(name)
        if not isinstance(pointer, str):
            continue
        parts = pointer.split("/")
        there = document
        for number, part in enumerate(parts[1:-1], 2):
            there = _below(there, part.replace("~1", "/").replace("~0", "~"))
            if there is None:
                return f"there is no such place, as {shown('/'.join(parts[:number]))} is not there"
    return "there is no such place"


def _below(value: Any, part: str) -> Any:
    """What a value has by a name or a number; None: nothing that could have more in it."""
    if isinstance(value, dict):
        return value.get(part)
    is_number = isinstance(value, list) and part.isdecimal() and int(part) < len(value)
    return value[int(part)] if is_number else None


def _unfit(made: Any, op: str) -> str:
    """Why no reader takes what an operation has made; "" where one does. A few copies may fill the memory."""
    if too_deep(made):
        return f"is nested more than {MAX_DEPTH} levels deep then"
    if op == "copy" and len(json.dumps(made)) > _MOST_BYTES:
        return f"makes more than {_MOST_BYTES:,} bytes of the object"
    return ""


def _check_pointer(pointer: str, where: str) -> None:
    if pointer and not pointer.startswith("/"):
        raise OperationError(f"{where} does not begin with /; write it as /spec/type")
    for part in pointer.split("/")[1:]:
        if re.search("~(?![01])", part):
            raise OperationError(f"{where}: ~ stands before 0 or 1 alone; write ~0 for ~, and ~1 for /")
        if part.startswith(("#", "~0")) or _ODD_NUMBER.fullmatch(part):
            raise OperationError(f"{where}: {shown(part)} is neither the name of a field nor the number of an item")


class _Exactly:
    """A value that is equal to those alone that JSON has for the same."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return _same(self._value, other)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(each, other[key]) for key, each in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
