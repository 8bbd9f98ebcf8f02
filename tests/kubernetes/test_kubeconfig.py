"""Kubeconfigs as people have them: which file, context, cluster and user count, and what is said of what is wrong."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeport_nft.config.kubeconfig import Access, Pem, find_access
from nodeport_nft.problems import Problems
from tests.kubernetes.certificates import Authority

pytestmark = pytest.mark.proves("W3")

PEM = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
INLINE = base64.b64encode(PEM).decode()
CLUSTER = {"server": "https://10.0.0.1:6443"}


def document(
    cluster: object = None, user: object = None, name: str = "prod", current: str | None = "prod"
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": current,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": CLUSTER if cluster is None else cluster}],
        "users": [{"name": name, "user": {"token": "secret-token"} if user is None else user}],
    }


def write(path: Path, content: object, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    path.chmod(mode)
    return path


def found(path: Path, context: str = "") -> Access:
    return find_access(str(path), context, {})


def wrong(path: Path | str, context: str = "", environ: Mapping[str, str] | None = None) -> list[str]:
    """What is said, without the directory of the test."""
    with pytest.raises(Problems) as raised:
        find_access(str(path), context, environ or {})
    return [line.replace(f"{Path(path).parent}/", "") for line in str(raised.value).split("\n")]


# --- which file, which context ------------------------------------------------


def test_the_current_context_counts_and_another_where_it_is_named(tmp_path: Path) -> None:
    both = document()
    other = document({"server": "https://other"}, {"username": "me", "password": "p"}, "stage")
    for section in ("contexts", "clusters", "users"):
        both[section] += other[section]
    path = write(tmp_path / "config", both)
    assert found(path).cluster.server == "https://10.0.0.1:6443"
    stage = found(path, "stage")
    assert (stage.cluster.server, stage.user.username, stage.user.password) == ("https://other", "me", "p")
    assert stage.name == f"context stage of {path}"
    assert wrong(path, "stag") == ['config: context: there is no context "stag"; did you mean stage?']
    assert wrong(path, "x") == ['config: context: there is no context "x"; there are prod, stage']


def test_of_several_files_the_first_that_has_a_name_wins(tmp_path: Path) -> None:
    """And the first current context; relative paths begin at the file that they stand in."""
    (tmp_path / "two").mkdir()
    write(tmp_path / "two" / "ca.pem", PEM.decode(), 0o644)
    first = document({"server": "https://first"}, current="")
    first["users"] = None
    second = document({"server": "https://second"}, {"token": "of-second"})
    second["clusters"].append(
        {"name": "far", "cluster": {"server": "https://far", "certificate-authority": "ca.pem"}}
    )
    second["contexts"].append({"name": "far", "context": {"cluster": "far", "user": "prod"}})
    paths = [write(tmp_path / "one" / "config", first), write(tmp_path / "two" / "config", second)]
    environ = {"KUBECONFIG": f"{tmp_path / 'missing'}::{paths[0]}:{paths[1]}"}
    made = find_access("", "", environ)
    assert (made.cluster.server, made.user.token) == ("https://first", "of-second")
    assert made.files == tuple(map(str, paths))
    far = find_access("", "far", environ)
    assert far.cluster.ca == Pem(path=str(tmp_path / "two" / "ca.pem"))


def test_where_it_is_looked_for(tmp_path: Path) -> None:
    """``--kubeconfig``, ``$KUBECONFIG``, the pod's account, ``~/.kube/config``."""
    named = write(tmp_path / "named", document({"server": "https://named"}))
    environ = write(tmp_path / "environ", document({"server": "https://environ"}))
    write(tmp_path / ".kube" / "config", document({"server": "https://home"}))
    account = tmp_path / "account"
    write(account / "token", "of-the-pod")
    write(account / "ca.crt", PEM.decode())
    pod = {"KUBERNETES_SERVICE_HOST": "fd00:10:96::1", "KUBERNETES_SERVICE_PORT": "443", "HOME": str(tmp_path)}
    everything = {**pod, "KUBECONFIG": str(environ)}

    def server(kubeconfig: str, given: Mapping[str, str]) -> str:
        return find_access(kubeconfig, "", given, account=str(account)).cluster.server

    assert server(str(named), everything) == "https://named"
    assert server("", everything) == "https://environ"
    assert server("", pod) == "https://[fd00:10:96::1]:443"
    assert server("", {"HOME": str(tmp_path)}) == "https://home"
    made = find_access("", "", {**pod, "KUBERNETES_SERVICE_HOST": "10.96.0.1"}, account=str(account))
    assert made.cluster.server == "https://10.96.0.1:443"
    assert (made.user.token_file, made.cluster.ca.path) == (str(account / "token"), str(account / "ca.crt"))
    with pytest.raises(Problems, match=r"context: .*has no contexts"):
        find_access("", "prod", pod, account=str(account))
    with pytest.raises(Problems, match=r"\$KUBECONFIG is not set.*name one with --kubeconfig"):
        find_access("", "", {"HOME": str(tmp_path / "nowhere")}, account=str(tmp_path))
    with pytest.raises(Problems, match="no such file is there"):
        find_access("", "", {"KUBECONFIG": str(tmp_path / "missing")})


