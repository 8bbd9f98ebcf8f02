"""What single values must look like, and what the API says of one that does not."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SERVICE_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9]|-(?!-))*(?<!-)")


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


def service_name_fault(text: str) -> str:
    """Of an IANA service name, as a targetPort by name."""
    if len(text) > 15:
        return "must be no more than 15 characters"
    if _SERVICE_NAME.fullmatch(text):
        return ""
    return "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"


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
