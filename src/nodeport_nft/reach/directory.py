"""From an end that somebody named to its address and port: the objects are looked up, and near ones are told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches

from msgspec import Struct

from nodeport_nft.model import IPAddress, Node, Pod, Service, ServicePort, ServiceType, Snapshot
from nodeport_nft.problems import clipped
from nodeport_nft.reach.ends import End
from nodeport_nft.resolve.resolver import is_proxied

_NAMED = 3  # names that a message repeats
_LONGEST = 253  # characters of a name that is compared with others


class NotThere(Exception):
    """The object, its port or its address is not there; ``str()`` says what is near, or what to do."""


class Located(Struct, frozen=True):
    """Where an end is. ``address`` None: a nodePort, which is on whatever address the node serves them.

    ``port`` None: none was said, and there is no telling which. ``protocol`` is nft's word for the Service port's, ""
    where none is known. ``node``: where it is, or runs; "" where that is unknown or no matter. ``version``: of the
    Service's first clusterIP, for a nodePort. ``node_port``: the nodePort of the same port of a Service, 0: none.
    """

    address: IPAddress | None
    port: int | None = None
    protocol: str = ""
    node: str = ""
    version: int = 0
    node_port: int = 0


class Directory:
    """The objects by their names. ``pods`` gives all Pods; None: nobody may see them."""

    def __init__(self, snapshot: Snapshot, namespace: str, pods: Callable[[], Iterable[Pod] | None]) -> None:
        self._snapshot = snapshot
        self._namespace = namespace
        self._pods = pods

    def locate(self, end: End, version: int | None = None, protocol: str = "", port: int | None = None) -> Located:
        """Where ``end`` is, in the IP ``version`` (None: its first). ``protocol``: nft's word, "": the port's own.

        ``port``: what was said of it elsewhere (``--port``). Raises NotThere.
        """
        wanted = port if end.port is None else end.port
        if end.address is not None:
            assert not isinstance(wanted, str)  # as parse_end reads it
            return Located(end.address, wanted)
        match end.kind:
            case "Service":
                return _of_service(self.service(end), wanted, version, protocol)
            case "Pod":
                return _of_pod(self._pod(end), wanted, version, protocol)
            case _:
                assert not isinstance(wanted, str)
                node = self._node(end)
                text = f"Node {node.name} has no InternalIP"
                return Located(_of_version(node.internal_ips, version, text), wanted, node=node.name)

    def service(self, end: End) -> Service:
        """The Service that is meant. Raises NotThere."""
        namespace = end.namespace or self._namespace
        services = self._snapshot.services
        for service in services:
            if service.key == (namespace, end.name):
                return service
        places = [service.key for service in services]
        raise _missing("Service", end.name, namespace, places, lambda key: f"{key[1]}.{key[0]}")

    def _pod(self, end: End) -> Pod:
        pods = self._pods()
        if pods is None:
            raise NotThere(f"Pod {clipped(end.name)} cannot be looked up: pods may not be listed; give its address")
        pods = tuple(pods)
        for pod in pods:
            if (pod.namespace, pod.name) == (self._namespace, end.name):
                return pod
        places = [(pod.namespace, pod.name) for pod in pods]
        raise _missing("Pod", end.name, self._namespace, places, lambda key: f"-n {key[0]} pod/{key[1]}")

    def _node(self, end: End) -> Node:
        nodes = self._snapshot.nodes
        for node in nodes:
            if node.name == end.name:
                return node
        near = get_close_matches(end.name[:_LONGEST], [node.name for node in nodes], n=_NAMED, cutoff=0.6)
        known = ", ".join(near or sorted(node.name for node in nodes)[:_NAMED])
        remedy = f"{'did you mean' if near else 'there are'} {known}" if known else "there is no Node object at all"
        raise NotThere(f"there is no Node {clipped(end.name)}; {remedy}{'?' * bool(near)}")


def _missing(
    kind: str,
    name: str,
    namespace: str,
    places: Collection[tuple[str, str]],
    written: Callable[[tuple[str, str]], str],
) -> NotThere:
    """No object of that name: the namespaces that have one, else those whose names are near, here and elsewhere."""
    text = f"there is no {kind} {clipped(name)} in namespace {clipped(namespace)}"
    same = sorted(place for place in places if place[1] == name)
    if same:
        others = f" and {len(same) - _NAMED} more" if len(same) > _NAMED else ""
        return NotThere(f"{text}; there is one as {', '.join(written(place) for place in same[:_NAMED])}{others}")
    here = get_close_matches(name[:_LONGEST], [each for space, each in places if space == namespace], _NAMED, 0.6)
    if here:
        return NotThere(f"{text}; did you mean {', '.join(here)}?")
    by_name = {each: (space, each) for space, each in sorted(places, reverse=True)}
    if near := get_close_matches(name[:_LONGEST], by_name, _NAMED, 0.6):
        return NotThere(f"{text}; did you mean {', '.join(written(by_name[each]) for each in near)}?")
    return NotThere(f"{text}; nodeport-nft get {kind.lower()}s --all-namespaces shows what there is")


def _of_service(service: Service, port: int | str | None, version: int | None, protocol: str) -> Located:
    name = f"Service {service.key}"
    if service.type is ServiceType.EXTERNAL_NAME:
        raise NotThere(f"{name} is an alias in DNS (ExternalName): no connection to it is translated here")
    if service.headless:
        raise NotThere(
            f"{name} is headless: its clients connect to the pods themselves; trace pod/NAME or an address"
        )
    if not is_proxied(service):
        raise NotThere(f"{name} is left to another proxy ({clipped(service.proxy_name or '')}) by its label")
    ports = [each for each in service.ports if not protocol or each.protocol.lower() == protocol] or service.ports
    address = _of_version(service.cluster_ips, version, f"{name} has no clusterIP yet; apply it to a store")
    if port is None:
        if len(ports) != 1:
            raise NotThere(f"{name} has several ports; name one: {_written_ports(service.ports)}")
        return Located(address, ports[0].port, ports[0].protocol.lower(), node_port=ports[0].node_port or 0)
    for each in ports:
        if port in (each.port, each.name or None):
            return Located(address, each.port, each.protocol.lower(), node_port=each.node_port or 0)
    for each in ports:
        if port == each.node_port:
            return Located(None, each.node_port, each.protocol.lower(), version=address.version)
    if isinstance(port, str):
        raise NotThere(f"{name} has no port {clipped(port)}; it has {_written_ports(service.ports)}")
    return Located(address, port)  # who connects to it is told by the rules that there is none


def _of_pod(pod: Pod, port: int | str | None, version: int | None, protocol: str) -> Located:
    name = f"Pod {pod.namespace}/{pod.name}"
    address = _of_version(pod.ips, version, f"{name} has no address yet")
    if isinstance(port, str):
        for each in pod.ports:
            if each.name == port and protocol in ("", each.protocol.lower()):
                return Located(address, each.port, each.protocol.lower(), pod.node_name)
        known = ", ".join(f"{each.name} ({each.port}/{each.protocol})" for each in pod.ports) or "none with a name"
        raise NotThere(f"{name} has no port {clipped(port)}; it has {known}")
    if port is None and len(pod.ports) == 1:
        return Located(address, pod.ports[0].port, pod.ports[0].protocol.lower(), pod.node_name)
    return Located(address, port, node=pod.node_name)


def _of_version(addresses: Iterable[IPAddress], version: int | None, lacking: str) -> IPAddress:
    addresses = tuple(addresses)
    for address in addresses:
        if version in (None, address.version):
            return address
    if addresses:
        raise NotThere(
            f"{lacking.partition(' has no ')[0]} has no IPv{version} address, and the other end has no other"
        )
    raise NotThere(lacking)


def _written_ports(ports: Iterable[ServicePort]) -> str:
    return ", ".join(
        f"{each.name} ({each.port}/{each.protocol})" if each.name else f"{each.port}/{each.protocol}"
        for each in ports
    )
