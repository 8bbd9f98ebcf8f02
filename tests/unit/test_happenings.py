"""What the daemon tells of objects where people look at them: contested or refused Services, and failed syncs."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from msgspec.structs import replace

from nodeport_nft.daemon.happenings import happenings
from nodeport_nft.model import ObjectName, Ref, Service, ServiceType
from nodeport_nft.reconcile import NodeState
from tests.builders import FACTS, make_service, ref_of
from tests.unit.test_state import sync

VIP, OTHER = ip_address("192.0.2.1"), ip_address("198.51.100.1")
OLD = replace(make_service("old", ips=("10.96.0.20",)), external_ips=(VIP,))
YOUNG = replace(make_service("young", ips=("10.96.0.21",)), external_ips=(VIP,))


def state_of(*services: Service, only: str = "0.0.0.0/0") -> NodeState:
    state = NodeState(replace(FACTS, external_ips=(ip_network(only),)))
    for service in services:
        state.put(ref_of(service), (service,))
    sync(state)
    return state


def told(state: NodeState, refused: dict[ObjectName, str] | None = None, error: str = "") -> list[tuple[Ref, str]]:
    return [(each.ref, each.reason) for each in happenings("worker-1", error, refused or {}, state)]


@pytest.mark.proves("W6", "F10")
def test_who_loses_a_frontend_is_told_to_whom() -> None:
    [contested] = happenings("worker-1", "", {}, state_of(OLD, YOUNG))
    assert (contested.ref, contested.reason) == (Ref("Service", "default", "young"), "FrontendContested")
    assert contested.message.startswith("192.0.2.1 tcp 80 is held by Service/default/old, which is")
    assert "worker-1" not in contested.message, "all nodes say the same, and write one Event"


@pytest.mark.proves("W6")
@pytest.mark.parametrize(
    "service",
    [
        replace(make_service("web", ips=("10.96.0.22",)), external_ips=(OTHER,)),  # denied by the configuration
        replace(make_service("web", ips=("10.96.0.22",)), external_ips=(ip_address("10.96.0.20"),)),  # a clusterIP
    ],
)
def test_who_does_not_get_all_that_it_claims_is_told(service: Service) -> None:
    [(ref, reason)] = told(state_of(OLD, service, only="192.0.2.0/24"))
    assert (ref, reason) == (Ref("Service", "default", "web"), "PartlyServed")


@pytest.mark.proves("W6")
def test_what_the_kernel_refuses_and_a_sync_that_failed_are_told() -> None:
    found = told(state_of(OLD), {ObjectName("default", "old"): "No space left on device"}, "no nftables")
    assert found == [
        (Ref("Node", "", "worker-1"), "SyncFailed"),
        (Ref("Service", "default", "old"), "KernelRefused"),
    ]


def test_where_all_is_well_nothing_is_told() -> None:
    assert told(state_of(OLD, replace(make_service("out"), type=ServiceType.EXTERNAL_NAME))) == []
