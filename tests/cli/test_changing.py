"""Commands that change objects: dry runs, what is printed for others to apply, editors, writers at the same time."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeport_nft.cli.changing.summary import MOST_IN_PIPE, MOST_ON_TERMINAL, summarized
from tests.cli.program import SCRIPT, Program

GIVEN = """
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
spec: {containers: [{name: nginx, ports: [{containerPort: 8080}]}]}
status: {podIP: 10.244.1.2}
"""
NEW = """
apiVersion: v1
kind: Service
metadata: {name: new, labels: {app: new}}
spec: {type: LoadBalancer, selector: {app: new}, externalTrafficPolicy: Local, ports: [{port: 80}]}
---
{apiVersion: v1, kind: Node, metadata: {name: worker-1}}
"""

OF_NEW = {
    "apply": ("apply", "-f", "-"),
    "create": ("create", "-f", "-"),
    "clusterip": ("create", "svc", "clusterip", "made", "--tcp=80"),
    "nodeport": ("create", "svc", "nodeport", "made", "--tcp=80,81", "--udp=80"),
    "loadbalancer": ("create", "svc", "loadbalancer", "made", "--tcp=80"),
    "externalname": ("create", "svc", "externalname", "made", "--external-name=db.example"),
    "expose": ("expose", "pod", "web-1", "--port=80", "--type=NodePort"),
    "expose-service": ("expose", "svc", "web", "--name=made"),
}
"""Commands after which there is something new."""

OF_OLD = {
    "replace": ("replace", "-f", "-"),
    "label": ("label", "svc", "web", "tier=front"),
    "annotate": ("annotate", "svc", "--all", "note=a"),
    "delete": ("delete", "svc", "web"),
}


@pytest.fixture
def program(tmp_path: Path) -> Program:
    made = Program(tmp_path)
    made.ok("apply", "-f", "-", stdin=GIVEN)
    return made


def text_for(words: tuple[str, ...]) -> str:
    return GIVEN.replace("8080", "8081") if words[0] == "replace" else NEW


@pytest.mark.parametrize("words", [*OF_NEW.values(), *OF_OLD.values()], ids=[*OF_NEW, *OF_OLD])
def test_a_dry_run_writes_nothing_wherever_it_stands(program: Program, words: tuple[str, ...]) -> None:
    before = program.ok("get", "svc,pods,nodes", "-A", "-o", "yaml")
    verb = 3 if words[:2] == ("create", "svc") else 1
    for how in ("--dry-run", "--dry-run=client", "--dry-run=server"):
        out = program.ok(*words[:verb], how, *words[verb:], stdin=text_for(words))
        assert "dry run)" in out
    assert program.ok(*words, how, stdin=text_for(words)) == out
    assert program.ok("get", "svc,pods,nodes", "-A", "-o", "yaml") == before


@pytest.mark.parametrize("words", OF_NEW.values(), ids=OF_NEW)
def test_what_a_dry_run_prints_makes_the_same_when_it_is_applied(program: Program, words: tuple[str, ...]) -> None:
    printed = {how: program.ok(*words, f"--dry-run={how}", "-o", "yaml", stdin=NEW) for how in ("client", "server")}
    program.ok(*words, stdin=NEW)
    made = comparable(program)
    for text in printed.values():
        program.ok("delete", "svc,nodes", "--field-selector", "metadata.name!=web")
        program.ok("apply", "-f", "-", stdin=text)
        assert comparable(program) == made


def comparable(program: Program) -> list[Any]:
    """All that is stored, but for what is another one each time."""
    items = program.json("svc,pods,nodes", "-A")["items"]
    for item in items:
        for key in ("uid", "resourceVersion", "creationTimestamp"):
            del item["metadata"][key]
    return list(items)


def test_a_namespace_without_a_name_is_the_default_one_as_with_kubectl(program: Program) -> None:
    """And never all of them: scripts write -n "$NAMESPACE"."""
    program.ok("create", "svc", "clusterip", "web", "--tcp=80", "-n", "other")
    assert program.ok("get", "svc", "-n", "", "-o", "name") == "service/web\n"
    words = ("create", "svc", "clusterip", "made", "--tcp=80", "--dry-run=client", "-o", "json")
    assert program.ok(*words, "--namespace=") == program.ok(*words)
    assert program.ok("delete", "svc", "--all", "-n", "") == 'service "web" deleted\n'
    assert len(program.json("svc", "-A")["items"]) == 1


def test_a_trial_by_the_store_says_which_numbers_it_would_give(program: Program) -> None:
    words = ("create", "svc", "nodeport", "made", "--tcp=80", "-o", "json")
    tried, made = (yaml.safe_load(program.ok(*words, *more))["spec"] for more in (("--dry-run=server",), ()))
    assert tried == made
    assert tried["ports"][0]["nodePort"]


def test_a_dry_run_without_the_store_opens_none(program: Program) -> None:
    """It is for machines that have none, and for files that are yet to be applied somewhere."""
    program.store.chmod(0o644)
    program.store.write_bytes(b"no store at all" * 100)
    assert (
        program.ok("apply", "-f", "-", "--dry-run=client", "-o", "name", stdin=NEW) == "service/new\nnode/worker-1\n"
    )
    assert program("apply", "-f", "-", "--dry-run=server", stdin=NEW).code == 1


def test_writers_at_the_same_time_lose_nothing(program: Program) -> None:
    names = [f"l{number}" for number in range(4)]

    def write(name: str) -> int:
        words = ["label", "svc", "web", f"{name}=1", "--store", str(program.store)]
        return subprocess.run([SCRIPT, *words], check=False, timeout=60, stdout=subprocess.DEVNULL).returncode

    with ThreadPoolExecutor(len(names)) as pool:
        assert list(pool.map(write, names)) == [0] * len(names)
    assert program.json("svc", "web")["metadata"]["labels"] == {
        "app": "web",
        **dict.fromkeys(names, "1"),
    }


@pytest.mark.parametrize(
    "words",
    [
        ("label", "svc,pods", "--all", "a=b"),
        ("label", "svc", "web", "-f", "x"),
        ("annotate", "svc", "a=b", "-A"),
        ("label", "svc", "-l", "", "a=b"),
        ("annotate", "pods", "-A", "--selector= ", "a=b"),
        ("label", "svc", "-l", "app=web", "--all", "a=b"),
    ],
)
def test_what_is_meant_is_one_thing(program: Program, words: tuple[str, ...]) -> None:
    done = program(*words)
    if "--all" in words and "-l" not in words:
        assert done.out == "service/web labeled\npod/web-1 labeled\n"
    else:
        assert (done.code, done.out) == (2, "")


def test_what_is_drained_comes_back_by_annotate_and_by_edit(program: Program) -> None:
    """Who applies a manifest that says nothing of it leaves it; who takes it away means it."""
    for bring_back in (
        lambda: program.ok("annotate", "pod", "web-1", "nodeport-nft/drain-"),
        lambda: edited(program, "sed -i /drain:/d", "pod/web-1"),
    ):
        program.ok("annotate", "pod", "web-1", "nodeport-nft/drain=10.244.1.2")
        program.ok(
            "apply",
            "-f",
            "-",
            stdin=GIVEN.replace(
                "{app: web}}\nspec: {con", '{app: web}, annotations: {nodeport-nft/weight: "3"}}\nspec: {con'
            ),
        )
        assert "nodeport-nft/drain" in program.json("pod", "web-1")["metadata"]["annotations"]
        bring_back()
        assert program.json("pod", "web-1")["metadata"]["annotations"] == {"nodeport-nft/weight": "3"}


def test_what_is_not_kept_of_a_pod_is_told(program: Program) -> None:
    done = program("annotate", "pod/web-1", "svc/web", "note=a")
    assert done.out == "pod/web-1 not annotated\nservice/web annotated\n"
    told = "pod/web-1: the annotation note is not kept: of a Pod only those of use here are"
    assert (done.code, done.err) == (0, f"warning: {told}\n")


def edited(program: Program, editor: str, *objects: str) -> tuple[int, str, str]:
    """What an edit comes to, and what it says, with files beside the store."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("KUBE_EDITOR", ""), ("EDITOR", editor), ("TMPDIR", str(program.directory))):
            patch.setenv(name, value)
        answer = program("edit", *objects)
    return answer.code, answer.out, answer.err


