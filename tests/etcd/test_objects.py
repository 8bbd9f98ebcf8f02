"""Objects in etcd: what every store promises, and what several writers at once may rely on (A3, C2, C3)."""

from __future__ import annotations

import inspect
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.namespaces import Namespace, in_namespace
from nodeport_nft.allocate import holdings
from nodeport_nft.config import Config
from nodeport_nft.kube import parse_object
from nodeport_nft.model import PortRange, Ranges, Ref
from nodeport_nft.problems import Problems
from nodeport_nft.store import Objects, Store, StoreError, Superseded, open_file, open_objects
from nodeport_nft.store.etcd import layout
from nodeport_nft.store.etcd.values import Get, Put
from nodeport_nft.store.memory import MemoryStore
from tests.cli.watching import Watching
from tests.etcd.members import WAIT, Members
from tests.unit import test_store_contract as contract
from tests.unit.test_store import NOW, RANGES, document, service

pytestmark = pytest.mark.usefixtures("private_namespaces")


def with_etcd(directory: Path, work: Callable[[str], Any], *arguments: str) -> Any:
    """What ``work`` returns of an etcd's address, in a child, in a network namespace of its own: grpc has threads."""
    namespace = Namespace()

    def run() -> Any:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=WAIT)
        members = Members(1, directory, arguments=arguments)
        members.start()
        try:
            return work(f"etcd://127.0.0.1:{members.all[0].client_port}")
        finally:
            members.all[0].kill()

    try:
        return in_namespace(namespace, run, timeout=3 * WAIT)
    finally:
        namespace.close()


@contextmanager
def opened(address: str, ranges: Ranges = RANGES) -> Iterator[Objects]:
    with open_objects(Config(store=address, ranges=ranges)) as store:
        yield store


PROMISES = [
    test
    for name, test in vars(contract).items()
    if name.startswith("test_") and "store" in inspect.signature(test).parameters
]


def test_a_snapshot_says_who_is_lost_and_which_probes_fail(tmp_path: Path) -> None:
    """For commands: what is shown must not be better than what the nodes do."""
    now = time.time()
    keys = {
        "members/known/alive": '{"lostAt": 0.0}',
        "members/live/alive": "{}",
        "members/known/back": f'{{"lostAt": {now - 100}}}',
        "members/live/back": "{}",
        "members/known/lost": f'{{"lostAt": {now - 100}}}',
        "members/known/away": f'{{"lostAt": {now - 1}}}',
        "members/known/damaged": "{",
        "members/probes/default/10.244.1.1": f'{{"since": {now - 5}}}',
        "members/probes/default/fd00::1": "[]",
        "members/probes/default/web-1": "{}",
        "members/barrier": "x",
        "progress/lost": "{}",
    }

    def work(address: str) -> Any:
        with opened(address) as store:
            store.write([service("web")], now=NOW)
            etcd = vars(store)["_etcd"]
            etcd.run(etcd.client.commit([], [Put(key, value.encode()) for key, value in keys.items()]))
            found = store.snapshot()
            return [s.name for s in found.services], found.members, found.probe_failures, len(store.damaged)

    services, members, failures, damaged = with_etcd(tmp_path, work)
    assert (services, damaged) == (["web"], 0)
    assert {member.name: member.lost_at for member in members} == {
        **dict.fromkeys(("alive", "back", "away"), 0.0),
        "lost": now - 100,
    }, "what is damaged says nothing"
    assert [(str(f.address), f.namespace, f.since) for f in failures] == [("10.244.1.1", "default", now - 5)]


def test_etcd_promises_what_every_store_does(tmp_path: Path) -> None:
    def work(address: str) -> list[str]:
        kept = []
        for test in PROMISES:
            given = set(inspect.signature(test).parameters) - {"store"}
            cases = {"change": ("put", "replace", "delete", "all"), "kind": tuple(contract.DRAINED)}
            name = given.pop() if given else ""
            for case in cases.get(name, ("",)):
                with opened(f"{address}/{test.__name__}/{case}") as store:
                    test(store, **({name: case} if case else {}))
            kept.append(test.__name__)
        return kept

    kept = with_etcd(tmp_path, work)
    assert len(kept) == len(PROMISES) > 8


