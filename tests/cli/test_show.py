"""get, describe and hosts, through the installed program; help and completion."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from nodeport_nft.cli.layout import age, few, table
from nodeport_nft.terminal import visible_in
from tests.cli.manifests import TWO_NAMED_PORTS
from tests.cli.program import SCRIPT, Program

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


def let_age(program: Program, days: int, name: str) -> None:
    """As if the objects of this name were stored so many days ago; they are of that age for the next 23 hours."""
    created = (datetime.now(UTC) - timedelta(days=days, hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    with closing(sqlite3.connect(program.store)) as db, db:
        words = "UPDATE objects SET body = json_set(body, '$.metadata.creationTimestamp', ?) WHERE name = ?"
        assert db.execute(words, (created, name)).rowcount


def pod(name: str, ip: str, node: str = "worker-1", *, ready: bool = True) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": "my-ser"}},
            "spec": {
                "nodeName": node,
                "containers": [{"name": "nginx", "image": "nginx", "ports": [{"containerPort": 80, "name": "http"}]}],
            },
            "status": {
                "phase": "Running",
                "podIP": ip,
                "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            },
        }
    )


CLUSTER = """
apiVersion: v1
kind: Service
metadata: {name: my-ser}
spec:
  type: NodePort
  clusterIP: 10.96.5.5
  selector: {app: my-ser, tier: web}
  ports: [{port: 8000, targetPort: 80, nodePort: 31482}]
---
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: kube-system}
spec:
  clusterIP: 10.96.0.10
  ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53}]
---
apiVersion: v1
kind: Service
metadata: {name: out}
spec: {type: ExternalName, externalName: example.org}
---
apiVersion: v1
kind: Service
metadata: {name: quiet}
spec: {clusterIP: None, ports: [{port: 80}]}
---
apiVersion: v1
kind: Node
metadata: {name: worker-1, labels: {node-role.kubernetes.io/edge: ""}}
spec: {podCIDR: 10.244.1.0/24}
status: {addresses: [{type: InternalIP, address: 172.30.1.2}], conditions: [{type: Ready, status: "True"}]}
"""
PODS = "".join(
    "---\n" + pod(name, ip, ready=ready).replace('"app": "my-ser"', '"app": "my-ser", "tier": "web"') + "\n"
    for name, ip, ready in (
        ("web-1", "10.244.1.2", True),
        ("web-2", "10.244.1.3", True),
        ("web-3", "10.244.1.4", False),
    )
)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Program:
    program = Program(tmp_path_factory.mktemp("filled"))
    program.ok("apply", "-f", "-", stdin=CLUSTER + PODS)
    ages = {"my-ser": 10, "dns": 20, "out": 1000, "quiet": 10, "worker-1": 40, "web-1": 30, "web-2": 30, "web-3": 30}
    for name, days in ages.items():
        let_age(program, days, name)
    return program


@pytest.fixture
def cluster(filled: Program, program: Program) -> Program:
    """CLUSTER and PODS, in a store of the test's own."""
    shutil.copy(filled.store, program.store)
    return program


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (
            ["services"],
            [
                "NAME     TYPE           CLUSTER-IP   EXTERNAL-IP   PORT(S)          AGE",
                "my-ser   NodePort       10.96.5.5    <none>        8000:31482/TCP   10d",
                "out      ExternalName   <none>       example.org   <none>           2y270d",
                "quiet    ClusterIP      None         <none>        80/TCP           10d",
            ],
        ),
        (
            ["svc", "my-ser", "-o", "wide"],
            [
                "NAME     TYPE       CLUSTER-IP   EXTERNAL-IP   PORT(S)          AGE   SELECTOR",
                "my-ser   NodePort   10.96.5.5    <none>        8000:31482/TCP   10d   app=my-ser,tier=web",
            ],
        ),
        (
            ["service", "-n", "kube-system"],
            [
                "NAME   TYPE        CLUSTER-IP   EXTERNAL-IP   PORT(S)         AGE",
                "dns    ClusterIP   10.96.0.10   <none>        53/UDP,53/TCP   20d",
            ],
        ),
        (
            ["endpoints", "-A"],
            [
                "NAMESPACE     NAME     ENDPOINTS                     AGE",
                "default       my-ser   10.244.1.2:80,10.244.1.3:80   10d",
                "default       quiet    <none>                        10d",
                "kube-system   dns      <none>                        20d",
            ],
        ),
        (
            ["pods", "-o", "wide"],
            [
                "NAME    READY   STATUS    RESTARTS   AGE   IP           NODE",
                "web-1   1/1     Running   0          30d   10.244.1.2   worker-1",
                "web-2   1/1     Running   0          30d   10.244.1.3   worker-1",
                "web-3   0/1     Running   0          30d   10.244.1.4   worker-1",
            ],
        ),
        (
            ["pod/web-2", "pod/web-1"],
            [
                "NAME    READY   STATUS    RESTARTS   AGE",
                "web-2   1/1     Running   0          30d",
                "web-1   1/1     Running   0          30d",
            ],
        ),
        (
            ["nodes", "-o", "wide", "-A"],
            [
                "NAME       STATUS   ROLES   AGE   INTERNAL-IP   EXTERNAL-IP",
                "worker-1   Ready    edge    40d   172.30.1.2    <none>",
            ],
        ),
        (["pods", "-o", "name"], ["pod/web-1", "pod/web-2", "pod/web-3"]),
    ],
)
def test_get_prints_kubectls_tables(cluster: Program, words: list[str], lines: list[str]) -> None:
    assert cluster.ok("get", *words).splitlines() == lines


