"""Which chains of others stop what we translate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeport_nft.forwarding import (
    BaseChain,
    Endpoint,
    Hooked,
    Judge,
    Listing,
    Traffic,
    Unlisted,
    base_chains,
    obstacles,
)
from nodeport_nft.model import Family
from tests.unit.endless import ended_within

V4, V6 = Family.IPV4, Family.IPV6
WEB = Endpoint(V4, "tcp", "10.244.1.2", 8080, "", 30010)
WEB_6 = Endpoint(V6, "tcp", "fd00:244:1::2", 8080, "", 30010)
FAR = Endpoint(V4, "tcp", "10.244.2.2", 8080, "10.96.0.10", 80)
DNS = Endpoint(V4, "udp", "10.244.1.3", 53, "10.96.0.53", 53)
BRIDGED = Endpoint(V4, "tcp", "172.17.0.2", 80, "", 30080)
OWN = Endpoint(V4, "tcp", "172.30.0.2", 9100, "10.96.0.20", 9100)
NO_SETS: Mapping[str, str] = {}
ALL = (WEB, WEB_6, FAR, DNS)
OUT = {
    **{endpoint.address: "pod2" for endpoint in (WEB, WEB_6)},
    FAR.address: "eth0",
    DNS.address: "pod3",
    BRIDGED.address: "docker0",
    OWN.address: "",
}


NODES = {V4: ("172.30.1.2",), V6: ("fd00:30:1::2",)}
INSIDE = {
    V4: (ip_network("10.244.0.0/16"), ip_network("127.0.0.0/8")),
    V6: (ip_network("fd00:244::/32"), ip_network("::1")),
}


def said(
    chain: BaseChain,
    chains: Mapping[str, Iterable[str]],
    endpoints: Iterable[Endpoint] = ALL,
    sets: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """What is said of a base chain, in a table with these chains and sets, when these endpoints are served."""
    listing = Listing(chains.__getitem__, (sets or {}).__getitem__)
    traffic = Traffic(endpoints, OUT, {V4: ("eth0",), V6: ("eth0",)}, NODES, INSIDE)
    return obstacles([Judge(chain, listing)], traffic)


def told(*rules: str, drops: bool = True, family: str = "inet", **others: Iterable[str]) -> str:
    """What is said of a forward chain with these rules, in a table that has ``others``."""
    return "\n".join(said(BaseChain(family, "fw", "forward", drops), {"forward": rules, **others}))


@pytest.mark.parametrize(
    "rules",
    [
        ("ct status dnat accept",),
        ("ct status dnat counter packets 7 bytes 420 accept",),
        ('ct state established,related accept comment "never drop"', "ct status snat,dnat accept"),
        ("ct state new,established accept",),
        ("ct state { established, new } ct status dnat accept",),
        ("ct state vmap { invalid : drop, established : accept, new : accept }",),
        ("ip daddr 10.244.0.0/16 accept", "ip6 daddr fd00::/16 accept", "counter packets 0 bytes 0 accept"),
        ('log prefix "all drop: " flags tcp sequence,options accept',),
        ("tcp dport 22 drop", "ct state invalid drop", "accept"),
        ("ct state != new accept", "ct state ! established,related accept"),
        ('iifname != "docker0" oifname "docker0" drop', "accept"),
        ('iifname vmap { "lo" : accept, "eth*" : jump trusted }', "drop"),
        ("meta l4proto { tcp, udp } accept",),
        ("meta nfproto vmap { ipv4 : accept, ipv6 : accept }",),
        ('iifname . oifname { "eth0" . "pod*", "eth0" . "eth0" } accept',),
        ("ct direction original fib daddr type unicast meta pkttype host accept",),
        ("ct original proto-dst { 53, 80, 30010 } accept",),
        ("tcp option maxseg size set rt mtu", "meta mark set meta mark & 0xff | 0x1 ct mark set meta mark accept"),
    ],
)
def test_what_lets_translated_connections_through_is_no_obstacle(rules: tuple[str, ...]) -> None:
    assert told(*rules, trusted=("accept",)) == ""


@pytest.mark.parametrize(
    ("rules", "rule"),
    [
        (("ct state { established, related } accept", "reject with icmpx admin-prohibited"), "reject with icmpx"),
        (('oifname { "pod*", "eth0" } drop',), 'oifname { "pod*", "eth0" } drop'),
        (("ct state vmap { established : accept, new : drop }",), "ct state vmap"),
        (("ip daddr 10.0.0.0/8 counter packets 3 bytes 180 drop",), "'ip daddr 10.0.0.0/8 drop'"),
        (('iifname "eth0" ct state new log prefix "no: " drop',), 'log prefix "no: " drop'),
        (("jump user",), "'drop' of chain user"),
        # what a first packet is, whoever lists it
        (("tcp flags syn / fin,syn,rst,ack drop",), "tcp flags syn / fin,syn,rst,ack drop"),
        (("tcp flags & (fin | syn | rst | ack) == syn drop",), "== syn drop"),
        (('oifname "pod2" tcp flags & syn == syn drop',), "tcp flags & syn == syn drop"),
        (("tcp flags syn drop",), "tcp flags syn drop"),
        (("tcp flags == syn drop",), "tcp flags == syn drop"),
        (("tcp flags != syn accept", "meta l4proto tcp drop"), "meta l4proto tcp drop"),
        (("tcp flags & syn vmap { 0x0 : accept, syn : drop }",), "vmap"),
        (("tcp flags vmap { syn | ack : accept, syn : drop }",), "vmap"),
        (("tcp flags ! ack,rst drop",), "tcp flags ! ack,rst drop"),
        (("tcp flags { syn | ack, syn } drop",), "tcp flags { syn | ack, syn } drop"),
        (("ct state new ct status & dnat == dnat drop",), "ct status & dnat == dnat drop"),
        (("ct status dnat / seen-reply,dnat drop",), "ct status dnat / seen-reply,dnat drop"),
        (("ct status & (assured | confirmed) == 0x0 drop",), "== 0x0 drop"),
        (("ct status ! seen-reply,assured drop",), "ct status ! seen-reply,assured drop"),
        (("ct status & dnat vmap { dnat : jump user }",), "'drop' of chain user"),
        (("ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 drop",), "ip saddr != 10.244.0.0/16"),
        (("ip saddr != { 10.244.0.0/16, 127.0.0.0/8 } tcp dport != { 443, 80 } drop",), "ip saddr != {"),
        (("ip6 saddr != fd00:244::/32 ip6 daddr fd00:244:1::2 drop",), "ip6 saddr != fd00:244::/32"),
        (("ct original ip saddr != 10.244.0.0/16 drop",), "ct original ip saddr"),
        (("ct original saddr != 10.244.0.0/16 drop",), "ct original saddr"),
        (("ct original ip daddr 172.30.1.2 drop",), "ct original ip daddr 172.30.1.2 drop"),
        (("ct original daddr 172.30.1.2 drop",), "ct original daddr 172.30.1.2 drop"),
        (("ct original ip6 daddr { fd00:30:1::2, ::1 } drop",), "ct original ip6 daddr"),
        (("meta l4proto != icmp goto user",), "'drop' of chain user"),
    ],
)
def test_what_drops_by_a_rule_is_named_with_it(rules: tuple[str, ...], rule: str) -> None:
    """A policy of accept is no excuse."""
    text = told(*rules, drops=False, user=("drop",))
    assert text.startswith("chain inet fw forward in the forward hook drops or rejects by the rule '")
    assert rule in text
    assert "accepts no translated connections" in text
    assert "nft insert rule inet fw forward ct status dnat accept" in text
    assert "trustedChains" in text


@pytest.mark.parametrize(
    "rules",
    [
        (),
        ("ct state established,related accept",),
        ("ct state { established, related } accept",),
        ("ct state vmap { established : accept, related : accept }",),
        ('iifname "docker0" accept',),
        ("icmp type echo-request accept", "tcp dport 22 accept", "udp dport { 67, 68 } accept"),
        ("ip daddr { 192.0.2.0/24, 198.51.100.1-198.51.100.9 } accept", "ip6 daddr 2001:db8::/32 accept"),
        ("ct status { dnat, snat } accept",),  # a set has whole values, and more is set than that
        ('counter packets 1 bytes 60 comment "accept"',),
    ],
)
def test_what_drops_by_default_is_named(rules: tuple[str, ...]) -> None:
    text = told(*rules)
    assert text.startswith("chain inet fw forward in the forward hook drops by default and accepts no translated")
    assert "every endpoint: 10.244.1.2:8080, [fd00:244:1::2]:8080, 10.244.2.2:8080 and 1 more" in text


@pytest.mark.parametrize(
    "rule",
    [
        "ip saddr 10.0.0.0/8 accept",
        "meta mark & 0x0000ff00 == 0x00004000 accept",
        "xt match conntrack counter packets 0 bytes 0 accept",
        "xt match physdev return",
        "limit rate 10/second accept",
        "tcp sport 1-1024 jump user",
        "ip saddr vmap { 192.0.2.1 : accept }",
        "jump gone",
    ],
)
def test_rules_that_accept_some_are_told_apart(rule: str) -> None:
    """What does not end in a drop for sure, yet in one for most."""
    text = told(rule, "meta l4proto != icmp drop", drops=False, user=("accept",))
    if "return" not in rule:
        assert "accepts only some connections" in text


@pytest.mark.parametrize(
    "rule",
    [
        "ip saddr 192.0.2.0/24 drop",
        "ip saddr @blocked drop",  # there is no such set, and none is asked for
        "limit rate over 10/second burst 5 packets drop",
        "meta mark & 0x00008000 == 0x00008000 drop",
        "fib saddr . iif oif missing drop",
        "ip saddr 10.0.0.0/8 drop",  # clients may be in it
        "ip saddr != 10.0.0.0/8 drop",
        "ip saddr 10.244.0.0/16 drop",
        'iif "eth0" ip saddr { 10.0.0.0/8, 192.168.0.0/16, 127.0.0.0/8 } drop',
        "ip saddr & 0.0.0.1 == 0.0.0.1 drop",
        "ip saddr != @wanted drop",
        "ip6 saddr fd00::/8 drop",
        "ct original saddr 192.0.2.0/24 drop",
        "tcp flags fin,syn / fin,syn drop",
        "tcp flags & (fin | syn) == (fin | syn) drop",
        "tcp flags ! fin,syn,rst,psh,ack,urg drop",
        "tcp flags fin,psh,urg / fin,syn,rst,psh,ack,urg drop",
        "tcp flags != syn / fin,syn,rst,ack ct state new drop",
        "tcp flags syn / fin,syn,rst,ack limit rate over 5/second drop",
        "tcp flags == 0x12 drop",
        "tcp flags == 0xc2 drop",
        "tcp flags { syn | ack, fin | ack } drop",
        "ct status & dnat != dnat drop",
        "ct status seen-reply,assured drop",
        "ct status drop",  # iptables' --ctstatus NONE
        "ct status expected drop",
        "ct original ip daddr 172.30.9.9 drop",
        "ip frag-off & 8191 != 0 drop",
        "ct bytes ge 1000000 drop",
        "ct mark 0x5 drop",
        "meta mark vmap { 0x1 : drop }",
        "ip saddr vmap { 192.0.2.1 : drop, 10.244.0.0/16 : drop }",
        "ip saddr 192.0.2.1 meta length > 1500 drop",
        "limit rate over 5/second jump undecided",
        "ip saddr 192.0.2.1 queue num 1",
        "add @seen { ip saddr limit rate over 1/second } drop",
        "ip saddr . tcp dport { 192.0.2.1 . 8080 } drop",
    ],
)
def test_what_drops_some_connections_is_its_owners_business(rule: str) -> None:
    assert told(rule, drops=False, undecided=("numgen random mod 2 0 drop",)) == ""


def test_several_addresses_that_nodeports_are_served_on_are_known_as_far_as_they_agree(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(NODES, V4, ("172.30.1.2", "172.30.1.3"))
    assert "drops or rejects" in told("ct original ip daddr 172.30.0.0/16 drop", drops=False)
    assert "drops or rejects" in told("ct original ip daddr != 10.0.0.0/8 drop", drops=False)
    assert told("ct original ip daddr 172.30.1.2 drop", drops=False) == ""
    assert told("ct original ip daddr 172.30.9.0/24 drop", drops=False) == ""
    monkeypatch.setitem(NODES, V4, ())  # any of the node's
    assert told("ct original ip daddr 172.30.1.2 drop", drops=False) == ""


def test_sets_of_sources_are_read_where_they_are_negated_alone() -> None:
    """A blocklist may be long."""
    chain = BaseChain("ip", "fw", "forward", False)
    pods = "table ip fw {\n\tset pods {\n\t\ttype ipv4_addr\n\t\telements = { 10.244.0.0/16 }\n\t}\n}\n"
    rule = "ip saddr != @pods ip daddr @pods drop"
    assert "drops or rejects" in "".join(said(chain, {"forward": (rule,)}, (WEB,), {"pods": pods}))
    wide = pods.replace("10.244.0.0/16", "10.0.0.0/8")
    assert said(chain, {"forward": (rule,)}, (WEB,), {"pods": wide}) == ()


def test_endpoints_that_differ_in_bits_which_rules_ask_for_are_told_apart() -> None:
    endpoints = [WEB._replace(address=f"10.244.1.{n}") for n in range(2, 6)]
    OUT.update({endpoint.address: "pod2" for endpoint in endpoints})
    (text,) = said(
        BaseChain("ip", "fw", "forward", False), {"forward": ("ip daddr & 0.0.0.1 == 0.0.0.1 drop",)}, endpoints
    )
    assert "2 of 4 endpoints: 10.244.1.3:8080, 10.244.1.5:8080 by pod2" in text


@pytest.mark.parametrize(
    ("rule", "depends"),
    [
        ("xt match string drop", "depends on 'xt match string' in the rule 'xt match string drop'"),
        ("somethingnew 5 { 1, 2 } drop", "depends on 'somethingnew 5 { 1 , 2 }'"),
        ("ip daddr @gone drop", "depends on 'ip daddr @gone'"),
        ("iifname vmap @gone", "depends on 'iifname vmap @gone'"),
        *(
            (f"{condition} drop", f"depends on '{condition}'")
            for condition in (
                "numgen random mod 2 0",
                "numgen inc mod 3 { 0 , 1 }",
                "meta random & 2147483647 < 1073741824",
                'meta day "Saturday"',
                'meta time < "2025-01-01"',
                "tcp option maxseg size 1-500",
                "tcp option 5 exists",
                "ip option rr exists",
                "ip dscp 0x05",
                "ip ttl lt 5",
                "ip ttl < 3",
                "ip6 hoplimit 1",
                "ip length > 1500",
                "meta length > 1500",
                "socket transparent 1",
                "meta cgroup 5",
                "rt ip nexthop 1.2.3.4",
                "exthdr hbh exists",
                "ct count over 100",
                "tcp flags ^ syn == 0x0",
                "@nh,64,8 0x5",
                "meta secpath missing",
                "symhash mod 2 0",
            )
        ),
        ("numgen random mod 2 vmap { 0 : drop, 1 : accept }", "depends on 'numgen random mod 2'"),
        ('meta hour "22:00"-"06:00" drop', "depends on 'meta hour"),
        ("queue num 1", "depends on 'queue num 1'"),
        ('oifname "pod2" queue to 0', "depends on 'oifname \"pod2\" queue to 0'"),
        ("jump gone", "depends on 'the rules of chain gone' in the rule 'jump gone'"),
        ('xt match physdev oifname "pod*" jump user', "depends on 'xt match physdev'"),
    ],
)
def test_what_cannot_be_decided_is_told_once_as_such(rule: str, depends: str) -> None:
    text = told(rule, drops=False, user=("drop",))
    assert text.count("\n") == 0
    assert text.startswith("chain inet fw forward in the forward hook cannot be judged: whether Services answer (")
    assert depends in text
    assert "trustedChains" in text


@pytest.mark.parametrize("limit", ["limit rate 100/second burst 50 packets", "xt match hashlimit"])
def test_a_chain_against_floods_is_a_limit(limit: str) -> None:
    flood = (f"{limit} counter packets 7 bytes 420 return", "drop")
    assert told("tcp flags syn / fin,syn,rst,ack jump flood", "accept", flood=flood) == ""
    assert told("tcp flags syn / fin,syn,rst,ack jump flood", flood=flood, drops=False) == ""
    assert "drops by default" in told("tcp flags syn / fin,syn,rst,ack jump flood", flood=flood)


def test_what_cannot_be_decided_does_not_matter_where_nothing_would_drop() -> None:
    assert (
        told("xt match string accept", "somethingnew return", "xt match recent jump user", user=(), drops=False) == ""
    )
    assert told("tcp dport 22 xt match recent drop", drops=False) == ""
    assert told("ct status dnat accept", "xt match recent drop") == ""


DOCKER = {
    "FORWARD": ("counter packets 0 bytes 0 jump DOCKER-USER", "counter packets 0 bytes 0 jump DOCKER-FORWARD"),
    "DOCKER-USER": (),
    "DOCKER-FORWARD": ("jump DOCKER-CT", 'oifname "docker0" jump DOCKER', 'iifname "docker0" accept'),
    "DOCKER-CT": ('oifname "docker0" ct state related,established accept',),
    "DOCKER": ('iifname != "docker0" oifname "docker0" drop',),
}


def test_endpoints_behind_the_chains_of_docker_are_named_and_no_others() -> None:
    (text,) = said(BaseChain("ip", "filter", "FORWARD", False), DOCKER, (*ALL, BRIDGED))
    assert 'the rule \'iifname != "docker0" oifname "docker0" drop\' of chain DOCKER' in text
    assert "1 of 4 endpoints: 172.17.0.2:80 by docker0" in text
    assert "let them through: iptables -I DOCKER-USER -m conntrack --ctstate DNAT -j ACCEPT (or" in text
    assert said(BaseChain("ip", "filter", "FORWARD", False), DOCKER, ALL) == ()
    let = {**DOCKER, "DOCKER-USER": ("ct status dnat counter packets 0 bytes 0 accept",)}
    assert said(BaseChain("ip", "filter", "FORWARD", False), let, (BRIDGED,)) == ()
    published = {**DOCKER, "DOCKER": ("ip daddr 172.17.0.2 tcp dport 80 accept", *DOCKER["DOCKER"])}
    assert said(BaseChain("ip", "filter", "FORWARD", False), published, (BRIDGED,)) == ()


def test_a_remedy_is_one() -> None:
    """Where the operator's own chain comes too late, the rule goes in front of all."""
    late = {**DOCKER, "FORWARD": ('oifname "docker0" drop', "jump DOCKER-USER")}
    (text,) = said(BaseChain("ip", "filter", "FORWARD", False), late, (BRIDGED,))
    assert "iptables -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT" in text


