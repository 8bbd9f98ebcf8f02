"""What a source tells of an API server: all there is, and what changes, in whichever way the server lists."""

from __future__ import annotations

from functools import partial
from ipaddress import ip_network

import pytest

from nodeport_nft.model import Ref
from nodeport_nft.store.kubernetes.follower import Timings
from tests.kubernetes.followed import NODE, Told, endpoint_slice, follow, lists, node, service
from tests.kubernetes.running import ApiServer

pytestmark = pytest.mark.proves("W1")


def lacks(told: Told, kind: str, name: str) -> bool:
    return not told.value(kind, name)


# --- all there is -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", ["on", "off", "broken"])
def test_all_kinds_are_listed_before_anything_is_told(server: ApiServer, streaming: str) -> None:
    """Streamed, and in pages from a server that answers 422, or 200 with an ERROR event of code 500."""
    server.options(streaming=streaming)
    server.create(node("node-2"))

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        (first,) = told.changes
        assert first.whole
        assert not first.unreadable
        assert told.names("Service") == {"web", "kubernetes"}
        assert told.names("EndpointSlice") == {"web-1"}
        assert told.names("Node") == {NODE}  # and no other
        assert told.value("ServiceCIDR", "kubernetes").networks
        server.create(service("later", 81))
        await told.until(lambda: told.value("Service", "later"))
        assert not told.changes[-1].whole
        assert told.refs_since(1) == {"Service/default/later"}
        assert not told.problems

    follow(server, scenario)
    assert bool(lists(server)) == (streaming != "on")


def test_a_stream_that_never_says_that_this_was_all_is_none(server: ApiServer) -> None:
    server.faults([{"resource": "services", "verb": "watch", "silent": 1, "times": 1}])

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        assert told.names("Service") == {"web", "kubernetes"}
        await told.until(lambda: not told.problems)

    follow(server, scenario, Timings(answer=1.0, shortest=0.2))
    assert lists(server)


def test_lists_come_in_pages(server: ApiServer) -> None:
    server.options(streaming="off")
    for number in range(501):
        server.create(service(f"s-{number}"))

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        assert len(told.names("Service")) == 503

    follow(server, scenario)
    assert len(lists(server)) == 2


def test_pods_endpoints_and_other_nodes_are_never_asked_for(server: ApiServer) -> None:
    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)

    follow(server, scenario)
    assert {each["resource"] for each in server.requests()} == {"services", "endpointslices", "nodes", "servicecidrs"}
    assert {each["verb"] for each in server.requests()} <= {"list", "watch"}


def test_nothing_is_told_before_the_last_kind_is_listed(server: ApiServer) -> None:
    server.faults([{"resource": "endpointslices", "status": 500, "times": 4}])

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.problems)
        assert not told.changes
        assert "endpointslices" in told.problems
        assert "nothing was read yet" in told.problems
        await told.until(lambda: told.changes)
        assert told.changes[0].whole
        assert {ref.kind for ref in told.objects} == {"Service", "EndpointSlice", "Node", "ServiceCIDR"}
        await told.until(lambda: not told.problems)

    follow(server, scenario)


def test_nobody_is_woken_for_half_of_what_there_is(server: ApiServer) -> None:
    """A daemon that begins looks at the kernel's tables whenever it is woken."""
    server.faults([{"resource": "endpointslices", "delay": 0.5, "times": 0}])

    async def scenario(told: Told) -> None:
        await told.source.changed()
        assert told.source.take().whole

    follow(server, scenario)


def test_everything_is_told_once_more_when_it_was_forgotten(server: ApiServer) -> None:
    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        before = dict(told.objects)
        told.source.forget()
        assert not told.source.take()  # nothing that is half of it
        server.create(service("later", 81))
        await told.until(lambda: len(told.changes) > 1 and told.value("Service", "later"))
        assert told.changes[1].whole
        assert {ref: told.objects[ref] for ref in before} == before

    follow(server, scenario)


# --- what changes -----------------------------------------------------------------------------------------


