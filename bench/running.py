"""One scenario: everyone who can carry it, in turns, so that a slow moment of the machine hits all alike."""

from __future__ import annotations

import contextlib
import gc
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench import traffic
from bench.accounting import kernel_account
from bench.contestants.contestant import Contestant
from bench.figures import percentile
from bench.measuring import QUIET_SECONDS, NotDone
from bench.node import Node
from bench.scenario import Scenario
from bench.workload import NODE_ADDRESS, TARGET_PORT, UDP_NODE_PORT, UDP_TARGET_PORT, Workload, address

Samples = dict[str, list[float]]
"""What was measured, by its name with the unit: all samples."""

Makers = dict[str, Callable[[Node, Path], Contestant]]

DIRECT = "direct, no table"
TARGETS = 100
"""Services that connections are made to, in turn."""

_CHANGES_SECONDS = 120.0


class Results:
    """The samples of each contestant, and why there are none of somebody."""

    def __init__(self) -> None:
        self.samples: dict[str, Samples] = {}
        self.notes: dict[str, str] = {}

    def add(self, name: str, what: str, *values: float) -> None:
        self.samples.setdefault(name, {}).setdefault(what, []).extend(values)


def run(scenario: Scenario, makers: Makers) -> Results:
    """All that the scenario asks for. Who fails or takes too long is noted and left out from then on."""
    results = Results()
    random.seed(1)
    with contextlib.ExitStack() as stack:
        contestants: list[Contestant] = []
        for name, make in makers.items():
            if scenario.contestants and name not in scenario.contestants:
                continue
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            contestant = make(stack.enter_context(Node()), directory)
            stack.callback(contestant.close)
            _say(scenario, contestant, "is given its Services")
            contestants.append(contestant)
            with _noted(results, contestant, contestants):
                contestant.fill(Workload.of(scenario, given_ips=contestant.gives_ips))
        gc.collect()
        gc.freeze()  # a collection of all these Services would stand in the middle of a measurement
        stack.callback(gc.unfreeze)
        for turn in range(scenario.rounds):
            for contestant in list(contestants):
                _say(scenario, contestant, f"round {turn + 1} of {scenario.rounds}")
                with _noted(results, contestant, contestants):
                    _round(scenario, contestant, turn, results)
        if scenario.connections and contestants:
            _traffic(scenario, contestants, results)
    return results


def _round(scenario: Scenario, contestant: Contestant, turn: int, results: Results) -> None:
    def add(what: str, *values: float) -> None:
        results.add(contestant.name, what, *values)

    node = contestant.node
    node.flush()
    time.sleep(scenario.settle_seconds)  # the kernel frees what was flushed
    with kernel_account() as account:
        with node.charged(account):
            add("start over an empty kernel (s)", contestant.start())
        add("of it, processor (s)", contestant.processor_seconds())
        _add_memory(contestant, add, "memory after a start over an empty kernel (MB)")
        contestant.stop()
        time.sleep(scenario.settle_seconds)  # what its process had in the kernel is gone, its tables stay
        if account is not None:
            add("kernel memory of the tables (MB)", account.megabytes())
    generation = node.generation()
    add("start over its own tables (s)", contestant.start())
    add("of that, processor (s)", contestant.processor_seconds())
    add("transactions of that", node.generation() - generation)
    share = [number for number in range(scenario.changes) if number % scenario.rounds == turn]
    begin = time.monotonic()
    for number in share:
        if time.monotonic() - begin > _CHANGES_SECONDS:
            break  # who needs seconds for a change has made enough of them
        for change in contestant.workload.changes(number):
            add(f"{change.kind} (ms)", contestant.change(change) * 1_000)
            if contestant.after_answer is not None:
                add("all of these, after the server's answer (ms)", contestant.after_answer * 1_000)
            time.sleep(QUIET_SECONDS)  # so that the next one is a lone change again
    if scenario.rolling and turn == 0:
        _roll(scenario, contestant, add)
    if scenario.idle_seconds and contestant.is_daemon:
        time.sleep(scenario.settle_seconds)
        begin, spent = time.monotonic(), contestant.processor_seconds()
        time.sleep(scenario.idle_seconds)
        spent = contestant.processor_seconds() - spent
        add("processor, idle (%)", 100 * spent / (time.monotonic() - begin))
    _add_memory(contestant, add, "memory at rest (MB)")
    contestant.stop()


