"""label, annotate, edit, expose, create and replace against an API server: whole documents are written, not parts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.program import Program
from tests.kubernetes.commanding import Desk, service
from tests.kubernetes.running import ApiServer, apiserver

pytestmark = pytest.mark.proves("W7")

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with apiserver(tmp_path_factory.mktemp("apiserver")) as running:
        yield running


@pytest.fixture
def desk(server: ApiServer, tmp_path: Path) -> Desk:
    namespace = f"test-{next(_NUMBERS)}"
    server.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    made = Desk(Program(tmp_path), server, namespace)
    made.apply(service())
    server.patch("Service", namespace, "web", {"metadata": {"labels": {"theirs": "1"}, "annotations": {"n": "1"}}})
    return made


def text(*documents: dict[str, Any]) -> str:
    return yaml.safe_dump_all(documents)


def test_what_others_have_set_stays_unless_it_is_named(desk: Desk) -> None:
    assert desk.ok("label", "svc", "web", "ours=1") == "service/web labeled\n"
    assert desk.stored("web")["metadata"]["labels"] == {"theirs": "1", "ours": "1"}
    assert desk.ok("label", "svc", "web", "theirs-") == "service/web unlabeled\n"
    assert desk.ok("annotate", "svc", "web", "n-", "nodeport-nft/load-balancing=maglev") == "service/web annotated\n"
    metadata = desk.stored("web")["metadata"]
    assert metadata["labels"] == {"ours": "1"}
    assert metadata["annotations"] == {"nodeport-nft/load-balancing": "maglev"}


def test_an_annotation_of_ours_is_checked_for_the_server(desk: Desk) -> None:
    done = desk("annotate", "svc", "web", "nodeport-nft/load-balancing=maglef", "other=fine")
    assert (done.code, done.out) == (2, "")
    assert '"maglef" is unknown; use random or maglev' in done.err
    assert desk.stored("web")["metadata"]["annotations"] == {"n": "1"}


def test_a_trial_writes_nothing(desk: Desk) -> None:
    revision = desk.server.revision()
    for how in ("client", "server"):
        for words in (
            ("label", "svc", "web", "a=b"),
            ("expose", "svc", "web", "--name=second"),
            ("create", "svc", "nodeport", "third", "--tcp=80"),
        ):
            assert f"{'server ' if how == 'server' else ''}dry run)" in desk.ok(*words, f"--dry-run={how}")
    assert desk.server.revision() == revision


def test_an_edit_takes_away_and_does_not_overwrite(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBE_EDITOR", "sed -i /theirs:/d")
    monkeypatch.setenv("TMPDIR", str(desk.program.directory))
    assert desk.ok("edit", "svc", "web") == "service/web edited\n"
    assert not desk.stored("web")["metadata"].get("labels")
    before = desk.server.revision()
    monkeypatch.setenv("KUBE_EDITOR", "sed -i -e '/resourceVersion:/d' -e 's/targetPort:.*/targetPort: 8/'")
    done = desk("edit", "svc", "web")
    assert (done.code, done.out) == (0, "service/web edited\n"), "which version was read is not the user's to say"
    assert desk.server.revision() != before


def test_replace_leaves_nothing_of_what_was(desk: Desk) -> None:
    wanted = text(service(sessionAffinity="ClientIP"))
    assert desk("replace", "-f", "-", stdin=wanted).out == "service/web replaced\n"
    stored = desk.stored("web")
    assert not stored["metadata"].get("labels")
    assert stored["spec"]["sessionAffinity"] == "ClientIP"
    missing = desk("replace", "-f", "-", stdin=text(service("none")))
    assert (missing.code, missing.out) == (1, "")
    assert 'service "none" not found' in missing.err


def test_create_of_manifests_is_all_or_none(desk: Desk) -> None:
    done = desk("create", "-f", "-", stdin=text(service("fresh"), service("web")))
    assert (done.code, done.out) == (1, "")
    assert 'service "web" already exists' in done.err
    assert desk.names() == ["web"]


def test_a_patch_changes_what_it_names_and_leaves_the_rest_to_the_server(desk: Desk) -> None:
    before = desk.stored("web")
    assert desk.ok("patch", "svc", "web", "-p", '{"spec": {"type": "NodePort"}}') == "service/web patched\n"
    after = desk.stored("web")
    assert after["spec"]["ports"][0]["nodePort"], "the server allocates"
    assert after["spec"]["clusterIP"] == before["spec"]["clusterIP"]
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    again = desk.ok("patch", "svc", "web", "-p", '{"spec": {"type": "NodePort"}}')
    assert again == "service/web patched (no change)\n"
    assert desk.stored("web") == after
    ports = '{"spec": {"ports": [{"port": 443, "name": "https"}, {"port": 80, "name": "http"}]}}'
    desk.ok("patch", "svc", "web", "-p", ports)
    listed = {port["port"]: port for port in desk.stored("web")["spec"]["ports"]}
    assert listed[80]["nodePort"] == after["spec"]["ports"][0]["nodePort"]
    assert (listed[80]["targetPort"], listed[443]["name"]) == (8080, "https")
    is_there = '{"op": "test", "path": "/metadata/labels/theirs", "value": "1"}'
    gone = f'[{is_there}, {{"op": "remove", "path": "/metadata/labels"}}]'
    assert desk.ok("patch", "svc", "web", "--type=json", "-p", gone) == "service/web patched\n"
    assert not desk.stored("web")["metadata"].get("labels")
    late = desk("patch", "svc", "web", "--type=json", "-p", gone)
    assert (late.code, late.out) == (1, "")


def test_a_patch_that_is_tried_or_wrong_writes_nothing(desk: Desk) -> None:
    revision = desk.server.revision()
    for how in ("client", "server"):
        words = ("patch", "svc", "web", "--type=merge", "-p", "{spec: {type: NodePort}}", f"--dry-run={how}")
        assert f"{'server ' if how == 'server' else ''}dry run)" in desk.ok(*words)
    unknown = desk("patch", "svc", "web", "-p", '{"spec": {"typ": "NodePort"}}')
    assert (unknown.code, unknown.out) == (2, "")
    assert "spec.typ: unknown field; did you mean type?" in unknown.err
    refused = desk("patch", "svc", "web", "-p", '{"spec": {"clusterIP": "192.0.2.1"}}')
    assert (refused.code, refused.out) == (2, "")
    assert desk.server.revision() == revision


def test_a_patch_of_what_others_write_at_once_comes_after_theirs(desk: Desk) -> None:
    read = desk.stored("web")["metadata"]["resourceVersion"]
    desk.server.patch("Service", desk.namespace, "web", {"metadata": {"labels": {"theirs": "2"}}})
    locked = f'{{"metadata": {{"resourceVersion": "{read}", "labels": {{"ours": "1"}}}}}}'
    late = desk("patch", "svc", "web", "-p", locked)
    assert (late.code, late.out) == (1, ""), "who names a version means that one"
    assert "somebody has written it since" in late.err
    desk.ok("patch", "svc", "web", "-p", '{"metadata": {"labels": {"ours": "1"}}}')
    assert desk.stored("web")["metadata"]["labels"] == {"theirs": "2", "ours": "1"}


def test_one_step_of_deleting_and_creating_is_no_servers(desk: Desk) -> None:
    revision = desk.server.revision()
    answer = desk("replace", "--force", "-f", "-", stdin=text(service()))
    assert (answer.code, answer.out) == (2, "")
    assert "kubectl replace --force does it in two steps" in answer.err
    assert desk.server.revision() == revision


def test_a_version_that_is_old_is_no_conflict_where_only_managers_would_be_others(desk: Desk) -> None:
    read = desk.ok("get", "svc", "web", "-o", "yaml")
    for tier in ("front", None):
        desk.server.patch("Service", desk.namespace, "web", {"metadata": {"labels": {"tier": tier}}})
    answer = desk("apply", "-f", "-", stdin=read)
    assert (answer.code, answer.out, answer.err) == (0, "service/web configured\n", "")


def test_an_edit_before_creating(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBE_EDITOR", "sed -i 's/name: web/name: other/'")
    monkeypatch.setenv("TMPDIR", str(desk.program.directory))
    assert desk.ok("create", "--edit", "-f", "-", stdin=text(service())) == "service/other created\n"
    assert desk.names() == ["other", "web"]


def test_a_patch_is_of_the_object_that_it_names_by_its_uid(desk: Desk) -> None:
    uid = desk.stored("web")["metadata"]["uid"]
    other = '{"metadata": {"uid": "00000000-0000-0000-0000-000000000000", "labels": {"a": "1"}}}'
    done = desk("patch", "svc", "web", "--type=merge", "-p", other)
    assert (done.code, done.out) == (2, "")
    assert "metadata.uid: is that of another object" in done.err
    taken = '{"metadata": {"uid": null, "namespace": null, "resourceVersion": null, "labels": {"a": "1"}}}'
    assert desk.ok("patch", "svc", "web", "--type=merge", "-p", taken) == "service/web patched\n"
    metadata = desk.stored("web")["metadata"]
    assert (metadata["uid"], metadata["labels"]) == (uid, {"theirs": "1", "a": "1"})
