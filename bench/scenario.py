"""Scenarios: what is measured, as small TOML files in ``scenarios/``. Each key of one is a field of ``Scenario``."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

MOST_NODE_PORTS = 2_000
"""Of the 2,768 of an API server's default range; the others are what nodePorts are changed to."""

DIRECTORY = Path(__file__).with_name("scenarios")


class ScenarioWrong(Exception):
    """A scenario's file does not say what one has to say; the message names file and key."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load, and what is measured under it. Times in seconds.

    ``node_ports``: how many of the Services have a nodePort besides their clusterIP. ``changes``: how many of each
    kind are made in all. ``rolling``: endpoints of one Service more, which are all replaced, ``rolling_step`` at a
    time; 0: none. ``connections``: how many are made over each way in; 0: no packets are sent. ``packet_seconds``:
    how long one flow is sent. ``idle_seconds``: how long an idle daemon is watched. ``settle_seconds``: what the
    kernel has to free what was flushed. ``contestants``: who can carry this load; empty: everyone. ``full``: only in
    a long run.
    """

    name: str
    services: int
    endpoints: int
    node_ports: int = MOST_NODE_PORTS
    rounds: int = 3
    changes: int = 0
    rolling: int = 0
    rolling_step: int = 10
    connections: int = 0
    packet_seconds: float = 0.0
    idle_seconds: float = 0.0
    settle_seconds: float = 2.0
    contestants: tuple[str, ...] = ()
    full: bool = False

    @property
    def size(self) -> str:
        """As the tables' heads say it."""
        return f"{self.services:,} × {self.endpoints}"


def read_scenario(path: Path) -> Scenario:
    """Raises ScenarioWrong."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ScenarioWrong(f"{path}: {error}") from None
    kinds = {each.name: str(each.type) for each in fields(Scenario)}
    for key, value in values.items():
        if key not in kinds or key == "name":
            raise ScenarioWrong(f"{path}: {key} is not known")
        values[key] = _checked(path, key, value, kinds[key])
    if missing := sorted({"services", "endpoints"} - values.keys()):
        raise ScenarioWrong(f"{path}: {missing[0]} is missing")
    scenario = Scenario(path.stem, **values)
    if scenario.services < 1 or scenario.endpoints < 1 or scenario.rounds < 1:
        raise ScenarioWrong(f"{path}: services, endpoints and rounds are at least 1")
    if scenario.node_ports > MOST_NODE_PORTS:
        raise ScenarioWrong(f"{path}: node_ports is at most {MOST_NODE_PORTS:,}")
    return scenario


def _checked(path: Path, key: str, value: object, kind: str) -> object:
    if kind == "tuple[str, ...]" and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    if kind == "bool" and isinstance(value, bool):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    if (kind == "float" and is_number) or (kind == "int" and is_number and isinstance(value, int)):
        return value
    raise ScenarioWrong(f"{path}: {key} = {value!r} is no {kind}")


def read_scenarios(directory: Path = DIRECTORY, *, full: bool, names: Sequence[str] = ()) -> list[Scenario]:
    """Those of ``names``, or else all, those for a long run only if ``full``; from the smallest to the largest.

    Raises ScenarioWrong where one is not there.
    """
    there = [read_scenario(path) for path in directory.glob("*.toml")]
    if unknown := sorted(set(names) - {each.name for each in there}):
        raise ScenarioWrong(f"{directory}: there is no {unknown[0]}.toml")
    chosen = [each for each in there if (each.name in names if names else full or not each.full)]
    return sorted(chosen, key=lambda each: (each.endpoints != 3, each.services * each.endpoints))
