"""trace through the installed program: on manifests, on the store, and on the tables in the lab's kernel."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from lab.cluster import Cluster
from tests.cli.program import SCRIPT, Program

pytestmark = pytest.mark.proves("X4")

EXAMPLE = Path(__file__).parents[2] / "examples" / "my-ser.yaml"
FIXED = """
apiVersion: v1
kind: Service
metadata: {name: my-ser}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  selector: {app: my-ser}
  ports: [{port: 8000, targetPort: 80, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: idle}
spec:
  type: NodePort
  clusterIP: 10.96.0.11
  ports: [{port: 80, nodePort: 30081}]
---
"""
"""The example's service with addresses that a test can name, and one without endpoints."""

CLIENT, NODE, POD, CLUSTER_IP = "172.30.0.10", "172.30.1.2", "10.244.1.2", "10.96.0.10"
MASQUERADED = "sees an address of this node (masqueraded)"


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """The example with ``FIXED`` in the place of its service."""
    documents = EXAMPLE.read_text().split("\n---\n")
    path = tmp_path / "web.yaml"
    path.write_text(FIXED + "\n---\n".join(documents[1:]))
    return path


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def trace(program: Program, manifests: Path, *words: str) -> str:
    answer = program.run("trace", "-f", str(manifests), "--node-name", "worker-1", *words)
    assert answer.code == 0, answer.err
    return answer.out


def summary(program: Program, manifests: Path, *words: str) -> list[str]:
    """What comes before the rules."""
    return trace(program, manifests, *words).partition("\n\n")[0].splitlines()


def outcomes(program: Program, manifests: Path, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(trace(program, manifests, *words, "-o", "json"))["outcomes"]
    assert sum(Fraction(outcome["probability"]) for outcome in found) == 1
    return found


@pytest.mark.parametrize(
    ("packet", "flags", "frontend", "seen"),
    [
        ((CLIENT, NODE, "--port", "30080"), (), "node-ports: tcp . 30080", [MASQUERADED] * 3),
        ((NODE, NODE, "--port", "30080"), (), "node-ports: tcp . 30080", [MASQUERADED] * 3),
        ((POD, NODE, "--port", "30080"), (), "node-ports: tcp . 30080", [MASQUERADED] * 3),
        (
            (POD, CLUSTER_IP, "--port", "8000"),
            (),
            "service-ips: 10.96.0.10 . tcp . 8000",
            [MASQUERADED, f"sees {POD}", f"sees {POD}"],  # the first is the pod itself
        ),
        (
            (CLIENT, CLUSTER_IP, "--port", "8000"),
            ("--cluster-cidr", "10.244.0.0/16"),
            "service-ips: 10.96.0.10 . tcp . 8000",
            [MASQUERADED] * 3,
        ),
        (
            (POD, NODE, "--port", "31000"),
            ("--nodeport-addresses", "all"),
            None,
            [],
        ),
    ],
)
def test_who_reaches_whom(
    program: Program,
    manifests: Path,
    packet: tuple[str, ...],
    flags: tuple[str, ...],
    frontend: str | None,
    seen: list[str],
) -> None:
    lines = summary(program, manifests, *packet, *flags)
    whence = "a process on the node (output)" if packet[0] == NODE else "a pod or from outside the node (prerouting)"
    assert lines[0] == f"packet      {packet[0]} → {packet[1]} tcp port {packet[3]}, from {whence}"
    if frontend is None:
        assert lines[1:] == [
            "frontend    none",
            "outcome     untouched: no rule of ours is for it; it goes on to the node itself",
        ]
        return
    assert lines[1].startswith(f"frontend    {frontend} (default/my-ser) → ")
    endpoints = [line[12:] for line in lines if ":80 " in line]
    assert [line.split()[0] for line in endpoints] == ["10.244.1.2:80", "10.244.1.3:80", "10.244.2.2:80"]
    assert [line.split()[1] for line in endpoints] == ["33.34", "33.34", "33.33"]
    assert [line.partition(" %  ")[2] for line in endpoints] == seen
    assert lines[-1] == "outcome     forwarded"


@pytest.mark.parametrize(
    ("source", "cluster", "local"),
    [
        (POD, {1: MASQUERADED, 2: MASQUERADED, 3: MASQUERADED}, {1: MASQUERADED, 2: f"sees {POD}", 3: f"sees {POD}"}),
        (NODE, dict.fromkeys((1, 2, 3), MASQUERADED), dict.fromkeys((1, 2, 3), MASQUERADED)),
        (CLIENT, dict.fromkeys((1, 2, 3), MASQUERADED), {1: f"sees {CLIENT}", 2: f"sees {CLIENT}"}),
    ],
    ids=["pod", "node", "client"],
)
def test_both_external_policies(
    program: Program, manifests: Path, source: str, cluster: dict[int, str], local: dict[int, str]
) -> None:
    addresses = {1: "10.244.1.2:80", 2: "10.244.1.3:80", 3: "10.244.2.2:80"}
    text = manifests.read_text()
    for policy, expected in (("Cluster", cluster), ("Local", local)):
        manifests.write_text(text.replace("type: NodePort", f"type: NodePort\n  externalTrafficPolicy: {policy}", 1))
        lines = summary(program, manifests, source, NODE, "--port", "30080", "--cluster-cidr", "10.244.0.0/16")
        endpoints = {line[12:].split()[0]: line.partition(" %  ")[2] for line in lines if ":80 " in line}
        assert endpoints == {addresses[number]: seen for number, seen in expected.items()}
        assert lines[-1] == "outcome     forwarded"


@pytest.mark.parametrize(
    ("packet", "outcome"),
    [
        ((CLIENT, NODE, "--port", "30081"), "refused with a tcp reset: default/idle has no endpoint"),
        ((POD, CLUSTER_IP, "--port", "8001"), "refused with a tcp reset: the clusterIP has no such port"),
        (
            (POD, CLUSTER_IP, "--port", "8000", "--protocol", "UDP"),
            "refused with an icmp error (port unreachable): the clusterIP has no such port",
        ),
        ((NODE, "10.96.0.99", "--port", "80", "--protocol", "sctp"), "dropped: an unallocated clusterIP"),
    ],
)
def test_why_nothing_is_reached(program: Program, manifests: Path, packet: tuple[str, ...], outcome: str) -> None:
    lines = summary(program, manifests, *packet)
    assert f"outcome     {outcome}" in lines
    # Why is told of a Service without endpoints alone.
    assert [line for line in lines if line.startswith("why ")] == (
        ["why         no selector, and no EndpointSlice or Endpoints named idle; write one, or a selector"]
        if "idle" in outcome
        else []
    )


@pytest.mark.parametrize(("source", "hook"), [(NODE, "output"), ("127.0.0.1", "output"), (CLIENT, "prerouting")])
def test_an_address_of_the_node_stands_for_a_process_there(
    program: Program, manifests: Path, source: str, hook: str
) -> None:
    words = (source, NODE, "--port", "30080", "-o", "json")
    assert json.loads(trace(program, manifests, *words))["packet"]["hook"] == hook


def test_node_ip_counts_as_an_address_of_the_node(program: Program, manifests: Path) -> None:
    words = ("192.0.2.1", NODE, "--port", "30080", "--node-ip", "192.0.2.1")
    lines = summary(program, manifests, *words)
    assert "from a process on the node (output)" in lines[0]
    assert lines[-1] == "outcome     untouched: no rule of ours is for it; it goes on to the node itself"


def test_json_has_exact_probabilities(program: Program, manifests: Path) -> None:
    found = outcomes(program, manifests, POD, CLUSTER_IP, "--port", "8000")
    assert [(o["destination"], o["port"], o["source"]) for o in found] == [
        (POD, 80, None),
        ("10.244.1.3", 80, POD),
        ("10.244.2.2", 80, POD),
    ]
    assert [Fraction(o["probability"]) for o in found] == [Fraction(2731, 8192)] * 2 + [Fraction(2730, 8192)]


def test_the_store_is_traced_without_manifests(program: Program, manifests: Path) -> None:
    program.ok("apply", "-f", str(manifests))
    answer = program("trace", CLIENT, NODE, "--port", "30080", "--node-name", "worker-1")
    assert answer.code == 0
    assert answer.out == trace(program, manifests, CLIENT, NODE, "--port", "30080")


def test_nothing_is_written(program: Program, manifests: Path) -> None:
    answer = program("trace", CLIENT, NODE, "--port", "30080", "-f", str(manifests))
    assert answer.code == 0
    assert not program.store.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((CLIENT, "web", "--port", "80"), "TO 'web' is no address"),
        (("172.30.01.2", NODE, "--port", "80"), "FROM '172.30.01.2' is no address"),
        ((CLIENT, "fd00:30:1::2", "--port", "80"), "are of two families"),
        (("fe80::1%eth0", "fd00:30:1::2", "--port", "80"), "leave out the zone"),
        ((CLIENT, NODE), "--port"),
        ((CLIENT, NODE, "--port", "0"), "--port"),
        ((CLIENT, NODE, "--port", "80", "--protocol", "icmp"), "icmp"),
        ((CLIENT, NODE, "--port", "80", "--live"), "-f and --live are two sources"),
        ((CLIENT, NODE, "--port", "80", "--node-name", "../etc"), "is not an RFC 1123 subdomain"),
        ((CLIENT, NODE, "--port", "80", "--cluster-cidr", "10.0.0.1/8"), "write 10.0.0.0/8"),
        ((CLIENT, NODE, "--port", "80", "--cluster-cidr", "10.244.0.0"), "has no prefix length; write 10.244.0.0/16"),
        ((CLIENT, NODE, "--port", "80", "-f", "/nonexistent"), "/nonexistent"),
    ],
)
def test_wrong_input(program: Program, manifests: Path, words: tuple[str, ...], message: str) -> None:
    answer = program("trace", "-f", str(manifests), *words)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err


