"""A table with chains of its own for each Service, laid out as kube-proxy's mode nftables lays out its own.

What is kept of it is what the kernel and ``nft`` have to carry: the names' form, one base chain a hook, verdict maps
from addresses and ports to each Service port's chain, which picks an endpoint by an anonymous map (of addresses; of
chains, one an endpoint, where affinity is on), sets of clusterIPs and of hairpin connections, and the rules of each
policy. IPv4, and what the benchmark's Services use. Source: the layout of Kubernetes 1.36, read as a user of it.

Everything is a ``Layout``: chains with their rules, elements of maps and sets, sets that come and go. A change is the
difference of two of them, as text for ``nft -f``: it touches the chains and elements that differ, and no others.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.workload import NODE, NODE_ADDRESS, POD_CIDR

TABLE = "service-chains"

_BASE = f"""table ip {TABLE} {{
comment "one chain a Service port"
set cluster-ips {{ type ipv4_addr; }}
set nodeport-ips {{ type ipv4_addr; elements = {{ {NODE_ADDRESS} }} }}
set hairpin-connections {{ type ipv4_addr . ipv4_addr . inet_proto . inet_service; }}
map no-endpoint-services {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
map no-endpoint-nodeports {{ type inet_proto . inet_service : verdict; }}
map firewall-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
map service-nodeports {{ type inet_proto . inet_service : verdict; }}
chain reject-chain {{ reject; }}
chain cluster-ips-check {{ ip daddr @cluster-ips reject; }}
chain service-endpoints-check {{ ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }}
chain nodeport-endpoints-check {{ ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports; }}
chain firewall-check {{ ip daddr . meta l4proto . th dport vmap @firewall-ips; }}
chain masquerading {{
    meta mark & 0x4000 != 0 meta mark set meta mark ^ 0x4000 masquerade fully-random
    ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random
}}
chain services {{
    ip daddr @cluster-ips ip saddr != {POD_CIDR} meta mark set meta mark | 0x4000
    ip daddr . meta l4proto . th dport vmap @service-ips
    ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
}}
chain filter-prerouting-pre-dnat {{ type filter hook prerouting priority -110; ct state new jump firewall-check; }}
chain filter-output-pre-dnat {{ type filter hook output priority -110; ct state new jump firewall-check; }}
chain filter-input {{
    type filter hook input priority 0
    ct state new jump nodeport-endpoints-check
    ct state new jump service-endpoints-check
}}
chain filter-forward {{
    type filter hook forward priority 0
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
}}
chain filter-output {{
    type filter hook output priority 0
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
}}
chain nat-prerouting {{ type nat hook prerouting priority -100; jump services; }}
chain nat-output {{ type nat hook output priority -100; jump services; }}
chain nat-postrouting {{ type nat hook postrouting priority 100; jump masquerading; }}
}}
"""


@dataclass(slots=True)
class Layout:
    """What stands in the table for some Services: names to rules, (map or set, key) to value, sets to declarations.

    ``value`` is "" for an element of a set.
    """

    chains: dict[str, list[str]] = field(default_factory=dict)
    elements: dict[tuple[str, str], str] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)

    def add(self, other: Layout) -> None:
        self.chains |= other.chains
        self.elements |= other.elements
        self.sets |= other.sets


def lay_out(service: dict[str, Any], addresses: Sequence[tuple[str, str]]) -> Layout:
    """What a Service has in the table. ``addresses``: of its endpoints, each with its node's name."""
    layout = Layout()
    spec = service["spec"]
    ip = spec["clusterIP"]
    layout.elements["cluster-ips", ip] = ""
    for port in spec["ports"]:
        _lay_out_port(layout, service["metadata"]["name"], spec, port, addresses)
    return layout


def _lay_out_port(
    layout: Layout, name: str, spec: dict[str, Any], port: dict[str, Any], addresses: Sequence[tuple[str, str]]
) -> None:
    protocol, target = port.get("protocol", "TCP").lower(), port["targetPort"]
    base = f"default/{name}/{protocol}/{port['name']}"
    comment = f"default/{name}:{port['name']}"
    frontend, node_port = f"{spec['clusterIP']} . {protocol} . {port['port']}", port.get("nodePort")
    local = [each for each in addresses if each[1] == NODE]
    is_local = spec.get("externalTrafficPolicy") == "Local"
    if not addresses:
        layout.elements["no-endpoint-services", frontend] = f'comment "{comment}" : goto reject-chain'
        if node_port:
            layout.elements["no-endpoint-nodeports", f"{protocol} . {node_port}"] = (
                f'comment "{comment}" : goto reject-chain'
            )
        return
    for address, _ in local:
        layout.elements["hairpin-connections", f"{address} . {address} . {protocol} . {target}"] = ""
    pick = _sticky if spec.get("sessionAffinity") == "ClientIP" else _plain
    cluster = _name("service", base)
    layout.elements["service-ips", frontend] = f": goto {cluster}"
    layout.chains[cluster] = pick(layout, base, addresses, protocol, target)
    if node_port:
        external = _name("external", base)
        layout.elements["service-nodeports", f"{protocol} . {node_port}"] = f": goto {external}"
        rules = ["meta mark set meta mark | 0x4000", f"goto {cluster}"]
        if is_local:
            rules = [
                f"ip saddr {POD_CIDR} goto {cluster}",
                "fib saddr type local meta mark set meta mark | 0x4000",
                f"fib saddr type local goto {cluster}",
            ]
            if local:
                chain = _name("local", base)
                layout.chains[chain] = pick(layout, base, local, protocol, target)
                rules.append(f"goto {chain}")
            else:
                layout.elements["no-endpoint-nodeports", f"{protocol} . {node_port}"] = f'comment "{comment}" : drop'
        layout.chains[external] = rules


def _plain(_: Layout, __: str, addresses: Sequence[tuple[str, str]], protocol: str, target: int) -> list[str]:
    picks = ", ".join(f"{number} : {address} . {target}" for number, (address, _) in enumerate(addresses))
    return [f"meta l4proto {protocol} dnat ip addr . port to numgen random mod {len(addresses)} map {{ {picks} }}"]


def _sticky(layout: Layout, base: str, addresses: Sequence[tuple[str, str]], protocol: str, target: int) -> list[str]:
    rules, picks = [], []
    for number, (address, _) in enumerate(addresses):
        chain = _name("endpoint", f"{base}__{address}/{target}")
        memory = chain.replace("endpoint-", "affinity-", 1)
        layout.sets[memory] = "type ipv4_addr; flags dynamic,timeout; timeout 10800s;"
        layout.chains[chain] = [
            f"update @{memory} {{ ip saddr }}",
            f"meta l4proto {protocol} dnat to {address}:{target}",
        ]
        rules.append(f"ip saddr @{memory} goto {chain}")
        picks.append(f"{number} : goto {chain}")
    return [*rules, f"numgen random mod {len(addresses)} vmap {{ {', '.join(picks)} }}"]


def _name(kind: str, base: str) -> str:
    """As kube-proxy makes them: kind, eight letters of a hash, and what it is for."""
    return f"{kind}-{base64.b32encode(hashlib.sha256(base.encode()).digest())[:8].decode()}-{base}"


def first_transaction(layout: Layout) -> Iterator[str]:
    """The lines that bring everything into an empty kernel."""
    yield _BASE
    yield from transaction(Layout(), layout)


def rewriting_transaction(layout: Layout) -> Iterator[str]:
    """The lines of a start over its own table by whoever does not know what the chains hold: each is made anew.

    Elements are known from a listing; they are right, and nothing is written of them.
    """
    for chain in layout.chains:
        yield f"add chain ip {TABLE} {chain}\nflush chain ip {TABLE} {chain}\n"
    for chain, rules in layout.chains.items():
        for rule in rules:
            yield f"add rule ip {TABLE} {chain} {rule}\n"


def transaction(before: Layout, after: Layout) -> Iterator[str]:
    """The lines that turn one into the other; nothing else is named in them.

    Chains that nobody leads to any more are emptied here and deleted by ``sweep``, in a transaction of its own: a
    chain counts as in use until the transaction that took its last reference has ended (kernels before 6.2).
    """
    changed = {chain: rules for chain, rules in after.chains.items() if before.chains.get(chain) != rules}
    for name, declaration in after.sets.items():
        if name not in before.sets:
            yield f"add set ip {TABLE} {name} {{ {declaration} }}\n"
    for chain in changed:
        yield f"add chain ip {TABLE} {chain}\n"
        if chain in before.chains:
            yield f"flush chain ip {TABLE} {chain}\n"
    for chain, rules in changed.items():
        for rule in rules:
            yield f"add rule ip {TABLE} {chain} {rule}\n"
    for where, value in before.elements.items():
        if after.elements.get(where) != value:
            yield f"delete element ip {TABLE} {where[0]} {{ {where[1]} }}\n"
    for where, value in after.elements.items():
        if before.elements.get(where) != value:
            yield f"add element ip {TABLE} {where[0]} {{ {where[1]} {value} }}\n"
    for chain in before.chains.keys() - after.chains.keys():
        yield f"flush chain ip {TABLE} {chain}\n"
    for name in before.sets.keys() - after.sets.keys():
        yield f"delete set ip {TABLE} {name}\n"


def sweep(before: Layout, after: Layout) -> Iterator[str]:
    """The lines that delete the chains which ``transaction`` has emptied."""
    for chain in before.chains.keys() - after.chains.keys():
        yield f"delete chain ip {TABLE} {chain}\n"
