"""Fixtures of the tests of a source: a server for all of a module's tests, as new for each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kubernetes.followed import endpoint_slice, node, service
from tests.kubernetes.running import ApiServer, apiserver


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One server for all of these tests."""
    with apiserver(tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@pytest.fixture
def server(running: ApiServer) -> ApiServer:
    """A cluster with a Service, its endpoints and the node; nothing is left of the test before."""
    running.faults([])
    running.options(streaming="on", bookmarks=60.0)
    running.drop_connections()
    running.forget()
    running.create(service("web"))
    running.create(endpoint_slice("web-1", "web", "10.244.0.5"))
    running.create(node())
    running.requests(clear=True)
    return running