def test_get_services_shows_addresses_from_outside(program: Program) -> None:
    manifest = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: LoadBalancer, ports: [{port: 80}]}}
- apiVersion: v1
  kind: Service
  metadata: {name: b}
  spec: {type: LoadBalancer, ports: [{port: 80}]}
  status: {loadBalancer: {ingress: [{ip: 192.0.2.1}, {hostname: lb.example.org}]}}
- {apiVersion: v1, kind: Service, metadata: {name: c}, spec: {externalIPs: [192.0.2.2], ports: [{port: 80}]}}
"""
    assert program("apply", "-f", "-", stdin=manifest).code == 0
    rows = program.ok("get", "services").splitlines()[1:]
    assert [row.split()[3] for row in rows] == ["<pending>", "192.0.2.1,lb.example.org", "192.0.2.2"]


def test_get_endpoints_counts_what_it_does_not_show_and_shows_what_no_service_has(program: Program) -> None:
    slices = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "web-1",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv6",
        "ports": [{"port": 80}],
        "endpoints": [{"addresses": [f"fd00::{i}"]} for i in range(1, 6)],
    }
    lone = """
apiVersion: v1
kind: Endpoints
metadata: {name: lone}
subsets: [{addresses: [{ip: 192.0.2.7}], notReadyAddresses: [{ip: 192.0.2.8}], ports: [{port: 5432}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ipFamilies: [IPv6], ports: [{port: 80}]}
---
"""
    program.ok("apply", "-f", "-", stdin=lone + json.dumps(slices))
    for name, days in {"lone": 30, "web": 20, "web-1": 10}.items():
        let_age(program, days, name)
    assert program.ok("get", "endpoints").splitlines() == [
        "NAME   ENDPOINTS                                            AGE",
        "lone   192.0.2.7:5432                                       30d",
        "web    [fd00::1]:80,[fd00::2]:80,[fd00::3]:80 + 2 more...   20d",
    ]
    assert program.ok("get", "endpointslices").splitlines() == [
        "NAME    ADDRESSTYPE   PORTS   ENDPOINTS                             AGE",
        "web-1   IPv6          80      fd00::1,fd00::2,fd00::3 + 2 more...   10d",
    ]
    assert [item["metadata"]["name"] for item in program.json("endpoints")["items"]] == ["lone"]


def test_get_tells_what_is_not_there(cluster: Program) -> None:
    answer = cluster("get", "services", "ghost", "my-ser")
    assert answer.code == 1
    assert [line.split()[0] for line in answer.out.splitlines()] == ["NAME", "my-ser"]
    assert answer.err == 'error: service "ghost" not found in namespace default\n'
    answer = cluster("get", "endpoints", "ghost", "my-ser")
    assert (answer.code, answer.err) == (1, 'error: endpoints "ghost" not found in namespace default\n')
    assert "10.244.1.2:80" in answer.out


@pytest.mark.parametrize(
    "words", [("get", "services"), ("describe", "pods"), ("hosts",), ("delete", "service", "web")], ids="_".join
)
def test_a_store_that_is_not_there_is_said_and_not_made(program: Program, words: tuple[str, ...]) -> None:
    answer = program(*words)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"error: there is no store {program.store}; ")
    assert list(program.directory.iterdir()) == []


def test_get_of_nothing_says_so(program: Program) -> None:
    program.ok("create", "service", "clusterip", "gone", "--tcp=80")
    program.ok("delete", "service", "gone")
    answer = program("get", "services")
    assert (answer.code, answer.out, answer.err) == (0, "", "No resources found in default namespace.\n")
    assert program("get", "endpoints", "-n", "prod").err == "No resources found in prod namespace.\n"
    assert program("describe", "pods", "-n", "prod").err == "No resources found in prod namespace.\n"
    assert program("get", "pods", "-A").err == "No resources found.\n"
    assert program.json("services") == {"apiVersion": "v1", "items": [], "kind": "List"}


@pytest.mark.parametrize("output", ["yaml", "json"])
def test_what_get_prints_can_be_applied_elsewhere_and_holds_the_same(
    cluster: Program, tmp_path: Path, output: str
) -> None:
    cluster.ok("create", "service", "nodeport", "found", "--tcp=80", "--udp=80")
    other = Program(tmp_path / "other")
    other.directory.mkdir()
    for kind in ("services", "pods", "nodes"):
        text = cluster.ok("get", kind, "-A", "-o", output)
        applied = other.ok("apply", "-f", "-", stdin=text)
        assert all(line.endswith(" created") for line in applied.splitlines())
        assert cluster.ok("apply", "-f", "-", stdin=text).count(" unchanged\n") == applied.count("\n")
    mine, theirs = (
        [(item["metadata"]["name"], item["spec"]) for item in each.json("services", "-A")["items"]]
        for each in (cluster, other)
    )
    assert mine == theirs
    assert len(mine) == 5


def test_get_of_one_name_gives_the_object_itself(cluster: Program) -> None:
    one = cluster.json("service", "my-ser")
    assert one["kind"] == "Service"
    assert cluster.json("service", "my-ser", "quiet")["items"][0] == one
    assert cluster.ok("get", "service/my-ser", "-o", "yaml").startswith("apiVersion: v1\nkind: Service\nmetadata:\n")


def test_get_of_several_kinds(cluster: Program) -> None:
    services, pods = (cluster.ok("get", kind, "--show-kind") for kind in ("services", "pods"))
    assert services.split("\n")[1].startswith("service/my-ser ")
    assert cluster.ok("get", "services,pods") == f"{services}\n{pods}"
    assert cluster.ok("get", "endpointslices,services") == services  # there are no slices
    names = [(each["kind"], each["metadata"]["name"]) for each in cluster.json("pods,services")["items"]]
    assert names == sorted(names, key=lambda name: name[0])
    assert {kind for kind, _ in names} == {"Pod", "Service"}
    assert cluster.ok("get", "svc,po", "-o", "name").splitlines()[0] == "service/my-ser"


def test_yaml_quotes_what_a_reader_would_take_for_something_else(program: Program) -> None:
    values = ["0o17", "1.5e3", "1e5", "y", "2026-01-31", "1:30", " padded\n lines\n", "grün \U0001f7e2 \x07"]
    annotations = dict(zip("abcdefgh", values, strict=True))
    manifest = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "n", "annotations": annotations}}
    program.ok("apply", "-f", "-", stdin=json.dumps(manifest))
    text = program.ok("get", "endpoints", "n", "-o", "yaml")
    assert text.isascii()
    assert program.ok("apply", "-f", "-", stdin=text) == "endpoints/n unchanged\n"
    assert "e: '2026-01-31'" in text
    assert "b: '1.5e3'" in text


@pytest.mark.proves("X4")
def test_describe_service_has_kubectls_fields_and_layout(cluster: Program) -> None:
    assert cluster.ok("describe", "service", "my-ser").splitlines() == [
        "Name:                     my-ser",
        "Namespace:                default",
        "Labels:                   <none>",
        "Annotations:              <none>",
        "Selector:                 app=my-ser,tier=web",
        "Type:                     NodePort",
        "IP Family Policy:         SingleStack",
        "IP Families:              IPv4",
        "IP:                       10.96.5.5",
        "IPs:                      10.96.5.5",
        "Port:                     <unset>  8000/TCP",
        "TargetPort:               80/TCP",
        "NodePort:                 <unset>  31482/TCP",
        "Endpoints:                10.244.1.2:80,10.244.1.3:80",
        "Session Affinity:         None",
        "External Traffic Policy:  Cluster",
        "Internal Traffic Policy:  Cluster",
        "Events:                   <none>",
    ]


@pytest.mark.proves("X4")
def test_describe_service_names_several_ports_and_labels(program: Program) -> None:
    manifest = """
apiVersion: v1
kind: Service
metadata: {name: web, labels: {b: two, a: one}, annotations: {note: "first\\nsecond", esc: "\\e[31mred"}}
spec: {ports: [{name: http, port: 80, targetPort: web}, {name: dns, port: 53, protocol: UDP}]}
"""
    program.ok("apply", "-f", "-", stdin=manifest)
    lines = program.ok("describe", "svc/web").splitlines()
    start = lines.index("Labels:                   a=one")
    assert lines[start : start + 6] == [
        "Labels:                   a=one",
        "                          b=two",
        "Annotations:              esc: \\x1b[31mred",
        "                          note: first",
        "                          second",
        "Selector:                 <none>",
    ]
    start = lines.index("Port:                     http  80/TCP")
    assert lines[start : start + 6] == [
        "Port:                     http  80/TCP",
        "TargetPort:               web/TCP",
        "Endpoints:                <none>",
        "Port:                     dns  53/UDP",
        "TargetPort:               53/UDP",
        "Endpoints:                <none>",
    ]


NO_ENDPOINTS = (
    "Events:",
    "  Type     Reason       Message",
    "  ----     ------       -------",
    "  Warning  NoEndpoints  no selector, and no EndpointSlice or Endpoints named web; write one, or a selector",
)


RESTRICTED = """
apiVersion: v1
kind: Service
metadata:
  name: web
  annotations:
    nodeport-nft/node-port-source-ranges: " 172.30.0.0/24,fd00:30::/64 "
    nodeport-nft/node-port-nodes: "disk in (ssd,hdd), zone == a, !spot, edge, rack!=r1, arch notin (arm, mips)"
    nodeport-nft/internal-traffic-policy: PreferLocal
    nodeport-nft/weights: 10.244.1.2=3, fd00:244::2=0
spec:
  type: LoadBalancer
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}
  loadBalancerSourceRanges: [192.0.2.0/24, " 198.51.100.0/24"]
  ports: [{port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: hashed, annotations: {nodeport-nft/load-balancing: maglev}}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec: {sessionAffinity: ClientIP, ports: [{port: 80}]}
"""


def test_describe_service_tells_affinity_restrictions_and_weights(program: Program) -> None:
    program.ok("apply", "-f", "-", stdin=RESTRICTED)
    lines = program.ok("describe", "svc/web").splitlines()
    start = lines.index("Session Affinity:            ClientIP (timeout 600s)")
    assert lines[start:] == [
        "Session Affinity:            ClientIP (timeout 600s)",
        "External Traffic Policy:     Cluster",
        "Internal Traffic Policy:     PreferLocal",
        "LoadBalancer Source Ranges:  192.0.2.0/24,198.51.100.0/24",
        "NodePort Source Ranges:      172.30.0.0/24,fd00:30::/64",
        "NodePort Nodes:              disk in (ssd,hdd),zone=a,!spot,edge,rack!=r1,arch notin (arm,mips)",
        "Weights:                     10.244.1.2=3,fd00:244::2=0",
        *NO_ENDPOINTS,
    ]
    hashed = program.ok("describe", "svc/hashed").splitlines()
    start = hashed.index("Session Affinity:         None")
    assert hashed[start + 1 :] == [
        "Internal Traffic Policy:  Cluster",
        "Load Balancing:           maglev",
        *(line.replace("named web", "named hashed") for line in NO_ENDPOINTS),
    ]
    assert "Session Affinity:         ClientIP (timeout 10800s)" in program.ok("describe", "svc/sticky").splitlines()


PREFERRING = """
apiVersion: v1
kind: Service
metadata:
  name: near
  annotations: {nodeport-nft/external-traffic-policy: PreferLocal}
spec: {type: NodePort, ports: [{port: 80}]}
"""
WEIGHED = """
{apiVersion: v1, kind: Pod, metadata: {name: web-1, annotations: {nodeport-nft/weight: "3"}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}, annotations: {nodeport-nft/weight: "0"}}
addressType: IPv4
endpoints: [{addresses: [10.244.1.9]}]
"""


@pytest.mark.parametrize("manifest", [RESTRICTED, PREFERRING, WEIGHED], ids=["restricted", "preferring", "weighed"])
def test_annotations_are_kept_and_what_get_prints_can_be_applied_again(program: Program, manifest: str) -> None:
    program.ok("apply", "-f", "-", stdin=manifest)
    given = list(yaml.safe_load_all(manifest))
    for kind in sorted({item["kind"] for item in given}):
        text = program.ok("get", kind, "-o", "yaml")
        assert set(program.ok("apply", "-f", "-", stdin=text).replace("\n", " ").split()[1::2]) == {"unchanged"}
        kept = {item["metadata"]["name"]: item["metadata"].get("annotations") for item in program.json(kind)["items"]}
        assert kept == {i["metadata"]["name"]: i["metadata"].get("annotations") for i in given if i["kind"] == kind}


def test_describe_names_a_policy_that_an_annotation_sets(program: Program) -> None:
    program.ok("apply", "-f", "-", stdin=PREFERRING)
    assert "External Traffic Policy:  PreferLocal" in program.ok("describe", "svc/near").splitlines()


@pytest.mark.proves("X4")
def test_describe_pod_and_node_lead_to_the_node_address(cluster: Program) -> None:
    assert cluster.ok("describe", "pod", "web-1").splitlines() == [
        "Name:         web-1",
        "Namespace:    default",
        "Node:         worker-1/172.30.1.2",
        "Labels:       app=my-ser",
        "              tier=web",
        "Annotations:  <none>",
        "Status:       Running",
        "IP:           10.244.1.2",
        "IPs:",
        "  IP:  10.244.1.2",
        "Containers:",
        "  nginx:",
        "    Port:  80/TCP (http)",
        "Events:  <none>",
    ]
    assert cluster.ok("describe", "node", "worker-1").splitlines() == [
        "Name:         worker-1",
        "Roles:        edge",
        "Labels:       node-role.kubernetes.io/edge=",
        "Annotations:  <none>",
        "Addresses:",
        "  InternalIP:  172.30.1.2",
        "PodCIDR:   10.244.1.0/24",
        "PodCIDRs:  10.244.1.0/24",
        "Events:  <none>",
    ]


WITHOUT_ENDPOINTS = (
    TWO_NAMED_PORTS
    + """---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
spec:
  nodeName: worker-1
  containers: [{name: main, ports: [{name: http, containerPort: 8080}, {name: metrics, containerPort: 9090}]}]
status: {podIP: 10.244.1.2}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, labels: {app: web}}
spec: {containers: [{name: main}]}
status:
  phase: Pending
  conditions: [{type: Ready, status: "False", reason: "Steers\\e[2J"}]
---
apiVersion: v1
kind: Node
metadata: {name: worker-2}
"""
)


def test_describe_says_of_which_port_and_why_there_is_no_endpoint(program: Program) -> None:
    program.ok("apply", "-f", "-", stdin=WITHOUT_ENDPOINTS)
    lines = program.ok("describe", "svc", "web", "--node-name", "worker-2").splitlines()
    start = lines.index("Port:                     http  80/TCP")
    assert lines[start:] == [
        "Port:                     http  80/TCP",
        "TargetPort:               http/TCP",
        "NodePort:                 http  30080/TCP",
        "Endpoints:                10.244.1.2:8080",
        "Port:                     mon  81/TCP",
        "TargetPort:               monitor/TCP",
        "NodePort:                 mon  30081/TCP",
        "Endpoints:                <none>",
        "Session Affinity:         None",
        "External Traffic Policy:  Local",
        "Internal Traffic Policy:  Cluster",
        "Events:",
        "  Type     Reason           Message",
        "  ----     ------           -------",
        "  Warning  NoPortOfName     port mon: no pod has a port named monitor; web-1 has: http and metrics; "
        "correct the port's targetPort (a number will do), or name the container's port",
        "  Warning  NoPodIP          port mon: pod web-2 has no status.podIP (phase Pending); "
        "write there the address at which the pod is reached, once it has one",
        "  Normal   NoLocalEndpoint  externalTrafficPolicy is Local, and of 1 endpoint none is on worker-2 "
        "(1 on worker-1); connect to a node that has one, or choose the policy Cluster or PreferLocal",
    ]


def test_describe_tells_a_local_policy_only_of_a_node_that_is_known(program: Program) -> None:
    """The machine on which an operator sits may be none of the nodes."""
    program.ok("apply", "-f", "-", stdin=WITHOUT_ENDPOINTS)
    assert "NoLocalEndpoint" not in program.ok("describe", "svc", "web")
    assert "NoLocalEndpoint" not in program.ok("describe", "svc", "web", "--node-name", "worker-1")
    answer = program("describe", "svc", "web", "--node-name", "Worker_1")
    assert (answer.code, answer.out) == (2, "")
    assert "give one with --node-name" in answer.err


def test_what_a_pod_says_of_itself_steers_no_terminal(program: Program) -> None:
    text = WITHOUT_ENDPOINTS.replace("status:\n  phase: Pending\n", "status:\n  podIP: 10.244.1.9\n")
    program.ok(
        "apply", "-f", "-", stdin=text.replace("targetPort: monitor", "targetPort: 1").replace("web-1", "web-9")
    )
    program.ok("delete", "pod", "web-9")
    out = program.ok("describe", "svc", "web")
    assert "pod web-2 is not ready: condition Ready is False, Steers" in out
    assert "\x1b" not in out


def test_describe_of_several_goes_on_past_what_is_not_there(cluster: Program) -> None:
    answer = cluster("describe", "service", "my-ser", "ghost", "quiet")
    assert answer.code == 1
    assert [part.split()[1] for part in answer.out.split("\n\n\n")] == ["my-ser", "quiet"]
    assert answer.err == 'error: service "ghost" not found in namespace default\n'
    assert [part.split()[1] for part in cluster.ok("describe", "svc", "-A").split("\n\n\n")] == [
        "my-ser",
        "out",
        "quiet",
        "dns",
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["get"], "KIND"),
        (["get", "things"], "known are services, endpoints, endpointslices, pods, nodes"),
        (["get", "all", "a"], "write pods,services a"),
        (["get", "svc,things"], "'things' is not a kind known here"),
        (["get", "serivces"], "is services meant?"),
        (["get", "svc", "a", "-A"], "--all-namespaces"),
        (["get", "svc", "-o", "xml"], "xml"),
        (["describe", "svc", "a", "-A"], "--all-namespaces"),
        (["describe", "endpoints", "a"], "try describe service a, or get endpoints a\n"),
        (["describe", "endpoints"], "try describe service, or get endpoints\n"),
        (["describe", "endpointslices", "a"], "get endpointslices a -o yaml"),
        (["hosts", "-f", "missing.yaml"], "missing.yaml"),
    ],
)
def test_wrong_usage_is_told(program: Program, words: list[str], told: str) -> None:
    answer = program(*words)
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err


def test_hosts_names_the_services_of_the_store_and_of_manifests(cluster: Program) -> None:
    dns = "10.96.0.10 {}dns.kube-system dns.kube-system.svc dns.kube-system.svc.{}"
    web = "10.96.5.5 {}my-ser.default my-ser.default.svc my-ser.default.svc.{}"
    local = "cluster.local"
    assert cluster.ok("hosts").splitlines() == [web.format("my-ser ", local), dns.format("", local)]
    assert cluster.ok("hosts", "-n", "kube-system", "--cluster-domain", "lan").splitlines() == [
        web.format("", "lan"),
        dns.format("dns ", "lan"),
    ]
    (cluster.directory / "cluster.yaml").write_text(CLUSTER)
    cluster.ok("delete", "service", "my-ser")
    assert cluster.ok("hosts", "-f", "cluster.yaml").splitlines()[0] == web.format("my-ser ", local)
    assert cluster.ok("hosts").splitlines() == [dns.format("", local)]


def test_what_a_terminal_cannot_show_is_escaped(program: Program) -> None:
    manifest = """
{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "annotations": {"note": "gr\u00fcn"}},
 "spec": {"ports": [{"port": 80}]}}
