"""The kinds of object that have a use here, and what the Kubernetes API and kubectl call them: the one table of it.

What is particular to a room is keyed by it: the parsers in ``kube``, the columns in ``cli``.
Source: the discovery documents of an API server, ``/api/v1`` and ``/apis/discovery.k8s.io/v1``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Resource(NamedTuple):
    """One kind; ``group`` is "" for the core API, ``short`` is "" where kubectl has no short name for it."""

    kind: str
    plural: str
    singular: str
    short: str = ""
    group: str = ""
    version: str = "v1"
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As its objects say it: "v1", "discovery.k8s.io/v1"."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full(self) -> str:
        """As kubectl's answers name it: "service", "endpointslice.discovery.k8s.io"."""
        return f"{self.singular}.{self.group}" if self.group else self.singular

    @property
    def words(self) -> tuple[str, ...]:
        """What it may be called in arguments, in lower case; in full as well, with its group and its version."""
        names = tuple(dict.fromkeys(name for name in (self.plural, self.singular, self.short) if name))
        in_full = (f"{name}.{self.group}" for name in names if self.group)
        return (*names, *in_full, *(f"{name}.{self.version}.{self.group}" for name in names))

    def path(self, namespace: str | None = None, name: str = "") -> str:
        """Where an API server has the objects of this kind, all or those of a namespace, or the one of a name."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        within = f"/namespaces/{namespace}" if self.namespaced and namespace is not None else ""
        return f"{root}{within}/{self.plural}{f'/{name}' if name else ''}"


RESOURCES = (
    Resource("Service", "services", "service", "svc"),
    Resource("Endpoints", "endpoints", "endpoints", "ep"),
    Resource("EndpointSlice", "endpointslices", "endpointslice", group="discovery.k8s.io"),
    Resource("Pod", "pods", "pod", "po"),
    Resource("Node", "nodes", "node", "no", namespaced=False),
)
BY_KIND: Mapping[str, Resource] = MappingProxyType({resource.kind: resource for resource in RESOURCES})
BY_WORD: Mapping[str, Resource] = MappingProxyType({word: one for one in RESOURCES for word in one.words})
KINDS = tuple(BY_KIND)

_CLUSTER_WIDE = tuple(resource.kind for resource in RESOURCES if not resource.namespaced)


def is_namespaced(kind: object) -> bool:
    """Whether objects of this kind stand in a namespace; those of kinds that are not known do."""
    return kind not in _CLUSTER_WIDE


def reference(kind: str, name: str) -> str:
    """An object as kubectl names it in its answers: "service/web"; of a kind that is not known, as well as may be."""
    known = BY_KIND.get(kind)
    return f"{known.full if known else kind.lower()}/{name}"
