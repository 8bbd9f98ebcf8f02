"""The tests' API server, started as a process and steered from a test.

    with apiserver(tmp_path) as server:
        server.create({"kind": "Service", ...})
        run(["nodeport-nft", "get", "services", "--store", "kubernetes:", "--kubeconfig", str(server.kubeconfig)])

What steers it goes over a Unix socket by plain blocking calls: the test's process has no thread and no event loop for
it, and the server may be in another network namespace, and may be stopped. None of it is met by the faults, nor is it
in the log of requests.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes.apiserver.kinds import BY_NAME, Kind
from tests.kubernetes.certificates import Authority

ROOT = Path(__file__).parents[2]
SECONDS = 60.0
"""How long the server has for what it does at once on a machine with nothing else to do."""

ADMIN = "admin-token"
NOBODY = "nobody-token"
NODE_ACCOUNT = "system:serviceaccount:kube-system:nodeport-nft"

Object = dict[str, Any]
Objects = list[Object]
Popen = Callable[..., "subprocess.Popen[str]"]


class Refused(Exception):
    """The server's answer to what steers it, where that is a Status of failure or a slip in the test."""

    def __init__(self, code: int, body: Any) -> None:
        super().__init__(f"{code}: {body.get('message') if isinstance(body, dict) else body}")
        self.code = code
        self.body = body


