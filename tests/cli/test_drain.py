"""drain and uncordon, through the installed program (C5)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from typer.testing import CliRunner

from nodeport_nft.cli.app import app
from nodeport_nft.kube import Object, parse_object
from nodeport_nft.model import Ranges
from nodeport_nft.store import Store, Written
from tests.cli.program import Answer, Program

pytestmark = pytest.mark.proves("C7")

STATE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {ports: [{port: 5432}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
spec: {nodeName: worker-1}
status: {podIP: 10.244.1.1}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, labels: {app: web}}
spec: {nodeName: worker-2}
status: {podIP: 10.244.2.1}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: api-1, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.244.1.2], nodeName: worker-1}, {addresses: [10.244.3.2], nodeName: worker-3}]
---
apiVersion: v1
kind: Endpoints
metadata: {name: db}
subsets: [{addresses: [{ip: 10.244.2.3, nodeName: worker-2}], ports: [{port: 5432}]}]
---
{apiVersion: v1, kind: Node, metadata: {name: worker-1, labels: {disk: ssd}}, spec: {podCIDR: 10.244.1.0/24}}
"""
DRAIN = "nodeport-nft/drain"
NOW = "2026-01-31T12:00:00Z"


@pytest.fixture
def program(tmp_path: Path) -> Program:
    program = Program(tmp_path)
    program.ok("apply", "-f", "-", stdin=STATE)
    return program


def said(program: Program, *words: str) -> tuple[list[str], list[str]]:
    answer = program(*words)
    assert answer.code == 0, answer
    return answer.out.splitlines(), answer.err.splitlines()


def annotation(program: Program, kind: str, name: str) -> Any:
    return program.json(kind, name)["metadata"].get("annotations", {}).get(DRAIN)


def endpoints(program: Program) -> dict[str, str]:
    rows = program.ok("get", "endpoints").splitlines()[1:]
    return {row.split("  ")[0]: row.split("   ")[1].strip() for row in rows}


def test_a_node_is_drained_and_brought_back(program: Program) -> None:
    before = program.json("node", "worker-1")
    assert said(program, "drain", "worker-1") == (
        ["node/worker-1 drained"],
        [
            "2 endpoints of Services default/api and default/web now terminate: their connections live on, and new "
            "ones go to others"
        ],
    )
    assert annotation(program, "node", "worker-1") == "true"
    assert "10.244.1.1" not in endpoints(program)["web"]
    assert "10.244.2.1" in endpoints(program)["web"]
    assert said(program, "drain", "worker-1") == (["node/worker-1 already drained"], [])
    assert said(program, "uncordon", "node/worker-1") == (
        ["node/worker-1 uncordoned"],
        ["2 endpoints of Services default/api and default/web get new connections again"],
    )
    after = program.json("node", "worker-1")
    for document in (before, after):
        del document["metadata"]["resourceVersion"]
    assert after == before, "nothing else of it has changed"
    assert said(program, "uncordon", "worker-1") == (["node/worker-1 already uncordoned"], [])


def test_a_service_that_has_nothing_else_is_named_and_goes_on(program: Program) -> None:
    out, err = said(program, "drain", "nodes", "worker-2", "worker-1", "worker-2")
    assert out == ["node/worker-2 drained", "node/worker-1 drained"]
    assert err == [
        "1 endpoint of Service default/api now terminates: its connections live on, and new ones go to others",
        "Service default/db has no others, and goes on with 10.244.2.3",
        "Service default/web has no others, and goes on with 10.244.1.1 and 10.244.2.1",
    ]
    assert endpoints(program)["db"].startswith("10.244.2.3:5432")
    assert said(program, "uncordon", "worker-1", "worker-2")[1] == [
        "4 endpoints of Services default/api, default/db and default/web get new connections again"
    ]


def test_a_node_without_an_object_gets_one_if_an_endpoint_is_on_it(program: Program) -> None:
    assert said(program, "drain", "worker-3", "--dry-run")[0] == ["node/worker-3 drained (dry run)"]
    assert len(program.json("nodes")["items"]) == 1
    assert said(program, "uncordon", "worker-3") == (["node/worker-3 already uncordoned"], [])
    assert said(program, "drain", "worker-3")[0] == ["node/worker-3 drained"]
    assert annotation(program, "node", "worker-3") == "true"
    assert endpoints(program)["api"].startswith("10.244.1.2:8080")


