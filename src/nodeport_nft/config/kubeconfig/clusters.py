"""What a kubeconfig says of a cluster."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from nodeport_nft.config.kubeconfig.access import Cluster
from nodeport_nft.config.kubeconfig.entries import Entry
from nodeport_nft.problems import shown

_FIELDS = (
    "server",
    "tls-server-name",
    "insecure-skip-tls-verify",
    "certificate-authority",
    "certificate-authority-data",
    "proxy-url",
    "disable-compression",
    "extensions",
)
_FOR_PLUGINS = "client.authentication.k8s.io/exec"
_WRITE = "write it as https://10.0.0.1:6443"
_WRITE_NAME = "write the name in the server's certificate"
_PROXIES = ("http", "https")
_LOOPBACK = re.compile(r"localhost|127\.[0-9.]+|::1")


def read_cluster(entry: Entry) -> Cluster:
    """The cluster of an entry; what is wrong is noted there."""
    entry.unknown(_FIELDS)
    is_insecure = entry.switch("insecure-skip-tls-verify")
    ca = entry.pem("certificate-authority", "the file of the cluster's authority (PEM)", is_secret=False)
    if is_insecure and ca:
        entry.problem(
            "insecure-skip-tls-verify", "is true, and there is an authority to verify by; leave one of them out"
        )
    if not entry.has("server") and entry.is_mapping:
        entry.problem("server", f"is missing; {_WRITE}")
    server = entry.text("server", "a URL", _WRITE, parse=lambda text: _server(text, is_tls=bool(ca) or is_insecure))
    if is_insecure and server.startswith("https:"):
        entry.warning(
            "insecure-skip-tls-verify",
            "the server's certificate is not verified: anybody on the way can pose as the server; "
            "name certificate-authority-data instead",
        )
    if server.startswith("http:") and not _LOOPBACK.fullmatch(urlsplit(server).hostname or ""):
        entry.warning("server", "is http, so that everybody between can read and change all of it; write https://")
    return Cluster(
        server=server,
        ca=ca,
        is_verified=not is_insecure,
        tls_server_name=entry.text("tls-server-name", "a name", _WRITE_NAME, parse=_tls_name),
        proxy=entry.text("proxy-url", "a URL", "write it as http://10.0.0.1:3128", parse=_proxy),
        is_compressed=not entry.switch("disable-compression"),
        exec_config=_for_plugins(entry),
    )


def _server(text: str, *, is_tls: bool) -> str:
    """The URL of a server as requests begin with it. Without a scheme it is https where TLS is spoken of."""
    if "://" not in text:
        text = f"{'https' if is_tls else 'http'}://{text}"
    url = _split(text, _WRITE)
    if url.scheme not in ("http", "https"):
        raise ValueError(f"{shown(url.scheme)} is not a scheme of an API server; {_WRITE}")
    if "@" in url.netloc:  # not quoted: it may hold a password
        raise ValueError("has a user in it; name it under users, and leave it out here")
    if url.query or url.fragment:
        raise ValueError(f"{shown(text)} has more than a path behind its host; leave out what begins with ? or #")
    return f"{url.scheme}://{url.netloc}{url.path.rstrip('/')}"


def _proxy(text: str) -> str:
    url = _split(text, "write it as http://10.0.0.1:3128")
    if url.scheme not in _PROXIES:
        raise ValueError(
            f"proxies of the kind {shown(url.scheme)} are not supported; name one that takes CONNECT, "
            "as http://10.0.0.1:3128, or leave it out where the server can be reached directly"
        )
    return text


def _split(text: str, remedy: str) -> SplitResult:
    """The parts of a URL that has a host and a port that can be."""
    try:
        url = urlsplit(text)
        port, host = url.port, url.hostname
        _check_name(host or "")
    except ValueError:  # whose words may have a password in them
        raise ValueError(f"is not a URL; {remedy}") from None
    if not host or port == 0 or re.search(r"\s", text):
        raise ValueError(f"{'names no host' if not host else 'is not a URL'}; {remedy}")
    return url


def _tls_name(text: str) -> str:
    try:
        _check_name(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is not a name of a host; {_WRITE_NAME}") from None
    return text


def _check_name(host: str) -> None:
    """Raises ValueError for what no request can be made to: parts between dots have 1 to 63 characters."""
    if re.search(r"\s", host) or host.encode("idna").startswith(b"."):
        raise ValueError


def _for_plugins(entry: Entry) -> object:
    """What the cluster's extensions tell plugins."""
    for each in entry.items("extensions"):
        if isinstance(each, dict) and each.get("name") == _FOR_PLUGINS:
            return each.get("extension")
    return None
