"""What the commands program of an API server, and follow live, in a network namespace of its own.

By itself: from here on this process is in a namespace where no server of another module is to be reached.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from lab.namespaces import Namespace, in_namespace
from tests.cli.program import Program
from tests.kubernetes.commanding import endpoint_slice, service
from tests.kubernetes.running import apiserver

pytestmark = pytest.mark.proves("W7")


@pytest.mark.usefixtures("private_namespaces")
def test_what_is_programmed_does_not_differ_and_is_followed_live(tmp_path: Path) -> None:
    namespace = Namespace()

    def work() -> list[tuple[int, str]]:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=60)
        with apiserver(tmp_path / "apiserver") as server:
            for each in (service(), endpoint_slice("web-1", "10.244.1.5")):
                server.create({**each, "metadata": {**each["metadata"], "namespace": "default"}})
            address = server.get("Service", "default", "web")["spec"]["clusterIP"]
            config = tmp_path / "config.yaml"
            config.write_text(yaml.safe_dump({"runDir": str(tmp_path / "run"), "stateDir": str(tmp_path / "state")}))
            common = ["--kubeconfig", str(server.kubeconfig), "--node-name", "worker-1", "--config", str(config)]
            done = []
            for words in ("diff", "sync --once", "diff", f"trace 192.0.2.7 {address} --port 80 --live -o json"):
                answer = Program(tmp_path).run(*words.split(), *common, env={})
                done.append((answer.code, answer.out))
            return done

    try:
        before, synced, after, traced = in_namespace(namespace, work, timeout=600)
    finally:
        namespace.close()
    assert (before[0], "10.244.1.5" in before[1]) == (1, True), before
    assert synced[0] == 0, synced
    assert after == (0, ""), after
    assert [each["destination"] for each in json.loads(traced[1])["outcomes"]] == ["10.244.1.5"], traced
