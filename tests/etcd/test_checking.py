"""`check` on etcd: what hands do is named and mended, also while others write, and the members' alarms are told."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.namespaces import Namespace, in_namespace
from nodeport_nft.kube import parse_object
from nodeport_nft.model import ObjectName, Ref
from nodeport_nft.store.checking import Claim, Outside
from nodeport_nft.store.etcd import layout
from nodeport_nft.store.etcd.errors import EtcdError
from nodeport_nft.store.etcd.values import Put
from tests.etcd.members import WAIT, Members
from tests.etcd.test_objects import check_claims, opened, with_etcd
from tests.hands import EDITS, GONE, WEB, documents, ref
from tests.unit.test_store import NOW, RANGES, service

pytestmark = [pytest.mark.usefixtures("private_namespaces"), pytest.mark.proves("C2")]


class KeyHand:
    """With etcdctl."""

    def __init__(self, etcd: Any) -> None:
        self._etcd = etcd

    def put(self, key: str, value: bytes | None) -> None:
        client = self._etcd.client
        self._etcd.run(client.delete(key) if value is None else client.put(key, value))

    def claim(self, claim: Claim, holder: ObjectName | None) -> None:
        key = layout.port_key(claim) if isinstance(claim, int) else layout.ip_key(claim)
        self.put(key, str(holder).encode() if holder else None)

    def outside(self, item: Outside, *, there: bool) -> None:
        self.put(f"{layout.outside_prefix(item.ip)}{item.name}", b"" if there else None)

    def note(self, of: Ref) -> None:
        self.put(layout.dropped_key(of), b"{}")

    def body(self, of: Ref, body: str | None) -> None:
        self.put(layout.object_key(of), None if body is None else body.encode())


@contextmanager
def key_hand(address: str) -> Iterator[KeyHand]:
    from nodeport_nft.store.etcd import open_blocking
    from nodeport_nft.store.etcd.address import parse_connection

    with open_blocking(parse_connection(address)) as etcd:
        yield KeyHand(etcd)


def keys(address: str) -> dict[str, tuple[int, bytes]]:
    with key_hand(address) as hand:
        found = hand._etcd.run(hand._etcd.client.list_all()).keys
    return {each.key: (each.mod_revision, each.value) for each in found}


def objects(of: dict[str, tuple[int, bytes]]) -> dict[str, tuple[int, bytes]]:
    return {key: each for key, each in of.items() if key.startswith(layout.OBJECTS)}


def fill(address: str) -> dict[str, Any]:
    with opened(address) as store:
        store.write([parse_object(each, ranges=RANGES) for each in documents()], now=NOW)
        bodies = {each.name: each.raw for each in store.objects()}
    for body in bodies.values():
        body["metadata"].pop("resourceVersion")
    return bodies


def checked(address: str, *, repair: bool = False) -> Any:
    with opened(address) as store:
        return store.check(repair=repair)  # type: ignore[attr-defined]


def place(address: str, item: Any) -> str:
    from nodeport_nft.store.etcd.checking import item_key

    prefix = address.partition("://")[2].partition("/")[2]
    if isinstance(item, Ref):
        return f"{prefix}/{layout.dropped_key(item) if item == ref(GONE) else layout.object_key(item)}"
    return f"{prefix}/{item_key(item)}"


def test_what_a_hand_has_done_is_named_and_mended_where_it_is_certain(tmp_path: Path) -> None:
    def work(address: str) -> int:
        for number, edit in enumerate(EDITS):
            here = f"{address}/{number}"
            bodies = fill(here)
            assert checked(here).findings == (), edit.what
            with key_hand(here) as hand:
                edit.edit(hand, bodies)
            before = keys(here)
            found = checked(here).findings
            assert keys(here) == before, "who only looks changes nothing"
            assert len(found) == len(edit.found), (edit.what, found)
            for each, (item, text, is_mended) in zip(found, edit.found, strict=True):
                assert each.where == place(here, item), edit.what
                assert text in each.wrong, (text, each.wrong)
                assert bool(each.repair) is is_mended
                assert is_mended or each.remedy
            done = checked(here, repair=True)
            assert done.mended == tuple(each for each in found if each.repair)
            assert done.findings == checked(here).findings == tuple(each for each in found if not each.repair)
            assert objects(keys(here)) == objects(before), "no object is changed"
        return len(EDITS)

    assert with_etcd(tmp_path, work) == len(EDITS)


STRANGE = (
    "ports/1",
    "ports/030001",
    "ports/abc",
    "ips/10.96.0.010",
    "ips/FD00::1",
    "outside/10.0.0.1",
    "outside/x/default/web",
    "outside/10.0.0.1/default/",
    "dropped/Widget/default/web",
    "objects/Service",
    "notes",
    "Objects/Service/default/web",
    "\x1b[2J\n",
)
OF_NODES = (
    "members/known/n1",
    "members/live/n1",
    "members/probes/default/10.1.0.1",
    "members/barrier",
    "progress/n1",
)


def test_keys_that_are_nobodys_are_told_and_left_alone(tmp_path: Path) -> None:
    """Whose they are nobody knows. What cannot be read is as little of ours to delete."""

    def work(address: str) -> list[str]:
        fill(address)
        with key_hand(address) as hand:
            for key in (*STRANGE, *OF_NODES):
                hand.put(key, b"x")
            hand.put("objects/Widget/default/web", b"{}")
            hand.put("ports/30040", b"\xff")
        before = keys(address)
        found = checked(address).findings
        done = checked(address, repair=True)
        [number] = done.mended
        assert number.where == "nodeport-nft/ports/30040"
        after = keys(address)
        assert before.keys() - after.keys() == {"ports/30040"}
        assert all("etcdctl del" in each.remedy for each in done.findings)
        assert set(done.findings) == set(found) - {number}
        return [each.where for each in done.findings]

    told = with_etcd(tmp_path, work)
    assert sorted(told) == sorted(f"nodeport-nft/{key}" for key in (*STRANGE, "objects/Widget/default/web"))


def test_what_may_be_that_of_an_object_that_cannot_be_read_stays(tmp_path: Path) -> None:
    def work(address: str) -> None:
        fill(address)
        with key_hand(address) as hand:
            hand.body(ref(WEB), "no json")
            hand.put("ports/30001", b"\xff")
            before = keys(address)
        done = checked(address, repair=True)
        assert keys(address) == before
        assert "it may be that of Service/default/web" in done.findings[1].remedy
        with opened(address) as store:
            store.write(deletes=[ref(WEB)], now=NOW)
        assert checked(address, repair=True).findings == ()

    with_etcd(tmp_path, work)


def test_a_repair_among_writers_takes_nothing_from_anybody(tmp_path: Path) -> None:
    """Hands break claims while writers write; a repair that was judged on what has changed since is not done."""

    def work(address: str) -> tuple[int, list[str]]:
        names = [f"web-{number}" for number in range(12)]
        failures: list[str] = []
        ends = threading.Event()

        def write(mine: list[str]) -> None:
            with opened(address) as store:
                while not ends.is_set():
                    for name in mine:
                        try:
                            store.write([service(name)], now=NOW)
                            store.write(deletes=[Ref("Service", "default", name)], now=NOW)
                            store.write([service(name)], now=NOW)
                        except Exception as error:
                            failures.append(str(error))

        threads = [threading.Thread(target=write, args=(names[start::3],)) for start in range(3)]
        for thread in threads:
            thread.start()
        mended = 0
        with key_hand(address) as hand:
            for turn in range(12):
                hand.claim(30000 + turn, ObjectName("default", "web-0"))
                hand.claim(30090 - turn, GONE)
                mended += len(checked(address, repair=True).mended)
        ends.set()
        for thread in threads:
            thread.join(WAIT)
        done = checked(address, repair=True)
        assert done.findings == ()
        with opened(address) as store:
            check_claims(address, store)
            assert len(store.snapshot().services) == len(names)
        return mended + len(done.mended), failures

    mended, failures = with_etcd(tmp_path, work)
    assert mended >= 12
    assert not failures


def test_a_repair_that_is_too_late_is_not_done(tmp_path: Path) -> None:
    """Between the look and the repair, the Service for which a number was kept comes into being."""

    def work(address: str) -> tuple[Any, bool]:
        from nodeport_nft.store.etcd.client import Client

        fill(address)
        commit, is_late = Client.commit, False

        async def late(self: Client, compares: Any, then: Any, otherwise: Any = ()) -> Any:
            nonlocal is_late
            if not is_late:
                is_late = True
                made = {**documents()[0], "metadata": {"name": "gone", "namespace": "default"}}
                made["spec"] = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30050}], "clusterIP": "None"}
                await commit(self, (), (Put(layout.object_key(ref(GONE)), json.dumps(made).encode()),))
            return await commit(self, compares, then, otherwise)

        with key_hand(address) as hand:
            hand.claim(30050, GONE)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Client, "commit", late)
            done = checked(address, repair=True)
        return done, "ports/30050" in keys(address)

    done, is_kept = with_etcd(tmp_path, work)
    assert is_kept
    assert done.mended == ()
    assert not [each for each in done.findings if each.repair]


def test_the_program_checks_repairs_and_copies_a_store_in_etcd(tmp_path: Path) -> None:
    def work(address: str) -> list[tuple[int, str, str]]:
        script = Path(sys.executable).parent / "nodeport-nft"
        manifest = tmp_path / "services.json"
        manifest.write_text("\n".join(map(json.dumps, documents())))
        answers = []
        for line in (
            f"apply -f {manifest} --store {address}",
            "del nodeport-nft/ports/30001",
            f"check --store {address}",
            f"check --store {address} --repair -o json",
            f"check --store {address}",
            f"store copy {address} {tmp_path}/copy.db",
            f"store copy {tmp_path}/copy.db {address}",
            f"check --store {tmp_path}/copy.db",
        ):
            argv = [str(script), *line.split()]
            if line.startswith("del"):
                argv = ["etcdctl", "--command-timeout=50s", *line.split()]
            done = subprocess.run(
                argv,
                capture_output=True,
                text=True,
                timeout=WAIT,
                check=False,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "ETCDCTL_API": "3"},
            )
            answers.append((done.returncode, done.stdout, done.stderr))
        return answers

    answers = with_etcd(tmp_path, work)
    assert [code for code, _, _ in answers] == [0, 0, 1, 0, 0, 0, 1, 0], answers
    _, _, found, repaired, clean, copied, refused, _ = answers
    assert found[1].startswith("nodeport-nft/ports/30001: Service/")
    assert "etcd 127.0.0.1:2379: version 3." in found[2]
    assert json.loads(repaired[1])["repaired"][0]["repair"] == "keeps it for Service/default/web"
    assert (clean[1], "nothing is wrong\n" in clean[2]) == ("", True)
    assert copied[1].startswith("2 services copied from etcd://")
    assert "is not empty: it has 2 services" in refused[2]


def fill_up(hand: KeyHand) -> None:
    for number in range(100):
        hand.put(f"fill/{number}", bytes(100_000))


def test_the_members_are_told_and_an_alarm_and_one_that_is_down_are_wrong(tmp_path: Path) -> None:
    """The full database is all of etcd's: said is what to do, and nothing of it is done here."""

    def run() -> tuple[Any, Any, Any, Any]:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=WAIT)
        members = Members(3, tmp_path, arguments=("--quota-backend-bytes", str(2 << 20)))
        members.start()
        asyncio.run(members.ready())
        address = str(members.connection())
        bodies = fill(address)
        well = checked(address)
        with key_hand(address) as hand:
            hand.claim(30050, GONE)
            hand.claim(30001, None)
            with pytest.raises(EtcdError, match="database space exceeded"):
                fill_up(hand)
        full = checked(address)
        with pytest.raises(EtcdError, match="Make room"):
            checked(address, repair=True)
        members.all[2].kill()
        down = checked(address)
        for member in members.all[:2]:
            member.kill()
        return well, full, down, bodies

    namespace = Namespace()
    try:
        well, full, down, _ = in_namespace(namespace, run, timeout=3 * WAIT)
    finally:
        namespace.close()
    assert well.findings == ()
    assert len(well.about) == 3
    assert sum(", leader, revision " in line for line in well.about) == 1
    assert all(line.startswith("etcd 127.0.0.1:") and " MB of it in use" in line for line in well.about)
    alarms = [each for each in full.findings if each.where == "etcd"]
    assert len({each.wrong for each in alarms}) == len(alarms) >= 1
    assert all("NOSPACE" in each.wrong and "`etcdctl compact " in each.remedy for each in alarms)
    assert [each.where for each in full.findings if each.repair] == [
        "test/nodeport-nft/ports/30001",
        "test/nodeport-nft/ports/30050",
    ]
    [absent] = [each for each in down.findings if each.where == "etcd 127.0.0.1:2399"]
    assert absent.remedy
    assert len(down.about) == 2
