"""Which proxy leads to an API server: the kubeconfig's, else the environment's, as Go programs read it.

``HTTPS_PROXY`` or ``HTTP_PROXY`` by the scheme of the server, small letters as well; ``NO_PROXY`` names who is
reached without: hosts, ``.domains``, addresses, networks, each also with a port, or ``*`` for all. This machine
itself never needs one.

Source: golang.org/x/net/http/httpproxy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from nodeport_nft.config.kubeconfig import Cluster


def proxy_of(cluster: Cluster, environ: Mapping[str, str]) -> str:
    """The URL of the proxy, "" for none."""
    if cluster.proxy:
        return cluster.proxy
    url = urlsplit(cluster.server)
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    name = f"{url.scheme}_proxy"
    proxy = environ.get(name.upper()) or environ.get(name) or ""
    if (
        not proxy
        or _is_local(host)
        or _is_excepted(host, port, environ.get("NO_PROXY") or environ.get("no_proxy") or "")
    ):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def shown_proxy(proxy: str) -> str:
    """A proxy as messages name it: without its password, which may have any character in it."""
    return re.sub(r"//.*@", "//", proxy, flags=re.DOTALL)


def proxy_fault(proxy: str) -> str:
    """Why a proxy, perhaps the environment's, cannot be used, with the remedy; "" if it can, or is none."""
    remedy = "name one that takes CONNECT, as http://10.0.0.1:3128, or the server in $NO_PROXY"
    try:
        url = urlsplit(proxy)
        url.port  # noqa: B018 (raises)
        (url.hostname or "").encode("idna")
    except ValueError:
        return f"the proxy {shown_proxy(proxy)} is not a URL; {remedy}"
    if proxy and (url.scheme not in ("http", "https") or not url.hostname):
        return f"the proxy {shown_proxy(proxy)} is of a kind that is not supported; {remedy}"
    return ""


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_excepted(host: str, port: int, exceptions: str) -> bool:
    return any(_fits(word.strip().lower(), host, port) for word in exceptions.split(","))


def _fits(word: str, host: str, port: int) -> bool:
    """Whether one word of NO_PROXY means this host."""
    if word == "*":
        return True
    with_port = re.fullmatch(r"(\[[^\]]*\]|[^:]*):([0-9]+)", word)
    if with_port:
        if int(with_port[2]) != port:
            return False
        word = with_port[1]
    word = word.strip("[]")
    try:
        return ip_address(host) in ip_network(word, strict=False)
    except (ValueError, TypeError):
        pass
    word = word.removeprefix("*").rstrip(".")
    if not word:
        return False
    if word.startswith("."):
        return host.endswith(word)
    return host == word or host.endswith(f".{word}")