def test_json_and_an_empty_file(tmp_path: Path) -> None:
    import json

    assert found(write(tmp_path / "json", json.dumps(document()))).user.token == "secret-token"
    assert wrong(write(tmp_path / "empty", "")) == ["empty: current-context: is not set; is this the right file?"]
    with pytest.raises(Problems, match="current-context: is not set"):
        find_access("", "", {"KUBECONFIG": "/dev/null"})


# --- what it says -------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "extra", "expected"),
    [
        ("https://10.0.0.1:6443/", {}, "https://10.0.0.1:6443"),
        ("https://rancher/k8s/clusters/c-1/", {}, "https://rancher/k8s/clusters/c-1"),
        ("https://[fd00::1]:6443", {}, "https://[fd00::1]:6443"),
        ("10.0.0.1:6443", {"insecure-skip-tls-verify": True}, "https://10.0.0.1:6443"),
        ("10.0.0.1:6443", {"certificate-authority-data": INLINE}, "https://10.0.0.1:6443"),
        ("localhost:8001", {}, "http://localhost:8001"),
        ("http://127.0.0.1:8001", {}, "http://127.0.0.1:8001"),
    ],
)
def test_servers(tmp_path: Path, server: str, extra: dict[str, Any], expected: str) -> None:
    assert found(write(tmp_path / "config", document({"server": server, **extra}))).cluster.server == expected


def test_everything_of_a_cluster_and_a_user(tmp_path: Path) -> None:
    key = INLINE.replace("\n", "")
    cluster = {
        "server": "https://api", "certificate-authority-data": INLINE, "tls-server-name": "kubernetes",
        "proxy-url": "http://me:secret@proxy:3128", "disable-compression": True,
        "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}],
    }  # fmt: skip
    user = {
        "client-certificate-data": INLINE, "client-key-data": key, "as": "jane", "as-uid": "7",
        "as-groups": ["a", "b"], "as-user-extra": {"Scopes": ["view", "edit"]},
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": "./bin/plugin", "args": ["--x", ""],
            "env": [{"name": "A", "value": "b"}], "installHint": "get it", "provideClusterInfo": True,
            "interactiveMode": "IfAvailable",
        },
    }  # fmt: skip
    made = found(write(tmp_path / "config", document(cluster, user)))
    assert made.warnings == ()
    assert made.cluster.ca == Pem(data=PEM)
    assert (made.cluster.tls_server_name, made.cluster.proxy) == ("kubernetes", "http://me:secret@proxy:3128")
    assert (made.cluster.is_compressed, made.cluster.exec_config) == (False, {"audience": "x"})
    assert made.user.certificate == made.user.key == Pem(data=PEM)
    assert (made.user.as_user, made.user.as_uid, made.user.as_groups) == ("jane", "7", ("a", "b"))
    assert made.user.as_extra == (("Scopes", ("view", "edit")),)
    plugin = made.user.plugin
    assert plugin is not None
    assert (plugin.command, plugin.arguments) == (str(tmp_path / "bin" / "plugin"), ("--x", ""))
    assert (plugin.environment, plugin.install_hint, plugin.tells_cluster) == ((("A", "b"),), "get it", True)
    assert "secret" not in repr(made)


# --- what is wrong ------------------------------------------------------------

EXEC = {"apiVersion": "client.authentication.k8s.io/v1", "command": "x", "interactiveMode": "Never"}


