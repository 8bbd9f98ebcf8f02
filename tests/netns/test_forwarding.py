"""Somebody else's chain that drops what is translated is named, and its remedy is one (real packets; K6)."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from lab.cluster import Cluster
from lab.outcome import Kind
from lab.probe import ANSWER_SECONDS, connect
from tests.netns.strangers import DROPS, FORWARDS, STRANGERS, chain, looks_into, put

PROGRAM = Path(sys.executable).with_name("nodeport-nft")
SILENCE = 0.5  # seconds, where nobody is to answer

MANIFESTS = """\
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30010}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
status: {podIP: 10.244.1.2}
"""
DROPPING = """\
table inet somebody {
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state { established, related } accept
	}
}
"""
FIREWALLD = """\
table inet firewalld {
	chain filter_FORWARD {
		type filter hook forward priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		jump filter_FORWARD_POLICIES_pre
		ct state invalid drop
		reject with icmpx type admin-prohibited
	}
	chain filter_FORWARD_POLICIES_pre {
		jump filter_FWD_policy
	}
	chain filter_FWD_policy {
	}
}
"""


def warnings(cluster: Cluster, directory: Path, *more: str) -> list[str]:
    """What ``sync --once`` says of chains of others."""
    if not (directory / "web.yaml").exists():
        (directory / "web.yaml").write_text(MANIFESTS)
    words = [str(PROGRAM), "sync", "--once", "--node-name", "worker-1", "--node-ip", "172.30.1.2"]
    files = ["--store", str(directory / "store.db"), "-f", str(directory / "web.yaml")]
    done = cluster.run("worker-1", [*words, *files, *more])
    return [line for line in done.stderr.splitlines() if " hook " in line]


def remedy(warning: str) -> list[str]:
    """The command that a warning gives."""
    match = re.search(r"let them through: (.*) \(or list", warning)
    assert match is not None, warning
    return shlex.split(match[1])


def reached(cluster: Cluster, timeout: float = ANSWER_SECONDS) -> Kind:
    """What becomes of a connection from outside."""
    return connect(cluster, "client", ("172.30.1.2", 30010), timeout=timeout).kind


@pytest.mark.proves("K9")
def test_a_chain_that_drops_is_named_and_its_remedy_works(cluster: Cluster, tmp_path: Path) -> None:
    assert warnings(cluster, tmp_path) == []
    assert reached(cluster) is Kind.REACHED
    cluster.nft("worker-1", DROPPING)
    assert reached(cluster, SILENCE) is Kind.SILENT
    (warning,) = warnings(cluster, tmp_path)
    assert "chain inet somebody forward in the forward hook drops by default" in warning
    cluster.run("worker-1", remedy(warning))
    assert reached(cluster) is Kind.REACHED
    assert warnings(cluster, tmp_path) == []


@pytest.mark.proves("K9")
def test_the_chain_of_iptables_is_named_in_its_own_words(cluster: Cluster, tmp_path: Path) -> None:
    cluster.run("worker-1", ["iptables-nft", "-P", "FORWARD", "DROP"])
    (warning,) = warnings(cluster, tmp_path)
    assert reached(cluster, SILENCE) is Kind.SILENT
    command = remedy(warning)
    assert command[0] == "iptables"
    cluster.run("worker-1", ["iptables-nft", *command[1:]])
    assert reached(cluster) is Kind.REACHED
    assert warnings(cluster, tmp_path) == []


@pytest.mark.proves("K9")
@pytest.mark.parametrize("name", ["reject", "drop", "log", "%Limit", "10x", "~net+fw"])
def test_chains_that_nft_has_no_name_for_are_judged(cluster: Cluster, tmp_path: Path, name: str) -> None:
    """As those of Shorewall, of which some are words of nft's language."""
    for words in (["-N", name], ["-A", name, "-p", "tcp", "-j", "DROP"], ["-A", "FORWARD", "-j", name]):
        cluster.run("worker-1", ["iptables-nft", *words])
    (warning,) = warnings(cluster, tmp_path)
    assert reached(cluster, SILENCE) is Kind.SILENT
    assert f"drops or rejects by the rule 'meta l4proto tcp drop' of chain {name} and accepts no" in warning
    cluster.run("worker-1", ["iptables-nft", "-I", name, "-m", "conntrack", "--ctstate", "DNAT", "-j", "RETURN"])
    assert reached(cluster) is Kind.REACHED
    assert warnings(cluster, tmp_path) == []


