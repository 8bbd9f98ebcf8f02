"""The service manager that has started us, if one has: what it is told, and how often it wants to hear of us.

Sources: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from nodeport_nft.problems import shown
from nodeport_nft.terminal import visible_in

_PATIENCE_SECONDS = 3.0
_MOST_BYTES = 4096  # a longer message is ignored as a whole (systemd: NOTIFY_BUFFER_MAX, which is PIPE_BUF)
_SHORTEST_BEAT, _LONGEST_BEAT = 0.05, 3600.0
"""Seconds from one sign of life to the next: more often the loop would do nothing else."""


class Manager:
    """Its socket, as ``NOTIFY_SOCKET`` of ``environment`` names it: a path, or ``@`` and an abstract name.

    Nothing here raises for it. Where there is no manager, or it cannot be reached, nobody is told, and the next
    message is tried again.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        name = os.fsencode(environment.get("NOTIFY_SOCKET", ""))
        self._address = b"\0" + name[1:] if name.startswith(b"@") else name
        self._socket: socket.socket | None = None
        if name.startswith((b"/", b"@")):  # other kinds are for virtual machines
            with suppress(OSError):
                # Opened now and kept: signs of life are to go on where there are no descriptors left.
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def close(self) -> None:
        """Tell nothing more."""
        if self._socket:
            self._socket.close()
        self._socket = None

    def ready(self, status: str) -> None:
        """The node is programmed: the start is over, or a reload."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """How it goes, for people, in one line."""
        self._send(f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is being read again; ``ready`` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """A sign of life. It waits for nobody: where this one finds no room, the next one will do."""
        self._send("WATCHDOG=1", seconds=0.0)

    def _send(self, text: str, *, seconds: float = _PATIENCE_SECONDS) -> None:
        """One that does not listen holds us up for so long and no longer."""
        if self._socket is None:
            return
        with suppress(OSError):
            self._socket.settimeout(seconds)
            # Each time, for the manager may have opened it anew. Connected, so that a wait is one, and no busy loop:
            # poll(2) knows nothing of the room in a socket that it is not connected to.
            self._socket.connect(self._address)
            self._socket.send(visible_in("ascii", text).encode("ascii")[:_MOST_BYTES])


def read_watchdog(environment: Mapping[str, str], pid: int) -> tuple[float | None, str]:
    """How often the service manager wants a sign of life from process ``pid``, in seconds; None: it wants none.

    And what is wrong with what it says, which counts as nothing said. Source: sd_watchdog_enabled(3).
    """
    said, whose = environment.get("WATCHDOG_USEC"), environment.get("WATCHDOG_PID")
    if said is None:
        return None, ""
    for name, value in (("WATCHDOG_USEC", said), ("WATCHDOG_PID", whose)):
        # Not str.isdigit or int: they take digits of other scripts, and underscores.
        if value is not None and not re.fullmatch(r"0*[1-9][0-9]{0,18}", value, re.ASCII):
            return None, f"{name}: {shown(value)} is not a number, and no signs of life are given; unset it"
    if whose is not None and int(whose) != pid:
        return None, ""
    return min(max(int(said) / 2_000_000, _SHORTEST_BEAT), _LONGEST_BEAT), ""
