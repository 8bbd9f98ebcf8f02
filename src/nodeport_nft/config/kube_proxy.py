"""kube-proxy's own configuration as ours: a KubeProxyConfiguration, or the ConfigMap of a cluster that holds one.

What applies here is taken, under the keys of ``settings``. What does not is named in one warning, unless it is as
kube-proxy has it anyway: nobody should have to compare two lists of defaults. Fields that nobody knows are named
there, too, since kube-proxy goes on without them as well, and a file of another version is to be taken as it stands.

A field without a value (null, "", an empty list, a zero where kube-proxy has a default for it) is not given. What
kube-proxy has as its default then, and we do not, is taken from kube-proxy: where /healthz answers, and which
addresses serve nodePorts.

Source: staging/src/k8s.io/kube-proxy/config/v1alpha1/types.go, pkg/proxy/apis/config/v1alpha1/defaults.go and
cmd/kube-proxy/app/server_linux.go of Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from msgspec import Struct, field

from nodeport_nft.config.file import ConfigFile
from nodeport_nft.config.given import Given, as_choice
from nodeport_nft.config.values import duration, flag
from nodeport_nft.notation import parse_network
from nodeport_nft.problems import Problem, field_text, nearest, shown
from nodeport_nft.settings import KEYS, Choice, PathTo, Plain

_Names = tuple[str, ...]
"""A field, by the names that lead to it."""

KIND = "KubeProxyConfiguration"
_GROUP, _VERSION = "kubeproxy.config.k8s.io", "v1alpha1"
_API = f"{_GROUP}/{_VERSION}"

_HEALTHZ, _METRICS = 10256, 10249
_MODES = ("iptables", "ipvs", "nftables")

_TAKEN: Mapping[_Names, str] = {
    ("clientConnection", "kubeconfig"): "kubeconfig",
    ("hostnameOverride",): "nodeName",
    ("bindAddress",): "nodeIPs",
    ("clusterCIDR",): "clusterCIDRs",
    ("detectLocalMode",): "detectLocalMode",
    ("nodePortAddresses",): "nodePortAddresses",
    ("nftables", "masqueradeBit"): "masqueradeBit",
    ("nftables", "masqueradeAll"): "masqueradeAll",
    ("nftables", "syncPeriod"): "syncPeriod",
    ("nftables", "minSyncPeriod"): "minSyncPeriod",
    ("healthzBindAddress",): "healthzBindAddress",
    ("metricsBindAddress",): "metricsBindAddress",
    ("conntrack", "maxPerCore"): "conntrackMaxPerCore",
    ("conntrack", "min"): "conntrackMin",
    ("conntrack", "tcpEstablishedTimeout"): "conntrackTCPEstablishedTimeout",
    ("conntrack", "tcpCloseWaitTimeout"): "conntrackTCPCloseWaitTimeout",
    ("conntrack", "udpTimeout"): "conntrackUDPTimeout",
    ("conntrack", "udpStreamTimeout"): "conntrackUDPStreamTimeout",
}
"""Which field is which key of ours."""

_WORDS = (Plain.NETWORKS, Plain.NODE_PORT_ADDRESSES, Plain.NODE_NAME, Plain.NODE_ADDRESSES, Plain.BIND_ADDRESS)
"""Kinds of which "" and an empty list are no value."""

_ZERO_IS_DEFAULT = ("syncPeriod", "minSyncPeriod")
"""Keys of which kube-proxy takes a zero for its default, and we for ours."""

_DETECT_LOCAL = {
    "BridgeInterface": ("detectLocal", "bridgeInterface"),
    "InterfaceNamePrefix": ("detectLocal", "interfaceNamePrefix"),
}

_SATISFIED: tuple[_Names, ...] = (
    ("showHiddenMetricsForVersion",),  # none is hidden here
    ("conntrack", "tcpBeLiberal"),  # --set-sysctls sets it in any case
)

_ANYTHING = object()
_PERIOD, _LEAST = (0, 30), (0, 1)
_OTHERS: Mapping[_Names, tuple[object, ...]] = {
    ("featureGates",): (),
    ("clientConnection", "acceptContentTypes"): (),
    ("clientConnection", "contentType"): ("application/vnd.kubernetes.protobuf",),
    ("clientConnection", "qps"): (0, 5),
    ("clientConnection", "burst"): (0, 10),
    ("logging", "format"): ("text",),
    ("logging", "flushFrequency"): (0, 5, 5_000_000_000),
    ("logging", "verbosity"): (0,),
    ("logging", "vmodule"): (),
    ("logging", "options"): (_ANYTHING,),  # of formats, which are named themselves
    ("bindAddressHardFail",): (False,),
    ("enableProfiling",): (False,),
    ("iptables", "masqueradeBit"): (14,),
    ("iptables", "masqueradeAll"): (False,),
    ("iptables", "localhostNodePorts"): (True,),
    ("iptables", "syncPeriod"): _PERIOD,
    ("iptables", "minSyncPeriod"): _LEAST,
    ("ipvs", "syncPeriod"): _PERIOD,
    ("ipvs", "minSyncPeriod"): _LEAST,
    ("ipvs", "scheduler"): ("rr",),
    ("ipvs", "excludeCIDRs"): (),
    ("ipvs", "strictARP"): (False,),
    ("ipvs", "tcpTimeout"): (0,),
    ("ipvs", "tcpFinTimeout"): (0,),
    ("ipvs", "udpTimeout"): (0,),
    ("winkernel", "networkName"): (),
    ("winkernel", "sourceVip"): (),
    ("winkernel", "enableDSR"): (False,),
    ("winkernel", "rootHnsEndpointName"): (),
    ("winkernel", "forwardHealthCheckVip"): (False,),
    ("oomScoreAdj",): (-999,),
    ("configSyncPeriod",): (0, 900),
    ("portRange",): (),
    ("windowsRunAsService",): (False,),
}
"""Fields that do not apply here, and values of which that is not worth a word; durations in seconds."""

_HERE: tuple[_Names, ...] = (("apiVersion",), ("kind",), ("mode",), *_DETECT_LOCAL.values(), *_SATISFIED)
_KNOWN = frozenset((*_TAKEN, *_OTHERS, *_HERE))
_SECTIONS = frozenset(path[0] for path in _KNOWN if len(path) > 1)
_LONGEST = 800  # characters of the names in the warning


class Taken(Struct, frozen=True):
    """What is taken of the file, by the keys of ``settings``: values, and ``paths`` to where they stand in ``file``.

    ``paths`` has those of keys that are not given, too, as messages name them. ``warning`` "": all of it applies.
    """

    file: ConfigFile
    values: dict[str, Any] = field(default_factory=dict)
    paths: dict[str, _Names] = field(default_factory=dict)
    warning: str = ""


def kube_proxy_file(file: ConfigFile) -> ConfigFile | None:
    """The file, or the text in it, if that is kube-proxy's; else None. What is wrong with a ConfigMap is noted."""
    if file.values.get("kind") == "ConfigMap":
        return _in_config_map(file)
    return file if _is_kube_proxy(file.values) else None


