"""``python -m bench [COUNT …]``: medians of several rounds, each in processes of its own, as a table.

The last column is the growth from the smallest to the largest count, beside the growth of the count itself.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections import defaultdict

from bench.stages import Figures

ROUNDS = 3
COUNTS = (100, 1_000, 10_000)
TRACKED = 128_000


def main() -> None:
    counts = [int(word) for word in sys.argv[1:]] or list(COUNTS)
    seconds: dict[str, dict[int, float]] = defaultdict(dict)
    megabytes: dict[str, dict[int, float]] = defaultdict(dict)
    for count in counts:
        # Interleaved: a slow moment of the machine hits all stages alike.
        rounds = [run(stage, count) for _ in range(ROUNDS) for stage in ("read", "program")]
        for stage in {stage: None for figures in rounds for stage in figures}:
            samples = [figures[stage] for figures in rounds if stage in figures]
            if all("seconds" in sample for sample in samples):
                seconds[stage][count] = statistics.median(sample["seconds"] for sample in samples)
            megabytes[stage][count] = statistics.median(sample["megabytes"] for sample in samples)
    table("seconds", seconds, counts, "{:.4f}")
    table("peak megabytes", megabytes, counts, "{:.0f}")
    beside_tracked_connections()


def run(stage: str, count: int) -> Figures:
    command = [sys.executable, "-m", "bench.stages", stage, str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=600)
    figures: Figures = json.loads(done.stdout)
    return figures


def beside_tracked_connections() -> None:
    """What a sync takes on a node that tracks connections of others (K2)."""
    print("\n| a sync beside tracked connections of others | seconds |\n| --- | ---: |")
    for protocol, count in (("tcp", 0), ("tcp", TRACKED), ("udp", TRACKED)):
        command = [sys.executable, "-m", "bench.tracked", protocol, str(count)]
        rounds = [
            float(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=600).stdout)
            for _ in range(ROUNDS)
        ]
        print(f"| {f'{count:,} {protocol.upper()}' if count else 'none'} | {statistics.median(rounds):.4f} |")


def table(title: str, figures: dict[str, dict[int, float]], counts: list[int], form: str) -> None:
    heads = [f"{count:,} services" for count in counts]
    print(f"\n| {title} | " + " | ".join(heads) + f" | growth (services: ×{counts[-1] / counts[0]:.0f}) |")
    print("| --- |" + " ---: |" * (len(counts) + 1))
    for stage, values in figures.items():
        cells = [form.format(values[count]) if count in values else "" for count in counts]
        growth = f"×{values[counts[-1]] / values[counts[0]]:.1f}" if {counts[0], counts[-1]} <= values.keys() else ""
        print(f"| {stage.strip()} | " + " | ".join(cells) + f" | {growth} |")


if __name__ == "__main__":
    main()
