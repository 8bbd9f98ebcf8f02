"""Why there is no endpoint, as trace tells it: of manifests, of standard input, and of the store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.manifests import TWO_NAMED_PORTS
from tests.cli.program import Program

MANIFESTS = (
    TWO_NAMED_PORTS
    + """---
apiVersion: v1
kind: Service
metadata: {name: idle}
spec: {clusterIP: 10.96.5.7, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: idle-abc, labels: {kubernetes.io/servicename: idle}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [10.244.1.9]}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
spec:
  nodeName: worker-1
  containers: [{name: main, ports: [{name: http, containerPort: 8080}]}]
status: {podIP: 10.244.1.2}
"""
)
NODE = ("--node-ip", "172.30.2.2", "--node-name", "worker-2")
CASES = {
    "30081": (
        "outcome     refused with a tcp reset: default/web:mon has no endpoint",
        "no pod has a port named monitor; web-1 has: http; "
        "correct the port's targetPort (a number will do), or name the container's port",
    ),
    "30080": (
        "outcome     dropped: default/web:http has no endpoint on this node (policy Local)",
        "externalTrafficPolicy is Local, and of 1 endpoint none is on worker-2 (1 on worker-1); "
        "connect to a node that has one, or choose the policy Cluster or PreferLocal",
    ),
}


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.mark.parametrize("port", CASES)
@pytest.mark.parametrize("source", ["manifests", "stdin", "store"])
def test_trace_says_why_the_port_it_goes_to_has_no_endpoint(
    program: Program, tmp_path: Path, port: str, source: str
) -> None:
    (tmp_path / "all.yaml").write_text(MANIFESTS)
    words, stdin = ("-f", str(tmp_path / "all.yaml")), ""
    if source == "stdin":
        words, stdin = ("-f", "-"), MANIFESTS
    if source == "store":
        program.run("apply", "-f", str(tmp_path / "all.yaml"), "--store", str(program.store))
        words = ("--store", str(program.store))
    answer = program.run("trace", "172.30.0.10", "172.30.2.2", "--port", port, *NODE, *words, stdin=stdin)
    assert answer.code == 0, answer.err
    lines = answer.out.partition("\n\n")[0].splitlines()
    outcome, why = CASES[port]
    assert lines[-1] == outcome
    assert lines[0].endswith(f": {why}")


def test_trace_to_a_cluster_ip_knows_slices_that_no_service_uses(program: Program, tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(MANIFESTS)
    words = ("-f", str(tmp_path / "all.yaml"), "-o", "json", *NODE)
    answer = program.run("trace", "10.244.1.2", "10.96.5.7", "--port", "80", *words)
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["why"] == [
        {
            "reason": "SliceUnlabelled",
            "text": "slice idle-abc has the label kubernetes.io/servicename, not kubernetes.io/service-name",
            "remedy": "label it kubernetes.io/service-name=idle",
        },
        {
            "reason": "NoEndpoints",
            "text": "no selector, and no EndpointSlice or Endpoints named idle",
            "remedy": "write one, or a selector",
        },
    ]


def test_trace_says_something_else_where_that_is_not_what_stops_a_packet(program: Program, tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(MANIFESTS)
    for to, port, reasons in (
        ("10.96.5.6", "80", []),
        ("10.96.5.6", "82", ["NoSuchPort"]),
        ("10.96.9.9", "80", ["NoSuchClusterIP"]),
        ("172.30.2.2", "22", ["NoSuchNodePort"]),
    ):
        words = ("-f", str(tmp_path / "all.yaml"), "-o", "json", *NODE)
        answer = program.run("trace", "10.244.1.2", to, "--port", port, *words)
        assert [cause["reason"] for cause in json.loads(answer.out)["why"]] == reasons


@pytest.mark.parametrize(
    ("selector", "written"),
    [
        ("disk=ssd", ["disk=ssd"]),
        ("disk in (ssd,nvme)", ["disk in ("]),
        ("zone notin (a),disk", ["zone!=a", "disk"]),
        ("zone notin (a,b),disk", ["zone notin (", "disk"]),
        ("disk,!zone", ["disk", "!zone"]),
    ],
)
def test_trace_says_whose_node_port_is_served_on_other_nodes(
    program: Program, tmp_path: Path, selector: str, written: list[str]
) -> None:
    path = tmp_path / "chosen.yaml"
    node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: worker-3, labels: {disk: ssd}}\n"
    chosen = f"metadata: {{name: web, annotations: {{nodeport-nft/node-port-nodes: '{selector}'}}}}"
    path.write_text(MANIFESTS.replace("metadata: {name: web}", chosen, 1) + node)
    words = ("trace", "-f", str(path), "172.30.9.9", "172.30.2.2", "--node-ip", "172.30.2.2", "--port", "30080")
    told = "nodePorts of default/web are not served on this node: its labels do not match "
    [*_, conditions] = program(*words, "--node-name", "worker-2").out.split(told)
    assert all(each in conditions.splitlines()[0] for each in written)
    assert told not in program(*words, "--node-name", "worker-2", "--protocol", "udp").out
    matching = program(*words, "--node-name", "worker-3").out
    assert "has no endpoint on this node (policy Local)" in matching
    assert told not in matching
