"""What is wrong with documents that nobody here has a use for is nobody's problem."""

from __future__ import annotations

import io
import json

import pytest

from nodeport_nft.manifest import Manifests, Problems, read_manifests
from nodeport_nft.model import Ranges

NODE = "---\napiVersion: v1\nkind: Node\nmetadata: {name: worker-1}\n"
FAULTS = {
    "a tag": ("x: !Sub '${a}'", "tag !Sub is not supported for this value"),
    "a tag of a list": ("x: !Join [a, b]", "tag !Join is not supported"),
    "a tag of a mapping": ("x: !vault {a: b}", "tag !vault is not supported"),
    "binary": ("x: !!binary aGk=", "tag tag:yaml.org,2002:binary is not supported for this value"),
    "a set": ("x: !!set {a, b}", "tag tag:yaml.org,2002:set is not supported"),
    "a number that is none": ("x: !!int a", "tag tag:yaml.org,2002:int is not supported for this value"),
    "a template": ("x: {{ .Values.x }}", "a mapping or list stands for a key"),
    "a template in a list": ("x:\n- {{ .Values.x }}", "a mapping or list stands for a key"),
    "a list for a key": ("? [a, b]\n: c", "a mapping or list stands for a key"),
    "an alias without anchor": ("x: *y", "alias *y has no anchor &y before it"),
    "an alias inside itself": ("x: &x [*x]", "alias *x stands inside its own anchor"),
    "a merge of text": ("x: {<<: y}", '"<<" on line {line} merges something that is not a mapping'),
    "levels": ("x: " + "[" * 120 + "]" * 120, "nested more than 100 levels deep"),
    "levels of blocks": ("x:\n" + "\n".join(" " * n + "- " for n in range(1, 120)), "nested more than 100 levels"),
    "a key twice": ("x: 1\nx: 2", 'key "x" is given twice in one mapping (also on line {line}); the last one counts'),
}
READABLE = {
    "infinity": "x: .inf",
    "not a number": "x: .NaN",
    "a time": "x: 2026-01-31T12:00:00Z",
    "a number of many digits": "x: " + "1" * 5000,
    "keys that are no text": "1: a\ntrue: b\nnull: c\n2.5: d",
    "anything of ours": "spec: {ports: http}\nmetadata: 5",
    "a text of YAML": "data:\n  a.yaml: |\n    a: {{ b }}\n    a: [\n    x: !y z\n   \n",
    "a script": "data:\n  run.sh: |+\n    #!/bin/sh\n    echo '---' \\\n    cat <<EOF\n    EOF\n\n\n",
}


def read(text: str) -> Manifests:
    return read_manifests(["-"], ranges=Ranges(), stdin=io.BytesIO(text.encode()))


def indented(text: str, spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in text.splitlines())


