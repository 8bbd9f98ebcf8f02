"""Labels and annotations of Kubernetes' own: slips of those that are read, and the one that restricts and is not.

Labels may be called anything, so a slip is a warning. The annotation with source ranges is to the API server what
loadBalancerSourceRanges is: it checks it (ValidateService, k8s.io/kubernetes pkg/apis/core/validation, 1.36) where
the field is empty. kube-proxy does not read it, nor do we, and whoever relies on it should know. All of it is checked
where objects come in, and not where they are read back out of a store.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import Any

from nodeport_nft.kube.endpoints import HEADLESS_LABEL, SERVICE_NAME_LABEL
from nodeport_nft.kube.fields import Fields
from nodeport_nft.kube.metadata import Metadata
from nodeport_nft.kube.service import PROXY_NAME_LABEL
from nodeport_nft.model import HOSTNAME_LABEL, ZONE_LABEL
from nodeport_nft.notation import parse_network
from nodeport_nft.problems import Path, nearest

SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"

_READ = {
    "Service": (PROXY_NAME_LABEL,),
    "EndpointSlice": (SERVICE_NAME_LABEL, HEADLESS_LABEL),
    "Endpoints": (HEADLESS_LABEL,),
    "Node": (ZONE_LABEL, HOSTNAME_LABEL),
}
_ALL = frozenset(label for labels in _READ.values() for label in labels)
_MOST = 100  # labels and annotations of one object that are looked at


def check_foreign_keys(raw: dict[str, Any], kind: str, metadata: Metadata, fields: Fields) -> None:
    """Note labels that are probably meant as one that is read, and source ranges that restrict nothing."""
    missing = tuple(label for label in _READ.get(kind, ()) if label not in metadata.labels)
    if missing:
        for key in islice(metadata.labels, _MOST):
            if near := _meant(key, missing):
                fields.note(("metadata", "labels", key), f"is not read; did you mean {near}?")
        for key in islice(metadata.annotations, _MOST):
            if near := key if key in missing else _meant(key, missing):
                text = f"is not read as an annotation; did you mean the label {near}?"
                fields.note(("metadata", "annotations", key), text)
    if kind == "Service" and SOURCE_RANGES in metadata.annotations:
        _check_source_ranges(raw, metadata.annotations[SOURCE_RANGES], fields)


@lru_cache(4096)
def _meant(key: str, labels: tuple[str, ...]) -> str:
    """Which of these labels ``key`` is probably a slip of; "" if it is none, or a label that has a meaning."""
    if key in _ALL:
        return ""
    prefix, slash, name = key.replace("k8s.io", "kubernetes.io").rpartition("/")
    for label in labels:
        right_prefix, _, right_name = label.partition("/")
        # Each part by itself: topology.kubernetes.io/region is like .../zone, taken as a whole.
        if slash and nearest(prefix, (right_prefix,)) and nearest(name, (right_name,)):
            return label
        if not slash and nearest(key, (label,)):
            return label
    return ""


def _check_source_ranges(raw: dict[str, Any], text: str, fields: Fields) -> None:
    path: Path = ("metadata", "annotations", SOURCE_RANGES)
    found = raw.get("spec")
    spec = found if isinstance(found, dict) else {}
    if spec.get("loadBalancerSourceRanges"):
        return  # then it counts nowhere
    kind = spec.get("type") or "ClusterIP"
    if kind != "LoadBalancer":
        fields.problem(path, f"is for type LoadBalancer only, not {kind}; leave it out")
        return
    entries = [entry.strip() for entry in text.split(",")] if text.strip() else []
    faults = [fault for entry in entries if (fault := _range_fault(entry))]
    for fault in faults:
        fields.problem(path, fault)
    if entries and not faults:
        fields.note(path, "is not read here; write spec.loadBalancerSourceRanges, or everybody is let in")


def _range_fault(text: str) -> str:
    if not text:
        return "a prefix is missing beside a comma; give it, or leave out the comma"
    try:
        parse_network(text, host_bits=True)
    except ValueError as error:
        return str(error)
    return ""