def test_a_large_write_is_cut_between_those_that_have_nothing_to_do_with_each_other(tmp_path: Path) -> None:
    """And the result is that of one write: the numbers are those that memory gives."""
    ranges = Ranges(PortRange(30000, 32767), (IPv4Network("10.96.0.0/16"),))
    names = [f"web-{number}" for number in range(300)]

    def work(address: str) -> tuple[Any, Any, Any]:
        with opened(address, ranges) as store, MemoryStore(ranges) as memory:
            for each in (store, memory):
                each.write([service(name) for name in names], now=NOW)
                # Each gives its number to the next but one: pairs, each in one transaction.
                services = {one.name: one for one in each.snapshot().services}
                traded = []
                for left, right in zip(names[::2], names[1::2], strict=True):
                    ports = services[left].ports[0].node_port, services[right].ports[0].node_port
                    traded += [at(left, ports[1], ranges), at(right, ports[0], ranges)]
                each.write(traded, now=NOW)
            before = store.snapshot().services, memory.snapshot().services
            gone = store.write(deletes=[each.ref for each in store.list()], now=NOW).deleted
            again = store.write([service(name) for name in names], now=NOW).applied
            return before, len(gone), [one.action for one in again]

    (ours, memorys), gone, again = with_etcd(tmp_path, work)
    assert ours == memorys
    assert gone == len(names)
    assert again == ["created"] * len(names)


def at(name: str, port: int, ranges: Ranges = RANGES) -> Any:
    return parse_object(document(name, ports=[{"port": 80, "nodePort": port}]), ranges=ranges)


@pytest.mark.proves("C2")
def test_no_number_is_given_twice_to_writers_at_once(tmp_path: Path) -> None:
    """Six writers, who want more nodePorts than there are: each is given its own, or refused."""
    ranges = Ranges(PortRange(30000, 30099), (IPv4Network("10.96.0.0/24"),))
    writers, each = 6, 20

    def work(address: str) -> tuple[Any, int, list[str]]:
        refused: list[str] = []

        def write(writer: int) -> None:
            with opened(address, ranges) as store:
                for number in range(each):
                    try:
                        store.write([service(f"w{writer}-{number}")], now=NOW)
                    except Problems as problems:
                        refused.append(str(problems))

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        with opened(address, ranges) as store:
            return store.snapshot().services, writers * each, refused

    services, wanted, refused = with_etcd(tmp_path, work)
    ports = [port for one in services for port in holdings(one).node_ports]
    ips = [ip for one in services for ip in holdings(one).cluster_ips]
    assert len(set(ports)) == len(ports) == 100
    assert len(set(ips)) == len(ips)
    assert len(services) + len(refused) == wanted
    assert all("nodePort" in text for text in refused)


