"""What kube-proxy's mode nftables leaves on a node, for the service ``web``: its chains, maps and priorities."""

from __future__ import annotations

from collections.abc import Sequence

from lab.cluster import Cluster

_FAMILIES = (("ip", 4, "10.96.0.10", "172.30.1.2"), ("ip6", 6, "fd00:10:96::a", "fd00:30:1::2"))

_TABLE = """
table {ip} kube-proxy {{
    comment "rules for kube-proxy"
    set cluster-ips {{ type {ip_addr}; elements = {{ {vip} }} }}
    set nodeport-ips {{ type {ip_addr}; elements = {{ {node} }} }}
    set hairpin-connections {{ type {ip_addr} . {ip_addr} . inet_proto . inet_service; }}
    map service-ips {{ type {ip_addr} . inet_proto . inet_service : verdict;
        elements = {{ {vip} . tcp . 80 : goto service-WEB }} }}
    map service-nodeports {{ type inet_proto . inet_service : verdict;
        elements = {{ tcp . 30010 : goto external-WEB }} }}
    chain filter-input {{ type filter hook input priority 0; }}
    chain filter-forward {{ type filter hook forward priority 0; ct state new jump cluster-ips-check; }}
    chain filter-output {{ type filter hook output priority 0; ct state new jump cluster-ips-check; }}
    chain nat-prerouting {{ type nat hook prerouting priority -100; jump services; }}
    chain nat-output {{ type nat hook output priority -100; jump services; }}
    chain nat-postrouting {{ type nat hook postrouting priority 100; jump masquerading; }}
    chain masquerading {{
        meta mark & 0x4000 != 0 meta mark set meta mark ^ 0x4000 masquerade fully-random
        ct status dnat {ip} saddr . {ip} daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random
    }}
    chain cluster-ips-check {{ {ip} daddr @cluster-ips reject; }}
    chain services {{
        {ip} daddr . meta l4proto . th dport vmap @service-ips
        {ip} daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
    }}
    chain external-WEB {{ meta mark set meta mark | 0x4000; goto service-WEB; }}
    chain service-WEB {{ numgen random mod {count} vmap {{ {draws} }}; }}
    {endpoints}
}}
"""


def write(cluster: Cluster, pods: Sequence[str]) -> None:
    """Write it on worker-1, as a kube-proxy that starts does: whatever there was of it is made anew."""
    for ip, family, vip, node in _FAMILIES:
        addresses = [str(cluster.address(pod, family)) for pod in pods]
        shown = [f"[{address}]" if family == 6 else address for address in addresses]
        text = _TABLE.format(
            ip=ip,
            ip_addr=f"ipv{family}_addr",
            vip=vip,
            node=node,
            count=len(pods),
            draws=", ".join(f"{number} : goto endpoint-{number}" for number in range(len(pods))),
            endpoints="\n".join(
                f"chain endpoint-{number} {{ {ip} saddr {address} meta mark set meta mark | 0x4000; "
                f"meta l4proto tcp dnat to {where}:8080; }}"
                for number, (address, where) in enumerate(zip(addresses, shown, strict=True))
            ),
        )
        cluster.nft("worker-1", f"table {ip} kube-proxy {{}}; delete table {ip} kube-proxy; {text}")


def is_there(cluster: Cluster) -> bool:
    """Whether a table of it is on worker-1."""
    return "kube-proxy" in cluster.run("worker-1", ["nft", "list", "tables"]).stdout
