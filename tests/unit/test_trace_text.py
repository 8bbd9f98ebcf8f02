"""What trace prints, for a table made by hand that is shaped like ours."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from msgspec.structs import replace

from nodeport_nft.cli.trace_text import Besides, percent, trace_json, trace_text
from nodeport_nft.resolve.absence import Cause
from nodeport_nft.ruleset import (
    Chain,
    Dispatch,
    DnatSlot,
    Drop,
    Element,
    Field,
    Goto,
    Hook,
    InSet,
    Jump,
    Key,
    Map,
    MarkFlip,
    MarkHas,
    MarkSet,
    Masquerade,
    Reject,
    Schema,
    Table,
)
from nodeport_nft.trace import Packet, trace

PORT = (Field.L4PROTO, Field.DPORT)
DRAW = (DnatSlot(PORT, 4, "node-port-endpoints"),)
SCHEMA = Schema(
    "ip",
    "test",
    (
        Map("node-ports", PORT, "verdict"),
        Map("node-port-endpoints", (*PORT, Field.SLOT), (Field.DADDR, Field.DPORT)),
        Map("cluster-ips", (Field.DADDR,)),
        Map("service-cidrs", (Field.DADDR,), interval=True),
    ),
    (
        Chain("nat-prerouting", ((Jump("services"),),), Hook("prerouting", -100)),
        Chain("nat-postrouting", ((MarkHas(1), MarkFlip(1), Masquerade()),), Hook("postrouting", 100)),
        Chain(
            "services",
            (
                (Dispatch(PORT, "node-ports"),),
                (InSet((Field.DADDR,), "cluster-ips"), Goto("refuse")),
                (InSet((Field.DADDR,), "service-cidrs"), Drop()),
            ),
        ),
        Chain("refuse", ((Reject(tcp_reset=True),), (Reject(),))),
        Chain("no-local-endpoint", ((Drop(),),)),
        Chain("node-port/4", ((MarkSet(1),), DRAW, DRAW, (Drop(),))),
    ),
)
SLOTS = (("10.244.1.2", 80), ("10.244.1.2", 80), ("10.244.2.2", 8080))
TABLE = Table(
    SCHEMA,
    {
        "node-ports": {
            ("tcp", port): Element(("tcp", port), Goto(chain), name)
            for port, chain, name in (
                (30080, "node-port/4", "default/web:http"),
                (30081, "refuse", "default/idle"),
                (30082, "no-local-endpoint", ""),
                (30083, "node-port/4", "default/torn"),
            )
        },
        "node-port-endpoints": {
            ("tcp", 30080, slot): Element(("tcp", 30080, slot), value) for slot, value in enumerate(SLOTS)
        },
        "cluster-ips": {("10.96.0.10",): Element(("10.96.0.10",))},
        "service-cidrs": {("10.96.0.0/12",): Element(("10.96.0.0/12",))},
    },
)
NODE = ("172.30.1.2",)
PACKET = Packet("172.30.0.10", "172.30.1.2", "tcp", 30080)

TEXT = """\
answer      reaches default/web:http, one of 2 endpoints: 10.244.1.2:80, 10.244.2.2:8080; \
6.25 % of such connections reach nobody
packet      172.30.0.10 → 172.30.1.2 tcp port 30080, from a pod or from outside the node (prerouting)
frontend    node-ports: tcp . 30080 (default/web:http) → node-port/4
chain       node-port/4: marks for masquerading; draws one of 4 slots, 3 of them filled
endpoints   10.244.1.2:80    62.50 %  sees an address of this node (masqueraded)
            10.244.2.2:8080  31.25 %  sees an address of this node (masqueraded)
outcome     93.75 % forwarded
            6.25 % dropped: default/web:http has none of its slots filled (node-port/4, rule 4: drop)

rules, and what share of such packets comes to each: + it holds for all of them, ± for some, - for none
  prerouting
    nat-prerouting 1     100 %  + jump services
      services 1         100 %  + meta l4proto . th dport vmap @node-ports
        node-port/4 1    100 %  + meta mark set meta mark | 0x00000001
        node-port/4 2    100 %  ± dnat ip to meta l4proto . th dport . numgen random mod 4 map @node-port-endpoints
        node-port/4 3  25.00 %  ± dnat ip to meta l4proto . th dport . numgen random mod 4 map @node-port-endpoints
        node-port/4 4   6.25 %  + drop
  postrouting
    nat-postrouting 1  93.75 %  + meta mark & 0x00000001 == 0x00000001 meta mark set meta mark ^ 0x00000001 \