def test_one_name_of_many_writers_has_one_uid(tmp_path: Path) -> None:
    def work(address: str) -> list[tuple[str, str]]:
        answers: list[tuple[str, str]] = []

        def write() -> None:
            with opened(address) as store:
                [one] = store.write([service("web")], now=NOW).applied
                answers.append((one.action, one.object.raw["metadata"]["uid"]))

        threads = [threading.Thread(target=write) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        return answers

    answers = with_etcd(tmp_path, work)
    assert len(answers) == 6
    assert [action for action, _ in answers].count("created") == 1
    assert len({uid for _, uid in answers}) == 1


@pytest.mark.proves("C3")
def test_of_those_who_have_read_the_same_one_writes(tmp_path: Path) -> None:
    """In etcd and in a file: each of six reads, waits for the others, and writes what it has made of it."""
    writers, rounds = 6, 4

    def work(address: str) -> dict[str, tuple[int, int]]:
        told = {}
        for where in (address, str(tmp_path / "store.db")):
            with opened(where) as store:
                store.write([service("web")], now=NOW)
            barrier = threading.Barrier(writers)
            refused: list[str] = []
            done: list[str] = []

            def write(
                writer: int,
                where: str = where,
                barrier: threading.Barrier = barrier,
                refused: list[str] = refused,
                done: list[str] = done,
            ) -> None:
                with opened(where) as store:
                    for turn in range(rounds):
                        barrier.wait(WAIT)
                        [read] = store.objects()
                        labels = {"turn": str(turn), "writer": str(writer)}
                        mine = parse_object({**read.raw, "metadata": {**read.raw["metadata"], "labels": labels}})
                        barrier.wait(WAIT)
                        try:
                            store.write([mine], now=NOW)
                            done.append(f"{turn}")
                        except Superseded as error:
                            refused.append(str(error))

            threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(WAIT)
            assert sorted(done) == [f"{turn}" for turn in range(rounds)]
            assert all("metadata.labels.writer" in each for each in refused)
            told[where] = len(done), len(refused)
        return told

    told = with_etcd(tmp_path, work)
    assert set(told.values()) == {(rounds, rounds * (writers - 1))}


def test_a_damaged_object_keeps_what_it_holds(tmp_path: Path) -> None:
    def work(address: str) -> None:
        from nodeport_nft.store.etcd import open_blocking
        from nodeport_nft.store.etcd.address import parse_connection

        web = Ref("Service", "default", "web")
        with opened(address) as store, open_blocking(parse_connection(address)) as etcd:
            [one] = store.write([at("web", 30001)], now=NOW).applied
            etcd.run(etcd.client.put("objects/Service/default/web", b"no json"))
            assert store.snapshot().services == ()
            assert "cannot be read" in store.complaints()[0]
            with pytest.raises(Problems, match="30001 is held by default/web"):
                store.write([at("a", 30001)], now=NOW)
            [again] = store.write([service("web")], now=NOW).applied
            assert again.object.values == one.object.values, "it has kept its numbers"
            etcd.run(etcd.client.put("objects/Service/default/web", b"no json"))
            assert store.write([at("a", 30001)], [web], now=NOW).deleted == (web,)
            assert len(etcd.run(etcd.client.list_all("ports/")).keys) == 1

    with_etcd(tmp_path, work)


def held_in(address: str) -> dict[str, str]:
    """Every claim's key, and who has it."""
    from nodeport_nft.store.etcd import open_blocking
    from nodeport_nft.store.etcd.address import parse_connection

    with open_blocking(parse_connection(address)) as etcd:
        keys = [etcd.run(etcd.client.list_all(prefix)).keys for prefix in ("ports/", "ips/")]
    return {each.key: each.value.decode() for some in keys for each in some}


def check_claims(address: str, store: Objects) -> None:
    """What is claimed is what the Services hold, all of it and nothing else."""
    wanted: dict[str, str] = {}
    for one in store.snapshot().services:
        for key in layout.claim_keys(holdings(one)):
            assert wanted.setdefault(key, str(one.key)) == str(one.key), f"{key} was given twice"
    assert held_in(address) == wanted
    assert store.check().findings == ()  # type: ignore[attr-defined]


STEPS = st.lists(
    st.tuples(
        st.lists(
            st.tuples(
                st.sampled_from("abcd"), st.sampled_from(["NodePort", "ClusterIP"]), st.sampled_from([0, 0, 1, 2])
            ),
            max_size=3,
            unique_by=lambda put: put[0],
        ),
        st.sets(st.sampled_from("abcd"), max_size=2),
    ),
    min_size=1,
    max_size=5,
)


def test_claims_are_what_services_hold_whatever_is_written(tmp_path: Path) -> None:
    """Numbers that run short: whoever is put takes what is given up with it, the same name's as well."""
    ranges = Ranges(PortRange(30000, 30002), (IPv4Network("10.96.0.0/29"),))

    def work(address: str) -> int:
        runs = 0

        @settings(max_examples=40, deadline=None, database=None)
        @given(steps=STEPS)
        def law(steps: Any) -> None:
            nonlocal runs
            runs += 1
            here = f"{address}/{runs}"
            with opened(here, ranges) as store, MemoryStore(ranges) as memory:
                for puts, gone in steps:
                    objects = [
                        at(name, 30000 + port, ranges)
                        if port and kind == "NodePort"
                        else parse_object(document(name, kind), ranges=ranges)
                        for name, kind, port in puts
                    ]
                    deletes = [Ref("Service", "default", name) for name in sorted(gone)]
                    answers: list[object] = []
                    for each in (store, memory):
                        try:
                            written = each.write(objects, deletes, now=NOW)
                        except Problems as problems:
                            answers.append(problems.problems)
                        else:
                            told = [(one.ref, one.action, one.object.values) for one in written.applied]
                            answers.append((told, written.deleted, set(written.missing)))
                    assert answers[0] == answers[1]
                    check_claims(here, store)

        law()
        return runs

    assert with_etcd(tmp_path, work) >= 40


def test_a_copy_of_a_service_takes_nothing_from_it(tmp_path: Path) -> None:
    """Somebody has put a's document under another name: what it says it holds is not its own."""

    def work(address: str) -> None:
        from nodeport_nft.store.etcd import open_blocking
        from nodeport_nft.store.etcd.address import parse_connection

        copy = Ref("Service", "default", "b")
        with opened(address) as store, open_blocking(parse_connection(address)) as etcd:
            [one] = store.write([at("a", 30001)], now=NOW).applied
            raw = {**one.object.raw, "metadata": {**one.object.raw["metadata"], "name": "b"}}
            before = held_in(address)
            etcd.run(etcd.client.put(layout.object_key(copy), json.dumps(raw).encode()))
            with pytest.raises(StoreError, match="default/b and Service/default/a have the same ports/30001"):
                store.write([service("b", sessionAffinity="ClientIP")], now=NOW)
            assert store.write(deletes=[copy], now=NOW).deleted == (copy,)
            assert held_in(address) == before
            check_claims(address, store)

    with_etcd(tmp_path, work)


def test_a_write_that_was_never_answered_is_found_done_or_said_to_be_in_doubt(tmp_path: Path) -> None:
    """The connection is lost after etcd has done it, before it, and for good."""

    def work(address: str) -> list[str]:
        from nodeport_nft.store.etcd.client import Client
        from nodeport_nft.store.etcd.errors import Cause, EtcdError, Outcome

        commit, told = Client.commit, []

        def losing(*, does: bool, times: int) -> Any:
            left = times

            async def lost(self: Client, compares: Any, then: Any, otherwise: Any = ()) -> Any:
                nonlocal left
                then = list(then)
                is_write = any(not isinstance(operation, Get) for operation in then)
                if is_write and left:
                    left -= 1
                    if does:
                        await commit(self, compares, then, otherwise)
                    raise EtcdError("etcd: the connection was lost", Cause.SILENT, Outcome.UNKNOWN)
                return await commit(self, compares, then, otherwise)

            return lost

        for does, times in ((True, 1), (False, 1), (False, 3), (False, 100)):
            name = f"web-{does}-{times}".lower()
            with opened(address) as store, pytest.MonkeyPatch.context() as patch:
                patch.setattr(Client, "commit", losing(does=does, times=times))
                try:
                    written = store.write([service(name)], now=NOW, only_new=True)
                except StoreError as error:
                    told.append(str(error))
                else:
                    told.append(written.applied[0].action)
            with opened(address) as store:
                check_claims(address, store)
        return told

    *done, doubt = with_etcd(tmp_path, work)
    assert done == ["created"] * 3
    assert "whether Service/default/web-false-100 is written is not known" in doubt


@pytest.mark.parametrize("prune", ["sync -f"])
def test_manifests_are_never_the_whole_state_of_a_cluster(prune: str) -> None:
    with pytest.raises(StoreError, match=f"{prune}.*apply -f adds them"):
        open_file(Config(store="etcd://127.0.0.1:1"))


def test_a_path_is_still_a_file(tmp_path: Path) -> None:
    with open_objects(Config(store=str(tmp_path / "etcd"))) as store:
        assert isinstance(store, Store)


def test_a_watch_of_a_command_tells_what_others_write(tmp_path: Path) -> None:
    """It reads what the source tells of: two event loops, both of them with grpc."""

    def scenario(address: str) -> None:
        with opened(address) as store:
            store.write([service("web")], now=NOW)
            words = ["svc", "-w", "-o", "wide", "--output-watch-events", "--store", address]
            several = ["svc,ep,nodes", "-w", "--no-headers", "--store", address]
            with (
                Watching(tmp_path, *words) as watch,
                Watching(tmp_path, "ep", "-w", "--store", address) as endpoints,
                Watching(tmp_path, *several) as both,
            ):
                assert [both.line()[0], both.line()[0]] == ["service/web", "endpoints/web"]
                assert watch.line()[0] == "EVENT"
                assert watch.line()[:2] == ["ADDED", "web"]
                assert [endpoints.line()[0], endpoints.line()[0]] == ["NAME", "web"]
                store.write([service("other")], now=NOW)
                assert watch.line()[:2] == ["ADDED", "other"]
                assert endpoints.line()[0] == "other"
                store.write(deletes=[Ref("Service", "default", "web")], now=NOW)
                assert watch.line()[:2] == ["DELETED", "web"]
                assert endpoints.line()[0] == "web"
                told = {both.line()[0] for _ in range(2)}
                while told != {"service/other", "endpoints/other", "service/web", "endpoints/web"}:
                    told.add(both.line()[0])  # both writes may have come at once
                assert watch.interrupt() == (130, "")
                assert endpoints.interrupt() == (130, "")
                assert both.interrupt() == (130, "")

    with_etcd(tmp_path, scenario)
