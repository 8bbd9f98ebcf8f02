"""What has been stored and reaches no kernel: told to a person at a terminal, and to nobody else."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab.cluster import Cluster
from nodeport_nft.cli.unheard import tell_if_unheard
from nodeport_nft.config import Config
from tests.cli.program import SCRIPT, rest
from tests.daemon.running import wait_for
from tests.security.nobody import nobody

WEB = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80}]}
"""

UNHEARD = "no daemon programs this node, so nothing of this is in the kernel yet"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody at a terminal of worker-1, whose daemons keep their locks in ``directory``."""

    cluster: Cluster
    directory: Path
    daemons: list[subprocess.Popen[str]] = field(default_factory=list)

    def types(self, *words: str, before: tuple[str, ...] = (), store: str = "store.db", text: str = WEB) -> list[str]:
        """What the program says on the terminal, a line each; stdout goes elsewhere."""
        terminal, its_end = pty.openpty()
        try:
            argv = [*before, *self.program(*words, store=store)]
            process = self.cluster.popen(
                "worker-1", argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=its_end, cwd=self.directory
            )
            os.close(its_end)
            process.communicate(text, timeout=60)
            said = rest(terminal)
        finally:
            os.close(terminal)
        assert process.returncode == 0, said
        return said.splitlines()

    def program(self, *words: str, store: str = "store.db") -> list[str]:
        return [str(SCRIPT), *words, "--config", "config.yaml", "--store", str(self.directory / store)]

    def starts_a_daemon(self, host: str, store: str) -> None:
        words = ("sync", "--node-name", host, "--metrics-bind-address", "none", "--healthz-bind-address", "none")
        log = self.directory / f"{host}.log"
        with log.open("w") as out:
            daemon = [*self.program(*words, store=store), "--log-format", "json"]
            process = self.cluster.popen(host, daemon, stdout=out.fileno(), stderr=out.fileno(), cwd=self.directory)
        self.daemons.append(process)
        wait_for(lambda: '"event": "sync"' in log.read_text(), "the daemon's first sync", 60)


@pytest.fixture
def person(cluster: Cluster, tmp_path: Path) -> Iterator[Person]:
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    (tmp_path / "config.yaml").write_text(f"runDir: {run}\nstateDir: {tmp_path / 'state'}\n")
    made = Person(cluster, tmp_path)
    yield made
    for daemon in made.daemons:  # the next test has the node to itself
        daemon.kill()
        daemon.wait(timeout=60)


COMMANDS = [
    pytest.param(("apply", "-f", "-"), id="apply"),
    pytest.param(("create", "service", "nodeport", "other", "--tcp=80"), id="create-nodeport"),
    pytest.param(("create", "service", "clusterip", "other", "--tcp=80"), id="create-clusterip"),
    pytest.param(("label", "svc", "web", "a=b"), id="label"),
    pytest.param(("expose", "svc", "web", "--name=other"), id="expose"),
    pytest.param(("delete", "svc", "web"), id="delete"),
    pytest.param(("delete", "-f", "-"), id="delete-file"),
]


def test_get_nodes_says_why_it_cannot_tell_how_nodes_of_a_file_are(person: Person) -> None:
    person.types("apply", "-f", "-", text="apiVersion: v1\nkind: Node\nmetadata: {name: worker-1}\n")
    (line,) = person.types("get", "nodes")
    assert line.startswith("Unknown: ")
    assert "nodeport-nft status" in line
    assert person.types("get", "nodes", "-o", "name") == [], "where no STATUS is to be seen"


@pytest.mark.parametrize("words", COMMANDS)
def test_without_a_daemon_each_change_says_so_in_one_line(person: Person, words: tuple[str, ...]) -> None:
    if words[0] in ("label", "expose", "delete"):
        person.types("apply", "-f", "-")
    (line,) = person.types(*words)
    assert line.startswith(UNHEARD)
    assert f"nodeport-nft sync --once --store {person.directory / 'store.db'}" in line, "what is to be run is named"


@pytest.mark.parametrize("words", COMMANDS)
def test_a_dry_run_says_nothing(person: Person, words: tuple[str, ...]) -> None:
    person.types("apply", "-f", "-")
    assert person.types(*words, "--dry-run") == []


def test_what_changes_nothing_says_nothing(person: Person) -> None:
    assert len(person.types("apply", "-f", "-")) == 1
    assert person.types("apply", "-f", "-") == []
    assert person.types("delete", "svc", "never-was", "--ignore-not-found") == []


def test_a_script_hears_nothing(person: Person) -> None:
    done = person.cluster.run("worker-1", person.program("apply", "-f", "-"), text=WEB, cwd=person.directory)
    assert (done.stdout, done.stderr) == ("service/web created\n", "")


def test_without_the_privilege_nobody_is_told_to_use_it(person: Person) -> None:
    before = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    assert person.types("apply", "-f", "-", before=before) == []


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_who_is_not_root_is_not_told_to_program_the_node(person: Person, user: str) -> None:
    """The function itself, by a real second user, who cannot read where the program may be installed."""
    terminal, its_end = pty.openpty()
    run = str(person.directory / "run")

    def act() -> None:
        with open(its_end, "w", closefd=False) as stderr, redirect_stderr(stderr):
            tell_if_unheard(Config(store="/dev/null/store.db", run_dir=run))
            stderr.write("done")

    if user == "root":
        act()
    else:
        with nobody(act):
            pass
    os.close(its_end)
    said = rest(terminal)
    os.close(terminal)
    assert said.endswith("done")
    assert said.startswith(UNHEARD if user == "root" else "done")


def test_with_a_daemon_that_follows_the_store_nothing_is_said(person: Person) -> None:
    assert len(person.types("apply", "-f", "-")) == 1
    person.starts_a_daemon("worker-1", "store.db")
    assert person.types("apply", "-f", "-", text=WEB.replace("web", "other")) == []


def test_a_daemon_that_follows_another_store_is_named_with_it(person: Person) -> None:
    person.types("apply", "-f", "-", store="other.db")
    person.starts_a_daemon("worker-1", "other.db")
    (line,) = person.types("apply", "-f", "-")
    assert f"follows the store {person.directory / 'other.db'}" in line


def test_the_store_of_another_namespaces_daemon_is_not_this_nodes(person: Person) -> None:
    person.types("apply", "-f", "-")
    person.starts_a_daemon("worker-2", "store.db")
    assert person.types("apply", "-f", "-", text=WEB.replace("web", "other")) == []
    (line,) = person.types("apply", "-f", "-", store="mine.db")
    assert line.startswith(UNHEARD)
