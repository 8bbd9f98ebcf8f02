"""What a real API server (v1.36) was asked and said, as data; see ``recordings/README.md``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

RECORDINGS = Path(__file__).parent / "recordings"


class Answer(NamedTuple):
    """A status, headers (names in lower case), and the body: text, and what it is as JSON; events for a watch."""

    status: int
    headers: dict[str, str]
    text: str
    value: Any
    events: list[dict[str, Any]]


class Recorded(NamedTuple):
    """One exchange."""

    name: str
    method: str
    target: str
    headers: dict[str, str]
    body: str
    answer: Answer


def recordings() -> list[Recorded]:
    """All of them, in the order in which they were made."""
    return [_read(path) for path in sorted(RECORDINGS.glob("*.http"))]


def recorded(name: str) -> Recorded:
    """One, by its name with its number."""
    return _read(RECORDINGS / f"{name}.http")


def _read(path: Path) -> Recorded:
    request, _, answer = path.read_text(encoding="utf-8").partition("\n---\n")
    head, _, body = request.partition("\n\n")
    first, *lines = head.splitlines()
    method, target, _ = first.split(" ")
    answer_head, _, answer_body = answer.partition("\n\n")
    status, *answer_lines = answer_head.splitlines()
    told = read_answer(
        int(status.split(" ")[1]), _headers(answer_lines), answer_body.strip("\n"), "watch=1" in target
    )
    return Recorded(path.stem, method, target, _headers(lines), body.strip("\n"), told)


def read_answer(status: int, headers: dict[str, str], text: str, is_watch: bool) -> Answer:
    """An answer out of its parts. Before each event of a recorded watch stands when it came."""
    if is_watch and status == 200:
        lines = [line for line in text.splitlines() if line and not line.startswith("# ")]
        return Answer(status, headers, text, None, [json.loads(line) for line in lines])
    is_json = headers.get("content-type", "").startswith("application/json")
    return Answer(status, headers, text, json.loads(text) if is_json else None, [])


def _headers(lines: list[str]) -> dict[str, str]:
    pairs = (line.partition(": ") for line in lines)
    return {name.lower(): value for name, _, value in pairs}
