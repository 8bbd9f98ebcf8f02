"""Services: the API's defaults, what it refuses, and what it allocates."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from tests.kubernetes.apiserver.answers import (
    Cause,
    duplicate,
    forbidden_field,
    internal,
    invalid,
    required,
    unsupported,
)
from tests.kubernetes.apiserver.formats import address_fault, label_fault, port_fault, service_name_fault
from tests.kubernetes.apiserver.kinds import IP_ADDRESS, SERVICE_CIDR
from tests.kubernetes.apiserver.storage import Key, Storage

NODE_PORTS = range(30000, 32768)

_WITH_NODE_PORTS = ("NodePort", "LoadBalancer")
_WITH_ADDRESSES = ("ClusterIP", "NodePort", "LoadBalancer")
_MOST_SECONDS = 86400


def default(value: dict[str, Any]) -> None:
    """What the API fills in before anything else; the fields count as set by whoever wrote the object."""
    spec = value.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        client = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        client.setdefault("timeoutSeconds", 10800)
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    if _is_external(spec):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] in _WITH_ADDRESSES:
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    status = value.setdefault("status", {}).setdefault("loadBalancer", {})
    for ingress in status.get("ingress") or ():
        if ingress.get("ip"):
            ingress.setdefault("ipMode", "VIP")


def carry(new: dict[str, Any], old: dict[str, Any]) -> None:
    """What an update leaves out stays as it was allocated, where the type still has a use for it."""
    spec, before = new["spec"], old["spec"]
    if spec["type"] in _WITH_ADDRESSES and before["type"] in _WITH_ADDRESSES:
        if not spec.get("clusterIP") and not spec.get("clusterIPs"):
            for name in ("clusterIP", "clusterIPs"):
                if name in before:
                    spec[name] = before[name]
        for name in ("ipFamilies", "ipFamilyPolicy"):
            if not spec.get(name) and name in before:
                spec[name] = before[name]
    if spec["type"] in _WITH_NODE_PORTS and before["type"] in _WITH_NODE_PORTS:
        held = {(port["protocol"], port["port"]): port.get("nodePort") for port in before.get("ports") or ()}
        taken = {port.get("nodePort") for port in spec.get("ports") or ()}
        for port in spec.get("ports") or ():
            number = held.get((port["protocol"], port.get("port")))
            if not port.get("nodePort") and number and number not in taken:
                port["nodePort"] = number
    if _needs_health(spec) and _needs_health(before):
        spec.setdefault("healthCheckNodePort", before.get("healthCheckNodePort", 0))
    _drop_of_another_type(spec, before)


def _drop_of_another_type(spec: dict[str, Any], before: dict[str, Any]) -> None:
    """What the old type had a use for and the new one has not, and what is not changed, goes."""
    if spec["type"] not in _WITH_NODE_PORTS:
        numbers = {port.get("nodePort") for port in before.get("ports") or ()}
        for port in spec.get("ports") or ():
            if port.get("nodePort") in numbers:
                port.pop("nodePort", None)
    useless = {
        "healthCheckNodePort": not _needs_health(spec),
        "externalTrafficPolicy": not _is_external(spec),
        "allocateLoadBalancerNodePorts": spec["type"] != "LoadBalancer",
        "loadBalancerClass": spec["type"] != "LoadBalancer",
        **dict.fromkeys(("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"), spec["type"] == "ExternalName"),
    }
    for name, is_useless in useless.items():
        if is_useless and name in spec and spec[name] == before.get(name):
            del spec[name]


def _is_external(spec: dict[str, Any]) -> bool:
    return spec["type"] in _WITH_NODE_PORTS or (spec["type"] == "ClusterIP" and bool(spec.get("externalIPs")))


def _needs_health(spec: dict[str, Any]) -> bool:
    return spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def faults(value: dict[str, Any], old: dict[str, Any] | None) -> Iterator[Cause]:
    """What the API refuses of a Service in itself."""
    spec = value["spec"]
    yield from _port_faults(spec)
    for name, known in (
        ("sessionAffinity", ("ClientIP", "None")),
        ("type", ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")),
        ("externalTrafficPolicy", ("Cluster", "Local")),
        ("internalTrafficPolicy", ("Cluster", "Local")),
        ("ipFamilyPolicy", ("PreferDualStack", "RequireDualStack", "SingleStack")),
        ("trafficDistribution", ("PreferClose", "PreferSameNode", "PreferSameZone")),
    ):
        if name in spec and spec[name] not in known:
            yield unsupported(f"spec.{name}", spec[name], known)
    if spec.get("sessionAffinity") == "ClientIP":
        seconds = spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
        if not 0 < seconds <= _MOST_SECONDS:
            field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
            yield invalid(field, seconds, f"must be greater than 0 and less than {_MOST_SECONDS}")
    if spec["type"] == "ExternalName" and not spec.get("externalName"):
        yield required("spec.externalName")
    for index, text in enumerate(spec.get("externalIPs") or ()):
        if why := address_fault(text):
            yield invalid(f"spec.externalIPs[{index}]", text, why)
    for index, text in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        try:
            ip_network(text.strip(), strict=False)
        except ValueError:
            why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            yield invalid(f"spec.loadBalancerSourceRanges[{index}]", text, why)
    if spec.get("loadBalancerSourceRanges") and spec["type"] != "LoadBalancer":
        yield forbidden_field("spec.LoadBalancerSourceRanges", "may only be used when `type` is 'LoadBalancer'")
    if spec.get("allocateLoadBalancerNodePorts") is not None and spec["type"] != "LoadBalancer":
        yield forbidden_field("spec.allocateLoadBalancerNodePorts", "may only be used when `type` is 'LoadBalancer'")
    if spec.get("externalTrafficPolicy") and not _is_external(spec):
        why = "may only be set for externally-accessible services"
        yield invalid("spec.externalTrafficPolicy", spec["externalTrafficPolicy"], why)
    if spec.get("healthCheckNodePort") and not _needs_health(spec):
        why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        yield invalid("spec.healthCheckNodePort", spec["healthCheckNodePort"], why)
    yield from _address_faults(spec, old)


def _port_faults(spec: dict[str, Any]) -> Iterator[Cause]:
    ports = spec.get("ports") or []
    headless = spec.get("clusterIP") == "None"
    if not ports and spec["type"] != "ExternalName" and not headless:
        yield required("spec.ports")
    names: set[str] = set()
    numbers: set[tuple[str, int]] = set()
    node_ports: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        here = f"spec.ports[{index}]"
        name = port.get("name", "")
        if not name and len(ports) > 1:
            yield required(f"{here}.name")
        elif name:
            if why := label_fault(name):
                yield invalid(f"{here}.name", name, why)
            if name in names:
                yield duplicate(f"{here}.name", name)
            names.add(name)
        if why := port_fault(port.get("port", 0)):
            yield invalid(f"{here}.port", port.get("port", 0), why)
        if port["protocol"] not in ("SCTP", "TCP", "UDP"):
            yield unsupported(f"{here}.protocol", port["protocol"], ("SCTP", "TCP", "UDP"))
        target = port["targetPort"]
        why = service_name_fault(target) if isinstance(target, str) else port_fault(target)
        if why:
            yield invalid(f"{here}.targetPort", target, why)
        key = (port["protocol"], port.get("port", 0))
        if key in numbers:
            yield duplicate(here, {"port": key[1], "protocol": key[0]})
        numbers.add(key)
        if number := port.get("nodePort"):
            if spec["type"] not in _WITH_NODE_PORTS:
                yield forbidden_field(f"{here}.nodePort", f"may not be used when `type` is '{spec['type']}'")
            if (port["protocol"], number) in node_ports:
                yield duplicate(f"{here}.nodePort", number)
            node_ports.add((port["protocol"], number))


def _address_faults(spec: dict[str, Any], old: dict[str, Any] | None) -> Iterator[Cause]:
    ips = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    if spec["type"] == "ExternalName":
        if ips:
            yield forbidden_field("spec.clusterIPs", "may not be used when `type` is 'ExternalName'")
        return
    if spec.get("clusterIP") and spec.get("clusterIPs") and spec["clusterIP"] != spec["clusterIPs"][0]:
        yield invalid("spec.clusterIPs", spec["clusterIPs"], "first value must match `clusterIP`")
    if "None" in ips and spec["type"] != "ClusterIP":
        yield invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {spec['type']} services")
    for index, text in enumerate(ips):
        if text != "None" and (why := address_fault(text, any_place=True)):
            yield invalid(f"spec.clusterIPs[{index}]", text, why)
    before = (old or {}).get("spec", {}).get("clusterIPs") or []
    if before and ips and before[0] != ips[0] and old is not None and old["spec"]["type"] != "ExternalName":
        yield invalid("spec.clusterIPs[0]", ips, "may not change once set")


class Allocator:
    """Gives Services what they hold: addresses out of the ServiceCIDRs, ports out of the range."""

    def __init__(self, storage: Storage, write: Callable[[dict[str, Any]], None], seed: int = 0) -> None:
        self._storage = storage
        self._write = write
        self._random = random.Random(seed)
        self.ports: dict[tuple[str, int], Key] = {}

    def cidrs(self) -> list[IPv4Network | IPv6Network]:
        """The ranges of clusterIPs, the kubernetes object's first."""
        objects = sorted(
            self._storage.all(SERVICE_CIDR).items(), key=lambda pair: (pair[0][1] != "kubernetes", pair[0])
        )
        return [ip_network(text) for _, stored in objects for text in stored.value["spec"]["cidrs"]]

    def allocate(self, value: dict[str, Any], dry: bool) -> list[Cause]:
        """Fill in what is open, take what is named; with faults, nothing is taken."""
        spec = value["spec"]
        key = (value["metadata"]["namespace"], value["metadata"]["name"])
        ips, faults = self._addresses(spec, key)
        faults += self._ports(spec, key)
        if faults or dry:
            return faults
        for ip in ips:
            if self._storage.get(IP_ADDRESS, ("", ip)) is None:
                self._write(_address_object(ip, key))
        held = {port for port, owner in self.ports.items() if owner == key}
        wanted = {(port["protocol"], port["nodePort"]) for port in spec.get("ports") or () if port.get("nodePort")}
        if number := spec.get("healthCheckNodePort"):
            wanted.add(("health", number))
        for port in held - wanted:
            del self.ports[port]
        self.ports.update(dict.fromkeys(wanted, key))
        if held != wanted:
            self._storage.bump()
        return []

    def release(self, value: dict[str, Any], kept: dict[str, Any] | None = None) -> None:
        """Give back what a Service held, but for what it holds as ``kept``."""
        key = (value["metadata"]["namespace"], value["metadata"]["name"])
        still = set((kept or {}).get("spec", {}).get("clusterIPs") or ())
        for ip in value["spec"].get("clusterIPs") or ():
            if ip not in still and ip != "None" and self._storage.get(IP_ADDRESS, ("", ip)) is not None:
                self._storage.remove(IP_ADDRESS, ("", ip))
        if kept is None and (held := [port for port, owner in self.ports.items() if owner == key]):
            for port in held:
                del self.ports[port]
            self._storage.bump()

    def _addresses(self, spec: dict[str, Any], key: Key) -> tuple[list[str], list[Cause]]:
        if spec["type"] not in _WITH_ADDRESSES:
            return [], []
        given = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
        cidrs = self.cidrs()
        families = _families(spec, given, cidrs)
        if isinstance(families, Cause):
            return [], [families]
        spec["ipFamilies"] = families
        spec.setdefault("ipFamilyPolicy", "SingleStack" if len(families) == 1 else "RequireDualStack")
        if "None" in given:
            spec["clusterIP"], spec["clusterIPs"] = "None", ["None"]
            return [], []
        faults: list[Cause] = []
        ips: list[str] = []
        for index, family in enumerate(families):
            if index < len(given):
                if why := self._address_fault(given[index], key, cidrs):
                    faults.append(invalid("spec.clusterIPs", given, f"failed to allocate IP {given[index]}: {why}"))
                ips.append(given[index])
            else:
                ips.append(self._free_address(family, cidrs))
        spec["clusterIP"], spec["clusterIPs"] = ips[0], ips
        return ips, faults

    def _address_fault(self, text: str, key: Key, cidrs: list[IPv4Network | IPv6Network]) -> str:
        held = self._storage.get(IP_ADDRESS, ("", str(ip_address(text))))
        if held is not None:
            parent = held.value["spec"]["parentRef"]
            return "" if (parent["namespace"], parent["name"]) == key else "provided IP is already allocated"
        if not any(ip_address(text) in cidr for cidr in cidrs):
            return "the provided network does not match the current range"
        return ""

    def _free_address(self, family: str, cidrs: list[IPv4Network | IPv6Network]) -> str:
        for cidr in cidrs:
            if f"IPv{cidr.version}" != family:
                continue
            count = cidr.num_addresses - 2
            first = self._random.randrange(count)
            for step in range(count):
                ip = str(cidr[1 + (first + step) % count])
                if self._storage.get(IP_ADDRESS, ("", ip)) is None:
                    return ip
        raise internal("failed to allocate a serviceIP: range is full")

    def _ports(self, spec: dict[str, Any], key: Key) -> list[Cause]:
        faults: list[Cause] = []
        if spec["type"] in _WITH_NODE_PORTS:
            own: dict[int, int] = {}
            for index, port in enumerate(spec.get("ports") or ()):
                field = f"spec.ports[{index}].nodePort"
                if number := port.get("nodePort"):
                    faults += self._port_faults(field, number, key)
                elif spec["type"] == "NodePort" or spec.get("allocateLoadBalancerNodePorts"):
                    # One number serves a port of TCP and of UDP where both are the same, as the API has it.
                    same = own.get(port["port"])
                    port["nodePort"] = same or self._free_port()
                if "nodePort" in port:
                    own[port["port"]] = port["nodePort"]
        if _needs_health(spec):
            if number := spec.get("healthCheckNodePort"):
                faults += self._port_faults("spec.healthCheckNodePort", number, key)
            else:
                spec["healthCheckNodePort"] = self._free_port()
        return faults

    def _port_faults(self, field: str, number: int, key: Key) -> list[Cause]:
        if number not in NODE_PORTS:
            span = f"{NODE_PORTS[0]}-{NODE_PORTS[-1]}"
            why = f"provided port is not in the valid range. The range of valid ports is {span}"
            return [invalid(field, number, why)]
        owners = {owner for (_, held), owner in self.ports.items() if held == number}
        if owners - {key}:
            return [invalid(field, number, "provided port is already allocated")]
        return []

    def _free_port(self) -> int:
        taken = {number for _, number in self.ports}
        free = [number for number in NODE_PORTS if number not in taken]
        if not free:
            raise internal("failed to allocate a nodePort: range is full")
        return self._random.choice(free)


