"""What a Service keeps, what it may name, and what is found for it (conformance A1-A4, F9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import islice

import pytest
from msgspec.structs import replace

from nodeport_nft.allocate import AllocationError, Claims, allocate, claims, holdings
from nodeport_nft.allocate.probing import FreePorts, probe_ips
from nodeport_nft.model import (
    Family,
    IPAddress,
    IPNetwork,
    ObjectName,
    PortRange,
    Protocol,
    Ranges,
    Service,
    ServicePort,
    ServiceType,
)

V4, V6 = Family.IPV4, Family.IPV6
CIDR4, CIDR6 = IPv4Network("10.96.0.0/24"), IPv6Network("fd00:10:96::/112")
RANGES = Ranges(PortRange(30000, 30099), (CIDR4, CIDR6))
ONLY4 = Ranges(PortRange(30000, 30099), (CIDR4,))
API = ObjectName("default", "api")


def port(name: str = "", number: int = 80, node_port: int = 0, protocol: Protocol = Protocol.TCP) -> ServicePort:
    return ServicePort(name, protocol, number, number, node_port)


def service(*ports: ServicePort, type: ServiceType = ServiceType.NODE_PORT, name: str = "web") -> Service:
    return Service("default", name, type=type, ports=ports or (port(),), selector={"app": name})


def give(
    wanted: Service,
    held: Service | None = None,
    *,
    ranges: Ranges = RANGES,
    ports: Mapping[int, ObjectName] | None = None,
    ips: Mapping[str, ObjectName] | None = None,
    claimed: Mapping[str, ObjectName] | None = None,
) -> Service:
    by_ip, from_outside = ({ip_address(ip): owner for ip, owner in (known or {}).items()} for known in (ips, claimed))
    return allocate(
        wanted,
        held,
        ranges=ranges,
        port_holder=(ports or {}).get,
        ip_holder=by_ip.get,
        claimant=from_outside.get,
    )


def refusals(*args: Service | None, **more: object) -> list[tuple[str, str]]:
    with pytest.raises(AllocationError) as caught:
        give(*args, **more)  # type: ignore[arg-type]  # a table's keywords
    return [(refusal.field, refusal.message) for refusal in caught.value.refusals]


def numbers(allocated: Service) -> list[int]:
    return [each.node_port for each in allocated.ports]


def addresses(*ips: str) -> tuple[IPAddress, ...]:
    return tuple(ip_address(ip) for ip in ips)


@pytest.mark.proves("A2")
def test_a_new_service_gets_a_port_and_an_address_from_the_upper_bands() -> None:
    given = give(service())
    assert given.ports[0].node_port in range(30016, 30100)
    assert given.cluster_ips[0] in CIDR4
    assert int(given.cluster_ips[0]) - int(CIDR4[0]) in range(17, 255)
    assert (given.ip_families, given.ip_family_policy) == ((V4,), "SingleStack")
    assert holdings(given) == Claims(frozenset(numbers(given)), frozenset(given.cluster_ips))


@pytest.mark.proves("A2")
@pytest.mark.parametrize(
    ("ports", "band"),
    [
        (PortRange(30000, 32767), 86),
        (PortRange(30000, 30016), 16),
        (PortRange(30000, 30015), 0),
        (PortRange(1, 65535), 128),
        (PortRange(30000, 30000), 0),
    ],
)
def test_port_probes_visit_every_port_once_and_the_lower_band_last(ports: PortRange, band: int) -> None:
    probes = taken_in_turn("default/web", ports)
    assert sorted(probes) == list(range(ports.first, ports.last + 1))
    assert sorted(probes[len(probes) - band :]) == list(range(ports.first, ports.first + band))
    assert probes == taken_in_turn("default/web", ports)
    upper = [number - ports.first - band for number in probes[: len(probes) - band]]
    turned = [*range(upper[0], len(upper)), *range(upper[0])]
    assert upper == turned, "one after the other, from a start of its own"


def taken_in_turn(key: str, ports: PortRange) -> list[int]:
    """Every port, in the order in which one key after another is given them."""
    taken: dict[int, None] = {}  # in the order of its keys; looked up once for each number that is passed over
    free = FreePorts(ports, lambda number: number not in taken)
    while number := free.find(key):
        taken[number] = None
    return list(taken)


@pytest.mark.proves("A2")
# The examples of the Kubernetes documentation, "Service ClusterIP allocation", and the small ends.
@pytest.mark.parametrize(
    ("cidr", "first", "last", "band"),
    [
        ("10.96.0.0/24", "10.96.0.1", "10.96.0.254", 16),
        ("10.96.0.0/20", "10.96.0.1", "10.96.15.254", 256),
        ("10.96.0.0/16", "10.96.0.1", "10.96.255.254", 256),
        ("10.96.0.0/23", "10.96.0.1", "10.96.1.254", 32),
        ("10.96.0.0/26", "10.96.0.1", "10.96.0.62", 16),
        ("10.96.0.0/28", "10.96.0.1", "10.96.0.14", 0),
        ("10.96.0.0/30", "10.96.0.1", "10.96.0.2", 0),
        ("fd00::/124", "fd00::1", "fd00::f", 0),
        ("fd00::/112", "fd00::1", "fd00::ffff", 256),
    ],
)
def test_ip_probes_visit_every_usable_address_once_and_the_lower_band_last(
    cidr: str, first: str, last: str, band: int
) -> None:
    network: IPNetwork = IPv6Network(cidr) if ":" in cidr else IPv4Network(cidr)
    probes = list(probe_ips("default/web", network))
    low, high = int(ip_address(first)), int(ip_address(last))
    assert sorted(map(int, probes)) == list(range(low, high + 1))
    assert sorted(map(int, probes[len(probes) - band :])) == list(range(low, low + band))


@pytest.mark.parametrize("cidr", ["10.96.0.1/32", "10.96.0.0/31", "fd00::1/128"])
def test_networks_without_a_usable_address_are_exhausted(cidr: str) -> None:
    network: IPNetwork = IPv6Network(cidr) if ":" in cidr else IPv4Network(cidr)
    [(field, message)] = refusals(service(), ranges=Ranges(service_cidrs=(network,)))
    assert field == "spec.clusterIP"
    assert message == f"service CIDR {cidr} is exhausted; widen --service-cidr or delete services"


def test_a_vast_ipv6_network_is_probed_without_counting_it() -> None:
    network = IPv6Network("fd00::/8")
    assert next(probe_ips("default/web", network)) in network


def test_equal_services_get_equal_numbers_and_others_get_others() -> None:
    assert give(service()) == give(service())
    given = [give(service(name=f"s{i}")) for i in range(40)]
    assert len({numbers(each)[0] for each in given}) > 20


@pytest.mark.proves("A2")
def test_the_lower_band_is_used_once_the_upper_one_is_full() -> None:
    upper = dict.fromkeys(range(30016, 30100), API)
    assert numbers(give(service(), ports=upper))[0] in range(30000, 30016)


@pytest.mark.proves("A1", "A3")
def test_probing_passes_over_what_others_hold() -> None:
    first = give(service())
    second = give(service(), ports={numbers(first)[0]: API}, ips={str(first.cluster_ips[0]): API})
    assert numbers(second) != numbers(first)
    assert second.cluster_ips != first.cluster_ips


def test_an_exhausted_range_is_refused() -> None:
    ranges = Ranges(PortRange(30000, 30001), (CIDR4,))
    assert refusals(service(), ranges=ranges, ports={30000: API, 30001: API}) == [
        (
            "spec.ports[0].nodePort",
            "nodePort range 30000-30001 is exhausted; widen --node-port-range or delete services",
        )
    ]


@pytest.mark.proves("A1")
@pytest.mark.parametrize(
    ("node_port", "message"),
    [
        (30005, "nodePort 30005 is held by default/api; choose another or leave it out"),
        (29999, "nodePort 29999 is outside the nodePort range 30000-30099; choose another or leave it out"),
        (30100, "nodePort 30100 is outside the nodePort range 30000-30099; choose another or leave it out"),
    ],
)
def test_explicit_node_ports_are_checked(node_port: int, message: str) -> None:
    wanted = service(port(node_port=node_port))
    assert refusals(wanted, ports={30005: API}) == [("spec.ports[0].nodePort", message)]


@pytest.mark.proves("A3")
@pytest.mark.parametrize(
    ("cluster_ip", "message"),
    [
        ("10.96.0.5", "10.96.0.5 is held by default/api; choose another or leave it out"),
        (
            "10.97.0.5",
            "10.97.0.5 is outside the service CIDRs (10.96.0.0/24, fd00:10:96::/112); choose another or leave "
            "it out, or configure --service-cidr 10.97.0.0/16 (key serviceCIDRs)",
        ),
        (
            "10.96.0.0",
            "10.96.0.0 is the network or broadcast address of 10.96.0.0/24; choose another or leave it out",
        ),
        (
            "10.96.0.255",
            "10.96.0.255 is the network or broadcast address of 10.96.0.0/24; choose another or leave it out",
        ),
        (
            "fd00:10:96::",
            "fd00:10:96:: is the network or broadcast address of fd00:10:96::/112; choose another or leave it out",
        ),
    ],
)
def test_explicit_cluster_ips_are_checked(cluster_ip: str, message: str) -> None:
    wanted = replace(service(), cluster_ips=addresses(cluster_ip))
    assert refusals(wanted, ips={"10.96.0.5": API}) == [("spec.clusterIP", message)]


@pytest.mark.proves("A1", "A3")
def test_explicit_values_are_given_as_named() -> None:
    wanted = replace(service(port(node_port=30001)), cluster_ips=addresses("10.96.0.1"), ip_families=(V4,))
    given = give(wanted, ports={30002: API}, ips={"10.96.0.2": API})
    assert numbers(given) == [30001]
    assert given.cluster_ips == addresses("10.96.0.1")


def test_the_last_address_of_an_ipv6_network_may_be_named() -> None:
    wanted = replace(service(), cluster_ips=addresses("fd00:10:96::ffff"))
    assert give(wanted).ip_families == (V6,)


def test_all_refusals_of_a_service_come_together() -> None:
    wanted = replace(
        service(port("a", 80, 30005), port("b", 81, 1), port("c", 82)),
        cluster_ips=addresses("10.96.0.5"),
        ip_family_policy="RequireDualStack",
    )
    ranges = Ranges(PortRange(30005, 30005), (CIDR4,))
    found = refusals(wanted, ranges=ranges, ports={30005: API}, ips={"10.96.0.5": API})
    assert [field for field, _ in found] == [
        "spec.ipFamilyPolicy",
        "spec.clusterIP",
        "spec.ports[0].nodePort",
        "spec.ports[1].nodePort",
        "spec.ports[2].nodePort",
    ]


# --- what is kept ------------------------------------------------

HELD = replace(
    service(port("http", 80, 30050), port("https", 443, 30060)),
    cluster_ips=addresses("10.96.0.50"),
    ip_families=(V4,),
    ip_family_policy="SingleStack",
)


@pytest.mark.proves("A1")
@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ((port("http", 80), port("https", 443)), [30050, 30060]),
        ((port("https", 443), port("http", 80)), [30060, 30050]),
        ((port("http", 8080), port("https", 443)), [30050, 30060]),  # by name, whatever the number
        ((port("web", 80), port("https", 443)), [30050, 30060]),  # by protocol and number
        ((port("http", 443), port("https", 80)), [30050, 30060]),  # the name has more right
        ((port("", 443),), [30060]),
        ((port("http", 80, 30060), port("https", 443, 30050)), [30060, 30050]),  # what is named has most
    ],
)
def test_ports_keep_their_numbers(ports: tuple[ServicePort, ...], expected: list[int]) -> None:
    given = give(replace(HELD, ports=ports, cluster_ips=()), HELD, ports=dict.fromkeys(expected, HELD.key))
    assert numbers(given) == expected
    assert given.cluster_ips == HELD.cluster_ips


def test_an_explicit_number_takes_it_from_the_services_own_other_port() -> None:
    given = give(replace(HELD, ports=(port("http", 80, 30060), port("https", 443))), HELD)
    assert numbers(given)[0] == 30060
    assert numbers(given)[1] not in (0, 30060)


@pytest.mark.proves("A1", "A3")
def test_held_values_stay_when_the_ranges_have_changed() -> None:
    ranges = Ranges(PortRange(31000, 31099), (IPv4Network("10.200.0.0/24"),))
    assert give(replace(HELD, ports=(port("http", 80), port("https", 443))), HELD, ranges=ranges) == HELD
    assert give(HELD, HELD, ranges=ranges) == HELD


def test_claims_are_what_is_kept_and_named() -> None:
    wanted = replace(HELD, ports=(port("http", 80), port("new", 81, 30001), port("open", 82)), cluster_ips=())
    expected = Claims(frozenset({30050, 30001}), frozenset(HELD.cluster_ips))
    assert claims(wanted, HELD, ranges=RANGES) == expected
    assert claims(replace(wanted, type=ServiceType.EXTERNAL_NAME, ports=()), HELD, ranges=RANGES) == Claims()


@pytest.mark.proves("A1")
@pytest.mark.parametrize("type", [ServiceType.CLUSTER_IP, ServiceType.EXTERNAL_NAME])
def test_a_change_of_type_gives_node_ports_back(type: ServiceType) -> None:
    given = give(replace(HELD, type=type, ports=(port("http", 80),), cluster_ips=()), HELD)
    assert numbers(given) == [0]
    assert given.cluster_ips == (HELD.cluster_ips if type is ServiceType.CLUSTER_IP else ())


def test_a_load_balancer_takes_over_the_numbers() -> None:
    wanted = replace(HELD, type=ServiceType.LOAD_BALANCER, ports=(port("http", 80), port("https", 443)))
    assert numbers(give(wanted, HELD)) == [30050, 30060]


def test_a_load_balancer_without_allocation_has_what_it_names() -> None:
    wanted = replace(
        HELD,
        type=ServiceType.LOAD_BALANCER,
        allocate_node_ports=False,
        ports=(port("http", 80), port("https", 443, 30060)),
    )
    assert numbers(give(wanted, HELD)) == [0, 30060]


# --- one number for several ports ------------------------------------------------

UDP, SCTP = Protocol.UDP, Protocol.SCTP


@pytest.mark.proves("A1")
@pytest.mark.parametrize(
    ("ports", "distinct"),
    [
        ((port("dns", 53, protocol=UDP), port("dns-tcp", 53)), 1),
        ((port("a", 53, protocol=UDP), port("b", 53), port("c", 53, protocol=SCTP)), 1),
        ((port("dns", 53, protocol=UDP), port("dns-tcp", 54)), 2),
        ((port("a", 80), port("b", 81)), 2),
    ],
)
def test_ports_of_one_number_share_a_node_port_across_protocols(
    ports: tuple[ServicePort, ...], distinct: int
) -> None:
    given = numbers(give(service(*ports)))
    assert 0 not in given
    assert len(set(given)) == distinct


def test_a_port_shares_the_number_that_a_later_one_names() -> None:
    given = give(service(port("dns", 53, protocol=UDP), port("dns-tcp", 53, 30007)))
    assert numbers(given) == [30007, 30007]


# --- healthCheckNodePort ------------------------------------------------

LOCAL = replace(service(type=ServiceType.LOAD_BALANCER), external_traffic_policy="Local")


@pytest.mark.proves("A4")
def test_a_local_load_balancer_has_a_health_check_port_of_its_own() -> None:
    given = give(LOCAL)
    assert given.health_check_node_port in RANGES.node_ports
    assert given.health_check_node_port not in numbers(given)
    assert holdings(given).node_ports == {given.health_check_node_port, *numbers(given)}
    assert give(LOCAL, given) == given


@pytest.mark.proves("A4")
def test_the_health_check_port_goes_with_its_reason() -> None:
    given = give(LOCAL)
    assert give(replace(LOCAL, external_traffic_policy="Cluster"), given).health_check_node_port == 0
    assert give(replace(LOCAL, type=ServiceType.NODE_PORT), given).health_check_node_port == 0


@pytest.mark.proves("A4")
@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            replace(LOCAL, health_check_node_port=30005),
            "healthCheckNodePort 30005 is held by default/api; choose another or leave it out",
        ),
        (
            replace(LOCAL, health_check_node_port=99),
            "healthCheckNodePort 99 is outside the nodePort range 30000-30099; choose another or leave it out",
        ),
        (
            replace(LOCAL, health_check_node_port=30006, ports=(port(node_port=30006),)),
            "healthCheckNodePort 30006 is a nodePort of this Service too; choose another or leave it out",
        ),
    ],
)
def test_explicit_health_check_ports_are_checked(wanted: Service, message: str) -> None:
    assert refusals(wanted, ports={30005: API}) == [("spec.healthCheckNodePort", message)]


@pytest.mark.parametrize("named", [30000, 30001])
def test_a_port_is_not_found_where_the_health_check_port_is(named: int) -> None:
    wanted = replace(LOCAL, health_check_node_port=named)
    given = give(wanted, ranges=Ranges(PortRange(30000, 30001), (CIDR4,)), ports={named: wanted.key})
    assert {given.health_check_node_port, *numbers(given)} == {30000, 30001}


def test_a_port_gives_way_to_a_health_check_port_that_is_named() -> None:
    held = give(service(port(node_port=30050)))
    given = give(replace(LOCAL, health_check_node_port=30050), held)
    assert given.health_check_node_port == 30050
    assert numbers(given)[0] not in (0, 30050)


@pytest.mark.proves("A4")
def test_a_health_check_port_cannot_change() -> None:
    given = give(replace(LOCAL, health_check_node_port=30006))
    assert refusals(replace(LOCAL, health_check_node_port=30007), given) == [
        (
            "spec.healthCheckNodePort",
            "30007 differs from 30006: it cannot change while the Service exists: "
            "leave it out, or delete the Service first",
        )
    ]


def test_a_range_that_ends_before_the_health_check_port_is_exhausted() -> None:
    [(field, message)] = refusals(LOCAL, ranges=Ranges(PortRange(30000, 30000), (CIDR4,)))
    assert field == "spec.healthCheckNodePort"
    assert "nodePort range 30000-30000 is exhausted" in message


# --- clusterIPs and families ------------------------------------------------

SINGLE = service(type=ServiceType.CLUSTER_IP)
DUAL = replace(SINGLE, ip_family_policy="RequireDualStack")
PREFER = replace(SINGLE, ip_family_policy="PreferDualStack")
HEADLESS = replace(SINGLE, headless=True)


@pytest.mark.proves("F9")
@pytest.mark.parametrize(
    ("wanted", "ranges", "policy", "families"),
    [
        (SINGLE, RANGES, "SingleStack", (V4,)),
        (SINGLE, Ranges(service_cidrs=(CIDR6, CIDR4)), "SingleStack", (V6,)),
        (replace(SINGLE, ip_families=(V6,)), RANGES, "SingleStack", (V6,)),
        (replace(SINGLE, cluster_ips=addresses("fd00:10:96::9")), RANGES, "SingleStack", (V6,)),
        (DUAL, RANGES, "RequireDualStack", (V4, V6)),
        (replace(DUAL, ip_families=(V6,)), RANGES, "RequireDualStack", (V6, V4)),
        (replace(DUAL, ip_families=(V6, V4)), RANGES, "RequireDualStack", (V6, V4)),
        (
            replace(DUAL, cluster_ips=addresses("fd00:10:96::9", "10.96.0.9")),
            RANGES,
            "RequireDualStack",
            (V6, V4),
        ),
        (PREFER, RANGES, "PreferDualStack", (V4, V6)),
        (PREFER, ONLY4, "PreferDualStack", (V4,)),
    ],
)
def test_policies_give_families_and_addresses(
    wanted: Service, ranges: Ranges, policy: str, families: tuple[Family, ...]
) -> None:
    given = give(wanted, ranges=ranges)
    assert (given.ip_family_policy, given.ip_families) == (policy, families)
    assert tuple(ip.version for ip in given.cluster_ips) == families
    assert given.cluster_ips[: len(wanted.cluster_ips)] == wanted.cluster_ips
    assert give(wanted, given, ranges=ranges) == given


@pytest.mark.proves("F9")
@pytest.mark.parametrize(
    ("wanted", "ranges", "field", "message"),
    [
        (
            DUAL,
            ONLY4,
            "spec.ipFamilyPolicy",
            "no service CIDR of IPv6 is configured; add one with --service-cidr, "
            "which RequireDualStack needs, or choose PreferDualStack",
        ),
        (
            replace(SINGLE, ip_families=(V6,)),
            ONLY4,
            "spec.ipFamilies[0]",
            "no service CIDR of IPv6 is configured; add one with --service-cidr, or choose the other family",
        ),
        (
            replace(PREFER, ip_families=(V4, V6)),
            ONLY4,
            "spec.ipFamilies[1]",
            "no service CIDR of IPv6 is configured; add one with --service-cidr, or choose the other family",
        ),
        (
            replace(SINGLE, ip_families=(V4, V6)),
            RANGES,
            "spec.ipFamilyPolicy",
            "SingleStack allows one IP family; name one, or choose PreferDualStack",
        ),
    ],
)
def test_families_that_cannot_be_had_are_refused(wanted: Service, ranges: Ranges, field: str, message: str) -> None:
    assert refusals(wanted, ranges=ranges) == [(field, message)]


def test_an_upgrade_adds_an_address_and_a_downgrade_releases_it() -> None:
    single = give(SINGLE)
    dual = give(PREFER, single)
    assert dual.cluster_ips[0] == single.cluster_ips[0]
    assert tuple(ip.version for ip in dual.cluster_ips) == (4, 6)
    assert give(SINGLE, dual) == dual  # a policy that is left out is no wish to release anything
    assert give(replace(SINGLE, ip_family_policy="SingleStack"), dual) == single


def test_a_held_second_family_survives_its_cidr() -> None:
    dual = give(PREFER)
    assert give(PREFER, dual, ranges=ONLY4) == dual


@pytest.mark.proves("A3")
@pytest.mark.parametrize(
    ("wanted", "held", "field", "start"),
    [
        (
            replace(SINGLE, cluster_ips=addresses("10.96.0.9")),
            SINGLE,
            "spec.clusterIP",
            "10.96.0.9 differs from",
        ),
        (HEADLESS, SINGLE, "spec.clusterIP", "None differs from 10.96.0."),
        (
            replace(SINGLE, cluster_ips=addresses("10.96.0.9")),
            HEADLESS,
            "spec.clusterIP",
            "10.96.0.9 differs from None",
        ),
        (replace(SINGLE, ip_families=(V6,)), SINGLE, "spec.ipFamilies[0]", "IPv6 differs from IPv4"),
    ],
)
def test_cluster_ips_are_immutable(wanted: Service, held: Service, field: str, start: str) -> None:
    [(found, message)] = refusals(wanted, give(held))
    assert found == field
    assert message.startswith(start)
    if "None" in message:
        assert "and a clusterIP cannot be changed; delete the Service and create it anew, or leave" in message
    else:
        assert message.endswith("leave it out, or delete the Service first")


@pytest.mark.proves("A3")
def test_a_second_cluster_ip_is_immutable_too() -> None:
    dual = give(DUAL)
    wanted = replace(DUAL, cluster_ips=(dual.cluster_ips[0], ip_address("fd00:10:96::9")))
    [(field, message)] = refusals(wanted, dual)
    assert field == "spec.clusterIPs[1]"
    assert message.startswith(f"fd00:10:96::9 differs from {dual.cluster_ips[1]}")


def test_external_names_hold_nothing_and_may_become_anything() -> None:
    external = give(Service("default", "web", type=ServiceType.EXTERNAL_NAME), give(DUAL))
    assert holdings(external) == Claims()
    assert (external.ip_families, external.ip_family_policy) == ((), "")
    explicit = replace(SINGLE, cluster_ips=addresses("10.96.0.9"))
    assert give(explicit, external).cluster_ips == addresses("10.96.0.9")
    assert give(HEADLESS, external).headless


@pytest.mark.parametrize(
    ("wanted", "policy", "families"),
    [
        (HEADLESS, "SingleStack", (V4,)),
        (replace(HEADLESS, ip_family_policy="PreferDualStack"), "PreferDualStack", (V4, V6)),
        # Without a selector, endpoints of both families may be written by hand (API server's default).
        (replace(HEADLESS, selector={}), "RequireDualStack", (V4, V6)),
    ],
)
def test_headless_services_have_families_and_no_address(
    wanted: Service, policy: str, families: tuple[Family, ...]
) -> None:
    given = give(wanted)
    assert given.headless
    assert holdings(given) == Claims()
    assert (given.ip_family_policy, given.ip_families) == (policy, families)
    assert give(replace(wanted, headless=False), given) == given  # left out: stays what it is


@pytest.mark.parametrize("wanted", [replace(HEADLESS, selector={}), replace(DUAL, headless=True)])
def test_headless_services_need_no_cidr_of_their_families(wanted: Service) -> None:
    assert give(wanted, ranges=ONLY4).ip_families == (V4, V6)


def test_a_headless_service_stays_one_and_so_takes_no_node_port() -> None:
    held = give(HEADLESS)
    [(field, message)] = refusals(replace(SINGLE, type=ServiceType.NODE_PORT), held)
    assert field == "spec.type"
    assert message.startswith("type NodePort needs a clusterIP, and this service is headless")
    assert "; delete the Service and create it anew, or leave its type ClusterIP" in message


# --- what others claim from outside --------------------------------------------


def test_an_address_that_another_service_claims_from_outside_is_refused_and_passed_over() -> None:
    """As an externalIP or a load balancer's: two would have it. It is in no way of who holds it already."""
    wanted = replace(SINGLE, cluster_ips=addresses("10.96.0.9"))
    assert refusals(wanted, claimed={"10.96.0.9": API}) == [
        (
            "spec.clusterIP",
            "10.96.0.9 is claimed by default/api as an externalIP or a load-balancer address; "
            "choose another or leave it out",
        )
    ]
    assert refusals(wanted, ips={"10.96.0.9": API}, claimed={"10.96.0.9": API}) == [
        ("spec.clusterIP", "10.96.0.9 is held by default/api; choose another or leave it out")
    ]
    held = give(wanted)
    assert give(wanted, held, claimed={"10.96.0.9": API}) == held
    first = give(SINGLE).cluster_ips[0]
    second = give(SINGLE, claimed={str(first): API}).cluster_ips[0]
    assert second != first
    assert give(SINGLE, ips={str(first): API}).cluster_ips[0] == second, "the next one, as if it were held"


