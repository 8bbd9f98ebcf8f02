"""What draining does to the Services: which addresses they lose for new connections, and which come back."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from nodeport_nft.model import EndpointSlice, Node, ObjectName, Service, Snapshot
from nodeport_nft.resolve import Index, join
from nodeport_nft.resolve.leaving import Effect, effects
from tests.builders import make_endpoint, make_port, make_service, make_slice

WEB = ObjectName("default", "web")
HERE, OTHER, THIRD = "10.244.1.9", "10.244.1.10", "10.244.2.2"
V6 = "fd00:244:1::2"
DUAL = make_service("web", ips=("10.96.0.10", "fd00:10:96::10"))


def drained(piece: EndpointSlice, *addresses: str) -> EndpointSlice:
    return replace(piece, drained=tuple(map(ip_address, addresses)))


def index(pieces: Iterable[EndpointSlice], service: Service = DUAL, node: Node | None = None) -> Index:
    return Index.of(Snapshot((service,), tuple(pieces), nodes=(node,) if node else ()))


def effect(*, gone: Iterable[str] = (), last: Iterable[str] = (), back: Iterable[str] = ()) -> Effect:
    return Effect(WEB, *(tuple(map(ip_address, each)) for each in (gone, last, back)))


FOUR = (make_slice(OTHER, HERE, THIRD), make_slice(V6, name="web-6"))


def test_what_is_drained_is_told_each_once_in_order_and_no_other() -> None:
    after = [drained(FOUR[0], OTHER, HERE), drained(FOUR[1], V6)]
    assert effects(index(FOUR), index(after), [WEB]) == (effect(gone=(HERE, OTHER, V6), last=(V6,)),)


def test_what_is_drained_no_longer_comes_back_and_the_others_are_as_they_were() -> None:
    before = [drained(FOUR[0], OTHER, HERE), FOUR[1]]
    after = [drained(FOUR[0], HERE), FOUR[1]]
    assert effects(index(before), index(after), [WEB]) == (effect(back=(OTHER,)),)


def test_the_last_endpoints_get_new_connections_all_the_same() -> None:
    assert effects(index(FOUR[:1]), index([drained(FOUR[0], HERE, OTHER, THIRD)]), [WEB]) == (
        effect(gone=(HERE, OTHER, THIRD), last=(HERE, OTHER, THIRD)),
    )


def test_an_address_is_the_last_one_where_one_of_its_ports_has_no_other() -> None:
    service = make_service("web", make_port(80, name="a"), make_port(81, name="b", target=8081))
    first = make_slice(HERE, OTHER, port_name="a")
    second = make_slice(HERE, name="web-2", port_name="b", port=8081)
    after = [drained(first, HERE), drained(second, HERE)]
    assert effects(index([first, second], service), index(after, service), [WEB]) == (
        effect(gone=(HERE,), last=(HERE,)),
    )


def test_a_node_takes_its_endpoints_with_it() -> None:
    pieces = [make_slice(make_endpoint(HERE, node="worker-1"), make_endpoint(OTHER, node="worker-2"))]
    stays, leaves = Node("worker-1"), Node("worker-1", drained=True)
    assert effects(index(pieces, node=stays), index(pieces, node=leaves), [WEB]) == (effect(gone=(HERE,)),)
    assert effects(index(pieces, node=leaves), index(pieces, node=stays), [WEB]) == (effect(back=(HERE,)),)


@pytest.mark.parametrize(
    "condition",
    [
        {"ready": False},
        {"ready": False, "terminating": True},
        {"ready": True, "terminating": True},
    ],
    ids=["not ready", "terminating", "terminating, and published all the same"],
)
def test_what_got_no_new_connections_before_loses_none_and_gets_none_back(condition: dict[str, bool]) -> None:
    piece = make_slice(make_endpoint(HERE, **condition), OTHER)  # type: ignore[arg-type]  # no node among them
    assert effects(index([piece]), index([drained(piece, HERE)]), [WEB]) == ()
    if not condition["ready"]:
        assert effects(index([drained(piece, HERE)]), index([piece]), [WEB]) == ()


def test_what_comes_and_goes_meanwhile_is_no_effect() -> None:
    before, after = [make_slice(HERE, OTHER)], [drained(make_slice(HERE, THIRD, V6), V6)]
    assert effects(index(before), index(after), [WEB]) == ()


def test_services_that_are_gone_not_proxied_or_not_touched_are_not_told_of() -> None:
    after = [drained(FOUR[0], HERE)]
    headless = replace(DUAL, headless=True, cluster_ips=())
    assert effects(index(FOUR, headless), index(after, headless), [WEB]) == ()
    assert effects(index(FOUR), index(after), []) == ()
    assert effects(index(FOUR), index(after), [ObjectName("default", "gone")]) == ()


def test_the_services_are_told_by_name() -> None:
    services = tuple(make_service(name, ips=(f"10.96.0.{n}",)) for n, name in enumerate(("b", "a", "c"), 10))
    pieces = tuple(make_slice(HERE, OTHER, service=service.name, name=service.name) for service in services)
    before = Index.of(Snapshot(services, pieces))
    after = Index.of(Snapshot(services, tuple(drained(piece, HERE) for piece in pieces)))
    found = effects(before, after, {service.key for service in services})
    assert [(each.service.name, each.drained) for each in found] == [(n, (ip_address(HERE),)) for n in "abc"]


def test_ports_with_too_many_endpoints_lose_none_for_they_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "MAX_WEIGHED", 3)
    service = make_service("web", make_port(80, name="a"), make_port(81, name="b", target=8081))
    first = make_slice(HERE, OTHER, port_name="a")
    second = make_slice(HERE, OTHER, name="web-2", port_name="b", port=8081)
    after = [drained(first, HERE), drained(second, HERE)]
    assert effects(index([first, second], service), index(after, service), [WEB]) == (effect(gone=(HERE,)),)
