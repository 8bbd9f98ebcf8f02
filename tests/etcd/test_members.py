"""Registrations in etcd: they end with their daemon alone, and nobody is lost who is there (C5, C6)."""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from nodeport_nft.model import MEMBER, PROBE_FAILURE, Member, ProbeFailure, Ref
from nodeport_nft.notation import parse_address
from nodeport_nft.settings import Validate
from nodeport_nft.store.api import NodeReport, Source, Waited
from nodeport_nft.store.etcd import layout, open_client
from nodeport_nft.store.etcd.client import Client
from nodeport_nft.store.etcd.registration import Identity, known_value, position_text, read_known, read_position
from nodeport_nft.store.etcd.values import KeyValue
from tests.cli.program import SCRIPT
from tests.etcd.members import PREFIX, WAIT, Members, in_etcd, patient, timings

if TYPE_CHECKING:
    from nodeport_nft.store.etcd.membership import EtcdMembership

pytestmark = [pytest.mark.proves("C5"), pytest.mark.usefixtures("private_namespaces")]

LIVE, KNOWN, PROGRESS = (prefix + "worker-1" for prefix in (layout.LIVE, layout.KNOWN, layout.PROGRESS))
REPORT = NodeReport("worker-1", version="1", addresses=("10.0.0.1",), position=position_text(1, ""))
HERE = Identity("here", "boot 1")
GRACE = 2.0


class Walk:
    """What a test does with one etcd: nodes that register, sources that see them."""

    def __init__(self, members: Members, client: Client) -> None:
        self.members = members
        self.client = client
        self._tasks: dict[Any, asyncio.Task[None]] = {}

    def register(self, who: Identity = HERE, report: NodeReport = REPORT, *, lease: int = 15) -> EtcdMembership:
        """A node that registers, and goes on; its ``lease`` is longer than a machine stalls."""
        from nodeport_nft.store.etcd.membership import EtcdMembership, Pauses

        pauses = Pauses(lease=lease, refresh=0.5, progress=1.0, jitter=0.1, look=0.5)
        made = EtcdMembership(
            self.members.connection(), report.name, who, pauses=pauses, timings=timings(patience=1.0)
        )
        made.tell(report)
        self._tasks[made] = asyncio.create_task(made.run())
        return made

    def follow(self, grace: float = GRACE, *, mark: tuple[float, float] = (0.1, 0.3)) -> Source:
        """A source that runs."""
        from nodeport_nft.store.etcd.roll import Waits
        from nodeport_nft.store.etcd.source import EtcdSource

        waits = Waits(grace, mark_first=mark[0], mark_last=mark[1], settle=20.0)
        made = EtcdSource(self.members.connection(), validate=Validate.warn, waits=waits)
        self._tasks[made] = asyncio.create_task(made.run())
        return made

    async def end(self, which: Any) -> None:
        """As if its process was killed."""
        task = self._tasks.pop(which)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def over(self, key: str = LIVE) -> float:
        """Let a registration end as with its lease; a moment in which it was there."""
        lease = (await self.key(key)).lease
        before = time.monotonic()
        await self.client.lease_revoke(lease)
        return before

    async def well(self, node: EtcdMembership) -> None:
        """Return when a node has no problems."""
        async with asyncio.timeout(WAIT):
            while node.problems():
                await asyncio.sleep(0.05)

    async def close(self) -> None:
        for each in list(self._tasks):
            await self.end(each)

    async def key(self, key: str, wanted: Callable[[KeyValue], bool] = lambda _: True) -> KeyValue:
        """A key, once it is there and as it is wanted."""
        async with asyncio.timeout(WAIT):
            while (found := await self.client.get(key)) is None or not wanted(found):
                await asyncio.sleep(0.05)
            return found

    async def gone(self, key: str) -> None:
        async with asyncio.timeout(WAIT):
            while await self.client.get(key) is not None:
                await asyncio.sleep(0.05)


def walk(directory: Path, steps: Callable[[Walk], Awaitable[None]]) -> None:
    """Take these steps in a namespace with an etcd."""

    async def scenario() -> None:
        members = Members(1, directory)
        members.start()
        await members.ready()
        async with open_client(members.connection(), patient()) as client:
            walk = Walk(members, client)
            try:
                await steps(walk)
            finally:
                await walk.close()
                members.all[0].kill()

    in_etcd(scenario)


