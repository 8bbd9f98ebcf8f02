"""apply, create service and delete, through the installed program."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.program import SCRIPT, Program

ONE_OF_EACH = """
apiVersion: v1
kind: Service
metadata: {name: web, labels: {tier: front}}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-1, labels: {app: web}}, status: {podIP: 10.244.1.2}}
---
{apiVersion: v1, kind: Node, metadata: {name: worker-1}}
---
apiVersion: v1
kind: Endpoints
metadata: {name: db}
subsets: [{addresses: [{ip: 192.0.2.7}], ports: [{port: 5432}]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: api-1, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.244.1.9]}]
"""
REFS = (
    "service/web",
    "pod/web-1",
    "node/worker-1",
    "endpoints/db",
    "endpointslice.discovery.k8s.io/api-1",
)


def node_port_service(name: str, *node_ports: int) -> str:
    ports = [{"name": f"p{i}", "port": 80 + i, "nodePort": number} for i, number in enumerate(node_ports)]
    spec = {"type": "NodePort", "ports": ports}
    return json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}) + "\n"


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def test_apply_says_what_became_of_each_object(program: Program) -> None:
    assert program.ok("apply", "-f", "-", stdin=ONE_OF_EACH).splitlines() == [f"{ref} created" for ref in REFS]
    again = program.ok("apply", "-f", "-", stdin=ONE_OF_EACH.replace("tier: front", "tier: back"))
    expected = ["service/web configured", *(f"{ref} unchanged" for ref in REFS[1:])]
    assert again.splitlines() == expected


def test_apply_reads_files_and_directories_into_a_namespace(program: Program) -> None:
    folder = program.directory / "manifests"
    folder.mkdir()
    (folder / "a.yaml").write_text(node_port_service("a", 30001))
    (folder / "b.json").write_text(node_port_service("b", 30002))
    (program.directory / "c.yaml").write_text(node_port_service("c", 30003))
    program.ok("apply", "-f", "manifests", "-f", "c.yaml", "-n", "prod")
    names = [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in program.json("svc", "-A")["items"]]
    assert names == [("prod", "a"), ("prod", "b"), ("prod", "c")]


def test_apply_tells_every_error_and_applies_nothing(program: Program) -> None:
    (program.directory / "good.yaml").write_text(node_port_service("good", 30001))
    (program.directory / "bad.yaml").write_text(
        node_port_service("low", 99) + "---\n" + node_port_service("No_Name", 0)
    )
    answer = program("apply", "-f", "good.yaml", "-f", "bad.yaml")
    assert answer.code == 2
    assert answer.out == ""
    assert "bad.yaml:1: Service/default/low: spec.ports[0].nodePort: " in answer.err
    assert "bad.yaml:3: " in answer.err
    assert "No_Name" in answer.err
    assert program("get", "services").out == ""


def test_apply_refuses_what_another_service_holds_and_names_the_holder(program: Program) -> None:
    program.ok("apply", "-f", "-", stdin=node_port_service("api", 30080))
    answer = program("apply", "-f", "-", stdin=node_port_service("web", 30080) + node_port_service("free", 30081))
    assert answer.code == 2
    assert "default/api" in answer.err
    assert [item["metadata"]["name"] for item in program.json("services")["items"]] == ["api"]


@pytest.mark.parametrize(
    "text", ["", "---\n---\n", "# nothing\n", "kind: List\napiVersion: v1\nitems: []\n", "{kind: Deployment}\n"]
)
def test_apply_of_nothing_is_no_success_and_makes_no_store(program: Program, tmp_path: Path, text: str) -> None:
    done = program("apply", "-f", "-", stdin=text)
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith("error: no objects to apply in the manifests; name others with -f\n")
    assert list(tmp_path.iterdir()) == []


def test_unknown_fields_are_errors_warnings_or_nothing(program: Program) -> None:
    slip = ONE_OF_EACH.replace("targetPort", "targetport")
    done = program("apply", "-f", "-", stdin=slip)
    told = "<stdin>:5: Service/default/web: spec.ports[0].targetport: unknown field; did you mean targetPort?\n"
    assert (done.code, done.out, done.err) == (2, "", told)
    warned = program("apply", "-f", "-", "--validate=warn", stdin=slip)
    assert (warned.code, warned.err) == (0, f"warning: {told}")
    ignored = program("apply", "-f", "-", "--validate", "ignore", stdin=slip)
    assert (ignored.code, ignored.err) == (0, "")
    stored = told.replace("<stdin>:5: Service/default/web: ", f"Service/default/web in {program.store}: ")
    shown = program("render", "--store", str(program.store), "--node-ip", "172.30.1.2")
    assert (shown.code, f"warning: {stored}" in shown.err) == (0, True)
    quiet = program("render", "--store", str(program.store), "--node-ip", "172.30.1.2", "--validate=ignore")
    assert (quiet.code, "unknown field" in quiet.err) == (0, False)
    assert program.ok("delete", "-f", "-", stdin=slip).startswith('service "web" deleted')
    wrong = program("apply", "-f", "-", "--validate=stict", stdin=slip)
    told = 'error: --validate: "stict" is not a level; choose one of strict, warn, ignore; did you mean strict?\n'
    assert (wrong.code, wrong.err) == (2, told)


def test_a_dry_run_says_the_same_and_writes_nothing(program: Program) -> None:
    answer = program.ok("apply", "-f", "-", "--dry-run", stdin=ONE_OF_EACH)
    assert answer.splitlines() == [f"{ref} created (dry run)" for ref in REFS]
    assert not program.store.exists()
    program.ok("apply", "-f", "-", stdin=node_port_service("web", 30001))
    changed = program.ok("apply", "-f", "-", "--dry-run", stdin=node_port_service("web", 30002))
    assert changed == "service/web configured (dry run)\n"
    assert (
        program.ok("create", "service", "clusterip", "new", "--tcp=1", "--dry-run")
        == "service/new created (dry run)\n"
    )
    assert program.ok("delete", "service", "web", "--dry-run") == 'service "web" deleted (dry run)\n'
    (web,) = program.json("services")["items"]
    assert web["spec"]["ports"][0]["nodePort"] == 30001


def test_ranges_come_from_flags_and_from_the_configuration(program: Program) -> None:
    (program.directory / "config.yaml").write_text("nodePortRange: 20000-20009\nserviceCIDRs: [10.200.0.0/24]\n")
    program.ok("create", "service", "nodeport", "a", "--tcp=80", "--config", "config.yaml")
    program.ok(
        "create",
        "service",
        "nodeport",
        "b",
        "--tcp=80",
        "--node-port-range=21000-21000",
        "--service-cidr=10.201.0.0/30",
    )
    a, b = (item["spec"] for item in program.json("services")["items"])
    assert a["ports"][0]["nodePort"] in range(20000, 20010)
    assert a["clusterIP"].startswith("10.200.0.")
    assert b["ports"][0]["nodePort"] == 21000
    assert b["clusterIP"].startswith("10.201.0.")


def test_create_nodeport_makes_kubectls_service_with_an_unnamed_port(program: Program) -> None:
    assert program.ok("create", "service", "nodeport", "my-ser", "--tcp=8000:80") == "service/my-ser created\n"
    service = program.json("service", "my-ser")
    assert service["metadata"]["labels"] == service["spec"]["selector"] == {"app": "my-ser"}
    assert service["spec"]["type"] == "NodePort"
    (port,) = service["spec"]["ports"]
    assert port.pop("nodePort") in range(30000, 32768)
    assert port == {"port": 8000, "protocol": "TCP", "targetPort": 80}


@pytest.mark.parametrize(
    ("words", "ports"),
    [
        (["--tcp=80"], [("", "TCP", 80, 80)]),
        (["--tcp=80:web"], [("", "TCP", 80, "web")]),
        (["--udp=53:5353"], [("", "UDP", 53, 5353)]),
        (["--tcp=80:8080", "--tcp=443"], [("80-8080", "TCP", 80, 8080), ("443", "TCP", 443, 443)]),
        (["--tcp=80:8080,443"], [("80-8080", "TCP", 80, 8080), ("443", "TCP", 443, 443)]),
        (
            ["--sctp=53", "--tcp=53", "--udp=53"],
            [("53", "TCP", 53, 53), ("53-udp", "UDP", 53, 53), ("53-sctp", "SCTP", 53, 53)],
        ),
    ],
)
def test_create_names_several_ports_by_their_text(
    program: Program, words: list[str], ports: list[tuple[str, str, int, int | str]]
) -> None:
    program.ok("create", "service", "clusterip", "web", *words)
    made = program.json("service", "web")["spec"]["ports"]
    assert [(p.get("name", ""), p["protocol"], p["port"], p["targetPort"]) for p in made] == ports


def test_create_takes_a_given_node_port_for_every_protocol(program: Program) -> None:
    program.ok(
        "create", "service", "nodeport", "dns", "--tcp=53", "--udp=53", "--node-port=30053", "-n", "kube-system"
    )
    made = program.json("service", "dns", "-n", "kube-system")["spec"]["ports"]
    assert [port["nodePort"] for port in made] == [30053, 30053]


def test_create_clusterip_takes_an_address_or_none(program: Program) -> None:
    program.ok("create", "service", "clusterip", "fixed", "--tcp=80", "--clusterip=10.96.7.7")
    program.ok("create", "service", "clusterip", "headless", "--clusterip", "None")
    assert [item["spec"]["clusterIP"] for item in program.json("svc")["items"]] == ["10.96.7.7", "None"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nodeport", "web"], ["--tcp=PORT:TARGET"]),
        (["clusterip", "web"], ["--clusterip=None", "--tcp=PORT:TARGET"]),
        (["nodeport", "web", "--tcp=http:80", "--udp=8000:"], ["--tcp: 'http:80'", "--udp: '8000:'", "8000:80"]),
        (["nodeport", "web", "--tcp=70000:80"], ["spec.ports[0].port", "70000", "65535"]),
        (["nodeport", "web", "--tcp=80:_"], ["spec.ports[0].targetPort"]),
        (["nodeport", "web", "--tcp=80", "--tcp=80:81"], ["Service/default/web", "spec.ports[1]"]),
        (["nodeport", "web", "--tcp=80", "--node-port=99"], ["spec.ports[0].nodePort", "99", "30000-32767"]),
        (["nodeport", "web", "--tcp=80", "--tcp=81", "--node-port=30001"], ["--node-port", "leave it out"]),
        (["nodeport", "web", "--tcp=80", "--node-port=many"], ["--node-port", "integer"]),
        (["nodeport", "Web_1", "--tcp=80"], ["metadata.name", "Web_1"]),
        (["clusterip", "web", "--tcp=80", "--clusterip=10.96.0.300"], ["spec.clusterIP", "10.96.0.300"]),
        (["clusterip", "web", "--tcp=80", "--clusterip=192.0.2.1"], ["spec.clusterIP", "192.0.2.1"]),
        (["nodeport", "web", "--tcp=80", "-n", "No_Space"], ["metadata.namespace", "No_Space"]),
        (["nodeport", "web", "--tcp=80", "--node-port-range=9-1"], ["--node-port-range", "9-1"]),
    ],
)
def test_create_tells_what_is_wrong(program: Program, words: list[str], told: list[str]) -> None:
    answer = program("create", "service", *words)
    assert (answer.code, answer.out) == (2, "")
    for text in told:
        assert text in answer.err
    assert program("get", "services", "-A").out == ""


def test_create_leaves_an_existing_service_alone(program: Program) -> None:
    program.ok("create", "service", "nodeport", "web", "--tcp=80")
    before = program.ok("get", "service", "web", "-o", "yaml")
    answer = program("create", "service", "clusterip", "web", "--tcp=81")
    assert answer.code == 1
    assert 'service "web" already exists in namespace default' in answer.err
    assert "apply -f" in answer.err
    assert program.ok("get", "service", "web", "-o", "yaml") == before


@pytest.mark.parametrize(
    ("words", "deleted"),
    [
        (["service", "web"], ['service "web" deleted']),
        (["svc/web", "po/web-1"], ['service "web" deleted', 'pod "web-1" deleted']),
        (["services", "web"], ['service "web" deleted']),
        (["Pods", "web-1"], ['pod "web-1" deleted']),
        (["ep", "db"], ['endpoints "db" deleted']),
        (["nodes", "worker-1"], ['node "worker-1" deleted']),
        (["endpointslices", "api-1"], ['endpointslice.discovery.k8s.io "api-1" deleted']),
        (["endpointslices.discovery.k8s.io/api-1"], ['endpointslice.discovery.k8s.io "api-1" deleted']),
    ],
)
def test_delete_understands_kubectls_names_of_kinds(program: Program, words: list[str], deleted: list[str]) -> None:
    program.ok("apply", "-f", "-", stdin=ONE_OF_EACH)
    assert program.ok("delete", *words).splitlines() == deleted
    answers = [program("get", kind, "-o", "json") for kind in ("svc", "po", "no", "ep", "endpointslices")]
    assert {answer.code for answer in answers} == {0}
    left = sum(len(json.loads(answer.out)["items"]) for answer in answers)
    assert left == len(REFS) - len(deleted)


def test_delete_goes_on_past_what_is_not_there(program: Program) -> None:
    program.ok("apply", "-f", "-", stdin=node_port_service("a", 30001) + node_port_service("b", 30002))
    answer = program("delete", "service", "a", "ghost", "b")
    assert answer.code == 1
    assert answer.out.splitlines() == ['service "a" deleted', 'service "b" deleted']
    assert answer.err == 'error: service "ghost" not found in namespace default\n'
    assert program("delete", "node", "ghost").err == 'error: node "ghost" not found\n'
    assert program.ok("delete", "service", "ghost", "--ignore-not-found") == ""


def test_delete_frees_what_was_held(program: Program) -> None:
    program.ok("apply", "-f", "-", stdin=node_port_service("a", 30001))
    program.ok("delete", "service", "a")
    assert program.ok("apply", "-f", "-", stdin=node_port_service("b", 30001)) == "service/b created\n"


def test_delete_of_manifests_does_not_mind_that_the_range_has_moved(program: Program) -> None:
    manifest = node_port_service("a", 20001)
    program.ok("apply", "-f", "-", "--node-port-range=20000-20010", stdin=manifest)
    assert program.ok("delete", "-f", "-", stdin=manifest) == 'service "a" deleted\n'


@pytest.mark.parametrize(
    "rest",
    ["", "spec: {}\n", "spec: {type: NodePort, ports: [{port: 0, nodePort: 99999}], prots: []}\n", "metdata: 5\n"],
    ids=["metadata", "empty", "wrong", "unknown"],
)
def test_delete_of_manifests_reads_names_alone(program: Program, rest: str) -> None:
    manifest = f"kind: Service\nmetadata: {{name: a}}\n{rest}"
    program.ok("apply", "-f", "-", stdin=node_port_service("a", 30001) + node_port_service("b", 30002))
    assert program.ok("delete", "-f", "-", "--dry-run", stdin=manifest) == 'service "a" deleted (dry run)\n'
    assert program.ok("delete", "-f", "-", stdin=f"{manifest}---\n{manifest}") == 'service "a" deleted\n'
    again = program("delete", "-f", "-", stdin=manifest)
    assert (again.code, again.err) == (1, 'error: service "a" not found in namespace default\n')
    assert [item["metadata"]["name"] for item in program.json("services")["items"]] == ["b"]


def test_delete_of_manifests_deletes_nothing_where_one_has_no_name(program: Program) -> None:
    program.ok("apply", "-f", "-", stdin=node_port_service("a", 30001))
    answer = program("delete", "-f", "-", stdin="kind: Service\nmetadata: {name: a}\n---\nkind: Service\n")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "<stdin>:4: Service/default: metadata.name: is missing; name the object\n"
    assert len(program.json("services")["items"]) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "-f FILE"),
        (["service", "web", "-f", "-"], "-f FILE"),
        (["service"], "NAME"),
        (["deployment", "web"], "'deployment' is not a kind known here: no pods are started here"),
        (["service/web", "web"], "KIND/NAME"),
        (["service/"], "KIND/NAME"),
    ],
)
def test_delete_tells_wrong_usage(program: Program, words: list[str], told: str) -> None:
    answer = program("delete", *words)
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err


@pytest.mark.parametrize("words", [("get", "services"), ("delete", "service", "web"), ("apply", "-f", "-")])
def test_a_store_that_is_none_is_told_with_its_path(program: Program, words: tuple[str, ...]) -> None:
    program.store.write_bytes(b"\x00\xffnot a database" * 100)
    answer = program(*words, stdin=ONE_OF_EACH)
    assert answer.code == 1
    assert str(program.store) in answer.err
    beneath = str(program.store / "below.db")
    assert program.run(*words, "--store", beneath, stdin=ONE_OF_EACH).err.count("error: ") >= (words[0] != "get")


def test_a_reader_that_has_seen_enough_is_no_failure(program: Program) -> None:
    program.ok("apply", "-f", "-", stdin="".join(node_port_service(f"s{i}", 30000 + i) for i in range(50)))
    for words in (["get", "services", "-o", "yaml"], ["apply", "-f", "services.json"], ["describe", "services"]):
        (program.directory / "services.json").write_text(program.ok("get", "services", "-o", "json"))
        read_end, write_end = os.pipe()
        os.close(read_end)
        done = subprocess.run(
            [SCRIPT, *words, "--store", program.store],
            stdout=write_end,
            stderr=subprocess.PIPE,
            cwd=program.directory,
            check=False,
        )
        os.close(write_end)
        assert (done.returncode, done.stderr) == (0, b"")


def test_what_an_api_server_answers_is_applied(program: Program) -> None:
    """``kubectl get --raw /api/v1/services``: the items say neither kind nor apiVersion."""
    item = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
    listed = json.dumps({"kind": "ServiceList", "apiVersion": "v1", "metadata": {}, "items": [item]})
    assert program.ok("apply", "-f", "-", stdin=listed) == "service/web created\n"
    assert program.ok("delete", "-f", "-", stdin=listed) == 'service "web" deleted\n'


def test_what_is_printed_can_be_applied(program: Program, tmp_path: Path) -> None:
    program.ok("apply", "-f", "-", stdin=ONE_OF_EACH)
    (tmp_path / "printed").mkdir()
    for resource, form in (
        ("services", "yaml"),
        ("pods", "json"),
        ("nodes/worker-1", "yaml"),
        ("endpoints", "json"),
        ("endpointslices", "yaml"),
    ):
        printed = program.ok("get", *resource.split("/"), "-o", form)
        (tmp_path / "printed" / f"{resource.partition('/')[0]}.{form}").write_text(printed)
    applied = program.ok("apply", "-f", "printed").splitlines()
    assert sorted(applied) == sorted(f"{ref} unchanged" for ref in REFS)


def test_what_is_wrong_with_others_is_said_and_ours_is_applied(program: Program) -> None:
    text = f"kind: Secret\nx: !y z\na: 1\na: 2\n---\n{node_port_service('web', 30080)}"
    answer = program("apply", "-f", "-", stdin=text)
    assert (answer.code, answer.out) == (0, "service/web created\n")
    assert answer.err.splitlines() == [
        "warning: <stdin>:1: Secret/default: kind Secret is not used here; skipped",
        "warning: <stdin>:2: Secret/default: tag !y is not supported for this value; no matter, for it is skipped",
        'warning: <stdin>:4: Secret/default: key "a" is given twice in one mapping (also on line 3); '
        "the last one counts",
    ]


@pytest.mark.proves("C3")
def test_a_write_over_a_newer_one_is_refused_and_manifests_that_are_the_whole_state_are_not(program: Program) -> None:
    program.ok("create", "service", "nodeport", "web", "--tcp=80")
    read = program.ok("get", "service", "web", "-o", "yaml")
    assert program.ok("apply", "-f", "-", stdin=read) == "service/web unchanged\n"
    program.ok("apply", "-f", "-", stdin=read.replace("app: web", "app: other"))
    newer = program.ok("get", "service", "web", "-o", "yaml")
    mine = read.replace("sessionAffinity: None", "sessionAffinity: ClientIP")
    for words in ([], ["--dry-run"]):
        done = program("apply", "-f", "-", *words, stdin=mine)
        assert (done.code, done.out) == (1, "")
        assert 'Service/default/web: metadata.resourceVersion: "1" was read, and "2" is stored' in done.err
        assert "metadata.labels.app" in done.err
        assert "spec.sessionAffinity" in done.err
    assert program.ok("get", "service", "web", "-o", "yaml") == newer
    # A file that is the whole state is that, whatever version it was made from.
    (program.directory / "web.yaml").write_text(mine)
    assert "ClientIP" not in newer
    done = program("diff", "-f", "web.yaml", "--prune")
    assert "was read, and" not in done.err
    without = "\n".join(line for line in mine.splitlines() if "resourceVersion" not in line)
    assert program.ok("apply", "-f", "-", stdin=without) == "service/web configured\n"
