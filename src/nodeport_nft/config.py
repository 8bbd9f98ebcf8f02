"""Configuration: defaults, then ``/etc/nodeport-nft/config.yaml``, then flags; all problems told at once.

The file names the store and says what is served, so it is believed only where nobody but root and the user who runs
the program can have written it. Its keys are those of ``Config`` in the API's spelling (``serviceCIDRs``,
``nodePortRange``, …); a flag has the same meaning and wins.
"""

from __future__ import annotations

import enum
import os
import re
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from nodeport_nft.manifest.document import Fault
from nodeport_nft.manifest.files import read_text, unreadable
from nodeport_nft.manifest.json_text import read_documents
from nodeport_nft.manifest.problems import Problem, Tally, clipped, shown, texts
from nodeport_nft.manifest.unknown import Validate
from nodeport_nft.manifest.values import parse_address, parse_network, subdomain_fault
from nodeport_nft.model import IPAddress, IPNetwork, NodePortMode, PortRange, Ranges
from nodeport_nft.trust import file_fault

DEFAULT_PATH = "/etc/nodeport-nft/config.yaml"
"""Where the configuration is looked for; it need not exist."""

_MAX_BYTES = 1 << 20
_LONGEST_FAULT = 500  # characters; it names a file, and its remedy comes last
_NULL = os.makedev(1, 3)  # /dev/null, by which a user says that there is none

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}  # as Go's
_YEAR = 365 * 86400.0


class DetectLocalMode(enum.StrEnum):
    """How a pod of this node is told from the outside (P5), named as in KubeProxyConfiguration."""

    CLUSTER_CIDR = "ClusterCIDR"
    NODE_CIDR = "NodeCIDR"
    BRIDGE_INTERFACE = "BridgeInterface"
    INTERFACE_NAME_PREFIX = "InterfaceNamePrefix"
    NONE = "None"


class ConfigError(Exception):
    """Every problem of the configuration, one a line, each with its key, value and remedy."""


@dataclass(frozen=True, slots=True)
class Config:
    """What an operator can choose. Sizes in bytes, times in seconds.

    ``state_dir``: where it is noted what is left on the node beside the tables; ``run_dir``: where the locks are.
    ``own_routes``: prefixes inside the service CIDRs that the node has addresses or routes for on purpose (F7).
    ``node_port_cidrs`` count in the mode CIDRS alone. ``validate``: what becomes of unknown fields in manifests.
    ``detect_local_mode`` says how pods are told from the outside;
    ``pod_interface`` is what it looks for in the modes BRIDGE_INTERFACE and INTERFACE_NAME_PREFIX. ``flowtable``:
    established connections take the kernel's fast path (X11). ``trusted_chains``: forward chains of others ("FAMILY
    TABLE CHAIN") that are known to let Services through. ``external_ips`` and ``load_balancer_ips``: the networks of
    the addresses that Services may claim (CVE-2020-8554), None: any, empty: none. ``healthz_address`` and
    ``metrics_address`` None: not served. Syncs begin ``min_sync_period`` apart at least; the daemon is unhealthy once
    a change has waited for twice the ``sync_period`` (H2). Each ``full_check_period`` the kernel's tables are
    compared in full.
    """

    store: str = "/var/lib/nodeport-nft/store.db"
    state_dir: str = "/var/lib/nodeport-nft"
    run_dir: str = "/run/nodeport-nft"
    ranges: Ranges = Ranges()
    cluster_cidrs: tuple[IPNetwork, ...] = ()
    node_port_mode: NodePortMode = NodePortMode.PRIMARY
    node_port_cidrs: tuple[IPNetwork, ...] = ()
    detect_local_mode: DetectLocalMode = DetectLocalMode.CLUSTER_CIDR
    pod_interface: str = ""
    masquerade_bit: int = 14
    masquerade_all: bool = False
    flowtable: bool = False
    trusted_chains: tuple[str, ...] = ()
    external_ips: tuple[IPNetwork, ...] | None = None
    load_balancer_ips: tuple[IPNetwork, ...] | None = None
    cluster_domain: str = "cluster.local"
    max_document_bytes: int = 64 << 20
    validate: Validate = Validate.strict
    own_routes: tuple[IPNetwork, ...] = ()
    healthz_address: tuple[IPAddress, int] | None = (IPv4Address("127.0.0.1"), 10256)
    metrics_address: tuple[IPAddress, int] | None = (IPv4Address("127.0.0.1"), 10249)
    sync_period: float = 30.0
    min_sync_period: float = 0.05
    full_check_period: float = 3600.0