async def told(source: Source, ref: Ref, wanted: Callable[[tuple[Any, ...]], bool]) -> None:
    """Return when the source tells this of an object."""
    async with asyncio.timeout(WAIT):
        while True:
            if any(wanted(change.values) for change in source.take().changes if change.ref == ref):
                return
            await source.changed()


async def untold(source: Source, seconds: float, ref: Ref, unwanted: Callable[[tuple[Any, ...]], bool]) -> None:
    """Fail if the source tells this of an object within that time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await told(source, ref, unwanted)
            raise AssertionError(f"{ref} was told as unwanted")


def alive(values: tuple[Any, ...]) -> bool:
    return any(isinstance(value, Member) and not value.lost_at for value in values)


def lost(values: tuple[Any, ...]) -> bool:
    return any(isinstance(value, Member) and value.lost_at > 0 for value in values)


NODE = Ref(MEMBER, "", "worker-1")


def test_a_registration_outlives_whatever_its_daemon_outlives(tmp_path: Path) -> None:
    """A restart of etcd; a key removed by hand; a lease that nobody knows any more. Nobody is marked as lost."""

    async def steps(walk: Walk) -> None:
        node = walk.register(lease=3)
        await walk.key(LIVE)
        assert read_known("worker-1", (await walk.key(KNOWN)).value) == 0.0
        source = walk.follow(5 * GRACE)
        await told(source, NODE, alive)

        for _ in range(5):  # where the machine stalls for longer than the lease, that has ended: not each time
            first = await walk.key(LIVE)
            walk.members.all[0].kill()
            await asyncio.sleep(1)
            walk.members.all[0].start()
            await asyncio.sleep(3.5)  # longer than the lease: it is refreshed
            again = await walk.key(LIVE)
            if again.lease == first.lease:
                break
        assert (again.lease, again.create_revision) == (first.lease, first.create_revision), "it never ended"

        await walk.client.delete(LIVE)
        assert (await walk.key(LIVE)).lease != first.lease
        await walk.client.put(LIVE, b"no registration")
        await walk.key(LIVE, lambda key: key.lease > 0)
        await walk.client.delete(KNOWN)
        await walk.key(KNOWN)
        await walk.client.lease_revoke((await walk.key(LIVE)).lease)
        await walk.key(LIVE)
        await walk.key(PROGRESS)
        await untold(source, GRACE + 1, NODE, lost)
        await walk.well(node)
        assert read_known("worker-1", (await walk.key(KNOWN)).value) == 0.0

    walk(tmp_path, steps)


def test_a_node_that_is_gone_counts_as_lost_when_its_grace_is_over(tmp_path: Path) -> None:
    """Not before; not where it is back before; at once for who begins later; and not by who cannot know it."""

    async def steps(walk: Walk) -> None:
        node = walk.register(lease=3)
        await walk.key(LIVE)
        await walk.end(node)
        await walk.gone(LIVE)

        for grace in (GRACE, 4 * GRACE, 16 * GRACE):  # until it is long enough for this machine
            node = walk.register()
            await walk.key(LIVE)
            source = walk.follow(grace)
            await told(source, NODE, alive)
            await walk.end(node)
            before = await walk.over()
            await walk.key(KNOWN, lambda key: read_known("worker-1", key.value) > 0)
            node = walk.register()
            await walk.key(LIVE)
            if time.monotonic() - before < grace:
                break
            await walk.end(node)
            await walk.end(source)
        else:
            pytest.fail("this machine takes longer to register again than the longest grace")
        await untold(source, grace + 1, NODE, lost)
        assert read_known("worker-1", (await walk.key(KNOWN)).value) == 0.0

        await walk.end(node)
        before = await walk.over()
        await told(source, NODE, lambda values: values == (Member("worker-1", is_live=False),))
        await told(source, NODE, lost)
        assert time.monotonic() - before >= grace
        assert read_known("worker-1", (await walk.key(KNOWN)).value) > 0

        later = walk.follow(grace)
        async with asyncio.timeout(WAIT):
            while not (changes := later.take()).whole:
                await later.changed()
        assert any(lost(change.values) for change in changes.changes if change.ref == NODE), "from the first on"
        again = walk.register()
        await told(source, NODE, alive)
        await told(later, NODE, alive)

        for each in (source, later):
            await walk.end(each)
        for longer in (grace, 4 * grace, 16 * grace):
            await walk.key(LIVE)
            source = walk.follow(longer)
            await told(source, NODE, alive)
            await walk.end(again)
            before = await walk.over()
            walk.members.all[0].kill()
            if time.monotonic() - before < longer:
                break
            walk.members.all[0].start()
            again = walk.register()
            await walk.end(source)
        else:
            pytest.fail("this machine takes longer to end etcd than the longest grace")
        await untold(source, longer + 1, NODE, lost)
        walk.members.all[0].start()
        await walk.gone(LIVE)  # etcd answers
        await untold(source, 1.0, NODE, lost)
        walk.register()
        await untold(source, longer + 1, NODE, lost)

    walk(tmp_path, steps)


def test_who_begins_when_a_node_was_lost_knows_it_also_after_the_shortest_grace(tmp_path: Path) -> None:
    """Else its endpoints would be in use again with each restart of a daemon, until the grace is over once more."""

    async def steps(walk: Walk) -> None:
        node = walk.register()
        await walk.key(LIVE)
        source = walk.follow(1.0, mark=(1.5, 1.5))
        await told(source, NODE, alive)
        await walk.end(node)
        await walk.over()
        await told(source, NODE, lost)
        later = walk.follow(1.0)
        await untold(later, 1.5, NODE, alive)

    walk(tmp_path, steps)


def test_a_registration_that_somebody_has_removed_is_back_before_its_node_counts_as_lost() -> None:
    from nodeport_nft.store.etcd.membership import Pauses
    from nodeport_nft.store.etcd.roll import Waits

    assert Pauses().look + Pauses().refresh < Waits().grace - Waits().mark_last


def test_an_old_mark_from_a_backup_loses_nobody_who_was_there(tmp_path: Path) -> None:
    async def steps(walk: Walk) -> None:
        walk.register()
        await walk.key(LIVE)
        source = walk.follow(WAIT)  # an old mark does not shorten it
        await told(source, NODE, alive)
        await walk.client.put(KNOWN, known_value(time.time() - 1000))
        await walk.client.delete(LIVE)
        await walk.key(LIVE)
        await walk.key(KNOWN, lambda key: read_known("worker-1", key.value) == 0)
        await untold(source, 1.0, NODE, lost)

    walk(tmp_path, steps)


def test_a_name_belongs_to_who_has_it(tmp_path: Path) -> None:
    """Another is told and waits; one from the same place takes over at once; and the first never takes it back."""

    async def steps(walk: Walk) -> None:
        first = walk.register(lease=6)  # when it is over, what is wrong is told
        mine = await walk.key(LIVE)
        other = walk.register(Identity("there", "boot 2"), replace(REPORT, addresses=("10.0.0.2",)))
        async with asyncio.timeout(WAIT):
            while not other.problems():
                await asyncio.sleep(0.05)
        assert "here, 10.0.0.1 has that name" in other.problems()[0]
        assert "--node-name" in other.problems()[0]
        assert (await walk.key(LIVE)).mod_revision == mine.mod_revision

        restarted = walk.register(replace(HERE, daemon="second"))
        now = await walk.key(LIVE, lambda key: key.mod_revision > mine.mod_revision)
        assert b'"second"' in now.value
        async with asyncio.timeout(WAIT):
            while not first.problems():  # as if two daemons ran in one place: they do not take turns
                await asyncio.sleep(0.05)
        assert (await walk.key(LIVE)).mod_revision == now.mod_revision
        assert not restarted.problems()
        await walk.end(first)
        await walk.end(restarted)
        await walk.over()
        await walk.key(LIVE, lambda key: b'"there"' in key.value)
        async with asyncio.timeout(WAIT):
            while other.problems():
                await asyncio.sleep(0.05)

    walk(tmp_path, steps)


def test_a_node_that_cannot_register_says_so_and_goes_on(tmp_path: Path) -> None:
    async def steps(walk: Walk) -> None:
        walk.members.all[0].kill()
        node = walk.register(lease=3)
        async with asyncio.timeout(WAIT):
            while not node.problems():
                await asyncio.sleep(0.05)
        assert "is not registered as worker-1: etcd 127.0.0.1:2379" in node.problems()[0]
        walk.members.all[0].start()
        await walk.key(LIVE)
        async with asyncio.timeout(WAIT):
            while node.problems():
                await asyncio.sleep(0.05)

    walk(tmp_path, steps)


def test_progress_is_written_at_once_for_a_barrier_and_now_and_then_else(tmp_path: Path) -> None:
    async def steps(walk: Walk) -> None:
        node = walk.register()
        first = await walk.key(PROGRESS)
        begin = time.monotonic()
        for number in range(100):
            node.tell(replace(REPORT, position=position_text(number + 2, "")))
            await asyncio.sleep(0.02)
        passed = time.monotonic() - begin
        last = await walk.key(PROGRESS, lambda key: b'"revision":101,' in key.value)
        assert last.version - first.version <= passed + 2, "one a second"
        await asyncio.sleep(2)
        assert (await walk.key(PROGRESS)).version == last.version, "nothing where nothing changes"
        node.tell(replace(REPORT, position=position_text(102, "b")))
        await walk.key(PROGRESS, lambda key: b'"barrier":"b"' in key.value)
        live = await walk.key(LIVE)
        assert live.version == 1, "which all watch"
        node.tell(replace(REPORT, addresses=("10.0.0.9",)))
        await walk.key(LIVE, lambda key: b"10.0.0.9" in key.value)

    walk(tmp_path, steps)


@pytest.mark.proves("C6")
def test_the_position_comes_after_what_was_written_before_it(tmp_path: Path) -> None:
    """Also where nothing of that is an object; keys elsewhere are nobody's news."""

    async def steps(walk: Walk) -> None:
        source = walk.follow()
        assert source.take().position == ""
        await source.changed()
        first = source.take()
        assert read_position(first.position)[1] == ""
        await walk.client.put("progress/worker-2", b"{}")
        await walk.client.put("ports/30000", b"a/b")
        revision = await walk.client.put(layout.BARRIER, b"mark")
        async with asyncio.timeout(WAIT):
            while read_position((changes := source.take()).position)[1] != "mark":
                await source.changed()
        assert read_position(changes.position) == (revision, "mark")
        assert not changes.changes

    walk(tmp_path, steps)


