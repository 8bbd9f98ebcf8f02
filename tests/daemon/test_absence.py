"""What the daemon tells of Services without endpoints, while they get and lose them."""

from __future__ import annotations

import re
from typing import Any

from lab.cluster import Cluster
from tests.daemon.objects import Desired, endpoint_slice, service
from tests.daemon.running import Daemon, wait_for


def single(name: str, number: int) -> dict[str, Any]:
    """A Service of one family."""
    return service(name, number, clusterIPs=[f"10.96.0.{number}"], ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")


def test_services_without_endpoints_are_counted_and_named(cluster: Cluster, desired: Desired, daemon: Daemon) -> None:
    address = {"addresses": [str(cluster.address("web-1"))], "nodeName": "worker-1"}
    desired.apply(
        *(single(name, number) for number, name in enumerate(("api", "db", "web"), 10)),
        endpoint_slice("web", "web-4", 4, 8080, [address]),
    )
    daemon.start()

    def told() -> tuple[int, tuple[str, ...]]:
        return daemon.status().without_endpoints, daemon.status().idle

    def gauge(family: str) -> str:
        name = "nodeport_nft_services_without_endpoints"
        found = re.search(rf'^{name}{{ip_family="{family}"}} (\S+)$', daemon.ask("/metrics"), re.MULTILINE)
        assert found
        return found[1]

    wait_for(lambda: told() == (2, ("default/api", "default/db")), "two without endpoints")
    assert gauge("IPv4") == "2.0"
    answer = daemon.cli("status")
    assert "No endpoints:  2 Services: default/api, default/db" in answer.stdout
    assert "all is well" in answer.stdout
    desired.apply(endpoint_slice("api", "api-4", 4, 8080, [address]))
    wait_for(lambda: told() == (1, ("default/db",)), "one that has endpoints now")
    assert gauge("IPv4") == "1.0"
    desired.apply(endpoint_slice("web", "web-4", 4, 8080, []))
    wait_for(lambda: told() == (2, ("default/db", "default/web")), "one that has lost its endpoints")
    desired.delete("Service", "db")
    desired.delete("Service", "web")
    wait_for(lambda: told() == (0, ()), "no Service without endpoints")
    assert "No endpoints" not in daemon.cli("status").stdout
