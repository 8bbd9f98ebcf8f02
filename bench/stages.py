"""``python -m bench.stages [COUNT …]``: what the parts of the program take, each in a process of its own.

Every Service has a clusterIP, a nodePort and three endpoints. Medians of several rounds; the last column is the
exponent of the growth (``figures.exponent``). Peak memory is the process's own high-water mark (``ru_maxrss``) when
the stage ends, so each stage is measured with all before it in the same process; children are told apart.
"""

from __future__ import annotations

import gc
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import tracked
from bench.contestants.program import PROGRAM, compile_program
from bench.figures import cell, exponent, table
from bench.measuring import waited_for
from bench.workload import FACTS, NOW, RANGES, Workload, service_value, slice_value, write_json, write_manifests
from lab.namespaces import enter_private_namespaces
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.manifest import read_manifests
from nodeport_nft.model import Snapshot
from nodeport_nft.reconcile import compile_snapshot, read_tables
from nodeport_nft.render import write_transaction
from nodeport_nft.resolve import Resolver
from nodeport_nft.store import Store

COUNTS = (100, 1_000, 10_000)
ROUNDS = 3
ENDPOINTS = 3
CHANGES = 40

_SECONDS = 600.0

Figures = dict[str, dict[str, float]]


def main(counts: Sequence[int]) -> None:
    compile_program()
    seconds: dict[str, dict[float, float]] = defaultdict(dict)
    megabytes: dict[str, dict[float, float]] = defaultdict(dict)
    for count in counts:
        # Interleaved: a slow moment of the machine hits all stages alike.
        rounds = [_run(stage, count) for _ in range(ROUNDS) for stage in STAGES]
        for stage in {stage: None for figures in rounds for stage in figures}:
            samples = [figures[stage] for figures in rounds if stage in figures]
            for what, into in (("seconds", seconds), ("megabytes", megabytes)):
                if all(what in sample for sample in samples):
                    into[stage][count] = statistics.median(sample[what] for sample in samples)
    for title, figures in (("seconds", seconds), ("peak megabytes", megabytes)):
        rows = []
        for stage, values in figures.items():
            growth = exponent(values)
            cells = [cell(values.get(count)) for count in counts]
            rows.append([stage, *cells, "–" if growth is None else f"{growth:.2f}"])
        print("\n" + table([title, *(f"{count:,} Services" for count in counts), "growth"], rows))
    print(tracked.report())


def _run(stage: str, count: int) -> Figures:
    command = [sys.executable, "-m", "bench.stages", "--one", stage, str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=_SECONDS)
    figures: Figures = json.loads(done.stdout)
    return figures


def workload(count: int) -> Workload:
    """A nodePort for each: twice the work of clusterIPs alone."""
    return Workload(count, ENDPOINTS, node_ports=count)


@contextmanager
def measured(figures: Figures, stage: str) -> Iterator[None]:
    gc.collect()
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    figures[stage] = {"seconds": seconds, "megabytes": _peak(resource.RUSAGE_SELF)}


def _peak(whose: int) -> float:
    return resource.getrusage(whose).ru_maxrss / 1024


def read(count: int) -> Figures:
    """Manifests from a file, and into an empty store."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "manifests.yaml")
        write_manifests(workload(count), path)
        with measured(figures, "read manifests"):
            manifests = read_manifests([str(path)], ranges=RANGES)
        store = Store(Path(directory, "store.db"), ranges=RANGES)
        with measured(figures, "apply to the store"), store.transaction() as transaction:
            transaction.apply(manifests.objects, now=NOW)
        store.close()
    return figures


def program(count: int) -> Figures:
    """A snapshot into the kernel, then one endpoint more and one less."""
    gc.disable()  # as the command line does: all of this lives until the process ends
    enter_private_namespaces()
    figures: Figures = {}
    load = workload(count)
    snapshot = load.snapshot()
    nft = Nft()
    listed = read_tables(nft, FACTS)
    with measured(figures, "compile"):
        tables = compile_snapshot(snapshot, FACTS, listed).tables
        transactions = tables.first_transaction()
    with measured(figures, "render"):
        text = "".join(map(write_transaction, transactions))
    del text
    with measured(figures, "apply to an empty kernel"):
        nft.apply(transactions)
    if loader := _peak(resource.RUSAGE_CHILDREN):
        figures["its loader"] = {"megabytes": loader}
    changed, pods = service_value(load.service(count // 2)), load.pods(count // 2)
    for stage, more in (("one endpoint more or less", 1), ("the same across a power of two", 2)):
        times = []
        for turn in range(CHANGES):
            others = [] if turn % 2 else list(range(pods[-1] + 1, pods[-1] + 1 + more))
            piece = slice_value(load.piece(count // 2, pods + others))
            resolver = Resolver(Snapshot((changed,), (piece,)), FACTS.name)
            start = time.perf_counter()
            tables.put(changed, resolver.resolved(changed).frontends)
            nft.apply(tables.transaction(tables.take_edits()))
            times.append(time.perf_counter() - start)
        figures[stage] = {"seconds": statistics.median(times), "megabytes": _peak(resource.RUSAGE_SELF)}
    with measured(figures, "read back, nothing to write"):
        again = compile_snapshot(snapshot, FACTS, read_tables(nft, FACTS)).tables
        assert again.first_transaction() == ()
    return figures


def commands(count: int) -> Figures:
    """What somebody waits for at a prompt: the installed program, from its start to its end."""
    figures: Figures = {}
    load = workload(count)
    with tempfile.TemporaryDirectory() as directory:
        yaml, listed = Path(directory, "manifests.yaml"), Path(directory, "list.json")
        write_manifests(load, yaml)
        write_json(load, listed)
        for number, path in enumerate((yaml, listed)):
            store = Path(directory, f"store-{number}.db")
            figures[f"nodeport-nft apply -f {path.name}"] = _timed("apply", "-f", str(path), store=store)
        for words in (["get", "services"], ["get", "service", "service-0"]):
            figures[f"nodeport-nft {' '.join(words)}"] = _timed(*words, store=store)
        figures["nodeport-nft --version"] = _timed("--version")
    return figures


def _timed(*words: str, store: Path | None = None) -> dict[str, float]:
    where = ["--store", str(store), "--node-port-range", "20000-60000"] if store else []
    if words[0] == "get":
        where = where[:2]
    start = time.perf_counter()
    process = subprocess.Popen([str(PROGRAM), *words, *where], stdout=subprocess.DEVNULL)
    ended = waited_for(process, seconds=_SECONDS)
    assert process.returncode == 0, words
    return {"seconds": time.perf_counter() - start, "megabytes": ended.megabytes}


STAGES: dict[str, Callable[[int], Figures]] = {"read": read, "program": program, "commands": commands}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(STAGES[sys.argv[2]](int(sys.argv[3]))))
    else:
        main([int(word) for word in sys.argv[1:]] or COUNTS)
