"""The tests' API server where no recording shows it: what it does of its own, by rule of the API."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from lab.namespaces import Namespace
from tests.kubernetes.apiserver.answers import Refusal
from tests.kubernetes.apiserver.kinds import NODE, POD
from tests.kubernetes.apiserver.selectors import field_selector, label_selector
from tests.kubernetes.asking import ask, asked, events
from tests.kubernetes.running import NOBODY, ApiServer, Refused, apiserver

SERVICES = "/api/v1/services"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"


def service(name: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80}], **spec},
    }


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server for tests that leave nothing behind but objects in namespaces of their own."""
    with apiserver(tmp_path_factory.mktemp("shared"), bookmarks=0.2) as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with apiserver(tmp_path) as one:
        yield one


def types(response: HTTPResponse, count: int) -> list[tuple[str, str]]:
    """The next events of a watch, without bookmarks: what happened to whom."""
    found: list[tuple[str, str]] = []
    for event in events(response):
        if event["type"] != "BOOKMARK":
            found.append((event["type"], event["object"]["metadata"].get("name", "")))
        if len(found) == count:
            break
    return found


# --- selectors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "labels", "fits"),
    [
        ("", {}, True),
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "c"}, False),
        ("a!=b", {}, True),
        ("a!=b", {"a": "b"}, False),
        ("a", {"a": ""}, True),
        ("!a", {"a": ""}, False),
        ("!x/a,!x/b", {"c": "1"}, True),
        ("!x/a,!x/b", {"x/b": "1"}, False),
        ("a in (b, c),d", {"a": "c", "d": ""}, True),
        ("a in (b,c)", {}, False),
        ("a notin (b,c)", {}, True),
        ("a notin (b,c)", {"a": "b"}, False),
        ("a=b,a!=b", {"a": "b"}, False),
    ],
)
def test_label_selectors(selector: str, labels: dict[str, str], fits: bool) -> None:
    assert label_selector(selector)({"metadata": {"labels": labels}}) is fits


@pytest.mark.parametrize("selector", ["a in b", "=b", "a=b c", "!", "a,,b"])
def test_a_label_selector_that_cannot_be_read_is_refused(selector: str) -> None:
    with pytest.raises(Refusal) as refused:
        label_selector(selector)
    assert refused.value.code == 400


def test_field_selectors() -> None:
    pod = {"metadata": {"name": "a", "namespace": "n"}, "spec": {"nodeName": "node-1"}}
    assert field_selector("spec.nodeName=node-1,metadata.namespace=n", POD)(pod)
    assert not field_selector("spec.nodeName!=node-1", POD)(pod)
    assert field_selector("status.phase=", POD)(pod)
    with pytest.raises(Refusal):
        field_selector("metadata.namespace=n", NODE)


# --- lists --------------------------------------------------------------------------------------------------


def test_pages_are_of_one_moment(shared: ApiServer) -> None:
    """What changes between two pages is in neither; the token outlives changes, and not a compaction."""
    for name in "abcd":
        shared.create(service(name, "pages"))
    target = "/api/v1/namespaces/pages/services?limit=2"
    first = ask(shared, "GET", target).value
    shared.delete("Service", "pages", "d")
    shared.create(service("bb", "pages"))
    second = ask(shared, "GET", f"{target}&continue={first['metadata']['continue']}").value
    assert [item["metadata"]["name"] for item in first["items"] + second["items"]] == ["a", "b", "c", "d"]
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    assert "continue" not in second["metadata"]

    shared.compact()
    late = ask(shared, "GET", f"{target}&continue={first['metadata']['continue']}")
    assert (late.status, late.value["reason"]) == (410, "Expired")
    rest = ask(shared, "GET", f"{target}&continue={late.value['metadata']['continue']}").value
    assert [item["metadata"]["name"] for item in rest["items"]] == ["bb", "c"]
    assert int(rest["metadata"]["resourceVersion"]) == shared.revision()


