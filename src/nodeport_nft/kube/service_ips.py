"""The addresses of a Service: clusterIP, clusterIPs, ipFamilies and ipFamilyPolicy, which must agree (F9)."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from msgspec import Struct

from nodeport_nft.kube.fields import Fields
from nodeport_nft.model import Family, IPAddress, Ranges, ServiceType, likely_service_cidr
from nodeport_nft.problems import Path, shown

_SPEC: Path = ("spec",)
FAMILIES = {"IPv4": Family.IPV4, "IPv6": Family.IPV6}
POLICIES = ("SingleStack", "PreferDualStack", "RequireDualStack")


class IPs(Struct, frozen=True):
    """What a manifest says of a Service's addresses; allocation completes it."""

    addresses: tuple[IPAddress, ...]
    families: tuple[Family, ...]
    policy: str
    headless: bool


def parse_ips(spec: dict[str, Any], kind: ServiceType, fields: Fields, ranges: Ranges | None) -> IPs:
    """The address fields of ``spec``. Addresses go to ``fields.claims``: each belongs to one service."""
    families = _families(spec, fields)
    policy = fields.choice(spec, _SPEC, "ipFamilyPolicy", POLICIES, "")
    given = _given(spec, fields)
    if kind is ServiceType.EXTERNAL_NAME:
        for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if spec.get(key):
                fields.leftover((*_SPEC, key), "may not be set on a service of type ExternalName; leave it out")
        return IPs((), (), "", headless=False)
    headless = any(text == "None" for _, text in given)
    if headless:
        path, _ = given[0]
        if len(given) > 1:
            fields.problem(path, "None stands for no address at all; leave out the others")
        if kind is not ServiceType.CLUSTER_IP:
            # Who changes the type of a headless service that is there gets no further by leaving it out.
            stored = "if the service is there and headless, delete it and create it anew"
            fields.problem(path, f"None may not be set on a service of type {kind}; leave it out ({stored})")
        given = []
    if policy == "SingleStack" and (len(families) > 1 or len(given) > 1):
        fields.leftover(
            (*_SPEC, "ipFamilyPolicy"), "SingleStack contradicts the two families given; use PreferDualStack"
        )
        families, given = families[:1], given[:1]
    addresses: list[IPAddress] = []
    for index, (path, text) in enumerate(given):
        ip = fields.address(path, text)
        if ip is None:
            continue
        if index < len(families) and ip.version != families[index]:
            fields.problem(
                path, f"{ip} is not an IPv{families[index]} address, which ipFamilies[{index}] says it is; change one"
            )
        elif any(ip.version == other.version for other in addresses):
            fields.problem(path, f"{ip} is a second IPv{ip.version} address; give one of each family at most")
        elif ranges is None or _in_cidr(ip, path, fields, ranges):
            addresses.append(ip)
            fields.claims.append((path, ip))
    # Headless without a selector: who writes the endpoints decides on the families, and no CIDR is needed.
    if ranges is not None and (spec.get("selector") or not headless):
        _check_families(families, policy, fields, ranges)
    return IPs(tuple(addresses), families, policy, headless)


def _given(spec: dict[str, Any], fields: Fields) -> list[tuple[Path, str]]:
    """The texts of clusterIPs, or clusterIP where there are none; clusterIP must be the first of clusterIPs."""
    one = fields.text(spec, _SPEC, "clusterIP")
    several = fields.strings(spec, _SPEC, "clusterIPs")
    if not several:
        return [((*_SPEC, "clusterIP"), one)] if one else []
    if one and one != several[0][1]:
        fields.problem(
            (*_SPEC, "clusterIPs"),
            f"the first is not the clusterIP {shown(one)}; make them equal, or leave one out "
            "(neither changes while the Service exists)",
        )
    if len(several) > 2:
        fields.problem((*_SPEC, "clusterIPs"), "has more than two addresses; give one of each family at most")
    return several[:2]


def _families(spec: dict[str, Any], fields: Fields) -> tuple[Family, ...]:
    families: list[Family] = []
    for path, text in fields.strings(spec, _SPEC, "ipFamilies"):
        family = FAMILIES.get(text)
        if family is None:
            fields.problem(path, f"{shown(text)} is unknown; use IPv4 or IPv6")
        elif family in families:
            fields.problem(path, f"{text} is given twice; leave one out")
        else:
            families.append(family)
    return tuple(families)


def _in_cidr(ip: IPAddress, path: Path, fields: Fields, ranges: Ranges) -> bool:
    """Whether ``ip`` can be a clusterIP: in the CIDR of its family, and not its first or IPv4 broadcast address."""
    cidr = next((cidr for cidr in ranges.service_cidrs if cidr.version == ip.version), None)
    if cidr is None:
        remedy = f"configure --service-cidr {likely_service_cidr(ip)} (key serviceCIDRs), or another"
        fields.problem(path, f"{ip} cannot be served: there is no IPv{ip.version} service CIDR; {remedy}")
        return False
    if ip not in cidr:
        remedy = f"or configure --service-cidr {likely_service_cidr(ip)} (key serviceCIDRs)"
        fields.problem(path, f"{ip} is outside the service CIDR {cidr}; choose one inside, leave it out, {remedy}")
        return False
    last = isinstance(cidr, IPv4Network) and ip == cidr.broadcast_address
    if cidr.num_addresses > 2 and (ip == cidr.network_address or last):
        what = "broadcast" if last else "network"
        fields.problem(path, f"{ip} is the {what} address of the service CIDR {cidr}; choose another")
        return False
    return True


def _check_families(families: tuple[Family, ...], policy: str, fields: Fields, ranges: Ranges) -> None:
    """Whether the cluster has the families that are asked for."""
    there = [cidr.version for cidr in ranges.service_cidrs]
    for index, family in enumerate(families):
        if family not in there:
            fields.problem(
                (*_SPEC, "ipFamilies", index), f"there is no IPv{family} service CIDR; configure one, or leave it out"
            )
    if policy == "RequireDualStack" and len(there) < 2:
        fields.problem(
            (*_SPEC, "ipFamilyPolicy"),
            "RequireDualStack needs service CIDRs of both families; configure them, or use PreferDualStack",
        )