def test_without_a_source_it_says_what_to_give(program: Program) -> None:
    answer = program("trace", CLIENT, NODE, "--port", "80")
    assert (answer.code, answer.out) == (2, "")
    assert f"there is no store {program.store}; give manifests with -f" in answer.err


# --- the kernel's tables ----------------------------------------------------------------------------------


def on_node(cluster: Cluster, *words: str, code: int = 0) -> tuple[str, str]:
    done = cluster.run("worker-1", [str(SCRIPT), *words], check=False)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def sync(cluster: Cluster, program: Program, manifests: Path) -> None:
    words = ("sync", "--once", "-f", str(manifests), "--node-name", "worker-1", "--store", str(program.store))
    on_node(cluster, *words)


@pytest.mark.parametrize(
    "packet",
    [
        (CLIENT, NODE, "--port", "30080"),
        (NODE, NODE, "--port", "30080"),
        (POD, CLUSTER_IP, "--port", "8000"),
        (POD, "10.96.0.99", "--port", "80"),
        ("fd00:244:1::2", "fd00:10:96::99", "--port", "80"),
    ],
)
def test_live_says_what_the_manifests_say(
    cluster: Cluster, program: Program, manifests: Path, packet: tuple[str, ...]
) -> None:
    sync(cluster, program, manifests)
    out, _ = on_node(cluster, "trace", *packet, "--live")
    assert out == trace(program, manifests, *packet)


