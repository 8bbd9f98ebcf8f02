"""What of a document is sent to an API server, and whether one that comes back is another one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from nodeport_nft.kube import Object
from nodeport_nft.kube.fields import without_zeros
from nodeport_nft.store.api import Action

_SERVERS_OWN = ("creationTimestamp", "deletionTimestamp", "generation", "managedFields", "resourceVersion", "uid")
"""Metadata that a document brings along from where it was read, and that nobody can set."""


def cluster_ips(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The addresses of a Service, as the names of their IPAddresses have them; none for other kinds.

    Old Services have leading zeros in theirs.
    """
    spec = raw.get("spec") or {}
    given = (spec.get("clusterIPs") or [spec.get("clusterIP")]) if raw.get("kind") == "Service" else ()
    return tuple(str(ip_address(without_zeros(text))) for text in given if text not in (None, "", "None"))


def asks_for_ports(obj: Object) -> bool:
    """Whether a Service asks for nodePorts of its choice."""
    spec = obj.raw.get("spec") or {}
    ports = spec.get("ports") if obj.kind == "Service" else ()
    return any(port.get("nodePort") for port in ports or ()) or bool(spec.get("healthCheckNodePort"))


def sent_body(raw: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The document without what nobody can set. ``version``: the one that must be stored; "" if any may be."""
    metadata = {key: value for key, value in raw["metadata"].items() if key not in _SERVERS_OWN}
    metadata |= {"resourceVersion": version} if version else {}
    return {**{key: value for key, value in raw.items() if key != "status"}, "metadata": metadata}


def given_version(obj: Object, stored: Object | None) -> str:
    """The version that a document means, "" where it means any, or that of another object (``store.versions``)."""
    metadata = obj.raw["metadata"]
    version, uid = metadata.get("resourceVersion"), metadata.get("uid")
    if stored is None or version in (None, "", "0") or (uid and uid != stored.raw["metadata"].get("uid")):
        return ""
    return str(version)


def without_notes(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A stored document without what the server notes of each write."""
    noted = ("managedFields", "generation", "resourceVersion")
    metadata = {key: value for key, value in raw["metadata"].items() if key not in noted}
    return {**raw, "metadata": metadata}


def action_of(before: Object | None, after: Object | None) -> Action:
    """What a trial would do. Who manages which field is a part of the object; when they last did is none."""
    if before is None:
        return "created"
    if after is None:
        return "configured"
    is_same = without_notes(before.raw) == without_notes(after.raw) and managers(before.raw) == managers(after.raw)
    return "unchanged" if is_same else "configured"


def managers(raw: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Who manages which of its fields."""
    entries = raw["metadata"].get("managedFields") or ()
    return [{key: value for key, value in entry.items() if key != "time"} for entry in entries]


def status_warning(obj: Object, after: Object | None) -> tuple[str, ...]:
    """What is said of a status that is not taken: who counts on the address in it waits for it in vain."""
    status = obj.raw.get("status")
    if not status or after is None or status == after.raw.get("status"):
        return ()
    return ("status: is left as it is, since an API server takes it from those who report it alone; leave it out",)