def test_nobody_uses_up_the_addresses_by_claiming_them_all() -> None:
    every = {str(ip): API for ip in CIDR4}
    first = give(SINGLE).cluster_ips[0]
    assert give(SINGLE, claimed=every).cluster_ips == (first,)
    held = {str(ip): API for ip in CIDR4 if ip != first}
    assert give(SINGLE, claimed=every, ips=held).cluster_ips == (first,)
    [(field, message)] = refusals(SINGLE, claimed=every, ips=every)
    assert (field, message.partition(";")[0]) == ("spec.clusterIP", "service CIDR 10.96.0.0/24 is exhausted")


def test_one_address_that_nobody_claims_is_found_among_a_thousand_that_are() -> None:
    """And no more are looked at, whoever claims how many."""
    wide = Ranges(service_cidrs=(IPv4Network("10.96.0.0/16"),))
    order = list(islice(probe_ips("default/web/clusterIP/4", wide.service_cidrs[0]), 1001))
    asked: list[IPAddress] = []

    def claimant(last: int) -> Callable[[IPAddress], ObjectName | None]:
        def ask(ip: IPAddress) -> ObjectName | None:
            asked.append(ip)
            return API if ip in order[:last] else None

        return ask

    def found(last: int) -> IPAddress:
        holders: dict[int, ObjectName] = {}
        nobody: dict[IPAddress, ObjectName] = {}
        args = {"ranges": wide, "port_holder": holders.get, "ip_holder": nobody.get}
        return allocate(SINGLE, None, **args, claimant=claimant(last)).cluster_ips[0]  # type: ignore[arg-type]

    assert found(0) == order[0]
    assert found(999) == order[999]
    asked.clear()
    assert found(1000) == order[0], "it goes to the first then: a clusterIP goes before such a claim"
    assert asked == order[:1000]


