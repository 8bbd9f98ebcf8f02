"""What a result was measured on, so that a reader can judge it."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def machine() -> dict[str, str]:
    """Processor, memory, kernel, programs, date and revision; "unknown" where something cannot be learnt."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{os.cpu_count()} × {_field('/proc/cpuinfo', 'model name')}",
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.1f} GB",
        "kernel": platform.release(),
        "distribution": _field("/etc/os-release", "PRETTY_NAME", "=").strip('"'),
        "nft": _said("nft", "--version"),
        "python": platform.python_version(),
        "revision": _said("git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=12"),
        "load": f"{os.getloadavg()[0]:.1f} at the start",
    }


def _field(path: str, name: str, separator: str = ":") -> str:
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(name) and separator in line:
            return line.split(separator, 1)[1].strip()
    return "unknown"


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
