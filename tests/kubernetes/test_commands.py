"""The commands against an API server: what they write, show and work out. What it refuses: test_commands_refused."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeport_nft.config import Config
from nodeport_nft.doctor import Answer, Examination
from tests.cli.program import Program
from tests.cli.watching import Watching
from tests.kubernetes.commanding import Desk, endpoint_slice, service
from tests.kubernetes.running import ApiServer, apiserver

pytestmark = pytest.mark.proves("W7")

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with apiserver(tmp_path_factory.mktemp("apiserver")) as running:
        yield running


@pytest.fixture
def desk(server: ApiServer, tmp_path: Path) -> Iterator[Desk]:
    namespace = f"test-{next(_NUMBERS)}"
    server.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    server.requests(clear=True)
    yield Desk(Program(tmp_path), server, namespace)
    server.faults([])


def test_apply_says_created_configured_unchanged_and_is_one_of_several_managers(desk: Desk) -> None:
    assert desk.apply(service()).out == "service/web created\n"
    desk.server.patch("Service", desk.namespace, "web", {"metadata": {"labels": {"others": "own"}}})
    before = desk.stored("web")
    again = desk.apply(service())
    assert (again.out, again.err) == ("service/web unchanged\n", "")
    assert desk.stored("web") == before, "what changes nothing writes nothing"
    assert desk.apply(service(sessionAffinity="ClientIP")).out == "service/web configured\n"
    after = desk.stored("web")
    assert after["spec"]["sessionAffinity"] == "ClientIP"
    assert after["metadata"]["labels"] == {"others": "own"}, "what we do not name stays"
    assert after["spec"]["clusterIP"] == before["spec"]["clusterIP"], "the API server allocates, and it stays"
    managers = {(each["manager"], each["operation"]) for each in after["metadata"]["managedFields"]}
    assert ("nodeport-nft", "Apply") in managers


def test_a_dry_run_says_what_a_write_would_and_writes_nothing(desk: Desk) -> None:
    desk.apply(service("same"), service("other"))
    wanted = (service("same"), service("other", sessionAffinity="ClientIP"), service("new"))
    revision = desk.server.revision()
    tried = desk.apply(*wanted, more=["--dry-run"])
    assert desk.server.revision() == revision
    assert tried.out.replace(" (dry run)", "") == (
        "service/same unchanged\nservice/other configured\nservice/new created\n"
    )
    assert desk.apply(*wanted).out == tried.out.replace(" (dry run)", "")
    assert desk.ok("delete", "svc", "same", "--dry-run") == 'service "same" deleted (dry run)\n'
    assert desk.ok("create", "service", "clusterip", "made", "--tcp=80", "--dry-run")
    assert desk.names() == ["new", "other", "same"]


def test_what_get_prints_can_be_applied(desk: Desk) -> None:
    desk.apply(service(type="NodePort"))
    before = desk.stored("web")
    text = desk.ok("get", "svc", "web", "-o", "yaml")
    assert desk("apply", "-f", "-", stdin=text).out == "service/web configured\n", "now we name what was allocated"
    assert desk.stored("web")["spec"] == before["spec"]
    assert desk("apply", "-f", "-", stdin=text).out == "service/web unchanged\n", "however old the version in it is"
    whole = desk.ok("get", "svc", "web", "-o", "yaml", "--show-managed-fields")
    assert "managedFields" in yaml.safe_load(whole)["metadata"]
    assert "managedFields" not in yaml.safe_load(text)["metadata"]
    assert desk("apply", "-f", "-", stdin=whole).out == "service/web unchanged\n"


def test_a_document_of_another_cluster_is_applied_as_it_is(desk: Desk) -> None:
    """Its uid, its version and its times are those of another object."""
    theirs = service()
    theirs["metadata"] |= {
        "uid": "5d1a3b1e-0000-4000-8000-000000000000", "resourceVersion": "7", "generation": 3,
        "creationTimestamp": "2020-01-01T00:00:00Z", "managedFields": [{"manager": "kubectl", "operation": "Apply"}],
    }  # fmt: skip
    assert desk.apply(theirs).out == "service/web created\n"
    theirs["spec"]["sessionAffinity"] = "ClientIP"
    assert desk.apply(theirs).out == "service/web configured\n"
    assert desk.stored("web")["metadata"]["uid"] != theirs["metadata"]["uid"]


def test_what_create_has_made_is_ours_to_apply(desk: Desk) -> None:
    """To the API server a create and an apply are two managers of one name."""
    assert desk.ok("create", "service", "clusterip", "web", "--tcp=80") == "service/web created\n"
    changed = service(ports=[{"port": 80, "targetPort": 8081}], selector={"app": "another"})
    answer = desk.apply(changed)
    assert (answer.out, answer.err) == ("service/web configured\n", "")
    assert desk.stored("web")["spec"]["selector"] == {"app": "another"}


def test_a_status_is_not_taken_and_that_is_said(desk: Desk) -> None:
    balanced = service(type="LoadBalancer")
    balanced["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}
    answer = desk.apply(balanced)
    assert answer.out == "service/web created\n"
    assert "Service/" in answer.err
    assert "status: is left as it is" in answer.err
    assert desk.apply(service(type="LoadBalancer")).err == "", "none is given"


def test_what_a_server_warns_of_is_a_warning_of_the_object(desk: Desk) -> None:
    answer = desk.apply(service(), service("other", externalIPs=["192.0.2.8"]))
    assert answer.out == "service/web created\nservice/other created\n"
    [line] = answer.err.splitlines()
    assert line.startswith(f"warning: <stdin>:13: Service/{desk.namespace}/other: spec.externalIPs is deprecated")


def test_unknown_fields_are_dropped_where_they_are_to_be_no_errors(desk: Desk) -> None:
    odd = service()
    odd["spec"]["colour"] = "red"
    odd["spec"]["ports"][0]["shape"] = "round"
    for validate, warnings in (("strict", 2), ("warn", 2), ("ignore", 0)):
        answer = desk.apply(odd, more=[f"--validate={validate}"])
        assert answer.err.count("unknown field") == warnings, answer
        assert (answer.code, "colour" in json.dumps(desk.server.list("Service", desk.namespace))) == (
            2 if validate == "strict" else 0,
            False,
        )
    assert desk.names() == ["web"]


def test_delete_by_name_and_by_file(desk: Desk) -> None:
    desk.apply(service("a"), service("b"), service("c"), endpoint_slice("a-1", "10.244.1.1", of="a"))
    answer = desk("delete", "svc", "a", "missing")
    assert (answer.code, answer.out) == (1, 'service "a" deleted\n')
    assert answer.err == f'error: service "missing" not found in namespace {desk.namespace}\n'
    assert desk.ok("delete", "svc", "missing", "--ignore-not-found") == ""
    gone = desk.ok("delete", "-f", "-", stdin=yaml.safe_dump_all([service("b"), endpoint_slice("a-1")]))
    assert gone == 'service "b" deleted\nendpointslice.discovery.k8s.io "a-1" deleted\n'
    assert (desk.names(), desk.names("EndpointSlice")) == (["c"], [])


@pytest.mark.parametrize("name", [".", "..", "a/b", "%2e%2e", "web?watch=true", "web#x", "web/status"])
def test_a_name_leads_to_no_other_path(desk: Desk, name: str) -> None:
    desk.apply(service()) if "web" not in desk.names() else None
    before = desk.server.list("Service", desk.namespace)
    assert desk("get", "svc", name).code == (2 if "/" in name else 1)
    assert desk("delete", "svc", name).code == (2 if "/" in name else 1)
    assert desk.server.list("Service", desk.namespace) == before


def test_get_shows_the_kinds_that_nodes_do_not_program_too(desk: Desk) -> None:
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-1", "labels": {"app": "web"}},
        "spec": {"nodeName": "worker-1", "containers": [{"name": "web", "image": "web"}]},
    }
    desk.server.create({**pod, "metadata": {**pod["metadata"], "namespace": desk.namespace}})
    desk.apply(service())
    assert desk.ok("get", "pods,services", "-o", "name") == "pod/web-1\nservice/web\n"
    assert desk.stored("web")["spec"]["clusterIP"] in desk.ok("get", "svc", "-o", "wide")
    assert desk.json("svc", "web")["kind"] == "Service"
    assert {each["kind"] for each in desk.json("svc")["items"]} == {"Service"}
    everywhere = desk.run("get", "svc", "--all-namespaces")
    assert (everywhere.code, "kubernetes" in everywhere.out, desk.namespace in everywhere.out) == (0, True, True)
    assert desk("get", "svc", "nope").err == f'error: service "nope" not found in namespace {desk.namespace}\n'
    assert desk("get", "endpoints", "nope").code == 1


def test_a_list_comes_in_pages_and_is_begun_again_where_they_are_too_old(desk: Desk) -> None:
    for number in range(1001):
        desk.server.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"pod-{number:04}", "namespace": desk.namespace},
                "spec": {"containers": [{"name": "web", "image": "web"}]},
            }
        )
    desk.server.requests(clear=True)
    names = desk.ok("get", "pods", "-o", "name").split()
    assert names == [f"pod/pod-{number:04}" for number in range(1001)]
    assert len(desk.server.requests(verb="list", resource="pods")) == 3
    desk.server.faults([{"verb": "list", "resource": "pods", "path": "continue=", "skip": 1, "status": 410}])
    assert desk.ok("get", "pods", "-o", "name").split() == names
    desk.server.faults([{"verb": "list", "resource": "pods", "path": "continue=", "times": 0, "status": 410}])
    answer = desk("get", "pods")
    assert (answer.code, "too old" in answer.err) == (1, True), answer


def test_what_is_desired_is_what_the_daemon_follows(desk: Desk) -> None:
    """Slices and neither Pods nor Endpoints, no Service that names another proxy, the own Node, the ServiceCIDRs."""
    addresses = {"type": "InternalIP", "address": "172.30.1.2"}
    for node, podcidr in (("worker-1", "10.244.1.0/24"), ("worker-2", "10.244.2.0/24")):
        desk.server.create({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": node},
            "spec": {"podCIDR": podcidr, "podCIDRs": [podcidr]}, "status": {"addresses": [addresses]},
        })  # fmt: skip
        desk.server.patch_status("Node", "", node, {"addresses": [addresses]})
    pod: dict[str, Any] = {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "labels": {"app": "web"}, "namespace": desk.namespace},
        "spec": {"containers": [{"name": "web", "image": "web"}]},
        "status": {"podIP": "10.244.1.99", "conditions": [{"type": "Ready", "status": "True"}]},
    }  # fmt: skip
    desk.server.create(pod)
    desk.server.patch_status("Pod", desk.namespace, "p", pod["status"])
    other = service("other", type="NodePort", ports=[{"port": 80, "nodePort": 31099}])
    other["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "cilium"}
    desk.apply(
        service(type="NodePort", ports=[{"port": 80, "targetPort": 8080, "nodePort": 31098}]),
        endpoint_slice("web-1", "10.244.1.5"),
        other,
    )
    rendered = desk.run("render", "--node-name", "worker-1", "--config", _config(desk, detectLocalMode="NodeCIDR"))
    assert rendered.code == 0, rendered
    assert "10.244.1.5" in rendered.out
    assert "10.244.1.99" not in rendered.out
    assert "31098" in rendered.out
    assert "31099" not in rendered.out
    assert "10.244.1.0" in rendered.out
    assert "10.244.2.0" not in rendered.out
    [cidr] = desk.server.list("ServiceCIDR")
    first = cidr["spec"]["cidrs"][0]
    assert first in rendered.out or first.partition("/")[0] in rendered.out
    traced = desk.run("trace", "192.0.2.7", "172.30.1.2", "--port", "31098", "--node-name", "worker-1", "-o", "json")
    assert [each["destination"] for each in json.loads(traced.out)["outcomes"]] == ["10.244.1.5"], traced
    # Names are looked up among all there is, whatever the daemon follows: other nodes, and pods.
    for words, answer in (
        (("svc/web",), "reaches {}/web, 10.244.1.5:8080"),
        (("node/worker-2:31098",), "reaches {}/web, 10.244.1.5:8080"),
        (("pod/p:80", "--node-name", "worker-1"), "nobody is asked: 10.244.1.99 is Pod {}/p itself, "),
    ):
        named = desk.run("trace", *words, "-n", desk.namespace)
        assert f"answer      {answer.format(desk.namespace)}" in named.out, named
    lost = desk.run("trace", "svc/webb", "-n", desk.namespace)
    assert (lost.code, "did you mean web?" in lost.err) == (1, True), lost
    looked = desk.run("doctor", "-o", "json", "--node-name", "worker-1", "--metrics-bind-address", "none")
    states = {each["id"]: each["state"] for each in json.loads(looked.out)["checks"]}
    assert (states["store"], states["store-integrity"]) == ("ok", "not looked at"), looked
    config = Config(store="kubernetes:", kubeconfig=str(desk.server.kubeconfig))
    examined = Examination(config, name="worker-1", ask=Answer)  # connects to the nodePorts of both
    assert {node.name for node in examined.nodes} == {"worker-1", "worker-2"}
    described = desk.ok("describe", "svc", "web")
    assert "10.244.1.5:8080" in described
    assert "10.244.1.99" not in described
    shown = desk.ok("get", "endpoints", "web")
    assert "10.244.1.5:8080" in shown
    assert "10.244.1.99" not in shown


def test_a_server_without_service_cidrs_leaves_it_to_the_configuration(desk: Desk) -> None:
    """An older one answers 404, and one that does not let us see them 403, which is said."""
    for code, is_told in ((404, False), (403, True)):
        desk.server.faults([{"resource": "servicecidrs", "status": code, "times": 0}])
        answer = desk.run("render", "--service-cidr", "10.77.0.0/16", "--node-name", "worker-1")
        assert (answer.code, "10.77.0.0" in answer.out) == (0, True), answer
        assert ("the configuration's serviceCIDRs count" in answer.err) == is_told


def test_a_context_means_the_api_server(desk: Desk) -> None:
    """Whoever gives --context or --kubeconfig need not say --store kubernetes: as well, and means no other store."""
    desk.apply(service())
    kubeconfig = str(desk.server.kubeconfig)
    both = ("--kubeconfig", kubeconfig, "--context", "test")
    for words in (both, (*both, "--store", "kubernetes:"), (*both, "--store", "Kubernetes:")):
        assert desk.program.run("get", "svc", "-n", desk.namespace, "-o", "name", *words).out == "service/web\n"
    named = _config(desk, store="kubernetes:", kubeconfig=kubeconfig)
    assert desk.program.run("get", "svc", "-n", desk.namespace, "-o", "name", "--config", named).out
    etcd = _config(desk, store="etcd://127.0.0.1:1/x")
    assert desk.program.run("get", "svc", "-n", desk.namespace, "-o", "name", *both, "--config", etcd).out
    refused = desk.program.run("get", "svc", *both, "--store", "store.db")
    assert (refused.code, refused.err) == (
        2,
        "error: --kubeconfig: is for --store kubernetes:, and --store is store.db; leave one of them out\n",
    )


def test_the_namespace_of_a_context_is_meant_where_none_is_named(desk: Desk) -> None:
    """As to kubectl: what one of them writes, reads and deletes, the other one does."""
    document = yaml.safe_load(desk.server.kubeconfig.read_text())
    document["contexts"][0]["context"]["namespace"] = desk.namespace
    path = desk.program.directory / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    path.chmod(0o600)

    def run(*words: str, stdin: str = "") -> str:
        answer = desk.program.run(*words, "--kubeconfig", str(path), stdin=stdin)
        assert (answer.code, answer.err) == (0, ""), answer
        return answer.out

    elsewhere = desk.server.list("Service", "default")
    assert run("apply", "-f", "-", stdin=yaml.safe_dump(service())) == "service/web created\n"
    assert run("create", "service", "clusterip", "more", "--tcp=80:80") == "service/more created\n"
    assert desk.names() == ["more", "web"]
    assert run("get", "svc", "-o", "name") == "service/more\nservice/web\n"
    assert "service/kubernetes\n" in run("get", "svc", "-o", "name", "-n", "default")
    assert "service/kubernetes\n" in run("get", "svc", "-o", "name", "-A")
    assert f"Namespace:                {desk.namespace}\n" in run("describe", "svc", "web")
    run("delete", "svc", "web")
    run("delete", "-f", "-", stdin=yaml.safe_dump(service("more")))
    assert desk.names() == []
    assert desk.server.list("Service", "default") == elsewhere


def test_why_there_is_no_endpoint_is_told_of_what_there_is(desk: Desk) -> None:
    """Pods are no endpoints by themselves, and who asks may not be let see them."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-1", "labels": {"app": "web"}, "namespace": desk.namespace},
        "spec": {"containers": [{"name": "web", "image": "web"}]},
    }
    desk.server.create(pod)
    desk.apply(service("web"), service("wep"))
    nothing = "no EndpointSlice has the label kubernetes.io/service-name=web"
    assert f"{nothing}, and selector app=web matches pod web-1" in desk.ok("describe", "svc", "web")
    assert "selector app=wep matches no pod; nearest:" in desk.ok("describe", "svc", "wep")
    address = desk.stored("web")["spec"]["clusterIP"]
    traced = desk.run("trace", "192.0.2.7", address, "--port", "80", "--node-name", "worker-1")
    assert f": {nothing}" in traced.out.partition("\n")[0], traced
    desk.server.faults([{"resource": "pods", "status": 403, "times": 0}])
    blind = desk.run("trace", "192.0.2.7", address, "--port", "80", "--node-name", "worker-1")
    assert "kubectl get pods" in blind.out, blind


