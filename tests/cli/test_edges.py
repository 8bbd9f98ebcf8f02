"""The edges of the command line: closed and full streams, bytes that are no text, names that break lines."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from nodeport_nft.cli import app
from nodeport_nft.cli.layout import table
from nodeport_nft.cli.options import reported
from tests.cli.program import SCRIPT, Answer, Program

NOT_UTF8 = os.fsdecode(b"bad\xff")


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def shell(line: str, directory: Path) -> Answer:
    """One line for the shell, in which ``$PROGRAM`` is the program."""
    done = subprocess.run(
        ["sh", "-c", line],
        capture_output=True,
        text=True,
        cwd=directory,
        env={**os.environ, "PROGRAM": str(SCRIPT)},
        check=False,
        timeout=60,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("command", ["apply", "render", "diff"])
def test_a_closed_stdin_cannot_be_read(tmp_path: Path, command: str) -> None:
    answer = shell(f'"$PROGRAM" {command} -f - --store s.db <&-', tmp_path)
    assert answer == Answer(2, "", "error: stdin is closed; name a file, or write < FILE\n")


def test_a_closed_stdin_is_no_matter_to_who_reads_a_file(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text("apiVersion: v1\nkind: Node\nmetadata: {name: worker-1}\n")
    answer = shell('"$PROGRAM" apply -f node.yaml --store s.db <&-', tmp_path)
    assert (answer.code, answer.err) == (0, "")


@pytest.mark.parametrize(
    "words",
    [
        ("get", "svc", NOT_UTF8),
        ("delete", "svc", NOT_UTF8),
        ("describe", "svc", NOT_UTF8),
        ("get", "svc", "-n", NOT_UTF8),
    ],
)
def test_an_argument_that_is_no_text_is_bad_input(program: Program, words: tuple[str, ...]) -> None:
    program.ok("create", "service", "nodeport", "web", "--tcp=80")
    answer = program(*words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "error: bad\ufffd: is not UTF-8 text; check the arguments\n"


@pytest.mark.parametrize("words", ["--help", "get --help", "--version", "get svc --store s.db"])
def test_a_full_disk_behind_stdout_is_a_failure_in_one_line(tmp_path: Path, words: str) -> None:
    shell('"$PROGRAM" create service nodeport web --tcp=80 --store s.db', tmp_path)
    answer = shell(f'"$PROGRAM" {words} >/dev/full', tmp_path)
    assert answer == Answer(1, "", "error: No space left on device\n")


def test_a_full_disk_behind_both_streams_is_a_failure(tmp_path: Path) -> None:
    assert shell('"$PROGRAM" --help >/dev/full 2>&1', tmp_path).code == 1


def test_errors_of_the_system_name_the_file_and_no_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(typer.Exit) as caught, reported():
        missing.read_bytes()
    assert caught.value.exit_code == 1
    assert capsys.readouterr().err == f"error: {missing}: No such file or directory\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-n", "Bad NS"), '--namespace: "Bad NS" is not an RFC 1123 label; '),
        (("--cluster-domain", ""), '--cluster-domain: "" is not an RFC 1123 subdomain; '),
        (("--cluster-domain", "X Y"), '--cluster-domain: "X Y" is not an RFC 1123 subdomain; '),
        (("--cluster-domain", "a\n6.6.6.6 b"), '--cluster-domain: "a\ufffd6.6.6.6 b" is not an RFC 1123 subdomain; '),
    ],
)
def test_hosts_writes_no_name_that_is_none(program: Program, words: tuple[str, ...], told: str) -> None:
    program.ok("create", "service", "nodeport", "web", "--tcp=80")
    answer = program("hosts", *words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"error: {told}")


def test_a_store_without_a_name_is_refused(program: Program) -> None:
    answer = program.run("get", "svc", "--store", "")
    assert answer == Answer(2, "", "error: --store: is empty; name a file\n")


def tree(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command there is, groups as well, but for those that are there to say what is meant."""
    yield path
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from tree(child, (*path, name))


def test_every_help_has_an_example(program: Program) -> None:
    commands = list(tree(typer.main.get_command(app)))
    assert {(), ("trace",), ("create",), ("create", "service"), ("create", "service", "nodeport")} <= set(commands)
    for command in commands:
        answer = program.run(*command, "--help")
        assert answer.code == 0
        assert " ".join(("Example: nodeport-nft", *command)) in " ".join(answer.out.split()), command


@pytest.mark.parametrize(("word", "meant"), [("cordon", "drain NODE"), ("undrain", "uncordon")])
def test_a_word_that_is_like_the_opposite_is_answered_with_what_is_meant(
    program: Program, word: str, meant: str
) -> None:
    """Else the nearest command would be named, which undoes what was wanted."""
    answer = program.run(word, "worker-1", "--force")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"error: {word} is not a command: ")
    assert meant in answer.err


def test_a_row_of_a_table_is_one_line_whatever_is_in_it(program: Program) -> None:
    def pod(name: str, phase: str, node: str) -> str:
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name},
                "spec": {"nodeName": node},
                "status": {"phase": phase},
            }
        )

    manifests = "\n---\n".join([pod("a", "\x1b[31mred", "worker-1"), pod("b", "Running", "worker-2")])
    program.ok("apply", "-f", "-", stdin=manifests)
    header, first, second = program.ok("get", "pods", "-o", "wide").splitlines()
    assert first.split()[2] == "\\x1b[31mred"
    assert header.index("NODE") == first.index("worker-1") == second.index("worker-2")
    assert table(("A", "B"), [("x\ny", "1"), ("z", "2")]) == "A      B\nx\\ny   1\nz      2"