def load_config(path: str | None, overrides: Mapping[str, object]) -> Config:
    """The configuration in force. ``path`` None: the default file, if there is one.

    ``overrides`` come from flags, under the file's keys; a value of None or an empty list is no override.
    Raises ConfigError with all problems.
    """
    problems: list[str] = []
    values = _read(path, problems)
    merged = {**values, **{key: value for key, value in overrides.items() if value not in (None, [], ())}}
    config = Config()
    unknown: Tally[str] = Tally()
    for key, value in merged.items():
        parse = _KEYS.get(key)
        if parse is None:
            unknown.add(clipped(path or DEFAULT_PATH), "", f"{clipped(key)}: unknown key; known are {_KNOWN}")
            continue
        try:
            config = parse(config, value)
        except (ValueError, TypeError) as error:
            problems.append(f"{key}: {error}")
    problems += texts(unknown)
    by_interface = (DetectLocalMode.BRIDGE_INTERFACE, DetectLocalMode.INTERFACE_NAME_PREFIX)
    if config.detect_local_mode in by_interface and not config.pod_interface:
        problems.append(f"podInterface: is missing; detectLocalMode {config.detect_local_mode} looks for it")
    if config.healthz_address is not None and config.healthz_address == config.metrics_address:
        problems.append("metricsBindAddress: is the same as healthzBindAddress; choose another port for one of them")
    if config.min_sync_period > config.sync_period:
        problems.append(
            f"minSyncPeriod: {config.min_sync_period:g} s is longer than syncPeriod, {config.sync_period:g} s; "
            "choose a shorter one"
        )
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def _read(path: str | None, problems: list[str]) -> dict[str, Any]:
    """The keys of the file, read as manifests are: no file can take the program down or keep it waiting.

    A file that others can have written is not read at all.
    """
    name = path or DEFAULT_PATH
    try:
        found = Path(name).stat()
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == _NULL:
            return {}  # nobody can write anything into it
        fault = "is a pipe, which may never end; name a file" if stat.S_ISFIFO(found.st_mode) else file_fault(name)
    except FileNotFoundError:
        if path is not None:
            problems.append(f"{clipped(name)}: no such file; leave --config out or write one")
        return {}
    except (OSError, ValueError) as error:
        problems.append(str(unreadable(name, error)))
        return {}
    if fault:
        problems.append(f"{clipped(name)}: {clipped(fault.removeprefix(f'{name} '), _LONGEST_FAULT)}")
        return {}
    text = read_text(name, _MAX_BYTES, remedy="a configuration is a few lines; is this the right file?")
    if isinstance(text, Problem):
        problems.append(str(text))
        return {}
    values: dict[str, Any] = {}
    documents = 0
    for document in read_documents(text):
        if isinstance(document, Fault):
            problems.append(str(Problem(f"{name}:{document.line}", "", "", document.message)))
            continue
        documents += 1
        faults = (Problem(f"{name}:{fault.line}", "", "", fault.message, fault.more) for fault in document.faults)
        problems += map(str, faults)
        doubled = ((f"{name}:{key.line}", "", "", f"{key.message}; remove one", key.more) for key in document.doubled)
        problems += [str(Problem(*parts)) for parts in doubled]
        if documents > 1:
            problems.append(f"{clipped(name)}:{document.first}: a second document begins; write one")
        elif isinstance(document.value, dict):
            values = document.value
        else:
            problems.append(f"{clipped(name)}: holds {shown(document.value)}; write 'key: value' lines")
    return values


def _networks(value: object) -> tuple[IPNetwork, ...]:
    items = value if isinstance(value, list | tuple) else [value]
    texts = [part.strip() for item in items for part in _text(item).split(",")]
    return tuple(_network(text) for text in texts if text)


def _network(text: str) -> IPNetwork:
    """A network with its prefix length: a bare 10.244.0.0 would silently stand for one host. Raises ValueError."""
    start, slash, _ = text.partition("/")
    try:
        address = parse_address(start)
    except ValueError:
        remedy = "write an address and a prefix length, such as 10.96.0.0/12"
        raise ValueError(f"{shown(text)} is no network; {remedy}") from None
    if not slash:
        raise ValueError(f"{shown(text)} has no prefix length; write {_likely_network(address)}")
    return parse_network(text)