def _families(spec: dict[str, Any], given: list[str], cidrs: list[IPv4Network | IPv6Network]) -> list[str] | Cause:
    """The families that a Service is of: those it names, those of its addresses, and the cluster's second."""
    offered = list(dict.fromkeys(f"IPv{cidr.version}" for cidr in cidrs))
    named = list(spec.get("ipFamilies") or ())
    if not named:
        named = [f"IPv{ip_address(text).version}" for text in given if text != "None"] or offered[:1]
    policy = spec.get("ipFamilyPolicy")
    for index, family in enumerate(named):
        if family not in offered:
            return invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
    if policy == "RequireDualStack" and len(offered) < 2:
        return invalid("spec.ipFamilyPolicy", policy, "this cluster is not configured for dual-stack services")
    if policy in ("PreferDualStack", "RequireDualStack"):
        named += [family for family in offered if family not in named]
    elif policy == "SingleStack":
        if len(named) > 1 and len(given) < 2:
            named = named[:1]
        elif len(named) > 1:
            return invalid(
                "spec.ipFamilyPolicy",
                policy,
                'must be "RequireDualStack" or "PreferDualStack" when multiple IP families are specified',
            )
    return named


def _address_object(ip: str, key: Key) -> dict[str, Any]:
    family = f"IPv{ip_address(ip).version}"
    labels = {"ipaddress.kubernetes.io/ip-family": family, "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
    parent = {"resource": "services", "namespace": key[0], "name": key[1]}
    return {
        "kind": "IPAddress", "apiVersion": IP_ADDRESS.api_version,
        "metadata": {"name": ip, "labels": labels}, "spec": {"parentRef": parent},
    }  # fmt: skip
