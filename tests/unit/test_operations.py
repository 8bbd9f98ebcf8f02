"""JSON Patch: what is taken, what is refused, and what does not fit a document."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from nodeport_nft.kube.operations import NotApplicableError, OperationError, check_operations, operated

pytestmark = pytest.mark.proves("U1")

DOCUMENT: dict[str, Any] = {
    "metadata": {"annotations": {"a.io/b": "1", "note": "x", "1": "one"}},
    "spec": {"type": "NodePort", "ready": True, "count": 0, "ports": [{"port": 80}, {"port": 443}]},
}


def operation(op: str, path: Any, **more: Any) -> dict[str, Any]:
    return {"op": op, "path": path, **more}


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        (operation("add", "/spec/ports/-", value=1), {"ports": [{"port": 80}, {"port": 443}, 1]}),
        (operation("add", "/spec/ports/1", value=1), {"ports": [{"port": 80}, 1, {"port": 443}]}),
        (operation("move", "/spec/ports/1", **{"from": "/spec/ports/0"}), {"ports": [{"port": 443}, {"port": 80}]}),
        (operation("copy", "/spec/name", **{"from": "/metadata/annotations/a.io~1b"}), {"name": "1"}),
        (operation("copy", "/spec/name", **{"from": "/metadata/annotations/1"}), {"name": "one"}),
        (operation("add", "/spec/x%2fy", value="as it stands"), {"x%2fy": "as it stands"}),
        (operation("test", "/spec/ready", value=True), {}),
        (operation("test", "/spec/ports/0/port", value=80.0), {}),
        (operation("test", "/spec/ports", value=[{"port": 80}, {"port": 443}]), {}),
    ],
)
def test_operations_of_the_rfc(given: dict[str, Any], changed: dict[str, Any]) -> None:
    before, patch = copy.deepcopy(DOCUMENT), [given]
    check_operations(patch)
    assert operated(DOCUMENT, patch) == {**DOCUMENT, "spec": {**DOCUMENT["spec"], **changed}}
    assert before == DOCUMENT, "what is patched is not changed"


@pytest.mark.parametrize(
    "given",
    [
        operation("test", "/spec/ready", value=1),
        operation("test", "/spec/count", value=False),
        operation("test", "/spec/ports", value=[{"port": 80}, {"port": 443}, {}]),
        operation("test", "/spec/ports/0", value={"port": True}),
        operation("test", "/spec/none", value=None),
        operation("remove", "/spec/none"),
        operation("remove", "/spec/ports/-"),
        operation("remove", "/spec/ports/01"),
        operation("remove", "/spec/ports/-1"),
        operation("remove", ""),
        operation("replace", "/spec/none", value=1),
        operation("add", "/spec/none/x", value=1),
        operation("add", "/spec/type/0", value="N"),
        operation("add", "/spec/ports/3", value=1),
        operation("move", "/spec/x", **{"from": "/spec/none"}),
    ],
)
def test_what_does_not_fit_the_document_is_told(given: dict[str, Any]) -> None:
    check_operations([given])
    with pytest.raises(NotApplicableError, match=f"^operation 0: {given['op']} "):
        operated(DOCUMENT, [given])


def nested(levels: int) -> dict[str, Any]:
    return {} if levels == 0 else {"a": nested(levels - 1)}


@pytest.mark.parametrize(
    ("patch", "text"),
    [
        (
            [operation("add", f"/spec{'/a' * 60 * step}/a", value=nested(60)) for step in range(40)],
            r"^operation 1: add .* is nested more than 100 levels deep then$",
        ),
        (
            [operation("copy", f"/copy-{step}", **{"from": ""}) for step in range(40)],
            r"^operation \d+: copy .* makes more than 3,145,728 bytes of the object$",
        ),
        (
            [operation("copy", "/spec" + "/a" * (step + 1), **{"from": "/spec"}) for step in range(120)],
            r"^operation \d+: copy ",
        ),
    ],
)
def test_operations_make_nothing_that_no_reader_takes(patch: list[dict[str, Any]], text: str) -> None:
    check_operations(patch)
    with pytest.raises(NotApplicableError, match=text):
        operated(DOCUMENT, patch)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([], "operation 0 is not a mapping"),
        (None, "operation 0 is not a mapping"),
        (operation("addne", "/spec/x", value=1), "op is not one of add, "),
        (operation("addap", "/spec/ports/9", value=1), "op is not one of add, "),
        ({"op": ["add"], "path": "/spec/x", "value": 1}, "op is not one of add, "),
        ({"path": "/spec/x", "value": 1}, "missing 'op'"),
        (operation("add", "/spec/x"), "missing property 'value'"),
        (operation("add", 5, value=1), "expected a JSON Pointer string"),
        (operation("add", "spec/x", value=1), "does not begin with /"),
        (operation("add", " /spec/x", value=1), "does not begin with /"),
        (operation("remove", "/metadata/annotations/#note"), '"#note" is neither'),
        (operation("copy", "/spec/x", **{"from": "/metadata/annotations/~0note"}), '"~0note" is neither'),
        (operation("add", "/metadata/annotations/a~2", value="1"), "~ stands before 0 or 1 alone"),
        (operation("add", "/spec/ports/ 1", value=1), '" 1" is neither'),
        (operation("add", "/spec/ports/+1", value=1), '"+1" is neither'),
        (operation("add", "/spec/ports/\N{ARABIC-INDIC DIGIT ONE}", value=1), "is neither"),
        (operation("add", "", value="text"), "something else of the whole object"),
        (operation("move", "", **{"from": "/spec/type"}), "something else of the whole object"),
    ],
)
def test_what_is_no_operation_is_told(given: Any, text: str) -> None:
    with pytest.raises(OperationError) as raised:
        check_operations([given])
    assert text in str(raised.value)
