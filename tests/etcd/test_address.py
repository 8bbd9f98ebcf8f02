"""Where a store in etcd is: what is good, and all that is wrong at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from nodeport_nft.problems import Problems
from nodeport_nft.store.etcd.address import connection_faults, is_etcd, parse_connection


@pytest.mark.parametrize(
    ("store", "endpoints", "prefix"),
    [
        ("etcd://a", ["a:2379"], "nodeport-nft"),
        ("etcd://a/", ["a:2379"], "nodeport-nft"),
        ("ETCD://A:1/x", ["a:1"], "x"),
        ("etcd://a:2379,b:65535,10.0.0.3/x/y.z_-", ["a:2379", "b:65535", "10.0.0.3:2379"], "x/y.z_-"),
        ("etcd://[fd00::1],[fd00::2]:99//x/", ["[fd00::1]:2379", "[fd00::2]:99"], "x"),
        ("etcd://[FD00:0::1]", ["[fd00::1]:2379"], "nodeport-nft"),
        ("etcd://etcd-1.example.com.:2379", ["etcd-1.example.com.:2379"], "nodeport-nft"),
    ],
)
def test_good_ones(store: str, endpoints: list[str], prefix: str) -> None:
    connection = parse_connection(store)
    assert [str(endpoint) for endpoint in connection.endpoints] == endpoints
    assert connection.prefix == prefix
    assert parse_connection(str(connection)) == connection


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ("etcd://", "names no endpoint"),
        ("etcd:///x", "names no endpoint"),
        ("etcd://a,,b", "endpoint '': is empty"),
        ("etcd://:2379", "endpoint ':2379': is empty"),
        ("etcd://a,a:2379", "endpoint 'a:2379' is there twice"),
        ("etcd://a,A", "endpoint 'A' is there twice"),
        ("etcd://[::1],[0::1]", "is there twice"),
        ("etcd://a:0", "port '0' is none"),
        ("etcd://a:65536", "port '65536' is none"),
        ("etcd://a:", "port '' is none"),
        ("etcd://a:+1", "port '+1' is none"),
        ("etcd://a:٢", "port '٢' is none"),
        ("etcd://a:http", "port 'http' is none"),
        ("etcd://[::1]:", "port '' is none"),
        ("etcd://fd00::1", "an IPv6 address needs brackets"),
        ("etcd://fd00::1:2379", "an IPv6 address needs brackets"),
        ("etcd://[10.0.0.1]", "not an IPv6 address"),
        ("etcd://[fe80::1%eth0]", "with a zone"),
        ("etcd://[::1", "needs brackets"),
        ("etcd://10.0.0.256", "not an IPv4 address"),
        ("etcd://10.0.0.01", "not an IPv4 address"),
        ("etcd://1.2.3", "not an IPv4 address"),
        ("etcd://a b", "is not a name of a host"),
        ("etcd://-a", "is not a name of a host"),
        ("etcd://a..b", "is not a name of a host"),
        ("etcd://a\n", "is not a name of a host"),
        ("etcd://" + "a" * 64, "is not a name of a host"),
        ("etcd://http://a", "port '' is none"),
        ("etcd://a/x//y", "prefix 'x//y' is none"),
        ("etcd://a/x/../y", "prefix 'x/../y' is none"),
        ("etcd://a/x y", "prefix 'x y' is none"),
        ("etcd://a/x\x1b", "prefix 'x\\x1b' is none"),
        ("etcd://a/" + "x" * 129, "prefix has 129 characters"),
        ("etcd://a/x?ca=y", "'?ca=y' means nothing here"),
        ("etcd://a#x", "'#x' means nothing here"),
        ("etcd://" + ",".join(f"h{number}" for number in range(17)), "has 17 endpoints"),
        ("http://a", "does not begin with etcd://"),
        ("", "does not begin with etcd://"),
    ],
)
def test_bad_ones(store: str, said: str) -> None:
    with pytest.raises(Problems) as caught:
        parse_connection(store)
    assert len(caught.value.problems) == 1
    assert said in caught.value.problems[0].message
    assert caught.value.problems[0].field == "store"
    assert str(caught.value).isprintable()


def test_a_password_in_it_is_not_repeated() -> None:
    with pytest.raises(Problems, match="use the keys etcdUser and etcdPasswordFile") as caught:
        parse_connection("etcd://root:secret@a")
    assert "secret" not in str(caught.value)


def test_all_that_is_wrong_is_told() -> None:
    with pytest.raises(Problems) as caught:
        parse_connection("etcd://a:0,-b/x y?z", cert=Path("c"), user="\x1b")
    assert [problem.field for problem in caught.value.problems] == [
        *["store"] * 4,
        "etcdKeyFile",
        "etcdPasswordFile",
        "etcdUser",
    ]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"cert": Path("c")}, "etcdKeyFile"),
        ({"key": Path("k")}, "etcdCertFile"),
        ({"user": "u"}, "etcdPasswordFile"),
        ({"password_file": Path("p")}, "etcdUser"),
    ],
)
def test_what_belongs_together(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(Problems) as caught:
        parse_connection("etcd://a", **settings)
    assert [problem.field for problem in caught.value.problems] == [field]


@pytest.mark.parametrize(
    ("store", "expected"), [("etcd://a", True), ("Etcd://a", True), ("/var/etcd", False), ("etcd:/a", False)]
)
def test_which_are_etcd(store: str, expected: bool) -> None:
    assert is_etcd(store) is expected


def test_files(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root's temporary directories are his alone on the whole way")
    tmp_path = tmp_path.resolve()
    ca, cert, key, password = (tmp_path / name for name in ("ca", "cert", "key", "password"))
    for path in (ca, cert, key, password):
        path.write_text("x")
        path.chmod(0o640)
    connection = parse_connection("etcd://a", ca=ca, cert=cert, key=key, user="u", password_file=password)
    assert connection_faults(connection) == ()

    ca.chmod(0o644)  # no secret
    key.chmod(0o644)
    password.chmod(0o604)
    cert.unlink()
    assert [
        (fault.field, fault.message.split(": ")[1].split(";")[0].split(",")[0])
        for fault in connection_faults(connection)
    ] == [
        ("etcdCertFile", "there is no such file"),
        ("etcdKeyFile", "everybody may read it"),
        ("etcdPasswordFile", "everybody may read it"),
    ]
    ca.chmod(0o666)
    assert "chmod go-w" in connection_faults(connection)[0].message