# --- one's own name, and what was held before ----------------------------------


def test_what_stands_under_the_services_own_name_is_free_to_it() -> None:
    own = SINGLE.key
    explicit = replace(service(port(node_port=30005)), cluster_ips=addresses("10.96.0.9"))
    explicit = replace(explicit, type=ServiceType.LOAD_BALANCER, external_traffic_policy="Local")
    explicit = replace(explicit, health_check_node_port=30006)
    known = {"ports": {30005: own, 30006: own}, "ips": {"10.96.0.9": own}}
    given = give(explicit, **known)  # type: ignore[arg-type]  # keywords
    assert (numbers(given), given.health_check_node_port) == ([30005], 30006)
    assert given.cluster_ips == explicit.cluster_ips
    first = give(service())
    again = give(service(), ports={numbers(first)[0]: own}, ips={str(first.cluster_ips[0]): own})
    assert again == first, "also what is found"


def test_each_refused_value_is_told_with_its_place() -> None:
    wanted = replace(
        DUAL,
        type=ServiceType.NODE_PORT,
        ports=(port("a", 80), port("b", 81, 30005), port("c", 82, 30006)),
        cluster_ips=addresses("10.96.0.9", "fd00:10:96::9"),
    )
    found = refusals(wanted, ports={30006: API}, ips={"fd00:10:96::9": API})
    assert [field for field, _ in found] == ["spec.clusterIPs[1]", "spec.ports[2].nodePort"]


