"""What ``top`` prints: rows, a table, JSON, and the course of the last minutes; pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from nodeport_nft.cli.layout import table

if TYPE_CHECKING:
    from nodeport_nft.observe.rates import EndpointRate, Rates, ServiceRate

    Rate = ServiceRate | EndpointRate

_HEADERS = {
    "services": ("NAMESPACE", "NAME", "NEW/S", "REFUSED/S"),
    "endpoints": ("NAMESPACE", "SERVICE", "PORT", "ENDPOINT", "NEW/S"),
}
_BARS = "▁▂▃▄▅▆▇█"
COURSE = 24
"""Readings in the course of a row."""


def header(kind: str) -> tuple[str, ...]:
    """The columns' names; ``kind`` is "services" or "endpoints"."""
    return _HEADERS[kind]


def rows(rates: Rates, kind: str) -> Sequence[Rate]:
    """What is shown of one kind, the most connections first."""
    return rates.services if kind == "services" else rates.endpoints


def cells(rate: Rate) -> tuple[str, ...]:
    """A row, its names before its numbers."""
    from nodeport_nft.observe.rates import ServiceRate

    if isinstance(rate, ServiceRate):
        return rate.namespace, rate.name, number(rate.connections), number(rate.refused)
    return rate.namespace, rate.name, rate.port or "<unset>", rate.endpoint, number(rate.connections)


def number(rate: float) -> str:
    """A rate, as exact as it is of use: "0", "0.3", "12.5", "340"."""
    if not rate:
        return "0"
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 0.1 else f"{rate:.2g}"


def to_table(rates: Rates, kind: str, *, headers: bool = True) -> str:
    """The table; "" if nothing is to be shown."""
    shown = [cells(rate) for rate in rows(rates, kind)]
    return table(header(kind) if headers else None, shown) if shown else ""


def summary(rates: Rates, kind: str) -> str:
    """What the numbers are, and how many Services are not shown."""
    with_any = sum(rate.connections > 0 for rate in rates.services)
    served = f"{rates.known} Service{'s' * (rates.known != 1)}"
    text = f"new connections a second within {rates.seconds:.1f} s through this node; {with_any} of {served} had any"
    if kind == "endpoints" and rates.endpoints_of < rates.known:
        text += f"; endpoints are those of the {rates.endpoints_of} with most, name a Service for another one's"
    return text


def to_json(rates: Rates, kind: str, now: float) -> str:
    """One JSON object. ``now`` is a Unix time in seconds, when the second reading was."""
    from nodeport_nft.cli.output_formats import to_json as written
    from nodeport_nft.observe.rates import ServiceRate

    listed = []
    for rate in rows(rates, kind):
        told: dict[str, object] = {"namespace": rate.namespace, "service": rate.name}
        if isinstance(rate, ServiceRate):
            told["refusedPerSecond"] = round(rate.refused, 3)
        else:
            told |= {"port": rate.port, "endpoint": rate.endpoint}
        listed.append({**told, "newConnectionsPerSecond": round(rate.connections, 3)})
    read = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    document = {"readAt": read, "seconds": round(rates.seconds, 3), "servicesServed": rates.known, kind: listed}
    if kind == "endpoints":
        document["endpointsOfServices"] = rates.endpoints_of
    return written(document)


class Course:
    """How the rates of rows went over the last readings, for those that had any."""

    def __init__(self) -> None:
        self._courses: dict[tuple[str, ...], deque[float]] = {}
        self._last: dict[tuple[str, ...], Rate] = {}

    def add(self, shown: Iterable[Rate]) -> tuple[Rate, ...]:
        """Take in one reading; its rows, and those that had connections lately, which keep a place on the screen."""
        now = {row_name(rate): rate for rate in shown}
        for name, rate in now.items():
            if rate.connections and name not in self._courses:
                self._courses[name] = deque([0.0] * COURSE, maxlen=COURSE)
        for name, course in tuple(self._courses.items()):
            course.append(now[name].connections if name in now else 0.0)
            if any(course):
                self._last[name] = now.get(name) or _at_rest(self._last[name])
            else:
                del self._courses[name]
                self._last.pop(name, None)
        return (*now.values(), *(rate for name, rate in self._last.items() if name not in now))

    def drawn(self, rate: Rate) -> str:
        """A bar for each reading, the highest of the row being full."""
        course = self._courses.get(row_name(rate))
        if course is None:
            return _BARS[0] * COURSE
        return "".join(_BARS[round(each / max(course) * (len(_BARS) - 1))] for each in course)


def course_header(seconds: float) -> str:
    """What time the course of a row is of, if a reading is made every ``seconds``."""
    span = COURSE * seconds
    return f"LAST {span:.0f} S" if span < 100 else f"LAST {span / 60:.0f} MIN"


def _at_rest(rate: Rate) -> Rate:
    from nodeport_nft.observe.rates import ServiceRate

    if isinstance(rate, ServiceRate):
        return replace(rate, connections=0.0, refused=0.0)
    return replace(rate, connections=0.0)


def row_name(rate: Rate) -> tuple[str, ...]:
    """What tells a row from the others."""
    from nodeport_nft.observe.rates import ServiceRate

    if isinstance(rate, ServiceRate):
        return rate.namespace, rate.name
    return rate.namespace, rate.name, rate.port, rate.endpoint


Order = Callable[["Rate"], tuple[object, ...]]


def orders(kind: str) -> dict[str, Order]:
    """The orders that a screen goes through, by what they are called."""
    from nodeport_nft.observe.rates import ServiceRate

    def refused(rate: Rate) -> tuple[object, ...]:
        return (-rate.refused if isinstance(rate, ServiceRate) else 0, -rate.connections, row_name(rate))

    found: dict[str, Order] = {"new connections": lambda rate: (-rate.connections, row_name(rate))}
    if kind == "services":
        found["refused"] = refused
    return {**found, "name": row_name}
