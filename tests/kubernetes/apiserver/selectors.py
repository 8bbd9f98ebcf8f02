"""Label and field selectors, as they come in a query."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.kubernetes.apiserver.answers import bad_request
from tests.kubernetes.apiserver.kinds import Kind

Matches = Callable[[dict[str, Any]], bool]

_KEY = r"[A-Za-z0-9./_-]+"
_TERM = re.compile(
    rf"\s*(?:(?P<not>!)\s*(?P<absent>{_KEY})"
    rf"|(?P<key>{_KEY})\s*(?:(?P<op>==|!=|=)\s*(?P<value>[A-Za-z0-9._-]*)"
    rf"|\s(?P<set>in|notin)\s*\((?P<values>[^)]*)\))?)\s*(?:,|$)"
)


def label_selector(text: str) -> Matches:
    """Whether an object's labels fit a selector; 400 for one that cannot be read."""
    terms: list[Callable[[Mapping[str, str]], bool]] = []
    position = 0
    while position < len(text):
        found = _TERM.match(text, position)
        if found is None or found.end() == position:
            raise bad_request(f"unable to parse requirement: found '{text[position:]}'")
        terms.append(_label_term(found))
        position = found.end()
    return lambda value: all(term(value["metadata"].get("labels") or {}) for term in terms)


def _label_term(found: re.Match[str]) -> Callable[[Mapping[str, str]], bool]:
    if (absent := found["absent"]) is not None:
        return lambda labels: absent not in labels
    key = found["key"]
    if found["set"]:
        values = {value.strip() for value in found["values"].split(",")}
        return (
            (lambda labels: labels.get(key) in values)
            if found["set"] == "in"
            else (lambda labels: labels.get(key) not in values)
        )
    if found["op"] is None:
        return lambda labels: key in labels
    value = found["value"]
    return (
        (lambda labels: labels.get(key) != value)
        if found["op"] == "!="
        else (lambda labels: labels.get(key) == value)
    )


def field_selector(text: str, kind: Kind) -> Matches:
    """Whether an object's fields fit a selector; 400 for a field that this kind is not selected by."""
    known = {"metadata.name", *(("metadata.namespace",) if kind.namespaced else ()), *kind.fields}
    terms: list[Matches] = []
    for part in filter(None, text.split(",")):
        found = re.fullmatch(r"([^=!]+)(==|!=|=)(.*)", part)
        if found is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        field, operator, wanted = found.groups()
        if field not in known:
            raise bad_request(f"field label not supported: {field}")
        terms.append(_field_term(tuple(field.split(".")), operator, wanted))
    return lambda value: all(term(value) for term in terms)


def _field_term(path: tuple[str, ...], operator: str, wanted: str) -> Matches:
    def matches(value: dict[str, Any]) -> bool:
        held: Any = value
        for name in path:
            held = held.get(name) if isinstance(held, dict) else None
        return (str(held if held is not None else "") == wanted) is (operator != "!=")

    return matches


def chosen_name(query: Mapping[str, str]) -> str:
    """The one name that a field selector leaves, which the authorizer goes by; "" for none."""
    for part in query.get("fieldSelector", "").split(","):
        if part.startswith("metadata.name="):
            return part.removeprefix("metadata.name=").removeprefix("=")
    return ""


def selected(query: Mapping[str, str], kind: Kind) -> Matches | None:
    """What of a query's selectors an object must fit; None where there are none."""
    labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
    if not labels and not fields:
        return None
    by_labels, by_fields = label_selector(labels), field_selector(fields, kind)
    return lambda value: by_labels(value) and by_fields(value)