def copies(program: Program) -> list[Path]:
    return sorted(program.directory.glob("nodeport-nft-edit-*"))


def test_an_edit_is_mended_after_what_is_wrong_has_come_back(program: Program) -> None:
    script = program.directory / "editor"
    script.write_text(
        '#!/bin/sh\ncp "$1" "seen$(ls seen* 2>/dev/null | wc -l)"\n'
        'if grep -q 99999 "$1"; then sed -i s/99999/8081/ "$1"; else sed -i s/8080/99999/ "$1"; fi\n'
    )
    script.chmod(0o755)
    assert edited(program, str(script), "svc/web", "pod/web-1") == (0, "service/web edited\npod/web-1 edited\n", "")
    first, second = ((program.directory / name).read_text() for name in ("seen0", "seen1"))
    assert "99999" not in first
    told = [line for line in second.splitlines() if line.startswith("# * ")]
    assert len(told) == 2, "each thing that is wrong is told once"
    assert "# * Service/default/web: spec.ports[0].targetPort: 99999 is outside" in second
    assert program.json("svc", "web")["spec"]["ports"][0]["targetPort"] == 8081
    assert copies(program) == []


def test_what_somebody_else_has_written_meanwhile_stays_and_the_edit_is_kept(program: Program) -> None:
    other = f"{SCRIPT} label svc web by=other --store {program.store} > /dev/null"
    code, out, err = edited(program, f"sh -c '{other}; sed -i s/8080/8081/ $0'", "svc", "web")
    assert (code, out) == (1, "")
    assert "somebody has written it since" in err
    (copy,) = copies(program)
    assert f"A copy of your changes has been stored to '{copy}'" in err
    assert "targetPort: 8081" in copy.read_text()
    stored = program.json("svc", "web")
    assert (stored["metadata"]["labels"]["by"], stored["spec"]["ports"][0]["targetPort"]) == ("other", 8080)
    assert program("apply", "-f", str(copy)).code == 1, "the copy is still that of what was read"


