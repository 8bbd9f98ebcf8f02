"""ServiceCIDRs of an API server: what they are made into, and that they count in place of the configuration's."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from nodeport_nft.config import Config
from nodeport_nft.facts import Host, HostAddress, HostRoute, collisions, gather, networks_of
from nodeport_nft.model import ServiceCIDR
from nodeport_nft.problems import Problems
from nodeport_nft.store.kubernetes.cidrs import parse_service_cidr


def document(cidrs: Any, name: Any = "kubernetes") -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"cidrs": cidrs}}


@pytest.mark.parametrize(
    ("cidrs", "networks", "notes"),
    [
        (["10.96.0.0/14"], ["10.96.0.0/14"], 0),
        (["10.96.0.0/14", "fd00:10:96::/112"], ["10.96.0.0/14", "fd00:10:96::/112"], 0),
        (["fd00::/108", "10.0.0.0/8"], ["fd00::/108", "10.0.0.0/8"], 0),
        (["10.96.0.0/14", "later/99"], ["10.96.0.0/14"], 1),
        ([7, None, {}], [], 3),
        (None, [], 0),
        ("10.96.0.0/14", [], 0),
    ],
)
def test_networks_of_a_service_cidr(cidrs: Any, networks: list[str], notes: int) -> None:
    made, told = parse_service_cidr(document(cidrs))
    assert made == ServiceCIDR("kubernetes", tuple(map(ip_network, networks)))
    assert len(told) == notes
    assert all("ServiceCIDR//kubernetes: spec.cidrs[" in str(each) for each in told)


@pytest.mark.parametrize("raw", [document([], None), document([], 7), document([], "../x"), {}, {"metadata": []}])
def test_a_service_cidr_without_a_name_is_none(raw: dict[str, Any]) -> None:
    with pytest.raises(Problems, match=r"metadata\.name"):
        parse_service_cidr(raw)


ONE, MORE = (
    ServiceCIDR("a", (ip_network("10.112.0.0/14"),)),
    ServiceCIDR("b", (ip_network("fd07::/112"), ip_network("10.8.0.0/16"))),
)


def test_they_count_in_place_of_the_configuration() -> None:
    config = Config()
    without, _ = gather(config, name="n", node=None, node_ips=(), host=Host())
    assert without.service_cidrs == config.ranges.service_cidrs
    networks = networks_of((ONE, MORE, ONE))
    assert networks == networks_of((MORE, ONE))  # in whichever order they are told
    facts, _ = gather(config, name="n", node=None, node_ips=(), host=Host(), service_cidrs=networks)
    assert facts.service_cidrs == tuple(map(ip_network, ("10.8.0.0/16", "10.112.0.0/14", "fd07::/112")))


def test_collisions_are_those_of_their_networks_and_not_of_the_configuration() -> None:
    host = Host(
        addresses=(HostAddress(ip_address("10.96.0.9"), "eth0"),),  # in the default of the configuration
        routes=(HostRoute(ip_network("10.8.4.0/24"), "vpn0"),),
    )
    assert "10.96.0.9" in "".join(collisions(Config(), host))
    (found,) = collisions(Config(), host, networks_of((ONE, MORE)))
    assert found.startswith("service CIDR 10.8.0.0/16 overlaps this node's route 10.8.4.0/24 (vpn0); ")
    assert "--service-cidr" not in found  # nothing that a flag of ours could change
