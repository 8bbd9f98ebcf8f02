"""Scenario 2: every node is programmed alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import pytest

from vm.desired import service
from vm.machines import Lab, Machine
from vm.topology import Worker

LOCAL_SLOTS = 32768
NODE_LOCAL = ("set node-port-ips", "set hairpin-connections")
"""What each node has of its own: its addresses, and its pods that may reach themselves."""


def tables(machine: Machine) -> Mapping[str, Counter[str]]:
    """Both tables, block by block, as lines and elements without their order.

    Counters are taken out, and of the slot maps the numbers of slots: which endpoint stands in which depends on what
    was there before. With policy Local, the slots of a node's own endpoints and the chain for their number, or for
    none of them, are what is node-local.
    """
    found = {}
    for family in ("ip", "ip6"):
        text = re.sub(
            r"counter packets \d+ bytes \d+", "counter", machine.run(f"nft list table {family} nodeport-nft")
        )
        for kind, name, body in re.findall(
            r"^\t(map|set|chain) (\S+) \{\n(.*?)^\t\}", text, re.MULTILINE | re.DOTALL
        ):
            head, _, elements = body.partition("elements = {")
            parts = [line.strip() for line in head.splitlines()]
            for element in filter(None, (part.strip(" \t\n}") for part in elements.split(","))):
                slot = re.match(r"(.*) \. (\d+) (counter.*)", element) if name.endswith("-endpoints") else None
                if slot is None:
                    parts.append(
                        re.sub(r"goto (no-local-endpoint|(service|node-port)-local/\d+)$", "goto LOCAL", element)
                    )
                elif int(slot[2]) < LOCAL_SLOTS:
                    parts.append(f"{slot[1]} {slot[3]}")
            found[f"{family} {kind} {name}"] = Counter(parts)
        comment = re.search(r'^\tcomment "(.*)"', text, re.MULTILINE)
        assert comment is not None
        found[f"{family} table"] = Counter([comment[1]])
    return found


@pytest.mark.services(
    service("plain", 30010),
    service("sticky", 30011, sessionAffinity="ClientIP"),
    service("every-pod-local", 30012, externalTrafficPolicy="Local"),
    service("empty", 30013, selector={"app": "nobody"}),
    service("inside-local", 30014, target_port=80, families=("IPv4",), internalTrafficPolicy="Local"),
    service("other-protocols", 30015, protocols=("UDP", "SCTP")),
)
@pytest.mark.usefixtures("desired")
def test_all_nodes_are_programmed_alike(lab: Lab) -> None:
    found = lab.everywhere(tables, lab.workers)
    first, *others = found.values()
    assert sum(len(block) for name, block in first.items() if "endpoints" in name) >= 4 * len(lab.workers)
    for other in others:
        assert other.keys() == first.keys()
        for name in first:
            if not name.endswith(NODE_LOCAL):
                assert other[name] == first[name], name
    for number, each in enumerate(found.values(), start=1):
        worker = Worker(number)
        assert f"{worker.ipv4}" in each["ip set node-port-ips"]
        assert f"{worker.ipv6}" in each["ip6 set node-port-ips"]
        hairpins = "\n".join(each["ip set hairpin-connections"])
        assert worker.pods[0].ipv4 in hairpins
        assert not any(
            Worker(other).pods[0].ipv4 in hairpins for other in range(1, len(found) + 1) if other != number
        )
