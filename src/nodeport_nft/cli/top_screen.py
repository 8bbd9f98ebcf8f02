"""The screen of ``top``: a table that is drawn again after each reading, and a few keys."""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nodeport_nft.cli.colour import wants_colour
from nodeport_nft.cli.top_table import Course, cells, course_header, header, orders, row_name, rows
from nodeport_nft.observe.rates import Rates, Sampler
from nodeport_nft.terminal import visible, visible_in

if TYPE_CHECKING:
    from nodeport_nft.cli.top_table import Rate

_LINES_AROUND = 6
"""Lines of the screen that are not rows: two above, the table's header, a rest, the keys."""

_NO_DAEMON = "counted by the kernel; no daemon answers here, and none is needed for it"

_REST = 4.0
"""How many times as long as a reading took nothing is read: on a node with very many Services one takes a second."""

_ESCAPE, _DELETE, _ENTER = "\x1b", ("\x7f", "\b"), ("\r", "\n")


class Screen:
    """Shows ``rates``, then what ``sampler`` reads every ``seconds``.

    ``daemon`` says how the daemon does; "": none answers.
    """

    def __init__(self, kind: str, sampler: Sampler, rates: Rates, seconds: float, daemon: Callable[[], str]) -> None:
        self._kind = kind
        self._sampler = sampler
        self._seconds = seconds
        self._daemon = daemon
        self._orders = orders(kind)
        self._order = next(iter(self._orders))
        self._filter = ""
        self._is_typing = False
        self._course = Course()
        self._rest = 0.0
        self._encoding = "utf-8"
        self.take(rates)

    def take(self, rates: Rates) -> None:
        """These are the rates now."""
        self._rates = rates
        self._shown = self._course.add(rows(rates, self._kind))
        self._said = self._daemon()

    def run(self) -> None:
        """Until q is pressed, or Ctrl-C. Raises KernelError where the kernel refuses."""
        console = Console(no_color=not wants_colour(sys.stdout))
        self._encoding = console.encoding
        gc.enable()  # which ``entry`` has switched off for commands that end at once
        signal.signal(
            signal.SIGTERM, lambda number, _: sys.exit(128 + number)
        )  # by way of what restores the terminal
        with suppress(KeyboardInterrupt):
            self._go_on(console)

    def _go_on(self, console: Console) -> None:
        with _keys(), Live(console=console, screen=True, auto_refresh=False) as live:
            due = time.monotonic() + self._pause()
            while True:
                live.update(self.drawn(console.size.height), refresh=True)
                for key in _pressed(due - time.monotonic()):
                    if not self.press(key):
                        return
                if time.monotonic() >= due:
                    begun = time.monotonic()
                    rates = self._sampler.sample()
                    self._rest = _REST * (time.monotonic() - begun)
                    if rates:
                        self.take(rates)
                    due = time.monotonic() + self._pause()

    def _pause(self) -> float:
        return max(self._seconds, self._rest)

    def press(self, key: str) -> bool:
        """Do what a key is for; whether to go on."""
        if self._is_typing:
            if key == _ESCAPE:
                self._filter = ""
            if key in (_ESCAPE, *_ENTER):
                self._is_typing = False
            elif key in _DELETE:
                self._filter = self._filter[:-1]
            elif key.isprintable():
                self._filter += key
        elif key == "s":
            names = [*self._orders]
            self._order = names[(names.index(self._order) + 1) % len(names)]
        elif key == "f":
            self._is_typing = True
        elif key == _ESCAPE:
            self._filter = ""
        return key != "q" or self._is_typing

    def drawn(self, height: int) -> Group:
        """The screen, of so many lines."""
        shown = [rate for rate in self._shown if self._filter in "/".join(row_name(rate))]
        shown.sort(key=self._orders[self._order])
        room = max(height - _LINES_AROUND, 1)
        return Group(
            Text(self._title(), style="bold", no_wrap=True, overflow="ellipsis"),
            Text(
                self._visible(self._said or _NO_DAEMON),
                "" if self._said else "dim",
                no_wrap=True,
                overflow="ellipsis",
            ),
            self._table(shown[:room]),
            Text(self._below(len(shown), room), style="dim", no_wrap=True, overflow="ellipsis"),
            Text(self._keys_line(), style="reverse", no_wrap=True, overflow="ellipsis"),
        )

    def _title(self) -> str:
        return f"New connections a second by {self._kind.removesuffix('s')}, within {self._rates.seconds:.1f} s"

    def _table(self, shown: list[Rate]) -> Table:
        table = Table(box=None, expand=True, pad_edge=False, header_style="bold cyan")
        columns = header(self._kind)
        for name in columns:
            is_number = name.endswith("/S")
            table.add_column(name, justify="right" if is_number else "left", no_wrap=True, overflow="ellipsis")
        has_course = self._encoding.startswith("utf")
        if has_course:
            seconds = max(self._pause(), self._rates.seconds)  # the first reading is sooner, later ones may be late
            table.add_column(course_header(seconds), no_wrap=True, overflow="crop")
        for rate in shown:
            row = [Text(self._visible(cell), style="dim" if not rate.connections else "") for cell in cells(rate)]
            if self._kind == "services" and cells(rate)[-1] != "0":
                row[-1].stylize("bold red")
            course = [Text(self._course.drawn(rate), style="green")] if has_course else []
            table.add_row(*row, *course)
        return table

    def _below(self, count: int, room: int) -> str:
        if count > room:
            return f"and {count - room} more"
        if self._filter and self._shown and not count:
            return "no row fits the filter"
        if not self._shown:
            return "no new connections yet"
        return f"{self._rates.known} Services are served" if self._rates.known != 1 else "1 Service is served"

    def _visible(self, text: str) -> str:
        return visible_in(self._encoding, visible(text))

    def _keys_line(self) -> str:
        if self._is_typing:
            return f"filter: {self._visible(self._filter)}_ Enter: keep it, Esc: no filter"
        chosen = f" ({self._visible(self._filter)}; Esc: none)" if self._filter else ""
        return f"q: quit   s: sort ({self._order})   f: filter{chosen}"


@contextmanager
def _keys() -> Iterator[None]:
    """Keys come one by one, and are not shown."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _pressed(seconds: float) -> str:
    """The keys that are pressed within this time, as soon as there are any; q at the end of the terminal."""
    readable, _, _ = select.select([sys.stdin], [], [], max(seconds, 0.0))
    if not readable:
        return ""
    pressed = os.read(sys.stdin.fileno(), 256).decode(errors="ignore")
    if not pressed:
        return "q"
    return _ESCAPE if pressed.startswith("\x1b") else pressed  # the arrows are such sequences