@pytest.mark.proves("C6")
def test_a_wait_is_over_when_all_who_are_alive_have_what_was_there(tmp_path: Path) -> None:
    """Not for a barrier of before; for several at once; not for who is away, or goes away meanwhile."""

    async def steps(walk: Walk) -> None:
        from nodeport_nft.store.etcd.members import wait_for_all

        async def repeat(node: EtcdMembership, report: NodeReport) -> None:
            """Program at once whatever comes."""
            source = walk.follow()
            while True:
                await source.changed()
                node.tell(replace(report, position=source.take().position, programmed=1.0))

        assert await wait_for_all(walk.client, 0.0) == Waited()
        await walk.client.put("members/known/worker-0", known_value(12.0))
        reports = [replace(REPORT, name=name) for name in ("worker-1", "worker-2", "worker-3")]
        nodes = [walk.register(report=report) for report in reports[:2]]
        tasks = [asyncio.create_task(repeat(node, report)) for node, report in zip(nodes, reports[:2], strict=True)]
        for report in reports[:2]:
            await walk.key(layout.LIVE + report.name)
        assert len((await wait_for_all(walk.client, WAIT)).synced) == 2
        nodes.append(walk.register(report=reports[2]))
        await walk.key(layout.LIVE + "worker-3")
        async with open_client(walk.members.connection(), timings()) as another:
            for seconds in (3.0, 30.0):  # so long that those are synced who will be
                some = await asyncio.gather(*(wait_for_all(client, seconds) for client in (walk.client, another)))
                if all(len(waited.late) == 1 for waited in some):
                    break
            for waited in some:
                assert [one.name for one in waited.synced] == ["worker-1", "worker-2"]
                assert [one.name for one in waited.late] == ["worker-3"]
                assert [(one.name, one.lost_at) for one in waited.away] == [("worker-0", 12.0)]
            nodes[2].tell(replace(reports[2], position=position_text(10**9, "of another time")))
            await walk.key(layout.PROGRESS + "worker-3", lambda key: b"another time" in key.value)
            for seconds in (0.5, 5.0, 30.0):
                if len(late := (await wait_for_all(walk.client, seconds)).late) == 1:
                    break
            assert [one.name for one in late] == ["worker-3"]
            waiting = asyncio.create_task(wait_for_all(walk.client, WAIT))
            also_waiting = asyncio.create_task(wait_for_all(another, WAIT))
            await asyncio.sleep(0.2)
            await walk.end(nodes[2])
            await walk.over(layout.LIVE + "worker-3")
            for waited in await asyncio.gather(waiting, also_waiting):
                assert [one.name for one in waited.away] == ["worker-0", "worker-3"]
                assert not waited.late
        for task in tasks:
            task.cancel()

    walk(tmp_path, steps)