@pytest.mark.parametrize("number", ["²", "٣٠٠٨٠", "3_0080", " 30080", "9" * 5000])
@pytest.mark.parametrize("flag", ["--node-port", "--masquerade-bit"])
def test_a_flags_number_is_digits_alone(program: Program, flag: str, number: str) -> None:
    words = ("create", "service", "nodeport", "web", "--tcp=80") if flag == "--node-port" else ("render", "-f", "-")
    answer = program(*words, flag, number)
    assert (answer.code, answer.out) == (2, "")
    assert "is not an integer" in answer.err


# --- what a terminal would obey -------------------------------------------------------------------------------

EVIL = "\x1b]0;x\x07\x9b31m\u202e\u2066\u2028\x7f\x85"


def steers(text: str) -> list[str]:
    """The characters of a text that a terminal does something else with than to show them."""
    return [c for c in text if not c.isprintable() and c != "\n"]


@pytest.mark.parametrize(
    "words",
    [
        (EVIL,),
        ("get", EVIL),
        ("get", f"--{EVIL}"),
        ("get", "svc", EVIL),
        ("get", "svc", "-n", EVIL),
        ("get", "svc", "-o", EVIL),
        ("get", "svc", "--store", f"/{EVIL}/store.db"),
        ("get", "svc", "--config", EVIL),
        ("apply", "-f", EVIL),
        ("create", "service", "nodeport", EVIL, "--tcp=80"),
        ("create", "service", "nodeport", "web", f"--tcp={EVIL}"),
        ("create", "service", "nodeport", "web", "--tcp=80", "--node-port", EVIL),
        ("render", "-f", EVIL),
        ("render", "--node-ip", EVIL, "-f", EVIL),
        ("trace", EVIL, EVIL, "--port", "80"),
        ("trace", "192.0.2.7", "172.30.1.2", "--port", EVIL),
        ("status", "--metrics-bind-address", EVIL),
        ("sync", "--once", "--node-name", EVIL),
        ("sync", "-f", EVIL),
        ("cleanup", "--node-name", EVIL),
    ],
)
def test_no_argument_steers_the_terminal_by_way_of_its_error(program: Program, words: tuple[str, ...]) -> None:
    answer = program.run(*words)
    assert answer.err
    assert steers(answer.out + answer.err) == []


def test_no_file_steers_the_terminal_by_way_of_its_name_or_what_is_in_it(program: Program) -> None:
    evil = program.directory / EVIL
    evil.mkdir()
    metadata = {"name": "web", "annotations": {EVIL: EVIL}, "labels": {"a": EVIL}}
    documents = [
        {"apiVersion": "v1", "kind": EVIL, "metadata": metadata},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"type": EVIL, EVIL: EVIL}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": EVIL}, "spec": {"clusterIP": EVIL}},
    ]
    for number, document in enumerate(documents):
        (evil / f"{number}{EVIL}.yaml").write_text(json.dumps(document))
        for path in (evil, evil / f"{number}{EVIL}.yaml"):
            answer = program("apply", "-f", str(path))
            assert answer.err
            assert steers(answer.out + answer.err) == []


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_data_is_the_same_whatever_is_in_it(program: Program, form: str) -> None:
    metadata = {"name": "a", "annotations": {"x": EVIL}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}
    program.ok("apply", "-f", "-", stdin=json.dumps(service))
    told = program.ok("get", "service", "a", "-o", form)
    assert steers(told) == []
    read = json.loads(told) if form == "json" else yaml.safe_load(told)
    assert read["metadata"]["annotations"]["x"] == EVIL
    program.ok("apply", "-f", "-", stdin=told)


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2>&1 | true"])
def test_talk_that_nobody_hears_changes_nothing(tmp_path: Path, stderr: str) -> None:
    """The exit code is what it would have been, and the work is done."""
    line = f'{{ "$PROGRAM" apply -f - --store s.db; echo $? >code; }} {stderr}'
    objects = r"{apiVersion: v1, kind: Node, metadata: {name: a}}\n---\n{kind: Deployment}\n"
    shell(f"printf '{objects}' | {line}", tmp_path)  # has something to say: one is skipped
    assert (tmp_path / "code").read_text() == "0\n"
    shell(f'{{ "$PROGRAM" get {{}} --store s.db; echo $? >code; }} {stderr}', tmp_path)
    assert (tmp_path / "code").read_text() == "2\n"


@pytest.mark.parametrize("words", ["get svc", "get svc -o yaml", "render --store s.db"])
def test_a_reader_that_has_seen_enough_is_no_trouble(tmp_path: Path, words: str) -> None:
    shell('"$PROGRAM" create service nodeport web --tcp=80 --store s.db', tmp_path)
    store = "" if "--store" in words else "--store s.db"
    answer = shell(f'{{ "$PROGRAM" {words} {store}; echo $? >code; }} | true', tmp_path)
    assert "rror" not in answer.err
    assert (tmp_path / "code").read_text() == "0\n"


@pytest.mark.parametrize("place", ["hosts", "sub/dir/copy.db", "."])
def test_store_copy_names_no_option_that_it_has_not(program: Program, tmp_path: Path, place: str) -> None:
    program.ok("create", "service", "nodeport", "web", "--tcp=80", "--node-port=30001")
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n" * 100)
    (tmp_path / "sub").write_text("")
    there = str(tmp_path / place)
    for origin, target in ((str(program.store), there), (there, str(tmp_path / "copy.db"))):
        done = subprocess.run(
            [SCRIPT, "store", "copy", origin, target], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode
        assert there in done.stderr
        assert "--store" not in done.stderr
