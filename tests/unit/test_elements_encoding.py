"""Transactions as batches: what cannot be in a table is told, and no batch is made of it."""

from __future__ import annotations

import pytest

from nodeport_nft.compile import TABLE
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink.transactions import encode
from nodeport_nft.plan import Add, Delete, Operation, Transaction
from nodeport_nft.ruleset import Element, Goto

ONE = Element(("10.96.0.1",))


def transaction(family: str, *operations: Operation) -> Transaction:
    return Transaction(family, TABLE, operations)


GOOD = transaction("ip", Add("cluster-ips", (ONE,)))
UNFIT = {
    "no address": transaction("ip", Add("service-cidrs", (Element(("10.96.0/12",)),))),
    "a set that nobody may have": transaction("ip", Add("others/web", (Element(("192.0.2.1",)),))),
    "another table": Transaction("ip", "other", (Add("cluster-ips", (ONE,)),)),
    "another family": Transaction("inet", TABLE, (Add("cluster-ips", (ONE,)),)),
    "no protocol": transaction("ip", Delete("node-ports", (("imcp", 0),))),
    "an endpoint among verdicts": transaction("ip", Add("node-ports", (Element(("tcp", 80), ("192.0.2.1", 80)),))),
    "a verdict among endpoints": transaction(
        "ip", Add("node-port-endpoints", tuple(Element(("tcp", 80, slot), Goto("refuse")) for slot in range(2)))
    ),
    "no slot": transaction("ip", Add("node-port-endpoints", (Element(("tcp", 80, -1), ("192.0.2.1", 80)),))),
    "a long comment": transaction("ip", Add("cluster-ips", (Element(("10.96.0.1",), None, "x" * 129),))),
    "a comment's end": transaction("ip", Add("cluster-ips", (Element(("10.96.0.1",), None, 'x"'),))),
    "a verdict in a set": transaction("ip", Add("cluster-ips", (Element(("10.96.0.1",), Goto("refuse")),))),
    "an address of the other family": transaction("ip6", Add("cluster-ips", (ONE,))),
    "a key that is too short": transaction("ip", Delete("node-ports", (("tcp",),))),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_no_table_of_ours_can_have_is_refused_before_the_kernel_is_asked(case: str) -> None:
    assert encode([GOOD]) is not None
    with pytest.raises(KernelError, match="nothing was changed"):
        encode([GOOD, UNFIT[case], GOOD])


@pytest.mark.parametrize("transactions", [(), (transaction("ip"), transaction("ip6"))])
def test_nothing_to_do_is_no_batch(transactions: tuple[Transaction, ...]) -> None:
    assert encode(transactions) is None
    assert encode((*transactions, GOOD)) == encode((GOOD,))