def test_a_configuration_that_names_it_is_enough_to_render(desk: Desk) -> None:
    desk.apply(service())
    named = _config(desk, store="kubernetes:", kubeconfig=str(desk.server.kubeconfig))
    rendered = desk.program.run("render", "--node-name", "worker-1", "--config", named)
    assert (rendered.code, f'comment "{desk.namespace}/web' in rendered.out) == (0, True), rendered


def test_a_node_that_is_not_there_is_told(desk: Desk) -> None:
    """A slip in its name would go for a node without pods."""
    packet = ("192.0.2.7", "172.30.1.2", "--port", "31098")
    for words in (("render",), ("trace", *packet)):
        answer = desk.run(*words, "--node-name", "wroker-1")
        assert "there is no Node wroker-1" in answer.err, answer


@pytest.mark.parametrize("word", ["kubernetes", "Kubernetes", "k8s", "etcd"])
def test_a_colon_that_is_missing_makes_no_file(desk: Desk, word: str) -> None:
    """What is written there would be said to be created, and no cluster would know of it."""
    (desk.program.directory / "web.yaml").write_text(yaml.safe_dump(service()))
    for words in ("apply -f web.yaml", "apply -f web.yaml --dry-run", "get svc", "delete svc web", "check"):
        answer = desk.program.run(*words.split(), "--store", word)
        assert (answer.code in (1, 2), f"store {word}: has no colon" in answer.err) == (True, True), answer
    assert not (desk.program.directory / word).exists()
    applied = desk.program.run("apply", "-f", "web.yaml", "--store", f"./{word}")
    assert (applied.code, (desk.program.directory / word).exists()) == (0, True), applied


