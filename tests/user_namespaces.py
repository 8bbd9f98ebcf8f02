"""User namespaces, which a kernel or its administrator may refuse to have made."""

from __future__ import annotations

import os
import subprocess

import pytest

UNSHARE = ("unshare", "--user", "--map-root-user", "--net")


def need_user_namespaces() -> None:
    """Skip where they are refused; in CI, which runs as root and may make them, fail."""
    probe = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, timeout=60, check=False)
    if probe.returncode == 0:
        return
    if os.environ.get("CI") and os.getuid() == 0:
        pytest.fail(f"CI runs as root, which may make user namespaces: {probe.stderr}")
    pytest.skip(f"user namespaces are refused here: {probe.stderr.strip()}")
