"""The cluster's names: the directory that dnsmasq reads, and the node's own DNS server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

from nodeport_nft.doctor.examination import Examination
from nodeport_nft.doctor.finding import Check, Finding, State, failed, of_text, ok, skipped
from nodeport_nft.kernel.host.hostsdir import closed_to_others, read_names
from nodeport_nft.resolve.names import Names

_SECONDS = 2.0  # for a connection to a server on this very node


def _names(examination: Examination) -> Iterator[Finding]:
    config = examination.config
    if not config.dns_hosts_dir:
        yield skipped("dnsHostsDir is not set, so no names are kept")
        return
    path, state = Path(config.dns_hosts_dir).absolute(), examination.state
    if not path.is_dir():
        means = "no pod finds a Service by its name"
        yield failed(f"{path} is not there", means, "nodeport-nft sync --once makes it")
        return
    names = Names(config.cluster_domain)
    names.update(state.index, state.index.services)
    wanted = {namespace: names.text(namespace) for namespace in names.namespaces()}
    known = read_names(path)
    stale = sorted(each for each in wanted.keys() | known.keys() if wanted.get(each) != known.get(each))
    if stale:
        yield failed(
            f"names of namespace {', '.join(stale[:3])} are not up to date in {path}",
            "pods get addresses that are no more, or none",
            "nodeport-nft sync --once, or look whether the daemon runs",
        )
    closed = closed_to_others(path)
    if closed:
        yield of_text(State.FAILED, closed, "the DNS server cannot read the names")
    if not stale and not closed:
        yield ok(f"{path} is up to date, for {len(wanted):,} namespace{'s' * (len(wanted) != 1)}")


def _server(examination: Examination) -> Iterator[Finding]:
    pairs = examination.state.facts.cluster_dns
    if not pairs:
        yield skipped("clusterDNS is not set, so no server is expected here")
        return
    for address, server in pairs:
        try:
            socket.create_connection((str(server), 53), timeout=_SECONDS).close()
        except OSError as error:
            yield failed(
                f"no DNS server answers at {server}, port 53 ({error.strerror or error})",
                f"pods that ask {address} get no answer on this node",
                "systemctl restart nodeport-nft-dns, or see contrib/dns for how to set one up",
            )
        else:
            yield ok(f"a server answers at {server}, to which {address} leads")


CHECKS = (
    Check("names", "names of Services", _names),
    Check("dns-server", "DNS server of the node", _server),
)