"""
    program.ok("apply", "-f", "-", stdin=manifest)
    answer = program("describe", "service", "s", env={"PYTHONIOENCODING": "ascii"})
    assert answer.code == 0
    assert "note: gr\\xfcn" in answer.out


def test_a_closed_stdout_is_no_failure(cluster: Program) -> None:
    line = f"'{SCRIPT}' get services --store '{cluster.store}' >&-"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_loads_nothing_heavy() -> None:
    code = """import contextlib, io, sys
from nodeport_nft.cli import app
with contextlib.redirect_stdout(io.StringIO()) as shown:
    app(["--help"], standalone_mode=False)
assert "Look at objects:" in shown.getvalue()
print(*sys.modules)"""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}  # it imports a lot
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    loaded = set(done.stdout.split())
    assert not loaded & {
        "yaml",
        "sqlite3",
        "rich",
        "nftables",
        "pyroute2",
        "nodeport_nft.store",
        "nodeport_nft.model",
    }
    commands = {"nodeport_nft.cli.sync", "nodeport_nft.cli.get.command"}
    assert not loaded & commands, "they come when they are asked for"


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("get se", ["services"]),
        ("get services ", ["my-ser", "out", "quiet"]),
        ("describe svc my-ser ", ["out", "quiet"]),
        ("delete -n kube-system svc ", ["dns"]),
        ("delete pod/web-1 pod/", ["pod/web-2", "pod/web-3"]),
        ("get things ", []),
        ("get --store /dev/null/none svc ", []),
        ("wait --for ", ["synced"]),
        ("get svc -o js", ["json", "jsonpath=", "jsonpath-file=", "jsonpath-as-json="]),
        ("drain e", ["endpoint"]),
        ("drain ", ["worker-1", "endpoint"]),
        ("uncordon endpoint 10.244.1.3 ", ["10.244.1.2", "10.244.1.4"]),
        ("drain node worker-", ["worker-1"]),
    ],
)
def test_the_shell_completes_kinds_and_names(cluster: Program, line: str, offers: list[str]) -> None:
    (cluster.directory / "config.yaml").write_text(f"store: {cluster.store}\n")
    words = ["nodeport-nft", *line.split()[:1], "--config", "config.yaml", *line.split()[1:]]
    blank = line.endswith(" ")
    answer = cluster.run(
        env={
            "_NODEPORT_NFT_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join([*words, *([""] if blank else [])]),
            "COMP_CWORD": str(len(words) - (not blank)),
        }
    )
    assert answer.err == ""
    assert answer.out.split() == offers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (190, "3m10s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (2 * 3600 + 300, "125m"),
        (3 * 3600 + 300, "3h5m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (4 * 86400 + 7200, "4d2h"),
        (8 * 86400 + 7200, "8d"),
        (729 * 86400, "729d"),
        (800 * 86400, "2y70d"),
        (9 * 365 * 86400 + 86400, "9y"),
    ],
)
def test_age_is_told_in_kubectls_steps(seconds: int, text: str) -> None:
    created = (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert age(created, NOW) == text


@pytest.mark.parametrize("timestamp", ["", "yesterday", "2026-01-31T12:00:00"])
def test_an_age_that_cannot_be_told_is_unknown(timestamp: str) -> None:
    assert age(timestamp, NOW) == "<unknown>"


def test_tables_do_not_wrap_and_end_no_line_in_blanks() -> None:
    long = "x" * 200
    assert table(("A", "B"), [(long, ""), ("1", "2")]).split("\n") == [f"A{' ' * 202}B", long, f"1{' ' * 202}2"]


@pytest.mark.parametrize(
    ("items", "text"),
    [([], "<none>"), (["a", "b", "c"], "a,b,c"), (["a", "b", "c", "d"], "a,b,c + 1 more...")],
)
def test_endpoints_are_cut_at_three(items: list[str], text: str) -> None:
    assert few(items) == text


def test_printable_leaves_text_alone_and_escapes_the_rest() -> None:
    assert visible_in("utf-8", "a b\n\tü") == "a b\n\tü"
    assert visible_in("utf-8", "\x1b]0;x\x07\u202e\ud800") == "\\x1b]0;x\\x07\\u202e\\ud800"


def test_a_label_that_is_null_is_an_empty_text_wherever_it_is_shown(program: Program) -> None:
    """As the API reads it; a patch in JSON and a manifest can say so."""
    metadata = '{"name": "web", "labels": {"tier": null}, "annotations": {"note": null}}'
    text = f'{{"apiVersion": "v1", "kind": "Service", "metadata": {metadata}, "spec": {{"ports": [{{"port": 80}}]}}}}'
    program.ok("apply", "-f", "-", stdin=text)
    assert program.ok("get", "svc", "--show-labels", "--no-headers").split()[-1] == "tier="
    assert program.ok("get", "svc", "-l", "tier=", "-o", "name") == "service/web\n"
    assert program.ok("label", "svc", "web", "--list") == "tier=\n"
    assert program.ok("annotate", "svc", "web", "--list") == "note=\n"
    described = [line.split() for line in program.ok("describe", "svc", "web").splitlines()]
    assert described[2:4] == [["Labels:", "tier="], ["Annotations:", "note:"]]
