"""What an API server answers beside objects: refusals, warnings, when to ask again. Whoever is between answers, too.

Sources: meta/v1 Status; RFC 9110, 10.2.3 (Retry-After); RFC 7234, 5.5 (Warning), of which the API uses code 299.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from msgspec import Struct, field

from nodeport_nft.problems import clipped
from nodeport_nft.store.kubernetes.errors import Cause, Refused
from nodeport_nft.terminal import printable

_LONGEST = 300  # characters of what is no Status
_LONGEST_TOLD = 4000  # of what is one: a fault for each of some hundred ports
_WARNING = re.compile(r'\b(\d{3}) \S+ "((?:[^"\\]|\\.)*)"')
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.DOTALL | re.IGNORECASE)


class Answer(Struct, frozen=True):
    """An answer of success: its ``body``, and the ``warnings`` of the server."""

    status: int
    body: bytes
    warnings: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal(code: int, body: bytes, headers: Mapping[str, str]) -> Refused:
    """What an answer of failure says; it need not be JSON, since proxies answer, too."""
    after = retry_after(headers.get("Retry-After", ""))
    status = _status(body)
    if status is None:
        return Refused(_no_status(code, body, headers), code, "", (), after, body)
    details = _mapping(status.get("details"))
    causes = tuple(
        Cause(*(_text(each.get(name)) for name in ("reason", "message", "field")))
        for each in map(_mapping, _list(details.get("causes")))
    )
    seconds = details.get("retryAfterSeconds")
    if not after and type(seconds) is int and seconds > 0:
        after = float(seconds)
    message = _text(status.get("message")) or _text(status.get("reason")) or f"status {code} without a reason"
    return Refused(message, code, _text(status.get("reason")), causes, after, body)


def is_page(headers: Mapping[str, str]) -> bool:
    """Whether an answer is for people to look at: no API server gives such."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml")


def page(code: int, body: bytes) -> str:
    """What is said of such an answer: its title."""
    found = _TITLE.search(body[:1_000_000].decode(errors="replace"))
    title = f' ("{clipped(" ".join(found[1].split()), _LONGEST)}")' if found else ""
    return (
        f"status {code} with a page of HTML{title}: who answers is not an API server; "
        "compare the server of the kubeconfig, and look for a proxy between"
    )


def warnings(headers: Iterable[str]) -> tuple[str, ...]:
    """The texts of Warning headers, each once."""
    found = (match for header in headers for match in _WARNING.finditer(header))
    texts = (printable(re.sub(r"\\(.)", r"\1", match[2])) for match in found if match[1] == "299")
    return tuple(dict.fromkeys(text for text in texts if text))


def retry_after(header: str) -> float:
    """In how many seconds to ask again, 0.0 where nothing is said; the header may also be a date."""
    header = header.strip()
    if re.fullmatch(r"[0-9]{1,9}", header):
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _no_status(code: int, body: bytes, headers: Mapping[str, str]) -> str:
    """What is said of a failure that is in nobody's format."""
    if 300 <= code < 400:
        where = clipped(headers.get("Location", "elsewhere"), _LONGEST)
        return f"status {code}, which leads to {where}; if the API server is there, name it in the kubeconfig"
    if is_page(headers):
        return page(code, body)
    said = clipped(" ".join(body[:_LONGEST].decode(errors="replace").split()), _LONGEST)
    if "HTTP request to an HTTPS server" in said:
        return f"{said.rstrip('.')}; write https:// as the server of the kubeconfig"
    return said or f"status {code} without a word"


def _status(body: bytes) -> dict[str, Any] | None:
    try:
        status = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return status if isinstance(status, dict) and status.get("kind") == "Status" else None


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    """A text of the server's in lines that a terminal may have: webhooks and names of others are in it."""
    return "\n".join(map(printable, value[:_LONGEST_TOLD].split("\n"))) if isinstance(value, str) else ""