def test_live_knows_the_node_from_the_store(cluster: Cluster, program: Program, manifests: Path) -> None:
    """In this mode there are rules that depend on the Node having a podCIDR."""
    config = program.directory / "config.yaml"
    config.write_text(f"detectLocalMode: NodeCIDR\nstore: {program.store}\n")
    named = ("--node-name", "worker-1", "--config", str(config))
    on_node(cluster, "sync", "--once", "-f", str(manifests), *named)
    packet = (CLIENT, CLUSTER_IP, "--port", "8000")
    out, _ = on_node(cluster, "trace", *packet, *named, "--live")
    assert out == trace(program, manifests, *packet, "--config", str(config))
    assert out.count(MASQUERADED) == 3


def test_live_follows_what_the_kernel_holds(cluster: Cluster, program: Program, manifests: Path) -> None:
    """Somebody has taken an endpoint out: its slot is drawn in vain, and the kernel draws again."""
    sync(cluster, program, manifests)
    packet = ("trace", CLIENT, NODE, "--port", "30080", "--live")
    cluster.nft("worker-1", "delete element ip nodeport-nft node-port-endpoints { tcp . 30080 . 2 }")
    out, _ = on_node(cluster, *packet)
    assert "of 4 slots, 2 of them filled" in out
    assert "10.244.2.2" not in out
    cluster.nft("worker-1", "delete element ip nodeport-nft node-ports { tcp . 30080 }")
    out, _ = on_node(cluster, *packet)
    assert "untouched: no rule of ours is for it" in out
    cluster.nft("worker-1", "add element ip nodeport-nft node-ports { tcp . 30080 : drop }")
    _, err = on_node(cluster, *packet, code=1)
    assert "cannot be followed" in err


def test_live_refuses_tables_it_does_not_know(cluster: Cluster, program: Program, manifests: Path) -> None:
    packet = ("trace", CLIENT, NODE, "--port", "30080", "--live")
    _, err = on_node(cluster, *packet, code=1)
    assert "the kernel has no table ip nodeport-nft; program the node with nodeport-nft sync --once" in err
    sync(cluster, program, manifests)
    _, err = on_node(cluster, *packet, "--masquerade-bit", "5", code=1)
    assert "is not of this program's schema" in err
    cluster.nft("worker-1", "insert rule ip nodeport-nft services drop")
    _, err = on_node(cluster, *packet, code=1)
    assert "is not of this program's schema" in err
    assert "nodeport-nft sync --once" in err


def test_live_says_why_there_is_no_endpoint_or_that_the_objects_do_not_say(
    cluster: Cluster, program: Program, manifests: Path
) -> None:
    """The kernel knows of no causes; the store does, if it is that of the tables."""
    sync(cluster, program, manifests)
    packet = ("trace", CLIENT, NODE, "--port", "30081", "--live", "--node-name", "worker-1")
    out, _ = on_node(cluster, *packet, "--store", str(program.store))
    assert (
        "\nwhy         no selector, and no EndpointSlice or Endpoints named idle; write one, or a selector\n" in out
    )
    out, _ = on_node(cluster, *packet, "--store", str(program.directory / "none.db"))
    assert "\nwhy " not in out
    filled = """
apiVersion: v1
kind: Endpoints
metadata: {name: idle}
subsets: [{addresses: [{ip: 10.244.1.2}], ports: [{port: 80}]}]
"""
    program.ok("apply", "-f", "-", stdin=filled)
    out, _ = on_node(cluster, *packet, "--store", str(program.store))
    assert "do not say why: the kernel has other tables than they would give; see what differs" in out
