"""Frontends → nftables values. The one place where Kubernetes' words become nft's.

The idea
========

A ruleset that names services grows with them, and so does the price of every change. Here the chains and rules
are the same for no service and for 100,000; everything that a service is stands in map elements:

``service-ips`` and ``node-ports`` (*verdict maps*)
    A frontend's key leads to a chain: ``goto refuse`` where it has no endpoint, else ``goto service/N`` or
    ``goto node-port/N``, which all services of that size share.

``service-endpoints`` and ``node-port-endpoints`` (*slot maps*)
    A frontend's key and a slot number give one endpoint. A frontend with n endpoints fills slots 0 to n-1.

Sizes are powers of two. N is the smallest that holds n slots, so slots n to N-1 are empty, fewer than half. A
chain draws a slot below N at random; an empty one makes the rule fail and the next one draws again, ``TRIES``
times. Then it draws below N/2, where every slot is full, then takes slot 0, then drops. What follows:

* Every size there can be exists from the start: 13 sizes, for each map two chains of at most 9 rules that draw (from
  all endpoints, and from this node's own) and two that mark first. No number of endpoints, new or
  not, ever adds a rule. (nft 1.0.6 could not: it refuses a rule with such a concatenation against a map that is
  in the kernel already, "conflicting protocols specified: ip vs. th".)
* One endpoint more is one element more. One fewer is one element less, and the last slot's endpoint moved into the
  hole. Only where n crosses a power of two does the frontend's verdict change too.
* The choice is uniform up to the rare case that all tries miss: then the lower half is drawn. The chance of an
  endpoint in the upper half is lower by at most (1/2)^TRIES = 1.6 %, and by 0.02 % for 3 endpoints.
* A packet may read the verdict before a commit and the slots after it. Drawing again covers that as well: the
  connection reaches an endpoint that is there, or is dropped, and TCP sends it again. It never leaves untranslated.
  It may also be translated before a commit and look for its hairpin pair after it. A pair therefore outlives its
  endpoint by one transaction; otherwise the connection would be set up without masquerading, and all that is sent
  again would follow it.
* On average fewer than two draws are needed, for the first packet of a connection alone.

Only NAT chains are used: they see the first packet of a connection and no other. That is also where connections
are refused and dropped, so an established connection crosses no rule of ours.

Measured on Linux 6.18 with 10,000 services of 3 endpoints, each with a clusterIP and a nodePort: an added verdict
costs 2.0 ms (the kernel walks the verdict map) whether each chain has 4, 6 or 8 tries; an added slot 0.09 ms.
Counters cost 2 MB of slab over 11.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import collapse_addresses

from nodeport_nft.model import Family, IPNetwork, NodeFacts, NodePortMode, ObjectName, Service
from nodeport_nft.resolve import Frontend, FrontendKind, Place
from nodeport_nft.ruleset import (
    Chain,
    Contender,
    Dispatch,
    DnatSlot,
    Drop,
    Element,
    Field,
    Goto,
    Hook,
    InSet,
    Interface,
    Jump,
    Key,
    Local,
    Map,
    MarkFlip,
    MarkHas,
    MarkSet,
    Masquerade,
    NotIn,
    Pool,
    Reject,
    Rule,
    Schema,
    Statement,
    Translated,
)

TABLE = "nodeport-nft"
"""The name of our table in both families, and of no other."""

TRIES = 6
"""Draws below N before the draw below N/2: the deviation from uniform stays under 2 % for any number."""

SIZES = tuple(1 << i for i in range(13))
"""Numbers of slots there are chains for."""

MAX_ENDPOINTS = SIZES[-1]
"""Endpoints one frontend can have (4,096); the others are left out and reported."""

COMMENT_LIMIT = 128
"""Bytes of an element's comment that nft 1.0.6 takes (NFTNL_UDATA_COMMENT_MAXLEN)."""

_VIP = (Field.DADDR, Field.L4PROTO, Field.DPORT)
_PORT = (Field.L4PROTO, Field.DPORT)
_ENDPOINT = (Field.DADDR, Field.DPORT)
_LOOPBACK = {Family.IPV4: "127.0.0.0/8", Family.IPV6: "::1/128"}


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a kind of frontend appears in nft: its verdict map, its slot map, its chains, its key.

    ``inside`` is the verdict map that pods and processes of this node are led by where the policy is Local.
    """

    map: str
    slots: str
    chain: str
    key: tuple[Field, ...]
    inside: str


_VIPS = _Kind("service-ips", "service-endpoints", "service", _VIP, "short-circuit-ips")
_NODE_PORTS = _Kind("node-ports", "node-port-endpoints", "node-port", _PORT, "short-circuit-node-ports")

LOCAL_SLOTS = 32768
"""The first slot of the pool of this node's own endpoints, behind the same key as the pool of all (policy Local)."""


