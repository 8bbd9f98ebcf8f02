"""What an API server refuses, as the commands tell it: object, field, value, remedy; and what is written by then."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.program import Program
from tests.kubernetes.commanding import Desk, service
from tests.kubernetes.running import NOBODY, ApiServer, apiserver

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
    yield Desk(Program(tmp_path), server, namespace)
    server.faults([])
    for each in server.list("Service", namespace):  # what they hold is anybody's again
        server.delete("Service", namespace, each["metadata"]["name"])


def at(port: int, **more: Any) -> dict[str, Any]:
    return {"type": "NodePort", "ports": [{"port": 80, "targetPort": 8080, "nodePort": port}], **more}


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "nodePort held": (at(31100), "spec.ports[0].nodePort: ", "31100.*allocated, to Service/default/holder; choose"),
    "nodePort outside": (at(99), "spec.ports[0].nodePort: ", "99.*30000-32767; choose one of these, or leave it out"),
    "clusterIP held": (
        {"clusterIP": "10.96.0.1"},
        "spec.clusterIPs: ",
        r"10\.96\.0\.1.* Service/default/kubernetes; choose another",
    ),
    "clusterIP outside": (
        {"clusterIP": "192.0.2.77"},
        "spec.clusterIPs: ",
        r"192\.0\.2\.77.*choose one in .*10\.96\.",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_numbers_that_are_refused_are_told_with_who_has_them_and_where_others_are(desk: Desk, kind: str) -> None:
    spec, field, said = REFUSED[kind]
    if kind == "nodePort held":
        holder = service("holder", **at(31100))
        desk.server.create({**holder, "metadata": {**holder["metadata"], "namespace": "default"}})
    try:
        applied = desk.apply(service("web", **spec))
        assert (applied.code, applied.out) == (2, ""), applied
        assert re.fullmatch(rf"<stdin>:1: Service/{desk.namespace}/web: {re.escape(field)}.*{said}.*\n", applied.err)
        words = ["--tcp=80:8080"]
        if "nodePort" in kind:
            words = ["nodeport", "web", *words, "--node-port", str(spec["ports"][0]["nodePort"])]
        else:
            words = ["clusterip", "web", *words, "--clusterip", spec["clusterIP"]]
        created = desk("create", "service", *words)
        assert (created.code, created.out) == (2, ""), created
        assert re.fullmatch(rf"error: Service/{desk.namespace}/web: {re.escape(field)}.*{said}.*\n", created.err)
        assert desk.names() == []
    finally:
        if kind == "nodePort held":
            desk.server.delete("Service", "default", "holder")


def test_what_may_not_change_says_what_to_do(desk: Desk) -> None:
    desk.apply(service())
    answer = desk.apply(service(clusterIP="10.96.200.200", clusterIPs=["10.96.200.200"]))
    assert answer.code == 2
    assert "spec.clusterIPs[0]: Invalid value" in answer.err
    assert "delete the object and create it anew" in answer.err


def test_everything_that_is_wrong_with_any_object_is_told_at_once_and_nothing_is_written(desk: Desk) -> None:
    """A trial shows it, but for nodePorts outside of the range: in a trial an API server does not look for those."""
    desk.apply(service("holder", **at(31101)))
    wanted = [service("good"), service("one", **at(31101)), service("two", clusterIP="10.96.0.1"), service("fine")]
    answer = desk.apply(*wanted)
    assert (answer.code, answer.out) == (2, "")
    pattern = rf"<stdin>:(\d+): Service/{desk.namespace}/(\w+): "
    told = [found.groups() for line in answer.err.splitlines() if (found := re.match(pattern, line))]
    documents = yaml.safe_dump_all(wanted, sort_keys=False).split("---\n")
    begin = [1 + sum(each.count("\n") + 1 for each in documents[:number]) for number in range(4)]
    assert told == [(str(begin[1]), "one"), (str(begin[2]), "two")], answer
    assert desk.names() == ["holder"]


def test_a_port_outside_of_the_range_keeps_the_rest_from_being_written(desk: Desk) -> None:
    """No trial shows it, so those who ask for ports are written first; the answers come in the order of the file."""
    answer = desk.apply(service("good"), service("low", **at(99)), service("fine"))
    assert (answer.code, answer.out, desk.names()) == (2, "", []), answer
    assert "99: provided port is not in the valid range" in answer.err
    answer = desk.apply(service("good"), service("high", **at(31102)))
    assert (answer.code, answer.out) == (0, "service/good created\nservice/high created\n"), answer


def test_fields_of_other_managers_are_told_and_taken_over_only_by_force(desk: Desk) -> None:
    theirs = service()
    theirs["metadata"]["namespace"] = desk.namespace
    desk.server.apply(theirs, manager="argocd")
    mine = service(selector={"app": "another"})
    answer = desk.apply(mine)
    assert (answer.code, answer.out) == (2, "")
    assert f"Service/{desk.namespace}/web: spec.selector" in answer.err
    assert '"argocd"' in answer.err
    assert "--force-conflicts" in answer.err
    assert desk.stored("web")["spec"]["selector"] == {"app": "web"}
    assert desk.apply(mine, more=["--force-conflicts", "--dry-run"]).out == "service/web configured (dry run)\n"
    assert desk.apply(mine, more=["--force-conflicts"]).out == "service/web configured\n"
    assert desk.stored("web")["spec"]["selector"] == {"app": "another"}
    file = desk.program.run("apply", "-f", "-", "--force-conflicts", "--store", "s.db", stdin=yaml.safe_dump(mine))
    assert (file.code, "leave it out" in file.err) == (2, True)


def test_a_version_that_is_not_the_stored_one_comes_too_late(desk: Desk) -> None:
    desk.apply(service())
    read = yaml.safe_load(desk.ok("get", "svc", "web", "-o", "yaml"))
    desk.apply(service(sessionAffinity="ClientIP"))
    late = desk.apply({**read, "spec": {**read["spec"], "internalTrafficPolicy": "Local"}})
    assert (late.code, late.out) == (1, "")
    assert "metadata.resourceVersion" in late.err
    assert "somebody has written it since" in late.err
    desk.server.delete("Service", desk.namespace, "web")
    del read["metadata"]["uid"]
    gone = desk.apply(read)
    assert (gone.code, "it was deleted since" in gone.err, desk.names()) == (1, True, [])


def test_a_version_that_is_outdated_between_trial_and_write_comes_too_late(desk: Desk) -> None:
    desk.apply(service())
    read = yaml.safe_load(desk.ok("get", "svc", "web", "-o", "yaml"))
    message = 'Operation cannot be fulfilled on services "web": the object has been modified'
    desk.server.faults([_second("PATCH", {"status": 409, "reason": "Conflict", "message": message})])
    late = desk.apply({**read, "spec": {**read["spec"], "internalTrafficPolicy": "Local"}})
    assert (late.code, "has been modified; see what is there" in late.err) == (1, True), late


def test_what_is_there_is_not_created_anew(desk: Desk) -> None:
    desk.apply(service())
    for words in (["--dry-run"], []):
        answer = desk("create", "service", "clusterip", "web", "--tcp=80", *words)
        assert (answer.code, "already exists" in answer.err) == (1, True), answer


def test_a_namespace_that_is_not_there_is_told_with_how_to_make_it(desk: Desk) -> None:
    for words in (["apply", "-f", "-"], ["create", "service", "clusterip", "web", "--tcp=80"]):
        answer = desk.run(*words, "-n", "nowhere", stdin=yaml.safe_dump(service()))
        assert (answer.code, "kubectl create namespace nowhere" in answer.err) == (2, True), answer


@pytest.mark.parametrize(
    ("words", "verb", "resource"),
    [
        ("get svc", "list", "services"),
        ("get svc web", "get", "services"),
        ("get endpointslices -A", "list", "endpointslices"),
        ("describe svc web", "get", "services"),
        ("apply -f -", "get", "services"),
        ("create service clusterip web --tcp=80", "create", "services"),
        ("delete svc web", "delete", "services"),
        ("render", "list", "services"),
    ],
)
def test_forbidden_says_which_rule_is_missing(desk: Desk, words: str, verb: str, resource: str) -> None:
    nobody = desk.as_user(NOBODY)
    run = nobody.run if words.startswith(("render", "get endpointslices")) else nobody
    answer = run(*words.split(), stdin=yaml.safe_dump(service()))
    group = "discovery.k8s.io" if resource == "endpointslices" else ""
    rule = f'apiGroups: ["{group}"], resources: ["{resource}"], verbs: ["{verb}"]'
    assert (answer.code, answer.out, rule in answer.err, "nobody" in answer.err) == (1, "", True, True), answer


def test_what_a_server_refuses_for_a_reason_of_its_own_is_a_problem_of_the_object(desk: Desk) -> None:
    """An admission plugin, a quota: no rule of RBAC would help, and the object is named."""
    message = 'services "web" is forbidden: exceeded quota: few, requested: services=1, used: services=5'
    desk.server.faults([{"method": "PATCH", "status": 403, "message": message, "times": 0}])
    answer = desk.apply(service())
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == f"<stdin>:1: Service/{desk.namespace}/web: {message}\n"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 401}, "does not know who we are"),
        ({"status": 500}, "etcdserver: request timed out"),
        ({"status": 404, "message": "the server could not find the requested resource"}, "has no services of v1"),
        ({"text": "<html>sign in</html>"}, "is not an API server"),
        ({"text": '{"kind":"Status","metadata":{},"status":"Success"}'}, "is not an API server"),
        ({"text": '{"metadata":"x","items":7}'}, "is not an API server"),
        ({"text": '{"error":"sign in"}'}, "is not an API server"),
        ({"text": "<html>bad gateway</html>", "status": 502}, "not an API server"),
        ({"hang": 0.1}, ""),
        ({"cut": 40}, ""),
    ],
    ids=str,
)
def test_a_server_that_fails_is_told_and_nothing_is_written(desk: Desk, fault: dict[str, Any], said: str) -> None:
    desk.server.create({**service(), "metadata": {"name": "web", "namespace": desk.namespace}})
    before = desk.server.list("Service", desk.namespace)
    desk.server.faults([{"resource": "services", "namespace": desk.namespace, "times": 0, **fault}])
    words = ["get svc", "apply -f -", *(["get svc web", "delete svc web"] if "status" in fault else [])]
    for each in words:
        answer = desk(*each.split(), stdin=yaml.safe_dump(service(sessionAffinity="ClientIP")))
        assert (answer.code, answer.out) == (1, ""), answer
        assert answer.err.startswith(("error: kubernetes", "error: API server https://"))
        assert said in answer.err
    assert desk.server.list("Service", desk.namespace) == before


def test_a_write_that_ends_in_between_names_what_is_written(desk: Desk) -> None:
    wanted = [service(name) for name in ("a", "b", "c", "d")]
    refused = {"status": 500, "message": "etcdserver: request timed out"}
    desk.server.faults([{"method": "PATCH", "namespace": desk.namespace, "skip": 5, **refused}])
    answer = desk.apply(*wanted)
    namespace = desk.namespace
    assert (answer.code, answer.out) == (1, ""), answer
    assert "etcdserver: request timed out" in answer.err
    assert f"done: Service/{namespace}/a; not done: " in answer.err
    assert f"not done: Service/{namespace}/b, Service/{namespace}/c, Service/{namespace}/d" in answer.err
    assert desk.names() == ["a"]
    desk.server.faults([{"method": "PATCH", "namespace": desk.namespace, "skip": 5, "hang": 0.1}])
    unsure = desk.apply(*wanted)
    assert f"whether Service/{namespace}/b is written is not known" in unsure.err, unsure
    desk.server.faults([{"method": "DELETE", "namespace": desk.namespace, "skip": 3, **refused}])
    desk.server.create({**service("b"), "metadata": {"name": "b", "namespace": namespace}})
    deleted = desk("delete", "svc", "a", "b")
    assert deleted.err.endswith(
        f"error: done: Service/{namespace}/a; not done: Service/{namespace}/b; "
        "see what is there with get, and apply the rest again\n"
    )


def test_a_webhook_that_cannot_try_keeps_nobody_from_writing(desk: Desk) -> None:
    """The trial of what it looks at is passed over; its refusal of the write itself is told."""
    message = 'admission webhook "x.example" does not support dry run'
    desk.server.faults([{"method": "PATCH", "status": 400, "message": message}])
    assert desk.apply(service()).out == "service/web created\n"
    desk.server.faults([{"method": "DELETE", "status": 400, "message": message}])
    assert desk.ok("delete", "svc", "web") == 'service "web" deleted\n'
    desk.server.faults([{"method": "DELETE", "status": 400, "message": message}])
    assert desk("delete", "svc", "web").code == 1


def test_nobody_listens(desk: Desk) -> None:
    desk.server.stop()
    try:
        for words in ("get svc", "apply -f -", "delete svc web", "render"):
            run = desk.run if words == "render" else desk
            answer = run(*words.split(), stdin=yaml.safe_dump(service()))
            assert (answer.code, answer.out) == (1, ""), answer
            assert answer.err.startswith(("error: kubernetes", "error: API server https://"))
    finally:
        desk.server.start()


def _second(method: str, fault: dict[str, Any]) -> dict[str, Any]:
    """Of these requests the second, which is the write itself behind its trial."""
    return {"method": method, "skip": 1, **fault}


@pytest.mark.parametrize("text", ["{}", '{"metadata": {"continue": 7}, "items": []}'])
def test_what_is_no_list_is_not_an_empty_one(desk: Desk, text: str) -> None:
    """Who is between answers so: nobody is to take it for a cluster without Services, and nothing breaks."""
    odd = {"resource": "services", "text": text, "type": "application/json", "times": 0}
    desk.server.faults([odd])
    for words in (("get", "svc"), ("get", "svc", "web")):
        got = desk.run(*words)
        assert got.code == 1, (words, got)
        assert "what answers is not an API server" in got.err, (words, got)