@pytest.mark.parametrize(
    ("cluster", "user", "told"),
    [
        ({}, None, "clusters[0].cluster.server: is missing; write it as https://10.0.0.1:6443"),
        ({"server": 6443}, None, "server: 6443 is a number, not a URL"),
        ({"server": "ftp://x"}, None, 'server: "ftp" is not a scheme of an API server'),
        ({"server": "https://me:secret@x"}, None, "server: has a user in it; name it under users"),
        ({"server": "https://x?a=b"}, None, "server: .* has more than a path behind its host"),
        ({"server": "https://:6443"}, None, "server: names no host"),
        ({"server": "https://x:99999"}, None, "server: is not a URL"),
        ({"server": "https://x y"}, None, "server: is not a URL"),
        ({**CLUSTER, "proxy-url": "socks5://p:1080"}, None, 'proxies of the kind "socks5" are not supported'),
        ({**CLUSTER, "proxy-url": "http://me:secret"}, None, "proxy-url: is not a URL; write it as http://10.0.0.1:3128"),
        ({**CLUSTER, "proxy-url": "p:3128"}, None, "proxy-url: .*; write it as http|not supported"),
        ({**CLUSTER, "certificate-authority": "no.pem"}, None, "authority: no.pem: there is no such file"),
        ({**CLUSTER, "certificate-authority-data": "%%%"}, None, "certificate-authority-data: is not base64"),
        ({**CLUSTER, "certificate-authority-data": PEM.decode()}, None, "is not base64; it is PEM already"),
        ({**CLUSTER, "certificate-authority-data": "aGVsbG8="}, None, "is base64, and not of PEM"),
        ({**CLUSTER, "insecure-skip-tls-verify": "yes"}, None, 'insecure-skip-tls-verify: "yes" is neither true nor'),
        (
            {**CLUSTER, "insecure-skip-tls-verify": True, "certificate-authority-data": INLINE},
            None,
            "insecure-skip-tls-verify: is true, and there is an authority to verify by",
        ),
        (["x"], None, "clusters[0].cluster: a list stands where 'key: value' lines belong"),
        (None, "me", "users[0].user: \"me\" stands where 'key: value' lines belong"),
        (None, {"token": 123456}, "user.token: is not text (not shown, since it is a secret); put it in"),
        (None, {"token": "a\nb"}, "token: has a line break"),
        (None, {"tokenFile": "no"}, "tokenFile: no: there is no such file"),
        (None, {"client-certificate-data": INLINE}, "client-key: is missing"),
        (None, {"client-key-data": INLINE}, "client-certificate: is missing"),
        (None, {"password": "p"}, "username: is missing"),
        (None, {"username": "a:b", "password": "p"}, 'username: "a:b" has a colon in it'),
        (None, {"username": "a", "password": "p", "token": "t"}, "username: stands beside a token"),
        (None, {"token": "t", "as-groups": ["a"]}, "as-groups: is there without `as`"),
        (None, {"token": "t", "as": "a\nb"}, "as: .* has characters that cannot be printed"),
        (None, {"token": "t", "as": "a", "as-groups": "g"}, 'as-groups: "g" stands where a list belongs'),
        (None, {"auth-provider": {"name": "oidc"}}, 'auth-provider: "oidc" is not supported; use exec with'),
        (None, {"auth-provider": {"name": "gcp"}}, "gke-gcloud-auth-plugin"),
        (None, {"auth-provider": {"name": "own"}}, 'auth-provider: "own" is not supported; use exec'),
        (None, {"exec": "kubelogin"}, "exec: \"kubelogin\" stands where 'key: value' lines belong"),
        (None, {"exec": {**EXEC, "apiVersion": "client.authentication.k8s.io/v1alpha1"}}, "1.24 has taken out"),
        (None, {"exec": {**EXEC, "apiVersion": ""}}, "exec.apiVersion: is missing"),
        (None, {"exec": {**EXEC, "command": ""}}, "exec.command: is missing"),
        (None, {"exec": {**EXEC, "interactiveMode": None}}, "exec.interactiveMode: is missing, and v1 wants it"),
        (None, {"exec": {**EXEC, "interactiveMode": "Always"}}, "Always asks somebody at a terminal"),
        (None, {"exec": {**EXEC, "interactiveMode": "Sometimes"}}, '"Sometimes" is not a mode'),
        (None, {"exec": {**EXEC, "args": [1]}}, "exec.args[0]: 1 is a number, not an argument; write \"1\""),
        (None, {"exec": {**EXEC, "env": [{"name": "A=B"}]}}, "exec.env[0].name: is not a name of a variable"),
    ],
)  # fmt: skip
def test_each_wrong_field_is_told_with_its_place(tmp_path: Path, cluster: Any, user: Any, told: str) -> None:
    lines = wrong(write(tmp_path / "config", document(cluster, user)))
    assert len(lines) == 1
    assert re.match(r"config:\d+: ", lines[0]), lines
    assert told in lines[0] or re.search(told, lines[0]), lines


