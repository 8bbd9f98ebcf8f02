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

* Every size there can be exists from the start: 13 chains of at most 9 rules a map. No number of endpoints, new or
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
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import collapse_addresses

from nodeport_nft.model import Family, IPNetwork, NodeFacts, NodePortMode, ObjectName, Service
from nodeport_nft.resolve import Frontend, FrontendKind
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
    """How one kind of frontend appears in nft: its verdict map, its slot map, its chains."""

    map: str
    slots: str
    chain: str
    key: tuple[Field, ...]


_KINDS = {
    FrontendKind.CLUSTER_IP: _Kind("service-ips", "service-endpoints", "service", _VIP),
    FrontendKind.NODE_PORT: _Kind("node-ports", "node-port-endpoints", "node-port", _PORT),
}


def nft_family(family: Family) -> str:
    """nft's name of a family."""
    return "ip" if family is Family.IPV4 else "ip6"


def compile_schema(family: Family, facts: NodeFacts) -> Schema:
    """The table without its elements. It depends on the node's configuration and on no service."""
    mark = 1 << facts.masquerade_bit
    chains = [_nat_chain("nat-prerouting", "prerouting", -100), _nat_chain("nat-output", "output", -100)]
    chains.append(_postrouting(mark))
    chains.append(Chain("services", tuple(_services(family, facts, mark)), comment="first packets, by destination"))
    chains.append(Chain("refuse", ((Reject(tcp_reset=True),), (Reject(),)), comment="no endpoint, or no such port"))
    for size in SIZES:
        chains.append(_draw(_KINDS[FrontendKind.CLUSTER_IP], size, ()))
        chains.append(_draw(_KINDS[FrontendKind.NODE_PORT], size, ((MarkSet(mark),),)))
    return Schema(nft_family(family), TABLE, _MAPS, tuple(chains))


_MAPS = (
    Map("service-ips", _VIP, "verdict", counter=True, comment="clusterIP and port to its chain"),
    Map("node-ports", _PORT, "verdict", counter=True, comment="nodePort to its chain"),
    Map("service-endpoints", (*_VIP, Field.SLOT), _ENDPOINT, counter=True, comment="slot to endpoint"),
    Map("node-port-endpoints", (*_PORT, Field.SLOT), _ENDPOINT, counter=True, comment="slot to endpoint"),
    Map("cluster-ips", (Field.DADDR,), comment="allocated clusterIPs"),
    Map("node-port-ips", (Field.DADDR,), comment="addresses of this node that serve nodePorts"),
    Map("service-cidrs", (Field.DADDR,), interval=True, comment="where clusterIPs come from"),
    Map("cluster-cidrs", (Field.SADDR,), interval=True, comment="the pod network"),
    Map(
        "hairpin-connections",
        (Field.SADDR, *_VIP),
        lingers=True,
        comment="endpoints of this node that reach themselves",
    ),
)


def _nat_chain(name: str, hook: str, priority: int) -> Chain:
    return Chain(name, ((Jump("services"),),), Hook(hook, priority))


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
    if any(cidr.version == family for cidr in facts.cluster_cidrs):
        # Not @cluster-ips: a commit between that look-up and the next would let a connection through unmarked.
        yield to_service_cidr, InSet((Field.SADDR,), "cluster-cidrs", negated=True), MarkSet(mark)
    yield (Dispatch(_VIP, "service-ips"),)
    node_ports = Dispatch(_PORT, "node-ports")
    if facts.node_port_mode is NodePortMode.ALL:
        yield Local(), NotIn(Field.DADDR, _LOOPBACK[family]), node_ports
    else:
        yield InSet((Field.DADDR,), "node-port-ips"), node_ports
    yield to_cluster_ip, Goto("refuse")
    yield to_service_cidr, Drop()


