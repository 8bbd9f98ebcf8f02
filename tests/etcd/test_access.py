"""Users, logins that end, and certificates: what is good goes on by itself, what is not is told with its remedy."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nodeport_nft.store.etcd import open_client
from nodeport_nft.store.etcd.errors import Cause, EtcdError
from tests.etcd.members import PREFIX, WAIT, Members, certificates, in_etcd, patient, timings
from tests.etcd.storm import Storm

pytestmark = pytest.mark.usefixtures("private_namespaces")

ROOT = ("--user", "root:secret")


@contextlib.asynccontextmanager
async def guarded(tmp_path: Path, count: int) -> AsyncIterator[tuple[Members, dict[str, Any]]]:
    """Members that ask for a user, with logins that end after two idle seconds, and how one of the users comes in."""
    members = Members(count, tmp_path, arguments=("--auth-token-ttl", "2"))
    members.start()
    await members.ready()
    members.control("user", "add", "root:secret")
    members.control("user", "grant-role", "root", "root")
    members.control("user", "add", "node:password")
    members.control("role", "add", "node")
    members.control("role", "grant-permission", "node", "--prefix=true", "readwrite", f"{PREFIX}/")
    members.control("user", "grant-role", "node", "node")
    password = tmp_path / "password"
    password.write_text("password\n")
    yield members, {"user": "node", "password_file": password}


def test_a_login_that_ends(tmp_path: Path) -> None:
    """By time, by a member that has lost it, and by a change of users: under a storm, with nothing lost."""

    async def scenario() -> None:
        async with guarded(tmp_path, 3) as (members, login):
            connection = members.connection(**login)
            async with (
                open_client(connection, timings(), first=0) as writer,
                open_client(connection, timings(), first=1) as follower,
            ):
                storm = Storm(writer, follower)

                async def fault() -> None:
                    members.control("auth", "enable")  # both have come without a login
                    await storm.until_seen(20)
                    members.control(*ROOT, "user", "add", "another:password")
                    await storm.until_seen(20)
                    storm.pause.clear()
                    await asyncio.sleep(4)  # nobody has used the writer's login meanwhile
                    storm.pause.set()
                    await storm.until_seen(20)
                    in_use = members.at(follower.calls.endpoint)
                    in_use.kill()  # the follower's own has ended as well
                    await storm.until_seen(20)
                    in_use.start()
                    await members.ready(**login)

                await storm.run(fault)

    in_etcd(scenario)


def test_a_login_of_a_history_that_is_gone(tmp_path: Path) -> None:
    """Its token is of a raft index that the members of a restored backup have not reached, and wait for."""

    async def scenario() -> None:
        async with guarded(tmp_path, 1) as (members, login):
            members.control("auth", "enable")
            snapshot = tmp_path / "snapshot"
            members.control(*ROOT, "snapshot", "save", str(snapshot))
            async with (
                open_client(members.connection(**login), patient()) as client,
                open_client(members.connection(**login), patient()) as keeper,
            ):
                for number in range(50):
                    await client.put(f"key-{number}", b"v")
                lease = await keeper.lease_grant(60)
                client.calls.timings = keeper.calls.timings = timings(call=1.0, patience=WAIT)
                members.restore(snapshot)
                await members.ready(**login)
                assert await client.get("key-0") is None
                assert await keeper.lease_refresh(lease) == 0

    in_etcd(scenario)


def test_a_lease_outlives_its_login(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with guarded(tmp_path, 1) as (members, login):
            members.control("auth", "enable")
            async with open_client(members.connection(**login), patient()) as client:
                lease = await client.lease_grant(60)
                await asyncio.sleep(4)
                assert await client.lease_refresh(lease) > 0

    in_etcd(scenario)


def test_who_may_not(tmp_path: Path) -> None:
    async def scenario() -> dict[str, tuple[Cause, str]]:
        from nodeport_nft.store.etcd.watch import watch

        async with guarded(tmp_path, 1) as (members, login):
            members.control("auth", "enable")
            wrong = tmp_path / "wrong"
            wrong.write_text("guess")
            cases = {
                "password": {**login, "password_file": wrong},
                "user": {**login, "user": "nobody"},
                "file": {**login, "password_file": tmp_path / "none"},
                "none": {},
                "prefix": {**login, "prefix": "others"},
            }
            said = {}
            for case, settings in cases.items():
                async with open_client(members.connection(**settings), patient()) as client:
                    with pytest.raises(EtcdError) as caught:
                        await client.put("key", b"v")
                    said[case] = (caught.value.cause, str(caught.value))

            async with open_client(members.connection(**login), patient()) as client:
                position = (await client.list_all()).position
            told: asyncio.Queue[EtcdError | None] = asyncio.Queue()
            async with open_client(members.connection(**cases["prefix"]), patient()) as client:
                batches = watch(client, position, tell=told.put_nowait)
                watching = asyncio.ensure_future(anext(batches))
                async with asyncio.timeout(WAIT):
                    error = await told.get()
                    assert error is not None
                    said["watch"] = (error.cause, str(error))
                    # It goes on asking: once it is granted, it follows.
                    members.control(
                        *ROOT, "role", "grant-permission", "node", "--prefix=true", "readwrite", "others/"
                    )
                    while await told.get():
                        pass
                    await client.put("key", b"v")
                    assert (await watching).events[0].key == "key"
                await batches.aclose()
            return said

    said = in_etcd(scenario)
    assert {case: cause for case, (cause, _) in said.items()} == {
        "password": Cause.LOGIN,
        "user": Cause.LOGIN,
        "file": Cause.LOGIN,
        "none": Cause.LOGIN_NEEDED,
        "prefix": Cause.DENIED,
        "watch": Cause.DENIED,
    }
    for case, remedy in {
        "none": "set user and passwordFile",
        "prefix": "readwrite others/",
        "file": "none: No such",
    }.items():
        assert remedy in said[case][1]


def test_certificates(tmp_path: Path) -> None:
    async def scenario() -> dict[str, tuple[Cause, str]]:
        with certificates(tmp_path, "ca") as issue, certificates(tmp_path, "other-ca") as issue_other:
            server, server_key = issue("server", "IP:127.0.0.1")
            elsewhere, elsewhere_key = issue("elsewhere", "IP:127.0.0.2")
            cert, key = issue("client", "DNS:client")
            other, other_key = issue_other("other", "DNS:client")
        ca = tmp_path / "ca.pem"
        arguments = ("--trusted-ca-file", str(ca), "--client-cert-auth")
        good = {"ca": ca, "cert": cert, "key": key}
        members = Members(
            1,
            tmp_path,
            is_secure=True,
            arguments=(*arguments, "--cert-file", str(server), "--key-file", str(server_key)),
        )
        members.start()
        await members.ready(**good)
        said: dict[str, tuple[Cause, str]] = {}

        async def refused(case: str, settings: dict[str, Any]) -> None:
            async with open_client(members.connection(**settings), timings(patience=3)) as client:
                with pytest.raises(EtcdError) as caught:
                    await client.get("key")
                said[case] = (caught.value.cause, str(caught.value))

        await refused("signed by another", {**good, "ca": tmp_path / "other-ca.pem"})
        await refused("no client certificate", {"ca": ca})
        await refused("client of another", {**good, "cert": other, "key": other_key})
        await refused("no TLS", {})
        await refused("no such file", {**good, "ca": tmp_path / "none"})
        await refused("not a PEM", {**good, "ca": server_key.with_suffix(".ext")})

        # A certificate that is renewed in its place is used without a new client.
        changing, changing_key = tmp_path / "changing.pem", tmp_path / "changing.key"
        changing.write_bytes(other.read_bytes())
        changing_key.write_bytes(other_key.read_bytes())
        settings = {"ca": ca, "cert": changing, "key": changing_key}
        async with open_client(members.connection(**settings), patient(patience=3)) as client:
            with pytest.raises(EtcdError):
                await client.get("key")
            changing.write_bytes(cert.read_bytes())
            changing_key.write_bytes(key.read_bytes())
            await client.put("key", b"v")

        members.all[0].signal(signal.SIGTERM)
        members = Members(
            1,
            tmp_path,
            is_secure=True,
            arguments=(*arguments, "--cert-file", str(elsewhere), "--key-file", str(elsewhere_key)),
        )
        members.start()
        await refused_by_name(members, good, said)
        members.all[0].signal(signal.SIGTERM)

        members = Members(1, tmp_path)
        members.start()
        await members.ready()
        await refused("TLS to plain", good)
        return said

    async def refused_by_name(members: Members, good: dict[str, Any], said: dict[str, tuple[Cause, str]]) -> None:
        async with open_client(members.connection(**good), timings(patience=WAIT)) as client, asyncio.timeout(WAIT):
            while True:  # until it is up
                with pytest.raises(EtcdError) as caught:
                    await client.get("key")
                if caught.value.cause is not Cause.UNREACHABLE:
                    break
            said["another name"] = (caught.value.cause, str(caught.value))

    said = in_etcd(scenario)
    causes = {case: cause for case, (cause, _) in said.items()}
    # Who speaks no TLS closes the connection, as does a member that is ending: that may pass.
    assert {case for case, cause in causes.items() if cause is Cause.UNREACHABLE} == {"no TLS", "TLS to plain"}, said
    assert "if etcd speaks TLS there, set ca" in said["no TLS"][1]
    assert "ca is set, so TLS is spoken" in said["TLS to plain"][1]
    certificate = {case: text for case, (cause, text) in said.items() if cause is Cause.CERTIFICATE}
    assert certificate.keys() == causes.keys() - {"no TLS", "TLS to plain"}, said
    assert all(
        text.endswith("with the certificates of the members, their names and their dates")
        for text in certificate.values()
    )
