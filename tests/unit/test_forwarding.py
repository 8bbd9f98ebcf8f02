"""Which forward chains of others stop what we translate."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network

import pytest

from nodeport_nft.forwarding import ForwardChain, forward_chains, obstacle
from tests.unit.endless import ended_within

PODS = (ip_network("10.244.0.0/16"), ip_network("fd00:244::/32"))


def told(*rules: str, drops: bool = True, family: str = "inet", **others: Iterable[str]) -> str:
    """What is said of a chain with these rules, in a table that has ``others``."""
    chains = {"forward": rules, **others}
    return obstacle(ForwardChain(family, "fw", "forward", drops), lambda name: chains[name], PODS)


@pytest.mark.parametrize(
    "rules",
    [
        ("ct status dnat accept",),
        ("ct status dnat counter packets 7 bytes 420 accept",),
        ("ct state established,related accept", 'ct status { snat, dnat } accept comment "never drop"'),
        ("ct state new,established accept",),
        ("ct state { new } ct status dnat accept",),
        ("ct state vmap { invalid : drop, established : accept, new : accept }",),
        ("ip daddr 10.244.0.0/16 accept", "ip6 daddr fd00::/16 accept", "counter packets 0 bytes 0 accept"),
        ('log prefix "all drop: " accept',),
        ("tcp dport 22 drop", "ct state invalid drop", "accept"),
    ],
)
def test_what_lets_translated_connections_through_is_no_obstacle(rules: tuple[str, ...]) -> None:
    assert told(*rules) == ""


def test_a_policy_of_accept_is_no_obstacle_unless_the_rules_end_in_a_refusal() -> None:
    assert told("ct state established,related accept", drops=False) == ""
    firewalld = ("ct state { established, related } accept", "reject with icmpx admin-prohibited")
    assert "ends with a rule that drops or rejects and accepts no translated connections" in told(
        *firewalld, drops=False
    )
    assert told(firewalld[0], "ct status dnat accept", firewalld[1], drops=False) == ""


@pytest.mark.parametrize(
    "rules",
    [
        (),
        ("ct state established,related accept",),
        ("ct state { established, related } accept",),
        ("ct state vmap { established : accept, related : accept }",),
        ("ct state vmap { established : accept, new : drop }", "ct status dnat accept"),
        ("drop", "ct status dnat accept"),
        ('counter packets 1 bytes 60 drop comment "accept"',),
    ],
)
def test_what_drops_by_default_is_named(rules: tuple[str, ...]) -> None:
    said = told(*rules)
    assert said.startswith("chain inet fw forward in the forward hook ")
    assert "accepts no translated connections" in said
    assert "nft insert rule inet fw forward ct status dnat accept" in said
    assert "trustedChains" in said


@pytest.mark.parametrize(
    "rule",
    [
        'iifname "docker0" accept',
        "ip daddr 10.244.1.0/24 accept",
        "ip6 daddr fd00:244::/32 accept",
        "meta mark & 0x0000ff00 == 0x00004000 accept",
        'xt match "conntrack" counter packets 0 bytes 0 accept',
        "tcp dport { 80, 443 } accept",
    ],
)
def test_rules_that_accept_some_are_told_apart(rule: str) -> None:
    assert "accepts only some connections" in told(rule)


def test_networks_of_the_pods_are_what_connections_are_translated_to() -> None:
    assert told("ip daddr { 10.0.0.0/8, 192.0.2.0/24 } accept", family="ip") == ""
    assert "accepts only some" in told("ip saddr 10.0.0.0/8 accept", family="ip")
    unknown = obstacle(ForwardChain("ip", "fw", "forward", True), lambda _: ["ip daddr 10.0.0.0/8 accept"], ())
    assert "accepts only some" in unknown


def test_chains_are_followed_as_the_kernel_does() -> None:
    accepting = ("ct status dnat accept",)
    assert told("jump user", user=accepting) == ""
    assert told("goto user", user=accepting) == ""
    assert told("jump user", "ct status dnat accept", user=("return", "drop")) == ""
    assert "accepts no" in told("goto user", "ct status dnat accept", user=())  # it does not come back
    assert "accepts only some" in told('iifname "eth0" jump user', user=accepting)
    assert "accepts no" in told("jump user", "ct status dnat accept", user=("drop",))
    assert "accepts no" in told("jump loop", loop=("jump loop",))


def test_many_rules_end_the_look() -> None:
    assert "accepts only some" in told(*("tcp dport 1 drop" for _ in range(20_000)), "ct status dnat accept")


def test_a_chain_is_listed_once_however_many_rules_jump_to_it() -> None:
    """To list one is to ask the kernel, and libnftables takes milliseconds for it."""
    chains = {"forward": ["jump a", "jump b"] * 3000, "a": ["goto b"], "b": ['iifname "eth0" accept']}
    listed: list[str] = []

    def rules(name: str) -> Iterable[str]:
        listed.append(name)
        return chains[name]

    assert "accepts only some" in obstacle(ForwardChain("inet", "fw", "forward", True), rules, PODS)
    assert sorted(listed) == ["a", "b", "forward"]


@pytest.mark.parametrize("start", ["ct state vmap { ", "ct state ", "ct status { ", "ip daddr { ", "log ", ""])
@pytest.mark.parametrize(
    "part", ["new : accept, ", "new, ", "dnat,", "10.0.0.0/8, ", "counter packets ", 'comment "', "jump "]
)
def test_no_rule_is_long_to_read(start: str, part: str) -> None:
    """A quarter of a megabyte, which takes minutes where time grows with the square."""
    line = start + part * (250_000 // len(part))
    with ended_within(60):
        told(line, line + " accept", line + "} drop")


def test_rules_that_cannot_be_read_are_no_reason_for_silence() -> None:
    assert "cannot be read" in told("jump gone")
    assert told("jump gone", drops=False) == ""


def test_the_remedy_is_in_the_words_of_whoever_owns_the_chain() -> None:
    for family, program in (("ip", "iptables"), ("ip6", "ip6tables")):
        chain = ForwardChain(family, "filter", "FORWARD", True)
        assert f"{program} -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT" in obstacle(chain, lambda _: (), PODS)


def test_a_remedy_is_safe_to_type_whatever_the_names() -> None:
    chain = ForwardChain("inet", "a;reboot", "$(b)", True)
    assert "nft insert rule inet 'a;reboot' '$(b)' ct status dnat accept" in obstacle(chain, lambda _: (), PODS)


def test_the_chains_are_found_in_a_listing() -> None:
    listing = """\
table ip nodeport-nft {
	chain fast-path {
		type filter hook forward priority filter; policy accept;
	}
}
table inet fw {
	chain forward {
		type filter hook forward priority filter + 10; policy drop;
	}
	chain input {
		type filter hook input priority filter; policy drop;
	}
	chain user {
	}
}
table bridge fw {
	chain forward {
		type filter hook forward priority filter; policy drop;
	}
}
table ip filter {
	chain FORWARD {
		type filter hook forward priority filter; policy accept;
	}
}
"""
    assert forward_chains(listing, "nodeport-nft") == (
        ForwardChain("inet", "fw", "forward", drops=True),
        ForwardChain("ip", "filter", "FORWARD", drops=False),
    )
