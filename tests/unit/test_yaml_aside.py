"""Of a large text another process reads the rest; the documents, their lines and what is wrong stay what they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nodeport_nft.text import yaml_aside
from nodeport_nft.text.document import Document, Fault
from nodeport_nft.text.json_text import read_documents
from nodeport_nft.text.yaml_text import read_yaml

DOCUMENT = """---
kind: Service
metadata:
  name: service-{number}
  labels: {{a: "1", b: 2.5, c: ~, d: [yes, 0x10, 1:2]}}
spec: |
  --- no document
   ---
"""


@pytest.fixture(autouse=True)
def forks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every text is large; the processes that were forked."""
    made: list[int] = []
    fork = os.fork

    def noted() -> int:
        process = fork()
        made.append(process)
        return process

    monkeypatch.setattr(yaml_aside, "LARGE", 1)
    monkeypatch.setattr(yaml_aside, "_BATCH", 3)
    monkeypatch.setattr(os, "fork", noted)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(yaml_aside, "_is_alone", lambda: True)  # threads of the test's runner hold no lock of ours
    return made


def text_of(count: int, **instead: str) -> str:
    """``count`` documents, others in the place of some: ``at_3="…"``."""
    return "".join(instead.get(f"at_{number}", DOCUMENT.format(number=number)) for number in range(count))


def told(document: Document | Fault) -> object:
    if isinstance(document, Fault):
        return document
    places = [(), ("kind",), ("metadata", "labels", "b"), ("metadata", "labels", "d", 1), ("items", 1, "kind")]
    faults = document.faults, document.doubled
    return repr(document.value), document.first, [document.line(place) for place in places], faults


ALIAS = "---\nkind: Service\nmetadata: &one {name: a}\nspec: *one\n"
LIST = "---\nkind: List\nitems:\n- kind: Service\n- kind: Pod\n"
TEXTS = {
    "plain": text_of(20),
    "one document": text_of(1),
    "empty ones": text_of(12, at_2="---\n", at_9="---\n# nothing\n"),
    "a list": text_of(12, at_9=LIST, at_10="---\n- a\n- b\n", at_11="--- text\n"),
    "a fault in the first part": text_of(12, at_1="---\na: [\n"),
    "a fault where it is cut": text_of(3, at_0="---\na: [\n"),
    "a fault in the rest": text_of(12, at_9="---\na: }\n"),
    "two in a row": text_of(12, at_2="---\na: [\n", at_9="---\nb: [\n"),
    "a tag that is none of ours": text_of(12, at_9="---\na: !!binary aGk=\n"),
    "a key given twice": text_of(12, at_9="---\na: 1\na: 2\n"),
    "a directive": text_of(6) + "...\n%YAML 1.1\n" + text_of(6),
    "an end": text_of(6) + "...\n" + text_of(6),
    "large numbers": text_of(12, at_9="---\na: " + "9" * 4000 + "\nb: " + "9" * 5000 + "\nc: .5\n"),
    "Windows": text_of(12).replace("\n", "\r\n"),
}
BY_ONE = {
    "aliases": text_of(12, at_2=ALIAS, at_9=ALIAS),
    "old lines": text_of(12, at_1="---\ra: b\n"),
    "other lines": text_of(12, at_1="---\na: b\u2028c\n"),
}


@pytest.mark.parametrize("text", [*TEXTS.values(), *BY_ONE.values()], ids=[*TEXTS, *BY_ONE])
def test_it_says_what_one_reader_says(text: str, forks: list[int]) -> None:
    assert [*map(told, read_documents(text))] == [*map(told, read_yaml(text))]
    assert len(forks) == (text not in BY_ONE.values() and text != TEXTS["one document"])


def test_what_is_no_text_is_told_once(forks: list[int]) -> None:
    # How many of the documents before it are read depends on how much libyaml looks at in one go.
    text = text_of(12, at_9="---\na: \x01\n")
    faults = [each for each in read_yaml(text) if isinstance(each, Fault)]
    assert [each for each in read_documents(text) if isinstance(each, Fault)] == faults
    assert len(faults) == len(forks) == 1


def test_aliases_are_counted_over_all_of_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodeport_nft.text.yaml_text.MAX_ALIASED", 3)
    read = list(read_documents(text_of(12, at_2=ALIAS, at_9=ALIAS)))
    assert any(isinstance(each, Fault) and "aliases stand for more" in each.message for each in read)


def test_a_process_that_is_killed_leaves_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    tell = yaml_aside._tell

    def dying(*given: object) -> None:
        tell(*given)  # type: ignore[arg-type]
        os._exit(9)

    monkeypatch.setattr(yaml_aside, "_tell", dying)
    text = text_of(20)
    assert [*map(told, read_documents(text))] == [*map(told, read_yaml(text))]


def test_where_no_process_can_be_had_one_reads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> int:
        raise BlockingIOError

    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(os, "fork", refused)
    text = text_of(20)
    assert [*map(told, read_documents(text))] == [*map(told, read_yaml(text))]
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_whoever_reads_no_further_ends_the_process(forks: list[int]) -> None:
    documents = iter(read_documents(text_of(200)))
    next(documents)
    del documents
    (process,) = forks
    with pytest.raises(ChildProcessError):
        os.waitpid(process, os.WNOHANG)


def test_a_lone_processor_leaves_it_to_one(monkeypatch: pytest.MonkeyPatch, forks: list[int]) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert len(list(read_documents(text_of(20)))) == 20
    assert forks == []


def test_where_children_vanish_by_themselves_there_are_none(forks: list[int]) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert len(list(read_documents(text_of(20)))) == 20
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert forks == []


COMMAND = """
import os, sys, threading
from nodeport_nft.entry import main
from nodeport_nft.text import yaml_aside

yaml_aside.LARGE = 1
os.sched_getaffinity = lambda _: {0, 1}
fork = os.fork
os.fork = lambda: (number := fork()) and print("forked", file=sys.stderr) or number
if sys.argv.pop(1) == "busy":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
main()
"""


@pytest.mark.parametrize(("company", "forked"), [("none", "forked\n"), ("busy", "")])
def test_a_command_forks_unless_another_thread_is_at_work(tmp_path: Path, company: str, forked: str) -> None:
    pods = "".join(f"---\n{{apiVersion: v1, kind: Pod, metadata: {{name: web-{number}}}}}\n" for number in range(20))
    words = [company, "apply", "-f", "-", "-o", "name", "--store", str(tmp_path / "store.db")]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *words], input=pods, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == [f"pod/web-{number}" for number in range(20)]
    assert done.stderr == forked
