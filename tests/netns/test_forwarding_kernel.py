"""What is said of rules of others agrees with what the kernel does: each condition, and chains made at random."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from lab.cluster import Cluster
from lab.outcome import Kind
from lab.probe import ANSWER_SECONDS, connect
from nodeport_nft.forwarding import Endpoint, Judge, Packet
from nodeport_nft.forwarding.rules import read_rule
from nodeport_nft.forwarding.values import addresses
from nodeport_nft.forwarding.walk import Budget, Fate
from nodeport_nft.kernel.host.foreign_chains import Tables, read_chains
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import Family
from tests.netns.test_forwarding import warnings

Result = TypeVar("Result")

WEB = Endpoint(Family.IPV4, "tcp", "10.244.1.2", 8080, "172.30.1.2", 30010)
PODS, LOOPBACK = addresses("10.244.0.0/16"), addresses("127.0.0.0/8")
assert PODS is not None
assert LOOPBACK is not None
PACKET = Packet.to(WEB, iif="eth0", oif="pod2", inside=(PODS, LOOPBACK))

SEEDS = 40

SETS = """\
	set names { type ifname; elements = { "eth0", "docker0" }; }
	set addresses { type ipv4_addr; flags interval; elements = { 10.244.0.0/16, 192.168.1.1-192.168.1.7 }; }
	set ports { type inet_service; flags interval; elements = { 1-3, 8080 }; }
	set pairs { type ifname . inet_service; flags interval; elements = { "pod2" . 8080-9000, "lo" . 3 }; }
	set seen { type ipv4_addr . inet_service; flags dynamic,timeout; timeout 1h; }
	set inside { type ipv4_addr; flags interval; elements = { 10.244.0.0/16, 127.0.0.0/8 }; }
	counter some { }
