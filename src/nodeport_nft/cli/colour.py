"""Colour on terminals: when there is any, and what gets which. Without it, the text is the same to the letter.

A painter takes a text that has been escaped already (``options.put``) and gives it back with colours. Its sequences
(ECMA-48) are the only ones that reach a terminal. It goes by how our commands lay a text out.
"""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Callable
from typing import IO

Painter = Callable[[str], str]

_RED, _GREEN, _YELLOW = "31", "32", "33"


class Colour(enum.StrEnum):
    """What ``--color`` takes."""

    auto = "auto"
    always = "always"
    never = "never"


wanted = Colour.auto
"""What ``--color`` says; set once, before a command begins."""


def wants_colour(stream: IO[str]) -> bool:
    """Whether this stream gets colours: a terminal does, unless ``NO_COLOR`` is set or it is a dumb one.

    Source: https://no-color.org.
    """
    if wanted is not Colour.auto:
        return wanted is Colour.always
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def _in(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if text else text


# --- painters ---------------------------------------------------------------------

_SAID = re.compile(r"^(?:[Ee]rror|[Ww]arning)(?=: )", re.MULTILINE)


def said(message: str) -> str:
    """Talk: which of it is an error, and which a warning."""
    return _SAID.sub(lambda found: _in(_RED if found[0].lower() == "error" else _YELLOW, found[0]), message, count=1)


def problems(text: str) -> str:
    """Lines of which each is a problem."""
    return "\n".join(_in(_RED, line) for line in text.split("\n"))


def repairs(text: str) -> str:
    """Lines of which each is something that has been mended."""
    return "\n".join(_in(_GREEN, line) for line in text.split("\n"))


_NEW = ("add", "create", "insert")
_GONE = ("delete", "destroy", "flush")


def changes(text: str) -> str:
    """Commands in nft's language: what comes is green, what goes is red, each to the end of its block."""
    code, lines = "", []
    for line in text.split("\n"):
        if line and not line[0].isspace() and line[0] != "}":
            word = line.partition(" ")[0]
            code = _GREEN if word in _NEW else _RED if word in _GONE else ""
        lines.append(_in(code, line) if code else line)
    return "\n".join(lines)


_BAD = r"Not?Ready\S*|Unknown|Failed|Error|CrashLoopBackOff|ErrImagePull|ImagePullBackOff|Evicted|OOMKilled"
_WAITING = r"Pending|Terminating|ContainerCreating|\S+,SchedulingDisabled"


def _cell(pattern: str) -> re.Pattern[str]:
    """A whole cell of a table, but for the first of a row."""
    return re.compile(rf"(?<=  )(?:{pattern})(?=   |$)", re.MULTILINE)


_BAD_CELL, _WAITING_CELL, _READY_CELL = _cell(_BAD), _cell(_WAITING), _cell(r"(\d+)/(\d+)")
_NO_ENDPOINTS = re.compile(r"(?<=   )<none>(?= {3,}\S+$)", re.MULTILINE)


def table(text: str) -> str:
    """What ``get`` prints: what is not ready is red, what waits is yellow, and Services without endpoints are red.

    Cells are told by how they look: no name has capitals, and no value of another column looks so.
    """
    return "\n\n".join(map(_one_table, text.split("\n\n")))


def _one_table(text: str) -> str:
    text = _BAD_CELL.sub(_red, text)
    text = _WAITING_CELL.sub(lambda found: _in(_YELLOW, found[0]), text)
    text = _READY_CELL.sub(lambda found: _red(found) if int(found[1]) < int(found[2]) else found[0], text)
    return _NO_ENDPOINTS.sub(_red, text) if " ENDPOINTS " in text.partition("\n")[0] else text


def _red(found: re.Match[str]) -> str:
    return _in(_RED, found[0])


_BAD_FIELD = re.compile(
    rf"^(Endpoints: +(?=<none>$)|Ready: +(?=False|Unknown)|Status: +(?=(?:{_BAD})$))(.*)$", re.MULTILINE
)
_WARNING_EVENT = re.compile(r"^(  )(Warning)(?=  )", re.MULTILINE)


def description(text: str) -> str:
    """What ``describe`` prints."""
    text = _BAD_FIELD.sub(lambda found: found[1] + _in(_RED, found[2]), text)
    return _WARNING_EVENT.sub(lambda found: found[1] + _in(_YELLOW, found[2]), text)


_FIELD = re.compile(r"^(?:([A-Z][A-Za-z ]*):)?( +)(\S.*)$")


def status(text: str) -> str:
    """What ``status`` prints: health, refusals, problems and the last error."""
    lines, code = [], ""
    for line in text.split("\n"):
        if (found := _FIELD.match(line)) is None:
            lines.append(line)
            continue
        if found[1]:  # what stands below, without a name, goes on with this field
            code = _status_colour(found[1], found[3])
        lines.append(line[: found.start(3)] + _in(code, found[3]) if code else line)
    return "\n".join(lines)


def _status_colour(name: str, value: str) -> str:
    if name == "Health":
        return _GREEN if value.startswith("all is well") else _RED
    if name in ("Refused", "Problems"):
        return "" if value == "none" else _RED
    if name == "Last error":
        return _YELLOW if "solved since: " in value else _RED
    return _YELLOW if name in ("No endpoints", "Log") else ""


_STATE = re.compile(r"^(ok|warning|failed)(?=  )", re.MULTILINE)
_OF_STATE = {"ok": _GREEN, "warning": _YELLOW, "failed": _RED}


def findings(text: str) -> str:
    """What ``doctor`` prints: how each thing is."""
    return _STATE.sub(lambda found: _in(_OF_STATE[found[1]], found[1]), text)


_ANSWER = re.compile(r"^((?:answer|outcome) +)(.+)$", re.MULTILINE)


def walk(text: str) -> str:
    """What ``trace`` prints: whether the connection comes to an end where somebody answers."""

    def one(found: re.Match[str]) -> str:
        is_well = found[2].startswith(("reaches ", "forwarded")) and "reach nobody" not in found[2]
        return found[1] + _in(_GREEN if is_well else _RED, found[2])

    return _ANSWER.sub(one, text)
