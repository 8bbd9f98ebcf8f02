"""What ``kubectl get … -A -o yaml`` prints of a real cluster, piped into ``apply -f -``.

The objects are those that a Kubernetes 1.36.2 API server has answered with (``tests/kubernetes/recordings``), put
together as kubectl prints them: a List with sorted keys, each item with its kind, without managedFields.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.program import Program
from tests.kubernetes.recorded import recorded

pytestmark = pytest.mark.proves("U1")

Objects = list[dict[str, Any]]

FORMS: dict[str, Callable[[Any], str]] = {
    "yaml": lambda value: yaml.safe_dump(value, default_flow_style=False),
    "json": lambda value: json.dumps(value, indent=4, sort_keys=True),
}


def services() -> Objects:
    """All Services of a moment: a watch that streams what there is has them, up to the first bookmark."""
    events = recorded("49-watch-list-streaming").answer.events
    return [event["object"] for event in takewhile(lambda event: event["type"] != "BOOKMARK", events)]


def slices() -> Objects:
    return [recorded(name).answer.value for name in ("28-create-endpointslice-v6", "26-create-endpointslice")]


def nodes() -> Objects:
    return [recorded("10-patch-node-status").answer.value]


def printed(*parts: tuple[str, str, Objects], managers: bool = False) -> dict[str, Any]:
    """kubectl's List of objects, each part with its apiVersion and kind."""
    items = []
    for version, kind, objects in parts:
        for raw in objects:
            metadata = {key: value for key, value in raw["metadata"].items() if managers or key != "managedFields"}
            items.append({**raw, "apiVersion": version, "kind": kind, "metadata": metadata})
    return {"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}}


ALL = (
    ("v1", "Service", services()),
    ("discovery.k8s.io/v1", "EndpointSlice", slices()),
    ("v1", "Node", nodes()),
)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("managers", [False, True], ids=["", "--show-managed-fields"])
def test_all_of_it_is_stored_with_the_numbers_that_the_cluster_gave(
    program: Program, form: str, managers: bool
) -> None:
    text = FORMS[form](printed(*ALL, managers=managers))
    names = [raw["metadata"]["name"] for _, _, objects in ALL for raw in objects]
    assert len(names) >= 19, "the recordings have Services of each type"
    told = program.ok("apply", "-f", "-", stdin=text).splitlines()
    assert [line.partition("/")[2] for line in told] == [f"{name} created" for name in names]

    stored = {each["metadata"]["name"]: each for each in program.json("svc", "-A")["items"]}
    for theirs in services():
        ours = stored[theirs["metadata"]["name"]]
        assert ours["spec"] == theirs["spec"], "nothing is lost, and every clusterIP and nodePort is the cluster's"
        assert ours["metadata"].get("labels") == theirs["metadata"].get("labels")
        assert ours["metadata"]["uid"] != theirs["metadata"]["uid"], "it is another object"
    assert {spec["type"] for spec in (each["spec"] for each in stored.values())} == {
        "ClusterIP",
        "NodePort",
        "LoadBalancer",
        "ExternalName",
    }
    for theirs in slices():
        ours = program.json("endpointslice", theirs["metadata"]["name"])
        assert [ours[key] for key in ("addressType", "endpoints", "ports")] == [
            theirs[key] for key in ("addressType", "endpoints", "ports")
        ]
    (theirs,) = nodes()
    ours = program.json("node", theirs["metadata"]["name"])
    assert ours["spec"] == theirs["spec"]
    assert ours["status"] == {"addresses": theirs["status"]["addresses"]}, "of a node what is of use here"

    again = program.ok("apply", "-f", "-", stdin=text).splitlines()
    assert [line.rpartition(" ")[2] for line in again] == ["unchanged"] * len(names)
    taken = program("create", "service", "nodeport", "other", "--tcp=80", "--node-port=31000")
    assert (taken.code, taken.out) == (2, ""), "what the cluster gave is held here, too"


@pytest.mark.parametrize("form", FORMS)
def test_what_has_no_use_here_is_left_out_and_told(program: Program, form: str) -> None:
    cidrs = recorded("08-servicecidrs").answer.value["items"]
    event = recorded("53-event").answer.value
    text = FORMS[form](
        printed(*ALL, ("networking.k8s.io/v1", "ServiceCIDR", cidrs), ("events.k8s.io/v1", "Event", [event]))
    )
    answer = program("apply", "-f", "-", stdin=text)
    assert answer.code == 0
    assert len(answer.out.splitlines()) == sum(len(objects) for _, _, objects in ALL)
    told = answer.err.splitlines()
    assert len(told) == 2, told
    assert all(line.startswith("warning: <stdin>:") for line in told)
    assert [kind in answer.err for kind in ("ServiceCIDR", "Event")] == [True, True]
