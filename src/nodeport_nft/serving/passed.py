"""Listening sockets that a service manager has opened and passed on, so that this process needs no right to.

Source: sd_listen_fds(3). Which is which is told by the address a socket is bound to, not by its name: the
configuration says where this program listens, and a socket somewhere else is left alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterable
from ipaddress import ip_address

from nodeport_nft.model import IPAddress

_FIRST = 3
"""The descriptor of the first one; the others follow it."""


def take_passed(address: IPAddress, number: int) -> socket.socket | None:
    """The passed socket that listens at this address and port, None if there is none.

    It does not block, and children do not inherit it.
    """
    for descriptor in _passed():
        with contextlib.suppress(OSError):  # closed meanwhile, or no socket
            found = socket.socket(fileno=os.dup(descriptor))
            if _listens_at(found, address, number):
                found.setblocking(False)
                return found
            found.close()
    return None


def _passed() -> Iterable[int]:
    """Their descriptors. Children inherit the variables, but not the sockets: hence the process id."""
    count = re.fullmatch(r"[0-9]{1,3}", os.environ.get("LISTEN_FDS", ""))
    if count is None or os.environ.get("LISTEN_PID") != str(os.getpid()):
        return ()
    return range(_FIRST, _FIRST + int(count[0]))


def _listens_at(listener: socket.socket, address: IPAddress, number: int) -> bool:
    if listener.family not in (socket.AF_INET, socket.AF_INET6) or listener.type != socket.SOCK_STREAM:
        return False
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    host, port, *_ = listener.getsockname()
    return (ip_address(host), port) == (address, number)
