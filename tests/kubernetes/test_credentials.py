"""Who we are, while tokens, certificates and authorities are renewed: the old ones are refused from then on."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nodeport_nft.config.kubeconfig import find_access
from nodeport_nft.store.kubernetes.client import Client
from nodeport_nft.store.kubernetes.errors import KubeconfigWrong, NoCredentials, Refused, Unreachable
from tests.cli.program import Program
from tests.kubernetes.certificates import Authority, openssl
from tests.kubernetes.kubeconfigs import asking, kubeconfig, with_client, write
from tests.kubernetes.running import ApiServer, apiserver
from tests.kubernetes.scripted import Request, answer, server_tls, serving

pytestmark = pytest.mark.proves("W3")

NODES = "/api/v1/nodes"
V1 = "client.authentication.k8s.io/v1"
V1BETA1 = "client.authentication.k8s.io/v1beta1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with apiserver(tmp_path_factory.mktemp("apiserver")) as running:
        yield running


async def ask(client: Client) -> int:
    return (await client.request("GET", NODES)).status


async def watch(client: Client) -> bool:
    async with client.stream(NODES, {"watch": "1", "timeoutSeconds": "1"}):
        return True


def config(server: ApiServer, directory: Path, user: dict[str, Any], **cluster: Any) -> Path:
    cluster = {"certificate-authority": str(server.ca_file), **cluster}
    return kubeconfig(directory / "config", server.url, user, **cluster)


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


# --- the ways to say who we are -------------------------------------------------


def test_token(server: ApiServer, tmp_path: Path) -> None:
    assert asking(config(server, tmp_path, {"token": server.token}), ask) == 200


def test_client_certificate_of_files_and_inline(server: ApiServer, tmp_path: Path) -> None:
    files = {"client-certificate": str(server.client_cert), "client-key": str(server.client_key)}
    assert asking(config(server, tmp_path, files), ask) == 200
    inline = {"client-certificate-data": encoded(server.client_cert), "client-key-data": encoded(server.client_key)}
    path = kubeconfig(
        tmp_path / "inline", server.url, inline, **{"certificate-authority-data": encoded(server.ca_file)}
    )
    assert asking(path, ask) == 200


def test_nobody_is_told_where_he_is_not_known(server: ApiServer, tmp_path: Path) -> None:
    path = config(server, tmp_path, {"token": "unheard-of"})
    with pytest.raises(
        Refused, match=r"does not know who we are.*renew what context test of .*config says"
    ) as refused:
        asking(path, ask)
    assert refused.value.code == 401
    with pytest.raises(Refused, match="does not know who we are"):
        asking(path, watch)


def test_headers_of_basic_and_of_impersonation(tmp_path: Path) -> None:
    heard: list[Request] = []

    async def answers(request: Request, writer: asyncio.StreamWriter) -> None:
        heard.append(request)
        writer.write(answer())

    async def run() -> None:
        async with serving(answers) as port:
            user = {
                "username": "jané", "password": "a:b", "as": "other", "as-uid": "7", "as-groups": ["a", "b"],
                "as-user-extra": {"example.org/scope": ["x", "y"]},
            }  # fmt: skip
            assert await with_client(kubeconfig(tmp_path / "config", f"http://127.0.0.1:{port}", user), ask) == 200

    asyncio.run(run())
    (one,) = heard
    assert base64.b64decode(one["Authorization"].removeprefix("Basic ")).decode() == "jané:a:b"
    assert [one["Impersonate-User"], one["Impersonate-Uid"]] == ["other", "7"]
    assert one.all("Impersonate-Group") == ["a", "b"]
    assert one.all("Impersonate-Extra-example.org%2Fscope") == ["x", "y"]
    assert one["User-Agent"].startswith("nodeport-nft/")


def test_commands_tell_what_is_to_be_told_of_a_kubeconfig(server: ApiServer, tmp_path: Path) -> None:
    program = Program(tmp_path)

    def said(user: dict[str, Any], **cluster: Any) -> tuple[int, str]:
        path = kubeconfig(tmp_path / "config", server.url, user, **cluster)
        done = program.run("get", "nodes", "--store", "kubernetes:", "--kubeconfig", str(path))
        return done.code, done.err.replace(f"{tmp_path}/", "")

    code, err = said({"token": server.token}, **{"insecure-skip-tls-verify": True})
    assert code == 0
    assert err.startswith("warning: config:8: clusters[0].cluster.insecure-skip-tls-verify: the server's certificate")
    assert said({"token": "x"}, **{"certificate-authority": str(server.ca_file)}) == (
        1,
        f"error: kubernetes: the API server {server.url} does not know who we are (Unauthorized); "
        "renew what context test of config says of its user\n",
    )
    assert said({"token": 1}, **{"certificate-authority": str(server.ca_file)}) == (
        2, "config:12: users[0].user.token: is not text (not shown, since it is a secret); put it in quotes\n"
    )  # fmt: skip


# --- what is renewed ------------------------------------------------------------


def test_a_token_file_that_is_renewed(server: ApiServer, tmp_path: Path) -> None:
    """As a pod's own token: the link to it leads to another file, and the old token is refused."""
    write(tmp_path / "one", server.rotate_token("filed", "system:masters", old="none"))
    (tmp_path / "token").symlink_to("one")
    path = config(server, tmp_path, {"tokenFile": str(tmp_path / "token")})

    async def work(client: Client) -> None:
        assert await ask(client) == 200
        write(tmp_path / "two", server.rotate_token("filed", "system:masters", old="filed-token-1"))
        (tmp_path / "new").symlink_to("two")
        (tmp_path / "new").rename(tmp_path / "token")
        assert await ask(client) == 200
        # Whoever writes it in place leaves it empty for a moment; the token before counts until then.
        (tmp_path / "two").write_text("")
        assert await ask(client) == 200
        (tmp_path / "token").unlink()
        assert await ask(client) == 200
        assert await watch(client)

    asking(path, work)