@pytest.mark.parametrize("kind", ["Deployment", "Service"])
@pytest.mark.parametrize("place", ["document", "above its kind", "item"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_what_is_skipped_is_a_warning(fault: str, place: str, kind: str) -> None:
    """Wherever it stands, and wherever the kind is told; the Service is Knative's."""
    part, told = FAULTS[fault]
    body = f"apiVersion: serving.knative.dev/v1\nkind: {kind}\nmetadata: {{name: web}}"
    node = NODE.removeprefix("---\n")
    text, line = {
        "document": (f"{body}\n{part}\n{NODE}", 4),
        "above its kind": (f"{part}\n{body}\n{NODE}", 1),
        "item": (f"kind: List\nitems:\n-\n{indented(f'{body}{chr(10)}{part}', 2)}\n-\n{indented(node, 2)}", 7),
    }[place]  # fmt: skip
    made = read(text)
    assert [str(one.ref) for one in made.objects] == ["Node/worker-1"]
    skipped, *warnings = made.warnings
    assert skipped.endswith("; skipped")
    assert len(warnings) == 1 or fault == "levels of blocks"
    assert f" {kind}/default/web: {told.replace('{line}', str(line))}" in warnings[0]
    assert int(warnings[0].split(":")[1]) >= line


@pytest.mark.parametrize("part", READABLE.values(), ids=READABLE)
def test_what_is_no_fault_elsewhere_is_none_in_what_is_skipped(part: str) -> None:
    made = read(f"kind: ConfigMap\napiVersion: v1\n{part}\n{NODE}")
    assert [str(one.ref) for one in made.objects] == ["Node/worker-1"]
    assert len(made.warnings) == 1


@pytest.mark.parametrize("place", ["document", "item", "list", "no kind"])
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "a key twice"])
def test_the_same_fault_is_a_problem_in_what_is_used(fault: str, place: str) -> None:
    part, told = FAULTS[fault]
    node = "apiVersion: v1\nkind: Node\nmetadata: {name: a}"
    text, line, ref = {
        "document": (f"{node}\n{part}\n---\nkind: Secret\n", 4, "Node/a: "),
        "item": (f"kind: List\nitems:\n- kind: Secret\n-\n{indented(node, 2)}\n{indented(part, 2)}\n", 8, "Node/a: "),
        "list": (f"kind: List\n{part}\nitems:\n- kind: Secret\n", 2, ""),
        "no kind": (f"metadata: {{name: web}}\n{part}\n", 2, ""),
    }[place]
    with pytest.raises(Problems) as caught:
        read(text)
    problem = str(caught.value.problems[0])
    assert f": {ref}{told.replace('{line}', str(line))}" in problem
    assert "no matter" not in str(caught.value)


def test_only_what_is_at_fault_is_left_unread() -> None:
    text = "kind: List\nitems:\n- {kind: Node, apiVersion: v1, metadata: {name: a}, x: !y z}\n- {kind: Node}\n"
    with pytest.raises(Problems) as caught:
        read(text)
    assert [(problem.object, problem.field) for problem in caught.value.problems] == [
        ("Node/a", ""),
        ("Node", "apiVersion"),
        ("Node", "metadata.name"),
    ]


JSON_FAULTS = {
    "a key twice": (
        '{"a": 1, "a": 2}',
        'key "a" is given twice in one mapping (also on line 1); the last one counts',
    ),
    "NaN": ('{"a": [NaN]}', "not JSON: NaN is not a value of JSON"),
    "infinity": ('{"a": -Infinity}', "not JSON: -Infinity is not a value of JSON"),
    "half a character": ('"\\ud800"', "a string has half of a surrogate pair"),
    "half a character in a key": ('{"\\udfff": 1}', "a string has half of a surrogate pair"),
    "levels": ("[" * 150 + "]" * 150, "nested more than 100 levels deep"),
}


@pytest.mark.parametrize("place", ["document", "item"])
@pytest.mark.parametrize("fault", JSON_FAULTS)
def test_json_has_faults_of_its_own(fault: str, place: str) -> None:
    part, told = JSON_FAULTS[fault]
    node = '{"kind": "Node", "apiVersion": "v1", "metadata": {"name": "a"}%s}'
    secret = f'{{"x": {part}, "kind": "Secret", "apiVersion": "v1", "metadata": {{"name": "s"}}}}'
    row = f"{secret}\n{node % ''}" if place == "document" else f'{{"kind": "List", "items": [{secret}, {node % ""}]}}'
    made = read(row)
    assert [str(one.ref) for one in made.objects] == ["Node/a"]
    assert f"Secret/default/s: {told}" in made.warnings[1]
    json.dumps(made.objects[0].raw, ensure_ascii=False).encode()
    row = node % f', "x": {part}' + "\n" + node % ""
    if fault == "a key twice":
        return
    with pytest.raises(Problems, match=r"^<stdin>:1: Node/a: ") as caught:
        read(row)
    assert told in str(caught.value)