def nft_family(family: Family) -> str:
    """nft's name of a family."""
    return "ip" if family is Family.IPV4 else "ip6"


def compile_schema(family: Family, facts: NodeFacts) -> Schema:
    """The table without its elements. It depends on the node's configuration and on no service."""
    mark = 1 << facts.masquerade_bit
    short_circuit = Jump("short-circuit")
    pod = _from_pod(family, facts)
    chains = [
        _base("nat-prerouting", "prerouting", -100, *([(pod, short_circuit)] if pod else []), (Jump("services"),)),
        _base("nat-output", "output", -100, (short_circuit,), (Jump("services"),)),
        _postrouting(mark),
        Chain(
            "short-circuit",
            tuple(_inside(family, facts)),
            comment="policy Local, for pods and processes of this node",
        ),
        Chain("services", tuple(_services(family, facts, mark)), comment="first packets, by destination"),
        Chain("refuse", ((Reject(tcp_reset=True),), (Reject(),)), comment="no endpoint, or no such port"),
        Chain("no-local-endpoint", ((Drop(),),), comment="policy Local, and all endpoints are elsewhere"),
    ]
    for size in SIZES:
        for kind in (_VIPS, _NODE_PORTS):
            chains += _sized(kind, size, mark)
    return Schema(nft_family(family), TABLE, _MAPS, tuple(chains))


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
    yield (Dispatch(_VIP, _VIPS.map),)
    yield *_to_node_port(family, facts), Dispatch(_PORT, _NODE_PORTS.map)
    yield to_cluster_ip, Goto("refuse")
    yield to_service_cidr, not_foreign, Drop()


def _inside(family: Family, facts: NodeFacts) -> Iterable[Rule]:
    yield (Dispatch(_VIP, _VIPS.inside),)
    yield *_to_node_port(family, facts), Dispatch(_PORT, _NODE_PORTS.inside)


def _to_node_port(family: Family, facts: NodeFacts) -> Rule:
    """Matches packets to an address that serves nodePorts (F2)."""
    if facts.node_port_mode is NodePortMode.ALL:
        return Local(), NotIn(Field.DADDR, _LOOPBACK[family])
    return (InSet((Field.DADDR,), "node-port-ips"),)


def _sized(kind: _Kind, size: int, mark: int) -> Iterable[Chain]:
    """The chains of one size: two that draw, from all endpoints and from this node's own, and two that mark first."""
    slots = f"{size} slot{'s' * (size > 1)}" if size <= 2 else f"{size // 2 + 1} to {size} slots"
    comment = f"{slots} filled; an empty one draws again" if size > 2 else f"{slots} filled"
    draw = Goto(f"{kind.chain}/{size}")
    yield Chain(draw.chain, _draws(kind, size, 0), comment=comment)
    yield Chain(f"{kind.chain}-local/{size}", _draws(kind, size, LOCAL_SLOTS), comment=f"on this node: {comment}")
    yield Chain(f"{kind.chain}-external/{size}", ((MarkSet(mark),), (draw,)))
    # A process of the node has no address that an endpoint elsewhere could answer past this node.
    yield Chain(f"{kind.chain}-inside/{size}", ((Local(Field.SADDR), MarkSet(mark)), (draw,)))


