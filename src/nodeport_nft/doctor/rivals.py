"""What others do with the same packets: their chains, other proxies, and programs that listen on a nodePort."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport_nft.doctor.examination import Examination
from nodeport_nft.doctor.finding import Check, Finding, State, failed, of_text, ok, skipped, warning
from nodeport_nft.doctor.listening import Listener, listeners
from nodeport_nft.kernel.host.foreign_chains import Obstacles, Served
from nodeport_nft.kernel.host.kube_proxy.remains import find_remains
from nodeport_nft.kernel.host.kube_proxy.running import running
from nodeport_nft.model import NodePortMode

_PROXIES = (
    ("cilium_", "Cilium", "cilium-dbg status | grep KubeProxyReplacement: with it, leave Services to one of the two"),
    ("bpfin.cali", "Calico's eBPF", "kubectl patch felixconfiguration default --type=merge -p "
     "'{\"spec\":{\"bpfEnabled\":false}}', or leave Services to it"),
    ("kube-dummy-if", "kube-router", "run it with --run-service-proxy=false"),
    ("antrea-gw0", "Antrea", "set antreaProxy.enable to false, or leave Services to it"),
    ("ovn-k8s-mp0", "OVN-Kubernetes", "leave Services to one of the two"),
)  # fmt: skip
"""Links by which others are known that translate Services before nftables sees them."""

_NAMED = 10


def _firewalls(examination: Examination) -> Iterator[Finding]:
    state = examination.state
    served = Served(state.tables.desired, state.facts, examination.host)
    found = Obstacles(examination.nft).find(served, examination.config.trusted_chains)
    for text in found:
        yield of_text(State.FAILED, text, "translated connections do not come through to their endpoints")
    if not found:
        yield ok("no chain of others stops what is translated")


def _kube_proxy(examination: Examination) -> Iterator[Finding]:
    pids = running()
    if pids:
        yield failed(
            f"kube-proxy runs here (process {', '.join(map(str, pids))})",
            "both translate the same connections, and the one that wrote last comes first",
            "kubectl -n kube-system delete daemonset kube-proxy, then sync with --replace-kube-proxy",
        )
    remains = find_remains(examination.config.ranges.node_ports)
    if remains:
        yield failed(
            f"kube-proxy has left {', '.join(remains)}",
            "it comes first for new connections where it was written after ours",
            "nodeport-nft sync --once --replace-kube-proxy, or kube-proxy --cleanup",
        )
    for text in remains.others():
        yield of_text(State.WARNING, text, "it is left alone")
    if not pids and not remains:
        yield ok("none runs here, and none has left anything")


def _proxies(examination: Examination) -> Iterator[Finding]:
    found = False
    for prefix, name, remedy in _PROXIES:
        links = [link for link in examination.host.links if link.startswith(prefix)]
        if links:
            found = True
            means = "it may translate Services before nftables sees them, and nothing of ours has an effect then"
            yield warning(f"{name} is here (link {', '.join(sorted(links)[:3])})", means, remedy)
    if not found:
        yield ok("no link of Cilium, Calico's eBPF, kube-router, Antrea or OVN-Kubernetes")


def _ports(examination: Examination) -> Iterator[Finding]:
    state = examination.state
    wanted = {
        (port.protocol.lower(), port.node_port): service.key
        for service in state.index.services.values()
        if service.key in state.served
        for port in service.ports
        if port.node_port
    }
    if not wanted:
        yield skipped("no Service has a nodePort")
        return
    everywhere = state.facts.node_port_mode is NodePortMode.ALL
    meets = [
        each
        for each in listeners({port for _, port in wanted})
        if (each.protocol, each.port) in wanted and _meets(each, state.facts.node_port_ips, everywhere)
    ]
    for each in meets[:_NAMED]:
        key = wanted[each.protocol, each.port]
        yield failed(
            f"{each.process or 'a process'} listens on {each.protocol} port {each.port}, the nodePort of {key}",
            "clients of this node are led to the Service, and never come to that process",
            f"let it listen elsewhere, or give Service {key} another nodePort",
        )
    if not meets:
        yield ok(f"no process listens on any of {len(wanted):,} nodePort{'s' * (len(wanted) != 1)}")


def _meets(listener: Listener, served: tuple[object, ...], everywhere: bool) -> bool:
    """Whether clients would have come to the process at an address that serves nodePorts."""
    address = listener.address
    if address.is_loopback:
        return False
    return everywhere or address.is_unspecified or address in served


CHECKS = (
    Check("foreign-chains", "chains of other firewalls", _firewalls),
    Check("kube-proxy", "kube-proxy", _kube_proxy),
    Check("other-proxies", "other proxies", _proxies),
    Check("port-collisions", "processes on nodePorts", _ports),
)