def test_an_endpoint_is_drained_on_each_object_that_has_it(program: Program) -> None:
    also = json.dumps(program.json("endpointslice", "api-1")).replace("api-1", "also").replace('"api"', '"web"')
    program.ok("apply", "-f", "-", stdin=also)
    out, err = said(program, "drain", "endpoint", "10.244.1.2", "10.244.2.3")
    assert out == ["endpoint/10.244.1.2 drained", "endpoint/10.244.2.3 drained"]
    assert err[1:] == ["Service default/db has no others, and goes on with 10.244.2.3"]
    assert [annotation(program, "endpointslice", name) for name in ("api-1", "also")] == ["10.244.1.2"] * 2
    assert annotation(program, "endpoints", "db") == "10.244.2.3"
    said(program, "drain", "endpoint/10.244.3.2")
    assert annotation(program, "endpointslice", "api-1") == "10.244.1.2,10.244.3.2"
    said(program, "uncordon", "endpoints", "10.244.1.2")
    assert annotation(program, "endpointslice", "api-1") == "10.244.3.2"
    out, _ = said(program, "uncordon", "endpoint", "10.244.1.2", "10.244.3.2", "10.244.2.3")
    assert out == [
        "endpoint/10.244.1.2 already uncordoned",
        "endpoint/10.244.3.2 uncordoned",
        "endpoint/10.244.2.3 uncordoned",
    ]
    assert annotation(program, "endpoints", "db") is None


def test_what_is_drained_survives_an_apply_and_goes_with_a_dry_run_nowhere(program: Program) -> None:
    before = program.json("services,endpoints,endpointslices,pods,nodes")
    for words in (["worker-1", "worker-2"], ["endpoint", "10.244.1.1", "10.244.1.2", "10.244.2.3"]):
        out, err = said(program, "drain", *words, "--dry-run")
        assert all(line.endswith(" drained (dry run)") for line in out)
        assert err
    assert program.json("services,endpoints,endpointslices,pods,nodes") == before
    said(program, "drain", "endpoint", "10.244.1.1", "10.244.1.2", "10.244.2.3")
    said(program, "drain", "worker-1")
    drained = endpoints(program)
    assert set(program.ok("apply", "-f", "-", stdin=STATE).split()[1::2]) == {"unchanged"}
    assert endpoints(program) == drained
    lifted = STATE.replace("metadata: {name: worker-1,", f'metadata: {{name: worker-1, annotations: {{{DRAIN}: ""}},')
    assert "node/worker-1 configured" in program.ok("apply", "-f", "-", stdin=lifted)
    assert annotation(program, "node", "worker-1") is None


REFUSED = {
    "no such node": (["worker-9"], 1, 'node "worker-9" not found; known are '),
    "nothing like it": (["elsewhere"], 1, 'node "elsewhere" not found; known are worker-1, worker-2 and worker-3'),
    "a pod": (["web-2"], 1, 'node "web-2" not found; for the pod of this name: drain endpoint 10.244.2.1'),
    "one of several": (["worker-1", "elsewhere"], 1, 'node "elsewhere" not found'),
    "no such endpoint": (["endpoint", "10.244.1.1", "10.9.9.9"], 1, "endpoint 10.9.9.9 not found: no Pod, Endpoints"),
    "no address": (["endpoint", "web-1"], 2, '"web-1" is not an IP address'),
    "an address with a port": (["endpoint", "10.244.1.1:8080"], 2, "is an address with a port; leave out the port"),
    "an IPv6 address with a port": (["endpoint", "[fd00::1]:80"], 2, "leave out the port"),
    "endpoints after nodes": (["worker-1", "endpoint", "10.244.1.1"], 2, "one kind at a time"),
    "nodes after endpoints": (["endpoint", "10.244.1.1", "node", "worker-1"], 2, "one kind at a time"),
    "no endpoint": (["endpoint"], 2, "name the addresses of the endpoints"),
    "another kind": (["service", "web"], 2, "'service' cannot be drained; write NODE..., or endpoint ADDRESS..."),
    "another kind with a slash": (["pod/web-1"], 2, "'pod' cannot be drained"),
    "two kinds": (["node/worker-1", "endpoint/10.244.1.1"], 2, "of one kind"),
    "with a slash and without": (["node/worker-1", "worker-2"], 2, "of one kind"),
    "an empty name": (["node/"], 2, "name the nodes"),
}


def test_what_is_not_there_is_told_and_nothing_is_written(program: Program) -> None:
    before = program.json("pods,nodes")
    for case, (words, code, message) in REFUSED.items():
        for command in ("drain", "uncordon"):
            answer: Answer = program(command, *words)
            assert (answer.code, answer.out) == (code, ""), case
            assert answer.err.startswith("error: "), case
            assert message in answer.err, case
    assert program.json("pods,nodes") == before