@pytest.mark.proves("K9")
@pytest.mark.parametrize(
    "table", ["table inet nodeport-nft", 'table inet fw {\nchain c {\ncomment "all\naccept\nis"\n}\n}\ntable inet fw']
)
@pytest.mark.parametrize("comment", ["", 'comment "telnet\naccept\nno more"'])
def test_neither_a_name_nor_a_comment_hides_a_chain(
    cluster: Cluster, tmp_path: Path, table: str, comment: str
) -> None:
    """A table of our name is ours in our families alone; a line of a comment may look like a rule."""
    rules = f"tcp dport 23 drop {comment}\njump c\ndrop"
    hooked = "type filter hook forward priority filter; policy accept;"
    cluster.nft("worker-1", f"{table} {{\nchain c {{\n}}\nchain f {{\n{hooked}\n{rules}\n}}\n}}\n")
    (warning,) = warnings(cluster, tmp_path)
    assert reached(cluster, SILENCE) is Kind.SILENT
    assert "f in the forward hook drops or rejects by the rule 'drop' and accepts no" in warning
    cluster.run("worker-1", remedy(warning))
    assert reached(cluster) is Kind.REACHED
    assert warnings(cluster, tmp_path) == []


@pytest.mark.proves("K9")
def test_what_lets_services_through_is_not_named(cluster: Cluster, tmp_path: Path) -> None:
    cluster.nft("worker-1", FIREWALLD)
    assert warnings(cluster, tmp_path) == []
    assert reached(cluster) is Kind.REACHED


def test_a_dormant_table_is_none_and_a_chain_to_trust_is_not_named(cluster: Cluster, tmp_path: Path) -> None:
    cluster.nft("worker-1", DROPPING.replace("{\n\tchain", "{\n\tflags dormant\n\tchain", 1))
    assert warnings(cluster, tmp_path) == []
    assert reached(cluster) is Kind.REACHED
    cluster.reset()
    cluster.nft("worker-1", DROPPING)
    config = tmp_path / "config.yaml"
    config.write_text("trustedChains: [inet somebody forward]\n")
    assert warnings(cluster, tmp_path, "--config", str(config)) == []


def iptables(cluster: Cluster, *commands: str, program: str = "iptables-nft") -> None:
    """Make rules as the programs do that call iptables."""
    for command in commands:
        cluster.run("worker-1", [program, *shlex.split(command)])


DOCKER = (
    "-N DOCKER-USER",
    "-N DOCKER-FORWARD",
    "-N DOCKER-CT",
    "-N DOCKER-BRIDGE",
    "-N DOCKER",
    "-A FORWARD -j DOCKER-USER",
    "-A FORWARD -j DOCKER-FORWARD",
    "-A DOCKER-FORWARD -j DOCKER-CT",
    "-A DOCKER-FORWARD -j DOCKER-BRIDGE",
    "-A DOCKER-FORWARD -i pod2 -j ACCEPT",
    "-A DOCKER-CT -o pod2 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A DOCKER-BRIDGE -o pod2 -j DOCKER",
    "-A DOCKER ! -i pod2 -o pod2 -j DROP",
)
"""What Docker 28 makes for a bridge, which is the pod's device here, and no published port."""

