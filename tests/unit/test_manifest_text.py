"""Text of all kinds → documents: YAML as Kubernetes reads it, JSON, and everything that is neither."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any

import pytest

from nodeport_nft.manifest import Problems, read_manifests
from nodeport_nft.model import Ranges
from nodeport_nft.text.document import Document, Fault
from nodeport_nft.text.json_text import read_documents


def values(text: str) -> list[Any]:
    """The documents of ``text``; in place of one that has faults, these as "line: message"."""
    found: list[Any] = []
    for read in read_documents(text):
        faults = (read,) if isinstance(read, Fault) else read.faults
        found += [f"{fault.line}: {fault.message}" for fault in faults]
        if isinstance(read, Document) and not faults:
            found.append(read.value)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("# nothing\n", []),
        ("---\n---\n...\n", []),
        ("\ufeffa: 1", [{"a": 1}]),
        ("%YAML 1.1\n---\na: 1\n...\n---\nb: 2", [{"a": 1}, {"b": 2}]),
        ("a: 1:2:3:4:5:6:7:8", [{"a": "1:2:3:4:5:6:7:8"}]),  # YAML 1.1 has it a number to the base of 60
        ("a: 2026-01-31T12:00:00Z", [{"a": "2026-01-31T12:00:00Z"}]),
        ("a: [yes, Off, TRUE, ~, null, '', y]", [{"a": [True, False, True, None, None, "", "y"]}]),
        ("a: [0x10, 010, 0o10, 0b11, 1_000, -5, 08, 0x_]", [{"a": [16, 8, 8, 3, 1000, -5, "08", "0x_"]}]),
        ("a: [1.5, -.5, 1.e+3, .inf, 1.0e999, '1.5', =]", [{"a": [1.5, -0.5, 1e3, ".inf", "1.0e999", "1.5", "="]}]),
        ("80: a\ntrue: b\nnull: c", [{"80": "a", "true": "b", "null": "c"}]),
        ("a: !!str 80\nb: !!int '80'", [{"a": "80", "b": 80}]),
        ("a: &x {b: 1}\nc: *x", [{"a": {"b": 1}, "c": {"b": 1}}]),
        ("a: &x 5\nb: *x", [{"a": 5, "b": 5}]),
        ("a: &x 5\n*x : b\nc: &y yes\n*y : d", [{"a": 5, "5": "b", "c": True, "true": "d"}]),
        ("&x <<: {a: 1}\nb: *x", [{"b": "<<", "a": 1}]),
        (
            "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz:\n  <<: [*x, *y]\n  a: 3",
            [{"x": {"a": 1, "b": 1}, "y": {"b": 2, "c": 2}, "z": {"a": 3, "b": 1, "c": 2}}],
        ),
        ("x: &x {a: 1, b: 1}\ny: &y {b: 2}\nz:\n  <<: *x\n  <<: *y", [{"x": {"a": 1, "b": 1}, "y": {"b": 2},
         "z": {"b": 2, "a": 1}}]),
        ('"<<": 1', [{"<<": 1}]),
        ("a: |\n  x\n  --- y\nb: >-\n  c\n  d", [{"a": "x\n--- y\n", "b": "c d"}]),
        ("a: " + "1" * 5000, [{"a": "1" * 5000}]),  # Python converts no number of so many digits
        ('{"a": [1, 2.5, true, null, "x"]}', [{"a": [1, 2.5, True, None, "x"]}]),
        ('{"a": 1e999}', [{"a": "1e999"}]),
        ('{"a": 1}\n{"b": 2}  {"c": 3}\n', [{"a": 1}, {"b": 2}, {"c": 3}]),
        ('{"a": 1}\n{"a": ' + "1" * 5000 + "}", [{"a": 1}, {"a": "1" * 5000}]),
        ('{"a": 1}\n---\n{"b": 2}', [{"a": 1}, {"b": 2}]),
        ("{a: 1, # flow style is not JSON\n b: [x, y,]}", [{"a": 1, "b": ["x", "y"]}]),
        ('{"a": "\\ud83d\\ude00"}', [{"a": "😀"}]),
    ],
)  # fmt: skip
def test_documents_are_read_as_kubernetes_reads_them(text: str, expected: list[Any]) -> None:
    assert values(text) == expected
    assert repr(values(text)) == repr(expected)  # True is 1 to ==


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
LONG = "x" * 1_000_000

FAULTS = {
    "tab": ("a:\n\tb: 1", ["2: a tab stands where YAML wants indentation; use spaces"]),
    "tab first": ("\ta: 1", ["1: a tab stands where YAML wants indentation; use spaces"]),
    "unclosed quote": ('a: "b', ["1: not YAML: found unexpected end of stream while scanning a quoted scalar that"]),
    "unclosed bracket": ("a: [1,\n2\n", ["3: not YAML: did not find expected ',' or ']' while parsing a flow sequ"]),
    "colons": ("a: b: c", ["1: not YAML: mapping values are not allowed in this context"]),
    "template": ("a: {{ .Values.a }}", ["1: a mapping or list stands for a key; is this a template not yet filled"]),
    "a fault hides nothing after it": (
        "a: 1\n---\nb: [\n---\nc: 1\n---\nd: 'x\n---\ne: 1",
        [{"a": 1}, "4: not YAML: did not find", {"c": 1}, "8: not YAML: found unexpected document ind", {"e": 1}],
    ),
    "bomb": (BOMB, ["6: aliases stand for more than 500000 values; write them out, or fewer"]),
    "bomb of text": (f"a: &a {LONG}\nb: [{'*a, ' * 1000}]", ["2: aliases stand for more than 500000 values"]),
    "bombs in a row": (f"a: &a [{'1, ' * 9000}]\nb: [{'*a, ' * 40}]\n---\n" * 2, [..., "5: aliases stand for more"]),
    "recursive alias": ("a: &a\n  b: *a", ["2: alias *a stands inside its own anchor; write it out"]),
    "unknown alias": ("a: *b", ["1: alias *b has no anchor &b before it"]),
    "anchor of another document": ("a: &a 1\n---\nb: *a", [{"a": 1}, "3: alias *a has no anchor &a before it"]),
    "deep by aliases": (
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 200)),
        ["99: nested more than 100 levels deep; flatten it", "197: nested more than 100 levels deep; flatten it"],
    ),
    "deep flow": ("[" * 200_000, ["1: nested more than 100 levels deep; flatten it"]),
    "deep flow mappings": ("{a: " * 200_000, ["1: nested more than 100 levels deep; flatten it"]),
    "deep blocks": ("- " * 200_000, ["1: nested more than 100 levels deep; flatten it"]),
    "deep keys": ("? " * 200_000, ["1: nested more than 100 levels deep; flatten it"]),
    "deep indentation": (
        "\n".join(" " * n + "a:" for n in range(150)),
        ["102: nested more than 100 levels deep; flatten it"],
    ),
    "deep JSON": ('{"a":' * 200_000, ["1: nested more than 100 levels deep; flatten it"]),
    "closed deep JSON": ('{"a":' * 120 + "1" + "}" * 120, ["1: nested more than 100 levels deep; flatten it"]),
    "bad tag": ("a: !!python/object:os.system x", ["1: tag tag:yaml.org,2002:python/object:os.system is not suppor"]),
    "bad tag of a list": ("a: !!set {b}", ["1: tag tag:yaml.org,2002:set is not supported; remove it"]),
    "binary tag": ("a: !!binary aGk=", ["1: tag tag:yaml.org,2002:binary is not supported for this value; rem"]),
    "wrong tag": ("a: !!int x", ["1: tag tag:yaml.org,2002:int is not supported for this value; remove it"]),
    "colons in brackets": ("a: [::1]", ["1: a colon stands where YAML wants none in brackets; put what has colons"]),
    "colons at an end in brackets": ("a: {b: fd00::}", ["1: a colon stands where YAML wants none in brackets; put"]),
    "several": (
        "a: !x 1\nb: {{c}}\nd: *e",
        ["1: tag !x is not", "2: a mapping or list stands for", "3: alias *e has"],
    ),
    "a list for a key": (
        "? [a, {b: c}]\n: d\ne: !f g",
        ["1: a mapping or list stands for a key", "3: tag !f is not"],
    ),
    "an alias of a mapping for a key": ("a: &a {b: c}\n*a : d", ["2: a mapping or list stands for a key"]),
    "bad merge": ("a:\n  <<: 5", ['3: "<<" on line 2 merges something that is not a mapping']),
    "control character": ("a: 1\n---\nb: \x1b[2J", ["3: U+001B is not allowed in YAML; is this a text"]),
    "NUL": ("a: 1\nb: \x00", ["2: U+0000 is not allowed in YAML; is this a text file?"]),
    "truncated JSON": ('{"a": 1,\n"b": [', ["2: not JSON: Expecting value (column 7)"]),
    "JSON in a row, one bad": ('{"a": 1}\n{"b": ]}', [{"a": 1}, "2: not JSON: Expecting value (column 7)"]),
    "half a character": ('{"a": "\\ud800"}', ["1: a string has half of a surrogate pair"]),
    "half a character, JSON in a row": ('{"a": 1}\n{"a": "\\ud800"}', [{"a": 1}, "2: a string has half of a surr"]),
    "flow style and a marker": ('{"a": 1}\n---\n{"b": 1, c: [}', [{"a": 1}, "3: not YAML: did not find expected"]),
    "constant": ('{"a": 1}\n{"a": NaN}', [{"a": 1}, "2: not JSON: NaN is not a value of JSON"]),
}


@pytest.mark.parametrize(("text", "expected"), FAULTS.values(), ids=FAULTS)
def test_what_cannot_be_read_is_given_up_alone(text: str, expected: list[Any]) -> None:
    found = values(text)
    assert len(found) == len(expected), found
    for got, wanted in zip(found, expected, strict=True):
        assert wanted is ... or got == wanted or (isinstance(wanted, str) and got.startswith(wanted)), got


def test_thousands_of_broken_documents_are_not_all_reported() -> None:
    found = values("a: [\n---\n" * 5000)
    assert len(found) == 101
    assert found[-1].endswith("100 documents cannot be read; the rest of the file is left unread")


def test_what_is_at_fault_is_left_out_and_the_rest_is_there() -> None:
    text = (
        "a: !x 1\n? [b]\n: {c: 1}\nd: !y [1]\ne: *e\nf: "
        + "[" * 120
        + "1"
        + "]" * 120
        + "\ng:\n  <<: 5\n  h: 1\ni: 1\n"
    )
    (document,) = read_documents(text)
    assert isinstance(document, Document)
    deep = document.value.pop("f")
    for _ in range(100):
        (deep,) = deep
    assert deep is None
    assert document.value == {"a": "1", "d": [1], "e": None, "g": {"h": 1}, "i": 1}
    assert [(fault.line, fault.path[:1]) for fault in document.faults] == [
        (1, ("a",)), (2, ()), (4, ("d",)), (5, ("e",)), (6, ("f",)), (10, ("g",)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value", "told"),
    [
        ("b: 1\na: 1\na: 2", {"b": 1, "a": 2}, ["3: a, also on 2: "]),
        ('{"b": 1,\n"a": 1,\n"a": 2}', {"b": 1, "a": 2}, ["3: a, also on 2: "]),
        ('{"b": "\\ud83d\\ude00",\n"a": 1,\n"a": 2}', {"b": "😀", "a": 2}, ["3: a, also on 2: "]),
        ("{a: 1, 'a': 2}", {"a": 2}, ["1: a, also on 1: "]),
        ("1: a\n'1': b", {"1": "b"}, ["2: 1, also on 1: "]),
        ("a: {x: 1}\na: {y: 1}\na: 5", {"a": 5}, ["2: a, also on 1: ", "3: a, also on 2: "]),
        ("a:\n- b: 1\n- b: 1\n  c: {d: 1,\n  d: 2}", {"a": [{"b": 1}, {"b": 1, "c": {"d": 2}}]},
         ["5: d, also on 4: a/1/c"]),
        ("x: &x {a: 1}\ny:\n  a: 2\n  <<: *x\n  a: 3", {"x": {"a": 1}, "y": {"a": 3}}, ["5: a, also on 3: y"]),
        ("x: &x {a: 1}\ny:\n  <<: *x\n  <<: *x", {"x": {"a": 1}, "y": {"a": 1}}, ["4: <<, also on 3: y"]),
        ("x: &x {a: 1}\ny:\n  <<: *x\n  a: 3", {"x": {"a": 1}, "y": {"a": 3}}, []),
        ("a: &a 1\nb: 1\n*a : 2\n1: 3", {"a": 1, "b": 1, "1": 3}, ["4: 1, also on 3: "]),
    ],
)  # fmt: skip
def test_of_a_key_that_is_given_twice_the_last_counts(text: str, value: Any, told: list[str]) -> None:
    (document,) = read_documents(text)
    assert isinstance(document, Document)
    assert (document.value, document.faults) == (value, ())
    for double, expected in zip(document.doubled, told, strict=True):
        line, key, also, place = re.fullmatch(r"(\d+): (.+), also on (\d+): (.*)", expected).groups()  # type: ignore[union-attr]
        assert double == Fault(int(line), f'key "{key}" is given twice in one mapping (also on line {also})')
        assert "/".join(map(str, double.path)) == place


def test_lines_are_those_of_keys_and_items_or_of_the_nearest_parent() -> None:
    yaml = "# a comment\n---\nx: 1\n---\na:\n  b:\n  - c: 1\n    d: &d {e: 1}\n  -\n    f: *d\ng:\n  <<: *d\n"
    json = '\n\n\n\n{"a":\n{"b": [\n{"c": 1,\n"d": 1},\n\t{\n"f": {"e": 1}}]},\n"g": {"e": 1}}'
    for text in (yaml, json):
        *_, document = read_documents(text)
        assert isinstance(document, Document)
        lines = [
            document.line(path)
            for path in ((), ("a",), ("a", "b"), ("a", "b", 0, "c"), ("a", "b", 0, "d"), ("a", "b", 1, "f"), ("g",))
        ]
        assert lines == [5, 5, 6, 7, 8, 10, 11]
        assert document.line(("a", "b", 7, "x")) == document.line(("a", "b")) == document.line(("a", "b", "x"))
    assert read_documents(yaml)


NODE = "apiVersion: v1\nkind: Node\nmetadata: {name: %s}\n"


def test_directories_are_read_in_order_and_hidden_files_left_out(tmp_path: Path) -> None:
    for name in ("b.yaml", "a/z.yml", "a/y.json", "c.txt", ".hidden.yaml", "..data/b.yaml", "d.yaml/e.yaml"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(NODE % (f"{file.parent.name[0]}-{file.stem[-1]}" if file.suffix == ".yml" else file.stem))
    (tmp_path / "a" / "y.json").write_text('{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "y"}}')
    (tmp_path / "masked.yaml").symlink_to("/dev/null")
    (tmp_path / "nothing.yaml").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for ever
    read = read_manifests([str(tmp_path)], ranges=Ranges())
    assert [(made.source.removeprefix(f"{tmp_path}/"), made.name) for made in read.objects] == [
        ("b.yaml:1", "b"),
        ("a/y.json:1", "y"),
        ("a/z.yml:1", "a-z"),
        ("d.yaml/e.yaml:1", "e"),
    ]


def test_standard_input_and_files_are_read_in_the_order_they_are_given(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(NODE % "file")
    stdin = io.BytesIO((NODE % "stdin").encode())
    read = read_manifests([str(file), "-"], ranges=Ranges(), stdin=stdin)
    assert [made.source for made in read.objects] == [f"{file}:1", "<stdin>:1"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_windows_writes_text_in_its_own_way(encoding: str, end: str) -> None:
    """``kubectl get -o yaml > file`` in Windows PowerShell is UTF-16 with a byte order mark."""
    text = f"{NODE % 'a'}---\n{NODE % 'b'}# größe 😀\n"
    mark = "\ufeff" if encoding.endswith("e") else ""
    stdin = io.BytesIO((mark + text.replace("\n", end)).encode(encoding))
    read = read_manifests(["-"], ranges=Ranges(), stdin=stdin)
    assert [(made.name, made.source) for made in read.objects] == [("a", "<stdin>:1"), ("b", "<stdin>:5")]


@pytest.mark.parametrize("size", ["file", "stdin", "device"])
def test_more_than_the_limit_is_not_read(tmp_path: Path, size: str) -> None:
    file = tmp_path / "big.yaml"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)  # more than there is memory
    path, stdin = {
        "file": (str(file), None),
        "stdin": ("-", io.BytesIO(b" " * 1001)),
        "device": ("/dev/zero", None),
    }[size]
    with pytest.raises(Problems, match="is larger than 1000 bytes; split it, or raise the document size limit"):
        read_manifests([path], ranges=Ranges(), max_document_bytes=1000, stdin=stdin)


def test_a_text_of_exactly_the_limit_is_read() -> None:
    text = (NODE % "a").encode()
    assert read_manifests(["-"], ranges=Ranges(), max_document_bytes=len(text), stdin=io.BytesIO(text)).objects


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xff\xfea\x00:\x00\x00", "byte 0xff is not UTF-8 (UTF-16 content?); save it as UTF-8 text"),
        (b"\xff\xfea\x00\x00\xd8", "byte 0xff is not UTF-8 (UTF-16 content?); save it as UTF-8 text"),
        ("a: 1".encode("utf-32"), "byte 0xff is not UTF-8"),
        (b"a: 1\n\x80\x81", ":2: byte 0x80 is not UTF-8 (binary content?); save it as UTF-8 text"),
        (b"\x7fELF\x02\x01\x01\x00", ":1: U+"),
        (b"PK\x03\x04", ":1: U+0003 is not allowed in YAML; is this a text file?"),
    ],
)
def test_binary_content_is_told_from_text(content: bytes, expected: str) -> None:
    with pytest.raises(Problems) as caught:
        read_manifests(["-"], ranges=Ranges(), stdin=io.BytesIO(content))
    assert expected in str(caught.value)


def test_paths_that_cannot_be_read_are_problems(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    looping = tmp_path / "loop.yaml"
    looping.symlink_to(looping)
    paths = [str(tmp_path / "none.yaml"), str(tmp_path / "empty"), str(looping), "nul\0.yaml", "x" * 5000]
    with pytest.raises(Problems) as caught:
        read_manifests(paths, ranges=Ranges())
    lines = str(caught.value).splitlines()
    assert len(lines) == len(paths)
    for line, expected in zip(
        lines,
        (
            "cannot be read: No such file or directory; check the path and its permissions",
            "holds no file ending in .yaml, .yml, .json; name the files themselves",
            "cannot be read: Too many levels of symbolic links",
            "nul\ufffd.yaml: cannot be read: embedded null byte",
            "xxx",
        ),
        strict=True,
    ):
        assert expected in line


def test_files_without_permission_are_problems(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1")
    (tmp_path / "a.yaml").chmod(0)
    euid = os.geteuid()
    if euid == 0:
        os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(Problems, match="cannot be read: Permission denied"):
            read_manifests([str(tmp_path / "a.yaml")], ranges=Ranges())
    finally:
        os.seteuid(euid)
