"""``python -m bench.report RESULT.json …``: tables and plots of results, into docs/performance.md and docs/plots.

Several results of one machine are shown as one: whom the first has not measured in a scenario is taken from the next.
What stands between the markers ``<!-- bench: … -->`` and ``<!-- end -->`` is written anew, whatever it was. Plots
want matplotlib (the extra ``bench``); without it they are left out, and that is said.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.figures import cell, exponent, percentile, table

Result = dict[str, Any]
Summary = Callable[[Sequence[float]], float]

RESULT = Path("build/bench.json")
"""Where a result is, if nothing else is said."""

DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
SERIES_ENDPOINTS = 3
"""Growth is fitted over the scenarios that differ in the number of Services alone: those with so many endpoints."""

CHANGES = (
    "endpoint added (ms)",
    "endpoint moved (ms)",
    "endpoint removed (ms)",
    "Service added (ms)",
    "Service removed (ms)",
    "nodePort changed (ms)",
    "policy changed (ms)",
    "affinity switched on (ms)",
    "affinity switched off (ms)",
)


def p99(samples: Sequence[float]) -> float:
    return percentile(samples, 0.99)


def _rows(*names: str, summary: Summary = median, what: str = "") -> list[tuple[str, str, Summary]]:
    return [(name, f"{name}{what}", summary) for name in names]


_WAYS = ("pod", "clusterIP", "nodePort")

SECTIONS: Mapping[str, list[tuple[str, str, Summary]]] = {
    "start": _rows(
        "start over an empty kernel (s)",
        "of it, processor (s)",
        "start over its own tables (s)",
        "of that, processor (s)",
        "transactions of that",
    ),
    "change": [
        *_rows(*CHANGES),
        *_rows("endpoint moved (ms)", summary=p99, what=", p99"),
        *_rows("all of these, after the server's answer (ms)"),
        *_rows("rolling update, one step (ms)", "rolling update of 1,000 endpoints (s)"),
    ],
    "memory": [
        *_rows("memory at rest (MB)", "memory, peak (MB)", "memory, peak of children (MB)", summary=max),
        *_rows("kernel memory of the tables (MB)", "processor, idle (%)"),
    ],
    "packets": [
        *_rows(*(f"new connection, {way}, {share} (µs)" for share in ("p50", "p99") for way in _WAYS)),
        *_rows(*(f"new connections, {way} (1/s)" for way in _WAYS)),
        *_rows(*(f"established flow, {way} (packets/s)" for way in _WAYS)),
    ],
}
"""What each table has: the samples' name, what the row is called, and what stands for all of them."""

PLOTS: Mapping[str, tuple[str, str, Summary]] = {
    "start": ("start over an empty kernel (s)", "start over an empty kernel, seconds", median),
    "restart": ("start over its own tables (s)", "start over its own tables, seconds", median),
    "change": ("endpoint moved (ms)", "one endpoint moved, until the kernel has it, milliseconds", median),
    "memory": ("memory at rest (MB)", "memory at rest, megabytes", max),
    "connection": ("new connection, clusterIP, p50 (µs)", "new connection to a clusterIP, microseconds", median),
}


def size(scenario: Mapping[str, Any]) -> str:
    """As the heads of tables say it."""
    return f"{scenario['services']:,} × {scenario['endpoints']}"


def contestants(result: Result) -> list[str]:
    """Everyone of whom there are samples, in the order in which they first come."""
    return list(dict.fromkeys(name for scenario in result["scenarios"] for name in scenario["samples"]))


def points(result: Result, name: str, what: str, summary: Summary) -> dict[float, float]:
    """The number of Services → what was measured there, over the scenarios that differ in it alone."""
    found: dict[float, float] = {}
    for scenario in result["scenarios"]:
        samples = scenario["samples"].get(name, {}).get(what)
        if samples and scenario["endpoints"] == SERIES_ENDPOINTS:
            found[scenario["services"]] = summary(samples)
    return found


def section(result: Result, key: str) -> str:
    """One table: a row for each figure and contestant, a column for each scenario, and the growth."""
    names = contestants(result)
    rows = []
    for what, title, summary in SECTIONS[key]:
        shown = title
        for name in names:
            values = [
                summary(samples) if (samples := scenario["samples"].get(name, {}).get(what)) else None
                for scenario in result["scenarios"]
            ]
            if all(value is None for value in values):
                continue
            growth = exponent(points(result, name, what, summary))
            cells = [cell(value) for value in values]
            rows.append([shown, name, *cells, "–" if growth is None else f"{growth:.2f}"])
            shown = ""
    heads = ["", "", *(size(scenario) for scenario in result["scenarios"]), "growth"]
    return table(heads, rows, names=2) if rows else ""


def tables(result: Result) -> str:
    """Every table, for a terminal."""
    parts = [section(result, key) for key in SECTIONS]
    notes = [
        f"{scenario['name']}: {name}: {why}\n" for scenario in result["scenarios"] for name, why in _notes(scenario)
    ]
    return "\n".join([*filter(None, parts), *notes])


def _notes(scenario: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, why.strip().splitlines()[0]) for name, why in scenario["notes"].items()]