def _is_kube_proxy(values: Mapping[str, Any]) -> bool:
    return values.get("kind") == KIND or str(values.get("apiVersion", "")).startswith(f"{_GROUP}/")


def _in_config_map(file: ConfigFile) -> ConfigFile:
    data = file.values.get("data")
    texts = {key: text for key, text in data.items() if isinstance(text, str)} if isinstance(data, dict) else {}
    found = [key for key, text in texts.items() if KIND in text]
    if len(found) == 1:
        return file.inside(("data", found[0]))
    which = f"{len(found)} entries of data are each" if found else "no entry of data is"
    file.problem(
        file.line(("data",)),
        f"{which} a {KIND}; write the one of kube-proxy into a file, such as the config.conf of kubeadm's ConfigMap",
        key="data",
    )
    return ConfigFile(file.name, file.path, problems=file.problems, warnings=file.warnings)


def take(file: ConfigFile) -> Taken:
    """What a KubeProxyConfiguration says; what is wrong with its fields by themselves is noted in ``file``."""
    if not file.values:
        return Taken(file)
    _check_type(file)
    values = file.values
    others: list[str] = []
    mode = values.get("mode")
    if mode not in (None, ""):
        mode = _noted(file, ("mode",), lambda given: as_choice(given, _MODES, "mode of kube-proxy on Linux"))
    for path in _SATISFIED:
        if path[-1] == "tcpBeLiberal" and _value(values, path) is not None:
            _noted(file, path, flag)
    taken = Taken(file, paths={key: path for path, key in _TAKEN.items()})
    for path, key in _TAKEN.items():
        value = _value(values, path)
        if not _is_unset(key, value):
            taken.values[key] = _ours(key, value)
    _take_pod_interface(taken, others)
    _take_defaults(taken, mode)
    if mode != "nftables":
        others.append(f"mode ({mode or 'iptables, which is its default'}: it is nftables that is programmed)")
    others += _not_applying(file)
    return Taken(file, taken.values, taken.paths, _warning(file, others))


def _check_type(file: ConfigFile) -> None:
    for name, right in (("apiVersion", _API), ("kind", KIND)):
        value = file.values.get(name)
        if value != right:
            told = "is missing" if name not in file.values else f"{shown(value)} cannot be read"
            file.problem(file.line((name,)), f"{told}; write {name}: {right}", key=name)


def _noted(file: ConfigFile, path: _Names, parse: Callable[[Given], Any]) -> Any:
    """A value parsed; None where it is wrong, which is noted."""
    try:
        return parse(Given(_value(file.values, path), path, file.written))
    except ValueError as error:
        file.problem(file.line(path), str(error), key=field_text(path))
        return None


