"""The DaemonSet on a node of the lab: what it may do is enough, and what it may ask is what it asks."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.cluster import Cluster
from lab.outcome import Kind
from lab.probe import connect
from tests.conftest import RESPONDER_PORTS
from tests.daemon.running import wait_for
from tests.kubernetes.container import Container
from tests.kubernetes.manifests import BASE, KUBEADM, Manifest, built, container, the
from tests.kubernetes.running import NODE_ACCOUNT, ApiServer, apiserver
from tests.kubernetes.test_events import RBAC, Recorder

NODE_PORT = 30080


@contextmanager
def api_server(cluster: Cluster, directory: Path) -> Iterator[ApiServer]:
    """An API server on the router, which nodes reach without a Service."""
    with apiserver(
        directory,
        listen="172.30.1.1:6443",
        rbac=[RBAC],
        tokens={"node-token": NODE_ACCOUNT},
        service_cidrs=["10.96.0.0/16"],
        popen=partial(cluster.popen, "router"),
    ) as made:
        made.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "worker-1"}})
        addresses = [{"type": "InternalIP", "address": str(cluster.address("worker-1"))}]
        made.patch_status("Node", "", "worker-1", {"addresses": addresses})
        yield made


@pytest.fixture(scope="module")
def own_cluster(private_namespaces: None) -> Iterator[Cluster]:  # noqa: ARG001 (it has to come first)
    """One where nobody has used the old iptables yet: its tables stay, and without CAP_NET_RAW they are a problem."""
    with Cluster(pods={"web-1": "worker-1"}) as made:
        made.start_responder("web-1", RESPONDER_PORTS)
        yield made


@pytest.fixture
def cluster(own_cluster: Cluster) -> Cluster:
    own_cluster.reset()
    return own_cluster


@pytest.fixture
def server(cluster: Cluster, tmp_path: Path) -> Iterator[ApiServer]:
    with api_server(cluster, tmp_path / "server") as made:
        yield made


def publish(server: ApiServer, cluster: Cluster, name: str, **spec: Any) -> None:
    """A Service in front of pod web-1."""
    server.create(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"ports": [{"port": 80, "targetPort": 8080}], **spec},
        }
    )
    server.create(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}-1",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4",
            "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": [str(cluster.address("web-1"))], "conditions": {"ready": True}}],
        }
    )


KUBEADMS_OWN = yaml.safe_load((Path(__file__).parent / "kubeadm-kube-proxy.yaml").read_text())
"""The ConfigMap that kubeadm makes."""


@pytest.fixture(params=["base", "kubeadm"])
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return built(BASE) if request.param == "base" else [*built(KUBEADM), KUBEADMS_OWN]


@pytest.mark.proves("W8")
def test_what_the_manifests_let_it_do_is_enough_and_no_more_is_asked(
    cluster: Cluster, server: ApiServer, manifests: list[Manifest], tmp_path: Path
) -> None:
    """CAP_NET_ADMIN, files that are read-only, and the ClusterRole: a packet goes through, Events are written."""
    publish(server, cluster, "web", type="NodePort", externalIPs=["192.0.2.1"])
    serves(Container(manifests, tmp_path / "container"), cluster, server, tmp_path / "log")


def test_an_api_server_that_is_away_at_the_start_is_waited_for(
    cluster: Cluster, server: ApiServer, tmp_path: Path
) -> None:
    """No liveness probe ends it for that, however long it takes; readiness says that it serves nothing yet."""
    publish(server, cluster, "web")
    server.stop()
    node = Container(built(BASE), tmp_path / "container")
    process = node.start(cluster, "worker-1", server, tmp_path / "log")

    def asked(port: int, path: str) -> str:
        argv = ["curl", "-s", "--max-time", "30", "-w", "\n%{http_code}", f"http://127.0.0.1:{port}/{path}"]
        return cluster.run("worker-1", argv, check=False).stdout

    try:
        wait_for(lambda: '"waits_for_store": true' in asked(10249, "status"), "a daemon that waits")
        assert asked(10256, "livez").endswith("\n200")
        assert asked(10256, "healthz").endswith("\n503")
        server.start()
        wait_for(lambda: asked(10256, "healthz").endswith("\n200"), "the first sync")
        wait_for(lambda: '"waits_for_store": false' in asked(10249, "status"), "that it waits no longer")
        assert "default/web" in cluster.ruleset("worker-1")
    finally:
        cluster.stop(process)


def test_on_the_way_back_it_takes_its_tables_with_it(cluster: Cluster, server: ApiServer, tmp_path: Path) -> None:
    """With --cleanup-on-exit, as docs/kubernetes.md has it: the file system is read-only then, too."""
    manifests = built(BASE)
    container(manifests)["args"].append("--cleanup-on-exit")
    publish(server, cluster, "web")
    running = Container(manifests, tmp_path / "container")
    process = running.start(cluster, "worker-1", server, tmp_path / "log")
    try:
        wait_for(lambda: "default/web" in cluster.ruleset("worker-1"), "the tables")
        os.kill(running.program(process), signal.SIGTERM)
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
    finally:
        cluster.stop(process)
    assert "nodeport-nft" not in cluster.ruleset("worker-1"), (tmp_path / "log").read_text()


def serves(node: Container, cluster: Cluster, server: ApiServer, log: Path) -> None:
    """Start it on worker-1, where it makes Service web answer and tells of its trouble with another; and end it."""
    process = node.start(cluster, "worker-1", server, log)
    try:
        address = str(cluster.address("worker-1"))
        [port] = server.get("Service", "default", "web")["spec"]["ports"]

        def reached() -> bool:
            assert process.poll() is None, log.read_text()
            return connect(cluster, "client", (address, port["nodePort"])).kind is Kind.REACHED

        wait_for(reached, "a packet from the client to the pod")
        status = Path(f"/proc/{node.program(process)}/status").read_text()
        held = re.findall(r"^(?:CapPrm|CapEff|CapBnd):\t([0-9a-f]+)$", status, re.MULTILINE)
        assert {int(mask, 16) for mask in held} == {1 << 12}, "CAP_NET_ADMIN and no other"
        for path in ("livez", "healthz"):
            cluster.run("worker-1", ["curl", "-sf", "--max-time", "30", f"http://127.0.0.1:10256/{path}"])

        publish(server, cluster, "web-late", externalIPs=["192.0.2.1"])
        wait_for(lambda: server.list("Event"), "an Event about the contested address")
        [event] = server.list("Event")
        assert (event["regarding"]["name"], event["reason"]) == ("web-late", "FrontendContested")
        assert event["note"].startswith("192.0.2.1 tcp 80 is held by Service/default/web, which ")

        os.kill(node.program(process), signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
    finally:
        cluster.stop(process)
    assert "Traceback" not in log.read_text(), log.read_text()
    assert "default/web" in cluster.ruleset("worker-1"), "an end leaves the rules"
    assert [
        line for line in log.read_text().splitlines() if '"problem"' in line and "default/web-late" not in line
    ] == []


@pytest.mark.proves("W8")
def test_the_role_is_what_is_asked_for(cluster: Cluster, server: ApiServer, tmp_path: Path) -> None:
    """Both ways: nothing is missing in it, and nothing is in it that nobody asks for."""
    manifests = built(BASE)
    publish(server, cluster, "web")
    recorder = Recorder(server, "worker-1", partial(cluster.popen, "worker-1"))
    recorder.tell(["Service", "default", "web", "KernelRefused", "no"])
    wait_for(lambda: server.list("Event"), "an Event")
    recorder.advance(3000)  # it is renewed after half an hour
    wait_for(lambda: server.list("Event")[0].get("series"), "the Event renewed")
    recorder.close()
    for streaming in ("on", "off"):  # an older server wants lists
        server.options(streaming=streaming)
        cluster.nft("worker-1", "flush ruleset")
        process = Container(manifests, tmp_path / streaming).start(cluster, "worker-1", server, tmp_path / "log")
        try:
            wait_for(lambda: "default/web" in cluster.ruleset("worker-1"), "the tables")
        finally:
            cluster.stop(process)
    granted = {
        (verb, group, resource)
        for rule in the(manifests, "ClusterRole")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    asked = [entry for entry in server.requests() if entry["user"] == NODE_ACCOUNT]
    assert {entry["status"] for entry in asked} & {401, 403} == set()
    assert {(entry["verb"], entry["group"], entry["resource"]) for entry in asked} == granted
    assert {entry["subresource"] for entry in asked} == {""}
    nodes = {entry["name"] for entry in asked if entry["resource"] == "nodes"}
    assert nodes == {"worker-1"}, "no other Node is looked at"