def _likely_network(address: IPAddress) -> str:
    """What somebody may have meant who left the prefix length out: what ends in zeros is a network, else one host."""
    unit = 8 if address.version == 4 else 16  # what stands between two dots or colons
    length: int = address.max_prefixlen
    while length > unit and not int(address) & ((1 << (address.max_prefixlen - length + unit)) - 1):
        length -= unit
    one = f"{address}/{address.max_prefixlen}"
    return one if length == address.max_prefixlen else f"{address}/{length} (or {one} for this one address)"


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{shown(value)} is no text; put it in quotes")
    if "\0" in value:
        raise ValueError(f"{shown(value)} holds a NUL character; leave it out")
    return value


def _integer(value: object, low: int, high: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{shown(value)} is no {what}; choose a number from {low} to {high}")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{shown(value)} is neither true nor false")
    return value


def _bind_address(value: object) -> tuple[IPAddress, int] | None:
    text = _text(value).strip()
    if text in ("", "none"):
        return None
    parts = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9.]{7,15})):([0-9]{1,5})", text)
    if parts is not None and 1 <= int(parts[3]) <= 65535:
        with suppress(ValueError):
            return IPv6Address(parts[1]) if parts[1] else IPv4Address(parts[2]), int(parts[3])
    raise ValueError(
        f"{shown(value)} is no address with a port; write ADDRESS:PORT such as 127.0.0.1:10256 or [::1]:10256, "
        "or none to switch it off"
    )


def _seconds(value: object, low: float, high: float) -> float:
    """Seconds as a number, or a duration as Go writes it ("1h30m"); from flags a number comes as text."""
    seconds = value if isinstance(value, int | float) and not isinstance(value, bool) else _duration(value)
    if seconds is None:
        raise ValueError(f"{shown(value)} is no duration; write seconds, or a text such as 30s, 1m or 1h30m")
    if not low <= seconds <= high:
        raise ValueError(f"{shown(value)} is out of range; choose from {low:g} to {high:.0f} seconds")
    return float(seconds)


def _duration(value: object) -> float | None:
    if not isinstance(value, str) or len(value) > 100:
        return None
    number = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
    if re.fullmatch(number, value):
        return float(value)
    if not re.fullmatch(rf"(?:{number}(?:{'|'.join(_UNITS)}))+", value):
        return None
    return sum(float(amount) * _UNITS[unit] for amount, unit in re.findall(rf"({number})([a-zµμ]+)", value))


def _detect_local_mode(config: Config, value: object) -> Config:
    if value not in list(DetectLocalMode):
        raise ValueError(f"{shown(value)} is no mode; choose one of {', '.join(DetectLocalMode)}")
    return replace(config, detect_local_mode=DetectLocalMode(str(value)))


def _interface(config: Config, value: object) -> Config:
    name = _text(value)
    if not re.fullmatch(r"[!-~]{1,15}", name) or set(name) & set('"*/\\'):
        raise ValueError(f"{shown(value)} is no interface name; use at most 15 printable characters")
    return replace(config, pod_interface=name)


def _node_port_range(config: Config, value: object) -> Config:
    ends = re.fullmatch(r"\s*([0-9]{1,5})\s*-\s*([0-9]{1,5})\s*", _text(value))
    if ends is None:
        raise ValueError(f"{shown(value)} is no range; write FIRST-LAST, such as 30000-32767")
    ports = PortRange(int(ends[1]), int(ends[2]))
    if not 1 <= ports.first <= ports.last <= 65535:
        raise ValueError(f"{shown(value)} is no range of ports; both ends lie from 1 to 65535, the lower one first")
    return replace(config, ranges=replace(config.ranges, node_ports=ports))


def _service_cidrs(config: Config, value: object) -> Config:
    cidrs = _networks(value)
    if not cidrs or len({cidr.version for cidr in cidrs}) != len(cidrs):
        given = clipped(", ".join(map(str, cidrs))) or "nothing"
        raise ValueError(f"{given} is given; give one network, or one of each family")
    small = [str(cidr) for cidr in cidrs if cidr.max_prefixlen - cidr.prefixlen < 2]
    if small:
        raise ValueError(f"{', '.join(small)} has no room for clusterIPs; use at least a /30 or a /126")
    return replace(config, ranges=replace(config.ranges, service_cidrs=cidrs))


