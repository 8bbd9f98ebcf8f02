"""Whom a request means to ask, by its ``Host``, and whether a browser sends it.

A web site can let its own name lead to an address inside (DNS rebinding), and then read what it finds there through
the browser of somebody who is inside. Such a request names the site. Prometheus and scripts name this machine as they
like, and no list of ours would have all of its names; but nobody makes them ask on a web site's behalf. What tells
browsers from them: ``Accept-Language``, which all browsers send with every request and a script on a page can change,
but not take away (Fetch Standard, "Fetching"), and ``Origin`` and ``Sec-Fetch-*``.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

_OF_BROWSERS = ("accept-language", "origin")
_SECURE = "sec-fetch-"


def is_asked_by_browser(headers: Iterable[str]) -> bool:
    """Whether a request with headers of these names may be one that a page has made a browser send."""
    return any(name.lower() in _OF_BROWSERS or name.lower().startswith(_SECURE) for name in headers)


def names_us(host: str, node: str) -> bool:
    """Whether a ``Host`` is an address, localhost or the node's name; or "", which no browser sends."""
    name = host.lower()
    if not name:
        return True
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    if name in ("localhost", node.lower()):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
