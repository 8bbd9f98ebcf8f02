"""Manifests on disk, followed: real files, a real store, a real event loop.

That nothing happens is never waited for. Something else is changed after it, and once that has come to the store, so
would have the other.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeport_nft.config import Config
from nodeport_nft.manifest import Object, Problems, Reading, parse_object, read_manifest, read_manifests
from nodeport_nft.model import PortRange, Ranges
from nodeport_nft.sources import manifest_follower as manifests
from nodeport_nft.sources.manifest_follower import ManifestFollower
from nodeport_nft.store import OthersObjects, Store

DEADLINE = 60.0
NOW = "2026-01-31T12:00:00Z"


def service(name: str, node_port: int = 0, target: int = 8080, **spec: Any) -> dict[str, Any]:
    port = {"port": 80, "targetPort": target, **({"nodePort": node_port} if node_port else {})}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": "NodePort", "selector": {"app": name}, "ports": [port], **spec},
    }


def text(*documents: dict[str, Any]) -> str:
    return yaml.safe_dump_all(documents)


def write(path: Path, *documents: dict[str, Any]) -> None:
    """In place, as a shell's ``>`` does."""
    path.write_text(text(*documents), encoding="utf-8")


def replace_file(path: Path, *documents: dict[str, Any]) -> None:
    """As careful editors do: a second file, renamed over the first."""
    temporary = path.with_name(f".{path.name}.swp")
    write(temporary, *documents)
    temporary.rename(path)


