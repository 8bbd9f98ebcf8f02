"""Where an API server is and who we are there, as values. Secrets are left out of what is printed of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where kubelet puts a pod's own token and the CA of its cluster."""


@dataclass(frozen=True, slots=True)
class Pem:
    """Certificates or a key: in a file at ``path``, which may be renewed, or ``data`` of the kubeconfig itself."""

    path: str = ""
    data: bytes = field(default=b"", repr=False)

    def __bool__(self) -> bool:
        return bool(self.path or self.data)


NO_PEM = Pem()


@dataclass(frozen=True, slots=True)
class Cluster:
    """An API server. ``server`` is its URL without a slash at the end.

    ``ca`` empty: the system's authorities. ``tls_server_name`` "": the host of the URL. ``proxy`` "": as the
    environment says. ``exec_config``: what the cluster tells plugins (extension client.authentication.k8s.io/exec).
    """

    server: str
    ca: Pem = NO_PEM
    is_verified: bool = True
    tls_server_name: str = ""
    proxy: str = field(default="", repr=False)  # it may have a password in it
    is_compressed: bool = True
    exec_config: Any = None


@dataclass(frozen=True, slots=True)
class Plugin:
    """A program that gives credentials (client.authentication.k8s.io), its path or a name to be looked for.

    ``environment`` comes on top of ours. ``tells_cluster``: it is told which cluster it is for.
    """

    command: str
    version: str
    arguments: tuple[str, ...] = field(default=(), repr=False)
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    install_hint: str = ""
    tells_cluster: bool = False


@dataclass(frozen=True, slots=True)
class User:
    """Who we are. A token goes before a plugin; that of ``token_file`` goes before ``token`` while it can be read.

    With ``as_user`` we ask to be treated as somebody else (impersonation).
    """

    token: str = field(default="", repr=False)
    token_file: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    certificate: Pem = NO_PEM
    key: Pem = NO_PEM
    plugin: Plugin | None = None
    as_user: str = ""
    as_uid: str = ""
    as_groups: tuple[str, ...] = ()
    as_extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Access(Struct, frozen=True):
    """A cluster and a user, and ``name``, by which messages call where that is from.

    ``files`` are those it was read from: where one is another now, it is to be read again. ``namespace`` is meant
    where none is named, "" if the context says none. ``warnings`` are of what is no error.
    """

    cluster: Cluster
    user: User
    name: str
    files: tuple[str, ...] = ()
    namespace: str = ""
    warnings: tuple[str, ...] = ()
