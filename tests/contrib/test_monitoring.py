"""contrib/prometheus and contrib/grafana, by promtool: what is in them is right, and alerts come when they should.

That the daemon exposes what they ask for is in tests/daemon/test_monitoring.py.
"""

from __future__ import annotations

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from tests.contrib.promql import DASHBOARD, RULES, SCRAPE, Expression, of_dashboard, of_rules, panels, rules

pytestmark = pytest.mark.proves("U7")

PLAYED = Path(__file__).parent / "nodeport-nft.test.yaml"


def promtool(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        ["promtool", *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_right(tmp_path: Path) -> None:
    assert f"SUCCESS: {len(rules())} rules found" in promtool("check", "rules", RULES, cwd=tmp_path)


def test_alerts_come_when_they_should_and_not_when_all_is_well() -> None:
    assert "SUCCESS" in promtool("test", "rules", PLAYED.name, cwd=PLAYED.parent)


def test_every_alert_is_played() -> None:
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    firing = set(re.findall(r"NodeportNft\w+", PLAYED.read_text()))
    assert firing == alerts


def test_every_alert_says_how_urgent_it_is_what_it_means_and_what_to_do() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
            assert set(rule["annotations"]) == {"summary", "description", "runbook"}, rule["alert"]


def test_the_readme_has_every_alert_with_its_severity() -> None:
    table = re.findall(r"^\| (NodeportNft\w+) \| (\w+) \|", (RULES.parent / "README.md").read_text(), re.MULTILINE)
    assert table == [(rule["alert"], rule["labels"]["severity"]) for rule in rules() if "alert" in rule]


def test_the_scrape_configuration_is_right(tmp_path: Path) -> None:
    text = SCRAPE.read_text()
    named = "/etc/prometheus/nodeport-nft.rules.yaml"
    assert named in text
    (tmp_path / "prometheus.yml").write_text(text.replace(named, str(RULES)))
    promtool("check", "config", "prometheus.yml", cwd=tmp_path)
    (job,) = yaml.safe_load(text)["scrape_configs"]
    assert all(f'job="{job["job_name"]}"' in rule["expr"] or "nodeport_nft:" in rule["expr"] for rule in rules())


def test_every_expression_of_the_dashboard_is_right(tmp_path: Path) -> None:
    made = [
        {"record": f"panel:{number}", "expr": expression.text} for number, expression in enumerate(of_dashboard())
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": made}]}))
    assert f"SUCCESS: {len(made)} rules found" in promtool("check", "rules", file, cwd=tmp_path)


def test_the_dashboard_is_whole() -> None:
    board = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    names = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"]))) - {"__rate_interval"}
    assert used <= names
    for panel in panels():
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for one, other in combinations(board["panels"], 2):
        assert not _overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in ("xw", "yh"))


def test_metrics_and_labels_of_an_expression_are_told() -> None:
    """What the proof against the daemon stands on."""
    text = 'sum by (job, le) (rate(a_bucket{job="x{y}",part!~"p|q"}[5m])) > 1 and on (b) (time() - c:d > c_e)'
    found = Expression("", text, frozenset({"f"}))
    assert found.metrics == {"a_bucket", "c:d", "c_e"}
    assert found.all_labels == {"job", "le", "part", "b", "f"}
    assert all(expression.metrics for expression in (*of_rules(), *of_dashboard()))
