"""SCTP as far as it goes without SCTP sockets: one INIT chunk out, and what becomes of it.

An INIT packet is made by hand (RFC 9260, sections 3 and 3.3.2) and sent through a raw socket, as kernels
built without CONFIG_IP_SCTP still route, track and translate SCTP. Raw sockets in the pods catch it: address,
port and whether the CRC32c still holds (a translated port needs a new one). Nothing but ICMP errors answers.
A pod *without* such a raw socket answers with ICMP "protocol unreachable", which is UNREACHABLE here and not
to be taken for the REFUSED of "port unreachable".
"""

from __future__ import annotations

import errno
import itertools
import os
import selectors
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address

from lab.cluster import Cluster
from lab.outcome import IPAddress, Kind, Outcome, of_errno, read_icmp_error, watch_icmp_errors

IPPROTO_SCTP = 132
INIT = 1

_source_ports = itertools.cycle(range(40000, 60000))  # a new one each time, or connection tracking sees an old flow


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC32C = _crc32c_table()


def crc32c(data: bytes) -> int:
    """The Castagnoli CRC of ``data`` (RFC 9260, appendix A)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _CRC32C[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Init:
    """An SCTP packet that holds one INIT chunk; ``tag`` is the initiate tag, which no translation changes."""

    source_port: int
    to_port: int
    tag: int
    checksum_valid: bool = True

    def packed(self) -> bytes:
        """The packet with its right checksum, which lies in it in little-endian order."""
        ports = struct.pack("!HHI", self.source_port, self.to_port, 0)  # verification tag 0, as an INIT must have
        chunk = struct.pack("!BBHIIHHI", INIT, 0, 20, self.tag, 65536, 1, 1, self.tag)
        return ports + struct.pack("<I", crc32c(ports + bytes(4) + chunk)) + chunk


def parse_init(packet: bytes) -> Init | None:
    """The INIT in an SCTP packet (without the IP header), None if it is something else."""
    if len(packet) < 32 or packet[12] != INIT:
        return None
    source_port, to_port, _ = struct.unpack_from("!HHI", packet)
    (checksum,) = struct.unpack_from("<I", packet, 8)
    (tag,) = struct.unpack_from("!I", packet, 16)
    return Init(source_port, to_port, tag, checksum == crc32c(packet[:8] + bytes(4) + packet[12:]))


def sctp_probe(
    cluster: Cluster,
    source: str,
    destination: tuple[IPAddress | str, int],
    receivers: Sequence[str] | None = None,
    *,
    timeout: float = 30.0,
) -> Outcome:
    """Send one INIT from host ``source`` to (address, port) and say where it came out.

    ``receivers`` are the hosts that listen, all pods by default. REACHED names the first of them that the
    packet came to, with ``checksum_valid``; REFUSED and UNREACHABLE carry the ICMP type and code in
    ``detail``; SILENT after ``timeout`` seconds.
    """
    address = ip_address(destination[0])
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    init = Init(next(_source_ports), destination[1], int.from_bytes(os.urandom(4)) | 1)
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for receiver in cluster.pods if receivers is None else receivers:
            selector.register(
                stack.enter_context(_raw_socket(cluster, receiver, family)), selectors.EVENT_READ, receiver
            )
        sender = stack.enter_context(_raw_socket(cluster, source, family))
        watch_icmp_errors(sender)
        deadline = time.monotonic() + timeout
        try:
            sender.connect((str(address), 0))
            sender.send(init.packed())
        except OSError as error:
            if error.errno != errno.EPERM:  # a packet filter's drop on the way out; see probe
                return read_icmp_error(sender) or of_errno(error.errno or errno.EIO)
        selector.register(sender, selectors.EVENT_READ, None)
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                outcome = read_icmp_error(sock) if key.data is None else _read_init(sock, key.data, init)
                if outcome is not None:
                    return outcome
    return Outcome(Kind.SILENT)


def _raw_socket(cluster: Cluster, host: str, family: socket.AddressFamily) -> socket.socket:
    sock = cluster.socket(host, family, socket.SOCK_RAW, IPPROTO_SCTP)
    sock.setblocking(False)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    return sock


def _read_init(sock: socket.socket, receiver: str, wanted: Init) -> Outcome | None:
    """The next packet of a receiver's socket as an outcome, None if it is not the INIT we wait for."""
    packet, ancillary, _, source = sock.recvmsg(1 << 16, 128)
    if sock.family == socket.AF_INET6:
        to = ip_address(ancillary[0][2][:16])  # in6_pktinfo begins with the address
    else:
        to = ip_address(packet[16:20])
        packet = packet[(packet[0] & 0x0F) * 4 :]
    init = parse_init(packet)
    if init is None or init.tag != wanted.tag:
        return None
    return Outcome(
        Kind.REACHED, receiver, ip_address(source[0]), init.source_port, to, init.to_port, init.checksum_valid
    )