KUBELET = (
    "-N KUBE-FIREWALL",
    "-N KUBE-FORWARD",
    "-A INPUT -j KUBE-FIREWALL",
    "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
    "-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP",
    "-A FORWARD -m comment --comment 'kubernetes forwarding rules' -j KUBE-FORWARD",
    "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
    "-A KUBE-FORWARD -m mark --mark 0x8000/0x8000 -j ACCEPT",
    "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
)
LIBVIRT = (
    "-N LIBVIRT_FWI",
    "-N LIBVIRT_FWO",
    "-N LIBVIRT_FWX",
    "-A FORWARD -j LIBVIRT_FWX",
    "-A FORWARD -j LIBVIRT_FWI",
    "-A FORWARD -j LIBVIRT_FWO",
    "-A LIBVIRT_FWX -i pod2 -o pod2 -j ACCEPT",
    "-A LIBVIRT_FWI -d 10.244.1.0/24 -o pod2 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A LIBVIRT_FWI -o pod2 -j REJECT --reject-with icmp-port-unreachable",
    "-A LIBVIRT_FWO -s 10.244.1.0/24 -i pod2 -j ACCEPT",
    "-A LIBVIRT_FWO -i pod2 -j REJECT --reject-with icmp-port-unreachable",
)
UFW = (
    "-P FORWARD DROP",
    "-N ufw-before-forward",
    "-N ufw-user-forward",
    "-N ufw-reject-forward",
    "-A FORWARD -j ufw-before-forward",
    "-A FORWARD -j ufw-reject-forward",
    "-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A ufw-before-forward -p icmp --icmp-type echo-request -j ACCEPT",
    "-A ufw-before-forward -j ufw-user-forward",
)
CALICO = (
    "-N cali-FORWARD",
    "-N cali-to-wl-dispatch",
    "-N cali-tw-web",
    "-A FORWARD -j cali-FORWARD",
    "-A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT",
    "-A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000",
    "-A cali-FORWARD -o pod+ -j cali-to-wl-dispatch",
    "-A cali-to-wl-dispatch -o pod2 -g cali-tw-web",
    "-A cali-to-wl-dispatch -m comment --comment 'Unknown interface' -j DROP",
    "-A cali-tw-web -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A cali-tw-web -m conntrack --ctstate INVALID -j DROP",
    "-A cali-tw-web -j MARK --set-xmark 0x0/0x10000",
)
LXD = """\
table inet lxd {
	chain fwd.lxdbr0 {
		type filter hook forward priority 0; policy accept;
		ip version 4 oifname "pod2" accept
		ip version 4 iifname "pod2" accept
		ip6 version 6 oifname "pod2" accept
	}
	chain acl.lxdbr0 {
		type filter hook forward priority 1; policy accept;
		oifname "pod2" ct state { established, related } accept
		oifname "pod2" reject
	}
}
"""
HAND = """\
table inet hand {
	set pods { type ifname; elements = { "pod2", "pod3" }; }
	chain dispatch {
		meta l4proto vmap { tcp : jump tcp-to-pods, icmp : accept }
	}
	chain tcp-to-pods {
		tcp dport != { 80, 443 } ct original proto-dst 30000-32767 drop
	}
	chain early {
		type filter hook prerouting priority filter; policy accept;
		ct state new ct direction original ip daddr 10.244.0.0/16 iifname "eth0" jump dispatch
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname . oifname { "eth0" . "pod9" } drop
		iifname "eth0" oifname @pods ct state vmap { invalid : drop, new : jump dispatch }
	}
	chain late {
		type filter hook postrouting priority srcnat + 10; policy accept;
		oifname "pod*" udp dport 8080 drop
	}
}
"""


@pytest.mark.parametrize(
    ("commands", "rule", "place"),
    [
        (DOCKER, '\'iifname != "pod2" oifname "pod2" drop\' of chain DOCKER', "DOCKER-USER"),
        (LIBVIRT, "'oifname \"pod2\" reject' of chain LIBVIRT_FWI", "FORWARD"),
        (UFW, "drops by default", "FORWARD"),
    ],
    ids=["docker", "libvirt", "ufw"],
)
@pytest.mark.proves("K9")
def test_rules_that_drop_under_a_condition_are_named(
    cluster: Cluster, tmp_path: Path, commands: Sequence[str], rule: str, place: str
) -> None:
    iptables(cluster, *commands)
    (warning,) = warnings(cluster, tmp_path)
    assert reached(cluster, SILENCE) is not Kind.REACHED
    assert rule in warning
    assert "every endpoint: 10.244.1.2:8080 by pod2" in warning
    command = remedy(warning)
    assert command[:3] == ["iptables", "-I", place]
    cluster.run("worker-1", ["iptables-nft", *command[1:]])
    assert reached(cluster) is Kind.REACHED
    assert warnings(cluster, tmp_path) == []


FLOODS = (
    "-N flood",
    "-A FORWARD -p tcp --syn -j flood",
    "-A flood -m limit --limit 1000/second --limit-burst 1000 -j RETURN",
    "-A flood -j DROP",
    "-A FORWARD -p tcp --tcp-flags FIN,SYN FIN,SYN -j DROP",
    "-A FORWARD -p tcp --tcp-flags SYN,RST SYN,RST -j DROP",
    "-A FORWARD -p tcp --tcp-flags ALL NONE -j DROP",
    "-A FORWARD -p tcp --tcp-flags ALL ALL -j DROP",
    "-A FORWARD -p tcp --tcp-flags ALL FIN,PSH,URG -j DROP",
    "-A FORWARD -p tcp ! --syn -m conntrack --ctstate NEW -j DROP",
    "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
    "-A FORWARD -f -j DROP",
)
BOGONS = (
    "-A FORWARD -i eth0 -s 10.0.0.0/8 -j DROP",
    "-A FORWARD -i eth0 -s 127.0.0.0/8 -j DROP",
    "-A FORWARD -i eth0 -s 10.244.1.2 -j DROP",
    "-A FORWARD -s 192.0.2.0/24 -j DROP",
    "-A FORWARD -m conntrack --ctorigdst 172.30.1.9 -j DROP",
    "-A FORWARD -m conntrack --ctstatus ASSURED,SEEN_REPLY -m conntrack --ctstate NEW -j DROP",
)


