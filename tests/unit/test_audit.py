"""The audit of dependencies: what is found fails, what cannot be asked does not and says so."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.audit import judge

FOUND = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.0"], "description": ""}


def report(*packages: dict[str, Any]) -> dict[str, Any]:
    return {"dependencies": [{"version": "1.0", "vulns": [], **package} for package in packages], "fixes": []}


def test_a_vulnerability_fails_and_names_its_remedy() -> None:
    lines, code = judge(report({"name": "tornado", "vulns": [FOUND]}, {"name": "rich"}))
    assert code == 1
    assert lines[0].startswith("audit: tornado 1.0 has PYSEC-1; take 2.0, or ")
    assert lines[-1] == "audit: 2 packages, 1 vulnerabilities"


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-1"])
def test_an_exception_passes_under_any_of_its_names(name: str) -> None:
    _, code = judge(report({"name": "tornado", "vulns": [FOUND]}), {name: "we do not use that part"})
    assert code == 0


def test_an_exception_that_is_out_of_date_fails() -> None:
    lines, code = judge(report({"name": "tornado"}), {"CVE-1": "we do not use that part"})
    assert (code, lines[0]) == (1, "audit: CVE-1 is an exception and is not there any more; take it out")


def test_packages_of_the_environment_are_not_asked_about() -> None:
    assert judge(report({"name": "pip", "vulns": [FOUND]}, {"name": "rich"}))[1] == 0


def test_a_database_that_knows_nothing_is_no_clean_bill() -> None:
    skipped = {"name": "rich", "skip_reason": "Dependency not found on PyPI"}
    lines, code = judge(report(skipped, {"name": "pip"}))
    assert code == 0
    assert lines == ["audit: not done, PyPI's database knows none of 1 packages: is this a mirror?"]
    lines, _ = judge(report(skipped, {"name": "tornado"}))
    assert lines[-1] == "audit: not known to the database: rich"


def test_without_a_network_it_says_so_in_a_line_and_passes() -> None:
    if importlib.util.find_spec("pip_audit") is None:
        pytest.skip("pip-audit is not installed (extra lint)")
    inside = ["unshare", "--net", "--map-root-user"]
    if subprocess.run([*inside, "true"], check=False, capture_output=True).returncode:
        pytest.skip("network namespaces are refused")
    done = subprocess.run(
        [*inside, sys.executable, "-m", "lab.audit"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("audit: not done, ")
    assert len(done.stdout.splitlines()) == 1