def test_objects_that_change_and_go(server: ApiServer) -> None:
    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        server.create(endpoint_slice("web-2", "web", "10.244.0.6"))
        await told.until(lambda: told.value("EndpointSlice", "web-2"))
        server.patch("Service", "default", "web", {"spec": {"ports": [{"port": 90, "protocol": "TCP"}]}})
        await told.until(lambda: told.value("Service", "web").ports[0].port == 90)
        server.delete("Service", "default", "web")
        await told.until(lambda: not told.value("Service", "web"))
        server.patch("Node", "", NODE, {"spec": {"podCIDR": "10.244.7.0/24", "podCIDRs": ["10.244.7.0/24"]}})
        await told.until(lambda: told.value("Node", NODE).pod_cidrs == (ip_network("10.244.7.0/24"),))
        assert told.refs_since(1) == {
            "EndpointSlice/default/web-2", "Service/default/web", f"Node/{NODE}",
        }  # fmt: skip

    follow(server, scenario)


PROXY_NAME, HEADLESS = "service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"


@pytest.mark.parametrize(
    ("kind", "name", "label"), [("Service", "web", PROXY_NAME), ("EndpointSlice", "web-1", HEADLESS)]
)
def test_a_label_takes_an_object_from_us_and_gives_it_back(
    server: ApiServer, kind: str, name: str, label: str
) -> None:
    never = service("never", 82) if kind == "Service" else endpoint_slice("never", "web", "10.244.0.6")
    never["metadata"]["labels"] = {**never["metadata"].get("labels", {}), label: "x"}
    server.create(never)

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        assert not told.value(kind, "never")
        server.patch(kind, "default", name, {"metadata": {"labels": {label: "x"}}})
        await told.until(partial(lacks, told, kind, name))
        server.patch(kind, "default", name, {"metadata": {"labels": {label: None}}})
        await told.until(partial(told.value, kind, name))

    follow(server, scenario)


def test_a_label_of_the_other_kind_means_nothing(server: ApiServer) -> None:
    """Seen beside kube-proxy: it serves a Service labelled as headless, and slices that name another proxy."""
    for kind, name, label in (("Service", "web", HEADLESS), ("EndpointSlice", "web-1", PROXY_NAME)):
        server.patch(kind, "default", name, {"metadata": {"labels": {label: ""}}})

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        assert told.value("Service", "web")
        assert told.value("EndpointSlice", "web-1")

    follow(server, scenario)


def test_headless_services_are_never_told_of(server: ApiServer) -> None:
    server.create(service("headless", 82, clusterIP="None"))
    server.create({**service("outside", 83), "spec": {"type": "ExternalName", "externalName": "example.net"}})

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        assert told.names("Service") == {"web", "kubernetes", "outside"}
        server.patch("Service", "default", "headless", {"metadata": {"labels": {"a": "b"}}})
        server.create(service("later", 84))
        await told.until(lambda: told.value("Service", "later"))
        assert not told.value("Service", "headless")

    follow(server, scenario)


def test_the_node_is_deleted_and_made_again(server: ApiServer) -> None:
    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        assert not told.problems
        server.delete("Node", "", NODE)
        await told.until(lambda: not told.value("Node", NODE))
        assert f"there is no Node {NODE}" in told.problems
        assert "--node-name" in told.problems
        server.create(node(podCIDR="10.244.9.0/24", podCIDRs=["10.244.9.0/24"]))
        await told.until(lambda: told.value("Node", NODE))
        assert told.value("Node", NODE).pod_cidrs
        assert not told.problems

    follow(server, scenario)


def test_a_service_cidr_is_added_and_deleted(server: ApiServer) -> None:
    more = {
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "more"}, "spec": {"cidrs": ["10.200.0.0/24"]},
    }  # fmt: skip

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        server.create(more)
        await told.until(lambda: told.value("ServiceCIDR", "more"))
        assert told.value("ServiceCIDR", "more").networks == (ip_network("10.200.0.0/24"),)
        server.delete("ServiceCIDR", "", "more")
        await told.until(lambda: not told.value("ServiceCIDR", "more"))

    follow(server, scenario)