def test_rules_are_named_each_and_counted_from_some_number_on() -> None:
    rules = [f"ip daddr 10.244.1.{n} drop" for n in range(2, 9)]
    endpoints = [WEB._replace(address=f"10.244.1.{n}") for n in range(2, 9)]
    OUT.update({endpoint.address: "pod2" for endpoint in endpoints})
    texts = said(BaseChain("ip", "fw", "forward", False), {"forward": rules}, endpoints)
    assert len(texts) == 4
    assert "has 4 more rules that drop" in texts[-1]


def test_very_many_chains_are_counted_from_some_number_on() -> None:
    listing = Listing({"forward": ()}.__getitem__, NO_SETS.__getitem__)
    judges = [Judge(BaseChain("inet", f"fw{n:03}", "forward", True), listing) for n in range(300)]
    *named, last = obstacles(judges, Traffic(ALL, OUT, {}))
    assert [text.split()[2] for text in named] == [f"fw{n:03}" for n in range(30)]
    assert last.startswith("270 more chains of others may stop Services; ")


@pytest.mark.parametrize(("depth", "doubted"), [(20, False), (90, False), (400, True)])
def test_chains_of_the_old_iptables_are_followed_however_deep(depth: int, *, doubted: bool) -> None:
    """What is too deep even for us is doubted, and not taken for nothing."""
    chains = {f"c{n}": [f"jump c{n + 1}"] for n in range(depth)}
    chain = BaseChain("ip", "filter", "FORWARD", drops=False, legacy=True)
    (text,) = said(chain, {"FORWARD": ["jump c0"], **chains, f"c{depth}": ["drop"]}, [WEB])
    assert ("cannot be judged" in text) is doubted
    assert doubted or f"drops or rejects by the rule 'drop' of chain c{depth}" in text