masquerade fully-random"""


def test_the_whole_text() -> None:
    assert trace_text(trace(TABLE, PACKET, NODE), "ip") == TEXT


@pytest.mark.parametrize(
    ("packet", "lines"),
    [
        (
            replace(PACKET, port=30081),
            [
                "frontend    node-ports: tcp . 30081 (default/idle) → refuse",
                "outcome     refused with a tcp reset: default/idle has no endpoint",
            ],
        ),
        (
            replace(PACKET, port=30082),
            [
                "frontend    node-ports: tcp . 30082 → no-local-endpoint",
                "outcome     dropped: tcp . 30082 has no endpoint on this node (policy Local)",
            ],
        ),
        (
            replace(PACKET, port=30083),
            [
                "frontend    node-ports: tcp . 30083 (default/torn) → node-port/4",
                "chain       node-port/4: marks for masquerading; draws one of 4 slots, 0 of them filled",
                "outcome     dropped: default/torn has none of its slots filled (node-port/4, rule 4: drop)",
            ],
        ),
        (
            replace(PACKET, destination="10.96.0.10", protocol="udp"),
            [
                "frontend    none",
                "outcome     refused with an icmp error (port unreachable): the clusterIP has no such port",
            ],
        ),
        (
            replace(PACKET, destination="10.96.0.11", protocol="udp"),
            ["frontend    none", "outcome     dropped: an unallocated clusterIP"],
        ),
        (
            replace(PACKET, port=22),
            [
                "frontend    none",
                "outcome     untouched: no rule of ours is for it; it goes on to the node itself",
            ],
        ),
        (
            replace(PACKET, destination="192.0.2.1", port=22),
            [
                "frontend    none",
                "outcome     untouched: no rule of ours is for it; it goes on where it was going",
            ],
        ),
    ],
)
def test_what_becomes_of_others(packet: Packet, lines: list[str]) -> None:
    assert trace_text(trace(TABLE, packet, NODE), "ip").partition("\n\n")[0].splitlines()[2:] == lines


def test_the_answer_says_first_what_stops_it_and_the_first_cause() -> None:
    causes = (
        Cause("NoEndpoints", "no selector", "write one"),
        Cause("NoSuchNodePort", "no Service has nodePort 22 here", "did you mean 30022?"),
        Cause("PodItself", "10.244.1.2 is Pod web-1 itself", "nothing is translated", expected=True),
    )
    for port, cause, words in (
        (30081, causes[0], "refused: default/idle has no endpoint for it: no selector; write one"),
        (22, causes[1], "nothing is there: no Service has nodePort 22 here; did you mean 30022?"),
        (22, causes[2], "nobody is asked: 10.244.1.2 is Pod web-1 itself; nothing is translated"),
    ):
        walked = trace(TABLE, replace(PACKET, port=port), NODE)
        assert trace_text(walked, "ip", (cause,)).splitlines()[0] == f"answer      {words}"
        assert json.loads(trace_json(walked, "ip", (cause,)))["answer"] == words


def test_a_table_without_rules() -> None:
    text = trace_text(trace(Table(Schema("ip", "test", (), ())), PACKET, NODE), "ip")
    assert text.splitlines()[3] == "outcome     untouched: no rule of ours is for it; it goes on to the node itself"


def test_an_endpoint_on_the_node_itself_and_a_pool_behind_an_offset() -> None:
    local = Chain("services", ((DnatSlot(PORT, 2, "node-port-endpoints", 2),),))
    schema = replace(SCHEMA, chains=(SCHEMA.chains[0], local))
    key: Key = ("tcp", 30080, 3)
    made = Table(schema, {"node-port-endpoints": {key: Element(key, ("172.30.1.2", 80))}})
    lines = trace_text(trace(made, PACKET, NODE), "ip").splitlines()
    assert lines[3:5] == [
        "chain       services: draws one of 2 slots from 2 on, 1 of them filled",
        "endpoints   172.30.1.2:80  50.00 %  sees 172.30.0.10, on this node itself",
    ]


def test_json() -> None:
    value = json.loads(trace_json(trace(TABLE, PACKET, NODE), "ip"))
    assert value["packet"] == {
        "source": "172.30.0.10",
        "destination": "172.30.1.2",
        "protocol": "tcp",
        "port": 30080,
        "hook": "prerouting",
    }
    frontend = {
        "map": "node-ports",
        "key": ["tcp", 30080],
        "value": {"goto": "node-port/4"},
        "comment": "default/web:http",
    }
    assert value["outcomes"] == [
        {
            "fate": "forwarded",
            "probability": probability,
            "destination": destination,
            "port": port,
            "onNode": False,
            "masqueraded": True,
            "source": None,
            "frontends": [frontend],
        }
        for probability, destination, port in (("5/8", "10.244.1.2", 80), ("5/16", "10.244.2.2", 8080))
    ] + [
        {
            "fate": "dropped",
            "probability": "1/16",
            "destination": "172.30.1.2",
            "port": 30080,
            "onNode": True,
            "reason": "default/web:http has none of its slots filled (node-port/4, rule 4: drop)",
            "frontends": [frontend],
        }
    ]
    assert value["steps"][1] == {
        "hook": "prerouting",
        "chain": "services",
        "rule": 1,
        "text": "meta l4proto . th dport vmap @node-ports",
        "reached": "1",
        "taken": "1",
        "found": [frontend],
    }
    draw = value["steps"][4]
    assert (draw["reached"], draw["taken"], draw["filled"]) == ("1/4", "3/16", 3)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (Fraction(1), "100 %"),
        (Fraction(0), "0 %"),
        (Fraction(1, 3), "33.33 %"),
        (Fraction(99999, 100000), "99.99 %"),
        (Fraction(1, 100000), "<0.01 %"),
    ],
)
def test_nothing_is_rounded_to_all_or_to_nothing(share: Fraction, text: str) -> None:
    assert percent(share) == text


def test_prose_is_wrapped_behind_its_label_and_nothing_is_lost() -> None:
    walked = trace(TABLE, PACKET, NODE)
    cause = Cause("NotForwarded", "net.ipv4.ip_forward is not 1", "sysctl -w net.ipv4.ip_forward=1")
    besides = Besides((cause,), "other firewalls", "172.30.1.2:30080", is_example=True)
    plain, narrow = (trace_text(walked, "ip", (), besides, width) for width in (None, 60))
    assert plain.split() == narrow.split()
    prose = narrow.partition("endpoints ")[0].splitlines()
    assert all(len(line) <= 60 for line in prose if not line.startswith("frontend "))
    assert prose[0].startswith("answer      would reach ")
    assert prose[1].startswith(" " * 12)
    assert "but net.ipv4.ip_forward is not 1; sysctl -w net.ipv4.ip_forward=1\n" in plain
    assert plain.endswith(
        "\nnodePort    to trace it: nodeport-nft trace 172.30.1.2:30080\nnot seen    other firewalls"
    )
