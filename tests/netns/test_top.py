"""``top``: who gets how many new connections, counted by the kernel while real packets come."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import termios
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
from msgspec.structs import replace

from lab.cluster import Cluster
from lab.probe import connect_many
from nodeport_nft.model import LoadBalancing
from nodeport_nft.observe.rates import AFFINITY, DROPPED, REFUSED, Rates, Sampler
from tests.builders import make_service, make_slice
from tests.cli.program import SCRIPT
from tests.netns.test_counters import CLUSTER_IPS, NODE, NODE_IPS, PROTOCOLS, WEB, Node, pieces

pytestmark = pytest.mark.proves("U4")

COUNT = 6
"""Connections to each address by each protocol."""

SECONDS = 60.0


class Top:
    """A sampler on the node; its clock goes on by a second with each reading, so that a rate is a number."""

    def __init__(self, cluster: Cluster, wanted: Callable[[tuple[str, str]], bool] | None = None) -> None:
        self._namespace = cluster.host(NODE).namespace
        self._readings = 0
        self._sampler = Sampler(wanted, endpoints=True, clock=self._clock)
        assert self._sample() is None

    def _clock(self) -> float:
        self._readings += 1
        return float(self._readings)

    def _sample(self) -> Rates | None:
        with self._namespace.entered():
            return self._sampler.sample()

    def read(self) -> Rates:
        rates = self._sample()
        assert rates is not None
        assert rates.seconds == 1.0
        return rates


def connect(cluster: Cluster, source: str, addresses: tuple[str, ...], port: int) -> Counter[str]:
    """Connections of both protocols to each address; how many each pod has answered."""
    answered: Counter[str] = Counter()
    cluster.run(NODE, ["conntrack", "-F"])  # a UDP flow from a port that one had before it would be none to count
    for protocol in PROTOCOLS:
        for address in addresses:
            outcomes = connect_many(cluster, source, (address, port), protocol, COUNT, timeout=2.0)
            answered += Counter(outcome.name for outcome in outcomes)
    return answered


def by_pod(cluster: Cluster, rates: Rates, pods: tuple[str, ...]) -> Counter[str]:
    """How many connections went to each pod, by the endpoints that were counted."""
    named: dict[str, str] = {}
    for pod in pods:
        named |= {f"{cluster.address(pod)}:8080": pod, f"[{cluster.address(pod, 6)}]:8080": pod}
    found: Counter[str] = Counter()
    for rate in rates.endpoints:
        found[named.get(rate.endpoint, rate.endpoint)] += round(rate.connections)
    return found


EACH = COUNT * len(PROTOCOLS) * 2
WAYS = (("client", NODE_IPS, 30080), ("web-2", CLUSTER_IPS, 80), (NODE, NODE_IPS, 30080))


@pytest.mark.proves("X3")
@pytest.mark.parametrize(
    "service",
    [
        WEB,
        replace(WEB, external_traffic_policy="Local"),
        replace(WEB, load_balancing=LoadBalancing.MAGLEV),
        replace(WEB, weights={"10.244.1.2": 3}),
    ],
    ids=["plain", "policy Local", "consistent hashing", "weights"],
)
def test_services_and_endpoints_have_what_came_and_who_answered(cluster: Cluster, service: object) -> None:
    node = Node(cluster)
    node.put(service, *pieces(cluster))  # type: ignore[arg-type]
    top = Top(cluster)
    for source, addresses, port in WAYS:
        answered = connect(cluster, source, addresses, port)
        assert answered.total() == EACH
        rates = top.read()
        (web,) = rates.services
        assert (web.namespace, web.name, round(web.connections), web.refused) == ("default", "web", EACH, 0)
        assert +by_pod(cluster, rates, ("web-1", "web-3")) == answered
    rates = top.read()
    assert [rate.connections for rate in rates.services] == [0.0]
    assert {rate.connections for rate in rates.endpoints} == {0.0}
    assert set(by_pod(cluster, rates, ("web-1", "web-3"))) == {"web-1", "web-3"}


@pytest.mark.proves("X3")
def test_what_is_refused_or_dropped_or_sticks_to_an_endpoint_is_named(cluster: Cluster) -> None:
    node = Node(cluster)
    top = Top(cluster)
    node.put(WEB)
    connect(cluster, "client", NODE_IPS, 30080)
    rates = top.read()
    assert [round(rate.refused) for rate in rates.services] == [EACH] == [by_pod(cluster, rates, ())[REFUSED]]
    node.put(replace(WEB, external_traffic_policy="Local"), *pieces(cluster, ("web-3",)))
    top.read()
    with cluster.socket("client", 2, 2) as datagrams:  # what is dropped is answered by nobody: do not wait for it
        datagrams.sendto(b"?", (NODE_IPS[0], 30080))
        rates = _until(top, lambda rates: any(rate.connections for rate in rates.services))
        assert +by_pod(cluster, rates, ()) == {DROPPED: 1}
    node.put(replace(WEB, session_affinity_seconds=600), *pieces(cluster))
    top.read()
    assert connect(cluster, "client", NODE_IPS, 30080).total() == EACH
    rates = top.read()
    assert +by_pod(cluster, rates, ()) == {AFFINITY: EACH}
    assert [rate.refused for rate in rates.services] == [0]


def _until(top: Top, fits: Callable[[Rates], bool]) -> Rates:
    deadline = time.monotonic() + SECONDS
    while not fits(rates := top.read()):
        assert time.monotonic() < deadline, "nothing was counted"
    return rates


@pytest.mark.proves("X3")
def test_a_change_of_endpoints_takes_nothing_from_what_comes_after_it(cluster: Cluster) -> None:
    node = Node(cluster)
    top = Top(cluster)
    for pods in (("web-1",), ("web-1", "web-2", "web-3"), ("web-3",)):
        node.put(WEB, *pieces(cluster, pods))
        top.read()  # what was there before
        answered = connect(cluster, "client", NODE_IPS, 30080)
        rates = top.read()
        assert [round(rate.connections) for rate in rates.services] == [EACH]
        assert +by_pod(cluster, rates, pods) == answered


@pytest.mark.proves("X3")
def test_one_service_among_others_is_read_alone(cluster: Cluster) -> None:
    node = Node(cluster)
    node.put(WEB, *pieces(cluster))
    top = Top(cluster, lambda name: name == ("default", "other"))
    assert (top.read().known, top.read().services) == (0, ())
    other = make_service("other", ips=("10.96.0.99",))
    node.put(other, make_slice(str(cluster.address("web-1")), service="other"))
    top.read()
    connect(cluster, "client", NODE_IPS, 30080)
    assert [(rate.name, rate.connections) for rate in top.read().services] == [("other", 0.0)]
    connect_many(cluster, "web-2", ("10.96.0.99", 80), "TCP", 3)
    rates = top.read()
    assert [(rate.name, round(rate.connections)) for rate in rates.services] == [("other", 3)]
    assert by_pod(cluster, rates, ("web-1",)) == {"web-1": 3}


@contextmanager
def traffic(cluster: Cluster) -> Iterator[None]:
    """Connections that come all the time."""
    done = Event()

    def send() -> None:
        while not done.is_set():
            connect_many(cluster, "client", (NODE_IPS[0], 30080), "TCP", 5)

    sending = Thread(target=send)
    sending.start()
    try:
        yield
    finally:
        done.set()
        sending.join(SECONDS)


@pytest.mark.proves("X3")
def test_the_command_prints_once_and_fills_a_terminal(cluster: Cluster) -> None:
    Node(cluster).put(WEB, *pieces(cluster))
    with traffic(cluster):
        words = [str(SCRIPT), "top", "endpoints", "web", "-n", "default", "--interval", "0.5s", "-o", "json"]
        told = json.loads(cluster.run(NODE, words).stdout)
        assert told["servicesServed"] == told["endpointsOfServices"] == 1
        assert {rate["service"] for rate in told["endpoints"]} == {"web"}
        came = {
            rate["endpoint"]: rate["newConnectionsPerSecond"] for rate in told["endpoints"] if rate["port"] == "tcp"
        }
        assert came.keys() >= {f"{cluster.address(pod)}:8080" for pod in ("web-1", "web-3")}
        assert sum(came.values()) > 0
        shown = cluster.run(NODE, [str(SCRIPT), "top", "--interval", "0.5s"])
        assert shown.stdout.splitlines()[0].split() == ["NAMESPACE", "NAME", "NEW/S", "REFUSED/S"]
        assert shown.stdout.splitlines()[1].split()[:2] == ["default", "web"]
        assert "1 of 1 Service had any" in shown.stderr
        _press_keys(cluster, b"\x03", 0)  # Ctrl-C
        _press_keys(cluster, b"", 143)  # SIGTERM


def test_labels_are_those_of_the_store(cluster: Cluster, tmp_path: Path) -> None:
    Node(cluster).put(WEB, *pieces(cluster))
    manifest = tmp_path / "web.yaml"
    manifest.write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, labels: {tier: front}}\nspec: {ports: [{port: 80}]}\n"
    )
    store = ["--store", str(tmp_path / "store.db")]
    cluster.run(NODE, [str(SCRIPT), "apply", "-f", str(manifest), *store])
    words = [str(SCRIPT), "top", *store, "--interval", "0.2s", "-l"]
    assert "default     web" in cluster.run(NODE, [*words, "tier=front"]).stdout
    none = cluster.run(NODE, [*words, "tier=back"], check=False)
    assert (none.returncode, none.stdout) == (1, "")
    assert "serve no Service with tier=back" in none.stderr


def _press_keys(cluster: Cluster, last: bytes, code: int) -> None:
    """The screen: its rows, the keys, and that the terminal is left as it was, however it ends."""
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "20"}
    # A terminal of its own, which Ctrl-C comes from.
    argv = ["setsid", "--ctty", "--wait", str(SCRIPT), "top", "--interval", "0.2s"]
    running = cluster.popen(NODE, argv, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    try:
        seen = _see(ours, b"sort (new connections)")
        assert b"default" in seen
        assert b"no daemon answers" in seen
        for keys, shown in ((b"s", b"sort (refused)"), (b"fnone\r", b"f: filter (none"), (b"\x1b", b"f: filter\x1b")):
            os.write(ours, keys)
            _see(ours, shown)
        if last:
            os.write(ours, last)
        else:
            children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
            os.kill(int(children[0]) if children else running.pid, signal.SIGTERM)
        _see(ours, b"\x1b[?1049l")
        assert running.wait(SECONDS) == code
        assert termios.tcgetattr(theirs) == before
    finally:
        cluster.stop(running)
        os.close(theirs)
        os.close(ours)


def _see(terminal: int, wanted: bytes) -> bytes:
    """All that the screen is sent until the words come."""
    seen, deadline = b"", time.monotonic() + SECONDS
    while wanted not in seen:
        assert time.monotonic() < deadline, f"{wanted!r} was not seen in {seen!r}"
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 1 << 16)
    return seen


def test_without_a_table_or_the_right_to_read_it_says_what_to_do(cluster: Cluster) -> None:
    nothing = cluster.run(NODE, [str(SCRIPT), "top", "--interval", "0.2s"], check=False)
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "program the node with nodeport-nft sync" in nothing.stderr
    argv = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", str(SCRIPT), "top", "--once"]
    refused = cluster.run(NODE, argv, check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "CAP_NET_ADMIN" in refused.stderr
