"""The part of a table that is the same whatever the services, and what comes from the node."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network

from msgspec import Struct

from nodeport_nft.model import Family, IPNetwork, NodeFacts, NodePortMode
from nodeport_nft.ruleset import (
    Chain,
    Dispatch,
    DnatSlot,
    Drop,
    Element,
    Established,
    Field,
    Goto,
    Hook,
    InSet,
    Interface,
    Jump,
    Local,
    Map,
    MarkFlip,
    MarkHas,
    MarkSet,
    Masquerade,
    NotIn,
    Offload,
    Reject,
    Rule,
    Schema,
    Statement,
    Translated,
)

TABLE = "nodeport-nft"
"""The name of our table in both families, and of no other."""

FLOWTABLE = "fast-path"
"""The name of the flowtable, where the operator wants one."""

TRIES = 6
"""Draws below N before the draw below N/2: the deviation from uniform stays under 2 % for any number."""

SIZES = tuple(1 << i for i in range(13))
"""Numbers of slots there are chains for."""

MAX_ENDPOINTS = SIZES[-1]
"""Endpoints one frontend can have (4,096); the others are left out and reported."""

MAGLEV = "maglev"
"""What stands for the size in the names of the chains that hash."""

MAGLEV_SLOTS = 251
"""Slots of a consistent-hashing frontend: a prime number, as Maglev needs it."""

_VIP = (Field.DADDR, Field.L4PROTO, Field.DPORT)
_PORT = (Field.L4PROTO, Field.DPORT)
_ENDPOINT = (Field.DADDR, Field.DPORT)
_LOOPBACK = {Family.IPV4: "127.0.0.0/8", Family.IPV6: "::1/128"}


class Kind(Struct, frozen=True):
    """How a kind of frontend appears in nft: its verdict map, its slot map, its chains, its key.

    ``inside`` is the verdict map that pods and processes of this node are led by where the policy is Local,
    ``firewall`` the one that leads to the sources that may connect.
    """

    map: str
    slots: str
    chain: str
    key: tuple[Field, ...]
    inside: str
    firewall: str


VIPS = Kind("service-ips", "service-endpoints", "service", _VIP, "short-circuit-ips", "firewall-ips")
NODE_PORTS = Kind(
    "node-ports", "node-port-endpoints", "node-port", _PORT, "short-circuit-node-ports", "firewall-node-ports"
)

LOCAL_SLOTS = 32768
"""The first slot of the pool of this node's own endpoints, behind the same key as the pool of all (policy Local)."""


def nft_family(family: Family) -> str:
    """nft's name of a family."""
    return "ip" if family is Family.IPV4 else "ip6"


@functools.lru_cache(maxsize=8)  # a node has two, and asks for them again with whatever is compiled beside its tables
def compile_schema(family: Family, facts: NodeFacts) -> Schema:
    """The table without its elements. It depends on the node's configuration and on no service."""
    mark = 1 << facts.masquerade_bit
    firewall, short_circuit = Jump("firewall"), Jump("short-circuit")
    pod = _from_pod(family, facts)
    chains = [
        _base(
            "nat-prerouting",
            "prerouting",
            -100,
            (firewall,),
            *([(pod, short_circuit)] if pod else []),
            (Jump("services"),),
        ),
        _base("nat-output", "output", -100, (firewall,), (short_circuit,), (Jump("services"),)),
        _postrouting(mark),
        Chain(
            "firewall",
            tuple(_look_up(family, facts, VIPS.firewall, NODE_PORTS.firewall)),
            comment="frontends that only some sources may connect to",
        ),
        Chain(
            "short-circuit",
            tuple(_look_up(family, facts, VIPS.inside, NODE_PORTS.inside)),
            comment="policy Local, for pods and processes of this node",
        ),
        Chain("services", tuple(_services(family, facts, mark)), comment="first packets, by destination"),
        Chain("refuse", ((Reject(tcp_reset=True),), (Reject(),)), comment="no endpoint, or no such port"),
        Chain("no-local-endpoint", ((Drop(),),), comment="policy Local, and all endpoints are elsewhere"),
    ]
    for size in SIZES:
        for kind in (VIPS, NODE_PORTS):
            chains += _sized(kind, size, mark)
    for kind in (VIPS, NODE_PORTS):
        chains += _hashed(kind, mark)
    if facts.flowtable:
        chains.append(_fast_path())
    flowtable = FLOWTABLE if facts.flowtable else ""
    return Schema(nft_family(family), TABLE, _MAPS, tuple(chains), _OWN_MAPS, _OWN_CHAINS, flowtable)


def _from_pod(family: Family, facts: NodeFacts, *, negated: bool = False) -> Statement | None:
    """What tells a pod of this node from others (P5); None if nothing does."""
    if facts.pod_interface:
        return Interface(facts.pod_interface, negated)
    if any(cidr.version == family for cidr in facts.pod_cidrs):
        return InSet((Field.SADDR,), "pod-cidrs", negated)
    return None