def test_a_port_that_loses_its_number_to_the_health_check_does_not_share_it_either() -> None:
    """The number is looked for once only, in the order of the ports, and all of them are different."""
    many = tuple(port(f"p{i}", 80 + i) for i in range(9))
    wanted = replace(service(*many), type=ServiceType.LOAD_BALANCER, external_traffic_policy="Local")
    ten = Ranges(PortRange(30000, 30009), (CIDR4,))
    given = give(wanted, ranges=ten)
    assert {*numbers(given), given.health_check_node_port} == {*range(30000, 30010)}
    [(field, _)] = refusals(replace(wanted, ports=(*many, port("more", 99))), ranges=ten)
    assert field == "spec.healthCheckNodePort"


def test_a_number_is_kept_by_one_port_only_and_of_its_own_protocol() -> None:
    """The name has changed hands, or two ports have shared the number: nothing is there twice."""
    held = give(service(port("dns", 53, 30053, UDP), port("dns-tcp", 53, 30053)))
    assert numbers(give(service(port("dns", 53, protocol=UDP), port("dns-tcp", 53)), held)) == [30053, 30053]
    # "dns" is of TCP now and takes the number by its name; the other, of UDP, by its protocol and port.
    swapped = give(service(port("dns", 53), port("other", 53, protocol=UDP)), held)
    assert numbers(swapped) == [30053, 30053]
    both = give(service(port("dns", 80), port("x", 53)), held)
    assert numbers(both)[0] == 30053
    assert numbers(both)[1] not in (0, 30053), "of one protocol, the second one finds another"


