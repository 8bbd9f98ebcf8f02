"""What others have done to single elements, in the ruleset's own terms; pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from nodeport_nft.compile import nft_family
from nodeport_nft.kernel.netlink.events import Touched
from nodeport_nft.kernel.netlink.layouts import layouts
from nodeport_nft.model import Family
from nodeport_nft.ruleset import Key, Schema


class OutsideEdit(NamedTuple):
    """An element that is there, or is not, by another's hand."""

    family: Family
    map: str
    key: Key
    present: bool


def read_outside_edits(
    touched: Iterable[Touched], schemas: Mapping[Family, Schema]
) -> tuple[OutsideEdit, ...] | None:
    """The same with readable keys; None where it is not only elements that can be repaired one by one.

    What somebody does to what packets have put in (a learned set) is none of them.
    """
    found = []
    for element in touched:
        layout = layouts(nft_family(element.family)).get(element.map)
        if layout is None:
            own = schemas[element.family].own_map(element.map)
            if own is None or not own.learned:
                return None
            continue
        try:
            key = layout.key.unpack(element.key)
        except struct.error:
            return None
        found.append(OutsideEdit(element.family, element.map, key, element.present))
    return tuple(found)
