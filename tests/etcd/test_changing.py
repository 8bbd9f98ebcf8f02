"""Commands that change objects, on a store in etcd: others are not overwritten, and it is told where nobody hears."""

from __future__ import annotations

import os
import pty
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.program import SCRIPT
from tests.etcd.members import WAIT
from tests.etcd.test_objects import with_etcd

pytestmark = [pytest.mark.proves("C5"), pytest.mark.usefixtures("private_namespaces")]


def typed(address: str, *words: str, editor: str = "true") -> tuple[int, list[str], list[str]]:
    """Exit code, stdout and what is said on the terminal of whoever types these words."""
    terminal, its_end = pty.openpty()
    done = subprocess.run(
        [SCRIPT, *words, "--store", address],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=its_end,
        text=True,
        check=False,
        timeout=WAIT,
        env={**os.environ, "KUBE_EDITOR": editor},
    )
    os.close(its_end)
    said = b""
    with suppress(OSError):  # EIO: the other end is closed
        while more := os.read(terminal, 1 << 16):
            said += more
    os.close(terminal)
    return done.returncode, done.stdout.splitlines(), said.decode().splitlines()


def test_objects_in_etcd_are_changed_as_those_in_a_file(tmp_path: Path) -> None:
    def work(address: str) -> list[tuple[int, list[str], list[str]]]:
        other = f"{SCRIPT} label svc web by=other --store {address} >/dev/null 2>&1"
        os.environ["TMPDIR"] = str(tmp_path)
        return [
            typed(address, "create", "svc", "nodeport", "web", "--tcp=80:8080"),
            typed(address, "create", "svc", "nodeport", "web", "--tcp=80:8080", "--dry-run=server"),
            typed(address, "label", "svc", "web", "a=b", "-o", "name"),
            typed(address, "edit", "svc", "web", editor="sed -i s/8080/8081/"),
            typed(address, "edit", "svc", "web", editor=f"sh -c '{other}; sed -i s/8081/8082/ $0'"),
            typed(address, "get", "svc", "web", "-o", "jsonpath={.metadata.labels}{.spec.ports[0].targetPort}"),
        ]

    made, twin, labelled, edited, late, got = with_etcd(tmp_path, work)
    assert made[:2] == (0, ["service/web created"])
    (told,) = made[2]
    assert told.startswith("no node of etcd://127.0.0.1:")
    assert told.endswith("is alive, so nothing of this is in any kernel yet: start nodeport-nft sync on one")
    assert (twin[0], twin[1]) == (1, [])
    assert labelled[:2] == (0, ["service/web"])
    assert edited[:2] == (0, ["service/web edited"])
    assert late[:2] == (1, [])
    assert "somebody has written it since" in late[2][0]
    assert got[1] == ['{"a":"b","app":"web","by":"other"}8081']


def test_a_patch_and_a_service_made_anew_in_etcd(tmp_path: Path) -> None:
    manifest = tmp_path / "web.yaml"
    manifest.write_text("{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}\n")

    def work(address: str) -> list[tuple[int, list[str], list[str]]]:
        uid = ("get", "svc", "web", "-o", "jsonpath={.metadata.uid}")
        return [
            typed(address, "apply", "-f", str(manifest)),
            typed(
                address, "patch", "svc", "web", "-p", '{"spec":{"type":"NodePort","ports":[{"port":80,"name":"a"}]}}'
            ),
            typed(address, *uid),
            typed(address, "replace", "--force", "-f", str(manifest), "--dry-run=server"),
            typed(address, *uid),
            typed(address, "replace", "--force", "-f", str(manifest)),
            typed(address, *uid),
            typed(address, "get", "svc", "web", "-o", "jsonpath={.spec.type}{.spec.ports[0].nodePort}"),
        ]

    _, patched, first, tried, same, replaced, second, got = with_etcd(tmp_path, work)
    assert patched[:2] == (0, ["service/web patched"])
    assert tried[:2] == (0, ['service "web" deleted (server dry run)', "service/web replaced (server dry run)"])
    assert replaced[:2] == (0, ['service "web" deleted', "service/web replaced"])
    assert first[1] == same[1] != second[1], "it is another object"
    assert got[1] == ["ClusterIP"]