def _node_port_addresses(config: Config, value: object) -> Config:
    words = [value] if isinstance(value, str) else value
    if isinstance(words, list | tuple) and len(words) == 1 and words[0] in ("primary", "all"):
        return replace(config, node_port_mode=NodePortMode(words[0]), node_port_cidrs=())
    return replace(config, node_port_mode=NodePortMode.CIDRS, node_port_cidrs=_networks(words))


def _store(config: Config, value: object) -> Config:
    if not _text(value):
        raise ValueError("is empty; name a file")
    return replace(config, store=_text(value))


def _directory(value: object) -> str:
    if not _text(value):
        raise ValueError("is empty; name a directory")
    return _text(value)


def _trusted_chains(config: Config, value: object) -> Config:
    chains = [" ".join(_text(item).split()) for item in (value if isinstance(value, list | tuple) else [value])]
    for chain in chains:
        if not re.fullmatch(r"(?:ip|ip6|inet) \S+ \S+", chain):
            raise ValueError(f"{shown(chain)} is no chain; write FAMILY TABLE CHAIN, such as ip filter FORWARD")
    return replace(config, trusted_chains=tuple(chains))


def _claimable(value: object) -> tuple[IPNetwork, ...] | None:
    """The networks of the external addresses that Services may claim: any (None), none at all, or these."""
    words = [value] if isinstance(value, str) else value
    match words:
        case ["any"]:
            return None
        case ["deny"]:
            return ()
    networks = _networks(words)
    if not networks:
        raise ValueError("nothing is given; write any, deny, or networks such as 203.0.113.0/24")
    return networks


def _cluster_domain(config: Config, value: object) -> Config:
    domain = _text(value).removesuffix(".")
    if fault := subdomain_fault(domain):
        raise ValueError(fault)
    return replace(config, cluster_domain=domain)


def _validate(config: Config, value: object) -> Config:
    if value not in list(Validate):
        raise ValueError(f"{shown(value)} is unknown; choose one of {', '.join(Validate)}")
    return replace(config, validate=Validate(str(value)))


_KEYS: dict[str, Callable[[Config, Any], Config]] = {
    "store": _store,
    "stateDir": lambda c, v: replace(c, state_dir=_directory(v)),
    "runDir": lambda c, v: replace(c, run_dir=_directory(v)),
    "nodePortRange": _node_port_range,
    "serviceCIDRs": _service_cidrs,
    "clusterCIDRs": lambda c, v: replace(c, cluster_cidrs=_networks(v)),
    "nodePortAddresses": _node_port_addresses,
    "masqueradeBit": lambda c, v: replace(c, masquerade_bit=_integer(v, 0, 31, "bit of the packet mark")),
    "detectLocalMode": _detect_local_mode,
    "podInterface": _interface,
    "masqueradeAll": lambda c, v: replace(c, masquerade_all=_flag(v)),
    "trustedChains": _trusted_chains,
    "flowtable": lambda c, v: replace(c, flowtable=_flag(v)),
    "externalIPs": lambda c, v: replace(c, external_ips=_claimable(v)),
    "loadBalancerIPs": lambda c, v: replace(c, load_balancer_ips=_claimable(v)),
    "clusterDomain": _cluster_domain,
    "maxDocumentBytes": lambda c, v: replace(c, max_document_bytes=_integer(v, 1, 1 << 32, "size in bytes")),
    "validate": _validate,
    "ownRoutes": lambda c, v: replace(c, own_routes=_networks(v)),
    "healthzBindAddress": lambda c, v: replace(c, healthz_address=_bind_address(v)),
    "metricsBindAddress": lambda c, v: replace(c, metrics_address=_bind_address(v)),
    "syncPeriod": lambda c, v: replace(c, sync_period=_seconds(v, 1, _YEAR)),
    "minSyncPeriod": lambda c, v: replace(c, min_sync_period=_seconds(v, 0, 60)),
    "fullCheckPeriod": lambda c, v: replace(c, full_check_period=_seconds(v, 1, _YEAR)),
}

_KNOWN = ", ".join(sorted(_KEYS))
