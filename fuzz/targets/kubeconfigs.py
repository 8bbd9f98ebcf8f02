"""Kubeconfigs, up to what requests would be made with."""

from __future__ import annotations

import tempfile
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import yaml

from fuzz.engine import Target
from fuzz.targets.common import check_lines
from nodeport_nft.config.kubeconfig import find_access
from nodeport_nft.problems import Problems

_SECRET = "nobody-may-see-this"
_PEM = b64encode(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").decode()


def run(data: bytes) -> None:
    """What every command does first; nothing that is said has a secret in it."""
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(data)
        file.flush()
        try:
            access = find_access(file.name, "", {})
        except Problems as wrong:
            said = str(wrong).split("\n")
        else:
            said = [*access.warnings, access.name, repr(access)]
    check_lines(said)
    # A slip in the name of a secret's key makes no secret of it, and another mapping's value is none.
    if data in _SOUND:
        assert not any(_SECRET in line for line in said)


def seeds() -> Sequence[bytes]:
    """Users of each kind, all in good order."""
    return _SOUND


def _kubeconfig(user: dict[str, Any], **cluster: Any) -> bytes:
    whole = {"server": "https://10.0.0.1:6443", "certificate-authority-data": _PEM, **cluster}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "prod",
            "contexts": [{"name": "prod", "context": {"cluster": "prod", "user": "me", "namespace": "default"}}],
            "clusters": [{"name": "prod", "cluster": whole}],
            "users": [{"name": "me", "user": user}],
        },
        sort_keys=False,
    ).encode()


_SOUND = (
    _kubeconfig({"token": _SECRET, "as": "jane", "as-groups": ["a"], "as-user-extra": {"scopes": ["b"]}}),
    _kubeconfig({"client-certificate-data": _PEM, "client-key-data": _PEM}, **{"tls-server-name": "kubernetes"}),
    _kubeconfig({"username": "me", "password": _SECRET}, **{"proxy-url": f"http://me:{_SECRET}@10.0.0.2:3128"}),
    _kubeconfig(
        {
            "exec": {
                "apiVersion": "client.authentication.k8s.io/v1",
                "command": "./plugin",
                "args": ["--token", _SECRET],
                "env": [{"name": "TOKEN", "value": _SECRET}],
                "installHint": "install it",
                "provideClusterInfo": True,
                "interactiveMode": "IfAvailable",
            }
        },
        **{"disable-compression": True, "extensions": [{"name": "x", "extension": {"a": 1}}]},
    ),
)

TOKENS = (
    *b"token tokenFile exec auth-provider insecure-skip-tls-verify certificate-authority proxy-url true null".split(),
    *b"socks5:// http:// https:// Always Never client.authentication.k8s.io/v1beta1 oidc [::1]:6443".split(),
)

TARGET = Target("kubeconfigs", run, seeds, TOKENS)
