"""graph, and describe --tree, through the installed program."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.program import Program

pytestmark = pytest.mark.proves("U2")

MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, clusterIP: 10.96.5.5, selector: {app: web}, ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: v1
kind: Service
metadata: {name: idle, namespace: other}
spec: {clusterIP: 10.96.5.6, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
spec: {nodeName: worker-1}
status: {podIP: 10.244.1.2}
"""

TREE = """\
default/web  (NodePort)
└── 80/TCP → 80
    ├── 10.96.5.5:80  (clusterIP)
    ├── any node:30080  (nodePort)
    └── endpoints
        └── 10.244.1.2:80  (ready)  node worker-1
"""


@pytest.fixture
def program(tmp_path: Path) -> Program:
    program = Program(tmp_path)
    program.ok("apply", "-f", "-", stdin=MANIFEST)
    return program


def test_services_of_the_store_are_drawn(program: Program) -> None:
    text = program.ok("graph")
    assert text.startswith("flowchart TD\n")
    assert "default/web" in text
    assert "other/idle" not in text
    assert program.ok("graph", "web") == text == program.ok("graph", "svc/web", "-o", "mermaid")
    assert "other/idle" in program.ok("graph", "-A", "-o", "dot")


def test_graphviz_makes_a_picture(program: Program) -> None:
    root = ElementTree.fromstring(program.ok("graph", "-o", "svg"))
    assert "".join(root.itertext()).count("default/web") == 1


def test_where_graphviz_is_missing_the_package_is_named(program: Program, tmp_path: Path) -> None:
    answer = program("graph", "-o", "svg", env={"PATH": str(tmp_path)})
    assert (answer.code, answer.out) == (1, "")
    assert "install the package graphviz" in answer.err


def test_manifests_are_drawn_without_a_store(tmp_path: Path) -> None:
    program = Program(tmp_path)
    text = program.ok("graph", "-f", "-", "-A", stdin=MANIFEST)
    assert "default/web" in text
    assert not program.store.exists()


def test_what_cannot_be_drawn_is_told(program: Program) -> None:
    answer = program("graph", "web", "nope")
    assert (answer.code, answer.err) == (1, 'error: service "nope" not found in namespace default\n')
    assert "default/web" in answer.out
    answer = program("graph", "-n", "empty")
    assert (answer.code, answer.out, answer.err) == (0, "", "No resources found in empty namespace.\n")
    assert program("graph", "web", "-A").code == program("graph", "--limit", "0").code == 2


def test_services_for_which_there_is_no_room_are_counted(tmp_path: Path) -> None:
    services = "---\n".join(
        "apiVersion: v1\nkind: Service\n"
        f"metadata: {{name: s{i}}}\nspec: {{clusterIP: 10.96.1.{i}, ports: [{{port: 80}}]}}\n"
        for i in range(1, 255)
    )
    answer = Program(tmp_path)("graph", "-f", "-", stdin=services)
    assert answer.code == 0
    assert (
        answer.err
        == "warning: 4 Services are left out, for which there is no room; name those that you want to see\n"
    )


def test_describe_shows_a_tree(program: Program) -> None:
    assert program.ok("describe", "service", "web", "--tree") == TREE
    answer = program("describe", "pods", "--tree")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "error: --tree is for services; leave it out, or pods\n"


@pytest.mark.parametrize(("line", "offers"), [("graph ", ["web"]), ("graph w", ["web"]), ("graph web ", [])])
def test_the_shell_completes_services(program: Program, line: str, offers: list[str]) -> None:
    (program.directory / "config.yaml").write_text(f"store: {program.store}\n")
    words = ["nodeport-nft", "graph", "--config", "config.yaml", *line.split()[1:]]
    blank = line.endswith(" ")
    environment = {
        "_NODEPORT_NFT_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join([*words, *([""] if blank else [])]),
        "COMP_CWORD": str(len(words) - (not blank)),
    }
    answer = program.run(env=environment)
    assert (answer.out.split(), answer.err) == (offers, "")