def test_a_token_that_is_renewed_in_the_kubeconfig(server: ApiServer, tmp_path: Path) -> None:
    first = server.rotate_token("inside", "system:masters", old="none")
    path = config(server, tmp_path, {"token": first})

    async def work(client: Client) -> None:
        assert await ask(client) == 200
        second = server.rotate_token("inside", "system:masters", old=first)
        write(path, "users: [")  # half a file is none, and counts for nothing
        with pytest.raises(Refused):
            await ask(client)
        config(server, tmp_path, {"token": second})
        assert await ask(client) == 200

    asking(path, work)


def test_the_token_of_a_pod_and_its_authority(server: ApiServer, tmp_path: Path) -> None:
    """What is found there is what the client uses; test_kubeconfig.py has where it is looked for."""
    write(tmp_path / "token", server.token)
    write(tmp_path / "ca.crt", server.ca_file.read_bytes())
    environ = {"KUBERNETES_SERVICE_HOST": server.host, "KUBERNETES_SERVICE_PORT": str(server.port)}
    made = find_access("", "", environ, account=str(tmp_path))
    assert made.cluster.server == server.url
    user = {"tokenFile": made.user.token_file}
    path = kubeconfig(tmp_path / "c", made.cluster.server, user, **{"certificate-authority": made.cluster.ca.path})
    assert asking(path, ask) == 200


def test_an_authority_and_a_certificate_that_are_renewed(tmp_path: Path) -> None:
    """The server has another authority from one moment to the next, and wants clients of it."""
    pki, ca = tmp_path / "pki", tmp_path / "ca.pem"
    pki.mkdir()
    authorities = [Authority(pki, "old"), Authority(pki, "new")]
    servers = [each.issue(f"server-{n}", "/CN=s", alternative="IP:127.0.0.1") for n, each in enumerate(authorities)]
    clients = [each.issue(f"client-{n}", "/CN=c") for n, each in enumerate(authorities)]
    user = {"client-certificate": "me.pem", "client-key": "me.key"}

    async def answers(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(body=json.dumps(request.certificate and "known")))

    async def work(client: Client, port: int) -> None:
        async with serving(answers, tls=server_tls(servers[0], authorities[0].certificate), port=port):
            assert (await client.request("GET", NODES)).body == b'"known"'
        async with serving(answers, tls=server_tls(servers[1], authorities[1].certificate), port=port):
            with pytest.raises(Unreachable, match="of an authority that is not known"):
                await ask(client)
            write(ca, authorities[1].certificate.read_bytes())
            write(tmp_path / "me.pem", clients[1][0].read_bytes())
            # Its key is yet to come: both together do not fit, so the old ones count.
            with pytest.raises(Unreachable):
                await ask(client)
            write(tmp_path / "me.key", clients[1][1].read_bytes())
            assert (await client.request("GET", NODES)).body == b'"known"'

    async def run() -> None:
        async with serving(answers) as port:
            pass
        write(ca, authorities[0].certificate.read_bytes())
        for name, source in zip(("me.pem", "me.key"), clients[0], strict=True):
            write(tmp_path / name, source.read_bytes())
        path = kubeconfig(
            tmp_path / "config", f"https://127.0.0.1:{port}", user, **{"certificate-authority": "ca.pem"}
        )
        await with_client(path, lambda client: work(client, port))

    asyncio.run(run())


