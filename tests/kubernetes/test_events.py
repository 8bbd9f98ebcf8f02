"""Events at an API server, written with the rights of deploy/kubernetes by recorders of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.running import wait_for
from tests.kubernetes.running import NODE_ACCOUNT, ROOT, ApiServer, Popen, apiserver

RBAC = ROOT / "deploy" / "kubernetes" / "base" / "rbac.yaml"
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"ports": [{"port": 80}], "externalIPs": ["192.0.2.1"]},
}
CONTESTED = ["Service", "shop", "web", "FrontendContested", "192.0.2.1 tcp 80 is held by Service/shop/old"]


class Recorder:
    """The recorder of a node."""

    def __init__(self, server: ApiServer, node: str, popen: Popen = subprocess.Popen) -> None:
        """``popen`` starts its process."""
        self.path = server.write_kubeconfig(f"kubeconfig-{node}", {"token": "node-token"})
        argv = [sys.executable, "-m", "tests.kubernetes.telling", str(self.path), node]
        words = {} if popen is not subprocess.Popen else {"text": True}
        self._process = popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **words)
        assert self.problems() == []

    def tell(self, *happenings: list[str]) -> None:
        """These there are now."""
        self._send({"tell": happenings})

    def advance(self, seconds: float) -> None:
        """So much time passes."""
        self._send({"advance": seconds})

    def problems(self) -> list[str]:
        """What it has printed next."""
        assert self._process.stdout is not None
        found: list[str] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        """End it; it has not failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            assert self._process.wait(60) == 0
        finally:
            self._process.kill()
            self._process.stdout.close()

    def _send(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with apiserver(tmp_path_factory.mktemp("server"), rbac=[RBAC], tokens={"node-token": NODE_ACCOUNT}) as made:
        yield made


@pytest.fixture
def server(shared_server: ApiServer) -> ApiServer:
    """Without a Service and an Event."""
    for kind in ("Service", "Event"):
        for each in shared_server.list(kind):
            shared_server.delete(kind, each["metadata"]["namespace"], each["metadata"]["name"])
    shared_server.faults([])
    shared_server.requests(clear=True)
    return shared_server


@pytest.fixture
def one(server: ApiServer) -> Iterator[Recorder]:
    recorder = Recorder(server, "node-1")
    yield recorder
    recorder.close()


@pytest.fixture
def other(server: ApiServer) -> Iterator[Recorder]:
    recorder = Recorder(server, "node-2")
    yield recorder
    recorder.close()


def answered(server: ApiServer, verb: str, count: int = 1) -> None:
    """Wait until so many requests of a recorder for Events have been answered."""

    def asked() -> int:
        return len(server.requests(verb=verb, resource="events", user=NODE_ACCOUNT))

    wait_for(lambda: asked() >= count, f"{count} times {verb} events")


@pytest.mark.proves("W6")
def test_nodes_that_find_the_same_write_one_event(server: ApiServer, one: Recorder, other: Recorder) -> None:
    """And ``kubectl describe`` finds it, by the Service's UID."""
    service = server.create(SERVICE)
    one.tell(CONTESTED)
    answered(server, "create")
    other.tell(CONTESTED)
    answered(server, "create", 2)
    [event] = server.list("Event")
    assert event["metadata"]["namespace"] == "shop"
    assert event["regarding"]["uid"] == service["metadata"]["uid"]
    assert (event["regarding"]["kind"], event["regarding"]["name"]) == ("Service", "web")
    assert (event["type"], event["reason"], event["note"]) == ("Warning", *CONTESTED[3:])
    assert (event["reportingController"], event["reportingInstance"]) == ("nodeport-nft", "node-1")


@pytest.mark.proves("W6")
def test_who_has_written_an_event_renews_it_and_writes_it_again_when_it_is_forgotten(
    server: ApiServer, one: Recorder, other: Recorder
) -> None:
    server.create(SERVICE)
    one.tell(CONTESTED)
    answered(server, "create")
    other.tell(CONTESTED)
    answered(server, "create", 2)
    one.advance(3000)
    wait_for(lambda: server.list("Event")[0].get("series", {}).get("count") == 2, "the Event renewed")
    [event] = server.list("Event")
    server.delete("Event", "shop", event["metadata"]["name"])
    other.advance(3000)  # the first node may be gone
    wait_for(lambda: server.list("Event"), "the Event written again")
    [again] = server.list("Event")
    assert again["metadata"]["name"] == event["metadata"]["name"]
    assert again["reportingInstance"] == "node-2"
    server.delete("Event", "shop", event["metadata"]["name"])
    one.advance(3000)
    wait_for(lambda: server.list("Event"), "the Event written again by the one whose it was")
    assert server.list("Event")[0]["reportingInstance"] == "node-1"


def test_an_event_about_the_node_is_where_kubectl_looks_for_it(server: ApiServer, one: Recorder) -> None:
    one.tell(["Node", "", "node-1", "SyncFailed", "No space left on device"])
    wait_for(lambda: server.list("Event"), "the Event")
    [event] = server.list("Event", "default")
    assert event["regarding"]["uid"] == event["regarding"]["name"] == "node-1"


TERMINATING = (
    'events "web.1" is forbidden: unable to create new content in namespace shop because it is being terminated'
)
QUOTA = 'events "web.1" is forbidden: exceeded quota: few, requested: count/events=1, used: count/events=9'


@pytest.mark.parametrize("gone", ["service", "namespace", "invalid", TERMINATING, QUOTA])
def test_what_cannot_be_told_of_is_let_go(server: ApiServer, one: Recorder, gone: str) -> None:
    """A Service that is gone, and an Event that the server does not take: what comes after it is told."""
    if gone not in ("service", "namespace"):
        refusal = {"status": 422} if gone == "invalid" else {"status": 403, "message": gone}
        server.faults([{"verb": "create", "resource": "events", **refusal, "times": 1}])
        server.create(SERVICE)
    about = [*CONTESTED[:1], "nowhere" if gone == "namespace" else "shop", *CONTESTED[2:]]
    one.tell(about)
    wait_for(lambda: server.requests(resource="services", verb="get", user=NODE_ACCOUNT), "the Service asked for")
    server.create({**SERVICE, "metadata": {"name": "next", "namespace": "shop"}})
    one.tell(about, ["Service", "shop", "next", *CONTESTED[3:]])
    wait_for(lambda: server.list("Event"), "the next Event")
    assert [event["regarding"]["name"] for event in server.list("Event")] == ["next"]


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 429, "retryAfter": 1}, {"status": 503}, None])
def test_what_is_still_so_when_the_server_is_back_is_told_then(
    server: ApiServer, one: Recorder, fault: dict[str, Any] | None
) -> None:
    server.create(SERVICE)
    if fault is None:
        server.stop()
    else:
        server.faults([{"verb": "create", "resource": "events", "times": 1, **fault}])
    past = ["Service", "shop", "web", "KernelRefused", "it is well again"]
    one.tell(past, CONTESTED) if fault is None else one.tell(CONTESTED)
    one.tell(CONTESTED)
    if fault is None:
        server.start()
    wait_for(lambda: server.list("Event"), "the Event")
    assert [event["reason"] for event in server.list("Event")] == ["FrontendContested"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<html>", "text/html"),
        ("ok", "text/plain"),
        ("", "application/json"),
        ("[]", "application/json"),
        ("{}", "application/json"),
        ('{"metadata": 7}', "application/json"),
        ('{"metadata": {"name": "web"}}', "application/json"),
    ],
)
def test_an_odd_answer_neither_ends_the_recorder_nor_what_it_has_to_tell(
    server: ApiServer, one: Recorder, text: str, kind: str
) -> None:
    """Who is between answers so, for a while."""
    server.create(SERVICE)
    server.faults([{"verb": "get", "resource": "services", "text": text, "type": kind, "times": 1}])
    one.tell(CONTESTED)
    wait_for(lambda: server.list("Event"), "the Event")


def test_whoever_may_not_write_events_is_told_what_it_takes(tmp_path: Path) -> None:
    documents = RBAC.read_text().replace("resources: [events]", "resources: [nothing]")
    (tmp_path / "rbac.yaml").write_text(documents)
    with apiserver(tmp_path, rbac=[tmp_path / "rbac.yaml"], tokens={"node-token": NODE_ACCOUNT}) as server:
        server.create(SERVICE)
        recorder = Recorder(server, "node-1")
        recorder.tell(CONTESTED)
        [problem] = recorder.problems()
        recorder.close()
    assert "events" in problem
    assert problem.endswith("let it get Services, and create and patch Events: deploy/kubernetes/base/rbac.yaml")
