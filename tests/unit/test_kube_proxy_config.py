"""kube-proxy's own configuration, taken as it stands in a cluster (W4)."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeport_nft.config import Config, ConfigError, DetectLocalMode, load_config
from nodeport_nft.config.kube_proxy import _KNOWN, _OTHERS
from nodeport_nft.model import NodePortMode
from tests.cli.program import SCRIPT

CONFIG_MAP = Path(__file__).parents[1] / "kubernetes" / "kubeadm-kube-proxy.yaml"
HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
EVERYWHERE = (ip_address("0.0.0.0"), 10256)
PLAIN = replace(
    Config(), store="kubernetes:", healthz_address=EVERYWHERE, node_port_mode=NodePortMode.PRIMARY
)  # of a file that says `mode: nftables` and nothing else


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "config.conf"
    path.write_text(text)
    return str(path)


def loaded(tmp_path: Path, text: str, flags: dict[str, object] | None = None) -> Config:
    """The configuration of a file in the mode nftables."""
    return load_config(write(tmp_path, f"{HEAD}mode: nftables\n{text}"), flags or {})


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text), {})
    return str(caught.value).replace(f"{tmp_path}/config.conf:", "").splitlines()


# --- as it stands ---------------------------------------------------------------------------------------------


@pytest.mark.proves("W4")
@pytest.mark.parametrize("where", ["the ConfigMap", "the ConfigMap as JSON", "its config.conf"])
def test_kubeadms_own_is_taken_whole(tmp_path: Path, where: str) -> None:
    text = CONFIG_MAP.read_text()
    if where == "its config.conf":
        text = yaml.safe_load(text)["data"]["config.conf"]
    elif where == "the ConfigMap as JSON":
        text = json.dumps(yaml.safe_load(text))
    config = load_config(write(tmp_path, text), {})
    expected = replace(
        PLAIN,
        kubeconfig="/var/lib/kube-proxy/kubeconfig.conf",
        cluster_cidrs=(ip_network("10.244.0.0/16"),),
        node_port_mode=NodePortMode.ALL,  # as in the mode iptables
    )
    assert config == expected
    (warning,) = config.warnings
    assert warning == (
        f"{tmp_path}/config.conf: does not apply here: mode (iptables, which is its default: it is nftables that is "
        "programmed); all else of this KubeProxyConfiguration does"
    )


@pytest.mark.proves("W4")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("clientConnection: {kubeconfig: /k}", {"kubeconfig": "/k"}),
        ("hostnameOverride: ' Worker-1 '", {"node_name": "worker-1"}),
        ("bindAddress: 172.30.1.2", {"node_ips": (ip_address("172.30.1.2"),)}),
        ("bindAddress: 0.0.0.0", {}),
        (
            "bindAddress: '::'",
            {"healthz_address": (ip_address("::"), 10256), "metrics_address": (ip_address("::1"), 10249)},
        ),
        ("clusterCIDR: 10.0.0.0/8", {"cluster_cidrs": (ip_network("10.0.0.0/8"),)}),
        (
            "clusterCIDR: '10.244.7.1/16,fd00:244::/32'",
            {"cluster_cidrs": (ip_network("10.244.0.0/16"), ip_network("fd00:244::/32"))},
        ),
        ("detectLocalMode: NodeCIDR", {"detect_local_mode": DetectLocalMode.NODE_CIDR}),
        (
            "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}",
            {"detect_local_mode": DetectLocalMode.BRIDGE_INTERFACE, "pod_interface": "cni0"},
        ),
        (
            "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: cali}",
            {"detect_local_mode": DetectLocalMode.INTERFACE_NAME_PREFIX, "pod_interface": "cali"},
        ),
        ("nodePortAddresses: [primary]", {}),
        ("nodePortAddresses: []", {}),
        (
            "nodePortAddresses: [192.0.2.7/24, '2001:db8::/64']",
            {
                "node_port_mode": NodePortMode.CIDRS,
                "node_port_cidrs": (ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")),
            },
        ),
        ("nftables: {masqueradeBit: 0, masqueradeAll: true}", {"masquerade_bit": 0, "masquerade_all": True}),
        ("nftables: {syncPeriod: 1m0s, minSyncPeriod: 10s}", {"sync_period": 60.0, "min_sync_period": 10.0}),
        ("nftables: {syncPeriod: 0s, minSyncPeriod: 0s}", {}),
        ("healthzBindAddress: 127.0.0.1:1", {"healthz_address": (ip_address("127.0.0.1"), 1)}),
        ("healthzBindAddress: '::1'", {"healthz_address": (ip_address("::1"), 10256)}),
        ("metricsBindAddress: 0.0.0.0", {"metrics_address": (ip_address("0.0.0.0"), 10249)}),
        ("metricsBindAddress: '[::]:9'", {"metrics_address": (ip_address("::"), 9)}),
        ("conntrack: {maxPerCore: 0, min: 5}", {"conntrack_max_per_core": 0, "conntrack_min": 5}),
        (
            "conntrack: {tcpEstablishedTimeout: 2h0m0s, tcpCloseWaitTimeout: 0s}",
            {"conntrack_tcp_established_timeout": 7200.0, "conntrack_tcp_close_wait_timeout": 0.0},
        ),
        (
            "conntrack: {udpTimeout: 30s, udpStreamTimeout: 5m}",
            {"conntrack_udp_timeout": 30.0, "conntrack_udp_stream_timeout": 300.0},
        ),
        ("conntrack: {tcpBeLiberal: true}\nshowHiddenMetricsForVersion: '1.35'", {}),
        ("conntrack:\nnftables: null\ndetectLocal: {}\nclusterCIDR: null\nconfigSyncPeriod: 15m", {}),
    ],
)
def test_what_applies_is_taken(tmp_path: Path, text: str, expected: dict[str, Any]) -> None:
    config = loaded(tmp_path, text)
    assert config == replace(PLAIN, **expected)
    assert config.warnings == ()


def test_a_flag_wins(tmp_path: Path) -> None:
    flags: dict[str, object] = {"store": "/s", "healthzBindAddress": "none", "nodePortAddresses": ["all"]}
    config = loaded(tmp_path, "healthzBindAddress: 0.0.0.0:7\n", flags)
    assert (config.store, config.healthz_address, config.node_port_mode) == ("/s", None, NodePortMode.ALL)


def test_places_are_those_of_the_file(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, CONFIG_MAP.read_text()), {})
    for key, text in (("kubeconfig", "kubeconfig: /var"), ("clusterCIDRs", "clusterCIDR: 10.244.0.0/16")):
        place, _, line = config.places[key].rpartition(":")
        assert text in Path(place).read_text().splitlines()[int(line) - 1]


# --- what does not apply --------------------------------------------------------------------------------------


@pytest.mark.proves("W4")
@pytest.mark.parametrize("path", [path for path in _OTHERS if path[-1] != "options"], ids=".".join)
def test_what_does_not_apply_is_named_in_the_one_warning(tmp_path: Path, path: tuple[str, ...]) -> None:
    value = "{SomeFeature: true}" if path == ("featureGates",) else "7s"
    text = f"{path[0]}: {value}" if len(path) == 1 else f"{path[0]}: {{{path[1]}: {value}}}"
    config = loaded(tmp_path, f"portRange: 1-2\n{text}\n" if path != ("portRange",) else f"{text}\n")
    (warning,) = config.warnings
    assert re.search(rf"[ ,]{re.escape('.'.join(path))}[;,]", warning), warning
    assert config == PLAIN


@pytest.mark.parametrize("path", _OTHERS, ids=".".join)
def test_what_is_as_kube_proxy_has_it_anyway_is_not_worth_a_word(tmp_path: Path, path: tuple[str, ...]) -> None:
    for value in ("null", *(json.dumps(each) for each in _OTHERS[path] if isinstance(each, str | int))):
        text = f"{path[0]}: {value}" if len(path) == 1 else f"{path[0]}: {{{path[1]}: {value}}}"
        assert loaded(tmp_path, text).warnings == (), text


@pytest.mark.parametrize("mode", ["iptables", "ipvs"])
def test_another_mode_is_told(tmp_path: Path, mode: str) -> None:
    config = load_config(write(tmp_path, f"{HEAD}mode: {mode}\nipvs: {{scheduler: lc}}\n"), {})
    (warning,) = config.warnings
    assert f"mode ({mode}: it is nftables that is programmed), ipvs.scheduler; all else" in warning
    assert config.node_port_mode is NodePortMode.ALL, "as kube-proxy in this mode"


def test_fields_of_another_version_are_named_and_stop_nothing(tmp_path: Path) -> None:
    config = loaded(tmp_path, "udpIdleTimeout: 250ms\nconntrack: {max: 0, minn: 1}\nclusterCidr: 10.0.0.0/8\n")
    (warning,) = config.warnings
    assert "udpIdleTimeout (unknown)" in warning
    assert "conntrack.minn (unknown; did you mean min?)" in warning
    assert "clusterCidr (unknown; did you mean clusterCIDR?)" in warning
    assert config == PLAIN


def test_the_interface_of_another_mode_is_named(tmp_path: Path) -> None:
    config = loaded(tmp_path, "detectLocalMode: ClusterCIDR\ndetectLocal: {bridgeInterface: cni0}")
    assert "detectLocal.bridgeInterface (of another detectLocalMode)" in config.warnings[0]
    assert config == PLAIN


def test_a_thousand_fields_are_one_line_of_bounded_length(tmp_path: Path) -> None:
    (warning,) = loaded(tmp_path, "".join(f"field{number}: 1\n" for number in range(1000))).warnings
    assert len(warning) < 1000
    assert re.search(r"and \d+ more; all else of this", warning)


# --- what is wrong --------------------------------------------------------------------------------------------


@pytest.mark.proves("W4")
def test_all_problems_are_told_with_line_field_value_and_remedy(tmp_path: Path) -> None:
    text = f"""{HEAD}mode: nftable
