"""What a source does where a server fails, is silent, tells garbage, or has another history than before."""

from __future__ import annotations

import asyncio
import time

import pytest

from nodeport_nft.store.kubernetes.follower import Timings
from tests.kubernetes.followed import SECONDS, Told, follow, lists, node, service, watches
from tests.kubernetes.running import ApiServer

pytestmark = pytest.mark.proves("W1")


# --- what the server does to us ---------------------------------------------------------------------------


def test_a_bookmark_is_where_the_next_watch_begins(server: ApiServer) -> None:
    server.options(bookmarks=0.1)

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        server.bump(50)
        revision = server.revision()
        async with asyncio.timeout(SECONDS):
            while any(int(each.known.revision) < revision for each in told.source._followers):
                await asyncio.sleep(0.05)  # until bookmarks have told of it
        server.compact(revision)
        server.drop_connections()
        server.create(service("later", 81))
        await told.until(lambda: told.value("Service", "later"))
        assert told.refs_since(1) == {"Service/default/later"}

    follow(server, scenario)
    begun = [each for each in watches(server) if "sendInitialEvents" not in str(each)]
    assert len(begun) == 1


GONE = [
    pytest.param({"verb": "watch", "status": 410}, id="as an answer"),
    pytest.param({"verb": "watch", "error": 410}, id="as an event"),
]


@pytest.mark.parametrize("fault", GONE)
@pytest.mark.parametrize("streaming", ["on", "off"])
def test_what_is_too_old_is_listed_once_more_and_only_what_differs_is_told(
    server: ApiServer, fault: dict[str, object], streaming: str
) -> None:
    server.options(streaming=streaming)
    server.create(service("goes", 82))

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        server.stop()
        server.delete("Service", "default", "goes")
        server.create(service("later", 81))
        server.compact()
        server.faults([{"resource": "services", **fault}])
        server.start()
        await told.until(lambda: told.value("Service", "later") and not told.value("Service", "goes"))
        assert told.refs_since(1) == {"Service/default/later", "Service/default/goes"}
        await told.until(lambda: not told.problems)

    follow(server, scenario)


def test_a_continue_token_that_is_too_old_begins_the_list_again(server: ApiServer) -> None:
    server.options(streaming="off")
    for number in range(501):
        server.create(service(f"s-{number}"))
    server.faults([{"resource": "services", "path": "continue=", "status": 410, "times": 2}])

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        assert len(told.names("Service")) == 503

    follow(server, scenario)


def test_a_list_whose_tokens_never_last_is_asked_for_at_once(server: ApiServer) -> None:
    server.options(streaming="off")
    for number in range(501):
        server.create(service(f"s-{number}"))
    server.faults([{"resource": "services", "path": "continue=", "status": 410, "times": 0}])

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        assert len(told.names("Service")) == 503

    follow(server, scenario)


@pytest.mark.parametrize("verb", ["list", "watch"])
def test_a_server_that_asks_to_be_left_alone_is(server: ApiServer, verb: str) -> None:
    server.options(streaming="off")
    server.faults([{"resource": "services", "verb": verb, "status": 429, "retryAfter": 1, "times": 2}])
    begun = time.monotonic()

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        server.create(service("later", 81))
        await told.until(lambda: told.value("Service", "later"))

    follow(server, scenario)
    assert time.monotonic() - begun >= 2 * 1.0


@pytest.mark.parametrize("streaming", ["on", "off"])
@pytest.mark.parametrize("fault", [{"cut": 300}, {"cut": 1}, {"end": 0}, {"drip": 7, "pause": 0.0}])
def test_a_stream_that_breaks_off_misses_nothing(server: ApiServer, streaming: str, fault: dict[str, object]) -> None:
    server.options(streaming=streaming)
    server.faults([{"resource": "services", "verb": "watch", "times": 3, **fault}])

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        for number in range(5):
            server.create(service(f"s-{number}", 81))
        await told.until(lambda: len(told.names("Service")) == 7)
        await told.until(lambda: not told.problems)
        assert sum(changes.whole for changes in told.changes) == 1

    follow(server, scenario)


def test_a_silent_server_is_asked_again_without_a_list(server: ApiServer) -> None:
    server.faults([{"resource": "services", "verb": "watch", "silent": 2, "skip": 1, "times": 0}])
    server.options(streaming="off")

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        for number in range(5):  # a watch tells two of them, and then nothing
            server.create(service(f"s-{number}", 81))
        await told.until(lambda: len(told.names("Service")) == 7)
        await told.until(lambda: not told.problems)

    follow(server, scenario, Timings(silence=0.5, shortest=0.2))
    pages = [each for each in lists(server) if "limit=500" in str(each["path"])]
    assert len(pages) == 1


@pytest.mark.parametrize(
    "text",
    [
        "<html>",
        '{"type":"ADDED"}\n',
        '{"type":"LATER","object":{}}\n',
        "[]\n",
        '{"type":"ERROR","object":7}\n',
        "\xff\n",
    ],
)
def test_a_watch_of_garbage_is_told_and_everything_listed_again(server: ApiServer, text: str) -> None:
    server.options(streaming="off")

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        fault = {"resource": "services", "verb": "watch", "text": text, "type": "application/json", "times": 2}
        server.faults([fault])
        server.drop_connections()
        await told.until(lambda: told.problems)
        assert "what was read last is served" in told.problems
        assert told.value("Service", "web")
        server.create(service("later", 81))
        await told.until(lambda: told.value("Service", "later"))
        await told.until(lambda: not told.problems)

    follow(server, scenario)


@pytest.mark.parametrize("revision", ["x", "-5", "99999999999999999999999999"])
def test_a_revision_that_no_watch_can_begin_at_is_not_asked_for_again(server: ApiServer, revision: str) -> None:
    """Whoever was between has answered once, and is gone."""
    server.options(streaming="off")
    body = f'{{"kind":"ServiceList","apiVersion":"v1","metadata":{{"resourceVersion":"{revision}"}},"items":[]}}'
    fault = {"resource": "services", "verb": "list", "text": body, "type": "application/json", "times": 1}
    server.faults([fault])

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.value("Service", "web"))
        await told.until(lambda: not told.problems)

    follow(server, scenario)


# --- histories --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", ["on", "off"])
@pytest.mark.parametrize("revision", [1, None, 100_000])
def test_a_server_of_another_history(server: ApiServer, streaming: str, revision: int | None) -> None:
    """Another etcd, or one restored from a copy: its revisions may be behind ours, or long past them."""
    server.options(streaming=streaming)
    server.bump(100)

    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        server.stop()
        server.forget(revision)
        server.create(service("other", 81))
        server.create(node())
        server.start()
        await told.until(lambda: told.value("Service", "other"))
        await told.until(lambda: not told.value("EndpointSlice", "web-1"))
        await told.until(lambda: not told.value("Service", "web"))

    follow(server, scenario)


def test_an_object_that_was_made_anew_while_we_were_away_is_another(server: ApiServer) -> None:
    async def scenario(told: Told) -> None:
        await told.until(lambda: told.changes)
        server.stop()
        server.delete("Service", "default", "web")
        server.create(service("web", 99))
        server.compact()
        server.start()
        await told.until(lambda: told.value("Service", "web").ports[0].port == 99)

    follow(server, scenario)