_MAPS = (
    Map("service-ips", _VIP, "verdict", counter=True, comment="address and port to its chain"),
    Map("node-ports", _PORT, "verdict", counter=True, comment="nodePort to its chain"),
    Map("short-circuit-ips", _VIP, "verdict", counter=True, comment="the same, policy Local, from inside"),
    Map("short-circuit-node-ports", _PORT, "verdict", counter=True, comment="the same, policy Local, from inside"),
    Map("firewall-ips", _VIP, "verdict", counter=True, comment="address and port to the sources that may connect"),
    Map("firewall-node-ports", _PORT, "verdict", counter=True, comment="nodePort to the sources that may connect"),
    Map("service-endpoints", (*_VIP, Field.SLOT), _ENDPOINT, counter=True, comment="slot to endpoint"),
    Map("node-port-endpoints", (*_PORT, Field.SLOT), _ENDPOINT, counter=True, comment="slot to endpoint"),
    Map("cluster-ips", (Field.DADDR,), comment="allocated clusterIPs"),
    Map("foreign-cluster-ips", (Field.DADDR,), comment="clusterIPs that another proxy serves"),
    Map("node-port-ips", (Field.DADDR,), comment="addresses of this node that serve nodePorts"),
    Map("service-cidrs", (Field.DADDR,), interval=True, comment="where clusterIPs come from"),
    Map("pod-cidrs", (Field.SADDR,), interval=True, comment="the pod network"),
    Map(
        "hairpin-connections",
        (Field.SADDR, *_VIP),
        lingers=True,
        comment="endpoints of this node that reach themselves",
    ),
)

_OWN_MAPS = (
    Map("firewall", (Field.SADDR,), interval=True, comment="sources that may connect"),
    Map("firewall-node-ports", (Field.SADDR,), interval=True, comment="sources that may connect"),
    Map("affinity", (Field.SADDR,), learned=True, comment="clients that keep this endpoint"),
)
AFFINITY_SUFFIXES = ("", "-local", "-prefer-local", "-external", "-inside")
_OWN_CHAINS = ("firewall", "firewall-node-ports", *(f"affinity{suffix}" for suffix in AFFINITY_SUFFIXES))


def _fast_path() -> Chain:
    """The one chain that sees more than first packets, until the flowtable has the connection (X11).

    Of translated connections alone: all others are somebody else's. The kernel leaves out what a flowtable cannot
    carry, SCTP and the ends of TCP connections among it (nft_flow_offload.c).
    """
    rule = (Established(), Translated(), Offload(FLOWTABLE))
    comment = "established connections; their further packets pass by all forward chains"
    return Chain("fast-path", (rule,), Hook("forward", 0, "filter"), comment)


def _base(name: str, hook: str, priority: int, *rules: Rule) -> Chain:
    return Chain(name, rules, Hook(hook, priority))


def _postrouting(mark: int) -> Chain:
    hairpin = InSet((Field.SADDR, *_VIP), "hairpin-connections")
    rules: tuple[Rule, ...] = (
        (MarkHas(mark), MarkFlip(mark), Masquerade()),
        (Translated(), hairpin, Masquerade()),
    )
    return Chain("nat-postrouting", rules, Hook("postrouting", 100))


def _services(family: Family, facts: NodeFacts, mark: int) -> Iterable[Rule]:
    to_cluster_ip = InSet((Field.DADDR,), "cluster-ips")
    to_service_cidr = InSet((Field.DADDR,), "service-cidrs")
    from_outside = _from_pod(family, facts, negated=True)
    not_foreign = InSet((Field.DADDR,), "foreign-cluster-ips", negated=True)
    # Not @cluster-ips: a commit between that look-up and the next would let a connection through unmarked.
    if facts.masquerade_all:
        yield to_service_cidr, not_foreign, MarkSet(mark)
    elif from_outside:
        yield to_service_cidr, not_foreign, from_outside, MarkSet(mark)
    yield from _look_up(family, facts, VIPS.map, NODE_PORTS.map)
    yield to_cluster_ip, Goto("refuse")
    yield to_service_cidr, not_foreign, Drop()


def _look_up(family: Family, facts: NodeFacts, vips: str, node_ports: str) -> Iterable[Rule]:
    """Ask two verdict maps about a packet: by address and port, and by nodePort."""
    yield (Dispatch(_VIP, vips),)
    yield *_to_node_port(family, facts), Dispatch(_PORT, node_ports)


def _to_node_port(family: Family, facts: NodeFacts) -> Rule:
    """Matches packets to an address that serves nodePorts (F2)."""
    if facts.node_port_mode is NodePortMode.ALL:
        return Local(), NotIn(Field.DADDR, _LOOPBACK[family])
    return (InSet((Field.DADDR,), "node-port-ips"),)