"""

CONDITIONS = """\
iifname "eth0"
iifname != "eth0"
iifname "eth*"
iifname { "eth*", "lo" }
iifname != { "eth*", "lo" }
iif "eth0"
iif != "lo"
oifname "pod2"
oifname "pod*"
oifname != "docker*"
oifname { "a", "pod2" }
oifname . iifname { "pod2" . "eth0" }
oifname . iifname { "eth0" . "pod2" }
oifname . tcp dport { "pod2" . 8080 }
oifname . tcp dport { "pod2" . 8000-9000 }
oifname . tcp dport != { "pod2" . 8000-9000 }
ip daddr 10.244.1.2
ip daddr != 10.244.1.2
ip daddr 10.244.0.0/16
ip daddr 10.244.1.1-10.244.1.9
ip daddr { 10.244.1.0/24, 192.0.2.1 }
ip daddr != { 10.244.1.0/24, 192.0.2.1 }
ip daddr 172.30.1.2
ip daddr & 255.255.0.0 == 10.244.0.0
ip6 daddr ::/0
ip6 daddr != ::1
ip daddr 0.0.0.0/0
tcp dport 8080
tcp dport != 8080
tcp dport { 80, 8000-8100 }
tcp dport > 8000
tcp dport >= 8080
tcp dport < 8080
tcp dport <= 8080
tcp dport 30010
udp dport 8080
udp dport != 8080
th dport 8080
meta l4proto tcp
meta l4proto { tcp, udp }
meta l4proto != tcp
meta l4proto udp
ip protocol tcp
ip protocol != udp
ip6 nexthdr tcp
meta nfproto ipv4
meta nfproto ipv6
meta protocol ip
meta protocol ip6
meta protocol != ip
meta protocol { ip, ip6 }
ct state new
ct state new,established
ct state established,related
ct state { new, established }
ct state { established, related }
ct state != new
ct state != established
ct state != { new, established }
ct state ! new
ct state ! established
ct state invalid
ct state != invalid
ct state new,invalid
ct state != new,invalid
ct state != established,related
ct state & (established|related) == 0
ct state & new != 0
ct status dnat
ct status snat
ct status != dnat
ct status != snat
ct status ! dnat
ct status ! snat
ct status == dnat
ct status snat,dnat
ct status != snat,dnat
ct status { snat, dnat }
ct status { dnat, snat }
ct status != { snat, dnat }
ct status & dnat == dnat
ct status & dnat != 0
ct status seen-reply
ct status confirmed
ct status != confirmed
ct status assured
ct status expected
ct status ! snat,dnat
ct state ! new,established
ct state == new
ct status == snat
ct direction original
ct direction reply
ct direction != reply
ct original ip daddr 172.30.1.2
ct original ip daddr 10.244.1.2
ct original ip daddr != 172.30.1.2
meta l4proto tcp ct original proto-dst 30010
meta l4proto tcp ct original proto-dst 8080
meta l4proto tcp ct original proto-dst != 8080
ct protocol tcp
fib daddr type unicast
fib daddr type local
fib daddr type != local
fib daddr type { local, broadcast }
fib saddr type local
meta pkttype host
meta pkttype unicast
meta pkttype != host
pkttype broadcast
icmp type echo-request
icmp type != echo-request
icmpv6 type echo-request
tcp flags syn
tcp flags & (fin|syn|rst|ack) == syn
tcp flags & (fin|syn|rst|ack) != syn
tcp flags ! syn
tcp flags syn / syn,ack
ip saddr 172.30.0.0/24
ip saddr != 172.30.0.0/24
tcp sport 1-65535
meta mark 0
meta mark & 0x4000 == 0x4000
ct mark 0
meta iifgroup 0
oifgroup 0
iiftype ether
limit rate 10/second
limit rate over 10/second
limit rate 10 mbytes/second
ip ttl < 3
ip dscp 0
meta length < 100
meta random < 5
numgen inc mod 2 0
jhash ip saddr mod 2 0
jhash ip saddr . tcp sport mod 2 seed 0xdeadbeef 0
symhash mod 2 0
ct helper "ftp"
ct zone 0
ct bytes > 100000
ct packets < 10
ct count 20
quota over 1 mbytes
meter x { ip saddr limit rate 1/second }
ether saddr 00:11:22:33:44:55
ether type ip
vlan id 3
meta hour "00:00"-"23:59"
meta day "Saturday"
meta time > "2020-01-01"
rt ip nexthop 10.244.1.2
rt mtu 1500
meta rtclassid 0
fib saddr . iif oif missing
fib saddr . iif oif != 0
fib saddr oif exists
frag more-fragments 1
exthdr hbh exists
tcp option maxseg exists
tcp option maxseg size 1460
meta skuid 0
meta priority 0
meta cpu 0
ip frag-off & 0x1fff != 0
ip length < 100
meta oifkind "veth"
meta mark set 7
meta mark set meta mark & 0xff | 0x1
ct mark set meta mark
meta mark set ct mark
meta mark set ip daddr map { 10.244.1.2 : 0x1 }
tcp option maxseg size set rt mtu
ip dscp set cs1
log prefix "x" flags all
log level debug
iifname @names
oifname @names
ip daddr @addresses
ip daddr != @addresses
ip saddr @addresses
tcp dport @ports
oifname . tcp dport @pairs
ip daddr . tcp dport @seen
add @seen { ip daddr . tcp dport }
update @seen { ip saddr . tcp dport timeout 1m }
meta l4proto . th dport { tcp . 8080 }
meta nfproto . meta l4proto { ipv4 . tcp }
@th,16,16 8080
@nh,128,32 0x01020304
ct expiration 1s-2h
ct original ip saddr 172.30.0.10
ct original ip saddr 172.30.0.0/16
ct reply ip saddr 10.244.1.2
meta ipsec missing
ipsec in reqid 1
meta iifkind "veth"
ip version 4
ip hdrlength 5
tcp window > 1
sctp dport 8080
dccp dport 8080
counter name "some"
counter
meta nftrace set 0
""".splitlines()
"""In nft's language; how it lists them is another matter."""

