"""contrib/prometheus and contrib/grafana ask for metrics and labels that the daemon has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from lab.cluster import Cluster
from tests.contrib.promql import OF_PROMETHEUS, Expression, of_dashboard, of_rules, recorded
from tests.daemon.objects import Desired, endpoint_slice, service
from tests.daemon.running import Daemon

MADE_BY_PROMETHEUS = {"up": frozenset[str]()}


def exposed(text: str) -> dict[str, frozenset[str]]:
    """The labels of each metric that a daemon tells, by its name."""
    found: dict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] |= set(sample.labels)
    return {name: frozenset(labels) for name, labels in found.items()}


def wrong(expression: Expression, known: Mapping[str, frozenset[str]]) -> list[str]:
    """The metrics and labels of an expression that there are not."""
    rules = recorded()
    metrics = set(expression.metrics)
    labels = set(OF_PROMETHEUS)
    for name in expression.metrics & set(rules):  # what is recorded has the labels of what it is made of
        metrics.remove(name)
        metrics |= Expression(name, rules[name]).metrics
    missing = [name for name in sorted(metrics) if name not in known]
    labels |= {label for name in metrics for label in known.get(name, ())}
    return [f"{expression.where}: {name}" for name in (*missing, *sorted(expression.all_labels - labels))]


def test_every_metric_and_label_that_is_asked_for_is_there(
    cluster: Cluster, desired: Desired, daemon: Daemon
) -> None:
    address = {"addresses": [str(cluster.address("web-1"))], "nodeName": "worker-1"}
    desired.apply(service("web", 10), endpoint_slice("web", "web-4", 4, 8080, [address]))
    daemon.start()
    known = {**exposed(daemon.ask("/metrics")), **MADE_BY_PROMETHEUS}
    assert [fault for each in (*of_rules(), *of_dashboard()) for fault in wrong(each, known)] == []
    assert wrong(Expression("x", 'no_such{job="x"}'), known) == ["x: no_such"]
    assert wrong(Expression("x", 'up{nolabel="x"}'), known) == ["x: nolabel"]