def _draw(kind: _Kind, size: int, first: tuple[Rule, ...]) -> Chain:
    draws = [size] * (TRIES if size > 1 else 1) + [n for n in (size // 2,) if n > 1] + [1] * (size > 1)
    rules: list[Rule] = [(DnatSlot(kind.key, n, kind.slots),) for n in draws]
    slots = f"{size} slot{'s' * (size > 1)}" if size <= 2 else f"{size // 2 + 1} to {size} slots"
    comment = f"{slots} filled; an empty one draws again" if size > 2 else f"{slots} filled"
    return Chain(f"{kind.chain}/{size}", (*first, *rules, (Drop(),)), comment=comment)


def compile_node(family: Family, facts: NodeFacts) -> tuple[tuple[str, Element], ...]:
    """The elements that come from the node and its configuration, as (set, element)."""
    own = [("node-port-ips", Element((str(ip),))) for ip in facts.node_port_ips if ip.version == family]
    for name, cidrs in (("service-cidrs", facts.service_cidrs), ("cluster-cidrs", facts.cluster_cidrs)):
        own += [(name, Element((prefix,))) for prefix in _collapsed(cidrs, family)]
    return tuple(own)


def _collapsed(cidrs: Iterable[IPNetwork], family: Family) -> Iterable[str]:
    """Prefixes that neither overlap nor join, as an interval set wants them; host prefixes as plain addresses."""
    for cidr in collapse_addresses(c for c in cidrs if c.version == family):  # type: ignore[type-var]
        # mypy cannot know that networks of one version are comparable
        yield str(cidr.network_address) if cidr.prefixlen == cidr.max_prefixlen else str(cidr)


def compile_service(service: Service, frontends: Iterable[Frontend]) -> Iterable[tuple[Family, Contender]]:
    """What one Service wants in each family's table. Costs what the Service has, whatever else there is."""
    by_family: dict[Family, list[Frontend]] = {}
    for frontend in frontends:
        by_family.setdefault(frontend.family, []).append(frontend)
    for family, own in by_family.items():
        # A port's frontends have one tuple of backends among them: written out once, not once a frontend.
        texts = {id(f.backends): tuple((str(b.address), b.port) for b in f.backends[:MAX_ENDPOINTS]) for f in own}
        pools = []
        shared: dict[tuple[str, Key], Element] = {}
        for frontend in own:
            endpoints = texts[id(frontend.backends)]
            pools.append(_pool(service.key, frontend, endpoints))
            shared.update(((name, e.key), e) for name, e in _shared(frontend, endpoints))
        rank = service.created, *service.key
        yield family, Contender(rank, tuple(pools), tuple((name, e) for (name, _), e in shared.items()))


def _pool(owner: ObjectName, frontend: Frontend, endpoints: tuple[tuple[str, int], ...]) -> Pool:
    kind = _KINDS[frontend.kind]
    address = () if frontend.address is None else (str(frontend.address),)
    key = (*address, frontend.protocol.lower(), frontend.port)
    size = next((n for n in SIZES if n >= len(endpoints)), MAX_ENDPOINTS)
    verdict = Goto(f"{kind.chain}/{size}" if endpoints else "refuse")
    return Pool(kind.map, key, verdict, kind.slots, endpoints, comment(owner, frontend.port_name))


def _shared(frontend: Frontend, endpoints: tuple[tuple[str, int], ...]) -> Iterable[tuple[str, Element]]:
    """Elements that several services or ports may want alike: allocated clusterIPs, hairpin connections (P4)."""
    if frontend.address is not None:
        yield "cluster-ips", Element((str(frontend.address),))
    protocol = frontend.protocol.lower()
    for backend, (address, port) in zip(frontend.backends, endpoints, strict=False):  # cut at MAX_ENDPOINTS
        if backend.local:
            yield "hairpin-connections", Element((address, address, protocol, port))


def comment(owner: ObjectName, port_name: str) -> str:
    """``namespace/name:port`` for people; cut with a hash where nft would refuse the length (K7).

    All parts are DNS labels by the time they come here, so no quote or control character can be among them.
    """
    text = f"{owner}:{port_name}" if port_name else str(owner)
    if len(text) <= COMMENT_LIMIT:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{text[: COMMENT_LIMIT - len(digest) - 1]}~{digest}"
