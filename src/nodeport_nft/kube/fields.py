"""Typed reading of one object's fields; everything wrong is collected, nothing is raised.

A parser asks a mapping for a key and gets a value of the type it asked for: the default where the field is
absent or null (the API makes no difference), and also where it is wrong, after the problem has been noted under
its path. So one pass finds every problem of an object, and no parser needs a branch for wrong types.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator
from typing import Any

from nodeport_nft.model import IPAddress, IPNetwork, Protocol
from nodeport_nft.notation import group_fault, parse_address, parse_network, special_fault
from nodeport_nft.problems import Path, Tally, shown

_ZEROS = re.compile(r"(?<![0-9A-Fa-f:])0+(?=[0-9])")  # before another digit of an octet or of a prefix length


def without_zeros(text: str) -> str:
    """An address or a network as everybody reads it.

    Old objects of an API server hold leading zeros, which Go has always read as decimal there (conformance E8).
    """
    return _ZEROS.sub("", text)


class Fields:
    """What was found while one object was read. Mutable: it is the one collector the parsers share.

    ``found``: problems. ``leftovers``: fields that are problems unless they are left of another type, see
    ``problems.Leftover``; whoever notes one goes on as if it were absent. ``notes``: warnings. ``unknown``: names
    that mean nothing here, either of them as the user likes it. ``claims``: numbers and addresses of which the
    cluster has one each, for comparison with other objects.
    Each with its path. Problems and warnings are tallied at once: a list has room for a million.

    ``incoming``: the object is on its way in, and not read back out of a store: what is there was held against the
    rules of its time, and must stay readable under newer ones.

    ``lenient``: a server has validated the object, which may be newer than this program, or have let it in under
    older rules. What is wrong is a warning then, and passed over by the parsers: a port of an unknown protocol, not
    the Service. A parser that goes on with a default after a problem makes sure that this opens nothing.
    """

    __slots__ = ("_passed", "_places", "claims", "incoming", "leftovers", "lenient", "notes", "problems", "unknown")

    def __init__(self, *, lenient: bool = False) -> None:
        self.incoming = False
        self.lenient = lenient
        self._passed: set[Path] = set()
        self._places: dict[tuple[Path, str], Path] = {}
        self.problems: Tally[tuple[Path, str]] = Tally()
        self.leftovers: Tally[tuple[Path, str]] = Tally()
        self.notes: Tally[tuple[Path, str]] = Tally()
        self.unknown: list[tuple[Path, str]] = []
        self.claims: list[tuple[Path, int | IPAddress]] = []

    def problem(self, path: Path, message: str) -> None:
        """Note that the field at ``path`` is wrong; an empty message stands for no problem."""
        if message and self.lenient:
            self._passed.add(path)
            self.note(path, f"{message.partition('; ')[0]}; passed over")
        else:
            self.refuse(path, message)

    def refuse(self, path: Path, message: str) -> None:
        """As ``problem``, of what no lenient reader can pass over: without it nobody knows which object this is."""
        if message:
            self.problems.add("", message, (path, message))

    def passed_over(self, path: Path) -> bool:
        """Whether a ``lenient`` reader has passed over what stands at ``path``, or anything in it."""
        return any(passed[: len(path)] == path for passed in self._passed)

    def leftover(self, path: Path, message: str) -> None:
        """Note that the field at ``path`` is wrong unless it is left of another type."""
        self.leftovers.add("", message, (path, message))

    def note(self, path: Path, message: str) -> None:
        """Note a warning."""
        self.notes.add("", message, (path, message))

    def strange(self, path: Path, message: str, *, behind: Path | None = None) -> None:
        """Note a name that means nothing here; ``behind``: the field it is told after."""
        self.unknown.append((path, message))
        if behind is not None:
            self._places[path, message] = behind

    def place(self, path: Path, message: str) -> Path:
        """Which field's line is told with what has been noted; that of its own but for what comes after others."""
        return self._places.get((path, message), path)

    def text(self, parent: dict[str, Any], path: Path, key: str) -> str:
        """A string, "" if absent."""
        value = parent.get(key)
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        self._not_text((*path, key), value)
        return ""

    def _not_text(self, path: Path, value: Any) -> None:
        if isinstance(value, dict | list):
            self.problem(path, f"{shown(value)} stands where a string belongs")
        else:
            kind = "a boolean" if isinstance(value, bool) else "null" if value is None else "a number"
            self.problem(path, f"{shown(value)} is {kind}, not a string; put it in quotes")

    def choice(self, parent: dict[str, Any], path: Path, key: str, choices: Collection[str], default: str) -> str:
        """A string that is one of ``choices``."""
        text = self.text(parent, path, key)
        if not text or text in choices:
            return sys.intern(text) if text else default  # one of a few, in very many objects
        self.problem((*path, key), f"{shown(text)} is unknown; use {' or '.join(choices)}")
        return default

    def flag(self, parent: dict[str, Any], path: Path, key: str, default: bool) -> bool:
        """A boolean."""
        value = parent.get(key)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        remedy = "write true or false without quotes" if isinstance(value, str) else "write true or false"
        self.problem((*path, key), f"{shown(value)} is not a boolean; {remedy}")
        return default

    def integer(self, parent: dict[str, Any], path: Path, key: str) -> int | None:
        """A whole number, None if absent."""
        value = parent.get(key)
        if value is None:
            return None
        if type(value) is int:  # not isinstance: to Python a bool is an int
            return value
        if isinstance(value, str) and value.isascii() and value.isdecimal():
            self.problem((*path, key), f"{shown(value)} is a string, not a number; leave out the quotes")
        else:
            self.problem((*path, key), f"{shown(value)} is not a whole number")
        return None

    def port(self, parent: dict[str, Any], path: Path, key: str, *, required: bool = True) -> int:
        """A port number, 1-65535; 0 if it is wrong, or absent (a problem if ``required``)."""
        number = self.integer(parent, path, key)
        if number is None:
            if required and parent.get(key) is None:
                self.problem((*path, key), "is missing; give a port number, 1-65535")
            return 0
        if 1 <= number <= 65535:
            return number
        if number or required:
            self.problem((*path, key), f"{shown(number)} is outside 1-65535; choose a port number inside")
        return 0

    def protocol(self, parent: dict[str, Any], path: Path) -> Protocol | None:
        """The field ``protocol``; TCP if absent, as the API has it. None: a ``lenient`` reader does not know it."""
        given = parent.get("protocol")
        protocol = Protocol(self.choice(parent, path, "protocol", tuple(Protocol), "TCP"))
        return None if self.lenient and given and given != protocol else protocol

    def mapping(self, parent: dict[str, Any], path: Path, key: str) -> dict[str, Any]:
        """A mapping, empty if absent."""
        value = parent.get(key)
        if isinstance(value, dict):
            return value
        if value is not None:
            self.problem((*path, key), f"{shown(value)} stands where a mapping belongs")
        return {}

    def items(self, parent: dict[str, Any], path: Path, key: str) -> list[Any]:
        """A list, empty if absent."""
        value = parent.get(key)
        if isinstance(value, list):
            return value
        if value is not None:
            self.problem((*path, key), f'{shown(value)} stands where a list belongs; begin each item with "- "')
        return []

    def mappings(self, parent: dict[str, Any], path: Path, key: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """The mappings of a list, each with its path, null being an empty one; other items are problems."""
        for index, item in enumerate(self.items(parent, path, key)):
            if isinstance(item, dict | None):
                yield (*path, key, index), item or {}
            else:
                self.problem((*path, key, index), f"{shown(item)} stands where a mapping belongs")

    def strings(self, parent: dict[str, Any], path: Path, key: str) -> list[tuple[Path, str]]:
        """The strings of a list, each with its path; other items are problems."""
        texts = []
        for index, item in enumerate(self.items(parent, path, key)):
            if isinstance(item, str):
                texts.append(((*path, key, index), item))
            else:
                self._not_text((*path, key, index), item)
        return texts

    def labels(self, parent: dict[str, Any], path: Path, key: str) -> dict[str, str]:
        """A mapping of strings (labels, annotations, selectors). What is in them is never interpreted here."""
        labels = {}
        for name, value in self.mapping(parent, path, key).items():
            if isinstance(value, str):
                labels[name] = value
            elif value is None:
                labels[name] = ""  # as the API reads it
            else:
                self._not_text((*path, key, name), value)
        return labels

    def address(self, path: Path, text: str, *, endpoint: bool = False) -> IPAddress | None:
        """An IP address, None after a problem; ``endpoint``: one that traffic can be sent to."""
        try:
            address = parse_address(self._plain(text))
        except ValueError as error:
            self.problem(path, str(error))
            return None
        if endpoint and (fault := special_fault(address)):
            self.problem(path, fault)
            return None
        if endpoint and (fault := group_fault(address)):
            self.note(path, fault)
        return address

    def reported(self, path: Path, text: str, *, endpoint: bool = False) -> IPAddress | None:
        """As ``address``, of a status: None after a warning.

        A status is written by programs, and an API server lets in there what it refuses in a spec: what of it is of
        no use is passed over, and the object is served without it.
        """
        try:
            address = parse_address(self._plain(text))
        except ValueError as error:
            self.note(path, f"is not used: {error}")
            return None
        if endpoint and (fault := special_fault(address)):
            self.note(path, f"is not used: {fault}")
            return None
        if endpoint and (fault := group_fault(address)):
            self.note(path, fault)
        return address

    def state(self, parent: dict[str, Any], path: Path, key: str, choices: Collection[str], default: str) -> str:
        """As ``choice``, of a status: an unknown word is a warning, and returned as it is."""
        text = self.text(parent, path, key)
        if text and text not in choices:
            self.note((*path, key), f"{shown(text)} is unknown, and not used; known are {' and '.join(choices)}")
        return text or default

    def network(self, path: Path, text: str, *, host_bits: bool = False) -> IPNetwork | None:
        """A network in CIDR notation, None after a problem.

        With ``host_bits``, what can be read as the network or as the one address is the network, after a warning.
        """
        text = self._plain(text)
        try:
            network = parse_network(text, host_bits=host_bits or self.lenient)
        except ValueError as error:
            self.problem(path, str(error))
            return None
        start = parse_address(text.partition("/")[0])
        if start != network.network_address:
            self.note(path, f"{shown(text)} lets in all of {network}; write that, or {start}/{start.max_prefixlen}")
        return network

    def _plain(self, text: str) -> str:
        return without_zeros(text) if self.lenient else text


# What is there, without a word about what is wrong with it: for checks that come after a parser has told that.


def mapping_in(parent: dict[str, Any], key: str) -> dict[str, Any]:
    """A mapping; an empty one for whatever else is there."""
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def mappings_in(parent: dict[str, Any], path: Path, key: str) -> list[tuple[Path, dict[str, Any]]]:
    """The mappings of a list, each with its path, null being an empty one."""
    items = parent.get(key)
    every = enumerate(items if isinstance(items, list) else ())
    return [((*path, key, index), item or {}) for index, item in every if isinstance(item, dict | None)]


def strings_in(parent: dict[str, Any], path: Path, key: str) -> list[tuple[Path, str]]:
    """The strings of a list, each with its path."""
    items = parent.get(key)
    every = enumerate(items if isinstance(items, list) else ())
    return [((*path, key, index), item) for index, item in every if isinstance(item, str)]