def test_a_load_balancer_whose_numbers_are_not_wanted_gives_them_back() -> None:
    held = give(service(port("http", 80, 30050)))
    wanted = replace(service(port("http", 80)), type=ServiceType.LOAD_BALANCER, allocate_node_ports=False)
    assert numbers(give(wanted, held)) == [0]
    assert numbers(give(wanted)) == [0]
    again = replace(wanted, allocate_node_ports=True)
    assert numbers(give(again, held)) == [30050]
    assert numbers(give(again))[0] in RANGES.node_ports


def test_all_that_is_refused_of_an_explicit_error_reads_as_one_line() -> None:
    with pytest.raises(AllocationError) as caught:
        give(service(port("a", 80, 1), port("b", 81, 2)))
    assert str(caught.value) == "; ".join(f"{refusal.field}: {refusal.message}" for refusal in caught.value.refusals)
    assert len(caught.value.refusals) == 2


def test_the_address_of_the_clusters_dns_is_given_to_nobody_else() -> None:
    ranges = replace(ONLY4, service_cidrs=(IPv4Network("10.96.0.8/30"),), cluster_dns=addresses("10.96.0.10"))
    assert give(service(), ranges=ranges).cluster_ips == addresses("10.96.0.9"), "the only other one"
    (exhausted,) = refusals(service(), ranges=ranges, ips={"10.96.0.9": API})
    assert "is exhausted" in exhausted[1]
    wanted = replace(service(), cluster_ips=addresses("10.96.0.10"))
    text = "10.96.0.10 is set aside for kube-system/kube-dns (key clusterDNS); choose another or leave it out"
    assert refusals(wanted, ranges=ranges) == [("spec.clusterIP", text)]
    own = replace(wanted, namespace="kube-system", name="kube-dns")
    assert give(own, ranges=ranges).cluster_ips == addresses("10.96.0.10"), "a user's own"
    assert give(replace(own, cluster_ips=()), ranges=ranges).cluster_ips == addresses("10.96.0.10"), "and by itself"
    assert give(service(), wanted, ranges=ranges).cluster_ips == addresses("10.96.0.10"), "held before that was so"


