"""Annotations of our own: what the Kubernetes API has no field for, under the one prefix ``nodeport-nft/``.

On a Service:

``node-port-source-ranges``   who may connect to its nodePorts (X5): prefixes, as ``10.0.0.0/8, fd00::/8``, read as
                              loadBalancerSourceRanges are. Without it, everybody.
``node-port-nodes``           the nodes that serve its nodePorts (X6): a label selector in kubectl's syntax, as
                              ``disk=ssd, zone in (a, b)``. Without it, all nodes.
``external-traffic-policy``   ``PreferLocal`` (X10): the endpoints on the node if there are any, else all of them.
``internal-traffic-policy``   the same for the policy of that name. The spec's own field must not say Local besides.
``load-balancing``            how an endpoint is chosen (X7): ``random``, the default, or ``maglev``, by a hash of the
                              client's address and port.
``weights``                   shares of single endpoints (X7), 0-100 each, as ``10.244.1.2=3, fd00::1=0``. They go
                              before the weights that Pods and slices have.

On a Pod, an EndpointSlice or Endpoints:

``weight``                    the share of the pod, or of each endpoint of the object (X7): 0-100, 1 without it.
                              0 takes no new connection.
``drain``                     addresses of the object that count as terminating (E2), as ``10.244.1.2, fd00::1``. They
                              keep their connections and get new ones only where a Service has nothing else.

On an EndpointSlice or Endpoints:

``readiness-probe``           what each endpoint has to pass to be ready (X9): the fields of a container's
                              readinessProbe in JSON, as ``{"httpGet": {"path": "/healthz", "port": 8080}}``
                              (``probes`` reads it).

On a Node:

``drain``                     ``true``: all that runs on it counts as terminating.

``drain`` is what the commands ``drain`` and ``uncordon`` write. Who applies an object that says nothing of it leaves
it as it is; an empty one takes it away.

What is wrong is a problem, any other empty value too: whoever restricts a Service must not get an open one by a slip.
A key that is unknown, or known for another kind, or under a slip of the prefix, is told as an unknown field is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from msgspec import Struct, field

from nodeport_nft.kube.fields import Fields
from nodeport_nft.kube.selector import BLANKS, parse_selector
from nodeport_nft.model import IPAddress, IPNetwork, LoadBalancing, Requirement, ServiceType
from nodeport_nft.notation import each_once, parse_address, special_fault
from nodeport_nft.problems import MOST_TOLD, Path, nearest, shown

PREFIX = "nodeport-nft/"
NODE_PORT_SOURCE_RANGES = PREFIX + "node-port-source-ranges"
NODE_PORT_NODES = PREFIX + "node-port-nodes"
EXTERNAL_TRAFFIC_POLICY = PREFIX + "external-traffic-policy"
INTERNAL_TRAFFIC_POLICY = PREFIX + "internal-traffic-policy"
LOAD_BALANCING = PREFIX + "load-balancing"
WEIGHTS = PREFIX + "weights"
WEIGHT = PREFIX + "weight"
DRAIN = PREFIX + "drain"
READINESS_PROBE = PREFIX + "readiness-probe"

PREFER_LOCAL = "PreferLocal"
"""The traffic policy that no field of the spec can name."""

NODE_PORT_TYPES = (ServiceType.NODE_PORT, ServiceType.LOAD_BALANCER)

_OF_SERVICES = (
    NODE_PORT_SOURCE_RANGES,
    NODE_PORT_NODES,
    EXTERNAL_TRAFFIC_POLICY,
    INTERNAL_TRAFFIC_POLICY,
    LOAD_BALANCING,
    WEIGHTS,
)
_OF_ENDPOINTS = (WEIGHT, DRAIN, READINESS_PROBE)
_KNOWN = {
    "Service": _OF_SERVICES,
    "Pod": (WEIGHT, DRAIN),
    "EndpointSlice": _OF_ENDPOINTS,
    "Endpoints": _OF_ENDPOINTS,
    "Node": (DRAIN,),
}

DRAINABLE = tuple(kind for kind, keys in _KNOWN.items() if DRAIN in keys)
"""The kinds of object that may say what is drained."""

_EVERY = tuple(dict.fromkeys(key for keys in _KNOWN.values() for key in keys))
_OURS = re.compile("node|port|nft", re.IGNORECASE)  # in a slip of our prefix, one of them at least is right

_LONGEST = 256 << 10  # characters; the API takes as many bytes in all annotations of an object
_HEAVIEST = 100
_NUMBER = re.compile(r"0|[1-9][0-9]{0,2}")


class Annotations(Struct, frozen=True):
    """What a Service's annotations ask for, with what holds without them; a policy "" leaves it to the spec."""

    node_port_source_ranges: tuple[IPNetwork, ...] = ()
    node_port_nodes: tuple[Requirement, ...] = ()
    external_traffic_policy: str = ""
    internal_traffic_policy: str = ""
    load_balancing: LoadBalancing = LoadBalancing.RANDOM
    weights: Mapping[str, int] = field(default_factory=dict)