def _draws(kind: _Kind, size: int, first: int) -> tuple[Rule, ...]:
    draws = [size] * (TRIES if size > 1 else 1) + [n for n in (size // 2,) if n > 1] + [1] * (size > 1)
    return (*((DnatSlot(kind.key, n, kind.slots, first),) for n in draws), (Drop(),))


def compile_node(family: Family, facts: NodeFacts) -> tuple[tuple[str, Element], ...]:
    """The elements that come from the node and its configuration, as (set, element)."""
    own = [("node-port-ips", Element((str(ip),))) for ip in facts.node_port_ips if ip.version == family]
    for name, cidrs in (("service-cidrs", facts.service_cidrs), ("pod-cidrs", facts.pod_cidrs)):
        own += [(name, Element((prefix,))) for prefix in _collapsed(cidrs, family)]
    return tuple(own)


def _collapsed(cidrs: Iterable[IPNetwork], family: Family) -> Iterable[str]:
    """Prefixes that neither overlap nor join, as an interval set wants them; host prefixes as plain addresses."""
    for cidr in collapse_addresses(c for c in cidrs if c.version == family):  # type: ignore[type-var]
        # mypy cannot know that networks of one version are comparable
        yield str(cidr.network_address) if cidr.prefixlen == cidr.max_prefixlen else str(cidr)


def compile_service(service: Service, frontends: Iterable[Frontend]) -> Iterable[tuple[Family, Contender]]:
    """What one Service wants in each family's table. Costs what the Service has, whatever else there is."""
    rank = service.created, *service.key
    if service.proxy_name is not None:
        for family in Family:
            foreign = (Element((str(ip),)) for ip in service.cluster_ips if ip.version == family)
            yield family, Contender(rank, (), tuple(("foreign-cluster-ips", element) for element in foreign))
        return
    by_family: dict[Family, list[Frontend]] = {}
    for frontend in frontends:
        by_family.setdefault(frontend.family, []).append(frontend)
    for family, own in by_family.items():
        # A port's frontends have their tuples of backends in common: written out once, not once a frontend.
        tuples = [backends for f in own for backends in (f.backends, f.local_backends) if backends is not None]
        texts = {id(t): tuple((str(b.address), b.port) for b in t[:MAX_ENDPOINTS]) for t in tuples}
        wanted = []
        shared: dict[tuple[str, Key], Element] = {}
        for frontend in own:
            wanted.append(tuple(_pools(service.key, frontend, texts)))
            shared.update(((name, e.key), e) for name, e in _shared(frontend))
        yield family, Contender(rank, tuple(wanted), tuple((name, e) for (name, _), e in shared.items()))


_Endpoints = tuple[tuple[str, int], ...]


def _pools(owner: ObjectName, frontend: Frontend, texts: Mapping[int, _Endpoints]) -> Iterable[Pool]:
    """The verdict of a frontend and the endpoints behind it; with policy Local, for those inside as well."""
    kind = _NODE_PORTS if frontend.kind is FrontendKind.NODE_PORT else _VIPS
    address = () if frontend.address is None else (str(frontend.address),)
    key = (*address, frontend.protocol.lower(), frontend.port)
    name = comment(owner, frontend.port_name)
    everywhere = texts[id(frontend.backends)]
    internal = frontend.kind is FrontendKind.CLUSTER_IP
    if not everywhere:
        yield Pool(kind.map, key, Goto("refuse"), kind.slots, (), name)
    elif frontend.local_backends is None:
        chain = kind.chain if internal else f"{kind.chain}-external"
        yield Pool(kind.map, key, _verdict(chain, everywhere), kind.slots, everywhere, name)
    else:
        local = texts[id(frontend.local_backends)]
        yield Pool(kind.map, key, _verdict(f"{kind.chain}-local", local), kind.slots, local, name, LOCAL_SLOTS)
        if not internal:
            yield Pool(kind.inside, key, _verdict(f"{kind.chain}-inside", everywhere), kind.slots, everywhere, name)


def _verdict(chain: str, endpoints: _Endpoints) -> Goto:
    if not endpoints:
        return Goto("no-local-endpoint")
    return Goto(f"{chain}/{next(size for size in SIZES if size >= len(endpoints))}")


def _shared(frontend: Frontend) -> Iterable[tuple[str, Element]]:
    """Elements that several services or ports may want alike: allocated clusterIPs, hairpin connections (P4)."""
    if frontend.kind is FrontendKind.CLUSTER_IP:
        yield "cluster-ips", Element((str(frontend.address),))
    protocol = frontend.protocol.lower()
    # The local pool may hold what the other has not: an endpoint that terminates here while ready ones are elsewhere.
    for backends in (frontend.backends, frontend.local_backends or ()):
        for backend in backends[:MAX_ENDPOINTS]:
            if backend.place is not Place.ELSEWHERE:
                address = str(backend.address)
                yield "hairpin-connections", Element((address, address, protocol, backend.port))


def comment(owner: ObjectName, port_name: str) -> str:
    """``namespace/name:port`` for people; cut with a hash where nft would refuse the length (K7).

    All parts are DNS labels by the time they come here, so no quote or control character can be among them.
    """
    text = f"{owner}:{port_name}" if port_name else str(owner)
    if len(text) <= COMMENT_LIMIT:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{text[: COMMENT_LIMIT - len(digest) - 1]}~{digest}"
