"""What a cluster's store says of its nodes beside their objects: ``get nodes`` and ``describe node`` show both.

A node that has registered is shown whether it has a Node object or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from nodeport_nft.cli.columns import node_cells
from nodeport_nft.cli.layout import NONE, UNKNOWN, age, ago, mapping, records, string, when
from nodeport_nft.cli.listing import Listing
from nodeport_nft.cli.resources import select
from nodeport_nft.kinds import BY_KIND
from nodeport_nft.kube import Object
from nodeport_nft.model import Ref
from nodeport_nft.problems import clipped
from nodeport_nft.store import Damaged, open_members

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nodeport_nft.cli.resources import Target
    from nodeport_nft.config import Config
    from nodeport_nft.store import Objects
    from nodeport_nft.store.api import Registered

_LONGEST_ERROR = 200  # characters of one in a table


def registered_nodes(config: Config) -> dict[str, Registered] | None:
    """Who has registered with the store of the configuration, by name; None where nobody does. Raises StoreError."""
    members = open_members(config)
    if members is None:
        return None
    with closing(members):
        return {one.name: one for one in members.list()}


def select_nodes(
    store: Objects, targets: Iterable[Target], registered: Mapping[str, Registered]
) -> tuple[tuple[Object, ...], tuple[str, ...]]:
    """As ``select`` has it, of nodes: what their objects lack, or all of it, is what they have registered."""
    targets = tuple(targets)
    there = {each.ref.name: each for each in store.list("Node")}  # not one by one: there may be thousands
    unlisted = [name for name in registered if name not in there or _is_damaged(store, there[name])]
    found, missing = select(store, [t for t in targets if t[1] is None or t[1] not in unlisted], "")
    found = tuple(_completed(node, registered.get(node.name)) for node in found)
    wanted = {name for _, name in targets}
    made = [_made(registered[name]) for name in unlisted if None in wanted or name in wanted]
    return tuple(sorted((*found, *made), key=lambda one: one.name)), missing


def _is_damaged(store: Objects, node: Object | Damaged) -> bool:
    """Whether it cannot be read, which the store is to tell of."""
    return isinstance(node, Damaged) and store.get("Node", "", node.ref.name) is None


def _completed(node: Object, one: Registered | None) -> Object:
    """A node whose object has no addresses, such as one that `drain` has made, with those it has registered."""
    if one is None or records(node.raw, "status", "addresses"):
        return node
    made = _made(one).raw
    spec = {**made["spec"], **mapping(node.raw, "spec")}
    return replace(node, raw={**node.raw, "spec": spec, "status": {**mapping(node.raw, "status"), **made["status"]}})


def _made(one: Registered) -> Object:
    report = one.report
    raw = {
        "metadata": {"name": one.name, "labels": dict(report.labels)},
        "spec": {"podCIDRs": list(report.pod_cidrs)},
        "status": {"addresses": [{"type": "InternalIP", "address": each} for each in report.addresses]},
    }
    return Object(Ref("Node", "", one.name), raw)


def nodes_listing(
    nodes: Iterable[Object], registered: Mapping[str, Registered], *, wide: bool, now: datetime
) -> Listing:
    """The nodes of a cluster. kubectl's columns come first."""
    rows, documents = [], []
    for node in nodes:
        (status, roles), more = node_cells(node)
        one = registered.get(node.name)
        if one is not None:
            _, comma, disabled = status.partition(",")
            status = ("Ready" if one.is_alive else "NotReady") + comma + disabled
        created = age(string(node.raw, "metadata", "creationTimestamp"), now)
        version = one.report.version if one else string(node.raw, "status", "nodeInfo", "kubeletVersion")
        row = ("", node.name, status, roles, created, version or (UNKNOWN if one else NONE), _lag(one, now))
        rows.append((*row, *more, _last_error(one)) if wide else row)
        documents.append(node.raw)
    titles = ("STATUS", "ROLES", "AGE", "VERSION", "LAG")
    shown = (*titles, "INTERNAL-IP", "EXTERNAL-IP", "LAST-ERROR") if wide else titles
    return Listing(BY_KIND["Node"], shown, rows, documents)


def registration_fields(one: Registered | None, now: datetime) -> list[tuple[str, str]]:
    """What ``describe`` says of a node's registration."""
    if one is None:
        return [("Ready", "Unknown (no daemon has registered under this name)")]
    report = one.report
    if not one.is_alive:
        since = f" since {when(one.lost_at, now)}" if one.lost_at else ""
        return [("Ready", f"False (its daemon is not to be seen{since})")]
    where = f" on {one.machine}" if one.machine else ""
    lag = f"{report.pending} Service{'s' * (report.pending != 1)} to be written for {_lag(one, now)}"
    error = _last_error(one)
    solved = f"{when(report.last_error_at, now)}, solved since: {error}" if report.last_error_at else error
    return [
        ("Ready", "True"),
        ("Daemon", f"{report.version or UNKNOWN}{where}, since {when(report.started, now)}"),
        ("Last sync", when(report.programmed, now)),
        ("Lag", lag if report.pending else "none"),
        ("Last error", error if report.error or error == NONE else solved),
    ]


def _lag(one: Registered | None, now: datetime) -> str:
    """Since when a change waits to be written, or the node is lost."""
    if one is None:
        return NONE
    if not one.is_alive:
        return f"lost {ago(one.lost_at, now)}" if one.lost_at else "lost"
    if not one.report.programmed:
        return UNKNOWN
    return ago(one.report.pending_since, now) if one.report.pending else "0s"


def _last_error(one: Registered | None) -> str:
    error = (one.report.error or one.report.last_error) if one else ""
    return clipped(" ".join(error.split()), _LONGEST_ERROR) or NONE