BITS = """\
tcp flags == syn
tcp flags != syn
tcp flags != ack
tcp flags syn,ack
tcp flags ack
tcp flags ! ack
tcp flags ! syn,ack
tcp flags 0x2
tcp flags 0x12
tcp flags == 0x12
tcp flags != 0x12
tcp flags == 0xc2
tcp flags != (syn|ack)
tcp flags (syn|ack)
tcp flags { syn, syn | ack }
tcp flags { syn | ack, fin | ack }
tcp flags != { syn, ack }
tcp flags & syn == syn
tcp flags & syn != syn
tcp flags & syn == 0
tcp flags & syn != 0
tcp flags & (syn|ack) == (syn|ack)
tcp flags & (syn|ack) == syn
tcp flags & (syn|ack) != (syn|ack)
tcp flags & (fin|syn) == (fin|syn)
tcp flags & (fin|syn) == 0
tcp flags & (fin|syn) > 0
tcp flags & (fin|syn|rst|psh|ack|urg) == 0
tcp flags & (fin|syn|rst|psh|ack|urg) == (fin|psh|urg)
tcp flags & (fin|syn|rst|ack|ecn|cwr) == syn
tcp flags & (syn|ack) { syn, ack }
tcp flags & 0x17 == 0x2
tcp flags syn / fin,syn,rst,ack
tcp flags != syn / fin,syn,rst,ack
tcp flags ! fin,rst
tcp flags > 1
tcp flags >= 3
tcp flags < 3
tcp dport . tcp flags { 8080 . syn }
tcp flags . tcp dport { syn | ack . 8080 }
tcp dport & 0xff00 == 0x1f00
tcp dport & 1 == 1
ip daddr & 0.0.0.255 == 0.0.0.2
ip daddr & 0.0.0.255 != 0.0.0.2
ct state & new == new
ct state & (new|invalid) == new
ct state & (established|new) == established
ct state & (established|related) != 0
ct state & (new|established) { new, related }
ct state untracked
ct state 0x8
ct state . tcp dport { new . 8080 }
ct status & dnat != dnat
ct status & dnat == 0
ct status & (seen-reply|dnat) == dnat
ct status & (seen-reply|dnat) != dnat
ct status & (assured|confirmed) == 0
ct status & (assured|confirmed) != 0
ct status & (snat|dnat) == dnat
ct status & (snat|dnat) == (snat|dnat)
ct status & (snat|dnat) != 0
ct status & 0x20 == 0x20
ct status & dnat { dnat, snat }
ct status 0x20
ct status 0x8
ct status 0x0
ct status dying
ct status ! dying,seen-reply
ct status expected,seen-reply
ct status ! expected
ct status == 0x120
ct status != 0x120
ct status != 0
ct status seen-reply,dnat
ct status confirmed
ct status ! confirmed
ct status assured
ct status dying,snat
ct status snat
ct status ! snat
ip saddr != 10.244.0.0/16
ip saddr 10.244.0.0/16
ip saddr 10.244.1.0/24
ip saddr != 10.244.1.2
ip saddr != { 10.244.0.0/17, 10.244.128.0/17 }
ip saddr != { 10.244.0.0/16, 127.0.0.0/8 }
ip saddr { 10.244.3.0/24, 127.0.0.1 }
ip saddr != { 10.244.0.0/16, 172.30.0.0/24 }
ip saddr 10.0.0.0/8
ip saddr != 10.0.0.0/8
ip saddr & 0.0.0.255 == 0.0.0.10
ip saddr 0.0.0.0/0
ip saddr { 0.0.0.0-10.243.255.255, 10.245.0.0-255.255.255.255 }
ip saddr != @inside
ip saddr @inside
ip saddr . tcp dport { 10.244.1.2 . 8080 }
ip saddr . tcp dport != { 10.244.1.2 . 8080, 10.244.1.3 . 8080 }
tcp dport . ip saddr { 8080 . 10.244.0.0-10.244.9.255, 8080 . 10.0.0.0/9 }
iifname . ip saddr { "eth0" . 10.244.0.0/16 }
ip6 saddr fd00::/8
ip6 saddr != fd00::/8
ct original ip saddr != 10.244.0.0/16
ct original ip saddr 10.244.0.0/16
ct original ip daddr { 172.30.1.0/24, 10.0.0.1 }
ct original ip daddr != { 172.30.1.0/24, 10.0.0.1 }
ct reply ip daddr 10.244.0.0/16
ip version 4
ip version 6
ip frag-off & 0x1fff == 0
ip frag-off & 0x2000 != 0
ip frag-off & 0x4000 != 0
""".splitlines()
"""Of bits, and of where a packet is not from: in every hook."""

