"""The program's commands, run against the tests' API server: each test has a namespace of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.cli.program import Answer, Program
from tests.kubernetes.running import ApiServer


@dataclass(frozen=True, slots=True)
class Desk:
    """Where an operator sits: ``program`` in an empty directory, ``server``, and the ``namespace`` that is meant."""

    program: Program
    server: ApiServer
    namespace: str = "default"
    kubeconfig: Path | None = field(default=None)

    def run(self, *words: str, stdin: str = "") -> Answer:
        """One run, against the API server."""
        kubeconfig = self.kubeconfig or self.server.kubeconfig
        return self.program.run(*words, "--kubeconfig", str(kubeconfig), stdin=stdin)

    def __call__(self, *words: str, stdin: str = "") -> Answer:
        """One run in the namespace."""
        return self.run(*words, "-n", self.namespace, stdin=stdin)

    def ok(self, *words: str, stdin: str = "") -> str:
        """What a run printed that must succeed and has nothing to say on stderr."""
        answer = self(*words, stdin=stdin)
        assert (answer.code, answer.err) == (0, ""), answer
        return answer.out

    def apply(self, *documents: Mapping[str, Any], more: Sequence[str] = ()) -> Answer:
        """Apply these documents."""
        return self("apply", "-f", "-", *more, stdin=yaml.safe_dump_all(documents, sort_keys=False))

    def stored(self, name: str, kind: str = "Service") -> dict[str, Any]:
        """An object as the server has it."""
        return self.server.get(kind, self.namespace, name)

    def names(self, kind: str = "Service") -> list[str]:
        """What the namespace has of a kind."""
        return [each["metadata"]["name"] for each in self.server.list(kind, self.namespace)]

    def json(self, *words: str) -> Any:
        """What ``get … -o json`` gives."""
        return json.loads(self.ok("get", *words, "-o", "json"))

    def as_user(self, token: str) -> Desk:
        """The same, of another user."""
        path = self.server.write_kubeconfig(f"kubeconfig-{token}", {"token": token})
        return Desk(self.program, self.server, self.namespace, path)


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    """A Service of one port; ``spec`` goes over it."""
    own = {"type": "ClusterIP", "selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {**own, **spec}}


def endpoint_slice(name: str, *addresses: str, of: str = "web", **labels: str) -> dict[str, Any]:
    """A slice of ready endpoints on port 8080."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": of, **labels}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
    }