def note_unknown(labels: Mapping[str, str], annotations: Mapping[str, str], kind: str, fields: Fields) -> None:
    """Note each key under our prefix that means nothing on an object of ``kind``; no label does."""
    known = _KNOWN.get(kind, ())
    _strange([key for key in labels if is_ours(key)], "label", known, kind, fields)
    _strange([key for key in annotations if key not in known and is_ours(key)], "annotation", known, kind, fields)


def is_ours(key: str) -> bool:
    """Whether a key is under our prefix, or probably under a slip of it."""
    return key.startswith(PREFIX) or (_OURS.search(key) is not None and _is_slip(key))


@lru_cache(4096)
def _is_slip(key: str) -> bool:
    prefix, slash, _ = key.rpartition("/")
    own = PREFIX.removesuffix("/")
    if prefix.startswith(f"{own}."):  # a domain, which is its owner's
        return False
    return bool(nearest(prefix, (own,)) if slash else key != own and nearest(key, _EVERY))


def _strange(keys: Sequence[str], what: str, known: tuple[str, ...], kind: str, fields: Fields) -> None:
    where: Path = ("metadata", f"{what}s")
    known_ones = f"known annotations are {', '.join(known)}" if known else f"there are none for a {kind}"
    names = [key.removeprefix(PREFIX) for key in known]
    for key in keys[:MOST_TOLD]:
        is_ours = key.startswith(PREFIX)
        near = PREFIX + nearest(key.removeprefix(PREFIX) if is_ours else key.rpartition("/")[2], names)
        if near == PREFIX and not is_ours and "/" not in key:
            near = nearest(key, known) or PREFIX
        if near == PREFIX:
            remedy = known_ones if is_ours else f"did you mean the prefix {PREFIX}? {known_ones}"
        else:
            remedy = f"is the annotation {near} meant?" if what == "label" else f"did you mean {near}?"
        fields.strange((*where, key), f"unknown {what}; {remedy}")
    if len(keys) > MOST_TOLD:
        more = f"{len(keys) - MOST_TOLD} more are unknown; {known_ones}"
        fields.strange(where, more, behind=(*where, keys[MOST_TOLD - 1]))


def parse_annotations(
    annotations: Mapping[str, str], spec: dict[str, Any], kind: ServiceType, fields: Fields
) -> Annotations:
    """The annotations of a Service of type ``kind``, held against its ``spec``."""
    for key in (NODE_PORT_SOURCE_RANGES, NODE_PORT_NODES):
        if key in annotations and kind not in NODE_PORT_TYPES:
            fields.problem(_path(key), f"is for types NodePort and LoadBalancer only, not {kind}; leave it out")
    if EXTERNAL_TRAFFIC_POLICY in annotations and kind not in NODE_PORT_TYPES and not spec.get("externalIPs"):
        fields.problem(
            _path(EXTERNAL_TRAFFIC_POLICY),
            f"may not be set on a service of type {kind} without externalIPs; leave it out",
        )
    balancing = LoadBalancing(_choice(annotations, LOAD_BALANCING, tuple(LoadBalancing), fields) or "random")
    if balancing is LoadBalancing.MAGLEV and spec.get("sessionAffinity") == "ClientIP":
        fields.problem(
            _path(LOAD_BALANCING),
            "maglev cannot be had together with spec.sessionAffinity: ClientIP; choose one, and leave the other out",
        )
        balancing = LoadBalancing.RANDOM
    return Annotations(
        _source_ranges(annotations, fields),
        _nodes(annotations, fields),
        _policy(annotations, EXTERNAL_TRAFFIC_POLICY, spec, "externalTrafficPolicy", fields),
        _policy(annotations, INTERNAL_TRAFFIC_POLICY, spec, "internalTrafficPolicy", fields),
        balancing,
        _weights(annotations, fields),
    )


def parse_weight(annotations: Mapping[str, str], fields: Fields) -> int:
    """The weight of a Pod, or of a slice's endpoints; 1 if there is none or it is wrong."""
    text = annotations.get(WEIGHT)
    weight = 1 if text is None else _weight(text)
    if weight is None:
        fields.problem(_path(WEIGHT), f"{shown(text)} is not a weight; write a whole number, 0-{_HEAVIEST}")
        return 1
    return weight