def test_services_without_an_endpoint_are_told_of_what_drops_whatever_it_is() -> None:
    none_yet = (Endpoint(V4, "tcp", "", 0, "", 0),)
    chain = BaseChain("ip", "fw", "forward", True)
    (text,) = said(chain, {"forward": ('oifname "docker0" accept', "ct state established accept")}, none_yet)
    assert "accepts only some connections, so Services may not answer (they have no endpoint yet)" in text
    assert said(chain, {"forward": ("ct status dnat accept",)}, none_yet) == ()
    assert said(BaseChain("ip", "filter", "FORWARD", False), DOCKER, none_yet) == ()


def test_what_is_received_on_this_host_passes_its_input_chains() -> None:
    own = BaseChain("inet", "fw", "input", True, "input")
    rules = {"input": ("ct state established accept", 'iifname "lo" accept', "tcp dport { 22, 30000-32767 } accept")}
    assert said(own, rules, ALL) == ()  # none of these is this host
    (text,) = said(own, rules, (*ALL, OWN))
    assert "chain inet fw input in the input hook drops by default" in text
    assert "every endpoint: 172.30.0.2:9100 on this host" in text
    assert said(own, {"input": ("tcp dport 9100 accept",)}, (OWN,)) == ()
    assert said(own, {"input": ("ct status dnat accept",)}, (OWN,)) == ()
    assert said(BaseChain("inet", "fw", "forward", True), {"forward": ()}, (OWN,)) == ()
    compat = BaseChain("ip", "filter", "INPUT", True, "input")
    assert "iptables -I INPUT -m conntrack --ctstate DNAT -j ACCEPT" in "".join(said(compat, {"INPUT": ()}, (OWN,)))


