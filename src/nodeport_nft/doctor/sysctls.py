"""Kernel settings on the way of a packet. What they must be is ``kernel.host.sysctl``'s to say."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from nodeport_nft.doctor.examination import Examination
from nodeport_nft.doctor.finding import Check, Finding, State, failed, of_text, ok, skipped, warning
from nodeport_nft.kernel.host.foreign_chains import Served, served_endpoints
from nodeport_nft.kernel.host.routes import devices_to
from nodeport_nft.kernel.host.sysctl import (
    Missing,
    find_advised,
    find_bridge_filtering,
    find_conntrack,
    find_forwarding,
)
from nodeport_nft.model import Family
from nodeport_nft.problems import Problems
from nodeport_nft.store import StoreError

_PROC = Path("/proc/sys")
_FULL, _NEARLY_FULL = 0.95, 0.8  # of the connections that may be tracked
_STRICT = 1
_LIKELY = frozenset({Family.IPV4})


def _forwarding(examination: Examination) -> Iterator[Finding]:
    try:
        families = examination.families or _LIKELY
    except (StoreError, Problems):  # whatever is in it, it is to be forwarded
        families = _LIKELY
    found = find_forwarding(families)
    yield from _of_missing(State.FAILED, found)
    if not found:
        yield ok(f"on for {' and '.join(f'IPv{family.value}' for family in sorted(families))}")


def _bridges(examination: Examination) -> Iterator[Finding]:
    host = examination.host
    if not host.bridges:
        yield skipped("there is no bridge")
        return
    found = find_bridge_filtering(host, examination.families, examination.pod_cidrs)
    yield from _of_missing(State.FAILED, found)
    if not found:
        yield ok(f"no pods share a bridge, or it passes its packets to netfilter ({', '.join(host.bridges[:3])})")


def _reverse_path(examination: Examination) -> Iterator[Finding]:
    """Strict filtering drops what comes in by another device than the way back leads out by (RFC 3704)."""
    state, host = examination.state, examination.host
    served = Served(state.tables.desired, state.facts, host)
    out = devices_to({each.address for each in served_endpoints(served) if each.address})
    uplinks = {held.interface for held in host.addresses if held.address in (*host.sources, *state.facts.addresses)}
    devices = sorted({*uplinks, *filter(None, out.values())} & set(host.links))
    strict = [device for device in devices if _reverse_path_mode(device) == _STRICT]
    if strict and len(devices) > 1:
        yield warning(
            f"rp_filter is strict on {', '.join(strict)}, and connections cross {', '.join(devices)}",
            "what comes in by one of these while the way back leads out by another is dropped silently",
            "; ".join(f"sysctl -w net.ipv4.conf.{device.replace('.', '/')}.rp_filter=2" for device in strict[:3]),
        )
    else:
        yield ok(f"not strict, or one way alone ({', '.join(devices) or 'no device'})")


def _reverse_path_mode(device: str) -> int:
    """The greater of the device's and that of all, which is in force: loose is 2 (Linux, networking/ip-sysctl)."""
    modes = [0]
    for each in (device, "all"):
        with suppress(OSError, ValueError):
            modes.append(int((_PROC / "net/ipv4/conf" / each / "rp_filter").read_text(encoding="ascii")))
    return max(modes)


def _conntrack(examination: Examination) -> Iterator[Finding]:
    found = (*find_advised(examination.families), *find_conntrack(examination.config, os.cpu_count() or 1))
    yield from _of_missing(State.WARNING, found)
    tracked, most = _number("nf_conntrack_count"), _number("nf_conntrack_max")
    if not most:
        yield skipped("this kernel tracks no connections yet")
        return
    seen = f"{tracked:,} of {most:,} connections are tracked"
    if tracked >= _NEARLY_FULL * most:
        make = failed if tracked >= _FULL * most else warning
        yield make(
            seen,
            "new connections are dropped once it is full",
            f"sysctl -w net.netfilter.nf_conntrack_max={2 * most}",
        )
    elif not found:
        yield ok(seen)


def _number(name: str) -> int:
    """A sysctl of connection tracking; 0 where there is none."""
    with suppress(OSError, ValueError):
        return int((_PROC / "net/netfilter" / name).read_text(encoding="ascii"))
    return 0


def _of_missing(state: State, found: Iterable[Missing]) -> Iterator[Finding]:
    for each in found:
        if each.setting:
            yield Finding(state, f"{each.setting} is not {each.value}", each.reason, each.remedy)
        else:
            yield of_text(state, each.reason, "")


CHECKS = (
    Check("forwarding", "forwarding", _forwarding),
    Check("rp-filter", "reverse-path filter", _reverse_path),
    Check("bridge-filtering", "bridges and netfilter", _bridges),
    Check("conntrack", "connection tracking", _conntrack),
)
