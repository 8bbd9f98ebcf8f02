"""Listings of nft: our own tables after somebody has changed them, and the forward chains of others.

An input is what a table of ours has beyond that of a node without Services, which is added to it: it would be most of
each input.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from functools import cache
from itertools import islice

from fuzz.engine import Target
from fuzz.targets.common import (
    FACTS,
    MAPS,
    NOW,
    RANGES,
    ROOT,
    SCHEMAS,
    check_commands,
    check_lines,
    manifests,
    serve,
    small,
)
from nodeport_nft.forwarding import BaseChain, Endpoint, Judge, Listing, Traffic, obstacles
from nodeport_nft.kernel.nft import _first, too_old
from nodeport_nft.manifest import read_manifests
from nodeport_nft.model import Family, Snapshot
from nodeport_nft.plan import ListedTable, plan_replacement
from nodeport_nft.render import write_transaction
from nodeport_nft.ruleset import Table
from nodeport_nft.store import Store
from nodeport_nft.trace import Packet, TraceError, trace
from tests.listings.read import ListedText, read_table, schema_differences

_SOURCES = {
    Family.IPV4: ("192.0.2.1", "10.244.1.2", "127.0.0.1"),
    Family.IPV6: ("2001:db8::1", "fd00:244:1::2", "::1"),
}


def run(data: bytes) -> None:
    """Read, compare, take over, write the difference, trace; and look for obstacles in it."""
    text = data.decode(errors="replace")  # nft's binding decodes, too
    family = Family.IPV6 if text.startswith("table ip6") else Family.IPV4
    listed = read_table(text, MAPS[family])
    _complete(listed, family)
    check_lines(listed.differences)
    check_lines(listed.unreadable)
    if listed.differences:  # the table is replaced, with what its sets have learned
        check_commands(write_transaction(plan_replacement(Table(MAPS[family]), listed.memories)))
    else:
        serve(_snapshot(), {family: listed})
        _trace(listed, family)
    _look_for_obstacles(text)
    too_old(text)
    _first(text)


def _complete(listed: ListedText, family: Family) -> None:
    """Add what it lacks of an empty table of ours."""
    empty = _empty(family)
    listed.comment = listed.comment or empty.comment
    listed.maps = {**empty.maps, **listed.maps}
    listed.differences = schema_differences(listed, MAPS[family])


def _trace(listed: ListedTable, family: Family) -> None:
    table = listed.table(SCHEMAS[family])
    frontends = islice(table.elements.get("service-ips", {}), 3)
    node_ports = islice(table.elements.get("node-ports", {}), 3)
    own = {str(ip) for ip in FACTS.node_port_ips}
    node = next(str(ip) for ip in FACTS.node_port_ips if ip.version == int(family))
    for address, protocol, port in (*frontends, *((node, *key) for key in node_ports)):
        for source in _SOURCES[family]:
            from_node = source in ("127.0.0.1", "::1")
            packet = Packet(source, str(address), str(protocol), int(port), from_node)
            try:
                trace(table, packet, own)
            except TraceError as error:
                check_lines([str(error)])


_CHAIN = re.compile(r"\tchain (\S+) \{\n(.*?)\n\t\}", re.DOTALL)


_BASE = re.compile(
    r"\tchain (\S+) \{\n\t\ttype filter hook (prerouting|input|forward|postrouting) priority [^;\n]*; policy (\w+);"
)
_SET = re.compile(r"\t(?:set|map) (\S+) \{\n.*?\n\t\}", re.DOTALL)
_ENDPOINTS = (
    Endpoint(Family.IPV4, "tcp", "10.244.1.2", 8080, "", 30010),
    Endpoint(Family.IPV6, "udp", "fd00:244:1::2", 53, "fd00:96::a", 53),
    Endpoint(Family.IPV4, "tcp", "172.30.1.2", 9100, "10.96.0.10", 80),
)


def _look_for_obstacles(text: str) -> None:
    chains = {name: body.splitlines() for name, body in _CHAIN.findall(text)}
    sets = {match[1]: match[0] for match in _SET.finditer(text)}
    listed: list[str] = []

    def rules(name: str) -> list[str]:
        listed.append(name)
        return [line.strip() for line in chains[name] if not line.strip().startswith("type ")]

    out = {endpoint.address: "pod2" if endpoint.port != 9100 else "" for endpoint in _ENDPOINTS}
    traffic = Traffic(_ENDPOINTS, out, dict.fromkeys(Family, ("eth0",)))
    for match in _BASE.finditer(text):  # the kernel tells these itself, and not in words
        listed.clear()
        chain = BaseChain("inet", "fw", match[1], match[3] == "drop", match[2])
        check_lines(obstacles([Judge(chain, Listing(rules, sets.__getitem__))], traffic))
        # Each is a question to the kernel.
        assert len(listed) == len(set(listed)), f"a chain is listed twice: {listed[:5]}"


@cache
def _empty(family: Family) -> ListedText:
    return read_table(_text(Table(MAPS[family])), MAPS[family])


def _text(table: Table) -> str:
    """What nft lists once this is programmed."""
    return write_transaction(plan_replacement(table, {})).split("\n", 2)[2]


@cache
def _snapshot() -> Snapshot:
    return _read(manifests()[0])


def _read(text: bytes) -> Snapshot:
    with Store(":memory:", ranges=RANGES) as store:
        with store.transaction() as transaction:
            transaction.apply(read_manifests(["-"], ranges=RANGES, stdin=io.BytesIO(text)).objects, now=NOW)
        return store.snapshot()


_BLOCK = re.compile(r"\t(?:map|set|chain) \S+ \{\n.*?\n\t\}\n", re.DOTALL)


def seeds() -> Sequence[bytes]:
    """The tables of all cases without what every table has, and forward chains of others."""
    found = [_OTHERS.encode()]
    everywhere = {block for schema in MAPS.values() for block in _BLOCK.findall(_text(Table(schema)))}
    for text in manifests():
        for table in small(serve(_read(text))):
            blocks = [block for block in _BLOCK.findall(_text(table)) if block not in everywhere]
            found.append(f"table {table.schema.family} {table.schema.name} {{\n{''.join(blocks)}}}\n".encode())
    return found


_OTHERS = (ROOT / "fuzz/seeds/forward-chains.nft").read_text(encoding="utf-8")

TOKENS = (
    *b"goto jump drop accept return reject ct status dnat state new established,related vmap counter packets".split(),
    *b"comment elements = { 0x4000 0x1/1 timeout 3h expires 2h59m58s132ms 99999999999999999999h refuse".split(),
    *b"service/1 service/16 node-port/2 affinity/ firewall/ services node-ports service-ips flags interval".split(),
    *b'1000000 4294967295 "a . : , masquerade fully-random numgen random mod'.split(),
    *(b"\t\t", b"\n\t}\n", b"\tchain a {\n", b"\tmap b {\n", b"\tset affinity/x {\n"),
    *(b"type filter hook forward priority 0; policy drop;", b"elements = { ", b"devices = { "),
)

TARGET = Target("listings", run, seeds, TOKENS)
