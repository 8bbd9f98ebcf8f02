"""What was given → a value of the right type; what is wrong is a ValueError that names the value and the remedy."""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

from msgspec.structs import replace

from nodeport_nft.config.given import Given, as_text, each, is_right, nothing
from nodeport_nft.model import IPAddress, IPNetwork, PortRange
from nodeport_nft.notation import group_fault, parse_address, parse_network, special_fault
from nodeport_nft.problems import clipped, nearest, shown

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}  # as Go's
_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"

_SIZES: dict[str, int] = {"": 1} | {
    f"{letter}{binary}": (1024 if binary else 1000) ** power
    for power, letter in enumerate("kmg", 1)
    for binary in ("", "i")
}

_TRUTH = {
    **dict.fromkeys(("true", "yes", "on", "y", "t", "1", "enabled"), "true"),
    **dict.fromkeys(("false", "no", "off", "n", "f", "0", "disabled"), "false"),
}


# --- networks and addresses ---------------------------------------------------


def networks(given: Given, words: tuple[str, ...] = ()) -> tuple[IPNetwork, ...]:
    """A list of networks, or a text with commas between them. ``words`` are what may stand in their place, alone."""
    remedy = "write an address and a prefix length, such as 10.96.0.0/12"
    if words:
        remedy = f"write {', '.join(words)}, or networks such as 203.0.113.0/24"

    def parse(text: str) -> IPNetwork:
        if text in words:
            raise ValueError(f"{shown(text)} stands beside others; write it alone, or leave it out")
        return _network(text, words, remedy)

    return each(_parts(given), lambda part: as_text(part, parse, "a network", remedy))


def _parts(given: Given) -> list[Given]:
    """The items of a list, or what stands between the commas of a text."""
    return [
        replace(item, value=part.strip() if isinstance(part, str) else part)
        for item in given.items()
        for part in (item.value.split(",") if isinstance(item.value, str) else [item.value])
        if not isinstance(part, str) or part.strip()
    ]


def servers(given: Given) -> tuple[IPAddress, ...]:
    """Addresses that pods can reach a server at, at most one of each family."""
    remedy = "write addresses, at most one of each family, such as 10.96.0.10"

    def parse(text: str) -> IPAddress:
        address = parse_address(text)
        if fault := group_fault(address):
            raise ValueError(fault)
        # In IPv4 a link-local one will do: the node has it for itself alone. In IPv6 it means nothing without a link.
        if address.is_unspecified or address.is_loopback or (address.version == 6 and address.is_link_local):
            raise ValueError(f"{address} cannot be reached from a pod; {remedy}")
        return address

    found = each(_parts(given), lambda part: as_text(part, parse, "an address", remedy))
    if len({address.version for address in found}) != len(found):
        raise ValueError(f"{clipped(', '.join(map(str, found)))} is given; {remedy}")
    return found


def node_addresses(given: Given) -> tuple[IPAddress, ...]:
    """Addresses that a node can have, at most one of each family."""
    remedy = "write addresses of the node, at most one of each family"

    def parse(text: str) -> IPAddress:
        address = parse_address(text)
        fault = special_fault(address) or group_fault(address)
        if fault and not address.is_loopback:  # about which a warning follows: F2
            raise ValueError(fault)
        return address

    found = each(_parts(given), lambda part: as_text(part, parse, "an address", remedy))
    if len({address.version for address in found}) != len(found):
        raise ValueError(f"{clipped(', '.join(map(str, found)))} is given; {remedy}")
    return found


def word_or_networks(given: Given, words: tuple[str, ...]) -> str | tuple[IPNetwork, ...]:
    """One of these words, or at least one network."""
    items = given.items()
    if len(items) == 1 and isinstance(items[0].value, str) and items[0].value in words:
        return items[0].value
    found = networks(given, words)
    if not found:
        raise ValueError(f"nothing is given; write {', '.join(words)}, or networks such as 203.0.113.0/24")
    return found


def _network(text: str, words: tuple[str, ...], remedy: str) -> IPNetwork:
    """A network with its prefix length: a bare 10.244.0.0 would silently stand for one host. Raises ValueError."""
    try:
        parse_address(text.partition("/")[0])
    except ValueError:
        near = nearest(text, words)
        raise ValueError(f"{shown(text)} is not a network; {f'did you mean {near}?' if near else remedy}") from None
    return parse_network(text)


def bind_address(given: Given) -> tuple[IPAddress, int] | None:
    """Where to listen, None for nowhere."""
    # In quotes: YAML would begin a list with the bracket.
    remedy = 'write ADDRESS:PORT such as 127.0.0.1:10256 or "[::1]:10256", or none to switch it off'

    def parse(text: str) -> tuple[IPAddress, int] | None:
        text = text.strip()
        if text in ("", "none"):
            return None
        parts = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9.]{7,15})):([0-9]{1,5})", text)
        if parts is not None and 1 <= int(parts[3]) <= 65535:
            with suppress(ValueError):
                return IPv6Address(parts[1]) if parts[1] else IPv4Address(parts[2]), int(parts[3])
        raise ValueError(f"{shown(text)} is not an address with a port; {remedy}")

    return as_text(given, parse, "an address with a port", remedy)


# --- numbers ------------------------------------------------------------------