def test_a_node_without_an_object_is_none_of_a_store_that_follows_manifests(program: Program) -> None:
    """The manifests lack it, so that it would be deleted, or keep the daemon from starting."""
    with Store(program.store, ranges=Ranges()) as store, store.transaction() as transaction:
        transaction.apply([parse_object(program.json("node", "worker-1"))], now=NOW, by_manifests=True)
    assert said(program, "drain", "worker-1")[0] == ["node/worker-1 drained"]
    answer = program("drain", "worker-3")
    assert (answer.code, answer.out) == (1, "")
    assert "follows manifests" in answer.err
    assert "add a Node of this name to the manifests" in answer.err


def test_without_a_store_there_is_nothing_to_drain(tmp_path: Path) -> None:
    answer = Program(tmp_path)("drain", "worker-1")
    assert (answer.code, answer.out) == (1, "")
    assert "there is no store" in answer.err
    assert not (tmp_path / "store.db").exists()


def test_it_is_shown_where_one_looks(program: Program) -> None:
    said(program, "drain", "worker-1")
    assert "Unknown,Drained" in program.ok("get", "nodes")
    assert f"{DRAIN}: true" in program.ok("describe", "node", "worker-1")
    assert "(1 draining)" in endpoints(program)["web"]
    described = program.ok("describe", "service", "web")
    assert [line.split() for line in described.splitlines() if line.startswith(("Endpoints", "Draining"))] == [
        ["Endpoints:", "10.244.2.1:8080"],
        ["Draining:", "10.244.1.1:8080"],
    ]
    said(program, "drain", "worker-2")
    assert endpoints(program)["db"] == "10.244.2.3:5432 (1 draining)"


class Overtaken(Store):
    """A store that others write to between what its reader has listed and what it looks at next, or writes."""

    others: ClassVar[list[list[str]]] = []
    late: ClassVar[list[list[str]]] = []
    program: ClassVar[Program]

    def write(self, *puts: Any, **how: Any) -> Written:
        if self.late:
            said(self.program, *self.late.pop())
        return super().write(*puts, **how)

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        if self.others:
            said(self.program, *self.others.pop())
        return super().get(kind, namespace, name)


BESIDE = {
    "another one drained": (["drain", "endpoint", "10.244.3.2"], ["drain"], "10.244.3.2,10.244.1.2"),
    "another one brought back": (["uncordon", "endpoint", "10.244.9.9"], ["drain"], "10.244.1.2"),
    "the same drained": (["drain", "endpoint", "10.244.1.2"], ["drain"], "10.244.1.2"),
    "brought back beside one that is drained": (["drain", "endpoint", "10.244.3.2"], ["uncordon"], "10.244.3.2"),
}


@pytest.mark.parametrize("case", BESIDE)
def test_of_two_at_one_object_neither_undoes_what_the_other_has_written(
    case: str, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one writes in the worst of moments: after all was read, and before what is drained of it is."""
    other, words, drained = BESIDE[case]
    if words == ["uncordon"]:
        said(program, "drain", "endpoint", "10.244.1.2")
    if "10.244.9.9" in other:
        slice_ = program.json("endpointslice", "api-1")
        slice_["endpoints"].append({"addresses": ["10.244.9.9"]})
        slice_["metadata"]["annotations"] = {DRAIN: "10.244.9.9"}
        program.ok("apply", "-f", "-", stdin=json.dumps(slice_))
    monkeypatch.setattr(Overtaken, "others", [other])
    monkeypatch.setattr(Overtaken, "program", program, raising=False)
    monkeypatch.setattr("nodeport_nft.store.open_objects", lambda _: Overtaken(program.store, ranges=Ranges()))
    done = CliRunner().invoke(app, [*words, "endpoint", "10.244.1.2", "--store", str(program.store)])
    assert done.exit_code == 0, done.output
    assert Overtaken.others == []
    assert annotation(program, "endpointslice", "api-1") == drained


def test_who_is_overtaken_again_and_again_comes_to_it_all_the_same(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [[word, "endpoint", "10.244.3.2"] for word in ("uncordon", "drain") * 7]
    monkeypatch.setattr(Overtaken, "late", others)
    monkeypatch.setattr(Overtaken, "program", program, raising=False)
    monkeypatch.setattr("nodeport_nft.store.open_objects", lambda _: Overtaken(program.store, ranges=Ranges()))
    done = CliRunner().invoke(app, ["drain", "endpoint", "10.244.1.2", "--store", str(program.store)])
    assert done.exit_code == 0, done.output
    assert others == []
    assert annotation(program, "endpointslice", "api-1") == "10.244.1.2"