def test_a_list_of_a_revision(shared: ApiServer) -> None:
    target = "/api/v1/namespaces/revisions/services"
    shared.create(service("a", "revisions"))
    before = shared.revision()
    shared.create(service("b", "revisions"))
    exact = ask(shared, "GET", f"{target}?resourceVersion={before}&resourceVersionMatch=Exact").value
    assert [item["metadata"]["name"] for item in exact["items"]] == ["a"]
    newer = ask(shared, "GET", f"{target}?resourceVersion={before}&resourceVersionMatch=NotOlderThan").value
    assert [item["metadata"]["name"] for item in newer["items"]] == ["a", "b"]
    future = ask(shared, "GET", f"{target}?resourceVersion={before + 1000}")
    assert (future.status, future.value["details"]["causes"][0]["reason"]) == (504, "ResourceVersionTooLarge")
    wrong = ask(shared, "GET", f"{target}?resourceVersionMatch=Exact")
    assert (wrong.status, wrong.value["details"]["causes"][0]["field"]) == (422, "resourceVersionMatch")


# --- watches ------------------------------------------------------------------------------------------------


def test_what_does_not_fit_a_selector_any_more_is_gone(shared: ApiServer) -> None:
    label = {"metadata": {"labels": {"service.kubernetes.io/headless": ""}}}
    shared.create(service("a", "fits"))
    target = f"/api/v1/namespaces/fits/services?watch=1&resourceVersion={shared.revision()}"
    with asked(shared, "GET", f"{target}&labelSelector=!service.kubernetes.io/headless") as watch:
        shared.patch("Service", "fits", "a", label)
        shared.patch("Service", "fits", "a", {"spec": {"publishNotReadyAddresses": True}})
        shared.create(service("elsewhere", "other"))
        shared.patch("Service", "fits", "a", {"metadata": {"labels": None}})
        shared.delete("Service", "fits", "a")
        assert types(watch, 3) == [("DELETED", "a"), ("ADDED", "a"), ("DELETED", "a")]


def test_bookmarks_come_in_silence_and_before_the_end(shared: ApiServer) -> None:
    """Each is at the revision that the server is at, also where nothing of the kind has changed."""
    shared.options(bookmarks=60)
    shared.bump(7)
    target = f"{SERVICES}?watch=1&allowWatchBookmarks=true&timeoutSeconds=3&resourceVersion={shared.revision() - 7}"
    told = ask(shared, "GET", target).events
    assert [event["type"] for event in told] == ["BOOKMARK"]
    assert told[0]["object"]["metadata"] == {"resourceVersion": str(shared.revision())}
    shared.options(bookmarks=0.1)
    with asked(shared, "GET", target) as watch:
        assert [next(events(watch))["type"] for _ in range(3)] == ["BOOKMARK"] * 3
    without = target.replace("allowWatchBookmarks=true", "allowWatchBookmarks=false").replace(
        "Seconds=3", "Seconds=1"
    )
    assert ask(shared, "GET", without).events == []


STREAMED = f"{SERVICES}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"


def test_a_server_that_streams_no_lists(shared: ApiServer) -> None:
    shared.options(streaming="off")
    refused = ask(shared, "GET", STREAMED)
    assert (refused.status, refused.value["details"]["causes"][0]["field"]) == (422, "sendInitialEvents")
    shared.options(streaming="broken")
    (told,) = ask(shared, "GET", STREAMED).events
    assert (told["type"], told["object"]["code"]) == ("ERROR", 500)
    assert "RequestWatchProgress" in told["object"]["message"]
    shared.options(streaming="on")


def test_a_watch_from_before_a_compaction_is_told_so(shared: ApiServer) -> None:
    before = shared.revision()
    shared.create(service("a", "compacted"))
    shared.compact()
    (told,) = ask(shared, "GET", f"{SERVICES}?watch=1&resourceVersion={before}").events
    assert (told["type"], told["object"]["code"], told["object"]["reason"]) == ("ERROR", 410, "Expired")
    assert ask(shared, "GET", f"{SERVICES}?watch=1&timeoutSeconds=1&resourceVersion={shared.revision()}").events == []