def test_a_negation_that_nft_does_not_show_is_no_alarm() -> None:
    """``! --ctstate DNAT -j DROP`` is listed as ``ct status dnat drop`` by nft 1.0.6."""
    rule = ("ct status dnat counter packets 0 bytes 0 drop",)
    assert said(BaseChain("ip", "filter", "FORWARD", False), {"FORWARD": rule}) == ()
    assert "drops or rejects" in told(*rule, drops=False)


def test_named_sets_and_maps_are_looked_up() -> None:
    def listed(kind: str, elements: str, flags: str = "") -> str:
        return f"table inet fw {{\n\t{kind} s {{\n\t\ttype x\n{flags}\t\telements = {{ {elements} }}\n\t}}\n}}\n"

    chain = BaseChain("ip", "fw", "forward", False)

    def asked(rule: str, listing: str) -> tuple[str, ...]:
        return said(chain, {"forward": (rule,), "to": ("drop",)}, (WEB,), {"s": listing})

    pods = listed("set", "10.0.0.0/8 counter packets 1 bytes 60,\n\t\t\t     192.0.2.1-192.0.2.9")
    assert asked("ip daddr @s drop", pods)
    assert asked("ip daddr != @s drop", pods) == ()
    assert asked("oifname @s ip daddr 10.244.1.2 drop", listed("set", '"pod*", "lo"'))
    assert asked("iifname vmap @s", listed("map", '"lo" : accept, "eth0" : jump to'))
    assert asked("iifname vmap @s", listed("map", '"lo" : drop, "eth1" : jump to')) == ()
    assert asked("oifname . tcp dport @s drop", listed("set", '"pod2" . 8000-9000'))
    assert asked("oifname . tcp dport @s drop", listed("set", '"pod2" . 80')) == ()
    # Packets put elements in, and time takes them out.
    assert asked("ip daddr @s drop", listed("set", "10.244.1.2 expires 3s", "\t\tflags dynamic,timeout\n")) == ()