STRANGE = (
    ("members/known/worker-9", b"no json"),
    ("members/known/worker-8", b'{"lostAt": true}'),
    ("members/known/worker-7", b'{"lostAt": 1e400}'),
    ("members/known/worker-6", b'{"lostAt": -1}'),
    ("members/known/worker-5", b"[" * 100_000),
    ("members/known/a/b", b'{"lostAt": 0.0}'),
    ("members/probes/default/10.0.0.1", b"\xff"),
    ("members/probes/default/10.0.0.2", b'{"since": NaN}'),
    ("members/probes/default/10.0.0.3", b'{"since": "now"}'),
    ("members/probes/default/FD00::1", b'{"since": 1}'),
    ("members/probes/default/nowhere", b'{"since": 1}'),
    ("members/probes/10.0.0.5", b'{"since": 1}'),
)


def test_what_is_strange_is_told_and_harms_nothing(tmp_path: Path) -> None:
    """Whether it is there from the start or comes later; and it is well when it is removed."""
    failing, address = "members/probes/default/10.0.0.6", parse_address("10.0.0.6")
    probe = Ref(PROBE_FAILURE, "default", "10.0.0.6")

    async def steps(walk: Walk) -> None:
        source = walk.follow()
        await source.changed()
        assert source.take().whole
        for key, value in STRANGE:
            await walk.client.put(key, value)
        await walk.client.put("members/elsewhere", b"of others")
        await walk.client.put("members/live/worker-9", b"no json")
        await walk.client.put(failing, b'{"since": 12.5}')
        await told(source, probe, lambda values: values == (ProbeFailure("default", address, 12.5),))
        for each in (source, walk.follow()):
            async with asyncio.timeout(WAIT):
                while not each.problems():
                    await each.changed()
            text = "\n".join(each.problems())
            assert "etcdctl del" in text
            named = [key for key, _ in STRANGE if f"{key} in etcd: " in text]
            assert len(named) == 10
            assert f"{len(STRANGE) - 10} more keys" in text
        for key, _ in STRANGE:
            await walk.client.delete(key)
        await walk.client.delete(failing)
        await told(source, probe, lambda values: not values)
        assert not source.problems()

    walk(tmp_path, steps)


