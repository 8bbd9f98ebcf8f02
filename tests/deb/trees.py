"""Debian trees to install the package in, and the package with what a later version of it would have changed."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from lab.cluster import Cluster
from tests.kubernetes.image import ENTER, online

SECONDS = 600.0
"""For what asks an archive."""

_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "DEBIAN_FRONTEND": "noninteractive",
    "PIP_CERT": "/run/certificates.crt",
}
_ALIVE = 'mkdir -p /run/systemd/system && exec "$@"'
"""What maintainer scripts ask before they act on a running system."""

_VARIABLE = re.compile(
    r"/(dev|proc|run|sys|tmp|var/cache|var/log|var/lib/apt|var/lib/dpkg|etc/alternatives|etc/ld\.so\.cache)(/|$)"
    r"|/__pycache__(/|$)|/etc/(hosts|resolv\.conf)$"
)
"""What apt, dpkg and python3 write of their own for any package."""


class Tree:
    """A minimal Debian, without Python or anything of nftables'."""

    def __init__(self, root: Path, suite: str) -> None:
        self.root = root
        # The lists stay, for `apt install` to ask the archive.
        make = ["mmdebstrap", "--quiet", "--mode=root", "--format=directory", "--variant=apt", "--skip=cleanup/apt"]
        done = subprocess.run(
            [*online(), *make, suite, str(root)],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=SECONDS,
        )
        if done.returncode:
            if os.environ.get("CI"):
                pytest.fail(f"CI must install the package: {done.stderr}")
            pytest.skip(f"no {suite} from the archive: {done.stderr.strip().splitlines()[-1]}")
        self._before: set[str] = set()

    def satisfy(self, package: Path) -> None:
        """Install what the package depends on, and nothing else; what is here then is not the package's."""
        field = subprocess.check_output(["dpkg-deb", "--field", package, "Depends"], text=True, timeout=SECONDS)
        self.online("apt-get", "satisfy", "--yes", "--no-install-recommends", field.strip())
        self._before = self.files()

    def online(self, *words: str) -> str:
        """What a command printed that may ask the archive."""
        return _output([*online(), *self._entering(words)])

    def on_node(self, cluster: Cluster, *words: str, alive: bool = False) -> str:
        """What a command printed that ran on worker-1; ``alive``: where a service manager is taken to run."""
        inside = ["sh", "-c", _ALIVE, "sh", *words] if alive else words
        return cluster.run("worker-1", self._entering(inside), timeout=SECONDS, env=_ENVIRONMENT).stdout

    def start(self, cluster: Cluster, words: Sequence[str], log: Path) -> subprocess.Popen[str]:
        """A program on worker-1 that goes on."""
        with log.open("w") as file:
            return cluster.popen("worker-1", self._entering(words), stderr=file.fileno(), env=_ENVIRONMENT)

    def path(self, name: str) -> Path:
        """Where a file of the tree is for us."""
        return self.root / name.lstrip("/")

    def files(self) -> set[str]:
        """All paths but those that any package changes."""
        found = (f"/{path.relative_to(self.root)}" for path in self.root.rglob("*"))
        return {path for path in found if not _VARIABLE.search(path)}

    def left_over(self) -> set[str]:
        """Paths that were not there before the package was."""
        return self.files() - self._before

    def _entering(self, words: Sequence[str]) -> list[str]:
        return [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            ENTER,
            "sh",
            str(self.root),
            *words,
        ]


def later(package: Path, directory: Path) -> Path:
    """The package in a version that is higher, with another comment in /etc/default."""
    tree = directory / "later"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True, timeout=SECONDS)
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub(r"(?m)^Version: .*", r"\g<0>+later", control.read_text()))
    defaults = tree / "etc" / "default" / "nodeport-nft"
    defaults.write_text(defaults.read_text() + "# of the later version\n")
    path = directory / "later.deb"
    build = ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), str(path)]
    subprocess.run(build, check=True, stdout=2, timeout=SECONDS)
    return path


def _output(command: list[str]) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
