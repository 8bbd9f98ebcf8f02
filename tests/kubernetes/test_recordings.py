"""The tests' API server is held against recordings of a real one: the same requests give the same answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.asking import ask, asked, events, whole
from tests.kubernetes.recorded import Answer, Recorded, recorded, recordings
from tests.kubernetes.replaying import Comparison, is_bookmark
from tests.kubernetes.running import NOBODY, ApiServer, apiserver

LEFT_OUT = {
    "31-get-table": "tables are for kubectl; the server answers 406",
    "32-get-partial-metadata": "nothing of ours asks for metadata alone; the server answers 406",
}

SHAPE_ONLY = {
    "01-version": "which build it is",
    "56-ipaddresses": "which addresses come first is by chance",
}

SECONDS = re.compile(r"timeoutSeconds=\d+")


def service(name: str) -> dict[str, Any]:
    """A Service as those that the recordings made between the recorded requests."""
    return {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "type": "NodePort",
            "selector": {"app": name},
            "ports": [{"name": "http", "port": 8000, "targetPort": 80}],
        },
    }


def seen(server: ApiServer) -> None:
    """A Service comes, changes and goes."""
    server.create(service("seen"))
    server.patch("Service", "default", "seen", {"spec": {"externalTrafficPolicy": "Local"}})
    server.delete("Service", "default", "seen")


def an_endpoint_ends(server: ApiServer) -> None:
    held = server.get("EndpointSlice", "default", "my-ser-1")
    conditions = {"ready": False, "serving": True, "terminating": True}
    server.replace({**held, "endpoints": [{**held["endpoints"][0], "conditions": conditions}]})


def pages(server: ApiServer, _: Comparison) -> None:
    for index in range(7):
        server.create(service(f"page-{index}"))


def others_write(server: ApiServer, _: Comparison) -> None:
    server.bump()


def a_token(server: ApiServer, comparison: Comparison) -> None:
    """The recorded token is of a first page that was not recorded."""
    page = ask(server, "GET", "/api/v1/services?limit=4")
    target = recorded("59-list-continue-expired").target
    assert comparison.learn("token", target.rpartition("=")[2], page.value["metadata"]["continue"])


def later(server: ApiServer, _: Comparison) -> None:
    for index in range(5):
        server.create(service(f"later-{index}"))


def restarted(server: ApiServer, _: Comparison) -> None:
    server.bump()
    server.compact()
    server.start()


BEFORE: dict[str, Callable[[ApiServer, Comparison], None]] = {
    "41-list-page-1": pages,
    "49-watch-list-streaming": others_write,
    "50-watch-endpointslices": others_write,
    "59-list-continue-expired": a_token,
    "60-watch-while-server-stops": later,
    "61-watch-too-old-after-restart": restarted,
}
"""What was done between the recorded requests."""

DURING: dict[str, Callable[[ApiServer], None]] = {
    "47-watch-changes": seen,
    "49-watch-list-streaming": seen,
    "50-watch-endpointslices": an_endpoint_ends,
}
"""What happened while a watch was open."""

TOKENS = {"38-unauthorized": "no-such-token", "39-forbidden": NOBODY, "40-anonymous": None}


def test_the_server_answers_as_a_real_one_has_answered(tmp_path: Path) -> None:
    """All recordings, one after the other: statuses, fields, values, reasons, causes, messages, events."""
    comparison = Comparison()
    played = 0
    with apiserver(tmp_path, bookmarks=0.5) as server:
        for one in recordings():
            if one.name in LEFT_OUT:
                accept = {"accept": one.headers["accept"]}
                assert ask(server, one.method, one.target, headers=accept).status == 406
                continue
            if (before := BEFORE.get(one.name)) is not None:
                before(server, comparison)
            target, body = comparison.asked(one)
            theirs, ours = _fit(one, _answer(server, one, target, body))
            comparison.compare(one.name, theirs, ours, shape=one.name in SHAPE_ONLY)
            played += 1
    assert comparison.differences == []
    assert played == 63 - len(LEFT_OUT)


def _answer(server: ApiServer, exchange: Recorded, target: str, body: str) -> Answer:
    headers = {name: value for name, value in exchange.headers.items() if name != "authorization"}
    headers["user-agent"] = ""  # the recorded client had no name
    token = TOKENS.get(exchange.name, "")
    stops = exchange.name == "60-watch-while-server-stops"
    goes_on = stops or any(map(is_bookmark, exchange.answer.events))
    if not goes_on:
        target = SECONDS.sub("timeoutSeconds=1", target)  # nothing more came, and it is not waited for
    with asked(server, exchange.method, target, body or None, token=token, headers=headers) as response:
        if (during := DURING.get(exchange.name)) is not None:
            during(server)
        if not goes_on:
            return whole(response, target)
        told = _told(exchange, events(response))
        if stops:
            server.stop()
            with pytest.raises((IncompleteRead, OSError)):
                response.read()
    found = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, found, "", None, told)


def _told(exchange: Recorded, said: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """A watch's events up to the last that was recorded, and up to a bookmark where one was."""
    wanted = [is_bookmark(event) for event in exchange.answer.events]
    told: list[dict[str, Any]] = []
    while wanted.count(False) > sum(not is_bookmark(event) for event in told) or (
        any(wanted) and not any(map(is_bookmark, told))
    ):
        told.append(next(said))
    return told


def _fit(exchange: Recorded, ours: Answer) -> tuple[Answer, Answer]:
    """Of what the real server has more of than is served here, the part that is."""
    theirs = exchange.answer
    if exchange.name in ("04-discovery-core", "06-discovery-servicecidrs"):
        names = {resource["name"] for resource in ours.value["resources"]}
        resources = [resource for resource in theirs.value["resources"] if resource["name"] in names]
        resources.sort(key=lambda resource: resource["name"])
        ours.value["resources"].sort(key=lambda resource: resource["name"])
        return theirs._replace(value={**theirs.value, "resources": resources}), ours
    if exchange.name == "02-readyz":
        names = {line.split(" ")[0] for line in ours.text.splitlines()}
        lines = [line for line in theirs.text.splitlines() if line.split(" ")[0] in names]
        return theirs._replace(text="\n".join(lines)), ours
    return theirs, ours
