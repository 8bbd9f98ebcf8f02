"""Names of servers and proxies by which nobody can be asked: told with the remedy, without secrets, never a crash."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from nodeport_nft.store.errors import StoreError
from nodeport_nft.store.kubernetes.client import Client
from nodeport_nft.store.kubernetes.errors import KubeconfigWrong, Unreachable
from tests.kubernetes.kubeconfigs import asking, kubeconfig
from tests.kubernetes.running import ApiServer, apiserver

pytestmark = pytest.mark.proves("W3")

LONG = f"https://{'a' * 64}.example"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with apiserver(tmp_path_factory.mktemp("apiserver")) as running:
        yield running


async def ask(client: Client) -> int:
    return (await client.request("GET", "/api", seconds=5.0)).status


async def watch(client: Client) -> None:
    async with client.stream("/api", {}):
        pass


@pytest.mark.parametrize("work", [ask, watch])
@pytest.mark.parametrize("url", ["https://a..b:1", "https://.a:1", LONG, "https://a b", "https://[::1", "https://:1"])
def test_a_server(tmp_path: Path, url: str, work: Callable[[Client], Awaitable[object]]) -> None:
    with pytest.raises(KubeconfigWrong, match=r"clusters\[0\].cluster.server: .*; write it as https://"):
        asking(kubeconfig(tmp_path / "config", url, {"token": "t"}), work)


@pytest.mark.parametrize("work", [ask, watch])
@pytest.mark.parametrize("name", ["a..b", ".a", "a" * 64, "a b", "\u2024a", "xn--\u00fc", "*.a", "a/b"])
def test_a_name_in_a_certificate(
    server: ApiServer, tmp_path: Path, name: str, work: Callable[[Client], Awaitable[object]]
) -> None:
    cluster = {"certificate-authority": str(server.ca_file), "tls-server-name": name}
    with pytest.raises(StoreError):
        asking(kubeconfig(tmp_path / "config", server.url, {"token": server.token}, **cluster), work)


@pytest.mark.parametrize("work", [ask, watch])
@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:hidden@127.0.0.1:99999",
        "http://user:hid/den@127.0.0.1:1",
        "http://user:hidden@a..b:1",
        "http://user:hidden@[::1",
        "socks5://user:hidden@127.0.0.1:1",
        "socks5h://user:hidden@127.0.0.1:1",
        "http://user:hidden@",
        "http://user:hid@den@127.0.0.1:1",
    ],
)
def test_a_proxy_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str, work: Callable[[Client], Awaitable[object]]
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(Unreachable, match="the proxy") as told:
        asking(kubeconfig(tmp_path / "config", "https://192.0.2.1:6443", {"token": "t"}), work)
    assert not told.value.is_sent
    assert "hid" not in str(told.value)
    assert "den" not in str(told.value)
