"""The two ends of a connection as the form has them: what ``trace`` takes, looked up in the daemon's objects."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from msgspec import Struct

from nodeport_nft.model import IPAddress, ObjectName, Pod, Ref, Service, Snapshot
from nodeport_nft.problems import clipped
from nodeport_nft.reach import OUTSIDE, Directory, End, EndError, Located, NotThere, parse_end
from nodeport_nft.reconcile import NodeState
from nodeport_nft.resolve import Index

_COMPARED = 2000
"""Names that one which is not there is compared with: of 100,000 that would take seconds."""


class AskError(ValueError):
    """What was typed is no connection; ``str()`` names the field and says what to write."""


class Ask(Struct, frozen=True):
    """What was typed. ``sender`` "": a client outside; ``port`` None and ``protocol`` "": as ``target`` has them.

    ``namespace`` is that of names that say none.
    """

    target: str
    sender: str = ""
    port: int | None = None
    protocol: str = ""
    namespace: str = "default"


class Connection(Struct, frozen=True):
    """Where it comes from and goes to; ``protocol`` is nft's word."""

    source: IPAddress
    destination: IPAddress
    protocol: str
    port: int


def connection(ask: Ask, state: NodeState) -> Connection:
    """The connection that is asked for. Raises AskError; RuntimeError where objects change meanwhile."""
    from_end = _parsed("From", ask.sender) if ask.sender else None
    to_end = _parsed("To", ask.target)
    if from_end and from_end.kind == "Service":
        raise AskError("From: a Service opens no connections; name a pod, a node or an address")
    if from_end and from_end.port is not None:
        raise AskError("From: leave out the port, which the sender's kernel chooses")
    if ask.port is not None and to_end.port not in (None, ask.port):
        raise AskError("Port: To has another one; leave one of them out")
    given = from_end.address if from_end else None
    target = _located("To", to_end, ask, state, given.version if given else None)
    if target.port is None:
        raise AskError("Port: which one? Give it, or write it behind To and a colon")
    destination = target.address or _of_node_port(state, target.version)
    source = OUTSIDE[destination.version] if not destination.is_loopback else destination
    if from_end:
        source = _located("From", from_end, ask, state, destination.version).address or source
    if source.version != destination.version:
        raise AskError("From and To are of two families; give both of one")
    return Connection(source, destination, ask.protocol or target.protocol or "tcp", target.port)


def _parsed(field: str, text: str) -> End:
    try:
        return parse_end(text)
    except EndError as error:
        raise AskError(f"{field}: {error}") from error


def _located(field: str, end: End, ask: Ask, state: NodeState, version: int | None) -> Located:
    index = state.index
    wanted = ObjectName(end.namespace or ask.namespace, end.name)
    objects = Snapshot(tuple(_services(index, wanted)), nodes=tuple(index.nodes.values()))
    pod = [value for value in index.values(Ref("Pod", *wanted)) if isinstance(value, Pod)]
    if end.kind == "Pod" and not pod:  # of an API server a daemon asks for no Pods
        name, namespace = clipped(end.name), clipped(wanted.namespace)
        raise AskError(f"{field}: this daemon knows no Pod {name} in namespace {namespace}; give its address")
    is_target = field == "To"
    try:
        return Directory(objects, ask.namespace, lambda: pod).locate(
            end, version, ask.protocol if is_target else "", ask.port if is_target else None
        )
    except NotThere as error:
        raise AskError(f"{field}: {error}") from error


def _services(index: Index, wanted: ObjectName) -> Iterable[Service]:
    """The Service of that name; where it is not there, those that may be meant."""
    if service := index.services.get(wanted):
        return (service,)
    if same := [service for key, service in index.services.items() if key.name == wanted.name]:
        return same
    return islice((each for key, each in index.services.items() if key.namespace == wanted.namespace), _COMPARED)


def _of_node_port(state: NodeState, version: int) -> IPAddress:
    """Where clients of a nodePort connect to on this node."""
    for address in (*state.facts.node_port_ips, *state.facts.addresses):
        if address.version == version:
            return address
    raise AskError(f"To: this node has no IPv{version} address for nodePorts; give an address")
