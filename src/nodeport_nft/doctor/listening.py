"""Who listens on which ports in this network namespace, as the kernel's tables tell it (proc_pid_net(5))."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from msgspec import Struct

from nodeport_nft.model import IPAddress

_LISTENING = {"tcp": "0A", "udp": "07"}  # TCP_LISTEN and, of UDP, TCP_CLOSE: not connected (linux/tcp_states.h)


class Listener(Struct, frozen=True):
    """A socket that takes what comes; ``process`` is "NAME (process ID)", "" where it cannot be seen from here."""

    protocol: str
    address: IPAddress
    port: int
    process: str = ""


def listeners(ports: Collection[int]) -> list[Listener]:
    """The sockets that listen on any of these ports, TCP and UDP."""
    found = [(int(inode), listener) for inode, listener in _sockets(frozenset(ports))]
    if not found:
        return []
    names = _processes({inode for inode, _ in found})
    return [Listener(each.protocol, each.address, each.port, names.get(inode, "")) for inode, each in found]


def _sockets(ports: Collection[int]) -> Iterator[tuple[str, Listener]]:
    for protocol, state in _LISTENING.items():
        for suffix in ("", "6"):
            try:
                lines = Path(f"/proc/thread-self/net/{protocol}{suffix}").read_text(encoding="ascii").splitlines()
            except OSError:  # a kernel without IPv6
                continue
            for line in lines[1:]:
                words = line.split()
                place, _, port = words[1].partition(":")
                if words[3] == state and int(port, 16) in ports:
                    yield words[9], Listener(protocol, _address(place), int(port, 16))


def _address(text: str) -> IPAddress:
    """The kernel writes each 32-bit word in the host's own byte order."""
    words = struct.pack(f"={len(text) // 8}I", *(int(text[at : at + 8], 16) for at in range(0, len(text), 8)))
    address: IPAddress = ip_address(words)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return IPv4Address(address.ipv4_mapped)
    return address


def _processes(inodes: Collection[int]) -> dict[int, str]:
    """Whose these sockets are, as far as it may be seen."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, str] = {}
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        with suppress(OSError):  # it has ended, or is not ours to look at
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    inode = wanted.get(str(descriptor.readlink()))
                    if inode is not None:
                        name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                        found[inode] = f"{name} (process {process.name})"
        if len(found) == len(wanted):
            break
    return found
