"""The kinds of objects that the server serves."""

from __future__ import annotations

from dataclasses import dataclass

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Kind:
    """One resource of the API.

    ``status``: whether it has that subresource. ``gives_back``: a delete answers with the object, not with a Status.
    ``generation``: whether changes are counted. ``put_creates``: an update of what is not there makes it.
    ``fields``: what it is selected by, besides its name.
    """

    group: str
    version: str
    resource: str
    kind: str
    storage_hash: str
    namespaced: bool = True
    status: bool = False
    gives_back: bool = False
    generation: bool = False
    put_creates: bool = False
    short: str = ""
    fields: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


_CORE = ("", "v1")
_DISCOVERY = ("discovery.k8s.io", "v1")
_EVENTS = ("events.k8s.io", "v1")
_NETWORK = ("networking.k8s.io", "v1")
_OF_PODS = ("spec.nodeName", "status.phase", "status.podIP")
_OF_EVENTS = (
    *("regarding.kind", "regarding.name", "regarding.namespace"),
    *("reason", "type", "reportingController"),
)

NAMESPACE = Kind(
    *_CORE, "namespaces", "Namespace", "Q3oi5N2YM8M=", short="ns", namespaced=False, status=True, gives_back=True
)
NODE = Kind(
    *_CORE, "nodes", "Node", "XwShjMxG9Fs=", short="no", namespaced=False, status=True, fields=("spec.unschedulable",)
)
POD = Kind(*_CORE, "pods", "Pod", "xPOwRZ+Yhw8=", short="po", status=True, gives_back=True, fields=_OF_PODS)
SERVICE = Kind(
    *_CORE, "services", "Service", "0/CO1lhkEBI=",
    short="svc", status=True, gives_back=True, put_creates=True, fields=("spec.clusterIP", "spec.type"),
)  # fmt: skip
ENDPOINT_SLICE = Kind(*_DISCOVERY, "endpointslices", "EndpointSlice", "qgS0xkrxYAI=", generation=True)
EVENT = Kind(*_EVENTS, "events", "Event", "r2yiGXH7wu8=", short="ev", put_creates=True, fields=_OF_EVENTS)
IP_ADDRESS = Kind(*_NETWORK, "ipaddresses", "IPAddress", "3f/plJFChNE=", short="ip", namespaced=False)
SERVICE_CIDR = Kind(*_NETWORK, "servicecidrs", "ServiceCIDR", "gNLvruQhW2g=", namespaced=False, status=True)

KINDS = (NAMESPACE, NODE, POD, SERVICE, ENDPOINT_SLICE, EVENT, IP_ADDRESS, SERVICE_CIDR)
BY_RESOURCE = {(kind.group, kind.version, kind.resource): kind for kind in KINDS}
BY_NAME = {kind.kind: kind for kind in KINDS}
GROUPS = tuple(sorted({(kind.group, kind.version) for kind in KINDS}))


def discovered(group: str, version: str) -> list[dict[str, object]]:
    """The resources of one group and version, as discovery lists them."""
    found: list[dict[str, object]] = []
    for kind in KINDS:
        if (kind.group, kind.version) != (group, version):
            continue
        # Namespaces are emptied one by one.
        verbs = [verb for verb in VERBS if kind is not NAMESPACE or verb != "deletecollection"]
        entry: dict[str, object] = {
            "name": kind.resource, "singularName": kind.kind.lower(), "namespaced": kind.namespaced,
            "kind": kind.kind, "verbs": verbs,
        }  # fmt: skip
        if kind.short:
            entry["shortNames"] = [kind.short]
        if kind in (POD, SERVICE):
            entry["categories"] = ["all"]
        found.append({**entry, "storageVersionHash": kind.storage_hash})
        if kind.status:
            found.append({
                "name": f"{kind.resource}/status", "singularName": "", "namespaced": kind.namespaced,
                "kind": kind.kind, "verbs": ["get", "patch", "update"],
            })  # fmt: skip
    return found
