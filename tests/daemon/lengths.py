"""How long the proofs are: short in the suite, in full with SOAK=1 (``make soak``)."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lengths:
    """How often each thing is done. ``churn_seconds`` is how long the store changes without a pause at least."""

    changes: int = 1_000
    kills: int = 50
    kills_of_loads: int = 4
    damages: int = 20
    own_changes: int = 300
    churn_seconds: float = 20.0
    churn_changes: int = 300
    churn_growth: tuple[float, float] = (0.30, 30.0)
    """The most that memory may grow by: a share, and MB."""
    outage_seconds: float = 3.0
    """How long a part of etcd is away."""


FULL = Lengths(
    changes=10_000,
    kills=500,
    kills_of_loads=40,
    damages=200,
    own_changes=3_000,
    churn_seconds=1800.0,
    churn_changes=10_000,
    churn_growth=(0.10, 10.0),
    outage_seconds=60.0,
)

LENGTHS = FULL if os.environ.get("SOAK") == "1" else Lengths()
