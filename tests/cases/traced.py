"""The way of a packet through the lab as the tracer sees it, node by node, without any of the lab's kernels."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from typer.testing import CliRunner

from lab.cluster import Cluster
from nodeport_nft.cli import app

IPAddress = IPv4Address | IPv6Address


@dataclass(frozen=True)
class Traced:
    """What the tracer says: the fates there may be, each endpoint with the source it sees, and whether a refusal
    is a TCP reset."""

    fates: set[str]
    endpoints: dict[tuple[IPAddress, int], IPAddress]
    resets: set[bool]


def trace(
    cluster: Cluster,
    source: str,
    to: tuple[IPAddress, int],
    protocol: str,
    programmed: Sequence[str],
    options: Sequence[str],
) -> Traced:
    """Follow a packet through the programmed nodes it comes by, up to the first whose rules are for it.

    A packet that finds no such node is untouched. ``options`` are what all nodes were programmed with.
    """
    address, port = to
    own = address if address.is_loopback else cluster.address(source, address.version)
    for node in nodes_passed(cluster, source, address):
        if node not in programmed:
            continue
        words = ["trace", str(own), str(address), "--port", str(port), "--protocol", protocol, "-o", "json"]
        words += ["--interface", incoming(cluster, node, source)]
        answer = run([*words, *options, "--node-name", node])
        outcomes = answer["outcomes"]
        assert sum(Fraction(outcome["probability"]) for outcome in outcomes) == 1
        expected_hook = "output" if source == node or address.is_loopback else "prerouting"
        assert answer["packet"]["hook"] == expected_hook
        if {outcome["fate"] for outcome in outcomes} == {"untouched"}:
            continue
        seen = cluster.address(node, address.version)
        reached = [outcome for outcome in outcomes if outcome["fate"] == "forwarded"]
        return Traced(
            fates={outcome["fate"] for outcome in outcomes},
            endpoints={
                (ip_address(outcome["destination"]), outcome["port"]): seen if outcome["masqueraded"] else own
                for outcome in reached
            },
            resets={outcome["with"] == "tcp reset" for outcome in outcomes if outcome["fate"] == "refused"},
        )
    return Traced({"untouched"}, {(address, port): own}, set())


def nodes_passed(cluster: Cluster, source: str, address: IPAddress) -> list[str]:
    """The nodes a packet comes by if none of them translates it: the source's own, the destination's own."""
    hosts = [cluster.host(source)]
    if name := cluster.name_of(address):
        hosts.append(cluster.host(name))
    names = [host.node or host.name for host in hosts]
    return [name for name in dict.fromkeys(names) if name in cluster.nodes]


def incoming(cluster: Cluster, node: str, source: str) -> str:
    """The interface of ``node`` that a packet of ``source`` comes in on (see ``lab.cluster``)."""
    host = cluster.host(source)
    return f"pod{host.ipv4.packed[-1]}" if host.node == node else "eth0"


def run(words: Sequence[str]) -> Any:
    """What ``nodeport-nft`` prints as JSON, run in this process: there are many packets."""
    try:
        result = CliRunner().invoke(app, words)
    finally:
        gc.enable()  # a command switches it off, since its process ends soon
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
