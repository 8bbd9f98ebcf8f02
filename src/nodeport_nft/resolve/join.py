"""One Service's ports with their endpoints, before conditions, traffic policy and topology are weighed.

What all ports of a Service have in common is looked for once: its slices by the name of their ports, its Pods, the
numbers behind a Pod's port names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

from nodeport_nft.model import (
    ZONE_LABEL,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Family,
    Pod,
    Protocol,
    Service,
    ServicePort,
)
from nodeport_nft.resolve.bounds import MAX_WEIGHED
from nodeport_nft.resolve.candidate import Candidate, once_each
from nodeport_nft.resolve.frontend import Backend, Place
from nodeport_nft.resolve.index import Index
from nodeport_nft.resolve.trouble import Failing, LastGood, Trouble, failing_at


def families(service: Service) -> tuple[Family, ...]:
    """The families in which a Service is served."""
    return service.ip_families or tuple(_FAMILIES[ip.version] for ip in service.cluster_ips)


_FAMILIES = {family.value: family for family in Family}


class Join:
    """A Service and the objects its endpoints come from: slices, else those of Endpoints, else Pods (E7)."""

    def __init__(self, index: Index, service: Service) -> None:
        self._index = index
        self._service = service
        self._trouble = Trouble(index, service)
        self._pods: Sequence[Pod] | None = None  # None: from slices
        self._slices: dict[str, list[tuple[EndpointSlice, EndpointPort]]] = {}  # by the port's name
        self._targets: dict[int, dict[tuple[str, Protocol], int]] = {}
        self._left = MAX_WEIGHED
        slices = index.slices(service)
        if any(piece.headless or piece.mirrored for piece in slices):
            slices = [piece for piece in slices if not piece.headless]
            slices = [piece for piece in slices if not piece.mirrored] or slices
        if not slices and service.selector:
            self._pods = [pod for pod in index.selected(service) if not pod.finished]
        for piece in slices:
            for port in piece.ports:
                self._slices.setdefault(port.name, []).append((piece, port))

    def candidates(self, port: ServicePort) -> tuple[Candidate, ...] | None:
        """A port's candidates for new connections: one of weight 0 is none (X7).

        None where the ports that were asked for before have so many that this one's are too many (MAX_WEIGHED).
        """
        pieces = self._pieces(port)
        count = self._count(pieces)
        if self._is_too_many(count):
            return None
        self._left = max(0, self._left - count)
        found = self._from_slices(pieces) if self._pods is None else self._from_pods(self._pods, port)
        if self._index.drained:
            found = (c._replace(is_drained=True) if c.node_name in self._index.drained else c for c in found)
        if self._trouble:
            return self._trouble.judged(found)
        return tuple(c for c in once_each(found) if c.weight)

    def plain(self, port: ServicePort, node_name: str) -> list[Backend] | None:
        """The endpoints that ``candidates`` come to on this node where nothing is to be weighed; None where it is.

        So it is with nearly all Services: their endpoints come from slices, each once, ready and without hints, and
        nothing is drained, lost or failing. It takes a fifth of the time. Sorted by family, address and port.
        """
        if self._pods is not None or self._service.weights or self._index.drained or self._trouble or not node_name:
            return None
        pieces = self._pieces(port)
        count = self._count(pieces)
        if self._is_too_many(count):
            return None
        here, elsewhere, unknown = Place.HERE, Place.ELSEWHERE, Place.UNKNOWN
        # By the packed form: that of an IPv6Address is a hash that whoever writes the address can choose.
        found: dict[tuple[int, bytes, int], Backend] = {}
        for piece, own in pieces:
            number, weight = own.port, piece.weight
            if piece.drained or not weight:
                return None
            for endpoint in piece.endpoints:
                if not endpoint.ready or endpoint.zones or endpoint.nodes:
                    return None
                address, its_node = endpoint.address, endpoint.node_name
                place = (here if its_node == node_name else elsewhere) if its_node else unknown  # Place.of
                found[address.version, address.packed, number] = Backend(address, number, place, weight)
        if len(found) < count:  # of two copies of one, the better one counts (E3)
            return None
        self._left -= min(count, self._left)
        return [found[at] for at in sorted(found)] if count > 1 else list(found.values())

    def _pieces(self, port: ServicePort) -> list[tuple[EndpointSlice, EndpointPort]]:
        """The slices that have a port, by its name (E4): it may stand for different numbers in different slices."""
        return [pair for pair in self._slices.get(port.name, ()) if pair[1].protocol is port.protocol]

    def _count(self, pieces: Iterable[tuple[EndpointSlice, EndpointPort]]) -> int:
        """How many endpoints a port has to be looked at."""
        return sum([len(piece.endpoints) for piece, _ in pieces]) if self._pods is None else len(self._pods)

    def _is_too_many(self, count: int) -> bool:
        """Whether they are more than there is room for, behind those of the ports before (MAX_WEIGHED)."""
        return count > self._left and self._left < MAX_WEIGHED

    def has_failed(self, candidate: Candidate) -> bool:
        """Whether a candidate's node is lost or its readiness probe fails, and that counts."""
        return self._trouble.failed_at(candidate) < inf

    def failing(self, candidate: Candidate) -> Failing | None:
        """Why a candidate that ``has_failed`` has."""
        return failing_at(
            self._index, self._service.namespace, candidate.node_name, candidate.address, candidate.port
        )

    @property
    def last_good(self) -> LastGood | None:
        """What of the candidates that were asked for has failed and is used nevertheless, if any is."""
        return self._trouble.last_good

    def _from_slices(self, slices: Iterable[tuple[EndpointSlice, EndpointPort]]) -> Iterable[Candidate]:
        weights = self._service.weights
        for piece, port in slices:
            drained = {ip.packed for ip in piece.drained}
            for endpoint in piece.endpoints:
                weight = weights.get(str(endpoint.address), piece.weight) if weights else piece.weight
                yield _candidate(endpoint, port.port, weight, is_drained=endpoint.address.packed in drained)

    def _from_pods(self, pods: Iterable[Pod], port: ServicePort) -> Iterable[Candidate]:
        """Selected Pods as endpoints, with what the EndpointSlice controller would say of them (E5, E6, E7)."""
        service = self._service
        for pod in pods:
            number = self._target(pod, port)
            if number is None:
                continue
            ready = service.publish_not_ready_addresses or (pod.ready and not pod.terminating)
            zone = self._zone_of(pod.node_name) if service.traffic_distribution else ""
            nodes = (pod.node_name,) if service.traffic_distribution == "PreferSameNode" and pod.node_name else ()
            for family in families(service):
                first = next((ip for ip in pod.ips if ip.version == family), None)
                if first is not None:
                    zones = (zone,) if zone else ()
                    conditions = ready, pod.ready, pod.terminating
                    weight = service.weights.get(str(first), pod.weight) if service.weights else pod.weight
                    yield Candidate(
                        first, number, *conditions, pod.node_name, zones, nodes, weight, first in pod.drained
                    )

    def _target(self, pod: Pod, port: ServicePort) -> int | None:
        """The number behind a targetPort in this Pod; None if the Pod has no port of that name (E4)."""
        if isinstance(port.target_port, int):
            return port.target_port
        named = self._targets.get(id(pod))
        if named is None:
            # The first of a name counts, and so it is written last.
            named = self._targets[id(pod)] = {(c.name, c.protocol): c.port for c in reversed(pod.ports)}
        return named.get((port.target_port, port.protocol))

    def _zone_of(self, node_name: str) -> str:
        node = self._index.nodes.get(node_name)
        return node.labels.get(ZONE_LABEL, "") if node else ""


def _candidate(endpoint: Endpoint, port: int, weight: int, *, is_drained: bool) -> Candidate:
    return Candidate(
        endpoint.address,
        port,
        endpoint.ready,
        endpoint.serving,
        endpoint.terminating,
        endpoint.node_name,
        endpoint.zones,
        endpoint.nodes,
        weight,
        is_drained,
    )
