"""Program a host of the lab with model values, without the command line: for tests of the kernel's side."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address, ip_network

from msgspec.structs import replace

from lab.cluster import Cluster
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import EndpointSlice, NodeFacts, Service, Snapshot
from nodeport_nft.plan import Transaction
from nodeport_nft.reconcile import compile_snapshot, read_tables
from tests.builders import make_endpoint, make_slice

FACTS = NodeFacts(
    "worker-1",
    pod_cidrs=(ip_network("10.244.0.0/16"), ip_network("fd00:244::/32")),
    service_cidrs=(ip_network("10.96.0.0/12"), ip_network("fd00:10:96::/112")),
)


def facts(cluster: Cluster, node: str = "worker-1") -> NodeFacts:
    """The facts of a node of the lab."""
    addresses = tuple(ip_address(str(cluster.address(node, family))) for family in (4, 6))
    return replace(FACTS, name=node, node_port_ips=addresses, addresses=addresses)


def sync(
    cluster: Cluster,
    services: tuple[Service, ...],
    slices: tuple[EndpointSlice, ...],
    *,
    node: str = "worker-1",
) -> tuple[Transaction, ...]:
    """What ``nodeport-nft sync --once`` does with these objects; returns what was written."""
    known = facts(cluster, node)

    def run() -> tuple[Transaction, ...]:
        nft = Nft()
        programme = compile_snapshot(Snapshot(services, slices), known, read_tables(nft, known))
        transactions = programme.tables.first_transaction()
        nft.apply(transactions)
        return transactions

    return cluster.call(node, run, timeout=60)


def written(transactions: tuple[Transaction, ...]) -> int:
    """How many elements a transaction adds and deletes."""
    return sum(transaction.size for transaction in transactions)


def slices_of(cluster: Cluster, pods: tuple[str, ...], *, port: int = 8080, service: str = "web") -> EndpointSlice:
    """An IPv4 slice of these pods of the lab."""
    endpoints = [make_endpoint(str(cluster.address(pod)), node=cluster.host(pod).node) for pod in pods]
    return make_slice(*endpoints, service=service, name=f"{service}-{port}", port=port)


def generation(cluster: Cluster, node: str) -> int:
    """The number of ruleset commits the host's kernel has seen (NFT_MSG_GETGEN, linux/netfilter/nf_tables.h)."""
    netlink_netfilter, get_generation, request = 12, 10 << 8 | 16, 1
    message = struct.pack("=IHHIIBBH", 20, get_generation, request, 1, 0, socket.AF_UNSPEC, 0, 0)
    with cluster.socket(node, socket.AF_NETLINK, socket.SOCK_RAW, netlink_netfilter) as netlink:
        netlink.settimeout(60)
        netlink.send(message)
        answer = netlink.recv(4096)
    # Behind nlmsghdr (16 bytes) and nfgenmsg (4) the first attribute is NFTA_GEN_ID, in network byte order.
    length, kind, value = struct.unpack_from("=HH", answer, 20) + struct.unpack_from(">I", answer, 24)
    assert (length, kind) == (8, 1)
    return int(value)
