"""get --watch on a file: what there is, what changes, and how it ends. Of the other stores: in their rooms."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.program import SCRIPT, Program
from tests.cli.watching import Watching

SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec: {clusterIP: 10.96.5.5, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: other}
spec: {clusterIP: 10.96.5.6, ports: [{port: 80}]}
"""
LABELLED = SERVICES.replace("{app: web}}\nspec", "{app: web, tier: front}}\nspec", 1)
POD = json.dumps(
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-1", "labels": {"app": "web"}},
        "spec": {"nodeName": "worker-1", "containers": [{"name": "c", "image": "c"}]},
        "status": {"phase": "Running", "podIP": "10.244.1.2", "conditions": [{"type": "Ready", "status": "True"}]},
    }
)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    program = Program(tmp_path)
    program.ok("apply", "-f", "-", stdin=SERVICES)
    return program


def watching(program: Program, *words: str) -> Watching:
    return Watching(program.directory, *words, "--store", str(program.store))


def test_rows_come_as_objects_change_and_ctrl_c_ends_them(program: Program) -> None:
    with watching(program, "svc", "-w", "--show-labels", "--output-watch-events") as watch:
        assert watch.line()[:2] == ["EVENT", "NAME"]
        assert watch.line()[:2] == ["ADDED", "web"]
        program.ok("apply", "-f", "-", stdin=LABELLED)
        changed = watch.line()
        assert (*changed[:2], changed[-1]) == ("MODIFIED", "web", "app=web,tier=front")
        program.ok("create", "service", "clusterip", "a-name-longer-than-the-column", "--tcp=80")
        added = watch.text()
        assert added.split()[:2] == ["ADDED", "a-name-longer-than-the-column"]
        program.ok("delete", "svc", "web")
        gone = watch.text()
        assert gone.split()[:2] == ["DELETED", "web"]
        assert gone.index("ClusterIP") == added.index("ClusterIP"), "no column becomes narrower"
        assert watch.interrupt() == (130, "")


def test_what_a_selector_picks_no_longer_is_gone(program: Program) -> None:
    with watching(program, "svc", "-A", "-w", "-l", "!tier", "-o", "json", "--output-watch-events") as watch:
        events = [json.loads(watch.text()) for _ in range(2)]
        assert [event["object"]["metadata"]["name"] for event in events] == ["web", "elsewhere"]
        program.ok("apply", "-f", "-", stdin=LABELLED)
        event = json.loads(watch.text())
        assert (event["type"], event["object"]["metadata"]["name"]) == ("DELETED", "web")
        assert event["object"]["metadata"]["labels"]["tier"] == "front"
        program.ok("apply", "-f", "-", stdin=SERVICES)
        event = json.loads(watch.text())
        assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "web")
        assert watch.interrupt() == (130, "")


def test_changes_in_a_form_of_ones_own(program: Program) -> None:
    template = r'{.metadata.name} {.metadata.labels}{"\n"}'
    columns = "custom-columns=NAME:.metadata.name,TIER:.metadata.labels.tier"
    with watching(program, "svc", "web", "-w", "-o", f"jsonpath={template}") as watch:
        assert watch.text() == 'web {"app":"web"}'
        program.ok("apply", "-f", "-", stdin=LABELLED)
        assert watch.text() == 'web {"app":"web","tier":"front"}'
        assert watch.interrupt() == (130, "")
    with watching(program, "svc", "-w", "-o", columns) as watch:
        assert [watch.line(), watch.line()] == [["NAME", "TIER"], ["web", "front"]]
        program.ok("apply", "-f", "-", stdin=SERVICES)
        assert watch.line() == ["web", "<none>"]
        assert watch.interrupt() == (130, "")


def test_changes_alone(program: Program) -> None:
    with watching(program, "svc", "--watch-only", "--no-headers") as watch:
        for number in range(600):  # nothing says when it is there
            program.ok("apply", "-f", "-", stdin=SERVICES if number % 2 else LABELLED)
            if watch.has_come(0.2):
                break
        assert watch.line()[0] == "web"


def test_endpoints_are_computed_anew(program: Program) -> None:
    with watching(program, "endpoints", "-w") as watch:
        assert watch.line() == ["NAME", "ENDPOINTS", "AGE"]
        assert watch.line()[:2] == ["web", "<none>"]
        program.ok("apply", "-f", "-", stdin=POD)
        assert watch.line()[:2] == ["web", "10.244.1.2:80"]
        program.ok("delete", "svc", "web")
        assert watch.line()[0] == "web"
        assert watch.interrupt() == (130, "")


