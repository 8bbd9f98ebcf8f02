"""What the tests' API server can do to a client: each fault of its table, outages, servers at one address."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from http.client import IncompleteRead, RemoteDisconnected
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.asking import ask, asked, events
from tests.kubernetes.running import ApiServer, Refused, apiserver

SERVICES = "/api/v1/services"
WATCH = f"{SERVICES}?watch=1&timeoutSeconds=30"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with apiserver(tmp_path_factory.mktemp("faults"), bookmarks=0.1) as server:
        for name in ("a", "b", "c"):
            server.create({"kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}})
        yield server


@pytest.fixture
def server(shared: ApiServer) -> Iterator[ApiServer]:
    """The shared one, serving, with an empty table and an empty log."""
    shared.start()
    shared.faults([])
    shared.requests(clear=True)
    yield shared
    shared.faults([])


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (401, "Unauthorized"),
        (410, "Expired"),
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
    ],
)
def test_a_status(server: ApiServer, code: int, reason: str) -> None:
    server.faults([{"verb": "list", "resource": "services", "status": code, "retryAfter": 7}])
    assert ask(server, "GET", "/api/v1/nodes").status == 200
    answer = ask(server, "GET", SERVICES)
    assert (answer.status, answer.value["reason"], answer.headers["retry-after"]) == (code, reason, "7")
    assert answer.value["code"] == code
    assert ask(server, "GET", SERVICES).status == 200


def test_which_requests_a_fault_is_for(server: ApiServer) -> None:
    """The second and third list of Services, and whatever comes for Nodes; the helpers' own requests are not met."""
    there = len(server.list("Service"))
    server.faults([
        {"resource": "services", "skip": 1, "times": 2, "status": 500},
        {"path": "/nodes", "times": 0, "status": 503},
    ])  # fmt: skip
    targets = [SERVICES, "/api/v1/nodes", SERVICES, SERVICES, SERVICES, "/api/v1/nodes/x", "/version"]
    assert [ask(server, "GET", target).status for target in targets] == [200, 503, 500, 500, 200, 503, 200]
    assert [fault["seen"] for fault in server.faults()] == [4, 2]
    assert len(server.list("Service")) == there
    assert [entry["status"] for entry in server.requests(resource="services")] == [200, 500, 500, 200]


@pytest.mark.parametrize("table", [[{"statsu": 500}], [{"verb": "list"}]])
def test_a_slip_in_the_table_is_told(server: ApiServer, table: list[dict[str, Any]]) -> None:
    with pytest.raises(Refused, match="400"):
        server.faults(table)


def test_a_page_of_a_proxy_in_between(server: ApiServer) -> None:
    server.faults([{"text": "<html>Bad Gateway</html>", "status": 502}])
    answer = ask(server, "GET", SERVICES)
    assert (answer.status, answer.text, answer.value) == (502, "<html>Bad Gateway</html>", None)


def test_a_body_that_is_cut(server: ApiServer) -> None:
    server.faults([{"verb": "list", "cut": 500}])
    with pytest.raises(IncompleteRead) as cut:
        ask(server, "GET", SERVICES)
    assert len(cut.value.partial) == 500


def test_a_watch_that_is_cut_in_the_middle_of_an_object(server: ApiServer) -> None:
    with asked(server, "GET", WATCH) as watch:
        first = watch.readline()
    server.faults([{"verb": "watch", "cut": len(first) + 100}])
    with asked(server, "GET", WATCH) as watch:
        assert json.loads(watch.readline())["type"] == "ADDED"
        with pytest.raises((OSError, json.JSONDecodeError)):
            list(events(watch))


def test_no_answer_at_all(server: ApiServer) -> None:
    server.faults([{"hang": 0.1}])
    with pytest.raises((RemoteDisconnected, ConnectionError)):
        ask(server, "GET", SERVICES)


def test_an_answer_that_comes_by_drops(server: ApiServer) -> None:
    whole = ask(server, "GET", SERVICES)
    server.faults([{"drip": 400, "pause": 0.001, "times": 0}])
    assert ask(server, "GET", SERVICES).value == whole.value


