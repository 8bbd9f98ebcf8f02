"""How objects and what they hold lie in etcd: which key is what, below the prefix of the store.

- ``objects/KIND/NAMESPACE/NAME``: the document, as JSON without a resource version; that is the key's own.
- ``ports/NUMBER`` (of five digits) and ``ips/ADDRESS``: who holds a number of the nodePort range and a clusterIP, as
  ``NAMESPACE/NAME``. Whoever takes one writes the key on the condition that it is not there, so nothing has two
  holders.
- ``outside/ADDRESS/NAMESPACE/NAME``: who claims an address from outside (externalIPs, load-balancer addresses).
- ``dropped/KIND/NAMESPACE/NAME``: the spec that came last with fields of a Service's former type.
- ``members/known/NAME``: a node that has registered once, and since when its registration has ended.
- ``members/live/NAME``: its registration, which ends with the lease of its daemon.
- ``members/probes/NAMESPACE/ADDRESS``: an endpoint that fails its readiness probe, under the prober's lease.
- ``members/barrier``: what ``wait`` writes: a node that has programmed all that came before it says so.
- ``progress/NAME``: what a node has programmed, under the same lease as its registration.

A daemon follows all from ``members/`` to the end of ``objects/`` as one range, so that a barrier comes after the
objects that were written before it. ``progress/`` stands outside: of N nodes, N would watch what N write.

A name has no slash in it (RFC 1123). Whatever else stands below the prefix is not ours, and is left alone.
"""

from __future__ import annotations

from ipaddress import ip_address

from nodeport_nft.allocate import Claims
from nodeport_nft.model import IPAddress, ObjectName, Ref

OBJECTS = "objects/"
PORTS = "ports/"
IPS = "ips/"
OUTSIDE = "outside/"
DROPPED = "dropped/"
MEMBERS = "members/"
KNOWN = "members/known/"
LIVE = "members/live/"
PROBES = "members/probes/"
BARRIER = "members/barrier"
PROGRESS = "progress/"
END_OF_OBJECTS = "objects0"
"""The first key after all of ``OBJECTS``: the character that follows a slash."""


def object_key(ref: Ref) -> str:
    """Where an object is."""
    return f"{OBJECTS}{ref.kind}/{ref.namespace}/{ref.name}"


def object_ref(key: str) -> Ref:
    """The object that is filed under a key of ``OBJECTS``; a name may be anything there."""
    kind, _, rest = key.removeprefix(OBJECTS).partition("/")
    namespace, _, name = rest.partition("/")
    return Ref(kind, namespace, name)


def objects_prefix(kind: str | None, namespace: str | None) -> str:
    """What the keys of all objects of a kind and a namespace begin with; of all if no kind is given."""
    if kind is None:
        return OBJECTS
    return f"{OBJECTS}{kind}/" if namespace is None else f"{OBJECTS}{kind}/{namespace}/"


def dropped_key(ref: Ref) -> str:
    """Where it is noted what of an object was dropped."""
    return f"{DROPPED}{ref.kind}/{ref.namespace}/{ref.name}"


def dropped_ref(key: str) -> Ref:
    """The object of a key of ``DROPPED``; a name may be anything there."""
    return object_ref(key.removeprefix(DROPPED))


def claim_keys(claims: Claims) -> list[str]:
    """The keys of all that is held."""
    return [
        *(port_key(port) for port in sorted(claims.node_ports)),
        *(ip_key(ip) for ip in sorted(claims.cluster_ips, key=str)),
    ]


def port_key(port: int) -> str:
    """Who holds a number of the nodePort range."""
    return f"{PORTS}{port:05}"


def ip_key(ip: IPAddress) -> str:
    """Who holds a clusterIP."""
    return f"{IPS}{ip}"


def outside_prefix(ip: IPAddress | str) -> str:
    """What the keys of all who claim an address from outside begin with."""
    return f"{OUTSIDE}{ip}/"


def outside_claim(key: str) -> tuple[str, ObjectName] | None:
    """What is claimed from outside, as the prefix of the keys of all who do, and who does; None for another key."""
    stem, _, name = key.rpartition("/")
    prefix, _, namespace = stem.rpartition("/")
    return (f"{prefix}/", ObjectName(namespace, name)) if key.startswith(OUTSIDE) else None


def holder(value: bytes) -> ObjectName | None:
    """Who holds it, by the value of a claim's key; None where somebody has damaged it."""
    try:
        namespace, slash, name = value.decode().partition("/")
    except UnicodeDecodeError:
        return None
    return ObjectName(namespace, name) if slash else None


def claimed(key: str) -> int | IPAddress | None:
    """What the key of a claim is about; None where it is none of ours."""
    try:
        if key.startswith(PORTS):
            return int(key.removeprefix(PORTS))
        return ip_address(key.removeprefix(IPS))
    except ValueError:
        return None
