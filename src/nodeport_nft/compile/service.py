"""What one Service wants in a table. It costs what the Service has, whatever else there is."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Iterable, Mapping

from nodeport_nft.compile.affinity import Affinity
from nodeport_nft.compile.bounds import most_endpoints, within_bounds
from nodeport_nft.compile.maglev import maglev
from nodeport_nft.compile.schema import (
    LOCAL_SLOTS,
    MAGLEV,
    MAGLEV_SLOTS,
    MAX_ENDPOINTS,
    NODE_PORTS,
    VIPS,
    Kind,
    collapsed,
)
from nodeport_nft.model import Family, IPAddress, IPNetwork, LoadBalancing, NodeFacts, ObjectName, Service
from nodeport_nft.resolve import Backend, Frontend, FrontendKind, Place
from nodeport_nft.ruleset import (
    Chain,
    Contender,
    Drop,
    Field,
    Goto,
    InSet,
    Key,
    Map,
    Pool,
    Schema,
    Shared,
)

COMMENT_LIMIT = 128
"""Bytes of an element's comment that nft 1.0.6 takes (NFTNL_UDATA_COMMENT_MAXLEN)."""

_Endpoints = tuple[tuple[str, int], ...]

_OCTETS = tuple(map(str, range(256)))


def compile_service(
    service: Service, frontends: Iterable[Frontend], facts: NodeFacts, schemas: Mapping[Family, Schema]
) -> Iterable[tuple[Family, Contender]]:
    """What the Service wants in each family's table, whose schemas are given; nothing in one without frontends."""
    rank = service.created, service.namespace, service.name
    if service.proxy_name is not None:
        for family in Family:
            foreign = (str(ip) for ip in service.cluster_ips if ip.version == family)
            yield family, Contender(rank, (), tuple(("foreign-cluster-ips", (address,)) for address in foreign))
        return
    by_family: dict[Family, list[Frontend]] = {}
    for frontend in within_bounds(service, frontends):
        by_family.setdefault(frontend.family, []).append(frontend)
    for family, own in by_family.items():
        compiled = _Compiled(service, family, facts, schemas[family])
        wanted: dict[tuple[str, Key], tuple[Pool, ...]] = {}
        for frontend in own:
            pools = compiled.pools(frontend)
            # An external address may be a load balancer's as well: one frontend, not two that contest each other.
            wanted.setdefault((pools[0].map, pools[0].key), pools)
            compiled.share(frontend)
        shared = tuple(compiled.shared)
        yield family, Contender(rank, tuple(wanted.values()), shared, compiled.maps(), compiled.chains())