def test_all_that_is_wrong_is_told_at_once_by_line(tmp_path: Path) -> None:
    cluster = {"proxy-url": "socks5://x", "insecure-skip-tls-verify": "maybe", "server": "ftp://x"}
    path = write(tmp_path / "config", document(cluster, {"token": 1, "client-key-data": "%"}))
    lines = wrong(path)
    fields = [line.split(": ")[1].rpartition(".")[2] for line in lines]
    assert fields == [
        "proxy-url",
        "insecure-skip-tls-verify",
        "server",
        "client-certificate",
        "token",
        "client-key-data",
    ]
    numbers = [int(line.split(":")[1]) for line in lines]
    assert numbers == sorted(numbers)
    text = path.read_text().split("\n")
    for line, field in zip(lines, fields, strict=True):
        if field != "client-certificate":  # that is missing, so it is told where it belongs
            assert text[int(line.split(":")[1]) - 1].strip().startswith(f"{field}:")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"clusters": None}, 'contexts[0].context.cluster: there is no cluster "prod"; there is none at all'),
        ({"users": [{"name": "prof", "user": {}}]}, 'context.user: there is no user "prod"; did you mean prof?'),
        ({"contexts": None}, 'current-context: there is no context "prod"; there is no context at all'),
        ({"contexts": [{"name": "prod", "context": {"user": "prod"}}]}, "context.cluster: is missing"),
        ({"contexts": [{"name": "prod", "context": None}]}, "context.cluster: is missing"),
        ({"contexts": "x"}, 'contexts: "x" stands where a list belongs'),
        ({"current-context": None}, "current-context: is not set; choose one of prod with --context"),
        ({"current-context": "pord"}, 'current-context: there is no context "pord"; did you mean prod?'),
        ({"clusters": [{"cluster": CLUSTER}]}, "clusters[0].name: is missing; name the cluster"),
        ({"users": 2 * [{"name": "prod", "user": {}}]}, 'users[1].name: "prod" is there twice'),
        ({"kind": "Pod"}, 'kind: "Pod" is not a kubeconfig'),
    ],
)
def test_each_wrong_way_from_a_context_is_told(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    lines = wrong(write(tmp_path / "config", {**document(), **change}))
    assert any(told in line for line in lines), lines


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "config:2: not YAML"),
        ("- a", "config:1: holds a list; write 'key: value' lines"),
        ("a: b\n---\nc: d\n", "config:3: a second document begins; write one"),
        ("\x00", "config:1: U+0000 is not allowed in YAML"),
    ],
)
def test_what_is_no_kubeconfig(tmp_path: Path, text: str, told: str) -> None:
    assert any(told in line for line in wrong(write(tmp_path / "config", text)))


def test_slips_and_what_had_better_be_otherwise_are_warned_of(tmp_path: Path) -> None:
    cluster = {"server": "http://10.0.0.1", "certificate-authority-dat": "x"}
    path = write(tmp_path / "config", document(cluster), 0o644)
    warned = [re.sub(r"/\S*/", "", each) for each in found(path).warnings]
    assert [re.search(told, each) is not None for told, each in zip(
        (
            r"config:\d+: clusters\[0\].cluster.certificate-authority-dat: unknown field.*did you mean cert",
            r"config:\d+: clusters\[0\].cluster.server: is http, so that everybody between",
            r"config:\d+: users\[0\].user.token: is a secret, and everybody may read it; chmod o-rwx config",
        ), warned, strict=True,
    )] == [True] * 3, warned  # fmt: skip
    assert "secret-token" not in "".join(warned)
    insecure = {**CLUSTER, "insecure-skip-tls-verify": True}
    (told,) = found(write(tmp_path / "config", document(insecure))).warnings
    assert "the server's certificate is not verified" in told


def test_what_others_can_write_is_not_believed(tmp_path: Path) -> None:
    """A kubeconfig names programs to be run as we are; a token of others' is theirs."""
    assert wrong(write(tmp_path / "config", document(), 0o666)) == [
        "config: others than its owner may write to config; chmod go-w config"
    ]
    token = write(tmp_path / "token", "t", 0o622)
    ca = write(tmp_path / "ca.pem", PEM.decode(), 0o666)
    cluster = {**CLUSTER, "certificate-authority": str(ca)}
    lines = wrong(write(tmp_path / "good", document(cluster, {"tokenFile": str(token)})))
    assert [line.split(": ")[1].rpartition(".")[2] for line in lines] == ["certificate-authority", "tokenFile"]
    assert all("others than its owner may write to" in line for line in lines)


def test_a_secret_file_that_everybody_may_read_is_warned_of(tmp_path: Path) -> None:
    token = write(tmp_path / "token", "t", 0o644)
    (told,) = found(write(tmp_path / "config", document(user={"tokenFile": str(token)}))).warnings
    assert told.endswith(f"everybody may read {token}, and it is a secret; chmod o-rwx {token}")


def test_missing_files_are_told(tmp_path: Path) -> None:
    assert wrong(tmp_path / "no") == ["no: no such file; name another with --kubeconfig"]
    assert "is not a regular file" in wrong(tmp_path)[0]
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in wrong(tmp_path / "pipe")[0]


def test_certificates_of_files(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("me", "/CN=me")
    key.chmod(0o600)
    user = {"client-certificate": certificate.name, "client-key": str(key)}
    made = found(write(tmp_path / "config", document({**CLUSTER, "certificate-authority": "ca.pem"}, user)))
    assert made.user.certificate == Pem(path=str(certificate))
    assert made.user.key == Pem(path=str(key))
    assert made.cluster.ca == Pem(path=str(authority.certificate))
    assert made.warnings == ()
