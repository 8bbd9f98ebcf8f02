"""Flowtables and their devices as messages.

Source: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable

from nodeport_nft.kernel.netlink.batch import FAMILIES, Message
from nodeport_nft.kernel.netlink.layouts import NFNL_SUBSYS_NFTABLES
from nodeport_nft.kernel.netlink.messages import ACK, BODY, CREATE, NESTED, attribute, find, message, walk

_NEWFLOWTABLE, _GETFLOWTABLE, _DELFLOWTABLE = (NFNL_SUBSYS_NFTABLES << 8 | kind for kind in (22, 23, 24))
_TABLE, _NAME, _HOOK, _FLAGS = 1, 2, 3, 7  # NFTA_FLOWTABLE_*
_HOOK_NUMBER, _HOOK_PRIORITY, _HOOK_DEVICES, _DEVICE_NAME = 1, 2, 3, 1  # NFTA_FLOWTABLE_HOOK_*, NFTA_DEVICE_NAME
_INGRESS, _FILTER = 0, 0  # NF_NETDEV_INGRESS; the priority that nft calls so
_NUMBER = struct.Struct(">I")


def new(family: str, table: str, name: str, devices: Iterable[str] = ()) -> Message:
    """Make a flowtable, or give these devices to one that is there."""
    naming = _naming(table, name) + _hook(devices) + attribute(_FLAGS, _NUMBER.pack(0))
    return Message(_NEWFLOWTABLE, CREATE, FAMILIES[family], naming)


def take_away(family: str, table: str, name: str, devices: Iterable[str]) -> Message:
    """Take these devices from a flowtable."""
    return Message(_DELFLOWTABLE, 0, FAMILIES[family], _naming(table, name) + _hook(devices))


def question(family: str, table: str, name: str) -> bytes:
    """The request that asks for a flowtable."""
    return message(_GETFLOWTABLE, ACK, FAMILIES[family], _naming(table, name))


def devices(answer: bytes) -> frozenset[str]:
    """The devices of a flowtable, of what the kernel answers behind the message's header.

    Their names are any bytes, as files' are.
    """
    hook = find(answer, BODY, len(answer), _HOOK)
    named = walk(answer, *find(answer, *hook, _HOOK_DEVICES))
    return frozenset(
        os.fsdecode(answer[start:end].rstrip(b"\0")) for kind, start, end in named if kind == _DEVICE_NAME
    )


def _naming(table: str, name: str) -> bytes:
    return attribute(_TABLE, table.encode() + b"\0") + attribute(_NAME, name.encode() + b"\0")


def _hook(devices: Iterable[str]) -> bytes:
    """``hook ingress priority filter``, and the devices."""
    hook = attribute(_HOOK_NUMBER, _NUMBER.pack(_INGRESS)) + attribute(_HOOK_PRIORITY, _NUMBER.pack(_FILTER))
    names = b"".join(attribute(_DEVICE_NAME, os.fsencode(device) + b"\0") for device in devices)
    return attribute(_HOOK | NESTED, hook + (attribute(_HOOK_DEVICES | NESTED, names) if names else b""))
