"""The cluster's names: which addresses the name of a Service stands for, kept up Service by Service; pure.

As the Kubernetes DNS specification (1.1) has it: ``NAME.NAMESPACE.svc.DOMAIN`` is a Service's clusterIPs, or, where
it is headless, the addresses of its ready endpoints. A pod's ``search`` list completes the short names. Missing are
the names of ports (SRV) and of ExternalName Services (CNAME), for which a hosts file has no lines, and those of
single endpoints.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from nodeport_nft.hosts import MARKER
from nodeport_nft.model import Family, IPAddress, ObjectName, Service, ServiceType
from nodeport_nft.resolve.bounds import MAX_NAMED
from nodeport_nft.resolve.candidate import Candidate, once_each
from nodeport_nft.resolve.index import Index
from nodeport_nft.resolve.join import families
from nodeport_nft.resolve.trouble import Trouble


class Names:
    """The lines of hosts files, one file a namespace. ``domain`` is the last part of all names.

    ``crowded``: headless Services with more endpoints than ``MAX_NAMED``, and how many they have.
    """

    def __init__(self, domain: str) -> None:
        self.domain = domain
        self.crowded: dict[ObjectName, int] = {}
        self._lines: dict[str, dict[str, str]] = defaultdict(
            dict
        )  # by namespace and Service; each with its line ends

    def update(self, index: Index, keys: Iterable[ObjectName]) -> set[str]:
        """Let the names of these Services be as the index has them; the namespaces of which lines have changed."""
        return {key.namespace for key in keys if self._put(key, self._lines_of(key, index))}

    def restore(self, text: str, is_kept: Callable[[ObjectName], bool]) -> None:
        """Take those lines of a file of ours whose Services are to keep their names, whatever else is known."""
        for line in text.removeprefix(MARKER).splitlines():
            _, _, name = line.partition(" ")
            parts = name.removesuffix(f".svc.{self.domain}").rsplit(".", 1)
            if name.endswith(f".svc.{self.domain}") and len(parts) == 2 and is_kept(ObjectName(parts[1], parts[0])):
                self._lines[parts[1]][parts[0]] = self._lines[parts[1]].get(parts[0], "") + line + "\n"

    def namespaces(self) -> set[str]:
        """Those that have a name."""
        return {namespace for namespace, lines in self._lines.items() if lines}

    def count(self, namespace: str) -> int:
        """How many Services of a namespace have a name."""
        return len(self._lines.get(namespace, ()))

    def text(self, namespace: str) -> str:
        """The file of a namespace, sorted by name; "" where it has no names."""
        lines = self._lines.get(namespace)
        return f"{MARKER}\n" + "".join(lines[name] for name in sorted(lines)) if lines else ""

    def _put(self, key: ObjectName, lines: str) -> bool:
        """Whether that is another than before."""
        if self._lines.get(key.namespace, {}).get(key.name, "") == lines:
            return False
        if lines:
            self._lines[key.namespace][key.name] = lines
        else:
            del self._lines[key.namespace][key.name]
            if not self._lines[key.namespace]:
                del self._lines[key.namespace]
        return True

    def _lines_of(self, key: ObjectName, index: Index) -> str:
        self.crowded.pop(key, None)
        service = index.services.get(key)
        if service is None or service.type is ServiceType.EXTERNAL_NAME:
            return ""
        addresses: Iterable[IPAddress] = service.cluster_ips
        if service.headless:
            found = sorted(set(_published(index, service)), key=lambda ip: (ip.version, int(ip)))
            if len(found) > MAX_NAMED:
                self.crowded[key] = len(found)
            addresses = found[:MAX_NAMED]
        return "".join(f"{ip} {key.name}.{key.namespace}.svc.{self.domain}\n" for ip in addresses)


def _published(index: Index, service: Service) -> list[IPAddress]:
    """The addresses of a headless Service's ready endpoints; of all of them, where it publishes those as well (E5).

    What is drained is left out while there are others, and what has failed as among the endpoints of other Services.
    """
    every = list(_endpoints(index, service))
    others = _ready(index, service, (c for c in every if not c.is_drained))
    return others or _ready(index, service, (c._replace(is_drained=False) for c in every))


def _ready(index: Index, service: Service, candidates: Iterable[Candidate]) -> list[IPAddress]:
    trouble = Trouble(index, service)
    judged = trouble.judged(candidates) if trouble else tuple(once_each(candidates))
    return [candidate.address for candidate in judged if candidate.ready]


def _endpoints(index: Index, service: Service) -> Iterator[Candidate]:
    """All of them, whatever their port; from where those of other Services come: slices, Endpoints or Pods (E7)."""
    slices = list(index.slices(service))
    own = [piece for piece in slices if not piece.mirrored] or slices
    every = service.publish_not_ready_addresses
    if own or not service.selector:
        for piece in own:
            for endpoint in piece.endpoints:
                conditions = endpoint.ready or every, endpoint.serving, endpoint.terminating
                is_drained = endpoint.address in piece.drained or endpoint.node_name in index.drained
                yield Candidate(endpoint.address, 0, *conditions, endpoint.node_name, is_drained=is_drained)
        return
    for pod in index.selected(service):
        conditions = every or (pod.ready and not pod.terminating), pod.ready, pod.terminating
        for family in families(service) or tuple(Family):
            for ip in [ip for ip in pod.ips if ip.version == family and not pod.finished][:1]:
                is_drained = ip in pod.drained or pod.node_name in index.drained
                yield Candidate(ip, 0, *conditions, pod.node_name, is_drained=is_drained)