def test_keys_that_cannot_be_used_are_told(server: ApiServer, tmp_path: Path) -> None:
    """Nobody is asked for a password."""
    authority = Authority(tmp_path)
    one, other = authority.issue("one", "/CN=one"), authority.issue("other", "/CN=other")
    openssl("ec", "-in", str(one[1]), "-aes256", "-passout", "pass:secret", "-out", str(tmp_path / "locked.key"))
    write(tmp_path / "junk.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    for key, told in (
        (tmp_path / "locked.key", "is encrypted, and nobody is asked for its password; decrypt it"),
        (other[1], "is a certificate of another key than .*other.key"),
        (tmp_path / "junk.key", "cannot be read as a certificate and its key"),
    ):
        user = {"client-certificate": str(one[0]), "client-key": str(key)}
        with pytest.raises(NoCredentials, match=told):
            asking(config(server, tmp_path, user), ask)
    junk = {"certificate-authority": str(write(tmp_path / "junk.pem", "nothing"))}
    with pytest.raises(NoCredentials, match=r"junk.pem: holds no certificate that can be read .*; write PEM"):
        asking(config(server, tmp_path, {"token": "t"}, **junk), ask)


def test_a_kubeconfig_that_is_wrong_is_no_client(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigWrong, match="no such file; name another with --kubeconfig"):
        asking(tmp_path / "missing", ask)


# --- programs that give credentials -----------------------------------------------


class Plugin:
    """A program that prints what the test says, and counts how often it ran."""

    def __init__(self, directory: Path, code: str = "") -> None:
        self.directory = directory
        self.path = directory / "bin" / "plugin"
        self.path.parent.mkdir()
        self.says: dict[str, Any] = {}
        write(
            self.path,
            f"#!{sys.executable} -S\nimport json, os, sys, time\n"
            f"here = {str(directory)!r}\n"
            "open(here + '/runs', 'a').write('x')\n"
            "open(here + '/task', 'w').write(os.environ['KUBERNETES_EXEC_INFO'])\n"
            "given = [sys.argv[1:], os.environ.get('GIVEN'), sys.stdin.read()]\n"
            "open(here + '/given', 'w').write(json.dumps(given))\n"
            f"{code}\n"
            "print(open(here + '/says').read())\n",
            0o755,
        )

    def will_say(self, version: str = V1, **status: str) -> None:
        said = {"apiVersion": version, "kind": "ExecCredential", "status": status}
        write(self.directory / "says", json.dumps(said))

    def user(self, version: str = V1, **more: Any) -> dict[str, Any]:
        mode = {"interactiveMode": "Never"} if version == V1 else {}
        return {"exec": {"apiVersion": version, "command": "./bin/plugin", **mode, **more}}

    @property
    def runs(self) -> int:
        path = self.directory / "runs"
        return len(path.read_text()) if path.exists() else 0


@pytest.mark.parametrize("version", [V1, V1BETA1])
def test_plugin_token_is_kept_until_it_is_refused(server: ApiServer, tmp_path: Path, version: str) -> None:
    """However many requests are refused at once, the plugin runs once for all of them."""
    plugin = Plugin(tmp_path)
    first = server.rotate_token("plugged", "system:masters", old="none")
    plugin.will_say(version, token=first)

    async def work(client: Client) -> None:
        assert await asyncio.gather(*(ask(client) for _ in range(5))) == [200] * 5
        assert plugin.runs == 1
        plugin.will_say(version, token=server.rotate_token("plugged", "system:masters", old=first))
        assert await asyncio.gather(*(ask(client) for _ in range(5)), watch(client)) == [*[200] * 5, True]
        assert plugin.runs == 2

    asking(config(server, tmp_path, plugin.user(version)), work)


def test_plugin_runs_again_when_it_has_expired(server: ApiServer, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path)

    async def work(client: Client) -> None:
        plugin.will_say(token=server.token, expirationTimestamp="2020-01-01T00:00:00Z")
        assert [await ask(client), await ask(client), plugin.runs] == [200, 200, 2]
        plugin.will_say(token=server.token, expirationTimestamp="2999-01-01T00:00:00.5+02:00")
        assert [await ask(client), await ask(client), plugin.runs] == [200, 200, 3]

    asking(config(server, tmp_path, plugin.user()), work)


def test_plugin_that_fails_is_left_alone_for_longer_and_longer(server: ApiServer, tmp_path: Path) -> None:
    """A node asks again each second while nobody answers; a login would be locked by that."""
    plugin = Plugin(tmp_path, "os.path.exists(here + '/says') or sys.exit('no login')")

    async def work(client: Client) -> None:
        begun = time.monotonic()
        for _ in range(5):
            with pytest.raises(NoCredentials, match="no login"):
                await ask(client)
        # Once, if this takes less than a second; again after one, two more, four more.
        assert plugin.runs <= 1 + math.log2(1 + time.monotonic() - begun)
        before = plugin.runs
        plugin.will_say(token=server.token)
        async with asyncio.timeout(60):
            while not await asked(client):
                await asyncio.sleep(0.1)
        assert plugin.runs == before + 1

    asking(config(server, tmp_path, plugin.user()), work)