def parse_drained(annotations: Mapping[str, str], fields: Fields) -> tuple[IPAddress, ...]:
    """The addresses that are drained of a Pod, a slice or Endpoints, each once; none if there are none."""
    text = annotations.get(DRAIN, "")
    if len(text) > _LONGEST:
        fields.problem(_path(DRAIN), f"{shown(text)} is longer than {_LONGEST} characters; shorten it")
        return ()
    found: dict[bytes, IPAddress] = {}
    for entry in _entries(text.strip(BLANKS)):
        try:
            address = parse_address(entry)
        except ValueError as error:
            fields.problem(_path(DRAIN), str(error))
        else:
            found[address.packed] = address
    return tuple(found.values())


def parse_node_drained(annotations: Mapping[str, str], fields: Fields) -> bool:
    """Whether a Node is drained; not if what it says is wrong."""
    text = annotations.get(DRAIN, "")
    if text not in ("", "true"):
        fields.problem(_path(DRAIN), f"{shown(text)} is unknown; use true, or leave the annotation out")
    return text == "true"


def _path(key: str) -> Path:
    return ("metadata", "annotations", key)


def _choice(annotations: Mapping[str, str], key: str, choices: Sequence[str], fields: Fields) -> str:
    """A value that is one of ``choices``; "" if there is none or it is wrong."""
    text = annotations.get(key)
    if text is None or text in choices:
        return text or ""
    fields.problem(_path(key), f"{shown(text)} is unknown; use {' or '.join(choices)}, or leave it out")
    return ""


def _policy(annotations: Mapping[str, str], key: str, spec: dict[str, Any], name: str, fields: Fields) -> str:
    """PreferLocal, or "" where the field ``name`` of the spec decides."""
    policy = _choice(annotations, key, (PREFER_LOCAL,), fields)
    if policy and spec.get(name) == "Local":
        fields.problem(_path(key), f"{policy} contradicts spec.{name}: Local; leave one of them out")
        return ""
    return policy


def _text(annotations: Mapping[str, str], key: str, remedy: str, fields: Fields) -> str:
    """The text at ``key`` without blanks around it; "" if there is none, or if it is empty or too long: problems."""
    given = annotations.get(key)
    if given is None:
        return ""
    if len(given) > _LONGEST:
        fields.problem(_path(key), f"{shown(given)} is longer than {_LONGEST} characters; shorten it")
        return ""
    text = given.strip(BLANKS)
    if not text:
        fields.problem(_path(key), f"is empty; {remedy}, or leave the annotation out")
    return text


def _entries(text: str) -> list[str]:
    """The parts between the commas of ``text``, without blanks around them."""
    return [entry.strip(BLANKS) for entry in text.split(",")] if text else []


def _source_ranges(annotations: Mapping[str, str], fields: Fields) -> tuple[IPNetwork, ...]:
    networks: list[IPNetwork] = []
    text = _text(annotations, NODE_PORT_SOURCE_RANGES, "list prefixes, as 10.0.0.0/8", fields)
    path = _path(NODE_PORT_SOURCE_RANGES)
    for entry in _entries(text):
        if not entry:
            fields.problem(path, "a prefix is missing beside a comma; give it, or leave out the comma")
        elif (network := fields.network(path, entry, host_bits=True)) is not None:
            networks.append(network)
    return each_once(networks)


def _nodes(annotations: Mapping[str, str], fields: Fields) -> tuple[Requirement, ...]:
    text = _text(annotations, NODE_PORT_NODES, "write a label selector, as disk=ssd", fields)
    if not text:
        return ()
    requirements, faults = parse_selector(text)
    for fault in faults:
        fields.problem(_path(NODE_PORT_NODES), fault)
    return requirements


def _weights(annotations: Mapping[str, str], fields: Fields) -> dict[str, int]:
    weights: dict[str, int] = {}
    for entry in _entries(_text(annotations, WEIGHTS, "list addresses, as 10.244.1.2=3", fields)):
        try:
            address, weight = _weighted(entry)
        except ValueError as error:
            fields.problem(_path(WEIGHTS), str(error))
            continue
        if address in weights:
            fields.problem(_path(WEIGHTS), f"{address} is given twice; leave one of them out")
        weights[address] = weight
    return weights


def _weighted(entry: str) -> tuple[str, int]:
    """An endpoint's address, as it is always written, and its weight. Raises ValueError."""
    start, equals, number = entry.partition("=")
    if not equals:
        raise ValueError(f"{shown(entry)} is not an address with a weight; write 10.244.1.2=3, a comma between two")
    address = parse_address(start.rstrip(BLANKS))
    if fault := special_fault(address):
        raise ValueError(fault)
    weight = _weight(number.lstrip(BLANKS))
    if weight is None:
        raise ValueError(f"{shown(entry)} is not a weight; write an address, = and a whole number, 0-{_HEAVIEST}")
    return str(address), weight


def _weight(text: str) -> int | None:
    """A weight, None if ``text`` is none."""
    return int(text) if _NUMBER.fullmatch(text) and int(text) <= _HEAVIEST else None
