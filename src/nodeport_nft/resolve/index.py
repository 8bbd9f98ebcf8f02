"""What there is, joined: the slices and Pods of each Service, kept up to date object by object.

A change of an object costs what that object has to do with, and tells which Services it touches: a slice its own
Service, a Pod those whose selector it fits or did fit, a Node those that ask where nodes are or for their labels.
A node that is drained or lost touches the Services with an endpoint on it, and a readiness probe that fails those
with one at its address. Everything else may stay as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain

from nodeport_nft.model import (
    EndpointSlice,
    IPAddress,
    Member,
    Node,
    ObjectName,
    Parsed,
    Pod,
    ProbeFailure,
    Ref,
    Service,
    ServiceCIDR,
    Snapshot,
    Value,
)
from nodeport_nft.resolve.owners import Owners
from nodeport_nft.resolve.whereabouts import Whereabouts, addresses_of, nodes_of

_Label = tuple[str, str, str]
"""A namespace and a label in it, with its value."""


def by_object(snapshot: Snapshot) -> Iterable[Parsed]:
    """The objects that a snapshot is made of, each with its values. Slices that share a name are one object's."""
    objects: dict[Ref, list[Value]] = defaultdict(list)
    for service in snapshot.services:
        objects[Ref("Service", *service.key)].append(service)
    for piece in snapshot.slices:
        objects[Ref("EndpointSlice", piece.namespace, piece.name)].append(piece)
    for pod in snapshot.pods:
        objects[Ref("Pod", pod.namespace, pod.name)].append(pod)
    for node in snapshot.nodes:
        objects[Ref("Node", "", node.name)].append(node)
    for member in snapshot.members:
        objects[member.ref].append(member)
    for failure in snapshot.probe_failures:
        objects[failure.ref].append(failure)
    for cidr in snapshot.service_cidrs:
        objects[cidr.ref].append(cidr)
    return ((ref, tuple(values)) for ref, values in objects.items())


