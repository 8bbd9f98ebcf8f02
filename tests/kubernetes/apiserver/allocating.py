"""What Services hold: addresses out of the ServiceCIDRs, ports out of the range."""

from __future__ import annotations

import random
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from tests.kubernetes.apiserver.answers import Cause, internal, invalid
from tests.kubernetes.apiserver.kinds import IP_ADDRESS, SERVICE_CIDR
from tests.kubernetes.apiserver.services import WITH_ADDRESSES, WITH_NODE_PORTS, needs_health
from tests.kubernetes.apiserver.storage import Key, Storage

NODE_PORTS = range(30000, 32768)


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

    def choose(self, value: dict[str, Any], *, fresh: bool, dry: bool) -> list[Cause]:
        """Fill in what is open, and check what is named: the addresses, and the ports where those have no faults.

        ``fresh``: the Service is to be made, so that what one of its name holds is another's. ``dry``: it does not
        matter who holds an address.
        """
        spec = value["spec"]
        key = None if fresh else (value["metadata"]["namespace"], value["metadata"]["name"])
        return self._addresses(spec, key, dry) or self._ports(spec, key)

    def take(self, value: dict[str, Any]) -> None:
        """Hold what a Service has, and give back the ports that it has no more."""
        spec = value["spec"]
        key = (value["metadata"]["namespace"], value["metadata"]["name"])
        for ip in spec.get("clusterIPs") or ():
            if ip != "None" and self._storage.get(IP_ADDRESS, ("", ip)) is None:
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

    def _addresses(self, spec: dict[str, Any], key: Key | None, dry: bool) -> list[Cause]:
        if spec["type"] not in WITH_ADDRESSES:
            return []
        given = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
        cidrs = self.cidrs()
        families = _families(spec, given, cidrs)
        if isinstance(families, Cause):
            return [families]
        spec["ipFamilies"] = families
        if "None" in given:
            spec["clusterIP"], spec["clusterIPs"] = "None", ["None"]
            return []
        faults: list[Cause] = []
        ips: list[str] = []
        for index, family in enumerate(families):
            if index < len(given):
                if why := self._address_fault(given[index], key, cidrs, dry):
                    faults.append(invalid("spec.clusterIPs", given, f"failed to allocate IP {given[index]}: {why}"))
                ips.append(given[index])
            else:
                ips.append(self._free_address(family, cidrs))
        spec["clusterIP"], spec["clusterIPs"] = ips[0], ips
        return faults

    def _address_fault(self, text: str, key: Key | None, cidrs: list[IPv4Network | IPv6Network], dry: bool) -> str:
        held = self._storage.get(IP_ADDRESS, ("", str(ip_address(text))))
        if held is not None:
            parent = held.value["spec"]["parentRef"]
            is_own = (parent["namespace"], parent["name"]) == key
            return "" if is_own or dry else "provided IP is already allocated"
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

    def _ports(self, spec: dict[str, Any], key: Key | None) -> list[Cause]:
        faults: list[Cause] = []
        chosen = {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}
        if spec["type"] in WITH_NODE_PORTS:
            own: dict[int, int] = {}
            explicit: set[tuple[str, int]] = set()
            for index, port in enumerate(spec.get("ports") or ()):
                if number := port.get("nodePort"):
                    why = self._port_fault(number, key)
                    if (port["protocol"], number) in explicit:
                        why = "provided port is already allocated"
                    explicit.add((port["protocol"], number))
                    if why:
                        faults.append(invalid(f"spec.ports[{index}].nodePort", number, why))
                elif spec["type"] == "NodePort" or spec.get("allocateLoadBalancerNodePorts"):
                    # One number serves a port of TCP and of UDP where both are the same, as the API has it.
                    port["nodePort"] = own.get(port.get("port", 0)) or self._free_port(chosen)
                if "nodePort" in port:
                    own[port.get("port", 0)] = port["nodePort"]
                    chosen.add(port["nodePort"])
        if needs_health(spec):
            if number := spec.get("healthCheckNodePort"):
                if why := self._port_fault(number, key):
                    raise internal(f"failed to allocate requested HealthCheck NodePort {number}: {why}")
            else:
                spec["healthCheckNodePort"] = self._free_port(chosen)
        return faults

    def _port_fault(self, number: int, key: Key | None) -> str:
        if number not in NODE_PORTS:
            span = f"{NODE_PORTS[0]}-{NODE_PORTS[-1]}"
            return f"provided port is not in the valid range. The range of valid ports is {span}"
        owners = {owner for (_, held), owner in self.ports.items() if held == number}
        return "provided port is already allocated" if owners - {key} else ""

    def _free_port(self, chosen: set[int]) -> int:
        taken = {number for _, number in self.ports} | chosen
        free = [number for number in NODE_PORTS if number not in taken]
        if not free:
            raise internal("failed to allocate a nodePort: range is full")
        return self._random.choice(free)


def _families(spec: dict[str, Any], given: list[str], cidrs: list[IPv4Network | IPv6Network]) -> list[str] | Cause:
    """The families that a Service is of: those it names, those of its addresses, and the cluster's second."""
    offered = list(dict.fromkeys(f"IPv{cidr.version}" for cidr in cidrs))
    named = list(spec.get("ipFamilies") or ())
    if not named:
        named = [f"IPv{ip_address(text).version}" for text in given if text != "None"]
    if not named and given == ["None"] and not spec.get("selector"):
        # Nobody but who makes its endpoints knows of which families they are.
        spec.setdefault("ipFamilyPolicy", "RequireDualStack" if len(offered) > 1 else "SingleStack")
        named = offered if spec["ipFamilyPolicy"] != "SingleStack" else offered[:1]
    named = named or offered[:1]
    for index, family in enumerate(named):
        if family not in offered:
            return invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
    policy = spec.setdefault("ipFamilyPolicy", "SingleStack")
    if policy == "SingleStack":
        what = "cluster IPs" if len(given) > 1 else "IP families" if len(named) > 1 else ""
        why = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
        return invalid("spec.ipFamilyPolicy", policy, why) if what else named
    if policy == "RequireDualStack" and len(offered) < 2:
        return invalid("spec.ipFamilyPolicy", policy, "this cluster is not configured for dual-stack services")
    return named + [family for family in offered if family not in named]


def _address_object(ip: str, key: Key) -> dict[str, Any]:
    family = f"IPv{ip_address(ip).version}"
    labels = {"ipaddress.kubernetes.io/ip-family": family, "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
    parent = {"resource": "services", "namespace": key[0], "name": key[1]}
    return {
        "kind": "IPAddress", "apiVersion": IP_ADDRESS.api_version,
        "metadata": {"name": ip, "labels": labels}, "spec": {"parentRef": parent},
    }  # fmt: skip