def test_chains_are_followed_as_the_kernel_does() -> None:
    accepting = ("ct status dnat accept",)
    assert told("jump user", user=accepting) == ""
    assert told("goto user", user=accepting) == ""
    assert told("jump user", "ct status dnat accept", user=("return", "drop")) == ""
    assert "accepts no" in told("goto user", "ct status dnat accept", user=())  # it does not come back
    assert told('iifname "eth0" jump user', user=accepting) == ""
    assert "accepts no" in told('iifname "eth1" jump user', user=accepting)
    assert "accepts no" in told("jump user", "ct status dnat accept", user=("drop",))
    assert "drops" in told("jump loop", loop=("jump loop",))


def test_many_rules_end_the_look() -> None:
    many = told(*("tcp dport 1 drop" for _ in range(30_000)), "ct status dnat accept")
    assert "its rules cannot be read (more than 20,000 rules are too many to be looked through), so" in many
    endpoints = [WEB._replace(address=f"10.244.{n >> 8}.{n & 255}") for n in range(10_000)]
    OUT.update({endpoint.address: "pod2" for endpoint in endpoints})
    rules = [f"ip daddr {endpoint.address} tcp dport 1 drop" for endpoint in endpoints]
    with ended_within(60):
        (text,) = said(BaseChain("ip", "fw", "forward", True), {"forward": rules}, endpoints)
    assert "too many rules" in text


