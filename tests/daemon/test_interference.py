"""Whatever others do to our tables is seen and repaired, under traffic; what we do ourselves is no repair (K8)."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from lab.cluster import Cluster
from lab.outcome import Kind
from lab.probe import connect_many
from tests.daemon.lengths import LENGTHS
from tests.daemon.objects import Changes
from tests.daemon.running import Daemon, wait_for
from tests.daemon.traffic import CLUSTER_IP, NODE_PORT, traffic

FOREIGN = (
    "table inet other {\n\tset x {\n\t\ttype ipv4_addr\n\t\telements = { 10.0.0.1 }\n\t}\n"
    "\tchain input {\n\t\ttype filter hook input priority 0; policy accept;\n\t\tct state invalid counter\n\t}\n}\n"
    "table ip nodeport-nft-2 {\n\tchain services {\n\t}\n}\n"
)
OTHERS = ("inet other", "ip nodeport-nft-2")

# What somebody may do: T is our table, IP the clusterIP of the service web, POD and NODE addresses of the family.
DAMAGES = (
    "delete table T",
    "delete table T\nadd table T",
    "flush ruleset",
    "flush map T service-ips",
    "flush map T node-ports",
    "flush map T service-endpoints",
    "flush map T node-port-endpoints",
    "flush set T service-cidrs",
    "delete element T service-ips { IP . tcp . 80 }",
    "delete element T node-ports { tcp . 30010 }",
    "delete element T service-endpoints { IP . tcp . 80 . 0 }",
    "delete element T service-endpoints { IP . tcp . 80 . 1 }",
    "add element T service-endpoints { IP . tcp . 80 . 3 : POD . 1 }",
    "add element T service-ips { IP . tcp . 81 : drop }",
    "add element T node-ports { tcp . 30011 : goto refuse }",
    "delete element T service-ips { IP . tcp . 80 }\nadd element T service-ips { IP . tcp . 80 : drop }",
    "delete element T node-port-ips { NODE }",
    "add element T node-port-ips { POD }",
    "add rule T services counter",
    "insert rule T services drop",
    "insert rule T service/4 drop",
    "flush chain T services",
    "flush chain T service/4",
    "flush chain T nat-postrouting",
    "flush chain T nat-prerouting\ndelete chain T nat-prerouting",
    "add chain T stranger",
    "add set T stranger { type inet_service; }",
    "add counter T stranger",
)
WORDS = {
    "ip": {"T": "ip nodeport-nft", "IP": "10.96.0.10", "POD": "10.244.9.9", "NODE": "172.30.1.2"},
    "ip6": {"T": "ip6 nodeport-nft", "IP": "fd00:10:96::a", "POD": "fd00:244:9::9", "NODE": "fd00:30:1::2"},
}


def spelled(damage: str, family: str) -> str:
    return "\n".join(
        " ".join(WORDS[family].get(word, word) for word in line.split(" ")) for line in damage.split("\n")
    )


def foreign(cluster: Cluster, node: str) -> list[str]:
    return [cluster.run(node, ["nft", "-a", "list", "table", *table.split()]).stdout for table in OTHERS]


@pytest.mark.proves("K8")
def test_what_others_do_is_repaired_under_traffic(cluster: Cluster, daemon: Daemon, changes: Changes) -> None:  # noqa: ARG001 (the store has a state)
    draw = random.Random(8)
    cluster.nft(daemon.node, FOREIGN)
    before = foreign(cluster, daemon.node)
    daemon.start()
    daemon.settle()
    whole = daemon.held()
    row: list[tuple[str, str]] = []
    with traffic(cluster, stream=False):
        for number in range(LENGTHS.damages):
            row = row or draw.sample([(d, f) for d in DAMAGES for f in WORDS], 2 * len(DAMAGES))
            damage, family = row.pop()
            seen, repairs = len(daemon.events("tables changed by others")), daemon.repairs()
            cluster.nft(daemon.node, spelled(damage, family))
            what = f"{number + 1}: {damage!r} in {family} seen and repaired"
            wait_for(lambda: len(daemon.events("tables changed by others")) > seen, what)  # noqa: B023 (at once)
            wait_for(lambda: daemon.held() == whole and daemon.repairs() > repairs, what)  # noqa: B023
            for host, frontends in (("client", NODE_PORT), ("web-2", CLUSTER_IP)):
                for frontend in frontends:
                    outcomes = connect_many(cluster, host, frontend, count=8)
                    assert {outcome.kind for outcome in outcomes} == {Kind.REACHED}, what
            if damage == "flush ruleset":
                cluster.nft(daemon.node, FOREIGN)
                before = foreign(cluster, daemon.node)
            assert foreign(cluster, daemon.node) == before, what
    assert daemon.repairs() == LENGTHS.damages
    compiled = {event["compiled"] for event in daemon.events("sync") if event["cause"] == "outside change"}
    assert compiled == {0}, "no object has changed"
    assert daemon.status().problems == ()


@pytest.mark.proves("K8")
@pytest.mark.parametrize("before", [(), ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")], ids=str)
def test_our_own_writes_are_nobody_elses(
    cluster: Cluster, daemon: Daemon, changes: Changes, before: tuple[str, ...]
) -> None:
    """Nor are those of others to other tables, at the same time. In another pid namespace as well."""
    daemon.start("--min-sync-period", "0", before=before)
    busy = "add table inet other; add chain inet other c; delete table inet other"
    others = cluster.popen(daemon.node, ["sh", "-c", f"while nft '{busy}'; do :; done"])
    for number in range(LENGTHS.own_changes):
        if number % 3:
            daemon.follow(changes.next)
        else:
            changes.next()
    daemon.settle()
    assert others.poll() is None, "the others were at it all the while"
    cluster.stop(others)
    assert daemon.events("tables changed by others") == []
    assert daemon.repairs() == 0
    cluster.nft(daemon.node, "flush chain ip nodeport-nft services")
    wait_for(lambda: daemon.repairs() == 1, "what others do is told from it")


@pytest.mark.proves("K8")
def test_repairs_and_own_changes_at_once(cluster: Cluster, daemon: Daemon, changes: Changes) -> None:
    """Others are at our tables while we write: nothing of either is lost."""
    daemon.start("--min-sync-period", "0")
    draw = random.Random(9)
    safe: Callable[[str], bool] = lambda damage: damage.startswith(("add chain", "add counter", "add rule", "flush"))  # noqa: E731
    damages = [spelled(damage, family) for damage in DAMAGES if safe(damage) for family in WORDS]
    for _ in range(LENGTHS.damages):
        for _ in range(draw.randrange(1, 10)):
            changes.next()
        # It may come while the table is as the last one left it; nft then has nothing to do, or fails.
        cluster.run(daemon.node, ["nft", draw.choice(damages)], check=False)
    daemon.settle()
    wait_for(lambda: daemon.repairs() > 0, "a repair counted")  # what is in the kernel may not be told yet
    wait_for(lambda: daemon.status().error == "", "no error any more")