@pytest.mark.proves("K9")
@pytest.mark.parametrize(
    "rule",
    [
        "-p tcp --syn -o pod2",
        "-p tcp --tcp-flags SYN,ACK SYN",
        "-p tcp ! --tcp-flags SYN NONE",
        "! -s 10.244.0.0/16 -d 10.244.0.0/16",
        "! -s 10.244.1.2 -d 10.244.1.2",
        "-m conntrack --ctorigdst 172.30.1.2",
        "-m conntrack ! --ctstatus ASSURED,SEEN_REPLY",
        "-m iprange ! --src-range 10.244.0.0-10.244.1.255 -d 10.244.1.2",
    ],
)
def test_what_is_known_of_a_first_packet_is_known_of_rules_of_iptables(
    cluster: Cluster, tmp_path: Path, rule: str
) -> None:
    """Its flags, where it is not from, the node's address, the bits of its status."""
    iptables(cluster, f"-A FORWARD {rule} -j DROP")
    more = ("--cluster-cidr", "10.244.0.0/16")
    (warning,) = warnings(cluster, tmp_path, *more)
    assert "in the forward hook drops or rejects by the rule" in warning
    assert reached(cluster, SILENCE) is Kind.SILENT
    cluster.run("worker-1", ["iptables-nft", *remedy(warning)[1:]])
    assert reached(cluster) is Kind.REACHED
    assert warnings(cluster, tmp_path, *more) == []


@pytest.mark.parametrize(
    "rule",
    [
        "-m statistic --mode random --probability 0.000001",
        "-m time --datestop 2001-01-01",
        "-p tcp -m tcpmss --mss 1:80",
        "-m length --length 20:30",
        "-m ttl --ttl-lt 3",
        "-m dscp --dscp 5",
        "-p tcp --tcp-option 77",
    ],
)
def test_what_chance_or_headers_decide_is_told_as_such(cluster: Cluster, tmp_path: Path, rule: str) -> None:
    iptables(cluster, f"-A FORWARD {rule} -j DROP")
    (warning,) = warnings(cluster, tmp_path)
    assert "in the forward hook cannot be judged: whether Services answer" in warning
    cluster.run("worker-1", ["iptables-nft", *remedy(warning)[1:]])
    assert warnings(cluster, tmp_path) == []


@pytest.mark.proves("K9")
@pytest.mark.parametrize("commands", [KUBELET, CALICO, FLOODS, BOGONS], ids=["kubelet", "calico", "floods", "bogons"])
def test_rules_that_drop_others_are_not_named(cluster: Cluster, tmp_path: Path, commands: Sequence[str]) -> None:
    iptables(cluster, *commands)
    assert warnings(cluster, tmp_path) == []
    assert reached(cluster) is Kind.REACHED


@pytest.mark.proves("K9")
@pytest.mark.parametrize(
    ("ruleset", "chains"),
    [(LXD, {"acl.lxdbr0"}), (HAND, {"early", "forward"})],
    ids=["lxd", "by hand"],
)
def test_chains_of_several_hooks_and_priorities_are_all_asked(
    cluster: Cluster, tmp_path: Path, ruleset: str, chains: set[str]
) -> None:
    """What one chain accepts, another may drop; each that does needs its remedy."""
    cluster.nft("worker-1", ruleset)
    found = warnings(cluster, tmp_path)
    assert reached(cluster, SILENCE) is not Kind.REACHED
    assert {warning.split()[4] for warning in found} == chains
    for warning in found:
        assert reached(cluster, SILENCE) is not Kind.REACHED
        cluster.run("worker-1", remedy(warning))
    assert reached(cluster) is Kind.REACHED
    assert warnings(cluster, tmp_path) == []


def test_endpoints_of_one_device_alone_are_named(cluster: Cluster, tmp_path: Path) -> None:
    more = """\
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, labels: {app: web}}
status: {podIP: 10.244.1.3}
---
apiVersion: v1
kind: Pod
metadata: {name: web-3, labels: {app: web}}
status: {podIP: 10.244.2.2}
"""
    (tmp_path / "web.yaml").write_text(MANIFESTS + more)
    cluster.nft("worker-1", 'table ip f { chain f { type filter hook forward priority 0; oifname "pod3" drop; }\n}')
    (warning,) = warnings(cluster, tmp_path)
    assert "1 of 3 endpoints: 10.244.1.3:8080 by pod3" in warning