NETWORKS = {
    "10.96.0.0/28": ["10.96.0.14", "10.96.0.1"],
    "10.96.0.0/27": ["10.96.0.30", "10.96.0.17"],
    "10.96.0.0/24": ["10.96.0.114", "10.96.0.115"],
    "10.96.0.0/20": ["10.96.12.140", "10.96.12.141"],
    "10.96.0.0/19": ["10.96.4.54", "10.96.4.55"],
    "10.96.0.0/12": ["10.102.66.126", "10.102.66.127"],
}  # each with the first two addresses that are looked at
PORTS = {16: 30008, 17: 30016, 500: 30204, 2768: 32700, 10000: 30584}  # by the size of the range: the first one


def test_numbers_are_the_same_in_every_version_of_the_program() -> None:
    """Nodes of a cluster are not all upgraded at once, and equal manifests give equal numbers on all of them."""
    for cidr, first in NETWORKS.items():
        assert [str(ip) for ip in islice(probe_ips("default/web/clusterIP/4", IPv4Network(cidr)), 2)] == first
    for size, number in PORTS.items():
        free = FreePorts(PortRange(30000, 30000 + size - 1), lambda _: True)
        assert free.find("default/web//TCP/80") == number


def test_what_was_taken_is_asked_for_once_however_many_ports_are_looked_for() -> None:
    """Who chooses the names chooses where the search starts: it must not cost the square of the ports."""
    taken: set[int] = set()
    asked: list[int] = []

    def is_free(number: int) -> bool:
        asked.append(number)
        return number not in taken

    free = FreePorts(PortRange(30000, 30299), is_free)
    for _ in range(300):
        taken.add(free.find("the same start"))
    assert len(taken) == 300
    assert free.find("another start") == 0
    assert len(asked) <= 2 * 300 + 1