@pytest.mark.parametrize("flow", [True, False])
def test_far_too_many_levels_are_a_warning_where_the_kind_is_known_by_then(flow: bool) -> None:
    deep = "[" * 20_000 if flow else "\n" + "\n".join(" " * n + "-" for n in range(1, 900))
    made = read(f"kind: Secret\nx: {deep}\n{NODE}")
    assert [str(one.ref) for one in made.objects] == ["Node/worker-1"]
    with pytest.raises(Problems, match="nested more than 100 levels"):
        read(f"x: {deep}\nkind: Secret\n{NODE}")


NO_YAML = {
    "a tab": ("spec:\n\ta: b", "a tab stands where YAML wants indentation"),
    "a tab at once": ("\tspec: 1", "a tab stands where YAML wants indentation"),
    "an open list": ("spec: [a", "a colon stands where YAML wants none in brackets"),
    "an open list of quotes": ("spec: ['a'", "not YAML: did not find expected ',' or ']'"),
    "an open mapping": ("spec: {a: 'b'", "not YAML: did not find expected ',' or '}'"),
    "an open quote": ('spec: "abc', "not YAML: found unexpected document indicator"),
    "an open single quote": ("spec: 'abc", "not YAML: found unexpected document indicator"),
    "too far to the right": ("  spec: 1", "not YAML: mapping values are not allowed in this context"),
    "a character of YAML's own": ("a: @x", "not YAML: found character that cannot start any token"),
    "a block too far to the left": ("data:\n  x: |\n     a\n   b\n c", "not YAML: did not find expected key"),
    "two colons": ("a: b: c", "not YAML: mapping values are not allowed in this context"),
    "text behind a quote": ("a: 'x' y", "not YAML: did not find expected key"),
    "an escape": ('a: "\\q"', "not YAML: found unknown escape character"),
    "colons": ("a: [::1]", "a colon stands where YAML wants none in brackets"),
    "a marker cut short": ("--\nb: 1", "not YAML: could not find expected ':'"),
    "a bracket": ("]", "not YAML: did not find expected key"),
}


@pytest.mark.parametrize("before", ["apiVersion: apps/v1\nkind: Deployment\n", "kind: Deployment\n"])
@pytest.mark.parametrize("fault", NO_YAML)
def test_what_is_no_yaml_in_what_is_skipped_is_a_warning(fault: str, before: str) -> None:
    """What stands before and behind it in the file is served; of its rest nothing is made."""
    part, told = NO_YAML[fault]
    made = read(
        f"{NODE}---\n{before}{part}\napiVersion: v1\nmetadata: {{name: rest}}\n{NODE.replace('worker-1', 'b')}"
    )
    assert [str(one.ref) for one in made.objects] == ["Node/worker-1", "Node/b"]
    skipped, warning = made.warnings
    assert skipped.endswith(" Deployment/default: kind Deployment is not used here; skipped")
    assert f" Deployment/default: {told}" in warning
    assert warning.endswith("; no matter, for it is skipped")


@pytest.mark.parametrize("kind", ["Service", "List", "DeploymentList", "Servce", "svc", ""])
@pytest.mark.parametrize("fault", NO_YAML)
def test_what_is_no_yaml_stays_a_problem_where_it_may_be_ours(fault: str, kind: str) -> None:
    """What is ours, or no kind at all; and a list may hold what is ours."""
    part, _ = NO_YAML[fault]
    first = f"kind: {kind}" if kind else "title: web"
    with pytest.raises(Problems) as caught:
        read(f"{first}\n{part}\nx: y\n{NODE}")
    assert "no matter" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "x: [\nkind: Secret\n",
        "kind: Secret\nx: \x07\n",
        "kind: Secret\n--\nkind: Service\n",
        "kind: Service\nspec: {}\nkind: Secret\nx: [\n",
        'kind: Secret\nx: [\n...\n"kind": Service\n',
        "kind: Secret\n...\n]\n",
        'kind: Secret\nx: [\n\n{"apiVersion": "v1", "kind": "Service"}\n',
        "kind: Secret\rx: [a\r---\rkind: Service\r",
        "kind: Service\n  metadata: {name: web}\n",
    ],
)
def test_where_two_documents_may_be_one_what_is_no_yaml_stays_a_problem(text: str) -> None:
    """Or where the kind is not what it seems: what is ours is never skipped with what is broken."""
    with pytest.raises(Problems):
        read(text + NODE)


