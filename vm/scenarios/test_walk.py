"""Scenario 1: the walk. From `create service` to "Welcome to nginx!" on every node."""

from __future__ import annotations

import re

from vm.desired import Desired
from vm.machines import Lab, eventually
from vm.topology import Worker

WELCOME = "Welcome to nginx!"


def test_the_walk(lab: Lab, desired: Desired) -> None:
    first, *_, last = lab.workers
    desired.run_on_first("nodeport-nft create service nodeport my-ser --tcp=8000:80", ("Service", "my-ser"))
    described = first.run("nodeport-nft describe service my-ser")
    assert re.search(r"^Type: +NodePort$", described, re.MULTILINE)
    node_port = int(field(described, r"NodePort: +<unset>  (\d+)/TCP"))
    cluster_ip = field(described, r"IP: +(\S+)")
    assert 30000 <= node_port <= 32767

    # From outside, on every node.
    for number in range(1, len(lab.workers) + 1):
        page = f"curl --silent --max-time 5 http://{Worker(number).ipv4}:{node_port}"
        eventually(lambda page=page: WELCOME in lab.client.run(page), page)  # type: ignore[misc]

    # From a pod on the last one: by name, and by clusterIP.
    tester = f"tester-{len(lab.workers)}"
    spider = "wget --tries=1 --timeout=5 --spider my-ser:8000 2>&1"
    eventually(lambda: "Remote file exists" in last.in_pod(tester, spider, check=False), f"{tester}: {spider}")
    assert f"|{cluster_ip}|:8000" in last.in_pod(tester, spider)
    assert WELCOME in last.in_pod(tester, f"curl --silent --max-time 5 {cluster_ip}:8000")

    # Each pod serves, whichever node it runs on.
    heads = "for i in $(seq 16); do curl --silent --max-time 5 --head my-ser:8000; done"
    served_by = set(re.findall(r"^Served-By: (\S+)", last.in_pod(tester, heads), re.MULTILINE))
    assert served_by == {f"web-{number}" for number in range(1, len(lab.workers) + 1)}


def field(text: str, pattern: str) -> str:
    """What a line of ``describe`` says."""
    match = re.search(rf"^{pattern}", text, re.MULTILINE)
    assert match is not None, text
    return match[1]