clusterCIDR: 10.244.0.0/99
detectLocalMode: Bridge
nodePortAddresses: [primary, 10.0.0.0/8]
hostnameOverride: worker_1
bindAddress: nowhere
healthzBindAddress: localhost:10256
clientConnection: {{kubeconfig: 5}}
conntrack:
  maxPerCore: -1
  tcpBeLiberal: "yes"
  tcpEstablishedTimeout: -5s
nftables:
  masqueradeBit: 32
  minSyncPeriod: soon
ipvs: 7
"""
    told = problems(tmp_path, text)
    wanted = [
        "3: mode: ",
        "4: clusterCIDR: ",
        "5: detectLocalMode: ",
        "6: nodePortAddresses[0]: ",
        "7: hostnameOverride: ",
        "8: bindAddress: ",
        "9: healthzBindAddress: ",
        "10: clientConnection.kubeconfig: ",
        "12: conntrack.maxPerCore: ",
        "13: conntrack.tcpBeLiberal: ",
        "14: conntrack.tcpEstablishedTimeout: ",
        "16: nftables.masqueradeBit: ",
        "17: nftables.minSyncPeriod: ",
        "18: ipvs: ",
    ]
    assert [line[: len(begin)] for line, begin in zip(told, wanted, strict=True)] == wanted
    assert told[0].endswith("did you mean nftables?")
    assert all(re.search(r"[;,:] (choose|write|did you mean|use|leave)", line) for line in told), told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "kind: KubeProxyConfiguration",
            "1: apiVersion: is missing; write apiVersion: kubeproxy.config.k8s.io/v1alpha1",
        ),
        (
            "apiVersion: kubeproxy.config.k8s.io/v1beta1\nkind: KubeProxyConfiguration",
            '1: apiVersion: "kubeproxy.config.k8s.io/v1beta1" cannot be read; write apiVersion: '
            "kubeproxy.config.k8s.io/v1alpha1",
        ),
        ("apiVersion: kubeproxy.config.k8s.io/v1alpha1", "1: kind: is missing; write kind: KubeProxyConfiguration"),
        (
            f"{HEAD}detectLocalMode: BridgeInterface",
            "3: detectLocalMode: BridgeInterface looks for detectLocal.bridgeInterface, which is missing; add it, "
            "such as cni0",
        ),
        (
            f"{HEAD}nftables: {{minSyncPeriod: 1m0s}}",
            "3: nftables.minSyncPeriod: 60 s is longer than nftables.syncPeriod, 30 s (the default); choose a "
            "shorter one",
        ),
        (
            f"{HEAD}metricsBindAddress: 0.0.0.0:10256",
            "3: metricsBindAddress: 0.0.0.0:10256 is healthzBindAddress as well (1); choose another port for one "
            "of them",
        ),
    ],
)
def test_what_is_wrong_with_it_as_a_whole(tmp_path: Path, text: str, message: str) -> None:
    assert problems(tmp_path, text) == [message]


@pytest.mark.parametrize("style", ["|", "|-", "|2-", ">-", "quoted"])
def test_the_line_is_that_of_the_config_map(tmp_path: Path, style: str) -> None:
    inner = f"{HEAD}mode: nftables\nnftables:\n  masqueradeBit: 77\n"
    if style == "quoted":
        body = json.dumps(inner)
    elif style == ">-":
        body = ">-\n" + "".join(f"    {line}\n\n" for line in inner.splitlines() if "  " not in line)
    else:
        body = style + "\n" + "".join(f"    {line}\n" if line else "\n" for line in inner.splitlines())
    if style == "|2-":
        body = body.replace("\n    ", "\n  ").replace("|2-", "|-")
    text = f"apiVersion: v1\nkind: ConfigMap\ndata:\n  other: x\n  config.conf: {body}"
    if style == ">-":  # folded: lines say nothing, and the field's own is named
        text = text.replace("mode: nftables", "mode: nothing")
        assert [line.partition(": ")[0] for line in problems(tmp_path, text)] == ["5"]
        return
    if style == "|2-":
        text = text.replace("data:\n  other: x\n  config.conf", "data:\n other: x\n config.conf")
    (line,) = problems(tmp_path, text)
    number, field, _ = line.split(": ", 2)
    assert field == "nftables.masqueradeBit"
    expected = (
        5
        if style == "quoted"
        else next(at for at, each in enumerate(text.splitlines(), 1) if "masqueradeBit" in each)
    )
    assert int(number) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "1: data: no entry of data is a KubeProxyConfiguration; write the one of kube-proxy into a file"),
        ("data: {a: b}\n", "3: data: no entry of data is"),
        ("data: 5\n", "3: data: no entry of data is"),
        (
            "data: {a: 'kind: KubeProxyConfiguration', b: 'kind: KubeProxyConfiguration'}\n",
            "3: data: 2 entries of data",
        ),
        ("data:\n  a: |\n    kind: KubeProxyConfiguration\n    x: [\n", "not YAML"),
        ("data:\n  a: |\n    - kind: KubeProxyConfiguration\n", "5: holds a list; write 'key: value' lines"),
    ],
)
def test_a_config_map_without_one_is_told(tmp_path: Path, data: str, message: str) -> None:
    (line,) = problems(tmp_path, f"apiVersion: v1\nkind: ConfigMap\n{data}")
    assert message in line


# --- as a pod has it ------------------------------------------------------------------------------------------


@pytest.mark.proves("W4")
def test_a_volume_is_believed_if_nobody_else_can_write_to_it_wherever_it_is_mounted(tmp_path: Path) -> None:
    """A projected volume is sticky (1777); a plain ConfigMap's is not (0777), and the mount without writing is ours.

    With ProtectSystem=strict, as the unit has it, every directory is on such a mount: that says nothing of others.
    """
    volume, inside = tmp_path / "volume", tmp_path / "pod"
    (volume / "..1").mkdir(parents=True)
    inside.mkdir()
    (volume / "..1" / "config.conf").write_text(f"{HEAD}colour: blue\n")
    (volume / "..data").symlink_to("..1")
    (volume / "config.conf").symlink_to("..data/config.conf")
    script = (
        'mount --bind "$1" "$2" && mount -o "remount,bind,$3" "$2" && exec "$4" render -f - --config "$2/config.conf"'
    )

    def said(mode: int, how: str) -> str:
        volume.chmod(mode)
        words = ["unshare", "--mount", "sh", "-c", script, "sh", str(volume), str(inside), how, str(SCRIPT)]
        return subprocess.run(words, capture_output=True, text=True, input="", timeout=60, check=False).stderr

    assert "colour (unknown)" in said(0o1777, "ro")
    assert f"may write to {inside}; it is read-only for us alone" in said(0o777, "ro")
    assert f"may write to {inside}; chmod go-w" in said(0o777, "rw")


ODD = (
    "5",
    "-1",
    "1.5",
    "true",
    "[]",
    "[1]",
    "[null]",
    "{}",
    "{a: 1}",
    "[[x]]",
    '""',
    '"\\0"',
    "'0x10'",
    "1e400",
    "2026-01-01",
)


@pytest.mark.parametrize("path", sorted(_KNOWN), ids=".".join)
def test_nothing_that_may_stand_in_a_field_is_a_fall(tmp_path: Path, path: tuple[str, ...]) -> None:
    """It is taken, or it is told with its line."""
    for value in ODD:
        text = f"{path[0]}: {value}" if len(path) == 1 else f"{path[0]}: {{{path[1]}: {value}}}"
        head = "".join(line + "\n" for line in HEAD.splitlines() if not line.startswith(f"{path[0]}:"))
        file = write(tmp_path, f"{head}{text}\n")
        told = ""
        try:
            load_config(file, {})
        except ConfigError as error:
            told = str(error)
        assert all(re.match(rf"{file}:\d+: ", line) for line in told.splitlines()), told


@pytest.mark.parametrize("section", sorted({path[0] for path in _KNOWN if len(path) > 1}))
def test_what_stands_in_the_place_of_a_section_is_told_once(tmp_path: Path, section: str) -> None:
    for value in ("5", "text", "[a]", "true"):
        (line,) = problems(tmp_path, f"{HEAD}{section}: {value}\n")
        assert line.startswith(f"3: {section}: ")
        assert line.endswith("stands where fields belong; write them below it, or leave it out")