def test_a_bomb_in_what_is_skipped_goes_off_nowhere() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
    )
    made = read(f"kind: Secret\n{bomb}{NODE}")
    assert [str(one.ref) for one in made.objects] == ["Node/worker-1"]
    assert "aliases stand for more than 500000 values; no matter, for it is skipped" in made.warnings[1]
    with pytest.raises(Problems, match="aliases stand for more"):
        read(f"kind: Node\n{bomb}{NODE}")


RANGES = """kind: Service
apiVersion: v1
metadata: {name: web}
spec:
  type: LoadBalancer
  ports: [{port: 80}]
  loadBalancerSourceRanges: [10.0.0.0/8]
  loadBalancerSourceRanges: [0.0.0.0/0]
"""


@pytest.mark.parametrize("place", ["document", "item"])
def test_a_key_twice_in_what_is_used_is_a_warning_and_the_last_counts(place: str) -> None:
    text = RANGES if place == "document" else f"kind: ServiceList\napiVersion: v1\nitems:\n-\n{indented(RANGES, 2)}\n"
    made = read(text)
    assert [one.raw["spec"]["loadBalancerSourceRanges"] for one in made.objects] == [["0.0.0.0/0"]]
    line = 8 if place == "document" else 12
    assert made.warnings == (
        f'<stdin>:{line}: Service/default/web: key "loadBalancerSourceRanges" is given twice in one mapping '
        f"(also on line {line - 1}); the last one counts",
    )


def test_keys_twice_without_end_are_counted() -> None:
    warnings = read("kind: Secret\n" + "x: 1\n" * 3001).warnings
    assert len(warnings) == 12
    assert warnings[-1].endswith("and 2,990 more of this kind in Secret/default")


@pytest.mark.parametrize(("count", "lines"), [(1, 1), (5, 5), (6, 1), (3000, 1)])
def test_few_that_are_skipped_are_told_one_by_one_and_many_together(count: int, lines: int) -> None:
    text = "".join(f"---\nkind: Deployment\nmetadata: {{name: d{n}}}\n" for n in range(count))
    warnings = read(text).warnings
    assert len(warnings) == lines
    assert warnings[0].startswith("<stdin>:2: ")
    assert ("Deployment/default/d0: kind Deployment is not used here; skipped" in warnings[0]) is (lines == count)


def test_many_are_counted_by_kind() -> None:
    text = (
        "---\nkind: Secret\n" * 3 + "---\nkind: Deployment\n" * 4 + "---\nkind: Service\napiVersion: a.b/v1\n" * 1200
    )
    assert read(text).warnings == (
        "<stdin>:2: 1,207 objects of kinds that are not used here are skipped, the first of them here: "
        "Service of a.b (1200), Deployment (4), Secret (3)",
    )
    (warning,) = read("".join(f"---\nkind: {'k' * 5000}{n}\n" for n in range(1000))).warnings
    assert len(warning) < 1001
    (warning,) = read("".join(f"---\nkind: K{n}\n" for n in range(1000))).warnings
    assert warning.endswith("K9 (1), 990 other kinds")
    (warning,) = read("".join(f"---\nkind: K{n}\n" for n in range(11))).warnings
    assert warning.endswith("K9 (1), 1 other kind")


@pytest.mark.parametrize(
    "text",
    [
        "# Source: a/b.yaml\n---\n# Source: a/c.yaml\nnull\n---\n~\n---\n# only a comment\n",
        "---\n---\n\n---\n...\n---\n",
        "--- # a\n",
        "---\n\n\r\n---\r\n",
    ],
)
def test_documents_without_anything_are_nothing(text: str) -> None:
    made = read(text + NODE + text)
    assert [str(one.ref) for one in made.objects] == ["Node/worker-1"]
    assert made.warnings == ()
