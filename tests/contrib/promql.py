"""The expressions of contrib/prometheus and contrib/grafana, and the metrics and labels that each names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CONTRIB = Path(__file__).parents[2] / "contrib"
RULES = CONTRIB / "prometheus" / "nodeport-nft.rules.yaml"
SCRAPE = CONTRIB / "prometheus" / "scrape.yaml"
DASHBOARD = CONTRIB / "grafana" / "nodeport-nft.json"

OF_PROMETHEUS = {"job", "instance"}
"""Labels that every target's series have."""

_VARIABLES = {"$__rate_interval": "5m", "$job": "nodeport-nft", "$instance": ".*"}
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_MATCHERS = re.compile(r"\{([^}]*)\}")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\b(?!\s*\()")
_WORDS = {"and", "or", "unless", "bool", "offset", "by", "on"}


@dataclass(frozen=True, slots=True)
class Expression:
    """One expression of ``where``, ready for Prometheus; ``labels`` are asked for beside it, as legends do."""

    where: str
    text: str
    labels: frozenset[str] = frozenset()

    @property
    def metrics(self) -> frozenset[str]:
        """The metrics it asks for."""
        bare = _STRING.sub('""', self.text)
        for pattern in (_MATCHERS, _GROUPING, _RANGE):
            bare = pattern.sub(" ", bare)
        return frozenset(_METRIC.findall(bare)) - _WORDS

    @property
    def all_labels(self) -> frozenset[str]:
        """The labels that it matches and groups by, and those that are asked for beside it."""
        bare = _STRING.sub('""', self.text)
        inside = [*_MATCHERS.findall(bare), *_GROUPING.findall(bare)]
        return self.labels | {name for text in inside for name in _NAME.findall(text)}


def rules() -> list[dict[str, Any]]:
    """Every rule, in the order of the file."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def recorded() -> dict[str, str]:
    """The expression of each recording rule, by its name."""
    return {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def of_rules() -> Iterator[Expression]:
    """The expressions of rules; what their texts show of labels is asked for, too."""
    for rule in rules():
        texts = " ".join(rule.get("annotations", {}).values())
        labels = frozenset(re.findall(r"\$labels\.(\w+)", texts))
        yield Expression(rule.get("alert") or rule["record"], rule["expr"], labels)


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels, rows left out."""
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def of_dashboard() -> Iterator[Expression]:
    """The expressions of panels, with the variables' values."""
    for panel in panels():
        for target in panel["targets"]:
            text = target["expr"]
            for name, value in _VARIABLES.items():
                text = text.replace(name, value)
            yield Expression(panel["title"], text, frozenset(re.findall(r"{{(\w+)}}", target["legendFormat"])))