def a_set(elements: Iterable[str]) -> str:
    return f"table ip fw {{\n\tset s {{\n\t\telements = {{ {', '.join(elements)} }}\n\t}}\n}}"


def many_endpoints(count: int) -> list[Endpoint]:
    endpoints = [WEB._replace(address=f"10.244.{n >> 8}.{n & 255}") for n in range(count)]
    OUT.update({endpoint.address: "pod2" for endpoint in endpoints})
    return endpoints


@pytest.mark.parametrize(
    ("rule", "element"),
    [
        ("ip saddr . ip daddr . tcp dport @s accept", "10.0.{}.{} . 10.244.{}.{} . 8080"),
        ("ip saddr . tcp dport @s accept", "10.0.{}.{} . 8080"),
        ("ip daddr . tcp dport @s accept", "10.244.{}.{} . 80-81"),
        ("ip daddr . tcp dport vmap @s", "10.244.{}.{} . 80-81 : accept"),
    ],
)
def test_large_sets_end_the_look_where_their_elements_have_to_be_gone_through(rule: str, element: str) -> None:
    """Otherwise it would take hours, in which nothing is written."""
    elements = [element.format(*(n >> 8, n & 255) * 2) for n in range(9000)]
    with ended_within(60):
        (text,) = said(
            BaseChain("ip", "fw", "forward", True),
            {"forward": [rule] * 100},
            many_endpoints(5000),
            {"s": a_set(elements)},
        )
    assert "it has too many rules, or too large sets, for so many endpoints" in text


@pytest.mark.parametrize(("element", "rule"), [("10.{}.{}.0/25", "ip daddr @s"), ("10.0.{}.{}", "ip saddr != @s")])
def test_a_set_is_listed_once_however_many_rules_look_into_it(element: str, rule: str) -> None:
    text = a_set(element.format(n >> 8, n & 255) for n in range(9000))
    listed: list[str] = []

    def sets(name: str) -> str:
        listed.append(name)
        return text

    rules = [f"{rule} tcp dport {port} accept" for port in range(1, 1001)]
    judge = Judge(BaseChain("ip", "fw", "forward", True), Listing({"forward": rules}.__getitem__, sets))
    with ended_within(60):
        (text,) = obstacles([judge], Traffic(many_endpoints(200), OUT, {V4: ("eth0",)}))
    assert "drops by default" in text
    assert len(listed) <= 1


@pytest.mark.parametrize(
    ("elements", "accepts"),
    [
        (("10.0.0.0-10.244.1.2", "10.244.0.0-10.244.0.9", "10.245.0.0/16"), True),
        (("10.0.0.0-10.244.1.1", "10.244.1.3-10.250.0.0", "10.244.1.5"), False),
        (("10.0.0.0/8", "10.0.0.0/9"), True),
        (("10.0.0.0-10.0.0.9", "10.244.1.2-10.244.1.3", "10.0.0.0-10.0.0.3"), True),
    ],
)
def test_ranges_of_a_set_may_lie_in_each_other(elements: tuple[str, ...], *, accepts: bool) -> None:
    sets = {"s": a_set(elements)}
    rules = {"forward": ["ip daddr @s accept"]}
    assert (said(BaseChain("ip", "fw", "forward", True), rules, [WEB], sets) == ()) is accepts


