"""A daemon beside tables that libnftables cannot read: it lives, writes and says what it cannot tell."""

from __future__ import annotations

import fcntl
import functools
import os
import signal
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from lab.cluster import Cluster
from lab.outcome import Kind
from lab.probe import connect, connect_many
from tests.daemon.objects import Desired, service, slices
from tests.daemon.running import Daemon, wait_for
from tests.netns.strangers import STRANGERS, put
from tests.netns.test_strangers import much

NODE, NODE_IP = "worker-1", "172.30.1.2"
WAIT = 60.0
UNREADABLE = "a key of an unknown expression"


def reached(cluster: Cluster, number: int) -> set[str]:
    """The pods that answer on this nodePort."""
    outcomes = connect_many(cluster, "client", (NODE_IP, 30000 + number), count=8)
    assert {outcome.kind for outcome in outcomes} == {Kind.REACHED}
    return {outcome.name for outcome in outcomes}


def change(cluster: Cluster, daemon: Daemon, desired: Desired, pod: str) -> None:
    """Let elements, a chain with rules and a set be written, with packets that show it."""
    for name, number, spec in (("web", 10, {}), ("sticky", 11, {"sessionAffinity": "ClientIP"})):
        desired.apply(service(name, number, **spec), *slices(cluster, name, [(pod, 8080)]))
        wait_for(lambda: daemon.held() == daemon.wanted(), f"{name} as the store wants it", WAIT)
        assert reached(cluster, number) == {pod}


@pytest.mark.proves("K9")
@pytest.mark.parametrize(
    ("kind", "first"), [(UNREADABLE, True), (UNREADABLE, False), ("a key of an unknown type", False)]
)
def test_a_set_that_libnftables_cannot_read(
    cluster: Cluster, daemon: Daemon, desired: Desired, kind: str, *, first: bool
) -> None:
    desired.apply(service("web", 10), *slices(cluster, "web", [("web-1", 8080)]))
    if not first:
        daemon.start(seconds=WAIT)
    cluster.call(NODE, functools.partial(put, STRANGERS[kind]))
    if first:
        daemon.start(seconds=WAIT)
    change(cluster, daemon, desired, "web-2")
    cluster.run(NODE, ["nft", "add", "chain", "inet", "fw", "more"], check=False)  # it dies of it, which is the point
    change(cluster, daemon, desired, "web-3")
    assert daemon.lives()
    assert daemon.ask("/healthz")
    # A chain of theirs that drops by default and cannot be read may be in the way, which is told; nothing else is.
    assert all(problem.startswith("chain inet ") for problem in daemon.status().problems)
    assert daemon.events("sync failed") == []
    assert daemon.events("tables changed by others") == []
    assert daemon.cli("sync", "--once", "--store", str(desired.path), "--node-name", NODE).returncode == 0
    assert daemon.stop(seconds=WAIT) == 0
    done = daemon.cli("cleanup", "--store", str(desired.path), "--state-dir", str(daemon.directory))
    assert (done.returncode, done.stdout.count("nodeport-nft removed")) == (0, 2), done.stderr
    assert connect(cluster, "client", (NODE_IP, 30010)).kind is Kind.REFUSED


def test_very_much_of_others(cluster: Cluster, daemon: Daemon, desired: Desired) -> None:
    """It starts beside a table of 100,000 elements, and goes on when one of 1,000 chains comes."""
    desired.apply(service("web", 10), *slices(cluster, "web", [("web-1", 8080)]))
    cluster.nft(NODE, much()["elements"].replace("policy drop", "policy accept"))
    daemon.start(seconds=WAIT)
    change(cluster, daemon, desired, "web-2")
    cluster.nft(NODE, much()["chains that it leads to"].replace("inet fw", "inet more"))
    told = "chain inet more f in the forward hook drops by default"
    wait_for(lambda: any(told in problem for problem in daemon.status().problems), "the chain is told of", WAIT)
    cluster.run(NODE, ["nft", "insert", "rule", "inet", "more", "f", "ct", "status", "dnat", "accept"])
    cluster.run(NODE, ["nft", "insert", "rule", "inet", "more", "f", "ct", "state", "established", "accept"])
    change(cluster, daemon, desired, "web-3")
    # What is in the large set is not known, which stays told.
    wait_for(lambda: not any("inet more" in each for each in daemon.status().problems), "it lets through", WAIT)
    assert all("set s of table inet fw is too large" in problem for problem in daemon.status().problems)
    assert daemon.events("sync failed") == []
    assert daemon.stop(seconds=WAIT) == 0