NOT_FOR_IT = {
    "check": "looks after its claims itself",
    "check --repair": "looks after its claims itself",
    "wait --for=synced": "do not register",
    "apply -f web.yaml --wait": "do not register",
    "drain worker-1": "kubectl drain worker-1",
    "drain endpoint 10.0.0.1": "label of the pod",
    "uncordon worker-1": "kubectl uncordon worker-1",
    "diff -f web.yaml": "never all that kubernetes: holds",
    "render -f web.yaml": "never all that kubernetes: holds",
    "trace 192.0.2.1 10.96.0.1 --port 80 -f web.yaml": "never all that kubernetes: holds",
    "sync --once -f web.yaml": "this one is a cluster's",
    "cleanup --delete-store": "that of a cluster",
}


@pytest.mark.parametrize("words", NOT_FOR_IT)
def test_what_is_not_for_this_store_says_why_and_changes_nothing(desk: Desk, words: str) -> None:
    if words.startswith(("diff", "sync", "cleanup")) and os.geteuid():
        pytest.skip("wants root")
    (desk.program.directory / "web.yaml").write_text(yaml.safe_dump(service()))
    revision = desk.server.revision()
    answer = desk.run(*words.split())
    assert (answer.code in (1, 2), answer.out, NOT_FOR_IT[words] in answer.err) == (True, "", True), answer
    assert desk.server.revision() == revision