def test_endpoints_that_no_rule_tells_apart_are_one_walk() -> None:
    """Otherwise ten thousand endpoints would be more than there is time for."""
    endpoints = [WEB._replace(address=f"10.244.{n >> 8}.{n & 255}") for n in range(10_000)]
    OUT.update({endpoint.address: f"pod{n}" for n, endpoint in enumerate(endpoints)})
    rules = [f'ip daddr 192.0.2.{n} oifname "veth{n}" tcp dport {n} accept' for n in range(200)]
    (text,) = said(BaseChain("ip", "fw", "forward", True), {"forward": rules}, endpoints)
    assert "every endpoint: 10.244.0.0:8080, 10.244.0.1:8080, 10.244.0.2:8080 and 9997 more by pod0, pod1" in text


def test_a_chain_is_listed_once_however_many_rules_jump_to_it() -> None:
    """To list one is to ask the kernel, and libnftables takes milliseconds for it."""
    chains = {"forward": ["jump a", "jump b"] * 3000, "a": ["goto b"], "b": ['iifname "eth1" accept']}
    listed: list[str] = []

    def rules(name: str) -> Iterable[str]:
        listed.append(name)
        return chains[name]

    judge = Judge(BaseChain("inet", "fw", "forward", True), Listing(rules, NO_SETS.__getitem__))
    assert "drops by default" in "".join(obstacles([judge], Traffic(ALL, OUT, {})))
    assert sorted(listed) == ["a", "b", "forward"]


def test_nothing_is_asked_where_nothing_can_drop() -> None:
    """As on a host with a forward chain that only accepts: its endpoints need no look at the routes."""
    judge = Judge(
        BaseChain("inet", "fw", "forward", False), Listing({"forward": ["accept"]}.__getitem__, NO_SETS.__getitem__)
    )
    assert not judge.may_drop