def test_a_health_check_port_is_kept_that_no_search_would_find() -> None:
    local = replace(service(type=ServiceType.LOAD_BALANCER), external_traffic_policy="Local")
    held = give(replace(local, health_check_node_port=30007))
    assert give(local, held).health_check_node_port == 30007
    assert claims(local, held, ranges=RANGES).node_ports >= {30007}


def test_a_headless_service_may_change_its_families() -> None:
    """It has no address that the first family would be that of."""
    headless = replace(service(type=ServiceType.CLUSTER_IP), headless=True, ip_families=(V4,))
    held = give(headless)
    assert held.ip_families == (V4,)
    assert give(replace(headless, ip_families=(V6,)), held).ip_families == (V6,)


def test_what_is_to_be_found_is_claimed_by_nobody_yet() -> None:
    assert claims(service(), None, ranges=RANGES) == Claims()


def test_a_service_of_the_second_family_alone_stays_one() -> None:
    held = give(replace(service(), ip_families=(V6,)))
    assert give(service(), held) == held


def test_without_any_service_cidr_the_first_family_is_ipv4() -> None:
    ((field, text),) = refusals(service(), ranges=Ranges(PortRange(30000, 30099), ()))
    assert field == "spec.ipFamilies[0]"
    assert text.startswith("no service CIDR of IPv4 is configured")


