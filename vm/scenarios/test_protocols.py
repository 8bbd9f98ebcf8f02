"""Scenario 5: nodePorts over TCP, UDP and SCTP, IPv4 and IPv6, on every node."""

from __future__ import annotations

import pytest

from vm.desired import service
from vm.machines import Lab
from vm.topology import Worker

PROTOCOLS = ("TCP", "UDP", "SCTP")


@pytest.mark.services(service("every-protocol", 30030, protocols=PROTOCOLS))
@pytest.mark.usefixtures("desired")
def test_every_protocol_in_both_families(lab: Lab) -> None:
    """The machines' kernel has SCTP: associations are set up and used, not imitated."""
    everybody = {Worker(number).pods[0].name for number in range(1, len(lab.workers) + 1)}
    for protocol in PROTOCOLS:
        for number in range(1, len(lab.workers) + 1):
            for address in (Worker(number).ipv4, Worker(number).ipv6):
                assert lab.client.names(protocol.lower(), address, 30030, 16) == everybody, (protocol, address)