# What some kernels or versions of nft do not have.
_OPTIONAL = ("osf", "meta time", "ipsec", "meta ipsec", "ct helper", "quota", "meter", "symhash", "jhash", "ct count")


def in_node(cluster: Cluster, function: Callable[[Nft], Result]) -> Result:
    """Ask nftables on worker-1."""
    return cluster.call("worker-1", lambda: function(Nft()), timeout=120.0)


@pytest.fixture
def served(cluster: Cluster, tmp_path: Path) -> Iterator[Cluster]:
    """The cluster with a Service whose one endpoint is ``WEB``."""
    assert warnings(cluster, tmp_path) == []
    yield cluster
    cluster.reset()


@pytest.mark.proves("K9")
@pytest.mark.parametrize(
    ("hook", "priority", "conditions"),
    [
        ("forward", "filter", (*CONDITIONS, *BITS)),
        ("prerouting", "filter", BITS),
        ("forward", "mangle", BITS),
        ("postrouting", "filter", BITS),
        ("postrouting", "srcnat + 10", BITS),
    ],
)
def test_every_condition_is_judged_as_the_kernel_does(
    served: Cluster, hook: str, priority: str, conditions: Sequence[str]
) -> None:
    """One packet, and a counter behind each condition; what is not known before may be either."""
    base = f"type filter hook {hook} priority {priority}; policy accept; ct state new jump probes;"
    packet = PACKET.at(hook)
    served.nft("worker-1", f"table inet probe {{\n{SETS}chain probes {{ }}\nchain base {{ {base} }}\n}}\n")
    refused = [
        condition
        for condition in conditions
        if served.run("worker-1", ["nft", f"add rule inet probe probes {condition} counter"], check=False).returncode
    ]
    assert [condition for condition in refused if not condition.startswith(_OPTIONAL)] == []
    assert connect(served, "client", ("172.30.1.2", 30010)).kind is Kind.REACHED

    def judged(nft: Nft) -> list[tuple[str, bool | None, bool]]:
        table, found = Tables(nft).listing("inet", "probe"), []
        for line in table.rules("probes"):
            counted = re.search(r"counter packets (\d+)", line)
            assert counted, line
            answers = [condition.holds(packet) for condition in read_rule(line, table.sets).conditions]
            holds = False if False in answers else None if None in answers else True
            found.append((line, holds, int(counted[1]) > 0))
        return found

    found = in_node(served, judged)
    assert len(found) == len(conditions) - len(refused)
    assert [line for line, holds, held in found if holds is not None and holds is not held] == []
    known = [holds for _, holds, _ in found if holds is not None]
    assert len(known) > len(found) // 2
    assert {True, False} <= set(known)


