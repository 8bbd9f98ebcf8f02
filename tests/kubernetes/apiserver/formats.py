"""What single values must look like, and what the API says of one that does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from tests.kubernetes.apiserver.answers import Cause, invalid

_OF_NAMES = (
    "consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def label_fault(text: str) -> str:
    """Of an RFC 1123 label, as a Service's name or a port's."""
    if len(text) > 63:
        return "must be no more than 63 characters"
    if _LABEL.fullmatch(text):
        return ""
    return (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and "
        "end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
        "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
    )


def subdomain_fault(text: str) -> str:
    """Of an RFC 1123 subdomain, as most objects' names."""
    if len(text) > 253:
        return "must be no more than 253 characters"
    if _SUBDOMAIN.fullmatch(text):
        return ""
    return (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
        "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
        "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    )


def key_faults(text: str) -> list[str]:
    """Of a label's or an annotation's key."""
    prefix, slash, name = text.rpartition("/")
    if text.count("/") > 1:
        optional = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return [f"a valid label key must {_OF_NAMES} {optional}"]
    found: list[str] = []
    if slash and (why := subdomain_fault(prefix) if prefix else "must be non-empty"):
        found.append(f"prefix part {why}")
    if not name:
        found.append("name part must be non-empty")
    if not re.fullmatch(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]", name):
        found.append(f"name part must {_OF_NAMES}")
    elif len(name) > 63:
        found.append("name part must be no more than 63 characters")
    return found


def value_fault(text: str) -> str:
    """Of a label's value."""
    if len(text) > 63:
        return "must be no more than 63 characters"
    if re.fullmatch(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", text):
        return ""
    return (
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
        "start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for "
        "validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
    )


def selector_faults(field: str, labels: dict[str, str]) -> Iterator[Cause]:
    """Of labels, or of a selector of labels."""
    for key, value in labels.items():
        for why in key_faults(key):
            yield invalid(field, key, why)
        if why := value_fault(value):
            yield invalid(field, value, why)


def service_name_faults(text: str) -> list[str]:
    """Of an IANA service name, as a targetPort by name."""
    found: list[str] = []
    if len(text) > 15:
        found.append("must be no more than 15 characters")
    if not re.fullmatch(r"[-a-z0-9]+", text):
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    elif not re.search(r"[a-z]", text):
        found.append("must contain at least one letter (a-z)")
    if "--" in text:
        found.append("must not contain consecutive hyphens")
    if text.startswith("-") or text.endswith("-"):
        found.append("must not begin or end with a hyphen")
    return found


def port_fault(number: Any) -> str:
    return "" if isinstance(number, int) and 1 <= number <= 65535 else "must be between 1 and 65535, inclusive"


def address_fault(text: str, *, any_place: bool = False) -> str:
    """Of an IP address. ``any_place``: addresses that no endpoint may have are let through."""
    octets = text.split(".")
    if (
        len(octets) == 4
        and all(octet.isdecimal() for octet in octets)
        and any(o[0] == "0" and o != "0" for o in octets)
    ):
        return "must not have leading 0s"
    try:
        ip = ip_address(text)
    except ValueError:
        return "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return "must not be an IPv4-mapped IPv6 address"
    return "" if any_place else _place_fault(ip)


def _place_fault(ip: IPv4Address | IPv6Address) -> str:
    if ip.is_unspecified:
        return f"may not be unspecified ({ip})"
    if ip.is_loopback:
        return "may not be in the loopback range (127.0.0.0/8, ::1/128)"
    if ip.is_link_local:
        return "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
    if (ip.version == 4 and str(ip).startswith("224.0.0.")) or (ip.version == 6 and str(ip).startswith("ff02:")):
        return "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
    return ""