@pytest.mark.proves("K9")
def test_endpoints_on_the_node_itself_are_asked_of_input_chains(cluster: Cluster, tmp_path: Path) -> None:
    """As pods of the host's network are."""
    (tmp_path / "web.yaml").write_text(MANIFESTS.replace("10.244.1.2", "172.30.1.2"))
    responder = cluster.start_responder("worker-1", (8080,), "worker-1")
    try:
        assert warnings(cluster, tmp_path) == []
        assert reached(cluster) is Kind.REACHED
        closed = "policy drop; ct state established,related accept; tcp dport { 22, 30010 } accept"
        cluster.nft("worker-1", f"table ip f {{ chain f {{ type filter hook input priority 0; {closed}; }}\n}}")
        (warning,) = warnings(cluster, tmp_path)
        assert reached(cluster, SILENCE) is Kind.SILENT
        assert "chain ip f f in the input hook drops by default" in warning
        assert "172.30.1.2:8080 on this host" in warning
        cluster.run("worker-1", remedy(warning))
        assert reached(cluster) is Kind.REACHED
        assert warnings(cluster, tmp_path) == []
    finally:
        cluster.stop(responder)


def test_what_cannot_be_judged_is_told_as_such(cluster: Cluster, tmp_path: Path) -> None:
    iptables(cluster, "-A FORWARD -m string --string never-sent --algo bm -j DROP")
    (warning,) = warnings(cluster, tmp_path)
    assert "chain ip filter FORWARD in the forward hook cannot be judged" in warning
    assert "depends on 'xt match string' in the rule" in warning
    assert reached(cluster) is Kind.REACHED
    command = remedy(warning)
    cluster.run("worker-1", ["iptables-nft", *command[1:]])
    assert warnings(cluster, tmp_path) == []


@pytest.mark.parametrize("drops", [True, False])
def test_a_chain_that_libnftables_cannot_list_is_told_with_the_reason(
    cluster: Cluster, tmp_path: Path, *, drops: bool
) -> None:
    """A rule looks into a set of a newer nft, over which this one says an error, or ends."""
    cluster.call("worker-1", partial(put, STRANGERS["a key of an unknown type"]))
    cluster.call("worker-1", partial(put, (chain("fw", "theirs", DROPS if drops else FORWARDS),)))
    cluster.call("worker-1", partial(put, (looks_into("fw", "theirs", "s"),)))
    (warning,) = [line for line in warnings(cluster, tmp_path) if " inet fw theirs in the forward hook " in line]
    reason = "(list chain inet fw theirs: libnftables says: "
    begin = "its rules cannot be read" if drops else "depends on 'the rules of chain theirs'"
    assert f"{begin} {reason}" in warning
    assert "table inet fw holds what this version of libnftables cannot read: upgrade libnftables, or" in warning
    assert remedy(warning)[:2] == ["nft", "insert"]


@pytest.mark.proves("K9")
@pytest.mark.parametrize(
    ("commands", "rule"),
    [(DOCKER, "of chain DOCKER"), (LIBVIRT, "of chain LIBVIRT_FWI"), (UFW, "drops by default")],
    ids=["docker", "libvirt", "ufw"],
)
def test_chains_of_the_old_iptables_are_judged_as_well(
    old_iptables: Cluster, tmp_path: Path, commands: Sequence[str], rule: str
) -> None:
    iptables(old_iptables, *commands, program="iptables-legacy")
    (warning,) = warnings(old_iptables, tmp_path)
    assert reached(old_iptables, SILENCE) is not Kind.REACHED
    assert "chain ip filter FORWARD of iptables-legacy in the forward hook drops" in warning
    assert rule in warning
    old_iptables.run("worker-1", remedy(warning))
    assert reached(old_iptables) is Kind.REACHED
    assert warnings(old_iptables, tmp_path) == []


@pytest.mark.parametrize(
    "commands", [KUBELET, CALICO, FLOODS[:-1], BOGONS], ids=["kubelet", "calico", "floods", "bogons"]
)
def test_rules_of_the_old_iptables_that_drop_others_are_not_named(
    old_iptables: Cluster, tmp_path: Path, commands: Sequence[str]
) -> None:
    iptables(old_iptables, *commands, program="iptables-legacy")
    assert warnings(old_iptables, tmp_path) == []
    assert reached(old_iptables) is Kind.REACHED