async def asked(client: Client) -> bool:
    with suppress(NoCredentials):
        return await ask(client) == 200
    return False


def test_plugin_certificate(server: ApiServer, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path)
    texts = [path.read_text() for path in (server.client_cert, server.client_key)]
    plugin.will_say(clientCertificateData=texts[0], clientKeyData=texts[1])
    assert asking(config(server, tmp_path, plugin.user()), ask) == 200


def test_plugin_is_told_what_for(server: ApiServer, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path)
    plugin.will_say(token=server.token)
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}}
    user = plugin.user(args=["get", ""], env=[{"name": "GIVEN", "value": "b"}], provideClusterInfo=True)
    assert asking(config(server, tmp_path, user, extensions=[extension]), ask) == 200
    assert json.loads((tmp_path / "given").read_text()) == [["get", ""], "b", ""]
    assert json.loads((tmp_path / "task").read_text()) == {
        "apiVersion": V1,
        "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {
                "server": server.url,
                "certificate-authority-data": encoded(server.ca_file),
                "config": {"audience": "a"},
            },
        },
    }


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("sys.exit(3)", "failed with code 3; get it from example.org"),
        ("sys.stderr.write('no\\nhas ended\\n\\n'); sys.exit(1)", r'failed with code 1 \("has ended"\); get it'),
        ("print('{'); sys.exit(0)", "printed no JSON"),
        ("sys.exit(0)", "printed nothing"),
        ("print('[]'); sys.exit(0)", "printed no ExecCredential"),
        ("print(json.dumps({'kind': 'ExecCredential', 'apiVersion': 'x'})); sys.exit(0)", "printed version x, and"),
        ("os.kill(os.getpid(), 9)", "failed with code -9"),
        ("os.fork() or time.sleep(999); time.sleep(999)", "gave nothing within 0.5 s; run it by hand"),
    ],
)  # fmt: skip
def test_a_plugin_that_fails_is_told(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, told: str
) -> None:
    if "sleep" in code:
        monkeypatch.setattr("nodeport_nft.store.kubernetes.identity.PLUGIN_SECONDS", 0.5)
    plugin = Plugin(tmp_path, code)
    path = config(server, tmp_path, plugin.user(installHint="get it from example.org"))
    with pytest.raises(NoCredentials, match=rf"plugin \S*/bin/plugin: {told}") as raised:
        asking(path, ask)
    assert not raised.value.is_sent


def test_of_a_plugin_that_hangs_nobody_is_left(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its child holds the pipes; both are gone, so that the one end of a pipe that they had is closed."""
    os.mkfifo(tmp_path / "alive")
    reader = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    plugin = Plugin(
        tmp_path, "held = open(here + '/alive', 'w'); held.write('x'); held.flush(); os.fork()\ntime.sleep(999)"
    )
    os.set_blocking(reader, True)
    for seconds in (1, 5, 30):  # so that it has come to write something
        monkeypatch.setattr("nodeport_nft.store.kubernetes.identity.PLUGIN_SECONDS", float(seconds))
        with pytest.raises(NoCredentials, match=f"gave nothing within {seconds} s"):
            asking(config(server, tmp_path, plugin.user()), ask)
        if said := os.read(reader, 10):
            break
    assert said in (b"x", b"xx")
    assert os.read(reader, 10) == b""
    os.close(reader)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ({}, "printed neither status.token nor status.clientCertificateData"),
        ({"clientKeyData": "k"}, "printed only one of status.clientCertificateData and status.clientKeyData"),
        ({"token": 7}, "printed no text as status.token"),
        ({"token": "a\nb"}, "printed a token with line breaks in it"),
        ({"token": "t", "expirationTimestamp": "soon"}, "printed no time"),
    ],
)
def test_what_a_plugin_prints_is_looked_at(
    server: ApiServer, tmp_path: Path, status: dict[str, Any], told: str
) -> None:
    plugin = Plugin(tmp_path)
    plugin.will_say(**status)
    with pytest.raises(NoCredentials, match=told):
        asking(config(server, tmp_path, plugin.user()), ask)


def test_a_plugin_that_is_not_there_or_that_others_can_write(server: ApiServer, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path)
    user = plugin.user()
    user["exec"] |= {"command": "no-such-plugin-of-anybody", "installHint": "get it from example.org"}
    with pytest.raises(NoCredentials, match=r"there is no such program in \$PATH; get it from example.org"):
        asking(config(server, tmp_path, user), ask)
    plugin.path.chmod(0o777)
    with pytest.raises(NoCredentials, match=r"others than its owner may write to .*; chmod go-w"):
        asking(config(server, tmp_path, plugin.user()), ask)
    assert plugin.runs == 0