def integer(given: Given, low: int, high: int, what: str) -> int:
    """A whole number from ``low`` to ``high``."""
    value = given.value
    if value is None:
        raise ValueError(nothing(f"choose a number from {low} to {high}"))
    if type(value) is int:  # not isinstance: to Python a bool is an int
        _refuse_octal(given, low, high)
        if low <= value <= high:
            return value
    meant = _meant(value)
    if meant is not None and type(value) is not int and low <= meant <= high:
        raise ValueError(f"{given} is {'text' if isinstance(value, str) else 'a fraction'}; write {meant}")
    raise ValueError(f"{given} is not a {what}; choose a number from {low} to {high}")


def _meant(value: object) -> int | None:
    """The number that is probably meant by digits in quotes, by 64Mi, 1e6 or 14.0; None if none is."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if not isinstance(value, str):
        return None
    if parts := re.fullmatch(r"([0-9]{1,12}) ?([kmg]?i?)b?(?:ytes)?", value.strip().lower()):
        return int(parts[1]) * _SIZES.get(parts[2], 0)
    if parts := re.fullmatch(r"([0-9]{1,6})[eE]\+?([0-9]{1,2})", value):
        return int(f"{parts[1]}{'0' * int(parts[2])}")
    return None


def _refuse_octal(given: Given, low: float, high: float) -> None:
    """What begins with a zero is octal to YAML 1.1 and decimal to YAML 1.2 and to people: nothing to guess at."""
    written = (given.written(given.path) or "").replace("_", "")
    if not re.fullmatch(r"[-+]?0[0-9]{1,20}", written, re.ASCII):
        return
    right = [str(one) for one in dict.fromkeys((int(written), given.value)) if low <= one <= high]
    if right:
        raise ValueError(f"{clipped(written)} reads as octal, which is {given.value}; write {' or '.join(right)}")


def flag(given: Given) -> bool:
    """True or false."""
    if isinstance(given.value, bool):
        return given.value
    if given.value is None:
        raise ValueError(nothing("write true or false"))
    meant = _TRUTH.get(str(given.value).lower()) if isinstance(given.value, str | int) else None
    remedy = (
        f"write {meant or 'one of them'}{', without quotes' * (isinstance(given.value, str) and meant is not None)}"
    )
    raise ValueError(f"{given} is neither true nor false; {remedy}")


def seconds(given: Given, low: float, high: float) -> float:
    """Seconds as a number, or a duration as Go writes it ("1h30m"); from flags a number comes as text."""
    value, remedy = given.value, "write seconds, or a text such as 30s, 1m or 1h30m"
    if value is None:
        raise ValueError(nothing(remedy))
    if type(value) is int:
        _refuse_octal(given, low, high)
    found = value if type(value) in (int, float) else duration(value)
    if found is None:
        raise ValueError(f"{given} is not a duration; {_duration_meant(value, low, high) or remedy}")
    if not low <= found <= high:
        raise ValueError(f"{given} is out of range; choose from {low:g} to {high:.0f} seconds")
    return float(found)


def duration(value: object) -> float | None:
    """The seconds of a text such as "1h30m"; None if it is none."""
    if not isinstance(value, str) or len(value) > 100:
        return None
    if re.fullmatch(_NUMBER, value):
        return float(value)
    if not re.fullmatch(rf"(?:{_NUMBER}(?:{'|'.join(_UNITS)}))+", value):
        return None
    return sum(float(amount) * _UNITS[unit] for amount, unit in re.findall(rf"({_NUMBER})([a-zµμ]+)", value))


def _duration_meant(value: object, low: float, high: float) -> str:
    """The advice for blanks between number and unit, units written out, days, and 1e3; "" for anything else."""
    if not isinstance(value, str) or len(value) > 100:
        return ""
    text = re.sub(r"\s+", "", value.lower())
    text = re.sub(r"(?<=[0-9.])(h|m|s)(?:ours?|rs?|in(?:ute)?s?|ec(?:ond)?s?)(?![a-z])", r"\1", text)
    if days := re.fullmatch(r"([0-9]{1,5})d(?:ays?)?", text):
        text = f"{24 * int(days[1])}h"
    if re.fullmatch(r"[0-9]{1,6}e[0-9]{1,2}", text):
        text = str(_meant(text))
    found = duration(text)
    return f"write {text}" if found is not None and low <= found <= high else ""


def port_range(given: Given) -> PortRange:
    """A range of ports, FIRST-LAST."""
    remedy = "write FIRST-LAST, such as 30000-32767"
    if isinstance(given.value, list | tuple) and is_right(likely := "-".join(map(str, given.value)), _port_range):
        remedy = f"write {likely}"
    return as_text(given, _port_range, "a range", remedy)


def _port_range(text: str) -> PortRange:
    ends = re.fullmatch(r"\s*([0-9]{1,5})\s*-\s*([0-9]{1,5})\s*", text)
    if ends is None:
        likely = re.fullmatch(r"\s*([0-9]{1,5})\s*(?:[:,;+‐‑‒–—]|-+|\.\.+|to)\s*([0-9]{1,5})\s*", text)
        remedy = "write FIRST-LAST, such as 30000-32767"
        if likely and is_right(f"{likely[1]}-{likely[2]}", _port_range):
            remedy = f"write {likely[1]}-{likely[2]}"
        raise ValueError(f"{shown(text)} is not a range; {remedy}")
    ports = PortRange(int(ends[1]), int(ends[2]))
    if not 1 <= ports.first <= ports.last <= 65535:
        raise ValueError(f"{shown(text)} is not a range of ports; both ends lie from 1 to 65535, the lower one first")
    return ports
