"""The desired state of the lab: applied on the first worker, and through the store in every node's kernel."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vm.machines import Lab, Machine, eventually

NFT_FAMILIES = {"IPv4": "ip", "IPv6": "ip6"}


def service(
    name: str,
    node_port: int,
    *,
    protocols: Sequence[str] = ("TCP",),
    target_port: int = 8080,
    selector: Mapping[str, str] | None = None,
    families: Sequence[str] = ("IPv4", "IPv6"),
    **spec: Any,
) -> dict[str, Any]:
    """A Service of type NodePort, port 80, by default for every pod that serves, in both families."""
    ports = [
        {"name": each.lower(), "protocol": each, "port": 80, "targetPort": target_port, "nodePort": node_port}
        for each in protocols
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "type": "NodePort",
            "selector": dict(selector or {"app": "my-ser"}),
            "ipFamilyPolicy": "SingleStack" if len(families) == 1 else "PreferDualStack",
            "ipFamilies": list(families),
            "ports": ports,
            **spec,
        },
    }


class Desired:
    """Applies objects, and takes them back in the end (``clear``).

    Until then they stay: every scenario has names and nodePorts of its own, and a command takes an emulated machine
    seconds.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._first = lab.workers[0]
        self._deleted: list[dict[str, Any]] = []
        self._added: list[tuple[str, str]] = []

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects, and wait until every worker serves the nodePorts among them."""
        self.apply_unawaited(*objects)
        self.served(*(each for each in objects if each["kind"] == "Service"))

    def apply_unawaited(self, *objects: dict[str, Any]) -> None:
        """Apply objects; when they are served is for ``served`` to tell."""
        self._first.run("nodeport-nft apply -f -", text=_list(objects))
        self._added += [(each["kind"], each["metadata"]["name"]) for each in objects]

    def run_on_first(self, command: str, *makes: tuple[str, str]) -> None:
        """Run a command on the first worker that makes objects of these kinds and names there."""
        self._first.run(command)
        self._added += makes

    def served(self, *services: dict[str, Any]) -> None:
        """Wait until all workers serve the nodePorts of ``services``."""
        self._lab.everywhere(lambda worker: _wait(worker, services), self._lab.workers)

    def delete(self, *objects: dict[str, Any]) -> None:
        """Delete objects that were there from the start; ``put_back`` applies them again."""
        self._deleted += objects
        self._remove([(each["kind"], each["metadata"]["name"]) for each in objects])

    def remove(self, *objects: dict[str, Any]) -> None:
        """Delete what has been applied."""
        references = [(each["kind"], each["metadata"]["name"]) for each in objects]
        self._added = [each for each in self._added if each not in references]
        self._remove(references)

    def remove_node(self, node: dict[str, Any]) -> None:
        """Delete a Node whose machine is gone; the cluster forgets it once its registration has ended."""
        name = node["metadata"]["name"]
        self._added = [each for each in self._added if each != (node["kind"], name)]
        command = f"nodeport-nft delete node/{name} && echo forgotten"
        eventually(lambda: "forgotten" in self._first.run(command, check=False), f"{name} is forgotten")

    def put_back(self) -> None:
        """Apply again what was there and has been deleted."""
        if self._deleted:
            self._first.run("nodeport-nft apply -f -", text=_list(self._deleted))
            self._deleted = []

    def clear(self) -> None:
        """Delete what has been applied."""
        if self._added:
            self._remove(self._added)
            self._added = []

    def _remove(self, references: Sequence[tuple[str, str]]) -> None:
        words = " ".join(f"{kind.lower()}/{name}" for kind, name in dict.fromkeys(references))
        self._first.run(f"nodeport-nft delete {words}")


def _list(objects: Sequence[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def _wait(worker: Machine, services: Iterable[dict[str, Any]]) -> None:
    elements = [
        f"nft get element {NFT_FAMILIES[family]} nodeport-nft node-ports "
        f"'{{ {port['protocol'].lower()} . {port['nodePort']} }}'"
        for each in services
        for family in each["spec"]["ipFamilies"]
        for port in each["spec"]["ports"]
    ]
    if elements:
        command = f"({' && '.join(elements)}) >/dev/null && echo served"
        eventually(lambda: "served" in worker.run(command, check=False), f"{worker.name}: {command}")
