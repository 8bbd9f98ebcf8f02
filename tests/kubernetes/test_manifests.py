"""deploy/kubernetes: manifests that API servers of several versions take, and that fit each other and the program."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from nodeport_nft import __version__
from nodeport_nft.config import load_config
from tests.kubernetes.manifests import BASE, DEPLOY, KUBEADM, MONITORING, Manifest, built, container, patched, the
from tests.kubernetes.running import ROOT

OLDEST = "1.30.0"
VERSIONS = [OLDEST, kubernetes_validate.latest_version()]
BUILDS = {"base": (BASE,), "kubeadm": (KUBEADM,), "monitoring": (BASE, MONITORING)}


@pytest.fixture(params=BUILDS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return built(*BUILDS[request.param])


@pytest.mark.proves("W8")
@pytest.mark.parametrize("version", VERSIONS)
def test_api_servers_old_and_new_take_the_manifests(manifests: list[Manifest], version: str) -> None:
    for manifest in manifests:
        if manifest["apiVersion"] != "monitoring.coreos.com/v1":  # the Prometheus operator's own
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "slip",
    [
        lambda spec: spec.update(hostNetworks=True),
        lambda spec: spec.update(tolerations="all"),
        lambda spec: spec["containers"][0].pop("name"),
        lambda spec: spec["containers"][0]["securityContext"].update(capabilitys={}),
    ],
)
def test_a_slip_would_be_found(slip: Any, version: str) -> None:
    manifest = the(built(BASE), "DaemonSet")
    slip(manifest["spec"]["template"]["spec"])
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_each_file_belongs_to_a_kustomization() -> None:
    for directory in (BASE, KUBEADM, MONITORING):
        kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text())
        named = {(directory / each).resolve() for each in kustomization["resources"]}
        assert {each for each in directory.iterdir() if each.name != "kustomization.yaml"} <= named
    assert {each for each in DEPLOY.iterdir() if each.is_dir()} == {BASE, KUBEADM, MONITORING}


def test_files_that_are_named_are_there() -> None:
    texts = [each.read_text() for each in (ROOT / "deploy").rglob("*") if each.is_file()]
    named = {path for text in texts for path in re.findall(r"\b(?:tests|docs|deploy|contrib)/[\w./-]*\w", text)}
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_names_lead_to_each_other(manifests: list[Manifest]) -> None:
    """Accounts, roles, labels, ConfigMaps and volumes: a slip in one would be found by no schema."""
    account, daemonset = the(manifests, "ServiceAccount"), the(manifests, "DaemonSet")
    binding, role = the(manifests, "ClusterRoleBinding"), the(manifests, "ClusterRole")
    pod = daemonset["spec"]["template"]
    assert pod["spec"]["serviceAccountName"] == account["metadata"]["name"]
    [subject] = binding["subjects"]
    assert (subject["name"], subject["namespace"]) == (account["metadata"]["name"], account["metadata"]["namespace"])
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == (role["kind"], role["metadata"]["name"])
    assert daemonset["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    mounted = {mount["name"] for mount in container(manifests)["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}
    configured = {
        source["configMap"]["name"]
        for volume in pod["spec"]["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
    }
    maps = {each["metadata"]["name"] for each in manifests if each["kind"] == "ConfigMap"}
    assert configured - maps <= {"kube-proxy"}, "kubeadm makes that one"
    assert maps <= configured
    for service in (each for each in manifests if each["kind"] == "Service"):
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        monitor = the(manifests, "ServiceMonitor")
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert {each["metadata"].get("namespace", "kube-system") for each in manifests} == {"kube-system"}


def test_a_volume_of_a_configuration_is_one_that_the_program_believes(manifests: list[Manifest]) -> None:
    """kubelet lets everybody write into the directory of a plain ConfigMap volume, and not of a projected one."""
    volumes = the(manifests, "DaemonSet")["spec"]["template"]["spec"]["volumes"]
    assert [volume["name"] for volume in volumes if "configMap" in volume or "secret" in volume] == []
    assert [volume["name"] for volume in volumes if "projected" in volume] == ["configuration"]


def test_the_image_is_of_this_version() -> None:
    assert container(built(BASE))["image"] == f"nodeport-nft:{__version__}"


def test_the_configuration_is_read_without_a_complaint(tmp_path: Path) -> None:
    data = the(built(BASE), "ConfigMap")["data"]
    (tmp_path / "config.yaml").write_text(data["config.yaml"])
    config = load_config(str(tmp_path / "config.yaml"), {})
    assert config.store == "kubernetes:"
    assert config.warnings == ()
    mounts = {mount["name"]: mount["mountPath"] for mount in container(built(BASE))["volumeMounts"]}
    assert Path(config.kubeconfig) == Path(mounts["configuration"], "kubeconfig")
    assert set(data) == {"config.yaml", "kubeconfig"}
    # What is commented out is right as well.
    (tmp_path / "config.yaml").write_text(re.sub(r"^#(\w+:)", r"\1", data["config.yaml"], flags=re.MULTILINE))
    assert load_config(str(tmp_path / "config.yaml"), {}) != config


def test_probes_ask_where_the_program_answers() -> None:
    config = yaml.safe_load(the(built(BASE), "ConfigMap")["data"]["config.yaml"])
    port = int(config["healthzBindAddress"].rpartition(":")[2])
    probes = {name: value for name, value in container(built(BASE)).items() if name.endswith("Probe")}
    assert {name: (probe["httpGet"]["path"], probe["httpGet"]["port"]) for name, probe in probes.items()} == {
        "startupProbe": ("/livez", port),
        "livenessProbe": ("/livez", port),
        "readinessProbe": ("/healthz", port),
    }


# --- docs/kubernetes.md -----------------------------------------------------------------------------------------


def test_the_patches_in_the_documentation_fit_the_daemonset() -> None:
    text = (ROOT / "docs" / "kubernetes.md").read_text().replace("\\\n", " ")
    found = re.findall(r"patch daemonset nodeport-nft --type json\s+-p '(\[.*?\])'", text, re.DOTALL)
    assert len(found) == 2, "to take away what kube-proxy has left, and to go back"
    for change in found:
        manifests = built(BASE)
        before = copy.deepcopy(container(manifests)["args"])
        for step in json.loads(change):
            patched(the(manifests, "DaemonSet"), step)
        assert container(manifests)["args"] != before
        kubernetes_validate.validate(the(manifests, "DaemonSet"), OLDEST, strict=True)


def test_what_the_documentation_names_is_there() -> None:
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    paths = set(re.findall(r"\b(?:deploy|contrib|tests|docs)/[\w./-]+\w", text))
    assert "deploy/kubernetes/base/rbac.yaml" in paths
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    told = set(re.findall(r"^\| `([A-Z]\w+)` \| (?:Service|Node) \|", text, re.MULTILINE))
    source = (ROOT / "src" / "nodeport_nft" / "daemon" / "happenings.py").read_text()
    assert told == set(re.findall(r'"([A-Z][a-z]+[A-Z][a-z]+)"', source)), "the reasons of Events"
