"""The arithmetic of the benchmarks, what their scenarios say, and the loads that they make."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import report, running, traffic
from bench.contestants.layout import Layout, lay_out, rewriting_transaction, sweep, transaction
from bench.figures import cell, exponent, percentile, table
from bench.scenario import DIRECTORY, Scenario, ScenarioWrong, read_scenario, read_scenarios
from bench.workload import Change, Document, Workload, parsed

SAMPLES = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50)


@given(SAMPLES, st.floats(0, 1))
def test_a_percentile_is_a_sample_that_the_share_does_not_exceed(samples: list[float], share: float) -> None:
    found = percentile(samples, share)
    assert found in samples
    assert sum(each <= found for each in samples) >= share * len(samples)
    assert sum(each < found for each in samples) < max(1, math.ceil(share * len(samples)))


def test_percentiles_of_a_hundred() -> None:
    samples = list(range(100, 0, -1))
    assert [percentile(samples, share) for share in (0, 0.5, 0.99, 1)] == [1, 50, 99, 100]


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 0.5)


@given(st.floats(0.01, 1_000), st.floats(-2, 3))
def test_the_exponent_of_a_power_is_its_own(factor: float, power: float) -> None:
    found = exponent({size: factor * size**power for size in (100, 1_000, 10_000)})
    assert found == pytest.approx(power, abs=1e-6)


def test_the_exponent_is_the_one_of_least_squares() -> None:
    # Logarithms to the base 10: (1, 0), (2, 1), (3, 1): a slope of 1/2.
    assert exponent({10: 1, 100: 10, 1_000: 10}) == pytest.approx(0.5)


@pytest.mark.parametrize("points", [{}, {10: 1.0}, {10: 1.0, 100: 0.0}])
def test_one_point_has_no_growth(points: dict[float, float]) -> None:
    assert exponent(points) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        ("> 600", "> 600"),
        (0, "0"),
        (0.0012345, "0.0012"),
        (0.0213, "0.0213"),
        (3.14159, "3.14"),
        (31.4159, "31.4"),
        (-31.4159, "-31.4"),
        (314.159, "314"),
        (314159, "314,159"),
    ],
)
def test_a_cell_has_three_digits(value: float | str | None, text: str) -> None:
    assert cell(value) == text


def test_a_table() -> None:
    assert (
        table(["", "who", "1"], [["a", "b", "2"]], names=2) == "|  | who | 1 |\n| --- | --- | ---: |\n| a | b | 2 |\n"
    )


def test_the_scenarios_that_there_are() -> None:
    short, full = read_scenarios(full=False), read_scenarios(full=True)
    assert [each.services for each in short] == [100, 1_000, 10_000]
    assert {each.name for each in full} == {path.stem for path in DIRECTORY.glob("*.toml")}
    assert {(44_128, 1), (5_006, 50), (100_000, 3)} <= {(each.services, each.endpoints) for each in full}
    assert [each.name for each in read_scenarios(full=False, names=["5006x50"])] == ["5006x50"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("services = 1", "endpoints is missing"),
        ("services = 0\nendpoints = 1", "at least 1"),
        ('services = "many"\nendpoints = 1', "services = 'many' is no int"),
        ("services = 1.5\nendpoints = 1", "services = 1.5 is no int"),
        ("services = 1\nendpoints = 1\nfull = 1", "full = 1 is no bool"),
        ("services = 1\nendpoints = 1\ncontestants = 'a'", "contestants = 'a' is no tuple"),
        ("services = 1\nendpoints = 1\nchanges = -1", "changes = -1 is no int"),
        ("services = 1\nendpoints = 1\nnode_ports = 2001", "at most 2,000"),
        ("services = 1\nendpoints = 1\ncolour = 1", "colour is not known"),
        ("services = 1\nendpoints = 1\nname = 'x'", "name is not known"),
        ("services", "a.toml: "),
    ],
)
def test_a_scenario_that_says_something_else(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(ScenarioWrong, match=complaint):
        read_scenario(path)


def test_a_scenario_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ScenarioWrong, match=r"there is no b\.toml"):
        read_scenarios(tmp_path, full=True, names=["b"])


WORKLOADS = st.builds(
    Workload,
    services=st.integers(1, 30),
    endpoints=st.integers(1, 4),
    node_ports=st.integers(0, 30),
    rolling=st.sampled_from((0, 7, 120, 250)),
)


def by_name(documents: Sequence[Document]) -> dict[tuple[str, str], Document]:
    return {(each["kind"], each["metadata"]["name"]): each for each in documents}


def made(there: dict[tuple[str, str], Document], change: Change) -> None:
    kind, _, name = change.key
    if change.deletes:
        del there[kind, name]
    else:
        assert change.creates == ((kind, name) not in there)
        assert there.get((kind, name)) != change.document, "a change that changes nothing is never seen in the kernel"
        there[kind, name] = change.document


@given(WORKLOADS, st.integers(0, 200))
def test_every_change_changes_something_and_all_of_them_nothing(workload: Workload, turn: int) -> None:
    begin = by_name(list(workload.documents()))
    there = dict(begin)
    for change in (*workload.changes(turn), *workload.rolling_update(10)):
        made(there, change)
    assert there == begin


@given(WORKLOADS)
def test_no_two_services_share_a_number_and_no_two_endpoints_an_address(workload: Workload) -> None:
    documents = list(workload.documents())
    assert len(by_name(documents)) == len(documents)
    specs = [each["spec"] for each in documents if each["kind"] == "Service"]
    assert len(specs) == workload.count
    ports = [port["nodePort"] for spec in specs for port in spec["ports"] if "nodePort" in port]
    ips = [spec["clusterIP"] for spec in specs]
    pods = [
        address for each in documents if "endpoints" in each for e in each["endpoints"] for address in e["addresses"]
    ]
    for numbers in (ports, ips, pods):
        assert len(set(numbers)) == len(numbers)


def test_a_rolling_update_replaces_every_endpoint_and_brings_it_back() -> None:
    workload = Workload(1, 1, rolling=250)
    steps = list(workload.rolling_update(10))
    assert len(steps) == 2 * 25
    there = by_name(list(workload.documents()))
    old = endpoints_of(there)
    for step in steps[:25]:
        made(there, step)
    assert len(endpoints_of(there)) == 250
    assert not endpoints_of(there) & old


def endpoints_of(there: dict[tuple[str, str], Document]) -> set[str]:
    pieces = [each for (_, name), each in there.items() if name.startswith("rolling-")]
    return {endpoint["addresses"][0] for piece in pieces for endpoint in piece["endpoints"]}


def test_the_program_takes_every_document() -> None:
    workload = Workload(3, 2, node_ports=2, rolling=120)
    for document in (*workload.documents(), *(change.document for change in workload.changes(1))):
        assert parsed(document).values


def laid_out(workload: Workload, **changed: Any) -> Layout:
    service = workload.service(0, **changed)
    return lay_out(service, [("10.128.0.1", "node-0"), ("10.128.0.2", "node-1")])


def test_a_change_of_a_table_of_chains_names_what_differs_alone() -> None:
    workload = Workload(1, 2, node_ports=1)
    before, after = laid_out(workload), laid_out(workload, node_port=32_000)
    assert list(transaction(before, before)) == []
    lines = list(transaction(before, after))
    assert len(lines) == 2
    assert "delete element ip service-chains service-nodeports { tcp . 30000 }" in lines[0]
    assert "add element ip service-chains service-nodeports { tcp . 32000 : goto external-" in lines[1]
    assert list(sweep(before, after)) == []


def test_a_table_of_chains_has_a_chain_an_endpoint_where_affinity_is_on_alone() -> None:
    workload = Workload(1, 2, node_ports=1)
    plain, sticky = laid_out(workload), laid_out(workload, sessionAffinity="ClientIP")
    assert sorted(name.split("-")[0] for name in plain.chains) == ["external", "service"]
    assert sorted(name.split("-")[0] for name in sticky.chains) == ["endpoint", "endpoint", "external", "service"]
    assert len(sticky.sets) == 2
    assert len(list(sweep(sticky, plain))) == 2


def test_a_start_over_its_own_table_makes_every_chain_anew() -> None:
    layout = laid_out(Workload(1, 2, node_ports=1))
    text = "".join(rewriting_transaction(layout))
    assert text.count("flush chain") == len(layout.chains)
    assert text.count("add rule") == sum(map(len, layout.chains.values()))
    assert "element" not in text


def result(**samples: list[float]) -> report.Result:
    return {
        "machine": dict.fromkeys(
            ("date", "processor", "memory", "kernel", "distribution", "nft", "python", "revision", "load"), "x"
        ),
        "command": ["python", "-m", "bench"],
        "scenarios": [
            {
                "name": str(services),
                "services": services,
                "endpoints": endpoints,
                "samples": {"a": {name: [scale * value for value in values] for name, values in samples.items()}},
                "notes": {"b": "it was not ready\nmore of that"},
            }
            for services, endpoints, scale in ((100, 3, 1), (1_000, 3, 10), (5_006, 50, 77))
        ],
    }


def test_a_section_has_medians_and_the_growth_of_the_series() -> None:
    text = report.section(result(**{"start over an empty kernel (s)": [3.0, 1.0, 2.0]}), "start")
    assert text.splitlines() == [
        "|  |  | 100 × 3 | 1,000 × 3 | 5,006 × 50 | growth |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        "| start over an empty kernel (s) | a | 2.00 | 20.0 | 154 | 1.00 |",
    ]


def test_who_was_not_measured_is_told_of() -> None:
    made_of = result()
    assert report.tables(made_of).count("b: it was not ready\n") == 3
    assert "5,006 × 50, b: not measured to the end: it was not ready." in report.provenance(made_of)


def test_whose_connections_fail_is_noted_and_the_others_are_measured_on(monkeypatch: pytest.MonkeyPatch) -> None:
    node: Any = object()

    def connect(_: object, __: Path, targets: Sequence[str], ___: int) -> tuple[list[float], float]:
        if targets == ["nobody"]:
            raise traffic.Unsound("3 of 3 connections to nobody failed")
        return [20.0], 1_000.0

    monkeypatch.setattr(traffic, "connect", connect)
    results = running.Results()
    scenario = Scenario("few", services=1, endpoints=1, rounds=1, connections=3)
    for name, target in (("a", "nobody"), ("b", "somebody")):
        with running._sound(results, name):
            running._packets(scenario, results, Path("traffic"), (name, node, "pod", [target], ""))
    assert results.notes == {"a": "3 of 3 connections to nobody failed"}
    assert list(results.samples) == ["b"]


def test_a_report_rewrites_what_is_between_its_markers_alone(tmp_path: Path) -> None:
    document, source = tmp_path / "performance.md", tmp_path / "bench.json"
    parts = "".join(
        f"<!-- bench: {key} -->\nold\n<!-- end -->\nbetween\n" for key in ("machine", *report.SECTIONS, "plots")
    )
    document.write_text(f"before\n{parts}after\n")
    source.write_text(json.dumps(result(**{"start over an empty kernel (s)": [2.0]})))
    assert report.main([str(source)], document) == 0
    text = document.read_text()
    assert text.startswith("before\n<!-- bench: machine -->\n\nMeasured on x")
    assert text.endswith("after\n")
    assert text.count("between\n") == 2 + len(report.SECTIONS)
    assert "| start over an empty kernel (s) | a | 2.00 |" in text
    report.main([str(source)], document)
    assert document.read_text() == text, "a second time it changes nothing"


def test_results_are_joined_and_say_how_each_was_measured() -> None:
    start, rest = "start over an empty kernel (s)", "memory at rest (MB)"
    first, second = result(**{start: [2.0]}), result(**{start: [9.0], rest: [5.0]})
    for scenario in second["scenarios"]:
        scenario["samples"]["kube-proxy"] = scenario["samples"]["a"]
    first["scenarios"] = first["scenarios"][1:]
    second["command"] += ["--kube-proxy", "/home/me/kube-proxy", "--kubeconfig", "/home/me/config", "--out", "x.json"]
    made_of = report.joined([first, second])
    assert report.section(made_of, "start").splitlines() == [
        "|  |  | 100 × 3 | 1,000 × 3 | 5,006 × 50 | growth |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        "| start over an empty kernel (s) | a | 9.00 | 20.0 | 154 | 0.35 |",
        "|  | kube-proxy | 9.00 | 90.0 | 693 | 1.00 |",
    ]
    assert "|  | kube-proxy | 5.00 | 50.0 | 385 | 1.00 |" in report.section(made_of, "memory")
    told = report.provenance(made_of)
    assert "/home/me" not in told
    assert "python -m bench --kube-proxy PATH --kubeconfig FILE --out build/2.json\n" in told
    assert "python -m bench.report build/1.json build/2.json\n" in told


def test_the_document_has_every_marker() -> None:
    text = report.DOCUMENT.read_text(encoding="utf-8")
    parts = dict.fromkeys(("machine", "plots", *report.SECTIONS), "")
    report.rewritten(text, parts)
    with pytest.raises(ValueError, match="bench: colour"):
        report.rewritten(text, {"colour": ""})


def test_plots_are_the_same_for_the_same_result(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    made_of = result(**{"start over an empty kernel (s)": [2.0]})
    first, again = (report.plot(made_of, tmp_path / each) for each in "ab")
    assert [path.name for path in first] == ["start.svg"]
    assert first[0].read_bytes() == again[0].read_bytes()
    assert "start over an empty kernel, seconds" in first[0].read_text()
