"""deploy/kubernetes as kustomize puts it together. Debian has no package of that, so the little is done here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes.running import ROOT

DEPLOY = ROOT / "deploy" / "kubernetes"
BASE, KUBEADM, MONITORING = DEPLOY / "base", DEPLOY / "kubeadm", DEPLOY / "monitoring"

Manifest = dict[str, Any]


def built(directory: Path, *components: Path) -> list[Manifest]:
    """What ``kubectl kustomize`` prints for a directory, with components."""
    found: list[Manifest] = []
    for place in (directory, *components):
        kustomization = yaml.safe_load((place / "kustomization.yaml").read_text())
        known = {"apiVersion", "kind", "namespace", "resources", "images", "patches"}
        assert set(kustomization) <= known, "more than this knows of kustomize"
        for resource in kustomization["resources"]:
            path = (place / resource).resolve()
            found += built(path) if path.is_dir() else _documents(path)
        for image in kustomization.get("images", ()):
            for container in _containers(found):
                if container["image"] == image["name"]:
                    container["image"] = f"{image['newName']}:{image['newTag']}"
        for patch in kustomization.get("patches", ()):
            [target] = [each for each in found if _named(each) == tuple(patch["target"].values())]
            change = yaml.safe_load(patch["patch"])
            if isinstance(change, dict):
                assert change.pop("$patch") == "delete"
                found.remove(target)
                continue
            for step in change:
                patched(target, step)
    return found


def the(manifests: list[Manifest], kind: str) -> Manifest:
    """The one of this kind."""
    [found] = [each for each in manifests if each["kind"] == kind]
    return found


def container(manifests: list[Manifest]) -> Manifest:
    """The DaemonSet's only container."""
    [found] = _containers(manifests)
    return found


def _documents(path: Path) -> list[Manifest]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def _containers(manifests: list[Manifest]) -> list[Manifest]:
    spec = the(manifests, "DaemonSet")["spec"]["template"]["spec"]
    return [*spec.get("initContainers", ()), *spec["containers"]]


def _named(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def patched(target: Any, step: Manifest) -> None:
    """Carry out one step of a JSON patch (RFC 6902)."""
    *way, last = step["path"].strip("/").split("/")
    for part in way:
        target = target[int(part)] if isinstance(target, list) else target[part]
    match step["op"], target:
        case "add", list():
            target.insert(len(target) if last == "-" else int(last), step["value"])
        case "add", dict():
            target[last] = step["value"]
        case "replace", list():
            target[int(last)] = step["value"]
        case "replace", dict():
            assert last in target
            target[last] = step["value"]
        case _:
            raise AssertionError(f"not known here: {step}")
