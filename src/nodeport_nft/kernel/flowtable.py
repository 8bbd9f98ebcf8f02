"""The kernel's fast path (X11): whether it has one, and the devices that take part in it.

A flowtable looks packets up as they come in on a device, before anything else sees them, and sends those of a
connection that is in it straight on. Which connections are put in is a matter of rules (``compile``); which devices
take part is a matter of links, which come and go. So devices are no part of the tables that are compared and
replaced: once the tables are in force, the flowtable is listed and what is missing is added, in a transaction of
its own. What is late or refused here costs speed and nothing else, and a link that is gone by the time of the commit
(the kernel refuses the whole transaction) keeps no Service waiting.

What kernels do, as seen on Linux 6.1 and read in net/netfilter/nf_tables_api.c:

* Adding a device that is there already changes nothing. One message holds 256 devices at most.
* A link that goes takes its device out of the flowtable; to delete it then is refused. From Linux 6.16 on the name
  stays, and a link of that name is taken in when it comes.
* With some 500 devices the flowtable does not fit into a message of the kernel's any more: `nft list ruleset` fails.
  So there are ``MOST_DEVICES`` at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import Family
from nodeport_nft.plan import AddDevices, DeleteDevices, Operation, Replace, Transaction
from nodeport_nft.ruleset import Chain, Hook, Offload, Schema, Table

MOST_DEVICES = 256
"""Devices of one flowtable, here."""

_PORTION = 200
"""Devices in one command."""

_NAME = re.compile(r'[^\s"{},*]+')

_PROBE = Schema(
    "ip",
    "nodeport-nft-probe",
    (),
    (Chain("probe", ((Offload("probe"),),), Hook("forward", 0, "filter")),),
    flowtable="probe",
)


def check_flowtables(nft: Nft) -> None:
    """Raise KernelError where the kernel has no flowtables; asks it, and changes nothing."""
    try:
        nft.check((Transaction(_PROBE.family, _PROBE.name, (Replace(Table(_PROBE)),)),))
    except KernelError as error:
        raise KernelError(
            "flowtable: this kernel cannot have one; load its modules (modprobe nft_flow_offload), take a kernel "
            "that is built with CONFIG_NF_FLOW_TABLE and CONFIG_NFT_FLOW_OFFLOAD, or leave --flowtable out. "
            f"It says: {_reason(error)}"
        ) from error


def eligible(links: Iterable[str]) -> tuple[str, ...]:
    """Of these links those that nft can name, in their order."""
    return tuple(link for link in links if _NAME.fullmatch(link))


def left_out(links: Iterable[str]) -> tuple[str, ...]:
    """What the operator should know of the links that do not take part."""
    beyond = len(eligible(links)) - MOST_DEVICES
    if beyond <= 0:
        return ()
    return (
        f"flowtable: {beyond} of {beyond + MOST_DEVICES} links take no part, only the {MOST_DEVICES} oldest; "
        "nft could not list more",
    )


def read_devices(nft: Nft, schemas: Mapping[Family, Schema]) -> dict[Family, frozenset[str]]:
    """The devices of the flowtables that are in the kernel. Raises KernelError where one is not."""
    return {family: nft.devices(schema.family, schema.name, schema.flowtable) for family, schema in schemas.items()}


def plan_devices(
    schemas: Mapping[Family, Schema], devices: Mapping[Family, frozenset[str]], links: Iterable[str]
) -> tuple[Transaction, ...]:
    """What gives the flowtables the devices of these links; pure.

    ``devices`` are those that they have, by family; none of a table that is made anew.
    """
    named = eligible(links)
    transactions = []
    for family, schema in schemas.items():
        there = devices.get(family, frozenset())
        gone = tuple(sorted(there - set(named)))
        missing = tuple(name for name in named if name not in there)[: max(0, MOST_DEVICES - len(there) + len(gone))]
        operations: tuple[Operation, ...] = (
            *(DeleteDevices(schema.flowtable, portion) for portion in _portions(gone)),
            *(AddDevices(schema.flowtable, portion) for portion in _portions(missing)),
        )
        if operations:
            transactions.append(Transaction(schema.family, schema.name, operations))
    return tuple(transactions)


def _portions(names: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    return (names[start : start + _PORTION] for start in range(0, len(names), _PORTION))


def _reason(error: KernelError) -> str:
    """The kernel's words, without what was asked."""
    return str(error).rpartition("\n")[2]