def _value(values: Mapping[str, Any], path: _Names) -> Any:
    """What stands at a path of fields; None if nothing does, or a section is none (which ``_not_applying`` tells)."""
    found: Any = values
    for part in path:
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _is_unset(key: str, value: Any) -> bool:
    kind = KEYS[key].kind
    if value is None or (value in ("", []) and (kind in _WORDS or isinstance(kind, PathTo | Choice))):
        return True
    return key in _ZERO_IS_DEFAULT and (value == 0 or duration(value) == 0)


def _ours(key: str, value: Any) -> Any:
    """A value as we write it, where kube-proxy takes more; what is none of that is told when it is taken."""
    if key in ("clusterCIDRs", "nodePortAddresses") and isinstance(value, list):
        return [_network(each) for each in value]
    if not isinstance(value, str):
        return value
    match key:
        case "clusterCIDRs":
            return ",".join(_network(each) for each in value.split(","))
        case "nodeName":
            return value.strip().lower()
        case "nodeIPs":
            return [] if _is_unspecified(value) else value
        case "healthzBindAddress":
            return _with_port(value, _HEALTHZ)
        case "metricsBindAddress":
            return _with_port(value, _METRICS)
    return value


def _network(text: Any) -> Any:
    """A network without the bits behind its prefix, which are nothing to kube-proxy."""
    try:
        return str(parse_network(text.strip(), host_bits=True))
    except (ValueError, AttributeError):
        return text


def _with_port(text: str, port: int) -> str:
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return text
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


def _is_unspecified(text: str) -> bool:
    try:
        return ip_address(text).is_unspecified
    except ValueError:
        return False


def _take_pod_interface(taken: Taken, others: list[str]) -> None:
    """The interface of the mode that looks for one; that of another mode does not count, to kube-proxy neither."""
    mode = taken.values.get("detectLocalMode")
    for name, path in _DETECT_LOCAL.items():
        value = _value(taken.file.values, path)
        if name == mode:
            taken.paths["podInterface"] = path
            if value not in (None, ""):
                taken.values["podInterface"] = value
        elif value not in (None, ""):
            others.append(f"{field_text(path)} (of another detectLocalMode)")


def _take_defaults(taken: Taken, mode: str | None) -> None:
    """What kube-proxy has where nothing is given, and we have otherwise."""
    address = _value(taken.file.values, ("bindAddress",))
    by_ipv6 = isinstance(address, str) and ":" in address
    taken.values.setdefault("store", "kubernetes:")
    taken.values.setdefault("healthzBindAddress", f"{'[::]' if by_ipv6 else '0.0.0.0'}:{_HEALTHZ}")  # noqa: S104
    taken.values.setdefault("metricsBindAddress", f"{'[::1]' if by_ipv6 else '127.0.0.1'}:{_METRICS}")
    taken.values.setdefault("nodePortAddresses", "primary" if mode == "nftables" else "all")
    if taken.values.get("nodeIPs") == []:
        del taken.values["nodeIPs"]


def _not_applying(file: ConfigFile) -> Iterator[str]:
    """The fields that say something which does not apply here, and those that nobody knows."""
    for path, value in _fields(file):
        if path in _OTHERS:
            if not _is_default(value, _OTHERS[path]):
                yield field_text(path)
        elif path not in _KNOWN:
            siblings = {known[len(path) - 1] for known in _KNOWN if known[: len(path) - 1] == path[:-1]}
            near = nearest(path[-1], siblings)
            yield f"{field_text(path)} (unknown{f'; did you mean {near}?' if near else ''})"


def _fields(file: ConfigFile) -> Iterator[tuple[_Names, Any]]:
    """The fields of the file and of its sections; what stands in the place of a section is noted."""
    for name, value in file.values.items():
        if name not in _SECTIONS:
            yield (name,), value
        elif isinstance(value, Mapping):
            yield from (((name, each), inner) for each, inner in value.items())
        elif value is not None:
            given = Given(value, (name,), file.written)
            told = f"{given} stands where fields belong; write them below it, or leave it out"
            file.problem(file.line((name,)), told, key=name)


def _is_default(value: Any, defaults: tuple[object, ...]) -> bool:
    if value in (None, "", [], {}) or _ANYTHING in defaults:
        return True
    seconds = duration(value)
    return value in defaults or (seconds is not None and seconds in defaults)


def _warning(file: ConfigFile, others: list[str]) -> str:
    if not others:
        return ""
    names = ""
    for number, each in enumerate(others):
        if len(names) + len(each) > _LONGEST:
            names += f" and {len(others) - number} more"
            break
        names += f"{', ' if names else ''}{each}"
    return str(Problem(file.name, "", "", f"does not apply here: {names}; all else of this {KIND} does"))
