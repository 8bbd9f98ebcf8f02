"""The law of YAML read line by line: libyaml's events give the same documents, on the same lines."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport_nft.text import yaml_text
from nodeport_nft.text.document import Document, Fault
from nodeport_nft.text.yaml_lines import read_lines

ROOT = Path(__file__).parents[2]

VALUES = (
    *(
        "web",
        "a.b",
        "10.0.0.1",
        "fd00::1",
        "a:b",
        "http://x/y",
        "80",
        "0x1f",
        "010",
        "1_0",
        "1.5",
        ".5",
        ".",
        "...",
        "-1",
    ),
    *("yes", "No", "null", "~", "", "TRUE", "=", "a-", "a:", "-", "2026-01-31T12:00:00Z", "1:2", "a b", "a #b", "#b"),
    *('"80"', "'yes'", '""', "''", '"a: b"', "'it''s'", '"a\\n"', '"a', "'#'", '"a" b', "'a' # b", '"ä"', "ä"),
    *("[]", "{}", "[a]", "[a, 80, yes]", "[a,b]", "[ a ]", "[a, [b]]", "[a: b]", '["a"]', "[a", "[a, ]", "[a]:"),
    *(
        "{a: b}",
        "{a: 80, b: no}",
        "{a: b, a: c}",
        "{a:b}",
        "{a: }",
        "{a}",
        '{"a": b}',
        "{80: x}",
        "{a: b:c}",
        "{a: [b]}",
    ),
    *("|", ">-", "&x web", "*x", "!!str 80", "<<", "? a", "@a", "%a", "`a", "a\tb", "- a", "a: b", "---", "k: v: w"),
)
KEYS = ("a", "b", "c", "name", "yes", "80", "a/b", "a.b", '"a"', "<<", "a b", "null", "-a", "x" * 251, "x" * 252, "")
WHOLE = (
    "",
    "   ",
    "# words: [",
    "  # indented",
    "---",
    "--- ",
    "--- a",
    "...",
    "\t",
    "%YAML 1.1",
    "}",
    "text",
    " - a",
    "\ufeff",
)

LINES = st.one_of(
    *(
        st.builds(
            "{}{}{}:{}".format,
            st.sampled_from(["", "  ", "    ", "      ", " "]),
            st.sampled_from(["", "", "- ", "-  ", "- - "]),
            st.sampled_from(KEYS),
            value,
        )
        for value in (
            st.just(""),
            st.sampled_from(VALUES).map(" {}".format),
            st.sampled_from(["  a", " ", "a", " a "]),
        )
    ),
    st.builds("{}- {}".format, st.sampled_from(["", "  ", "    ", " "]), st.sampled_from(VALUES)),
    st.sampled_from(WHOLE),
)
PLAIN_LINES = st.one_of(
    st.builds(
        "{}{}{}:{}".format,
        st.sampled_from(["", "  ", "    "]),
        st.sampled_from(["", "- "]),
        st.sampled_from(["a", "b", "c", "d"]),
        st.sampled_from(["", "", " x", " 80", " [a, b]", " {a: b}", ' "q"']),
    ),
    st.builds("{}- {}".format, st.sampled_from(["", "  ", "    "]), st.sampled_from(["x", "{a: b}", "[]"])),
    st.sampled_from(["---", "# comment", ""]),
)
SCALARS = st.sampled_from(["web", "80", "yes", "", "a: b", "10.0.0.1", 80, 1.5, True, None, "ä", "two\nlines"])
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c", "80"]), inner, max_size=3)
    ),
    max_leaves=12,
)


def read(text: str, line: int = 3) -> list[Any]:
    """What is read of a text: each document with the lines of all that is in it, and faults."""
    found: list[Any] = []
    for each in yaml_text.read_yaml(text, line):
        if isinstance(each, Fault):
            found.append((each, each.path, each.known))
        else:
            places = [each.known_line(path) for path in _paths(each.value)]
            found.append((json.dumps(each.value), each.first, places, each.faults, each.doubled))
    return found


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield from _paths(child, (*path, key))


def nothing(_: str, line: int) -> Generator[Document, None, tuple[int, int]]:
    yield from ()
    return 0, line


def check_law(text: str) -> None:
    both = read(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml_text, "read_lines", nothing)
        assert both == read(text)


def taken(text: str) -> str:
    """What of a text is read line by line."""
    reading = read_lines(text, 0)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            return text[: end.value[0]]


@settings(max_examples=400)
@given(st.lists(LINES, max_size=8))
def test_any_lines(lines: list[str]) -> None:
    check_law("\n".join(lines))
    check_law("a: b\n---\n" + "\n".join(lines) + "\n")


@settings(max_examples=600)
@given(st.lists(PLAIN_LINES, max_size=12))
def test_lines_that_are_each_understood(lines: list[str]) -> None:
    check_law("\n".join(lines) + "\n")


@settings(max_examples=200)
@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), TREES, max_size=3), max_size=3), st.booleans())
def test_what_a_program_writes(trees: list[Any], in_blocks: bool) -> None:
    check_law(yaml.dump_all(trees, default_flow_style=False if in_blocks else None, sort_keys=False))


def test_every_value_behind_every_key() -> None:
    for value in VALUES:
        for key in KEYS:
            check_law(f"a:\n- {key}: {value}\n  b: c\n")
        check_law(f"a:\n  - {value}\n  - b\n")


@pytest.mark.parametrize("path", sorted(ROOT.glob("tests/cases/*/manifests.yaml")), ids=lambda path: path.parent.name)
def test_the_manifests_of_the_cases(path: Path) -> None:
    check_law(path.read_text())


PLAIN = """\
# Two objects.
---
apiVersion: v1
kind: Service
metadata:
  name: "web"
  labels: {app: web, tier: front}
spec:
  clusterIPs:
  - 10.96.1.2
  - fd00::2
  ports:
  - name: http

    port: 80
    extra:
  - {name: dns, port: 53}
---
kind: List
items:
    - kind: Node
      list:
        - [a, 80]
    - []
"""


def test_what_people_and_programs_write_is_read_line_by_line() -> None:
    assert taken(PLAIN) == PLAIN
    assert taken(PLAIN.rstrip()) == PLAIN.rstrip()
    check_law(PLAIN)


def test_the_rest_is_left_from_the_beginning_of_its_document_on() -> None:
    rest = "---\na: b\nc: |\n  text\n---\nd: e\n"
    assert taken(PLAIN + rest) == PLAIN
    check_law(PLAIN + rest)


@pytest.mark.parametrize("step", ["a:", "- a:"])
def test_what_is_nested_too_deep_is_left(step: str) -> None:
    for deep in (30, 60, 99, 100, 150):
        check_law("\n".join(" " * (number * (len(step) - 1)) + step for number in range(deep)))


@pytest.mark.parametrize("line", ["a: {} b", "a: [{}", "{}", "a: '{}", "- {} b", "{} #"])
def test_a_long_line_is_looked_at_once(line: str) -> None:
    """From each of its characters on it would be hours."""
    assert taken(line.format("x" * 1_000_000)) == ""