_KNOWN = [
    'iifname "eth0"',
    'iifname != "pod*"',
    'oifname { "pod2", "pod3" }',
    "ip daddr 10.244.0.0/16",
    "ip daddr != @addresses",
    "ip6 daddr ::/0",
    "tcp dport 8000-8100",
    "tcp dport != 8080",
    "udp dport 8080",
    "ct state new,established",
    "ct state { established, related }",
    "ct status dnat",
    "ct status != dnat",
    "ct status { dnat, snat }",
    "meta l4proto { tcp, udp }",
    "oifname . tcp dport @pairs",
    "ct original ip daddr 172.30.1.2",
    "tcp flags syn",
    "tcp flags & (fin|syn|rst|ack) == syn",
    "tcp flags != syn",
    "tcp flags & (fin|syn) == (fin|syn)",
    "ct status & dnat == dnat",
    "ct status & (seen-reply|dnat) != dnat",
    "ip saddr != 10.244.0.0/16",
    "ip saddr 10.244.1.0/24",
    "fib daddr type local",
    "",
]
_UNKNOWN = ["ip saddr 172.30.0.0/24", "meta mark & 0x4000 == 0x4000", "limit rate 1000/second", "tcp sport 1-65535"]
_VMAPS = [
    'iifname vmap {{ "lo" : {0}, "eth*" : {1} }}',
    "ct state vmap {{ established : {0}, new : {1} }}",
    "tcp dport vmap {{ 1-80 : {0}, 8080 : {1}, 9000-9999 : {0} }}",
    "ip daddr . tcp dport vmap {{ 10.244.1.2 . 8080 : {1}, 10.244.1.2 . 80 : {0} }}",
    "ct status vmap {{ dnat : {0} }}",
    "meta nfproto vmap {{ ipv6 : {0}, ipv4 : {1} }}",
    "tcp dport vmap {{ 80 : {0}, * : {1} }}",
]


def ruleset(draw: random.Random) -> str:
    """A table with chains made at random; chains lead to later ones alone, as the kernel wants it."""
    chains = []
    for number in range(4):
        later = [f"{word} c{to}" for word in ("jump", "goto") for to in range(number + 1, 4)]
        rules = []
        for _ in range(draw.randrange(1, 6)):
            verdicts = draw.choices(["accept", "drop", "return", "continue", *later * 2], k=2)
            if draw.random() < 0.25:
                rules.append(draw.choice(_VMAPS).format(*verdicts))
                continue
            conditions = draw.choices(_UNKNOWN if draw.random() < 0.1 else _KNOWN, k=draw.randrange(1, 3))
            if any(condition.startswith(("ip6", "udp")) for condition in conditions):
                del conditions[1:]  # nft refuses those that contradict each other
            rules.append(f"{' '.join(conditions)} {verdicts[0]}")
        chains.append(f"chain c{number} {{ {'; '.join(rules)}; }}\n")
    bases = [
        f"chain base{number} {{ type filter hook {hook} priority {draw.randrange(1, 90)}; "
        f"policy {draw.choice(['accept', 'accept', 'drop'])}; ct state established accept; "
        f"{draw.choice(_KNOWN)} jump c{number}; }}\n"
        for number, hook in enumerate(draw.sample(["forward", "forward", "prerouting", "postrouting"], 2))
    ]
    return f"table inet probe {{\n{SETS}{''.join(reversed(chains))}{''.join(bases)}}}\n"


@pytest.mark.proves("K9")
def test_chains_made_at_random_are_judged_as_the_kernel_does(served: Cluster) -> None:
    """The first packet of a connection; that it is let through, or is not, is what is said where anything is."""
    seen: set[Kind] = set()
    known = 0
    for seed in range(SEEDS):
        text = f"table inet probe {{ }}\ndelete table inet probe\n{ruleset(random.Random(seed))}"
        if served.run("worker-1", ["nft", "-f", "-"], text=text, check=False).returncode:
            continue  # nft takes some conditions for contradictory

        def judged(nft: Nft) -> list[set[Fate]]:
            found = []
            for chain in read_chains():
                judge = Judge(chain, Tables(nft).listing(chain.family, chain.table))
                found.append(set(judge.ways(PACKET, Budget(10_000)).possible))
            return found

        fates = in_node(served, judged)
        assert len(fates) == 2
        expected = None
        if {Fate.DROPPED} in fates:
            expected = False
        elif all(Fate.DROPPED not in possible for possible in fates):
            expected = True
        if expected is None:
            continue
        known += 1
        kind = connect(served, "client", ("172.30.1.2", 30010), timeout=ANSWER_SECONDS if expected else 0.5).kind
        seen.add(kind)
        assert (kind is Kind.REACHED) is expected, f"seed {seed}: {kind}\n{text}"
    assert known > SEEDS // 2
    assert {Kind.REACHED, Kind.SILENT} <= seen
