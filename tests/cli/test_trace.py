"""trace through the installed program: on manifests, on the store, and on the tables in the lab's kernel."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

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
    """What comes before the rules, but for the answer in one line."""
    answer, *lines = trace(program, manifests, *words).partition("\n\n")[0].splitlines()
    assert answer.startswith("answer      ")
    return lines


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
    ("packet", "outcome", "why"),
    [
        (
            (CLIENT, NODE, "--port", "30081"),
            "refused with a tcp reset: default/idle has no endpoint",
            "no selector, and no EndpointSlice or Endpoints named idle; write one, or a selector",
        ),
        (
            (POD, CLUSTER_IP, "--port", "8001"),
            "refused with a tcp reset: the clusterIP has no such port",
            "Service default/my-ser has no port 8001/TCP; it has 8000/TCP",
        ),
        (
            (POD, CLUSTER_IP, "--port", "8000", "--protocol", "UDP"),
            "refused with an icmp error (port unreachable): the clusterIP has no such port",
            "Service default/my-ser has no port 8000/UDP; it has 8000/TCP",
        ),
        (
            (NODE, "10.96.0.99", "--port", "80", "--protocol", "sctp"),
            "dropped: an unallocated clusterIP",
            "no Service has the clusterIP 10.96.0.99; see them with nodeport-nft get services -A",
        ),
    ],
)
def test_why_nothing_is_reached(
    program: Program, manifests: Path, packet: tuple[str, ...], outcome: str, why: str
) -> None:
    text = trace(program, manifests, *packet)
    assert f"\noutcome     {outcome}\n" in text
    assert text.partition("\n")[0].endswith(why)
    assert text.count(why) == 1


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
    assert lines[2] == "outcome     untouched: no rule of ours is for it; it goes on to the node itself"


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
        ((CLIENT, "web_1", "--port", "80"), "TO 'web_1' is neither an address nor a Service"),
        (("svc/my-ser", "pod/my-ser-1"), "FROM svc/my-ser: a Service opens no connections"),
        (("pod/my-ser-1:80", "my-ser"), "leave out the port, which the sender's kernel chooses"),
        ((CLIENT, POD, NODE), "3 ends of one connection"),
        (("my-ser", "8000"), "TO 8000 is a port alone; did you mean my-ser:8000?"),
        ((CLIENT, "my-ser", "--from", POD), "are one end of the connection"),
        (("my-ser:80", "--port", "81"), "are two ports"),
        (("deploy/web",), "deploy is nothing that connections go to"),
        (("shop/web",), "a Service in namespace shop is web.shop"),
        (("http://my-ser/",), "is a URL"),
        (("my-ser:70000",), "neither a number from 1 to 65535 nor a name"),
        (("node/worker-1:http",), "only Services and pods have names for ports"),
        (("172.30.01.2", NODE, "--port", "80"), "FROM '172.30.01.2' is not an address"),
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


# --- names ------------------------------------------------------------------------------------------------


def answer_of(program: Program, manifests: Path, *words: str) -> tuple[str, str]:
    """The answer in one line, and the packet that it is about."""
    done = program.run("trace", "-f", str(manifests), *words)
    assert done.code == 0, done.err
    first, second, *_ = done.out.splitlines()
    return first.removeprefix("answer      "), re.split(r", from | \(\w+\)$", second.removeprefix("packet      "))[0]


OUTSIDE = "a client outside (192.0.2.1, for example)"
REACHED = "reaches default/my-ser, one of 3 endpoints: 10.244.1.2:80, 10.244.1.3:80, 10.244.2.2:80"


@pytest.mark.parametrize(
    ("words", "answer", "packet"),
    [
        ("svc/my-ser", REACHED, f"{OUTSIDE} → 10.96.0.10 tcp port 8000"),
        ("service/my-ser:8000", REACHED, f"{OUTSIDE} → 10.96.0.10 tcp port 8000"),
        ("my-ser --port 8000", REACHED, f"{OUTSIDE} → 10.96.0.10 tcp port 8000"),
        (
            "my-ser.default.svc.cluster.local",
            REACHED,
            f"{OUTSIDE} → 10.96.0.10 tcp port 8000",
        ),
        ("my-ser:30080", REACHED, f"{OUTSIDE} → 172.30.1.2 tcp port 30080"),
        ("node/worker-2:30080", REACHED, f"{OUTSIDE} → 172.30.2.2 tcp port 30080"),
        ("pod/{pod} svc/my-ser", REACHED, "10.244.1.2 → 10.96.0.10 tcp port 8000"),
        ("my-ser --from node/worker-2", REACHED, "172.30.2.2 → 10.96.0.10 tcp port 8000"),
        ("10.96.0.10:8000 --from 198.51.100.7", REACHED, "198.51.100.7 → 10.96.0.10 tcp port 8000"),
        (
            "localhost:30080 --node-name worker-1",
            "nothing is there: nodePorts are not served on loopback (30080 is default/my-ser's); "
            "try 172.30.1.2:30080",
            "127.0.0.1 → 127.0.0.1 tcp port 30080",
        ),
        (
            "node/worker-1:30800",
            "nothing is there: no Service has nodePort 30800 here; did you mean 30080 (default/my-ser)?",
            f"{OUTSIDE} → 172.30.1.2 tcp port 30800",
        ),
        (
            "node/worker-1:8000",
            "nothing is there: no Service has nodePort 8000 here: 8000 is a port for clusterIPs; "
            "its nodePort is 30080 (default/my-ser)",
            f"{OUTSIDE} → 172.30.1.2 tcp port 8000",
        ),
        (
            "node/worker-1:30080 --protocol udp",
            "nothing is there: no Service has nodePort 30080 here for UDP: default/my-ser has it for TCP; "
            "try --protocol tcp",
            f"{OUTSIDE} → 172.30.1.2 udp port 30080",
        ),
        (
            "172.30.1.9:30080 --node-name worker-1 --node-ip 172.30.1.2 --node-ip fd00:30:1::2 --from 172.30.1.2",
            "nothing is there: no Service has the address 172.30.1.9; see them with nodeport-nft get services -A",
            "172.30.1.2 → 172.30.1.9 tcp port 30080",
        ),
        (
            "idle",
            "refused: default/idle has no endpoint for it: no selector, "
            "and no EndpointSlice or Endpoints named idle; write one, or a selector",
            f"{OUTSIDE} → 10.96.0.11 tcp port 80",
        ),
        (
            "my-ser:30081",
            "refused: Service default/my-ser has no port 30081/TCP; it has 8000/TCP",
            f"{OUTSIDE} → 10.96.0.10 tcp port 30081",
        ),
        (
            "10.96.0.10:30080",
            "refused: Service default/my-ser has no port 30080/TCP; it has 8000/TCP; "
            "30080 is its nodePort, which is for the addresses of nodes",
            f"{OUTSIDE} → 10.96.0.10 tcp port 30080",
        ),
        (
            "pod/{pod}:80",
            "nobody is asked: 10.244.1.2 is Pod default/{pod} itself, and no Service is in between; "
            "nothing is translated, so nothing of ours can be in the way",
            f"{OUTSIDE} → 10.244.1.2 tcp port 80",
        ),
    ],
)
def test_ends_have_names(program: Program, manifests: Path, words: str, answer: str, packet: str) -> None:
    pod = pod_at(manifests, POD)
    named = [word.format(pod=pod) for word in words.split()]
    assert answer_of(program, manifests, *named) == (answer.format(pod=pod), packet)


def pod_at(manifests: Path, address: str) -> str:
    """The name of the example's pod of this address."""
    pods = (each for each in yaml.safe_load_all(manifests.read_text()) if each and each["kind"] == "Pod")
    return str(next(each["metadata"]["name"] for each in pods if each["status"]["podIP"] == address))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("my-srv", "there is no Service my-srv in namespace default; did you mean my-ser?"),
        ("my-ser.shop", "there is no Service my-ser in namespace shop; there is one as my-ser.default"),
        ("svc/my-srv.shop", "there is no Service my-srv in namespace shop; did you mean my-ser.default?"),
        ("quite-another", "there is no Service quite-another in namespace default; nodeport-nft get services"),
        ("my-ser:https", "Service default/my-ser has no port https; it has 8000/TCP"),
        ("node/wroker-1:80", "there is no Node wroker-1; did you mean worker-1"),
        ("my-ser --from pod/nobody", "there is no Pod nobody in namespace default; nodeport-nft get pods"),
        ("pod/nobody.shop:80", "there is no Pod nobody.shop in namespace default"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_what_is_near(
    program: Program, manifests: Path, words: str, message: str
) -> None:
    done = program.run("trace", "-f", str(manifests), *words.split())
    assert (done.code, done.out) == (1, "")
    assert f"error: {message}" in done.err


def test_names_are_looked_up_in_the_store_and_completed_from_it(program: Program, manifests: Path) -> None:
    program.ok("apply", "-f", str(manifests))
    answer = program("trace", "svc/my-ser", "--node-name", "worker-1")
    assert (answer.code, answer.out.splitlines()[0]) == (0, f"answer      {REACHED}")
    offered = {}
    for word in ("s", "svc/", "node/worker-", "no/such/thing", "deploy/"):
        line = f"nodeport-nft trace --store {program.store} {word}"
        words = {"_NODEPORT_NFT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "4"}
        offered[word] = program.run(env=words).out.split()
    assert offered == {
        "s": ["svc/"],
        "svc/": ["svc/idle", "svc/my-ser"],
        "node/worker-": ["node/worker-1", "node/worker-2"],
        "no/such/thing": [],
        "deploy/": [],
    }


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
    out, _ = on_node(cluster, "trace", *packet, "--live", "--store", str(program.store))
    assert_same_walk(out, trace(program, manifests, *packet))


def assert_same_walk(live: str, of_manifests: str) -> None:
    """The same to the letter, but that of manifests it says which things of the node it has not seen."""
    text, label, _ = of_manifests.partition("\n\nnot seen")
    assert (live.rstrip("\n"), bool(label)) == (text.rstrip("\n"), of_manifests.startswith("answer      reaches"))


def test_live_knows_the_node_from_the_store(cluster: Cluster, program: Program, manifests: Path) -> None:
    """In this mode there are rules that depend on the Node having a podCIDR."""
    config = program.directory / "config.yaml"
    config.write_text(f"detectLocalMode: NodeCIDR\nstore: {program.store}\n")
    named = ("--node-name", "worker-1", "--config", str(config))
    on_node(cluster, "sync", "--once", "-f", str(manifests), *named)
    packet = (CLIENT, CLUSTER_IP, "--port", "8000")
    out, _ = on_node(cluster, "trace", *packet, *named, "--live")
    assert_same_walk(out, trace(program, manifests, *packet, "--config", str(config)))
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


def test_what_is_behind_our_tables_counts_on_the_node_itself(
    cluster: Cluster, program: Program, manifests: Path
) -> None:
    """Forwarding that is off, and a chain of others; of either, the remedy makes the answer a good one."""
    sync(cluster, program, manifests)
    packet = ("trace", CLIENT, NODE, "--port", "30080", "--live")
    drop = "add table ip wall; add chain ip wall forward { type filter hook forward priority 0; policy drop; }"
    cluster.sysctl("worker-1", {"net.ipv4.ip_forward": "0"})
    try:
        out, _ = on_node(cluster, *packet)
        cluster.nft("worker-1", drop)
        both, _ = on_node(cluster, *packet, "-o", "json")
        own, _ = on_node(cluster, "trace", NODE, NODE, "--port", "30080", "--live")
    finally:
        cluster.sysctl("worker-1", {"net.ipv4.ip_forward": "1"})
    assert out.startswith("answer      would reach default/my-ser, one of 3 endpoints: ")
    assert ", but net.ipv4.ip_forward is not 1: connections are not forwarded to pods; sysctl -w" in out
    assert [each["reason"] for each in json.loads(both)["obstacles"]] == ["NotForwarded", "FirewallInTheWay"]
    assert own.startswith("answer      reaches ")
    out, _ = on_node(cluster, *packet)
    assert re.match(r"answer +would reach .*, but chain .*ip wall forward.* drops by default", out)
    cluster.nft("worker-1", "delete table ip wall")
    out, _ = on_node(cluster, *packet)
    assert (out.startswith("answer      reaches "), "not seen" in out) == (True, False)


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
    assert ": no selector, and no EndpointSlice or Endpoints named idle; write one, or a selector\npacket " in out
    named, _ = on_node(cluster, "trace", "svc/idle:30081", "--live", "--store", str(program.store))
    assert named.startswith("answer      refused: default/idle has no endpoint for it: no selector, ")
    out, _ = on_node(cluster, *packet, "--store", str(program.directory / "none.db"))
    assert "no selector" not in out
    filled = """
apiVersion: v1
kind: Endpoints
metadata: {name: idle}
subsets: [{addresses: [{ip: 10.244.1.2}], ports: [{port: 80}]}]
"""
    program.ok("apply", "-f", "-", stdin=filled)
    out, _ = on_node(cluster, *packet, "--store", str(program.store))
    assert "do not say why: the kernel has other tables than they would give; see what differs" in out