class ApiServer:
    """A cluster's API servers (one process), their address, and the ways in.

    ``token`` is an administrator's; so are ``client_cert`` and ``client_key``. ``kubeconfig`` has the token,
    ``kubeconfig_cert`` the certificate.
    """

    def __init__(
        self, directory: Path, control: Path, addresses: Sequence[tuple[str, int]], authority: Authority
    ) -> None:
        host, port = addresses[0]
        self.addresses = addresses
        self.host, self.port = host, port
        self.url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        self.authority = authority
        self.ca_file = authority.certificate
        self.token = ADMIN
        self.client_cert, self.client_key = authority.issue("admin", "/O=system:masters/CN=admin")
        self._directory = directory
        self._control = control
        self._tokens = 0
        self.kubeconfig = self.write_kubeconfig("kubeconfig", {"token": self.token})
        certificate = {"client-certificate": str(self.client_cert), "client-key": str(self.client_key)}
        self.kubeconfig_cert = self.write_kubeconfig("kubeconfig-cert", certificate)

    def write_kubeconfig(self, name: str, user: Mapping[str, Any], **cluster: Any) -> Path:
        """A kubeconfig with these ways to say who asks, in the tests' directory."""
        document = {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": self.url, "certificate-authority": str(self.ca_file), **cluster,
            }}],
            "users": [{"name": "test", "user": dict(user)}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }  # fmt: skip
        path = self._directory / name
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        path.chmod(0o600)
        return path

    # --- objects, past all faults and also while nothing serves ---------------------------------------------

    def create(self, value: Object) -> Object:
        """Make an object, and its namespace where there is none."""
        kind = BY_NAME[value["kind"]]
        namespace = value["metadata"].get("namespace", "default") if kind.namespaced else ""
        return self._in_namespace("POST", _path(kind, namespace), namespace, value)

    def load(self, values: Sequence[Object]) -> None:
        """Make many objects at once, and their namespaces."""
        self._steer("load", {"objects": list(values)})

    def replace(self, value: Object) -> Object:
        """Write an object as a whole; with a resourceVersion in it, only over that version."""
        return self._object(self._ask("PUT", self._own_path(value), value))

    def patch(self, kind: str, namespace: str, name: str, patch: Object, *, subresource: str = "") -> Object:
        """A merge patch."""
        path = _path(BY_NAME[kind], namespace, name, subresource)
        return self._object(self._ask("PATCH", path, patch, "application/merge-patch+json"))

    def patch_status(self, kind: str, namespace: str, name: str, status: Object) -> Object:
        """A merge patch of the status."""
        return self.patch(kind, namespace, name, {"status": status}, subresource="status")

    def apply(self, value: Object, manager: str = "kubectl", *, force: bool = True) -> Object:
        """A server-side apply; it makes the namespace, too."""
        path = f"{self._own_path(value)}?fieldManager={manager}&force={'true' if force else 'false'}"
        namespace = value["metadata"].get("namespace", "default")
        return self._in_namespace("PATCH", path, namespace, value, "application/apply-patch+yaml")

    def delete(self, kind: str, namespace: str, name: str) -> None:
        self._ask("DELETE", _path(BY_NAME[kind], namespace, name))

    def get(self, kind: str, namespace: str, name: str) -> Object:
        """An object; ``Refused`` with code 404 for none."""
        return self._object(self._ask("GET", _path(BY_NAME[kind], namespace, name)))

    def list(self, kind: str, namespace: str = "") -> Objects:
        """All objects of a kind, of one namespace or of all."""
        items: Objects = self._object(self._ask("GET", _path(BY_NAME[kind], namespace)))["items"]
        return items

    # --- the servers ----------------------------------------------------------------------------------------

    def faults(self, table: Sequence[Mapping[str, Any]] | None = None) -> Objects:
        """Set the table of faults (see ``apiserver/faults.py``), and read it, each with how often it was met."""
        found: Objects = self._steer("faults", {} if table is None else {"table": [dict(fault) for fault in table]})
        return found

    def requests(self, *, clear: bool = False, **chosen: Any) -> Objects:
        """The requests so far, in their order; those with these values (``verb="list"``) where some are given."""
        found: Objects = self._steer("requests", {"clear": clear})
        return [entry for entry in found if all(entry[name] == value for name, value in chosen.items())]

    def stop(self, replica: int | None = None) -> None:
        """Let a server (all) end: connections break where they are, and new ones are refused."""
        self._steer("stop", {"replica": replica})

    def start(self, replica: int | None = None) -> None:
        """Let it serve again, under the same address. Its watch cache begins now."""
        self._steer("start", {"replica": replica})

    def restart(self, replica: int | None = None) -> None:
        """End it and begin it."""
        self.stop(replica)
        self.start(replica)

    def drop_connections(self, replica: int | None = None) -> None:
        """Break all connections; it goes on serving."""
        self._steer("drop", {"replica": replica})

    def forget(self, revision: int | None = None) -> None:
        """Lose all objects and all history: another cluster under the same address."""
        self._steer("forget", {"revision": revision})

    def compact(self, revision: int | None = None) -> None:
        """Forget the history up to a revision (all of it): watches and pages from before are too old."""
        self._steer("compact", {"revision": revision})

    def bump(self, count: int = 1) -> None:
        """Let revisions pass."""
        self._steer("bump", {"count": count})

    def options(self, *, streaming: str | None = None, bookmarks: float | None = None) -> None:
        """Change how watches are done from now on: see ``watching.Options``."""
        given = {"streaming": streaming, "bookmarks": bookmarks}
        self._steer("options", {name: value for name, value in given.items() if value is not None})

    def revision(self) -> int:
        revision: int = self._steer("status", {})["revision"]
        return revision

    def add_token(self, token: str, user: str, *groups: str) -> None:
        self._steer("tokens", {"add": {token: {"user": user, "groups": groups}}})

    def revoke(self, token: str) -> None:
        """A token that is not good any more: 401."""
        self._steer("tokens", {"revoke": [token]})

    def rotate_token(self, user: str = "admin", *groups: str, old: str | None = None) -> str:
        """A new token, an administrator's or ``user``'s; the one before it (``old``) is not good any more."""
        self._tokens += 1
        token = f"{user}-token-{self._tokens}"
        self.add_token(token, user, *(groups or ("system:masters",) if user == "admin" else groups))
        self.revoke(old or self.token)
        if user == "admin":
            self.token = token
        return token

    # --- the socket -----------------------------------------------------------------------------------------

    def _own_path(self, value: Object) -> str:
        kind = BY_NAME[value["kind"]]
        return _path(kind, value["metadata"].get("namespace", "default"), value["metadata"]["name"])

    def _in_namespace(
        self, method: str, path: str, namespace: str, value: Object, media: str = "application/json"
    ) -> Object:
        try:
            return self._object(self._ask(method, path, value, media))
        except Refused as refused:
            if refused.code != 404:
                raise
        self._ask("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        return self._object(self._ask(method, path, value, media))

    def _steer(self, what: str, body: Object) -> Any:
        return json.loads(self._ask("POST", f"/_control/{what}", body))

    def _object(self, body: bytes) -> Object:
        value: Object = json.loads(body)
        return value

    def _ask(self, method: str, path: str, body: Object | None = None, media: str = "application/json") -> bytes:
        connection = _UnixConnection(self._control)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": media} if data else {})
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            text = answer.decode()
            raise Refused(response.status, json.loads(text) if text.startswith("{") else text)
        return answer


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(str(self._path))


def _path(kind: Kind, namespace: str = "", name: str = "", subresource: str = "") -> str:
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    scope = f"/namespaces/{namespace}" if kind.namespaced and namespace else ""
    return "/".join(filter(None, (f"{root}{scope}/{kind.resource}", name, subresource)))


@contextlib.contextmanager
def apiserver(
    directory: Path,
    *,
    listen: str = "127.0.0.1:0",
    replicas: int = 1,
    streaming: str = "on",
    bookmarks: float = 60.0,
    rbac: Sequence[Path] = (),
    tokens: Mapping[str, str] | None = None,
    service_cidrs: Sequence[str] = (),
    names: Sequence[str] = (),
    popen: Popen = subprocess.Popen,
) -> Iterator[ApiServer]:
    """A cluster's API servers, until the end of the block.

    ``listen``: ADDRESS:PORT, shared by ``replicas`` servers. ``streaming``: "on", "off" (422), "broken" (ERROR event
    500). ``bookmarks``: seconds between two. ``rbac``: manifests whose roles count. ``tokens``: more of them, each
    with "USER[,GROUP...]". ``names``: more names of the server's certificate, as "DNS:api.example". ``popen`` starts
    the process, in a network namespace for one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    authority = Authority(directory)
    host = listen.rpartition(":")[0].strip("[]")
    alternative = ",".join(dict.fromkeys((f"IP:{host}", "IP:127.0.0.1", "DNS:localhost", "DNS:kubernetes", *names)))
    certificate, key = authority.issue("apiserver", "/CN=kube-apiserver", alternative=alternative)
    # A socket's path may be 107 bytes long, which pytest's directories are not sure to leave.
    short = Path(tempfile.mkdtemp(prefix="apiserver-"))
    argv = [sys.executable, "-m", "tests.kubernetes.apiserver", "--control", str(short / "control")]
    argv += ["--certificate", str(certificate), "--key", str(key), "--client-ca", str(authority.certificate)]
    argv += ["--streaming", streaming, "--bookmarks", str(bookmarks)]
    argv += ["--listen", listen] * replicas
    for token, who in {ADMIN: "admin,system:masters", NOBODY: "nobody", **(tokens or {})}.items():
        argv += ["--token", f"{token}={who}"]
    for path in rbac:
        argv += ["--rbac", str(path)]
    if service_cidrs:
        argv += ["--service-cidrs", ",".join(service_cidrs)]
    log = directory / "apiserver.log"
    try:
        with log.open("ab") as errors:
            process = popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors.fileno())
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, f"the API server has not begun:\n{log.read_text()}"
            addresses = [tuple(address) for address in json.loads(line)["addresses"]]
            yield ApiServer(directory, short / "control", addresses, authority)
        finally:
            process.terminate()
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(SECONDS)
            if process.stdout is not None:
                process.stdout.close()
    finally:
        shutil.rmtree(short, ignore_errors=True)