@dataclass
class Followed:
    """A follower at work, and what it has told."""

    follower: ManifestFollower
    store: Path
    reports: list[tuple[str, ...]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """As they are now."""
        return self.reports[-1] if self.reports else ()

    def targets(self) -> dict[str, int]:
        """The target port of every stored Service."""
        with Store(self.store, ranges=Ranges()) as store:
            return {stored.name: stored.raw["spec"]["ports"][0]["targetPort"] for stored in store.objects("Service")}

    def names(self) -> set[str]:
        return set(self.targets())

    def node_port(self, name: str) -> int:
        with Store(self.store, ranges=Ranges()) as store:
            stored = store.get("Service", "default", name)
            assert stored is not None
            return int(stored.raw["spec"]["ports"][0]["nodePort"])

    def version(self) -> int:
        with Store(self.store, ranges=Ranges()) as store:
            return store.resource_version()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                assert self.task is None or not self.task.done()
                await asyncio.sleep(0.01)

    async def settled(self, path: Path) -> None:
        """Until what happened before this has come to the store; ``path`` is a followed file to tell it by."""
        marker = f"marker-{random.randrange(10**9)}"
        replace_file(path, service(marker))
        await self.until(lambda: marker in self.names())


@dataclass
class Desk:
    """A directory for manifests and a store beside it."""

    root: Path
    manifests: Path
    store: Path

    def seed(self, *documents: dict[str, Any], by_manifests: bool = True) -> None:
        """What the store holds before anybody follows: from an earlier run, or not from manifests at all."""
        with Store(self.store, ranges=Ranges()) as store, store.transaction() as transaction:
            objects = [parse_object(document) for document in documents]
            transaction.apply(objects, now=NOW, by_manifests=by_manifests)

    @asynccontextmanager
    async def following(
        self, *paths: Path, prune: bool = False, allow_empty: bool = False, config: Config | None = None
    ) -> AsyncIterator[Followed]:
        config = replace(config or Config(), store=str(self.store))
        reports: list[tuple[str, ...]] = []
        said: list[str] = []
        names = [str(path) for path in paths or (self.manifests,)]
        follower = ManifestFollower(
            names, config, prune=prune, allow_empty=allow_empty, report=reports.append, say=said.append
        )
        await follower.begin()
        task = asyncio.create_task(follower.follow())
        try:
            yield Followed(follower, self.store, reports, said, task)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    directory = tmp_path / "manifests"
    directory.mkdir()
    return Desk(tmp_path, directory, tmp_path / "state" / "store.db")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read, one entry a reading."""
    names: list[str] = []

    def counted(path: str, **options: Any) -> Reading:
        names.append(Path(path).name)
        return read_manifest(path, **options)

    monkeypatch.setattr(manifests, "read_manifest", counted)
    return names


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(3 * DEADLINE):
            await scenario

    asyncio.run(bounded())


def test_begin_brings_the_store_to_the_manifests(desk: Desk) -> None:
    desk.seed(service("old"), service("web", target=1))
    below = desk.manifests / "below"
    below.mkdir()
    write(desk.manifests / "web.yaml", service("web"))
    write(below / "db.yml", service("db"))
    write(desk.manifests / ".hidden.yaml", service("hidden"))
    write(desk.manifests / "notes.txt", service("notes"))

    async def scenario() -> None:
        async with desk.following() as followed:
            assert followed.targets() == {"web": 8080, "db": 8080}
            assert followed.said == ["service/old deleted: it is not in the manifests"]
            assert followed.reports == []

    run(scenario())


def test_begin_again_writes_nothing(desk: Desk) -> None:
    write(desk.manifests / "web.yaml", service("web"), service("db"))

    async def scenario() -> None:
        async with desk.following() as followed:
            before = followed.version()
        async with desk.following() as followed:
            assert followed.version() == before == 2

    run(scenario())


@pytest.mark.parametrize("edit", [write, replace_file])
def test_an_edit_takes_effect_and_what_is_held_stays(desk: Desk, edit: Callable[..., None]) -> None:
    web = desk.manifests / "web.yaml"
    write(web, service("web"), service("db"))

    async def scenario(*paths: Path) -> None:
        async with desk.following(*paths) as followed:
            for target in (9090, 7070):
                held = followed.node_port("web")
                version = followed.version()
                edit(web, service("web", target=target), service("db"))
                await followed.until(lambda wanted=target: followed.targets()["web"] == wanted)  # type: ignore[misc]
                assert followed.node_port("web") == held
                assert followed.version() == version + 1  # of web alone

    run(scenario())
    write(web, service("web"), service("db"))
    run(scenario(web))


def test_an_editor_that_moves_the_old_file_away_first(desk: Desk) -> None:
    web = desk.manifests / "web.yaml"
    write(web, service("web"), service("db"))

    async def scenario(*paths: Path) -> None:
        async with desk.following(*paths) as followed:
            held = followed.node_port("db")
            web.rename(desk.manifests / "web.yaml~")
            with web.open("w", encoding="utf-8") as file:
                file.write(text(service("web", target=9090)))
                file.flush()
                # It is there and whole YAML, but its writer is not done: nobody may take db for deleted.
                other = desk.manifests / "other.yaml"
                write(other, service("other"))
                if not paths:
                    await followed.until(lambda: "other" in followed.names())
                    assert followed.targets() == {"web": 8080, "db": 8080, "other": 8080}
                file.write("---\n" + text(service("db")))
            (desk.manifests / "web.yaml~").unlink()
            await followed.until(lambda: followed.targets()["web"] == 9090)
            assert followed.node_port("db") == held
            assert not any("db" in line for line in followed.said)

    run(scenario())
    (desk.manifests / "other.yaml").unlink()
    write(web, service("web"), service("db"))
    run(scenario(web))


def test_a_config_map_is_swapped_by_its_link(desk: Desk) -> None:
    mount = desk.manifests

    def publish(generation: str, *documents: dict[str, Any]) -> None:
        (mount / generation).mkdir()
        write(mount / generation / "web.yaml", *documents)
        (mount / "..data_tmp").symlink_to(generation)
        (mount / "..data_tmp").rename(mount / "..data")

    publish("..2026_1", service("web"))
    (mount / "web.yaml").symlink_to("..data/web.yaml")

    async def scenario(*paths: Path) -> None:
        async with desk.following(*paths) as followed:
            start = len(list(mount.iterdir()))
            for number, target in ((1, 9090), (2, 7070)):
                generation = f"..2026_{start}_{number}"
                old = mount / (mount / "..data").readlink()
                publish(generation, service("web", target=target))
                shutil.rmtree(old)
                await followed.until(lambda wanted=target: followed.targets() == {"web": wanted})  # type: ignore[misc]
            assert followed.reports == []

    run(scenario())
    run(scenario(mount / "web.yaml"))
    run(scenario(mount / "..data"))


def test_a_wrong_file_leaves_its_last_good_state_and_others_go_on(desk: Desk) -> None:
    web, other = desk.manifests / "web.yaml", desk.manifests / "other.yaml"
    write(web, service("web"), service("db"))
    write(other, service("other"))

    async def scenario() -> None:
        async with desk.following() as followed:
            whole = text(service("web", target=9090), service("db", target=9090))
            web.write_text(whole[: whole.index("targetPort") + 5], encoding="utf-8")  # cut off in a key: no YAML
            await followed.until(lambda: followed.problems)
            (problem,) = followed.problems
            assert problem.startswith(f"{web}:")
            assert problem.split(":")[1].isdigit()
            assert followed.names() == {"web", "db", "other"}
            write(other, service("other", target=9090))
            await followed.until(lambda: followed.targets() == {"web": 8080, "db": 8080, "other": 9090})
            # It parses now, but one of its objects is wrong: none of the file counts.
            write(web, service("web", target=9090), service("db", target=99999))
            await followed.until(lambda: "Service/default/db" in followed.problems[0])
            assert "spec.ports[0].targetPort" in followed.problems[0]
            assert followed.targets()["web"] == 8080
            web.write_text(whole, encoding="utf-8")
            await followed.until(lambda: followed.targets() == {"web": 9090, "db": 9090, "other": 9090})
            await followed.until(lambda: not followed.problems)
            assert followed.said == []

    run(scenario())


def test_a_wrong_file_that_is_deleted_takes_its_objects_along(desk: Desk) -> None:
    web, other = desk.manifests / "web.yaml", desk.manifests / "other.yaml"
    write(web, service("web"))
    write(other, service("other"))

    async def scenario() -> None:
        async with desk.following() as followed:
            web.write_text("kind: [", encoding="utf-8")
            await followed.until(lambda: followed.problems)
            web.unlink()
            await followed.until(lambda: followed.names() == {"other"})
            await followed.until(lambda: not followed.problems)

    run(scenario())


def test_a_file_that_is_being_written_is_not_read(desk: Desk, reads: list[str]) -> None:
    web, other = desk.manifests / "web.yaml", desk.manifests / "other.yaml"
    write(web, service("web"), service("db"))

    async def scenario() -> None:
        async with desk.following() as followed:
            reads.clear()
            new = desk.manifests / "new.yaml"
            with web.open("w", encoding="utf-8") as file, new.open("w", encoding="utf-8") as created:
                for unfinished in (file, created):
                    unfinished.write(text(service("web", target=9090)))
                    unfinished.flush()
                await followed.settled(other)
                assert followed.targets()["web"] == 8080
                assert "db" in followed.names()
                assert set(reads) == {"other.yaml"}
                created.seek(0)
                created.truncate()
                created.write(text(service("new")))
                file.write("---\n" + text(service("db")))
            await followed.until(lambda: followed.targets()["web"] == 9090 and {"db", "new"} <= followed.names())

    run(scenario())


def test_a_file_that_is_linked_into_its_place(desk: Desk) -> None:
    web, other = desk.manifests / "web.yaml", desk.manifests / "other.yaml"
    draft = desk.root / "draft"
    write(other, service("other"))

    async def scenario() -> None:
        async with desk.following() as followed:
            write(draft, service("web"))
            os.link(draft, web)
            await followed.until(lambda: "web" in followed.names())
            web.unlink()
            os.link(draft, web)
            draft.unlink()  # one name is left, as a file has that is being written
            write(other, service("other", target=9090))
            await followed.until(lambda: followed.targets() == {"web": 8080, "other": 9090})
            web.unlink()
            await followed.until(lambda: followed.names() == {"other"})
            for _ in range(1000):  # until the clock's tick is the same: then its times look like a writer's, too
                write(draft, service("web"))
                os.link(draft, web)
                draft.unlink()
                if web.stat().st_mtime_ns == web.stat().st_ctime_ns:
                    break
                web.unlink()
            await followed.until(lambda: followed.targets() == {"web": 8080, "other": 9090})

    run(scenario())


def test_a_file_of_two_names_is_written_by_one(desk: Desk) -> None:
    first, second = desk.manifests / "a.yaml", desk.manifests / "b.yaml"
    write(first, service("web"))
    os.link(first, second)

    async def scenario() -> None:
        async with desk.following() as followed:
            write(second, service("web", target=9090))
            await followed.until(lambda: followed.targets() == {"web": 9090})  # which the first name says
            outside = desk.root / "outside"
            second.rename(outside)
            await followed.until(lambda: not followed.problems)
            write(outside, service("web", target=7070))
            await followed.until(lambda: followed.targets() == {"web": 7070})

    run(scenario())


def test_a_named_file_is_written_by_another_name(desk: Desk) -> None:
    """As one that is mounted alone into a container and edited outside: its directory is told of nothing."""
    web, alias = desk.root / "web.yaml", desk.root / "alias"
    write(web, service("web"))
    os.link(web, alias)

    async def scenario() -> None:
        async with desk.following(web) as followed:
            write(alias, service("web", target=9090))
            await followed.until(lambda: followed.targets() == {"web": 9090})

    run(scenario())


def test_a_wrong_file_at_the_start_defers_pruning(desk: Desk) -> None:
    desk.seed(service("web"), service("stale"))
    web, other = desk.manifests / "web.yaml", desk.manifests / "other.yaml"
    web.write_text("kind: [", encoding="utf-8")
    write(other, service("other"))

    async def scenario() -> None:
        async with desk.following() as followed:
            assert followed.names() == {"web", "stale", "other"}
            assert len(followed.problems) == 1
            write(other, service("another"))  # what the manifests gave is taken back all the same
            await followed.until(lambda: followed.names() == {"web", "stale", "another"})
            held = followed.node_port("web")
            write(web, service("web"))
            await followed.until(lambda: followed.names() == {"web", "another"})
            assert followed.node_port("web") == held
            await followed.until(lambda: followed.said[-1] == "service/stale deleted: it is not in the manifests")
            await followed.until(lambda: followed.problems == ())

    run(scenario())


def test_a_path_that_is_not_there_yet_defers_pruning(desk: Desk) -> None:
    desk.seed(service("web"), service("stale"))
    write(desk.manifests / "other.yaml", service("other"))
    late = desk.root / "deep" / "down" / "late.yaml"

    async def scenario() -> None:
        async with desk.following(desk.manifests, late) as followed:
            assert followed.names() == {"web", "stale", "other"}
            assert followed.problems == (
                f"{late}: cannot be read: No such file or directory; check the path and its permissions",
            )
            late.parent.mkdir(parents=True)
            write(late, service("web"))
            await followed.until(lambda: followed.names() == {"web", "other"})
            await followed.until(lambda: not followed.problems)
            shutil.rmtree(desk.root / "deep")
            await followed.until(lambda: followed.names() == {"other"})
            await followed.until(lambda: followed.problems)
            late.parent.mkdir(parents=True)
            write(late, service("web", target=9090))
            await followed.until(lambda: followed.targets() == {"web": 9090, "other": 8080})
            await followed.until(lambda: not followed.problems)

    run(scenario())


def test_a_refused_object_stays_as_it_was_and_the_rest_goes_on(desk: Desk) -> None:
    many, other = desk.manifests / "many.yaml", desk.manifests / "other.yaml"
    write(many, service("a", 30001), service("b", 30002), service("c", 30003))
    trade = desk.manifests / "trade.yaml"
    write(trade, service("e", 30004), service("f", 30005))
    write(other, service("other", 30010))

    async def scenario() -> None:
        async with desk.following() as followed:
            # b wants what other holds, a what b would leave; c and d want nothing of it, e and f trade theirs.
            replace_file(trade, service("e", 30005), service("f", 30004))
            write(many, service("b", 30010, 9090), service("a", 30002, 9090), service("c", 30003, 9090), service("d"))
            await followed.until(lambda: "d" in followed.names())
            old = {"a": 8080, "b": 8080, "d": 8080, "e": 8080, "f": 8080, "other": 8080}
            assert followed.targets() == {**old, "c": 9090}
            assert (followed.node_port("e"), followed.node_port("f")) == (30005, 30004)
            await followed.until(lambda: len(followed.problems) == 2)
            assert all(problem.startswith(f"{many}:") for problem in followed.problems)
            assert any("Service/default/b: spec.ports[0].nodePort: nodePort 30010" in p for p in followed.problems)
            assert any("Service/default/a: spec.ports[0].nodePort: nodePort 30002" in p for p in followed.problems)
            write(other, service("other", 30011))
            await followed.until(lambda: followed.node_port("b") == 30010)
            assert followed.node_port("a") == 30002
            assert followed.targets() == {**old, "a": 9090, "b": 9090, "c": 9090}
            await followed.until(lambda: not followed.problems)

    run(scenario())


def test_a_refused_object_is_tried_again_when_its_file_is_touched(desk: Desk) -> None:
    web = desk.manifests / "web.yaml"
    write(web, service("other"))

    async def scenario() -> None:
        async with desk.following() as followed:
            desk.seed(service("foreign", 30050))  # not by a manifest
            write(web, service("other"), service("web", 30050))
            await followed.until(lambda: followed.problems)
            with Store(desk.store, ranges=Ranges()) as store, store.transaction() as transaction:
                assert transaction.delete("Service", "default", "foreign")
            web.touch()
            await followed.until(lambda: followed.names() == {"other", "web"})
            await followed.until(lambda: not followed.problems)

    run(scenario())


def test_a_refused_object_that_is_taken_back_is_no_problem_any_more(desk: Desk) -> None:
    web, other = desk.manifests / "web.yaml", desk.manifests / "other.yaml"
    write(web, service("web", 30001))
    write(other, service("other", 30010))

    async def scenario() -> None:
        async with desk.following() as followed:
            write(web, service("web", 30010))
            await followed.until(lambda: followed.problems)
            version = followed.version()
            write(web, service("web", 30001))
            await followed.until(lambda: not followed.problems)
            assert followed.version() == version
            write(web, service("web", 30010))
            await followed.until(lambda: followed.problems)
            web.unlink()
            await followed.until(lambda: followed.names() == {"other"})
            await followed.until(lambda: not followed.problems)

    run(scenario())


def test_who_is_refused_does_not_stand_in_the_way_of_another(desk: Desk) -> None:
    """Of a and b, who both want 30020, a comes first; it is refused for its other port, so b may have it."""
    desk.seed(service("holder", 30030))
    write(desk.manifests / "holder.yaml", service("holder", 30030))
    both = [{"name": "x", "port": 80, "nodePort": 30020}, {"name": "y", "port": 81, "nodePort": 30030}]
    write(desk.manifests / "a.yaml", service("a", ports=both))
    write(desk.manifests / "b.yaml", service("b", 30020))

    async def scenario() -> None:
        async with desk.following() as followed:
            assert followed.names() == {"holder", "b"}
            assert followed.problems
            assert all("Service/default/a" in problem for problem in followed.problems)

    run(scenario())


def test_twins_belong_to_the_first_file(desk: Desk) -> None:
    first, second = desk.manifests / "a.yaml", desk.manifests / "b.yaml"
    write(first, service("web"))
    write(second, service("web", target=9090), service("db"))

    async def scenario() -> None:
        async with desk.following() as followed:
            assert followed.targets() == {"web": 8080, "db": 8080}
            (problem,) = followed.problems
            assert problem.startswith(f"{second}:")
            assert f"Service/default/web: metadata.name: web is given twice, first at {first}:" in problem
            held = followed.node_port("web")
            first.unlink()
            await followed.until(lambda: followed.targets()["web"] == 9090)
            await followed.until(lambda: not followed.problems)
            assert followed.node_port("web") == held
            write(first, service("web", target=7070))
            await followed.until(lambda: followed.targets()["web"] == 7070)
            await followed.until(lambda: len(followed.problems) == 1)
            first.write_text("kind: [", encoding="utf-8")  # wrong, it keeps what it has
            await followed.until(lambda: len(followed.problems) == 2)
            assert followed.targets()["web"] == 7070

    run(scenario())


def test_a_deleted_file_frees_what_its_objects_held(desk: Desk) -> None:
    web, other = desk.manifests / "web.yaml", desk.manifests / "other.yaml"
    write(web, service("web", 30001))
    write(other, service("other"))

    async def scenario() -> None:
        async with desk.following() as followed:
            web.unlink()
            await followed.until(lambda: followed.names() == {"other"})
            await followed.until(lambda: followed.said == ["service/web deleted: it is not in the manifests"])
            write(other, service("other", 30001))
            await followed.until(lambda: followed.node_port("other") == 30001)
            assert followed.reports == []

    run(scenario())


def test_manifests_that_become_empty_delete_nothing(desk: Desk) -> None:
    web = desk.manifests / "web.yaml"
    write(web, service("web"))

    async def scenario() -> None:
        async with desk.following() as followed:
            held = followed.node_port("web")
            for empty in (web.unlink, lambda: web.write_text("", encoding="utf-8")):
                empty()
                await followed.until(lambda: followed.problems)
                (problem,) = followed.problems
                assert problem.startswith(f"{desk.manifests}: ")
                assert "--allow-empty" in problem
                assert followed.names() == {"web"}
                write(web, service("web", target=9090))
                await followed.until(lambda: not followed.problems)
                assert followed.targets() == {"web": 9090}
                assert followed.node_port("web") == held
            web.unlink()
            await followed.until(lambda: followed.problems)
            write(desk.manifests / "other.yaml", service("other"))  # now what is gone is gone
            await followed.until(lambda: followed.names() == {"other"})

    run(scenario())


def test_an_empty_directory_at_the_start_deletes_nothing(desk: Desk) -> None:
    desk.seed(service("web"))

    async def scenario() -> None:
        async with desk.following() as followed:
            assert followed.names() == {"web"}
            assert "--allow-empty" in followed.problems[0]
        async with desk.following(allow_empty=True) as followed:
            assert followed.names() == set()
            assert followed.reports == []

    run(scenario())


def test_a_store_that_others_have_filled_is_not_taken_for_its_own(desk: Desk) -> None:
    desk.seed(service("theirs"), service("web"), by_manifests=False)
    write(desk.manifests / "web.yaml", service("web", target=9090))

    async def scenario() -> None:
        with pytest.raises(OthersObjects, match=r"holds 1 object \(Service/default/theirs\) that"):
            async with desk.following():
                raise AssertionError("it has begun")
        assert Followed(None, desk.store).targets() == {"theirs": 8080, "web": 8080}  # type: ignore[arg-type] # not asked
        async with desk.following(prune=True) as followed:
            assert followed.targets() == {"web": 9090}
        desk.seed(service("theirs"), by_manifests=False)
        async with desk.following() as followed:  # the manifests were here before: it goes on with what is there
            assert followed.names() == {"theirs", "web"}
            assert [text for text in followed.said if "Service/default/theirs" in text and "--prune" in text]

    run(scenario())


def test_what_others_write_meanwhile_stays_unless_it_is_to_be_pruned(desk: Desk) -> None:
    web = desk.manifests / "web.yaml"
    write(web, service("a"), service("b"), service("c"))

    async def scenario() -> None:
        async with desk.following() as followed:
            desk.seed(service("theirs"), service("b"), by_manifests=False)
            write(web, service("c"))  # b has left them, and is somebody else's by now
            await followed.until(lambda: followed.names() == {"theirs", "b", "c"})
            await followed.until(lambda: any("Service/default/b" in text for text in followed.said))
            desk.seed(service("c"), by_manifests=False)
            write(web, service("c", target=9090))  # and back it comes to the manifests
            await followed.until(lambda: followed.targets() == {"theirs": 8080, "b": 8080, "c": 9090})
            write(web, service("d"))
            await followed.until(lambda: followed.names() == {"theirs", "b", "d"})
        async with desk.following(prune=True) as followed:
            assert followed.names() == {"d"}
            desk.seed(service("theirs"), by_manifests=False)
            write(web, service("e"))
            await followed.until(lambda: followed.names() == {"e"})

    run(scenario())


def test_a_change_of_type_is_followed_and_told(desk: Desk) -> None:
    web = desk.manifests / "web.yaml"
    write(web, service("web", 30080, type="NodePort"))

    async def scenario() -> None:
        async with desk.following() as followed:
            write(web, service("web", 30080, type="ClusterIP"), service("heir", 30080, type="NodePort"))
            await followed.until(lambda: "heir" in followed.names())
            assert followed.node_port("heir") == 30080
            assert not followed.problems
            await followed.until(lambda: any("spec.ports[0].nodePort: dropped" in text for text in followed.said))
            write(web, service("web", 30081, type="ClusterIP"), service("heir", 30080, type="NodePort"))
            await followed.until(lambda: followed.problems)
            assert "30081 may not be set on a service of type ClusterIP" in followed.problems[0]
            assert followed.names() == {"web", "heir"}

    run(scenario())


def test_manifests_may_become_empty_where_that_is_allowed(desk: Desk) -> None:
    web = desk.manifests / "web.yaml"
    write(web, service("web"))

    async def scenario() -> None:
        async with desk.following(allow_empty=True) as followed:
            web.unlink()
            await followed.until(lambda: not followed.names())
            assert followed.reports == []

    run(scenario())


def test_directories_come_and_go(desk: Desk) -> None:
    write(desk.manifests / "web.yaml", service("web"))

    async def scenario() -> None:
        async with desk.following() as followed:
            below = desk.manifests / "team" / "blue"
            below.mkdir(parents=True)
            write(below / "db.yaml", service("db"))
            await followed.until(lambda: followed.names() == {"web", "db"})
            write(below / "db.yaml", service("db", target=9090))
            await followed.until(lambda: followed.targets()["db"] == 9090)
            (desk.manifests / "team").rename(desk.root / "team")
            await followed.until(lambda: followed.names() == {"web"})
            write(desk.root / "team" / "blue" / "db.yaml", service("db"))  # outside now: nobody follows it
            await followed.settled(desk.manifests / "web.yaml")
            assert "db" not in followed.names()
            (desk.root / "team").rename(desk.manifests / "team")
            await followed.until(lambda: "db" in followed.names())
            shutil.rmtree(below)
            await followed.until(lambda: "db" not in followed.names())

    run(scenario())


def test_the_followed_directory_is_removed_and_made_again(desk: Desk) -> None:
    write(desk.manifests / "web.yaml", service("web"))
    keep = desk.root / "keep.yaml"
    write(keep, service("keep"))

    async def scenario() -> None:
        async with desk.following(desk.manifests, keep) as followed:
            for target in (9090, 7070):
                shutil.rmtree(desk.manifests)
                await followed.until(lambda: followed.names() == {"keep"})
                await followed.until(lambda: len(followed.problems) == 1)
                desk.manifests.mkdir()
                write(desk.manifests / "web.yaml", service("web", target=target))
                await followed.until(lambda wanted=target: followed.targets().get("web") == wanted)  # type: ignore[misc]
                await followed.until(lambda: not followed.problems)

    run(scenario())


def test_a_directory_above_is_moved_away_and_back(desk: Desk) -> None:
    inner = desk.root / "outer" / "inner"
    inner.mkdir(parents=True)
    write(inner / "web.yaml", service("web"))
    write(desk.manifests / "keep.yaml", service("keep"))

    async def scenario() -> None:
        async with desk.following(desk.manifests, inner) as followed:
            (desk.root / "outer").rename(desk.root / "elsewhere")
            await followed.until(lambda: followed.names() == {"keep"})
            write(desk.root / "elsewhere" / "inner" / "web.yaml", service("web", target=9090))
            (desk.root / "elsewhere").rename(desk.root / "outer")
            await followed.until(lambda: followed.targets().get("web") == 9090)

    run(scenario())


def test_a_path_that_cannot_be_looked_into_keeps_its_objects(desk: Desk) -> None:
    web, other = desk.root / "web.yaml", desk.manifests / "other.yaml"
    write(web, service("web"))
    write(other, service("other"))

    async def scenario() -> None:
        async with desk.following(web, desk.manifests) as followed:
            web.unlink()
            web.symlink_to(web.name)  # a link to itself: something is there, and nobody can tell what
            await followed.until(lambda: followed.problems)
            await followed.settled(other)
            assert "web" in followed.names()
            web.unlink()
            write(web, service("web", target=9090))
            await followed.until(lambda: followed.targets()["web"] == 9090)
            await followed.until(lambda: not followed.problems)

    run(scenario())


def test_a_pipe_is_refused_and_not_waited_for(desk: Desk) -> None:
    pipe = desk.root / "pipe.yaml"
    os.mkfifo(pipe)
    write(desk.manifests / "web.yaml", service("web"))

    async def scenario() -> None:
        async with desk.following(pipe, desk.manifests) as followed:
            assert followed.names() == {"web"}
            (problem,) = followed.problems
            assert "cannot be followed" in problem

    run(scenario())


def test_a_touched_file_writes_nothing(desk: Desk, reads: list[str]) -> None:
    web, other = desk.manifests / "web.yaml", desk.manifests / "other.yaml"
    write(web, service("web"), service("db"))
    write(other, service("other"))

    async def scenario() -> None:
        async with desk.following() as followed:
            reads.clear()
            version = followed.version()
            before = desk.store.parent.stat()  # where SQLite makes files as soon as the store is opened
            web.touch()
            await followed.until(lambda: "web.yaml" in reads)
            replace_file(web, service("web"), service("db"))
            await followed.until(lambda: reads.count("web.yaml") > 1)
            other.touch()
            await followed.until(lambda: "other.yaml" in reads)  # so that it is done with the ones before
            assert desk.store.parent.stat().st_mtime_ns == before.st_mtime_ns
            assert followed.version() == version

    run(scenario())


def test_only_the_changed_file_is_read_again(desk: Desk, reads: list[str]) -> None:
    for number in range(20):
        write(desk.manifests / f"s{number}.yaml", service(f"s{number}"))

    async def scenario() -> None:
        async with desk.following() as followed:
            assert sorted(reads) == sorted(f"s{number}.yaml" for number in range(20))
            reads.clear()
            write(desk.manifests / "s7.yaml", service("s7", target=9090))
            await followed.until(lambda: followed.targets()["s7"] == 9090)
            (desk.manifests / "s8.yaml").unlink()
            await followed.until(lambda: "s8" not in followed.names())
            assert set(reads) == {"s7.yaml"}

    run(scenario())


def test_other_files_are_not_read(desk: Desk, reads: list[str]) -> None:
    """The store may even stand among the manifests: its own files are none."""
    desk.store = desk.manifests / "store.db"
    web = desk.manifests / "web.yaml"
    write(web, service("web"))

    async def scenario() -> None:
        async with desk.following() as followed:
            reads.clear()
            write(desk.manifests / "notes.txt", service("notes"))
            write(desk.manifests / ".web.yaml.swp", service("web", target=1))
            write(web, service("web", target=9090))
            await followed.until(lambda: followed.targets() == {"web": 9090})
            assert set(reads) == {"web.yaml"}

    run(scenario())


def test_other_ranges_take_effect_at_once(desk: Desk) -> None:
    write(desk.manifests / "web.yaml", service("web", 30001))
    write(desk.manifests / "high.yaml", service("high", 40000))

    async def scenario() -> None:
        async with desk.following() as followed:
            assert followed.names() == {"web"}
            assert "40000" in followed.problems[0]
            wider = replace(Config(), store=str(desk.store), ranges=Ranges(PortRange(30000, 40000)))
            followed.follower.reconfigure(wider)
            await followed.until(lambda: followed.names() == {"web", "high"})
            await followed.until(lambda: not followed.problems)
            followed.follower.reconfigure(replace(wider, max_document_bytes=10))
            await followed.until(lambda: len(followed.problems) == 2)
            assert all("is larger than 10 bytes" in problem for problem in followed.problems)
            assert followed.names() == {"web", "high"}

    run(scenario())


def test_a_store_that_fails_is_reported_and_tried_again(desk: Desk) -> None:
    write(desk.manifests / "web.yaml", service("web"))
    desk.store.parent.mkdir()
    desk.store.write_text("something else", encoding="utf-8")

    async def scenario() -> None:
        async with desk.following() as followed:
            (problem,) = followed.problems
            assert problem.startswith(f"{desk.store}: is not a nodeport-nft store")
            desk.store.unlink()
            await followed.until(lambda: followed.names() == {"web"})
            await followed.until(lambda: not followed.problems)
            desk.store.write_text("something else again", encoding="utf-8")
            write(desk.manifests / "web.yaml", service("web", target=9090))
            await followed.until(lambda: followed.problems)
            desk.store.unlink()  # which no event tells of
            await followed.until(lambda: not followed.problems)
            assert followed.targets() == {"web": 9090}

    run(scenario())


def test_warnings_are_said_once(desk: Desk) -> None:
    web, other = desk.manifests / "web.yaml", desk.manifests / "other.yaml"
    foreign = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}
    write(web, foreign, service("web"))

    async def scenario() -> None:
        async with desk.following() as followed:
            (warning,) = followed.said
            assert warning == f"warning: {web}:1: Deployment/default/web: kind Deployment is not used here; skipped"
            write(web, foreign, service("web", target=9090))
            await followed.until(lambda: followed.targets()["web"] == 9090)
            write(other, foreign, service("other"))
            await followed.until(lambda: "other" in followed.names())
            assert len(followed.said) == 2

    run(scenario())


def test_lost_events_make_it_look_at_everything(desk: Desk) -> None:
    web = desk.manifests / "web.yaml"
    write(web, service("web"))
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))

    async def scenario() -> None:
        async with desk.following() as followed:
            here, there = desk.manifests / "here", desk.manifests / "there"
            here.touch()
            for _ in range(limit // 4 + 1):  # two events a rename; nobody reads them while this loop runs
                here.rename(there)
                there.rename(here)
            write(web, service("web", target=9090))
            write(desk.manifests / "new.yaml", service("new"))
            await followed.until(lambda: followed.targets() == {"web": 9090, "new": 8080})

    run(scenario())


@pytest.mark.usefixtures("private_namespaces")
def test_a_mount_is_noticed(desk: Desk) -> None:
    write(desk.manifests / "web.yaml", service("web"))

    async def scenario() -> None:
        async with desk.following() as followed:
            write(desk.manifests / "web.yaml", service("web", target=7070))
            await followed.until(lambda: followed.targets() == {"web": 7070})
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(desk.manifests)], check=True)
            try:
                await followed.until(lambda: followed.problems)
                assert "--allow-empty" in followed.problems[0]
                write(desk.manifests / "web.yaml", service("web", target=9090))
                await followed.until(lambda: followed.targets() == {"web": 9090})
            finally:
                subprocess.run(["umount", "--lazy", str(desk.manifests)], check=True)
            await followed.until(lambda: followed.targets() == {"web": 7070})

    run(scenario())


def test_cancelled_it_closes_what_it_opened(desk: Desk) -> None:
    write(desk.manifests / "web.yaml", service("web"))

    async def scenario() -> None:
        async with desk.following() as followed:
            await followed.settled(desk.manifests / "web.yaml")
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(3):
            async with desk.following() as followed:
                await followed.settled(desk.manifests / "web.yaml")
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    run(scenario())


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_the_store_ends_as_the_manifests_say(desk: Desk, seed: int) -> None:
    """Random edits, moves, links and directories, now and then with a moment to take notice."""
    rng = random.Random(seed)
    places = [desk.manifests, desk.manifests / "a", desk.manifests / "a" / "b", desk.manifests / "c"]
    keep = desk.root / "keep.yaml"
    write(keep, service("keep"))

    def wanted() -> dict[str, int]:
        """What a reading of everything gives, the first of twins alone."""
        found: dict[str, int] = {}
        for path in (desk.manifests, keep):
            with suppress(Problems):  # an empty directory
                for obj in _singly(path):
                    found.setdefault(obj.name, obj.raw["spec"]["ports"][0]["targetPort"])
        return found

    def step() -> None:
        place = rng.choice(places)
        file = place / f"f{rng.randrange(4)}.yaml"
        other = rng.choice(places) / f"f{rng.randrange(4)}.yaml"
        document = service(f"s{rng.randrange(6)}", target=rng.randrange(1, 65536))
        with suppress(OSError):
            match rng.randrange(9):
                case 0 | 1:
                    place.mkdir(parents=True, exist_ok=True)
                    write(file, document)
                case 2:
                    replace_file(file, document)
                case 3:
                    file.unlink()
                case 4:
                    file.rename(other)
                case 5:
                    shutil.rmtree(place)
                case 6:
                    place.rename(rng.choice(places))
                case 7:
                    file.symlink_to(other)
                case 8:
                    os.link(other, file)
                    other.unlink()

    async def scenario() -> None:
        async with desk.following(desk.manifests, keep) as followed:
            for _ in range(6):
                for _ in range(12):
                    step()
                    if rng.random() < 0.3:
                        await asyncio.sleep(rng.random() * 0.05)
                await followed.until(lambda: followed.targets() == wanted())

    run(scenario())


def _singly(path: Path) -> list[Object]:
    """The objects of a directory or file, each file read by itself, in order."""
    if not path.is_dir():
        return list(read_manifests([str(path)], ranges=Ranges()).objects)
    objects: list[Object] = []
    for directory, below, names in os.walk(path):
        below.sort()
        for name in sorted(names):
            file = Path(directory) / name
            if name.endswith(".yaml") and not name.startswith(".") and file.is_file():
                objects += read_manifests([str(file)], ranges=Ranges()).objects
    return objects