@pytest.mark.parametrize(("origin", "target"), [("kubernetes:", "copy.db"), ("store.db", "kubernetes:")])
def test_copies_from_and_to_it_are_refused(desk: Desk, origin: str, target: str) -> None:
    answer = desk.program.run("store", "copy", origin, target)
    assert (answer.code, "etcdctl snapshot save" in answer.err) == (1, True), answer
    assert not (desk.program.directory / "copy.db").exists()


def _config(desk: Desk, **values: Any) -> str:
    path = desk.program.directory / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    path.chmod(0o600)
    return str(path)


def test_what_is_chosen_by_label_is_shown_and_deleted(desk: Desk) -> None:
    labelled = service("front")
    labelled["metadata"]["labels"] = {"tier": "front"}
    desk.apply(service("back"), labelled)
    assert desk.ok("get", "svc", "-l", "tier in (front)", "-o", "name") == "service/front\n"
    assert desk.ok("get", "svc", "--sort-by", "{.spec.clusterIP}", "--no-headers", "-L", "tier").count("front") == 2
    answer = desk("delete", "svc", "--all", "--grace-period=5")
    assert (answer.code, answer.out) == (2, "")
    assert "--grace-period: kubernetes: is asked for its own defaults alone" in answer.err
    assert desk.ok("delete", "svc", "-l", "tier", "-o", "name") == "service/front\n"
    assert desk.ok("delete", "svc", "--all") == 'service "back" deleted\n'