@pytest.mark.parametrize("anew", [False, True], ids=["deleted", "created anew"])
def test_what_somebody_has_deleted_meanwhile_is_not_written_by_an_edit(program: Program, anew: bool) -> None:
    """Nor what has been created under its name since: that is another object, with a uid of its own."""
    at = f"--store {program.store} > /dev/null"
    others = [f"{SCRIPT} delete svc web {at}", *([f"{SCRIPT} create svc clusterip web --tcp=99 {at}"] * anew)]
    code, out, err = edited(program, f"sh -c '{'; '.join(others)}; sed -i s/8080/8081/ $0'", "svc", "web")
    assert (code, out) == (1, "")
    assert ("somebody has written it since" if anew else "it was deleted since") in err
    (copy,) = copies(program)
    assert "targetPort: 8081" in copy.read_text()
    assert program.ok("get", "svc", "-o", "jsonpath={.items[*].spec.ports[*].port}") == ("99" if anew else "")


def test_no_file_is_left_of_an_edit_that_is_stored(program: Program) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBE_EDITOR", "sed -i s/8080/8081/")
        patch.setenv("TMPDIR", str(program.directory))
        done = program("edit", "svc", "web", "-o", "jsonpath={.metadata.labels[0]}")
    assert (done.code, done.out) == (1, ""), "what is asked for is not in it"
    assert program.json("svc", "web")["spec"]["ports"][0]["targetPort"] == 8081
    assert copies(program) == []