def lister(daemon: Daemon) -> list[int]:
    """The child that runs libnftables. Another comes and goes where somebody has used the old iptables."""
    found = []
    for child in daemon.children():
        with suppress(OSError):
            if b"nodeport_nft.kernel.libnftables.child" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


def unread(child: int) -> int:
    """How many bytes of requests wait for this process."""
    with Path(f"/proc/{child}/fd/0").open("rb", buffering=0) as requests:
        count = bytearray(4)
        fcntl.ioctl(requests, termios.FIONREAD, count)
    return int.from_bytes(count, sys.byteorder)


FIREWALL = """
table inet fw {
	chain f {
		type filter hook forward priority 0; policy drop;
		ct status dnat accept
		ct state established accept
	}
}
"""


def test_the_child_that_runs_libnftables_may_die_and_goes_when_it_is_idle(
    cluster: Cluster, daemon: Daemon, desired: Desired
) -> None:
    """It is there for the chains of others alone."""
    desired.apply(service("web", 10), *slices(cluster, "web", [("web-1", 8080)]))
    daemon.start(seconds=WAIT)
    change(cluster, daemon, desired, "web-2")
    assert lister(daemon) == []
    cluster.nft(NODE, FIREWALL)
    (child,) = wait_for(lambda: lister(daemon), "a child that lists the chain", WAIT)
    os.kill(child, signal.SIGKILL)
    change(cluster, daemon, desired, "web-3")
    cluster.run(NODE, ["nft", "insert", "rule", "inet", "fw", "f", "tcp", "dport", "9", "drop"])
    wait_for(lambda: set(lister(daemon)) - {child}, "another child", WAIT)
    wait_for(lambda: lister(daemon) == [], "no child without work", WAIT)
    change(cluster, daemon, desired, "web-1")
    assert daemon.lives()
    assert daemon.events("sync failed") == []
    daemon.kill()


@pytest.mark.proves("K9")
def test_no_change_waits_while_the_chains_of_others_are_looked_at(
    cluster: Cluster, daemon: Daemon, desired: Desired
) -> None:
    """However long that takes: here the child that lists them is stopped, and does not answer at all.

    Where it ends over it, that is told, and they are looked at again although nobody changes anything more.
    """
    desired.apply(service("web", 10), *slices(cluster, "web", [("web-1", 8080)]))
    daemon.start(seconds=WAIT)
    cluster.nft(NODE, FIREWALL)
    (child,) = wait_for(lambda: lister(daemon), "a child that lists the chain", WAIT)
    os.kill(child, signal.SIGSTOP)
    dropping = ["nft", "insert", "rule", "inet", "fw", "f", "tcp", "dport", "9999", "drop"]
    cluster.run(NODE, dropping)
    wait_for(lambda: unread(child), "the child is asked", WAIT)
    change(cluster, daemon, desired, "web-2")
    assert lister(daemon) == [child]
    os.kill(child, signal.SIGKILL)
    told = wait_for(lambda: daemon.events("problem"), "its end is told", WAIT)
    assert [each["where"] for each in told] == ["firewall"]
    assert "signal 9" in told[0]["problem"]
    wait_for(lambda: daemon.events("problem gone"), "the chain is looked at again", WAIT)
    assert daemon.status().problems == ()
    assert daemon.events("sync failed") == []
    daemon.kill()


@pytest.mark.proves("K9")
def test_chains_of_the_old_iptables_are_looked_at_although_no_event_tells_of_them(
    old_iptables: Cluster, daemon: Daemon, desired: Desired
) -> None:
    desired.apply(service("web", 10), *slices(old_iptables, "web", [("web-1", 8080)]))
    daemon.start(seconds=WAIT)
    old_iptables.run(NODE, ["iptables-legacy", "-P", "FORWARD", "DROP"])
    (told,) = wait_for(lambda: daemon.events("problem"), "the chain is told of", WAIT)
    assert "chain ip filter FORWARD of iptables-legacy in the forward hook drops by default" in told["problem"]
    assert connect(old_iptables, "client", (NODE_IP, 30010), timeout=0.5).kind is Kind.SILENT
    old_iptables.run(NODE, ["iptables-legacy", "-P", "FORWARD", "ACCEPT"])
    wait_for(lambda: daemon.events("problem gone"), "the chain is looked at again", WAIT)
    assert daemon.status().problems == ()
    assert reached(old_iptables, 10) == {"web-1"}
    daemon.kill()