def test_a_store_that_is_put_in_place_of_the_other_is_compared_with_it(program: Program) -> None:
    other = Program(program.directory / "other")
    other.directory.mkdir()
    other.ok("apply", "-f", "-", stdin=SERVICES.replace("name: web", "name: new"))
    with watching(program, "svc", "-w", "--no-headers", "-o", "name", "--output-watch-events") as watch:
        assert watch.text() == "service/web"
        other.store.replace(program.store)
        assert {watch.text(), watch.text()} == {"service/web", "service/new"}
        assert watch.interrupt()[0] == 130


def test_several_kinds_have_a_table_each_and_one_stream(program: Program) -> None:
    with watching(program, "svc,ep,pods", "-w", "--output-watch-events") as watch:
        assert watch.line()[:3] == ["EVENT", "NAME", "TYPE"]
        assert watch.line()[:2] == ["ADDED", "service/web"]
        assert watch.text() == ""
        assert watch.line() == ["EVENT", "NAME", "ENDPOINTS", "AGE"]
        assert watch.line()[:3] == ["ADDED", "endpoints/web", "<none>"]
        program.ok("apply", "-f", "-", stdin=POD)
        assert watch.line()[:3] == ["MODIFIED", "endpoints/web", "10.244.1.2:80"]
        assert watch.text() == "", "the first row of the third table"
        assert watch.line()[:3] == ["EVENT", "NAME", "READY"]
        assert watch.line()[:2] == ["ADDED", "pod/web-1"]
        program.ok("label", "svc", "web", "tier=front")
        assert watch.line()[:2] == ["MODIFIED", "service/web"], "the titles of a table come once"
        program.ok("delete", "svc", "web")
        assert [watch.line()[:2] for _ in range(2)] == [["DELETED", "service/web"], ["DELETED", "endpoints/web"]]
        assert watch.interrupt() == (130, "")


def test_all_is_several_kinds_as_well(program: Program) -> None:
    with watching(program, "all", "-A", "-w", "-o", "name") as watch:
        assert {watch.text(), watch.text()} == {"service/web", "service/elsewhere"}
        program.ok("apply", "-f", "-", stdin=POD)
        assert watch.text() == "pod/web-1"
        assert watch.interrupt() == (130, "")


def test_a_store_that_is_put_in_place_is_compared_for_each_kind(program: Program) -> None:
    other = Program(program.directory / "other")
    other.directory.mkdir()
    other.ok("apply", "-f", "-", stdin=POD)
    with watching(program, "pods,svc", "-w", "-o", "json", "--output-watch-events") as watch:
        assert json.loads(watch.text())["object"]["metadata"]["name"] == "web"
        other.store.replace(program.store)
        events = [json.loads(watch.text()) for _ in range(2)]
        assert [(event["type"], event["object"]["kind"]) for event in events] == [
            ("ADDED", "Pod"),
            ("DELETED", "Service"),
        ]
        assert watch.interrupt()[0] == 130


def test_a_watch_is_of_what_is_there(program: Program) -> None:
    answer = program("get", "svc/web", "pods/ghost", "-w")
    assert (answer.code, answer.out, answer.err) == (1, "", 'error: pod "ghost" not found in namespace default\n')
    assert program("get", "svc", "--output-watch-events").code == 2
    answer = program("get", "svc", "ghost", "-w")
    assert (answer.code, answer.out, answer.err) == (1, "", 'error: service "ghost" not found in namespace default\n')


def test_a_watch_ends_with_its_reader(program: Program) -> None:
    command = [str(SCRIPT), "get", "svc", "-w", "--store", str(program.store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        for number in range(600):  # it may not yet have come to where it is told of changes
            program.ok("apply", "-f", "-", stdin=SERVICES if number % 2 else LABELLED)
            try:
                code = process.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
            break
        assert (code, process.stderr.read()) == (0, b"")


_INTERRUPTED = """
import os, signal
from nodeport_nft.cli.get.watching import _Following
made = _Following._next

def interrupted(self):
    try:
        return made(self)
    finally:
        os.kill(os.getpid(), signal.SIGINT)

_Following._next = interrupted
from nodeport_nft.entry import main
main()
"""


def test_ctrl_c_before_the_next_changes_are_waited_for_says_nothing(program: Program) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, "get", "svc", "-w", "-o", "name", "--store", str(program.store)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "service/web\n", "")