def test_a_headless_service_without_a_selector_may_have_both_families_wherever_there_are_addresses() -> None:
    free = replace(
        service(type=ServiceType.CLUSTER_IP), headless=True, selector={}, ip_family_policy="PreferDualStack"
    )
    assert give(free, ranges=ONLY4).ip_families == (V4, V6)
    assert give(replace(free, selector={"app": "web"}), ranges=ONLY4).ip_families == (V4,)


def test_node_ports_that_are_not_allocated_are_a_matter_of_load_balancers_alone() -> None:
    held = give(service(port("http", 80, 30050)))
    assert numbers(give(replace(service(port("http", 80)), allocate_node_ports=False), held)) == [30050]


def test_the_clusters_dns_gets_its_address_in_each_family() -> None:
    ranges = replace(RANGES, cluster_dns=addresses("fd00:10:96::a", "10.96.0.10"))
    own = replace(service(), namespace="kube-system", name="kube-dns", ip_family_policy="RequireDualStack")
    assert give(own, ranges=ranges).cluster_ips == addresses("10.96.0.10", "fd00:10:96::a")


def test_a_number_is_shared_only_where_no_other_port_of_the_protocol_has_it() -> None:
    both = port("dns", 53, 30053, UDP), port("web", 80, 30053), port("dns-tcp", 53)
    found = numbers(give(service(*both)))
    assert found[:2] == [30053, 30053]
    assert found[2] not in (0, 30053)