def joined(results: Sequence[Result]) -> Result:
    """All of them as one: every scenario, and in each everyone who was measured, as the first of them has it.

    Its ``parts`` are the machine and the command of each.
    """
    scenarios: dict[str, dict[str, Any]] = {}
    for scenario in (scenario for result in results for scenario in result["scenarios"]):
        known = scenarios.setdefault(scenario["name"], {**scenario, "samples": {}, "notes": {}})
        for what in ("samples", "notes"):
            known[what] |= {name: found for name, found in scenario[what].items() if name not in known[what]}
    parts = [{key: result[key] for key in ("machine", "command")} for result in results]
    return {**parts[0], "scenarios": sorted(scenarios.values(), key=_place), "parts": parts}


def _place(scenario: Mapping[str, Any]) -> tuple[bool, int]:
    """The series that the growth is fitted over comes first."""
    return scenario["endpoints"] != SERIES_ENDPOINTS, scenario["services"] * scenario["endpoints"]


_PLACES = {"--kube-proxy": "PATH", "--kubeconfig": "FILE", "--scenarios": "FOLDER"}
"""Options whose values are one machine's own, with what stands for these."""


def provenance(result: Result) -> str:
    """What it was measured on, and how it is measured again."""
    facts = result["machine"]
    files, commands = [], []
    for number, part in enumerate(parts := result.get("parts", [result])):
        files.append(str(RESULT) if len(parts) == 1 else f"build/{number + 1}.json")
        own = part["machine"]
        commands.append(f"# {own['date']}, revision {own['revision']}, load {own['load']}")
        commands.append(shlex.join(_repeated(part["command"], files[-1])))
    lines = [
        f"Measured on {facts['processor']}, {facts['memory']}, {facts['distribution']}, "
        f"Linux {facts['kernel']}, {facts['nft']}, Python {facts['python']}.",
        "\n```sh\n" + "\n".join([*commands, shlex.join(["python", "-m", "bench.report", *files])]) + "\n```",
    ]
    for scenario in result["scenarios"]:
        for name, why in _notes(scenario):
            lines.append(f"\n{size(scenario)}, {name}: not measured to the end: {why}.")
    return "\n".join(lines) + "\n"


def _repeated(command: Sequence[str], file: str) -> list[str]:
    """The words of a command for whoever measures again, with the result in this file."""
    words = list(command)
    if "--out" in words:
        place = words.index("--out")
        words[place : place + 2] = []
    for option, stands in _PLACES.items():
        if option in words:
            words[words.index(option) + 1] = stands
    return words if file == str(RESULT) else [*words, "--out", file]


def rewritten(text: str, parts: Mapping[str, str]) -> str:
    """The document with what stands between the markers of each part replaced. Raises ValueError without a marker."""
    for key, part in parts.items():
        begin, marker, rest = text.partition(f"<!-- bench: {key} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not marker or not end:
            raise ValueError(f"there is no part between <!-- bench: {key} --> and <!-- end -->")
        text = f"{begin}{marker}\n{part}\n{end}{after}"
    return text


def plot(result: Result, folder: Path) -> list[Path]:
    """An SVG for each of PLOTS of which there are two sizes at least. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot, ticker

    # Text stays text, and the same result gives the same file.
    pyplot.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench", "font.family": "sans-serif"})
    written = []
    for key, (what, title, summary) in PLOTS.items():
        lines = {name: points(result, name, what, summary) for name in contestants(result)}
        lines = {name: line for name, line in lines.items() if len(line) > 1 and min(line.values()) > 0}
        if not lines:
            continue
        figure, axes = pyplot.subplots(figsize=(7, 4))
        for name, line in lines.items():
            growth = exponent(line)
            label = name if growth is None else f"{name} (growth {growth:.2f})"
            axes.loglog(list(line), list(line.values()), marker="o", label=label)
        # Whole decades: what hardly grows looks as if it hardly grew.
        values = [value for line in lines.values() for value in line.values()]
        axes.set_ylim(10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)) + 0.01))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,g}"))
            axis.set_minor_formatter(ticker.NullFormatter())
        axes.set_xlabel("Services with three endpoints each")
        axes.set_title(title, fontsize=11)
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, frameon=False)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{key}.svg"
        figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
        pyplot.close(figure)
        written.append(path)
    return written


def main(words: Sequence[str], document: Path = DOCUMENT) -> int:
    if not words:
        print("usage: python -m bench.report RESULT.json …", file=sys.stderr)
        return 2
    result = joined([json.loads(Path(word).read_text(encoding="utf-8")) for word in words])
    parts = {key: section(result, key) for key in SECTIONS} | {"machine": provenance(result)}
    folder = document.parent / "plots"
    try:
        written = plot(result, folder)
    except ImportError:
        print("matplotlib is missing: no plots; pip install 'nodeport-nft[bench]'", file=sys.stderr)
    else:
        parts["plots"] = "".join(f"![{PLOTS[path.stem][1]}](plots/{path.name})\n" for path in written)
    document.write_text(rewritten(document.read_text(encoding="utf-8"), parts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