def test_a_server_that_begins_again_has_no_cache_of_before(shared: ApiServer) -> None:
    before = shared.revision()
    shared.create(service("a", "begins-again"))
    shared.restart()
    (told,) = ask(shared, "GET", f"{SERVICES}?watch=1&resourceVersion={before}").events
    assert told["object"]["code"] == 410
    assert [item["metadata"]["name"] for item in shared.list("Service", "begins-again")] == ["a"]


# --- writes -------------------------------------------------------------------------------------------------


def test_what_a_service_holds_stays_and_is_given_back(shared: ApiServer) -> None:
    made = shared.create(service("a", "holds", type="NodePort"))
    port, ip = made["spec"]["ports"][0]["nodePort"], made["spec"]["clusterIP"]
    # A manifest that names neither.
    again = shared.replace(service("a", "holds", type="NodePort", externalTrafficPolicy="Local"))
    assert (again["spec"]["ports"][0]["nodePort"], again["spec"]["clusterIP"]) == (port, ip)
    assert shared.get("IPAddress", "", ip)["spec"]["parentRef"]["name"] == "a"
    other = service("b", "holds", type="NodePort", ports=[{"port": 80, "nodePort": port}])
    with pytest.raises(Refused, match="provided port is already allocated"):
        shared.create(other)
    internal = shared.replace(service("a", "holds", type="ClusterIP"))
    assert "nodePort" not in internal["spec"]["ports"][0]
    assert shared.create(other)["spec"]["ports"][0]["nodePort"] == port
    shared.delete("Service", "holds", "a")
    with pytest.raises(Refused, match="404"):
        shared.get("IPAddress", "", ip)