class _Compiled:
    """One Service in one family's table, as it is compiled, frontend by frontend."""

    def __init__(self, service: Service, family: Family, facts: NodeFacts, schema: Schema) -> None:
        self.service = service
        self.family = family
        self.facts = facts
        self.schema = schema
        self.shared: dict[Shared, None] = {}  # in their order, each once
        self._pools: dict[int, _Endpoints] = {}
        self._texts: dict[bytes, str] = {}
        self._comments: dict[str, str] = {}
        self._affinity: Affinity | None = None
        self._firewalls: dict[str, tuple[Map, Chain]] = {}
        self._guards: dict[str, Goto | None] = {}
        self._load_balancers: frozenset[str] = frozenset()
        if service.load_balancer_ips:
            self._load_balancers = frozenset(map(self._text, service.load_balancer_ips))
        self._paired: set[tuple[int, str]] = set()
        if service.session_affinity_seconds:
            self._affinity = Affinity(service, schema, 1 << facts.masquerade_bit)

    def maps(self) -> tuple[Map, ...]:
        """The sets that are this Service's alone."""
        if not (self._firewalls or self._affinity):
            return ()  # nearly all of them
        sticky = self._affinity.maps.values() if self._affinity else ()
        return *(declared for declared, _ in self._firewalls.values()), *sticky

    def chains(self) -> tuple[Chain, ...]:
        """The chains that are this Service's alone."""
        if not (self._firewalls or self._affinity):
            return ()
        sticky = self._affinity.chains.values() if self._affinity else ()
        return *(chain for _, chain in self._firewalls.values()), *sticky

    def pools(self, frontend: Frontend) -> tuple[Pool, ...]:
        """The verdict of a frontend and the endpoints behind it; with policy Local, for those inside as well."""
        kind = NODE_PORTS if frontend.kind is FrontendKind.NODE_PORT else VIPS
        protocol = sys.intern(frontend.protocol.lower())
        key: Key = protocol, frontend.port
        if frontend.address is not None:
            key = self._text(frontend.address), protocol, frontend.port
        led = self._led(kind, key, frontend)
        guard = self._guard(frontend)
        return (*led, self._verdict(kind.firewall, key, guard, frontend)) if guard else led

    def _led(self, kind: Kind, key: Key, frontend: Frontend) -> tuple[Pool, ...]:
        internal = frontend.kind is FrontendKind.CLUSTER_IP
        everywhere, local = frontend.backends, frontend.local_backends
        if not everywhere:
            return (self._verdict(kind.map, key, Goto("refuse"), frontend),)
        if local is None or (frontend.prefer_local and not local):
            return (self._pool(kind, kind.map, key, "" if internal else "-external", everywhere, frontend),)
        if frontend.prefer_local:
            return (self._pool(kind, kind.map, key, "-prefer-local", local, frontend),)
        here = self._pool(kind, kind.map, key, "-local", local, frontend)
        if internal:
            return (here,)
        return here, self._pool(kind, kind.inside, key, "-inside", everywhere, frontend)

    def _pool(
        self, kind: Kind, name: str, key: Key, suffix: str, backends: tuple[Backend, ...], frontend: Frontend
    ) -> Pool:
        """Backends behind a key of the verdict map ``name``. ``suffix``: who comes there, and which pool it is."""
        endpoints = self._endpoints(backends)
        if not endpoints:
            return self._verdict(name, key, Goto("no-local-endpoint"), frontend)
        if self._affinity:
            verdict = self._affinity.lead(suffix, frontend.port_name, frontend.protocol, endpoints)
            return self._verdict(name, key, verdict, frontend)
        hashed = self.service.load_balancing is LoadBalancing.MAGLEV
        size = MAGLEV if hashed else 1 << (len(endpoints) - 1).bit_length()  # the smallest of SIZES that will do
        local = suffix in ("-local", "-prefer-local")
        return Pool(
            name,
            key,
            _shared_chain(f"{kind.chain}{'-local' if local else suffix}/{size}"),
            kind.slots,
            endpoints,
            self._comment(frontend.port_name),
            LOCAL_SLOTS if local else 0,
            fixed=hashed,
        )

    def _verdict(self, name: str, key: Key, verdict: Goto, frontend: Frontend) -> Pool:
        return Pool(name, key, verdict, "", (), self._comment(frontend.port_name))

    def _comment(self, port_name: str) -> str:
        """The comment of all that a port has: one text, to save memory."""
        text = self._comments.get(port_name)
        if text is None:
            text = self._comments[port_name] = comment(self.service.key, port_name)
        return text

    def _endpoints(self, backends: tuple[Backend, ...]) -> _Endpoints:
        """What stands in the slots. A port's frontends have their backends in common: written out once."""
        endpoints = self._pools.get(id(backends))
        if endpoints is None:
            endpoints = self._pools[id(backends)] = self._written_out(backends)
        return endpoints

    def _written_out(self, backends: tuple[Backend, ...]) -> _Endpoints:
        if self.service.load_balancing is LoadBalancing.MAGLEV and not self._affinity:
            weights = {(self._text(b.address), b.port): b.weight for b in backends}
            return maglev(weights, MAGLEV_SLOTS)
        weighted: list[tuple[str, int]] = []
        for address, port, _, weight in backends[: most_endpoints(self.service)]:
            endpoint = self._text(address), port
            if weight == 1:  # nearly all of them
                weighted.append(endpoint)
            else:
                weighted += (endpoint,) * weight
        return tuple(weighted[:MAX_ENDPOINTS])

    def _text(self, address: IPAddress) -> str:
        """An address as it stands in keys and values; the same object wherever it stands, to save memory."""
        # By the packed form: that of an IPv6Address is a hash that whoever writes the address can choose.
        text = self._texts.get(packed := address.packed)
        if text is None:
            if len(packed) == 4:  # what str() makes of it, in a third of the time: there are very many of these
                a, b, c, d = packed
                text = f"{_OCTETS[a]}.{_OCTETS[b]}.{_OCTETS[c]}.{_OCTETS[d]}"
            else:
                text = str(address)
            self._texts[packed] = text
        return text

    def _guard(self, frontend: Frontend) -> Goto | None:
        """The chain that lets only some sources through to a frontend (F4, X5); None if it is open to all."""
        if frontend.kind is FrontendKind.CLUSTER_IP:
            return None
        if frontend.kind is FrontendKind.NODE_PORT:
            word = "firewall-node-ports"
        elif self._is_load_balancers(frontend):
            word = "firewall"
        else:
            return None
        if word not in self._guards:  # one for all frontends, however many sources it has
            self._guards[word] = self._firewall(word)
        return self._guards[word]

    def _is_load_balancers(self, frontend: Frontend) -> bool:
        return frontend.address is not None and self._text(frontend.address) in self._load_balancers

    def _firewall(self, word: str) -> Goto | None:
        """The chain and the set of the Service's own that let only some sources through; None where all may pass."""
        service = self.service
        if word == "firewall-node-ports":
            allowed = _sources(service.node_port_source_ranges, self.family)
        else:
            allowed = _sources(service.load_balancer_source_ranges, self.family)
            if allowed and any(ip in cidr for ip in self.facts.addresses for cidr in allowed):
                # The node may have the VIP on an interface, and then it sends from there to itself.
                vips = (ip for ip in service.load_balancer_ips if ip.version == self.family)
                allowed = (*allowed, *(type(allowed[0])(str(ip)) for ip in vips))
        if allowed is None:
            return None
        name = f"{word}/{service.namespace}/{service.name}"
        rule = InSet((Field.SADDR,), name, negated=True), Drop()
        self._firewalls[name] = self.schema.new_map(name), Chain(name, (rule,))
        for prefix in collapsed(allowed, self.family):
            self._share(name, prefix)
        return Goto(name)

    def share(self, frontend: Frontend) -> None:
        """Elements that several services or ports may want alike: allocated clusterIPs, hairpin connections (P4)."""
        if frontend.kind is FrontendKind.CLUSTER_IP:
            assert frontend.address is not None  # a clusterIP's
            self._share("cluster-ips", self._text(frontend.address))
        protocol = sys.intern(frontend.protocol.lower())
        # The local pool may hold what the other has not: an endpoint that terminates here while ready ones are
        # elsewhere.
        for backends in (frontend.backends, frontend.local_backends):
            if not backends or (id(backends), protocol) in self._paired:  # a port's frontends have them in common
                continue
            self._paired.add((id(backends), protocol))
            for ip, port, place, _ in backends[:MAX_ENDPOINTS]:
                if place is not Place.ELSEWHERE:
                    address = self._text(ip)
                    self._share("hairpin-connections", address, address, protocol, port)

    def _share(self, name: str, *key: str | int) -> None:
        self.shared[name, key] = None


@functools.cache
def _shared_chain(name: str) -> Goto:
    """The verdict that leads to a chain of the schema; there are few of them."""
    return Goto(name)


def _sources(ranges: tuple[IPNetwork, ...], family: Family) -> tuple[IPNetwork, ...] | None:
    """Which sources of a family may connect; None: all of them.

    A /0 lifts the restriction of its family. A list of the other family's prefixes alone lets nobody of this one in,
    unless it is of nothing but /0 and so restricts nobody.
    """
    own = tuple(cidr for cidr in ranges if cidr.version == family)
    if all(not cidr.prefixlen for cidr in ranges) or any(not cidr.prefixlen for cidr in own):
        return None
    return own


def comment(owner: ObjectName, port_name: str) -> str:
    """``namespace/name:port`` for people; cut with a hash where nft would refuse the length (K7).

    All parts are DNS labels by the time they come here, so no quote or control character can be among them.
    """
    text = f"{owner}:{port_name}" if port_name else str(owner)
    if len(text) <= COMMENT_LIMIT:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{text[: COMMENT_LIMIT - len(digest) - 1]}~{digest}"
