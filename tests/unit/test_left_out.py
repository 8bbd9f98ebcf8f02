"""nodePorts that are served on chosen nodes alone: which Services leave a node out, and by which labels (X6)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from nodeport_nft.model import Node, Requirement, Snapshot
from nodeport_nft.resolve.absence import left_out
from tests.builders import make_port, make_service

pytestmark = pytest.mark.proves("X6")

EDGE = Requirement("role", "In", ("edge",))
WEB = replace(make_service("web", make_port(80, node_port=30080)), node_port_nodes=(EDGE,))
NODE = Node("worker-1", {"role": "inner", "kubernetes.io/hostname": "worker-1"})


def told(*services: object, protocol: str = "tcp", number: int = 30080, version: int = 4) -> list[str]:
    snapshot = Snapshot(services, nodes=(NODE,))  # type: ignore[arg-type]  # Services
    return [cause.text for cause in left_out(snapshot, "worker-1", protocol, number, version)]


@pytest.mark.parametrize(
    ("requirements", "text"),
    [
        ((EDGE,), "role=edge"),
        ((Requirement("role", "In", ("a", "b")),), "role in (a and b)"),
        ((Requirement("role", "NotIn", ("inner",)),), "role!=inner"),
        ((Requirement("role", "NotIn", ("inner", "edge")),), "role notin (inner and edge)"),
        ((Requirement("gpu", "Exists"),), "gpu"),
        ((Requirement("role", "DoesNotExist"),), "!role"),
        ((EDGE, Requirement("role", "Exists")), "role=edge and role"),
    ],
)
def test_the_selector_is_told_as_kubectl_takes_it(requirements: tuple[Requirement, ...], text: str) -> None:
    assert told(replace(WEB, node_port_nodes=requirements)) == [
        f"nodePorts of default/web are not served on this node: its labels do not match {text}"
    ]


@pytest.mark.parametrize(
    "service",
    [
        replace(WEB, node_port_nodes=()),
        replace(WEB, node_port_nodes=(Requirement("role", "In", ("inner",)),)),
        replace(WEB, node_port_nodes=(Requirement("kubernetes.io/hostname", "In", ("worker-1",)),)),
        replace(WEB, proxy_name="another"),
    ],
    ids=["on all nodes", "on this one", "on this one by its name", "not ours"],
)
def test_nothing_is_told_of_services_that_leave_no_node_out(service: object) -> None:
    assert told(service) == []


def test_it_is_asked_of_one_protocol_number_and_family() -> None:
    assert told(WEB, protocol="udp") == []
    assert told(WEB, number=30081) == []
    assert told(WEB, number=80) == []
    assert told(WEB, version=6) == []


def test_every_service_of_that_number_is_told_and_those_before_it_that_are_served_are_not() -> None:
    served = replace(WEB, name="served", node_port_nodes=(Requirement("role", "Exists"),))
    found = told(served, WEB, replace(WEB, name="api"))
    assert [text.split()[2] for text in found] == ["default/web", "default/api"]