def test_a_write_of_what_is_there_is_none(shared: ApiServer) -> None:
    made = shared.create(service("a", "same"))
    assert shared.replace(made)["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert shared.patch("Service", "same", "a", {"spec": {"type": "ClusterIP"}}) == made
    applied = shared.apply(service("a", "same"))
    assert applied["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]  # it has a manager more
    assert shared.apply(service("a", "same")) == applied
    # Whoever applies more of what is there owns more, which is a write, and the second time none.
    more = shared.apply(service("a", "same", sessionAffinity="None"))
    assert more["metadata"]["resourceVersion"] != applied["metadata"]["resourceVersion"]
    assert shared.apply(service("a", "same", sessionAffinity="None")) == more


def test_a_namespace_must_be_there_and_takes_what_is_in_it_along(shared: ApiServer) -> None:
    absent = ask(shared, "POST", "/api/v1/namespaces/absent/services", service("a", "absent"))
    assert (absent.status, absent.value["details"]) == (404, {"name": "absent", "kind": "namespaces"})
    shared.create(service("a", "whole"))
    shared.delete("Namespace", "", "whole")
    assert shared.list("Service", "whole") == []


def test_the_range_of_service_addresses_can_be_full(tmp_path: Path) -> None:
    with apiserver(tmp_path, service_cidrs=("10.0.0.0/29",)) as server:
        for index in range(5):  # of six, one is the API's own
            server.create(service(f"a{index}"))
        with pytest.raises(Refused, match="range is full") as refused:
            server.create(service("b"))
        assert refused.value.code == 500
        more = {"kind": "ServiceCIDR", "metadata": {"name": "more"}, "spec": {"cidrs": ["10.0.1.0/29"]}}
        server.create(more)
        assert server.create(service("b"))["spec"]["clusterIP"].startswith("10.0.1.")


def test_it_is_steered_from_outside_of_its_network_namespace(tmp_path: Path) -> None:
    namespace = Namespace()

    def popen(argv: list[str], **given: Any) -> subprocess.Popen[str]:
        with namespace.entered():
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=60)
            return subprocess.Popen(argv, text=True, **given)

    try:
        with apiserver(tmp_path, listen="127.0.0.1:6443", popen=popen) as server:
            server.create(service("a"))
            with pytest.raises(ConnectionRefusedError):
                ask(server, "GET", "/version")
            with namespace.entered():
                assert ask(server, "GET", "/version").status == 200
    finally:
        namespace.close()


# --- managers of fields -------------------------------------------------------------------------------------


def test_an_apply_meets_all_other_managers_and_may_be_forced(shared: ApiServer) -> None:
    shared.apply(service("a", "owned", type="NodePort", sessionAffinity="ClientIP"), "one")
    other = service("a", "owned", type="ClusterIP", sessionAffinity="None")
    with pytest.raises(Refused) as refused:
        shared.apply(other, "two", force=False)
    causes = refused.value.body["details"]["causes"]
    assert refused.value.body["message"].startswith('Apply failed with 2 conflicts: conflicts with "one":\n- .spec')
    assert [cause["field"] for cause in causes] == [".spec.sessionAffinity", ".spec.type"]
    assert {cause["reason"] for cause in causes} == {"FieldManagerConflict"}
    assert shared.apply(other, "two")["spec"]["type"] == "ClusterIP"
    # Now it is the first who is not alone any more; where they agree, both have a field.
    with pytest.raises(Refused, match="409"):
        shared.apply(service("a", "owned", type="NodePort"), "one", force=False)
    shared.apply(service("a", "owned", type="ClusterIP"), "one", force=False)


def test_what_a_manager_applies_no_more_goes_unless_somebody_else_has_it(shared: ApiServer) -> None:
    ports = [{"name": "http", "port": 80}, {"name": "https", "port": 443}]
    shared.apply(service("a", "given-up", ports=ports, externalIPs=["198.51.100.1"]), "one")
    shared.apply(service("a", "given-up", ports=ports[:1]), "two")
    left = shared.apply(service("a", "given-up", ports=ports[1:]), "one")
    assert [port["port"] for port in left["spec"]["ports"]] == [80, 443]
    assert "externalIPs" not in left["spec"]
    left = shared.apply(service("a", "given-up", ports=ports[:1]), "one")
    assert [port["port"] for port in left["spec"]["ports"]] == [80]


def test_an_apply_needs_a_manager_and_the_right_to_create(tmp_path: Path) -> None:
    rules = tmp_path / "rbac.yaml"
    rules.write_text("""
kind: ClusterRole
metadata: {name: patcher}
rules: [{apiGroups: [""], resources: [services], verbs: [patch, get]}]
---
kind: ClusterRoleBinding
metadata: {name: patcher}
roleRef: {kind: ClusterRole, name: patcher}
subjects: [{kind: User, name: patcher}]
""")
    headers = {"content-type": "application/apply-patch+yaml"}
    target = "/api/v1/namespaces/default/services/a"
    with apiserver(tmp_path, rbac=[rules], tokens={"p": "patcher"}) as server:
        nameless = ask(server, "PATCH", target, service("a"), headers=headers)
        assert (nameless.status, nameless.value["details"]["causes"][0]["field"]) == (422, "fieldManager")
        new = ask(server, "PATCH", f"{target}?fieldManager=p", service("a"), headers=headers, token="p")
        assert (new.status, "cannot create resource" in new.value["message"]) == (403, True)
        server.create(service("a"))
        assert (
            ask(
                server, "PATCH", f"{target}?fieldManager=p&force=true", service("a"), headers=headers, token="p"
            ).status
            == 200
        )


# --- who asks -----------------------------------------------------------------------------------------------

ROLES = """
kind: ClusterRole
metadata: {name: reader}
rules:
- {apiGroups: [""], resources: [services], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [nodes], resourceNames: [node-1], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [services/status], verbs: [patch]}
---
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {kind: ClusterRole, name: reader}
subjects: [{kind: ServiceAccount, namespace: kube-system, name: reader}]
---
kind: Role
metadata: {name: slices, namespace: here}
rules: [{apiGroups: [discovery.k8s.io], resources: ["*"], verbs: ["*"]}]
---
kind: RoleBinding
metadata: {name: slices, namespace: here}
roleRef: {kind: Role, name: slices}
subjects: [{kind: Group, name: "system:serviceaccounts:kube-system"}]
"""


def test_roles_out_of_manifests_say_who_may_what(tmp_path: Path) -> None:
    rules = tmp_path / "roles.yaml"
    rules.write_text(ROLES)
    account = "system:serviceaccount:kube-system:reader"
    may = {
        ("GET", SERVICES): 200,
        ("GET", "/api/v1/services?watch=1&timeoutSeconds=1"): 200,
        ("GET", "/api/v1/nodes"): 403,
        ("GET", "/api/v1/nodes?fieldSelector=metadata.name%3Dnode-1"): 200,
        ("GET", "/api/v1/nodes?fieldSelector=metadata.name%3Dnode-2"): 403,
        ("GET", SLICES): 403,
        ("GET", "/apis/discovery.k8s.io/v1/namespaces/here/endpointslices"): 200,
        ("GET", "/apis/discovery.k8s.io/v1/namespaces/there/endpointslices"): 403,
        ("DELETE", "/api/v1/namespaces/default/services/kubernetes"): 403,
        ("PATCH", "/api/v1/namespaces/default/services/kubernetes"): 403,
        ("PATCH", "/api/v1/namespaces/default/services/kubernetes/status"): 200,
        ("GET", "/version"): 200,
        ("GET", "/apis"): 200,
        ("GET", "/metrics"): 403,
    }
    merge = {"content-type": "application/merge-patch+json"}
    with apiserver(tmp_path, rbac=[rules], tokens={"r": account}) as server:
        got = {
            (method, target): ask(
                server, method, target, {} if method == "PATCH" else None, token="r", headers=merge
            ).status
            for method, target in may
        }
        assert got == may
        assert {entry["user"] for entry in server.requests()} == {account}


def test_ways_to_say_who_asks(server: ApiServer) -> None:
    old = server.token
    new = server.rotate_token()
    assert [ask(server, "GET", SERVICES, token=token).status for token in (old, new, NOBODY, None)] == [
        401,
        200,
        403,
        403,
    ]

    def by_certificate(subject: str) -> int:
        certificate, key = server.authority.issue("somebody", subject)
        context = ssl.create_default_context(cafile=server.ca_file)
        context.load_cert_chain(certificate, key)
        return ask(server, "GET", SERVICES, token=None, context=context).status

    assert by_certificate("/O=system:masters/CN=somebody") == 200
    assert by_certificate("/CN=somebody") == 403
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(server, "GET", "/version", context=context)


def test_the_log_says_what_was_asked_for(shared: ApiServer) -> None:
    shared.requests(clear=True)
    ask(shared, "GET", f"{SERVICES}?watch=1&timeoutSeconds=1&resourceVersion=0", headers={"user-agent": "me/1"})
    ask(shared, "GET", "/api/v1/namespaces/n/pods/p")
    ask(shared, "PATCH", "/api/v1/nodes/node-1/status", {}, token=NOBODY)
    shared.get("Service", "default", "kubernetes")  # what steers it is not in there
    fields = ("verb", "group", "resource", "subresource", "namespace", "name", "user", "userAgent", "status")
    assert [tuple(entry[field] for field in fields) for entry in shared.requests(clear=True)] == [
        ("watch", "", "services", "", "", "", "admin", "me/1", 200),
        ("get", "", "pods", "", "n", "p", "admin", "", 404),
        ("patch", "", "nodes", "status", "", "node-1", "nobody", "", 403),
    ]
    assert shared.requests() == []