@pytest.mark.parametrize(
    ("editor", "code", "told", "kept"),
    [
        ("true", 0, "Edit cancelled, no changes made.", 0),
        ("", 1, "vi needs a terminal; name another editor with KUBE_EDITOR or EDITOR", 0),
        ("truncate -s 0", 0, "Edit cancelled, saved file was empty.", 0),
        ("sed -i '1i# a comment'", 0, "Edit cancelled, no changes made.", 0),
        ("false", 1, "editor false ended with 1", 0),
        ("sh -c 'echo mine >> $0; exit 3'", 1, "ended with 3; nothing is changed", 1),
        ("/no/such/editor", 1, "No such file or directory; name another with KUBE_EDITOR or EDITOR", 0),
        ("'", 1, "KUBE_EDITOR or EDITOR", 0),
        ("sed -i 's/name: web$/name: other/'", 1, "kind, name and namespace stay as they are", 1),
        ("sed -i 's/^spec:$/spec: [/'", 1, "no valid changes were saved", 1),
        ("sed -i 's/app: web/app: [1/'", 1, 'error: at "name: web": a colon stands', 1),
        ("sed -i 's/default/\\xff/'", 1, "is not UTF-8", 1),
        ("sed -i 's/port: 80/port: 80000/'", 1, "no valid changes were saved", 1),  # another one each time
    ],
)
def test_an_edit_that_comes_to_nothing(program: Program, editor: str, code: int, told: str, kept: int) -> None:
    before = program.json("svc", "web")
    got, out, err = edited(program, editor, "svc", "web")
    assert (got, out) == (code, ""), err
    assert told in err
    assert len(copies(program)) == kept
    assert program.json("svc", "web") == before
    if "xff" in editor:
        assert b"\xff" in b"".join(copy.read_bytes() for copy in copies(program)), "as the user has written it"


def test_very_many_are_counted_and_names_are_all_printed(program: Program) -> None:
    many = "".join(
        f"---\n{{apiVersion: v1, kind: Service, metadata: {{name: s{number}}}, spec: {{ports: [{{port: 80}}]}}}}\n"
        for number in range(MOST_IN_PIPE + 1)
    )
    assert program.ok("apply", "-f", "-", stdin=many) == "1,001 services created\n"
    changed = many.replace("{name: s7}", "{name: s7, labels: {a: b}}")
    assert program.ok("apply", "-f", "-", stdin=changed) == f"service/s0 unchanged\n{program_lines(changed)}"
    names = program.ok("apply", "-f", "-", "-o", "name", stdin=many).splitlines()
    assert (len(names), names[-1]) == (MOST_IN_PIPE + 1, f"service/s{MOST_IN_PIPE}")
    assert program.ok("delete", "-f", "-", stdin=many) == "1,001 services deleted\n"


def program_lines(text: str) -> str:
    """What apply says of a thousand of which one is another one now: a line each."""
    numbers = range(1, text.count("---"))
    return "".join(f"service/s{number} {'configured' if number == 7 else 'unchanged'}\n" for number in numbers)


def test_a_person_gets_fewer_lines() -> None:
    entries = [("Pod", f"pod/{number} deleted", "deleted") for number in range(MOST_ON_TERMINAL + 1)]
    assert len(summarized(entries)) == len(entries)
    terminal, its_end = os.openpty()
    try:
        with os.fdopen(its_end, "w") as out, redirect_stdout(out):
            assert summarized(entries) == ["101 pods deleted"]
    finally:
        os.close(terminal)


def test_only_what_is_alike_is_counted() -> None:
    entries = [("Service", f"service/{number} created", "created") for number in range(1234)]
    entries[3:3] = [("Pod", "pod/a created", "created"), ("Service", "service/b configured", "configured")]
    told = ["1,234 services created (dry run)", "pod/a created (dry run)", "service/b configured (dry run)"]
    assert summarized(entries, " (dry run)", most=1000) == told
    assert len(summarized(entries, most=1234)) == len(entries)