def _sized(kind: Kind, size: int, mark: int) -> Iterable[Chain]:
    """The chains of one size."""
    slots = f"{size} slot{'s' * (size > 1)}" if size <= 2 else f"{size // 2 + 1} to {size} slots"
    comment = f"{slots} filled; an empty one draws again" if size > 2 else f"{slots} filled"
    yield from _four(kind, str(size), comment, mark, lambda first: _draws(kind, size, first))


def _hashed(kind: Kind, mark: int) -> Iterable[Chain]:
    """The chains of consistent hashing: all slots are filled, but for a moment in which the size changes."""

    def draws(first: int) -> tuple[Rule, ...]:
        by_hash = DnatSlot(kind.key, MAGLEV_SLOTS, kind.slots, first, hashed=(Field.SADDR, Field.SPORT))
        return (by_hash,), (DnatSlot(kind.key, 1, kind.slots, first),), (Drop(),)

    comment = f"{MAGLEV_SLOTS} slots filled by consistent hashing (Maglev)"
    return _four(kind, MAGLEV, comment, mark, draws)


def _four(
    kind: Kind, size: str, comment: str, mark: int, draws: Callable[[int], tuple[Rule, ...]]
) -> Iterable[Chain]:
    """Two chains that draw, from all endpoints and from this node's own, and two that mark first."""
    draw = Goto(f"{kind.chain}/{size}")
    yield Chain(draw.chain, draws(0), comment=comment)
    yield Chain(f"{kind.chain}-local/{size}", draws(LOCAL_SLOTS), comment=f"on this node: {comment}")
    yield Chain(f"{kind.chain}-external/{size}", external(mark, draw))
    yield Chain(f"{kind.chain}-inside/{size}", inside(mark, draw))


def external(mark: int, then: Goto) -> tuple[Rule, ...]:
    """The rules for clients outside: their answers must come back through this node (P1)."""
    return (MarkSet(mark),), (then,)


def inside(mark: int, then: Goto) -> tuple[Rule, ...]:
    """The rules for pods and processes of this node, policy Local (P2).

    A process of the node has no address that an endpoint elsewhere could answer past this node.
    """
    return (Local(Field.SADDR), MarkSet(mark)), (then,)


def _draws(kind: Kind, size: int, first: int) -> tuple[Rule, ...]:
    draws = [size] * (TRIES if size > 1 else 1) + [n for n in (size // 2,) if n > 1] + [1] * (size > 1)
    return (*((DnatSlot(kind.key, n, kind.slots, first),) for n in draws), (Drop(),))


def compile_node(family: Family, facts: NodeFacts) -> tuple[tuple[str, Element], ...]:
    """The elements that come from the node and its configuration, as (set, element)."""
    own = [("node-port-ips", Element((str(ip),))) for ip in facts.node_port_ips if ip.version == family]
    for name, cidrs in (("service-cidrs", facts.service_cidrs), ("pod-cidrs", facts.pod_cidrs)):
        own += [(name, Element((prefix,))) for prefix in collapsed(cidrs, family)]
    return tuple(own)


def collapsed(cidrs: Iterable[IPNetwork], family: Family) -> Iterable[str]:
    """Prefixes that neither overlap nor join, as an interval set wants them; host prefixes as plain addresses."""
    kind, bits = (IPv4Network, 32) if family is Family.IPV4 else (IPv6Network, 128)
    for first, length in _joined([(int(c.network_address), c.prefixlen) for c in cidrs if c.version == family], bits):
        cidr = kind((first, length))
        yield str(cidr.network_address) if length == bits else str(cidr)


def _joined(prefixes: Iterable[tuple[int, int]], bits: int) -> Iterable[tuple[int, int]]:
    """The fewest prefixes that hold the same addresses, in their order; each its first address and its length.

    ``ipaddress.collapse_addresses`` keeps networks in a dict, and whoever writes IPv6 networks can give thousands of
    them one hash.
    """
    made: list[tuple[int, int]] = []
    end = -1  # the last address that is in what has been made
    for first, length in sorted(prefixes):
        if first <= end:
            continue  # inside one before it: of two prefixes with one first address, the shorter one comes first
        end = first + (1 << bits - length) - 1
        made.append((first, length))
        while len(made) > 1 and _are_halves(made[-2], made[-1], bits):
            first, length = made[-2]
            made[-2:] = [(first, length - 1)]
    return made


def _are_halves(left: tuple[int, int], right: tuple[int, int], bits: int) -> bool:
    """Whether these two prefixes, one behind the other, are all of the prefix that is one bit shorter."""
    size = 1 << bits - left[1]
    return left[1] == right[1] and left[0] + size == right[0] and not left[0] & size