def test_a_watch_that_falls_silent(server: ApiServer) -> None:
    """It stays open, and neither changes nor bookmarks come."""
    server.faults([{"verb": "watch", "silent": 2}])
    with asked(server, "GET", f"{WATCH}&allowWatchBookmarks=true") as watch:
        said = events(watch)
        assert [next(said)["type"], next(said)["type"]] == ["ADDED", "ADDED"]
        server.patch("Service", "default", "a", {"metadata": {"labels": {"n": str(server.revision())}}})
        assert watch.fp is not None
        watch.fp.raw._sock.settimeout(1)  # type: ignore[attr-defined]  # http.client has no other way to it
        with pytest.raises(TimeoutError):
            next(said)


def test_a_watch_that_ends_by_an_error_or_as_if_its_time_were_over(server: ApiServer) -> None:
    server.faults([{"verb": "watch", "error": 500, "events": 1}, {"verb": "watch", "end": 2}])
    told = ask(server, "GET", WATCH).events
    assert [event["type"] for event in told] == ["ADDED", "ERROR"]
    assert (told[1]["object"]["kind"], told[1]["object"]["code"]) == ("Status", 500)
    assert [event["type"] for event in ask(server, "GET", WATCH).events] == ["ADDED", "ADDED"]


def test_an_outage(server: ApiServer) -> None:
    """What is open breaks, what comes is refused, changes are made meanwhile, and it is back at the same address."""
    with asked(server, "GET", WATCH) as watch:
        watch.readline()
        server.stop()
        with pytest.raises((IncompleteRead, OSError)):
            watch.read()
    with pytest.raises(ConnectionRefusedError):
        ask(server, "GET", SERVICES)
    server.create({"kind": "Service", "metadata": {"name": "meanwhile"}, "spec": {"ports": [{"port": 80}]}})
    server.start()
    names = [item["metadata"]["name"] for item in ask(server, "GET", SERVICES).value["items"]]
    assert "meanwhile" in names


def test_connections_are_dropped_and_it_goes_on(server: ApiServer) -> None:
    with asked(server, "GET", WATCH) as watch:
        watch.readline()
        server.drop_connections()
        with pytest.raises((IncompleteRead, OSError)):
            watch.read()
    assert ask(server, "GET", SERVICES).status == 200


def test_servers_behind_one_address_one_after_the_other(tmp_path: Path) -> None:
    """A rolling restart: at each moment some serve, what one is told all know, and all have answered."""
    with apiserver(tmp_path, replicas=3) as server:
        assert len(set(server.addresses)) == 1
        for replica in range(3):
            server.stop(replica)
            assert {ask(server, "GET", SERVICES).status for _ in range(20)} == {200}
            server.create({"kind": "Service", "metadata": {"name": f"s{replica}"}, "spec": {"ports": [{"port": 80}]}})
            assert replica not in {entry["replica"] for entry in server.requests(clear=True)}
            server.start(replica)
        names = [item["metadata"]["name"] for item in ask(server, "GET", SERVICES).value["items"]]
        assert names == ["kubernetes", "s0", "s1", "s2"]
        for _ in range(200):
            if len(Counter(entry["replica"] for entry in server.requests())) == 3:
                break
            ask(server, "GET", "/version")
        assert len(Counter(entry["replica"] for entry in server.requests())) == 3


def test_another_cluster_at_the_same_address(tmp_path: Path) -> None:
    with apiserver(tmp_path) as server:
        server.bump(1000)
        server.create({"kind": "Service", "metadata": {"name": "lost"}, "spec": {"ports": [{"port": 80}]}})
        before, uid = server.revision(), server.get("Service", "default", "kubernetes")["metadata"]["uid"]
        server.forget()
        assert server.revision() < before
        assert [item["metadata"]["name"] for item in server.list("Service")] == ["kubernetes"]
        assert server.get("Service", "default", "kubernetes")["metadata"]["uid"] != uid
        # Who goes on from what he knew hears nothing, and a list that is to be as new is refused.
        assert ask(server, "GET", f"{SERVICES}?watch=1&timeoutSeconds=1&resourceVersion={before}").events == []
        assert ask(server, "GET", f"{SERVICES}?resourceVersion={before}").status == 504
