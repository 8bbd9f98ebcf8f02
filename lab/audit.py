"""``python -m lab.audit``: have any of the packages here known vulnerabilities? For ``make lint``.

pip-audit asks PyPI's database. Where that cannot be reached, or does not know the packages (a mirror answers for an
index, not for the database), one line says so and the exit code is 0: a closed network must not fail a build, and
must not pass for a clean bill either. What is found and is no exception makes it 1.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

EXCEPTIONS: Mapping[str, str] = {}
"""Vulnerabilities that do not concern us: the id, and why not."""

OTHERS: Mapping[str, str] = {
    "pip": "the environment's own, of the distribution's Python; nothing here imports it",
    "setuptools": "likewise",
    "nodeport-nft": "this very program, which no database knows",
}
"""Packages that are not asked about, each with the reason."""

SOCKET_SECONDS = 5
SECONDS = 30
"""What one question, and all of them, may take."""


def main() -> int:
    command = [sys.executable, "-m", "pip_audit", "--format=json", "--progress-spinner=off"]
    try:
        done = subprocess.run(
            [*command, f"--timeout={SOCKET_SECONDS}"], capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return _say([f"audit: not done, PyPI has not answered within {SECONDS} s"], 0)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        reason = (done.stderr.strip().splitlines() or [f"pip-audit exits with {done.returncode}"])[-1]
        return _say([f"audit: not done, PyPI's database cannot be asked: {reason[:200]}"], 0)
    return _say(*judge(report))


def judge(report: Mapping[str, Any], exceptions: Mapping[str, str] = EXCEPTIONS) -> tuple[list[str], int]:
    """What to say about pip-audit's report, and the exit code."""
    asked = [package for package in report["dependencies"] if package["name"] not in OTHERS]
    known = [package for package in asked if "skip_reason" not in package]
    if asked and not known:
        return [f"audit: not done, PyPI's database knows none of {len(asked)} packages: is this a mirror?"], 0
    found = {
        (package["name"], package["version"], names): vulnerability
        for package in known
        for vulnerability in package["vulns"]
        if not (names := frozenset((vulnerability["id"], *vulnerability["aliases"]))) & exceptions.keys()
    }
    lines = [
        f"audit: {name} {version} has {vulnerability['id']}; "
        f"{'take ' + ' or '.join(vulnerability['fix_versions']) if vulnerability['fix_versions'] else 'no fix yet'}, "
        "or give the reason why it does not concern us in lab/audit.py"
        for (name, version, _), vulnerability in found.items()
    ]
    all_named = {
        each for package in known for v in package["vulns"] for each in (v["id"], *v["aliases"])
    }  # an exception that is out of date hides the next fault of that name
    lines += [
        f"audit: {each} is an exception and is not there any more; take it out"
        for each in exceptions.keys() - all_named
    ]
    unknown = [package["name"] for package in asked if "skip_reason" in package]
    told = [f"audit: {len(known)} packages, {len(found)} vulnerabilities"]
    if unknown:
        told.append(f"audit: not known to the database: {', '.join(sorted(unknown))}")
    return lines + told, 1 if lines else 0


def _say(lines: list[str], code: int) -> int:
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