@pytest.mark.parametrize("kind", ["Service", "Pod"])
def test_a_watch_tells_what_the_server_does(desk: Desk, kind: str) -> None:
    spec = {"containers": [{"name": "web", "image": "web"}]} if kind == "Pod" else {"ports": [{"port": 80}]}
    raw = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "web", "namespace": desk.namespace}, "spec": spec}
    desk.server.create(raw)
    words = [kind.lower(), "-w", "-L", "tier", "--output-watch-events", "-n", desk.namespace]
    with Watching(desk.program.directory, *words, "--kubeconfig", str(desk.server.kubeconfig)) as watch:
        assert watch.line()[0] == "EVENT"
        assert watch.line()[:2] == ["ADDED", "web"]
        desk.server.patch(kind, desk.namespace, "web", {"metadata": {"labels": {"tier": "front"}}})
        changed = watch.line()
        assert (changed[:2], changed[-1]) == (["MODIFIED", "web"], "front")
        desk.ok("delete", kind.lower(), "web")
        assert watch.line()[:2] == ["DELETED", "web"]
        assert watch.interrupt() == (130, "")


def test_a_watch_of_several_kinds_tells_what_the_server_does(desk: Desk) -> None:
    desk.apply(service())
    words = ["svc,ep,pods", "-w", "--no-headers", "-n", desk.namespace]
    with Watching(desk.program.directory, *words, "--kubeconfig", str(desk.server.kubeconfig)) as watch:
        assert watch.line()[0] == "service/web"
        assert watch.line()[:2] == ["endpoints/web", "<none>"]
        desk.apply(endpoint_slice("web-1", "10.244.1.2"))
        assert watch.line()[:2] == ["endpoints/web", "10.244.1.2:8080"]
        desk.ok("delete", "svc", "web")
        assert {watch.line()[0], watch.line()[0]} == {"service/web", "endpoints/web"}
        assert watch.interrupt() == (130, "")