class Index:
    """Every object by what is asked of it.

    ``drained`` and ``lost`` are nodes, the latter with the time at which each was lost; ``failing`` are addresses,
    with the time since which the readiness probe of each fails. Times are Unix times in seconds.
    """

    def __init__(self) -> None:
        self.services: dict[ObjectName, Service] = {}
        self.nodes: dict[str, Node] = {}
        self.drained: set[str] = set()
        self.lost: dict[str, float] = {}
        self.failing: dict[tuple[str, bytes], float] = {}  # by namespace and packed address
        self.service_cidrs: dict[str, ServiceCIDR] = {}  # what an API server gives clusterIPs from
        self._values: dict[Ref, tuple[Value, ...]] = {}
        # The objects with slices of a Service, by namespace and name; one alone needs no dict, which is most of them.
        self._slices: dict[str, dict[str, Ref | dict[Ref, None]]] = defaultdict(dict)
        self._pods: dict[_Label, dict[Ref, Pod]] = defaultdict(dict)
        self._selecting: Owners[_Label] = Owners()
        self._holders: Owners[bytes] = Owners()  # of clusterIPs, by their packed form
        self._held: dict[ObjectName, frozenset[bytes]] = {}  # clusterIPs of Services that are not known themselves
        self._claiming: Owners[bytes] = Owners()  # an address from outside
        self._by_address = Whereabouts(addresses_of)
        self._by_node = Whereabouts(nodes_of)

    @classmethod
    def of(cls, snapshot: Snapshot) -> Index:
        """An index of all these objects."""
        index = cls()
        for ref, values in by_object(snapshot):
            index.put(ref, values)
        return index

    def put(self, ref: Ref, values: tuple[Value, ...]) -> set[ObjectName]:
        """Let the object have these values, none if it is gone; the Services that this touches."""
        before = self._values.get(ref, ())
        if values == before:
            return set()
        touched: set[ObjectName] = set()
        for whereabouts in (self._by_address, self._by_node):
            if whereabouts.is_used:
                whereabouts.remove(ref, before)
                whereabouts.add(ref, values)
        for value in before:
            touched |= self._take_out(ref, value)
        for value in values:
            touched |= self._put_in(ref, value)
        if values:
            self._values[ref] = values
        else:
            del self._values[ref]
        return touched

    def values(self, ref: Ref) -> tuple[Value, ...]:
        """What an object is made into; nothing, if there is none."""
        return self._values.get(ref, ())

    def refs(self) -> frozenset[Ref]:
        """Every object there is."""
        return frozenset(self._values)

    def slices(self, service: Service) -> list[EndpointSlice]:
        """All slices of a Service, those of its Endpoints object among them."""
        namespace, name = service.namespace, service.name
        found = self._slices.get(namespace, {}).get(name, {})
        return [
            value
            for ref in ((found,) if isinstance(found, Ref) else found)
            for value in self._values[ref]
            if isinstance(value, EndpointSlice) and value.service == name and value.namespace == namespace
        ]

    @property
    def has_pods(self) -> bool:
        """Whether a selector may fit anything: where slices tell of all endpoints, none need be asked for."""
        return bool(self._pods)

    def selected(self, service: Service) -> list[Pod]:
        """Pods that carry every label of the selector; the rarest label narrows the search."""
        wanted = service.selector.items()
        rarest: Mapping[Ref, Pod] = min((self._pods.get((service.namespace, *pair), {}) for pair in wanted), key=len)
        return [pod for pod in rarest.values() if wanted <= pod.labels.items()]

    def holder(self, address: IPAddress, other_than: ObjectName) -> ObjectName | None:
        """Another Service whose clusterIP this is; None if there is none."""
        return min((key for key in self._holders.of(address.packed) if key != other_than), default=None)

    def hold(self, owner: ObjectName, addresses: Iterable[IPAddress]) -> set[ObjectName]:
        """Let these clusterIPs, and no others, be those of a Service that is not known itself; who claims them."""
        before, now = self._held.pop(owner, frozenset()), frozenset(ip.packed for ip in addresses)
        for address in before:
            self._holders.discard(address, owner)
        for address in now:
            self._holders.add(address, owner)
        if now:
            self._held[owner] = now
        return {claimant for address in before | now for claimant in self._claiming.of(address)}

    def _put_in(self, ref: Ref, value: Value) -> AbstractSet[ObjectName]:
        match value:
            case Service():
                key = value.key  # one object for all places that keep it
                self.services[key] = value
                if label := _registered(value):
                    self._selecting.add(label, key)
                for ip in value.cluster_ips:
                    self._holders.add(ip.packed, key)
                for address in _from_outside(value):
                    self._claiming.add(address, key)
                return {key} | self._claiming_of(value) if self._claiming else {key}
            case EndpointSlice():
                by_name = self._slices[value.namespace]
                others = by_name.setdefault(value.service, ref)
                if isinstance(others, dict):
                    others[ref] = None
                elif others != ref:
                    by_name[value.service] = {others: None, ref: None}
                return {ObjectName(value.namespace, value.service)}
            case Pod():
                for label in _labels(value):
                    self._pods[label][ref] = value
                return self._selected_by(value)
            case Node():
                self.nodes[value.name] = value
                if not value.drained:
                    return self._asking_for_nodes()
                self.drained.add(value.name)
                return self._asking_for_nodes() | self._on(value.name)
            case Member():
                if not value.lost_at:
                    return set()
                self.lost[value.name] = value.lost_at
                return self._on(value.name)
            case ProbeFailure():
                self.failing[value.namespace, value.address.packed] = value.since
                return self._at(value.namespace, value.address)
            case ServiceCIDR():
                self.service_cidrs[value.name] = value
                return set()

    def _take_out(self, ref: Ref, value: Value) -> AbstractSet[ObjectName]:
        match value:
            case Service():
                del self.services[value.key]
                if label := _registered(value):
                    self._selecting.discard(label, value.key)
                for ip in value.cluster_ips:
                    self._holders.discard(ip.packed, value.key)
                for address in _from_outside(value):
                    self._claiming.discard(address, value.key)
                return {value.key} | self._claiming_of(value)
            case EndpointSlice():
                by_name = self._slices[value.namespace]
                others = by_name.get(value.service)
                if isinstance(others, dict):
                    others.pop(ref, None)
                if others in (ref, {}):  # gone with all of the object's slices of this Service
                    del by_name[value.service]
                if not by_name:
                    del self._slices[value.namespace]
                return {ObjectName(value.namespace, value.service)}
            case Pod():
                for label in _labels(value):
                    self._pods[label].pop(ref, None)
                    if not self._pods[label]:
                        del self._pods[label]
                return self._selected_by(value)
            case Node():
                del self.nodes[value.name]
                if not value.drained:
                    return self._asking_for_nodes()
                self.drained.discard(value.name)
                return self._asking_for_nodes() | self._on(value.name)
            case Member():
                return self._on(value.name) if self.lost.pop(value.name, None) is not None else set()
            case ProbeFailure():
                self.failing.pop((value.namespace, value.address.packed), None)
                return self._at(value.namespace, value.address)
            case ServiceCIDR():
                self.service_cidrs.pop(value.name, None)
                return set()

    def _selected_by(self, pod: Pod) -> set[ObjectName]:
        """The Services whose selector fits a Pod."""
        near = (self._selecting.of(label) for label in _labels(pod))
        return {key for keys in near for key in keys if self.services[key].selector.items() <= pod.labels.items()}

    def _claiming_of(self, service: Service) -> set[ObjectName]:
        """The Services that claim a clusterIP of this one from outside: whose it is decides on what they get."""
        return {key for ip in service.cluster_ips for key in self._claiming.of(ip.packed)}

    def _on(self, node: str) -> set[ObjectName]:
        """The Services that may have an endpoint on a node."""
        return self._of(self._by_node.at(node, self._values.items()))

    def _at(self, namespace: str, address: IPAddress) -> set[ObjectName]:
        """The Services of a namespace that may have an endpoint at an address."""
        found = self._by_address.at(address.packed, self._values.items())
        return self._of(ref for ref in found if ref.namespace == namespace)

    def _of(self, refs: Iterable[Ref]) -> set[ObjectName]:
        """The Services that may have endpoints of these objects."""
        touched: set[ObjectName] = set()
        for value in chain.from_iterable(self._values[ref] for ref in refs):
            if isinstance(value, EndpointSlice):
                touched.add(ObjectName(value.namespace, value.service))
            elif isinstance(value, Pod):
                touched |= self._selected_by(value)
        return touched

    def _asking_for_nodes(self) -> set[ObjectName]:
        return {key for key, s in self.services.items() if s.traffic_distribution or s.node_port_nodes}


def _registered(service: Service) -> _Label | None:
    """The one label of a selector under which its Service is found; a Pod that it fits carries that one, too."""
    if not service.selector:
        return None
    return service.namespace, *min(service.selector.items())


def _labels(pod: Pod) -> Iterable[_Label]:
    return ((pod.namespace, label, value) for label, value in pod.labels.items())


def _from_outside(service: Service) -> set[bytes]:
    """The addresses that a Service claims, packed: of an IPv6 address the author can choose the hash, too."""
    if not (service.external_ips or service.load_balancer_ips):
        return set()
    return {ip.packed for ip in (*service.external_ips, *service.load_balancer_ips)}