def _add_memory(contestant: Contestant, add: Callable[..., None], rest: str) -> None:
    memory = contestant.memory()
    add("memory, peak (MB)", memory.peak)
    if contestant.is_daemon:
        add(rest, memory.rest)
        add("memory, peak of children (MB)", memory.children)


def _roll(scenario: Scenario, contestant: Contestant, add: Callable[..., None]) -> None:
    """Step after step, the next one as soon as the kernel has the one before; there and back again."""
    whole = 0.0
    for change in contestant.workload.rolling_update(scenario.rolling_step):
        seconds = contestant.change(change)
        add(f"{change.kind} (ms)", seconds * 1_000)
        whole += seconds
    add(f"rolling update of {scenario.rolling:,} endpoints (s)", whole / 2)


def _traffic(scenario: Scenario, contestants: Sequence[Contestant], results: Results) -> None:
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        program = traffic.build(Path(directory))
        if program is None:
            print("no C compiler (cc): packets are not measured", file=sys.stderr)
            return
        bare = stack.enter_context(Node())
        for node in (bare, *(each.node for each in contestants)):
            stack.enter_context(traffic.answering(node, program))
        for turn in range(scenario.rounds):
            print(f"{scenario.name}: packets, round {turn + 1}", file=sys.stderr, flush=True)
            for name, node, way, targets, flow in _ways(scenario, bare, contestants):
                with _sound(results, name):
                    _packets(scenario, results, program, (name, node, way, targets, flow))


_Way = tuple[str, Node, str, list[str], str]
"""Who, over which node, by which way, to which Services, and where datagrams go."""


def _packets(scenario: Scenario, results: Results, program: Path, over: _Way) -> None:
    name, node, way, targets, flow = over
    samples, rate = traffic.connect(node, program, targets, max(1, scenario.connections // scenario.rounds))
    results.add(name, f"new connection, {way}, p50 (µs)", percentile(samples, 0.50))
    results.add(name, f"new connection, {way}, p99 (µs)", percentile(samples, 0.99))
    results.add(name, f"new connections, {way} (1/s)", rate)
    if scenario.packet_seconds:
        packets = traffic.packets_per_second(node, program, flow, scenario.packet_seconds)
        results.add(name, f"established flow, {way} (packets/s)", packets)


@contextlib.contextmanager
def _sound(results: Results, name: str) -> Iterator[None]:
    """Whose packets do not come through is noted: what was measured by then is kept, and the rest goes on."""
    try:
        yield
    except (traffic.Unsound, subprocess.SubprocessError) as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        results.notes[name] = str(error)


def _ways(scenario: Scenario, bare: Node, contestants: Sequence[Contestant]) -> Iterator[_Way]:
    workload = contestants[0].workload
    numbers = random.Random(1).sample(range(scenario.services), min(TARGETS, scenario.services))
    pods = [f"{address(workload.pods(number)[0])}:{TARGET_PORT}" for number in numbers]
    pod_flow = f"{address(workload.pods(0)[0])}:{UDP_TARGET_PORT}"
    yield DIRECT, bare, "pod", pods, pod_flow
    for each in contestants:
        yield each.name, each.node, "pod", pods, pod_flow
        frontends = [f"{each.cluster_ip(number)}:80" for number in numbers]
        yield each.name, each.node, "clusterIP", frontends, f"{each.cluster_ip(-1)}:53"
        if workload.node_ports:
            some = random.Random(1).sample(range(workload.node_ports), min(TARGETS, workload.node_ports))
            ports = [f"{NODE_ADDRESS}:{workload.first_node_port + number}" for number in some]
            yield each.name, each.node, "nodePort", ports, f"{NODE_ADDRESS}:{UDP_NODE_PORT}"


@contextlib.contextmanager
def _noted(results: Results, contestant: Contestant, contestants: list[Contestant]) -> Iterator[None]:
    try:
        yield
    except NotDone as error:
        print(f"{contestant.name}: {error}", file=sys.stderr, flush=True)
        results.notes[contestant.name] = str(error)
        contestant.stop()
        contestants.remove(contestant)


def _say(scenario: Scenario, contestant: Contestant, what: str) -> None:
    print(f"{scenario.name}: {contestant.name} {what}", file=sys.stderr, flush=True)
