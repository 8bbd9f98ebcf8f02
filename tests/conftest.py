"""Fixtures for tests that send packets: one cluster of network namespaces for the whole session."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

from lab.cluster import Cluster
from lab.namespaces import LabError, enter_private_namespaces

# How long an example takes is nobody's law: tests assert no times.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# What is started from a shell's background, or with nohup, ignores these, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """What is there for good is looked at by no garbage collection, which takes a tenth of the time otherwise."""
    gc.collect()
    gc.freeze()


PODS = {"web-1": "worker-1", "web-2": "worker-1", "web-3": "worker-2", "tester": "worker-2"}
RESPONDER_PORTS = (8080, 9090)


@pytest.fixture(scope="session")
def private_namespaces() -> None:
    """Take the test process into private namespaces, for good; without the privilege skip, but fail in CI."""
    try:
        enter_private_namespaces()
    except LabError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must run the packet tests: {error}")
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def shared_cluster(private_namespaces: None) -> Iterator[Cluster]:  # noqa: ARG001 (it has to come first)
    """Two nodes and ``PODS``, each pod with a responder on ``RESPONDER_PORTS``."""
    with Cluster(pods=PODS) as cluster:
        for pod in PODS:
            cluster.start_responder(pod, RESPONDER_PORTS)
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Cluster:
    """The session's cluster, free of rulesets and tracked connections."""
    shared_cluster.reset()
    return shared_cluster


@pytest.fixture
def old_iptables(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, with a kernel and a system that have the old iptables; its rules on worker-1 go at the end."""
    if cluster.run("worker-1", ["iptables-legacy", "-S"], check=False).returncode:
        pytest.skip("this system has no iptables-legacy, or its kernel no tables for it")
    yield cluster
    for words in (("-P", "FORWARD", "ACCEPT"), ("-F",), ("-X",)):
        cluster.run("worker-1", ["iptables-legacy", *words])