@pytest.mark.parametrize("code", [403, 404])
def test_service_cidrs_that_cannot_be_had_are_done_without(server: ApiServer, code: int) -> None:
    server.faults([{"resource": "servicecidrs", "status": code, "times": 0}])

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        assert told.names("Service") == {"web", "kubernetes"}
        assert not told.names("ServiceCIDR")
        assert ("servicecidrs" in told.problems) == (code == 403)

    follow(server, scenario)


def test_service_cidrs_count_once_they_are_allowed(server: ApiServer) -> None:
    server.faults([{"resource": "servicecidrs", "status": 403, "times": 3}])

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        await told.until(lambda: told.names("ServiceCIDR"))
        await told.until(lambda: not told.problems)

    follow(server, scenario)


# --- objects that are none --------------------------------------------------------------------------------


STRANGE = '{"metadata":{"name":"strange","namespace":"default","uid":"u","resourceVersion":"%d"},"spec":%s}'


@pytest.mark.parametrize(
    "spec", ["7", '{"ports":"all"}', '{"ports":[{"port":1e400}]}', '{"type":"Later","ports":[{}]}']
)
def test_an_object_of_strange_fields_hides_no_other(server: ApiServer, spec: str) -> None:
    """Of what this program does not understand it tells, and whatever it does, the rest of the list is read."""
    item = STRANGE % (5, spec)
    good = STRANGE.replace("strange", "good") % (6, '{"clusterIP":"10.96.0.9","ports":[{"port":80}]}')
    body = f'{{"kind":"ServiceList","apiVersion":"v1","metadata":{{"resourceVersion":"9"}},"items":[{item},{good}]}}'
    server.options(streaming="off")
    server.faults([{"resource": "services", "verb": "list", "text": body, "type": "application/json", "times": 1}])

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        assert told.value("Service", "good")
        assert "strange" in told.problems + "".join(told.warnings)

    follow(server, scenario)


def test_an_item_without_a_name_takes_nothing_away(server: ApiServer) -> None:
    body = '{"kind":"ServiceList","apiVersion":"v1","metadata":{"resourceVersion":"%d"},"items":[{"metadata":{}}]}'
    server.options(streaming="off")

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        revision = server.revision() + 100
        server.bump(200)
        fault = {"resource": "services", "verb": "list", "text": body % revision, "type": "application/json"}
        server.faults([{**fault, "times": 2}, {"resource": "services", "verb": "watch", "status": 410}])
        server.drop_connections()
        await told.until(lambda: "one of the services" in told.problems)
        assert told.value("Service", "web")

    follow(server, scenario)


# --- who may not ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resource", ["services", "endpointslices", "nodes"])
def test_a_kind_that_is_forbidden_keeps_everything_from_being_told(server: ApiServer, resource: str) -> None:
    server.faults([{"resource": resource, "status": 403, "times": 0, "message": f"{resource} is forbidden"}])

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.problems)
        assert f"allow listing and watching {resource}" in told.problems
        assert not told.source.take()
        server.faults([])
        await told.until(lambda: told.changes)
        await told.until(lambda: not told.problems)

    follow(server, scenario)


def test_a_kind_that_is_forbidden_later_is_kept(server: ApiServer) -> None:
    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        server.faults([{"resource": "endpointslices", "status": 403, "times": 0}])
        server.drop_connections()
        await told.until(lambda: told.problems)
        assert "endpointslices" in told.problems
        server.create(service("later", 81))
        await told.until(lambda: told.value("Service", "later"))
        assert told.value("EndpointSlice", "web-1")

    follow(server, scenario)


def test_a_namespace_that_is_deleted(server: ApiServer) -> None:
    server.create(service("inner", 81, "team"))
    slices = endpoint_slice("inner-1", "inner", "10.244.0.9")
    server.create({**slices, "metadata": {**slices["metadata"], "namespace": "team"}})

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        assert Ref("Service", "team", "inner") in told.objects
        server.delete("Service", "team", "inner")
        server.delete("EndpointSlice", "team", "inner-1")
        await told.until(lambda: not any(ref.namespace == "team" for ref in told.objects))

    follow(server, scenario)