@pytest.mark.parametrize(
    "start",
    ["ct state vmap { ", "ct state ", "ct status { ", "ip daddr { ", "log ", "meta mark set ", "xt ", "limit ", ""],
)
@pytest.mark.parametrize(
    "part",
    [
        "new : accept, ",
        "new, ",
        "dnat,",
        "10.0.0.0/8, ",
        "counter packets ",
        'comment "',
        "jump ",
        " ",
        "{ ",
        "} ",
        "& ",
        ". ",
    ],
)
def test_no_rule_is_long_to_read(start: str, part: str) -> None:
    """A quarter of a megabyte, which takes minutes where time grows with the square."""
    line = start + part * (250_000 // len(part))
    with ended_within(60):
        told(line, line + " accept", line + "} drop")


# Words of nft, well-formed or not.
_LANGUAGE = """
iifname oifname ip ip6 daddr saddr tcp udp th dport sport flags ct state status original proto-dst meta
l4proto mark fib type local . == != ! < >= & | / ( ) { } , : @s @gone vmap map set jump goto user accept
drop return continue reject with tcp reset queue num 1 80 80-90 90-80 0x50 10.0.0.0/8 10.0.0.9-10.0.0.1
::1 fe80::/10 "eth0" "pod*" * - -"x" new dnat established,related new,dnat limit rate 10/second burst
packets over quota meter add update counter name comment log prefix level xt match target numgen jhash
mod seed offset option exists expires timeout elements = 99999999999999999999999999 10.0.0.0/99 0-
"""
_WORDS = [*_LANGUAGE.split(), '"', "limit,", "\u0662", "\ud800"]


@given(st.lists(st.lists(st.sampled_from(_WORDS), max_size=14), max_size=4), st.lists(st.sampled_from(_WORDS)))
def test_no_rule_is_a_fall(rules: list[list[str]], elements: list[str]) -> None:
    """Whatever others have written: there is something to be said of it, or nothing."""
    lines = [" ".join(words) for words in rules]
    sets = {"s": f"table x y {{\n\tset s {{\n\t\telements = {{ {' '.join(elements)} }}\n\t}}\n}}"}
    for family in ("ip", "ip6", "inet"):
        chain = BaseChain(family, "fw", "forward", False)
        for text in said(chain, {"forward": lines, "user": lines[:1]}, (*ALL, OWN), sets):
            assert text.startswith("chain ")
            assert "\n" not in text


def test_rules_that_cannot_be_read_are_no_reason_for_silence() -> None:
    chain = BaseChain("inet", "fw", "forward", True)
    assert "cannot be read" in "".join(said(chain, {}))
    assert "cannot be judged" in "".join(said(BaseChain("inet", "fw", "forward", False), {}))


WHY = "list chain inet fw it: libnftables says: Error; table inet fw holds what\nit cannot read: upgrade libnftables"


@pytest.mark.parametrize(
    ("rules", "drops", "words"),
    [
        (None, True, "drops by default and its rules cannot be read ({}), so Services may not answer"),
        (None, False, "depends on 'the rules of chain forward' ({}); if they do not"),
        (["jump user"], False, "depends on 'the rules of chain user' ({}) in the rule 'jump user'; if they do not"),
        (["goto user"], False, "depends on 'the rules of chain user' ({}) in the rule 'goto user'; if they do not"),
        (["ip daddr @s drop"], False, "depends on 'ip daddr @s' ({}) in the rule 'ip daddr @s drop'; if they do not"),
        (["tcp dport vmap @s"], False, "depends on 'tcp dport vmap @s' ({}); if they do not"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_reason(rules: list[str] | None, drops: bool, words: str) -> None:
    def listed(name: str) -> Iterable[str]:
        if rules is None or name != "forward":
            raise Unlisted(WHY)
        return rules

    def elements(_: str) -> str:
        raise Unlisted(WHY)

    judge = Judge(BaseChain("inet", "fw", "forward", drops), Listing(listed, elements))
    (text,) = obstacles([judge], Traffic(ALL, OUT, {}))
    assert words.format(WHY.replace("\n", " ")) in text


def test_a_reason_is_one_line_and_no_longer_than_it_may_be() -> None:
    def listed(_: str) -> Iterable[str]:
        raise Unlisted("\x1b[2J" + "\u202e word\n" * 10_000)

    (text,) = obstacles(
        [Judge(BaseChain("inet", "fw", "forward", True), Listing(listed, NO_SETS.__getitem__))], Traffic(ALL, OUT, {})
    )
    assert "cannot be read (?[2J? word ? word" in text
    assert len(text) < 2000
    assert text.replace("…", "").isascii()


@pytest.mark.parametrize(("family", "program"), [("ip", "iptables"), ("ip6", "ip6tables")])
def test_the_remedy_is_in_the_words_of_whoever_owns_the_chain(family: str, program: str) -> None:
    chain = BaseChain(family, "filter", "FORWARD", True)
    remedy = f"{program} -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT"
    assert remedy in "".join(said(chain, {"FORWARD": ()}))
    six = "6" if family == "ip6" else ""
    ufw = {"FORWARD": (f"jump ufw{six}-before-forward",), f"ufw{six}-before-forward": ()}
    text = "".join(said(chain, ufw))
    assert remedy in text
    assert (
        f"-A ufw{six}-before-forward -m conntrack --ctstate DNAT -j ACCEPT" in text.partition(f"before{six}.rules")[2]
    )
    mangle = BaseChain(family, "mangle", "FORWARD", True)
    assert f"{program} -t mangle -I FORWARD" in "".join(said(mangle, {"FORWARD": ()}))


def test_a_remedy_is_safe_to_type_whatever_the_names() -> None:
    text = "".join(said(BaseChain("inet", "a;reboot", "$(b)", True), {"$(b)": ()}))
    assert "nft insert rule inet 'a;reboot' '$(b)' ct status dnat accept" in text


def test_the_chains_that_translated_packets_meet_are_found() -> None:
    found = [
        Hooked("ip", "nodeport-nft", "fast-path", "filter", "forward", 0, drops=False),
        Hooked("inet", "nodeport-nft", "forward", "filter", "forward", 0, drops=True),
        Hooked("inet", "fw", "forward", "filter", "forward", 10, drops=True),
        Hooked("inet", "fw", "input", "filter", "input", 0, drops=True),
        Hooked("inet", "fw", "output", "filter", "output", 0, drops=True),
        Hooked("inet", "fw", "early", "filter", "prerouting", -300, drops=True),
        Hooked("inet", "fw", "with-us", "filter", "prerouting", -100, drops=True),
        Hooked("inet", "fw", "behind-us", "filter", "prerouting", -95, drops=True),
        Hooked("inet", "fw", "nat", "nat", "prerouting", 0, drops=False),
        Hooked("bridge", "fw", "forward", "filter", "forward", 0, drops=True),
        Hooked("ip", "filter", "FORWARD", "filter", "forward", 0, drops=False),
    ]
    assert base_chains(found, "nodeport-nft") == (
        BaseChain("inet", "fw", "behind-us", True, "prerouting"),
        BaseChain("inet", "fw", "forward", True),
        BaseChain("inet", "fw", "input", True, "input"),
        BaseChain("inet", "nodeport-nft", "forward", True),
        BaseChain("ip", "filter", "FORWARD", False),
    )
