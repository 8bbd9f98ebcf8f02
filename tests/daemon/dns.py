"""The node's DNS server: Debian's dnsmasq as contrib/dns has it, and questions to it over the wire."""

from __future__ import annotations

import secrets
import shlex
import shutil
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

from lab.cluster import Cluster
from tests.daemon.running import wait_for

CONTRIB = Path(__file__).parents[2] / "contrib" / "dns"
UNIT = CONTRIB / "nodeport-nft-dns.service"
NODE_DNS = ("169.254.20.10", "fd00:169:254:20::10")
CLUSTER_DNS = ("10.96.0.10", "fd00:10:96::a")

TYPES = {"A": 1, "PTR": 12, "AAAA": 28}
NXDOMAIN = ["no such name"]

SECONDS = 30.0
"""How long an answer is waited for."""


@contextmanager
def names_directory() -> Iterator[Path]:
    """A free path in the test's own /run, which everybody may read and root alone may write to."""
    path = Path("/run") / f"names-{secrets.token_hex(4)}"
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def dnsmasq(cluster: Cluster, node: str, names: Path, directory: Path) -> Iterator[None]:
    """The server as the unit and the configuration of contrib/dns have it, with IPv6; it reads ``names``.

    What systemd would do is read from the unit, the capabilities that it leaves among it.
    """
    paths = {"/var/lib/nodeport-nft/names": str(names), "/etc/nodeport-nft/dnsmasq.conf": str(directory / "conf")}
    config = (CONTRIB / "dnsmasq.conf").read_text().replace("#listen-address", "listen-address")
    (directory / "conf").write_text(_with(paths, config.replace("#no-resolv", "no-resolv")))
    unit = [line.partition("=")[::2] for line in _with(paths, UNIT.read_text()).splitlines()]
    (capabilities,) = (value.split() for key, value in unit if key == "CapabilityBoundingSet")
    bounds = ",".join(["-all", *(f"+{each.removeprefix('CAP_').lower()}" for each in capabilities)])
    restricted = ["setpriv", f"--bounding-set={bounds}", "--no-new-privs"]
    for key, value in unit:
        if key == "ExecStartPre":
            cluster.run(node, [*restricted, *shlex.split(value.removeprefix("-"))])
    assert names.is_dir()
    (command,) = (value for key, value in unit if key == "ExecStart")
    server = cluster.popen(node, [*restricted, *shlex.split(command)])
    try:
        wait_for(lambda: answers(cluster, node, NODE_DNS[0]), "dnsmasq", SECONDS)
        yield
    finally:
        cluster.stop(server)
        for address, length in zip(NODE_DNS, (32, 128), strict=True):
            cluster.run(node, ["ip", "address", "del", f"{address}/{length}", "dev", "lo"])


def _with(paths: Mapping[str, str], text: str) -> str:
    for path, own in paths.items():
        assert path in text or path.endswith(".conf")
        text = text.replace(path, own)
    return text.replace("/var/lib/nodeport-nft ", " ")  # the directory above, which is there


def answers(cluster: Cluster, host: str, server: str) -> bool:
    """Whether somebody answers there."""
    try:
        return asked(cluster, host, "nobody.default.svc.cluster.local", server=server) == NXDOMAIN
    except OSError:
        return False


def asked(
    cluster: Cluster, host: str, name: str, kind: str = "A", *, server: str = CLUSTER_DNS[0], tcp: bool = False
) -> list[str]:
    """What the server answers to ``host``, sorted: addresses or names; ``NXDOMAIN``. Raises OSError."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    query = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    number = secrets.randbelow(1 << 16)
    question = struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + query + struct.pack(">BHH", 0, TYPES[kind], 1)
    with cluster.socket(host, family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
        sock.settimeout(SECONDS)
        sock.connect((server, 53))
        sock.sendall(struct.pack(">H", len(question)) * tcp + question)
        answer = sock.recv(1 << 16)
        while tcp and (len(answer) < 2 or len(answer) < 2 + struct.unpack(">H", answer[:2])[0]):
            more = sock.recv(1 << 16)
            assert more, "the answer was cut"
            answer += more
    return _read(answer[2:] if tcp else answer, number)


def _read(answer: bytes, number: int) -> list[str]:
    got, flags, _, count, _, _ = struct.unpack(">6H", answer[:12])
    assert got == number
    assert not flags & 0x0200, "truncated: ask with TCP"
    if flags & 15 == 3:
        return NXDOMAIN
    assert flags & 15 == 0, f"rcode {flags & 15}"
    _, at = _name(answer, 12)
    at += 4
    found = []
    for _ in range(count):
        _, at = _name(answer, at)
        kind, _, _, length = struct.unpack(">HHIH", answer[at : at + 10])
        at += 10
        found.append(_name(answer, at)[0] if kind == TYPES["PTR"] else str(ip_address(answer[at : at + length])))
        at += length
    return sorted(found)


def _name(answer: bytes, at: int) -> tuple[str, int]:
    """A name and what comes behind it (RFC 1035, 4.1.4)."""
    labels: list[str] = []
    while length := answer[at]:
        if length & 0xC0:
            rest, _ = _name(answer, struct.unpack(">H", answer[at : at + 2])[0] & 0x3FFF)
            return ".".join([*labels, rest]), at + 2
        labels.append(answer[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), at + 1
