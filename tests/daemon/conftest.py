"""Fixtures of the daemon's proofs: endpoints that all answer, a store, a daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cluster import Cluster
from tests.conftest import PODS, RESPONDER_PORTS
from tests.daemon.objects import PORTS, Changes, Desired
from tests.daemon.running import Daemon


@pytest.fixture(scope="session")
def answering(shared_cluster: Cluster) -> Iterator[None]:
    """A responder on each of ``PORTS`` in every pod."""
    more = [port for port in PORTS if port not in RESPONDER_PORTS]
    responders = [shared_cluster.start_responder(pod, more) for pod in PODS]
    yield
    for responder in responders:
        shared_cluster.stop(responder)


@pytest.fixture
def desired(tmp_path: Path) -> Iterator[Desired]:
    directory = tmp_path / "store"
    directory.mkdir()
    store = Desired(directory / "store.db")
    yield store
    store.close()


@pytest.fixture
def daemon(cluster: Cluster, tmp_path: Path, desired: Desired, answering: None) -> Iterator[Daemon]:  # noqa: ARG001
    """A daemon that is not started yet."""
    made = Daemon(cluster, tmp_path, desired)
    yield made
    made.close()


@pytest.fixture
def changes(cluster: Cluster, desired: Desired) -> Changes:
    """Changes of the store; its first state is in it."""
    made = Changes(cluster, desired, seed=4711)
    made.begin()
    return made