def test_a_trial_of_a_delete_says_what_becomes_of_a_node_that_is_only_registered(tmp_path: Path) -> None:
    async def steps(walk: Walk) -> None:
        store = f"{walk.members.all[0].url.replace('http', 'etcd')}/{PREFIX}"

        async def deleted(*more: str) -> tuple[int | None, str, str]:
            words = ("delete", "node", "worker-1", *more, "--store", store)
            done = await asyncio.create_subprocess_exec(SCRIPT, *words, stdout=PIPE, stderr=PIPE)
            out, err = await done.communicate()
            return done.returncode, out.decode(), err.decode()

        node = walk.register(lease=3)
        await walk.key(LIVE)
        for more in ((), ("--dry-run=client",), ("--dry-run=server",)):
            assert await deleted(*more) == (1, "", "worker-1: its daemon runs, and its registration stays\n")
        await walk.end(node)
        await walk.gone(LIVE)
        assert await deleted("--dry-run=client") == (0, 'node "worker-1" deleted (dry run)\n', "")
        assert await deleted("--dry-run=server") == (0, 'node "worker-1" deleted (server dry run)\n', "")
        await walk.key(KNOWN)
        assert await deleted() == (0, 'node "worker-1" deleted\n', "")
        await walk.gone(KNOWN)
        code, out, err = await deleted("--dry-run=server")
        assert (code, out, err) == (1, "", 'error: node "worker-1" not found\n')

    walk(tmp_path, steps)
