"""Service kube-dns as each node offers it by itself, and whoever goes before it."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from nodeport_nft.config import ConfigError, load_config
from nodeport_nft.facts import Host, HostAddress, gather
from nodeport_nft.model import CLUSTER_DNS, Family, Member, ObjectName, Ref, Service
from nodeport_nft.reconcile import NodeState
from nodeport_nft.resolve import FrontendKind
from tests.builders import FACTS, make_endpoint, make_service, make_slice

DNS4, SERVER4 = ip_address("10.96.0.10"), ip_address("169.254.20.10")
DNS6, SERVER6 = ip_address("fd00:10:96::a"), ip_address("fd00:169:254:20::10")
WITH_DNS = replace(FACTS, cluster_dns=((DNS4, SERVER4), (DNS6, SERVER6)))
REF = Ref("Service", *CLUSTER_DNS)
USERS = replace(make_service("kube-dns", ips=("10.96.0.10",)), namespace="kube-system")
OTHER = make_service("other", ips=("10.96.0.10",))


def put(state: NodeState, service: Service) -> set[ObjectName]:
    return state.put(Ref("Service", *service.key), (service,))


def served(state: NodeState) -> dict[str, list[str]]:
    """The clusterIPs of kube-dns, each with the endpoints that its TCP and UDP ports lead to."""
    service = state.index.services.get(CLUSTER_DNS)
    found: dict[str, list[str]] = {}
    for frontend in state.resolver.resolved(service).frontends if service else ():
        assert (frontend.kind, frontend.port) == (FrontendKind.CLUSTER_IP, 53)
        backends = frontend.backends if frontend.local_backends is None else frontend.local_backends
        found.setdefault(str(frontend.address), []).extend(
            f"{frontend.protocol} {backend.address}:{backend.port}" for backend in backends
        )
    return found


OURS = {
    str(address): [f"{protocol} {server}:53" for protocol in ("UDP", "TCP")]
    for address, server in ((DNS4, SERVER4), (DNS6, SERVER6))
}


def test_each_node_leads_it_to_its_own_server() -> None:
    state = NodeState(WITH_DNS)
    assert state.touched == {CLUSTER_DNS}
    assert served(state) == OURS
    assert state.problems() == ()
    state.put(
        Ref("EndpointSlice", "kube-system", "x"),
        (
            replace(
                make_slice(make_endpoint("10.244.2.9"), service="kube-dns", name="x", port=53, port_name="dns"),
                namespace="kube-system",
            ),
        ),
    )
    assert served(state)["10.96.0.10"] == OURS["10.96.0.10"], "not to somebody else's"


def test_without_the_setting_there_is_none() -> None:
    state = NodeState(FACTS)
    put(state, make_service(ips=("10.96.0.50",)))
    assert CLUSTER_DNS not in state.index.services
    state.refit(WITH_DNS, {})
    assert served(state) == OURS
    state.refit(FACTS, {})
    assert CLUSTER_DNS not in state.index.services


def test_it_costs_nothing_while_other_services_change() -> None:
    state = NodeState(WITH_DNS)
    state.touched.clear()
    assert put(state, make_service("web", ips=("10.96.0.50",))) == {ObjectName("default", "web")}
    assert state.touched == {ObjectName("default", "web")}


def test_a_users_own_goes_before_it_while_it_is_there() -> None:
    state = NodeState(WITH_DNS)
    assert CLUSTER_DNS in put(state, USERS)
    assert state.index.services[CLUSTER_DNS] is USERS
    assert any(str(DNS6) in problem and "10.96.0.10" in problem for problem in state.problems())
    assert CLUSTER_DNS in state.put(REF, ())
    assert served(state) == OURS


def test_an_address_that_another_service_has_is_left_to_it_and_told() -> None:
    state = NodeState(WITH_DNS)
    put(state, OTHER)
    assert served(state) == {str(DNS6): OURS[str(DNS6)]}
    held = "clusterDNS 10.96.0.10 is held by Service/default/other: delete that, or choose another address"
    assert state.problems() == (held,)
    state.put(Ref("Service", *OTHER.key), ())
    assert served(state) == OURS
    assert state.problems() == ()


@pytest.mark.parametrize("before", [True, False], ids=["known before", "found at the start"])
def test_one_of_the_store_that_cannot_be_read_is_not_taken_for_ours(before: bool) -> None:
    state = NodeState(WITH_DNS)
    if before:
        put(state, USERS)
        state.put(REF, ())
    state.keep({REF}, {})
    assert CLUSTER_DNS not in state.index.services
    put(state, make_service("web", ips=("10.96.0.50",)))
    assert CLUSTER_DNS not in state.index.services
    put(state, USERS)
    assert state.index.services[CLUSTER_DNS] is USERS
    state.put(REF, ())
    assert served(state) == OURS


def test_it_outlives_a_listing_that_does_not_know_it() -> None:
    """As after the store was listed anew: all that it does not name is gone."""
    state = NodeState(WITH_DNS)
    for ref in state.index.refs():
        state.put(ref, ())
    state.put(Ref("Member", "", "x"), (Member("x"),))
    assert served(state) == OURS


# --- the settings ---------------------------------------------------------------------------------------------


NOTHING = Host()


def facts(host: Host = NOTHING, **keys: object) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    config = load_config("/dev/null", {"nodePortAddresses": "all", **keys})
    found, warnings = gather(config, name="n", node=None, node_ips=(), host=host)
    return tuple((str(a), str(b)) for a, b in found.cluster_dns), warnings


def test_each_address_leads_to_the_server_of_its_family() -> None:
    assert facts(clusterDNS="fd00:10:96::a, 10.96.0.10") == (
        (("fd00:10:96::a", "fd00:169:254:20::10"), ("10.96.0.10", "169.254.20.10")),
        (),
    )
    (pair,), warnings = facts(clusterDNS="fd00:10:96::a, 10.96.0.10", nodeDNS="172.30.1.2")
    assert pair == ("10.96.0.10", "172.30.1.2")
    assert [warning.split(": ")[0] for warning in warnings] == ["clusterDNS fd00:10:96::a is not served"]


def test_a_server_that_the_node_does_not_have_is_told() -> None:
    held = HostAddress(ip_address("169.254.20.10"), "lo")
    assert facts(Host((held,)), clusterDNS="10.96.0.10")[1] == ()
    (warning,) = facts(Host((HostAddress(ip_address("172.30.1.2"), "eth0"),)), clusterDNS="10.96.0.10")[1]
    assert warning.startswith("clusterDNS 10.96.0.10 leads to 169.254.20.10, which this node does not have: give it")
    assert facts(Host((HostAddress(ip_address("172.30.1.2"), "eth0"),)))[1] == (), "nobody asked for one"


@pytest.mark.parametrize("key", ["clusterDNS", "nodeDNS"])
@pytest.mark.parametrize(
    "value",
    [
        "10.96.0.10,10.96.0.11",
        "127.0.0.53",
        "::1",
        "fe80::1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "10.96.0.0/12",
        "kube-dns",
        "010.96.0.10",
        "::ffff:10.96.0.10",
        True,
        10,
    ],
)
def test_what_is_no_address_of_a_server_is_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match="clusterDNS|--cluster-dns" if key == "clusterDNS" else key):
        load_config("/dev/null", {key: value})


def test_families_are_those_of_the_addresses() -> None:
    state = NodeState(replace(FACTS, cluster_dns=((DNS6, SERVER6),)))
    assert state.index.services[CLUSTER_DNS].ip_families == (Family.IPV6,)
    assert served(state) == {str(DNS6): OURS[str(DNS6)]}


def test_pods_that_find_something_else_at_the_address_are_told_of() -> None:
    state = NodeState(replace(FACTS, cluster_dns=((DNS4, SERVER4),)))
    assert CLUSTER_DNS in state.renamed
    put(state, OTHER)
    assert state.problems() == (
        "clusterDNS 10.96.0.10 is held by Service/default/other: delete that, or choose another address",
    )
    put(state, replace(USERS, cluster_ips=(ip_address("10.96.0.99"),)))
    put(state, replace(OTHER, cluster_ips=()))
    text = "delete it, or let clusterDNS be that"
    assert state.problems() == (
        f"clusterDNS 10.96.0.10: Service/kube-system/kube-dns of the store has 10.96.0.99: {text}",
    )
    put(state, replace(USERS, cluster_ips=(), headless=True))
    assert state.problems() == (
        f"clusterDNS 10.96.0.10: Service/kube-system/kube-dns of the store has no clusterIP: {text}",
    )
