"""What a node's registration looks like in etcd: the values of the keys below ``members/`` and ``progress/``.

Three keys, by how often they change. ``known`` is written when a node comes and when it is lost, and outlives it.
``live`` is written when a daemon starts; all daemons follow both. ``progress`` changes with every change of the
objects; only those who ask for it read it. As in Kubernetes a node is alive while its lease is, and says how it does
elsewhere (KEP-589, "Efficient Node Heartbeats").

What somebody else has written there is read with care: what is none of it counts as absent.
"""

from __future__ import annotations

import json
from typing import Any

from msgspec import Struct

from nodeport_nft.json_values import finite
from nodeport_nft.model import MEMBER, PROBE_FAILURE, ProbeFailure, Ref
from nodeport_nft.notation import label_fault, parse_address, subdomain_fault
from nodeport_nft.problems import clipped
from nodeport_nft.store.api import NodeReport
from nodeport_nft.store.etcd import layout

LONGEST_ERROR = 1000
"""Characters of an error that others are told."""

_LONGEST_BARRIER = 64


class Identity(Struct, frozen=True):
    """Who has registered: ``machine`` is its host name, for people.

    ``place`` is the network namespace of one boot of one kernel, where no two daemons run: whoever registers from the
    same place is the same node, started again. ``daemon`` is another one with each start.
    """

    machine: str = ""
    place: str = ""
    daemon: str = ""


# --- positions --------------------------------------------------------------------------------------------


def position_text(revision: int, barrier: str) -> str:
    """How far a daemon knows the store: the revision, and the barrier that it has seen last."""
    return f"{revision} {barrier}"


def read_position(text: str) -> tuple[int, str]:
    """The revision and the barrier of ``position_text``; 0 and "" of anything else."""
    revision, _, barrier = text.partition(" ")
    return (int(revision), barrier) if revision.isascii() and revision.isdigit() and len(revision) < 20 else (0, "")


def barrier_text(value: bytes | None) -> str:
    """A barrier as nodes repeat it; "" if there is none."""
    return "" if value is None else clipped(value.decode(errors="replace"), _LONGEST_BARRIER).strip()


# --- members/known, members/probes ------------------------------------------------------------------------


def known_value(lost_at: float) -> bytes:
    """The value of a ``known`` key."""
    return json.dumps({"lostAt": round(lost_at, 3)}).encode()


def read_known(name: str, value: bytes) -> float:
    """When the node was found to be lost, 0.0 if it is not. Raises ValueError with what is wrong."""
    if fault := subdomain_fault(name):
        raise ValueError(fault)
    return _seconds(value, "lostAt")


def probe_ref(key: str) -> Ref:
    """The Ref of a key of ``PROBES``, whatever it is."""
    namespace, _, address = key.removeprefix(layout.PROBES).partition("/")
    return Ref(PROBE_FAILURE, namespace, address)


def probe_key(ref: Ref) -> str:
    """Where a failed probe is."""
    return f"{layout.PROBES}{ref.namespace}/{ref.name}"


def probe_value(failure: ProbeFailure) -> bytes:
    """The value of a key of ``PROBES``."""
    return json.dumps({"since": round(failure.since, 3)}).encode()


def read_probe(ref: Ref, value: bytes) -> ProbeFailure:
    """What a key of ``PROBES`` says. Raises ValueError with what is wrong."""
    if fault := label_fault(ref.namespace):
        raise ValueError(fault)
    address = parse_address(ref.name)
    if str(address) != ref.name:
        raise ValueError(f"{ref.name} is written as {address}")
    return ProbeFailure(ref.namespace, address, _seconds(value, "since"))


def member_ref(name: str) -> Ref:
    """The Ref of a node that has registered."""
    return Ref(MEMBER, "", name)


def _seconds(value: bytes, field: str) -> float:
    found = _time(_mapping(value), field)
    if found is not None:
        return found
    raise ValueError(f"its value is not JSON of the form {{{json.dumps(field)}: SECONDS}}")


# --- members/live, progress -------------------------------------------------------------------------------


def live_value(report: NodeReport, who: Identity) -> bytes:
    """The value of a ``live`` key: what stays the same while a daemon runs, by and large."""
    said = {
        "version": report.version,
        "addresses": report.addresses,
        "podCIDRs": report.pod_cidrs,
        "labels": dict(report.labels),
        "started": round(report.started, 3),
        "machine": who.machine,
        "place": who.place,
        "daemon": who.daemon,
    }
    return json.dumps(said, separators=(",", ":")).encode()


def read_live(value: bytes) -> tuple[Identity, dict[str, Any]]:
    """Who has registered, and fields of its NodeReport."""
    said = _mapping(value)
    labels = said.get("labels")
    fields = {
        "version": _text(said, "version"),
        "addresses": _texts(said, "addresses"),
        "pod_cidrs": _texts(said, "podCIDRs"),
        "labels": tuple(sorted((k, v) for k, v in labels.items() if isinstance(v, str)))
        if isinstance(labels, dict)
        else (),
        "started": _time(said, "started") or 0.0,
    }
    return Identity(_text(said, "machine"), _text(said, "place"), _text(said, "daemon")), fields


def progress_value(report: NodeReport) -> bytes:
    """The value of a ``progress`` key: what changes all the time."""
    revision, barrier = read_position(report.position)
    said = {
        "revision": revision,
        "barrier": barrier,
        "programmed": round(report.programmed, 3),
        "pending": report.pending,
        "pendingSince": round(report.pending_since, 1),
        "error": clipped(report.error, LONGEST_ERROR),
        "lastError": clipped(report.last_error, LONGEST_ERROR),
        "lastErrorAt": round(report.last_error_at, 3),
    }
    return json.dumps(said, separators=(",", ":")).encode()


def read_progress(value: bytes) -> dict[str, Any]:
    """Fields of a NodeReport."""
    said = _mapping(value)
    revision, pending = said.get("revision"), said.get("pending")
    return {
        "position": position_text(revision if type(revision) is int else 0, _text(said, "barrier")),
        "programmed": _time(said, "programmed") or 0.0,
        "pending": pending if type(pending) is int and pending >= 0 else 0,
        "pending_since": _time(said, "pendingSince") or 0.0,
        "error": _text(said, "error"),
        "last_error": _text(said, "lastError"),
        "last_error_at": _time(said, "lastErrorAt") or 0.0,
    }


def _mapping(value: bytes) -> dict[str, Any]:
    try:
        found = json.loads(value.decode(), parse_float=finite)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(said: dict[str, Any], field: str) -> str:
    found = said.get(field)
    return found if isinstance(found, str) else ""


def _texts(said: dict[str, Any], field: str) -> tuple[str, ...]:
    found = said.get(field)
    return tuple(each for each in found if isinstance(each, str)) if isinstance(found, list) else ()


def _time(said: dict[str, Any], field: str) -> float | None:
    found: Any = said.get(field)
    return float(found) if type(found) in (int, float) and 0 <= found < _LATEST else None


_LATEST = 253402300800.0  # the year 10000, which no calendar here knows
