"""Objects in etcd, for commands: read at one revision, written on conditions, planned anew if others were faster."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence

from msgspec.structs import replace

from nodeport_nft.agenda import apart
from nodeport_nft.kube import Object
from nodeport_nft.model import Parsed, Ranges, Ref
from nodeport_nft.problems import Problems
from nodeport_nft.settings import Validate
from nodeport_nft.store.api import Action, Applied, Conflict, Written
from nodeport_nft.store.bodies import Body, StoredBodies
from nodeport_nft.store.checking import Checked
from nodeport_nft.store.copying import Image
from nodeport_nft.store.errors import StoreError
from nodeport_nft.store.etcd import checking, copying, layout
from nodeport_nft.store.etcd.address import Connection
from nodeport_nft.store.etcd.client import Blocking
from nodeport_nft.store.etcd.errors import EtcdError, Outcome
from nodeport_nft.store.etcd.heard import heard
from nodeport_nft.store.etcd.known import KnownKeys
from nodeport_nft.store.etcd.transactions import Step, steps_of
from nodeport_nft.store.objects import Damaged
from nodeport_nft.store.writing import Plan, Put, plan

_MOST_TRIES = 100
"""How often a write is planned anew because others have changed what it depends on."""

_MOST_UNSURE = 3
"""How often a write goes on after one that was never answered."""

_LONGEST_PAUSE = 0.5  # seconds


class PartlyWritten(StoreError):
    """A write was cut in between: each part that was done is whole, and what was not is named."""

    def __init__(self, why: Exception, done: int, unsure: Sequence[Ref], rest: Sequence[Ref]) -> None:
        told = [f"{done:,} objects are written" if done != 1 else "1 object is written"] if done else []
        told += (
            [f"whether {_named(unsure)} {'is' if len(unsure) == 1 else 'are'} written is not known"] if unsure else []
        )
        told += [f"not written: {_named(rest)}"] if rest else []
        super().__init__(f"{why}\n{'; '.join(told)}; see what is there with get, and apply the rest again")


def _named(refs: Sequence[Ref]) -> str:
    return ", ".join(map(str, refs[:5])) + (f" and {len(refs) - 5:,} more" if len(refs) > 5 else "")


class EtcdStore(StoredBodies):
    """The store under one prefix of an etcd.

    A write of up to about 30 Services is atomic. A larger one is cut into transactions, each of which leaves a
    consistent state; raises PartlyWritten where it ends in between. Raises EtcdError.
    """

    def __init__(
        self, connection: Connection, *, ranges: Ranges, validate: Validate = Validate.ignore, grace: float = 40.0
    ) -> None:
        """Opens nothing yet, and begins with any of the endpoints. ``grace`` as ``heard.heard`` has it."""
        super().__init__(connection, validate)
        self._grace = grace
        self._ranges = ranges
        self._etcd = Blocking(connection, first=connection.any_endpoint())

    def close(self) -> None:
        """Hang up."""
        self._etcd.close()

    def bodies(self, kind: str | None = None, namespace: str | None = None) -> Iterator[Body | Damaged]:
        """As ``StoredBodies`` has it, at one revision."""
        prefix = layout.objects_prefix(kind, namespace)
        found = self._etcd.run(self._etcd.client.list_all(prefix)).keys
        by_ref = sorted((layout.object_ref(each.key), each) for each in found)
        for ref, each in by_ref:
            if namespace in (None, ref.namespace):
                yield Body(ref, str(each.mod_revision), each.value)

    def body(self, ref: Ref) -> Body | Damaged | None:
        """As ``StoredBodies`` has it."""
        found = self._etcd.run(self._etcd.client.get(layout.object_key(ref)))
        return None if found is None else Body(ref, str(found.mod_revision), found.value)

    def heard(self) -> Iterator[Parsed]:
        """As ``Objects`` has it, by the clock of this machine."""
        found = self._etcd.run(self._etcd.client.list_all(layout.MEMBERS)).keys
        return heard(found, time.time(), self._grace)

    def write(
        self,
        puts: Sequence[Object] = (),
        deletes: Collection[Ref] = (),
        *,
        now: str,
        only_new: bool = False,
        dry_run: bool = False,
    ) -> Written:
        """As ``Objects`` has it: planned on what is there, and committed if it still is; else planned anew."""
        progress = _Progress(puts, deletes)
        for attempt in range(_MOST_TRIES):
            known = KnownKeys(self._etcd)
            rest = progress.puts
            try:
                known.read_ahead(rest, progress.deletes)
                is_new = only_new and not progress.unsure
                planned = plan(rest, progress.deletes, known, self._ranges, now=now, only_new=is_new)
                if dry_run:
                    return planned.outcome()
                if only_new:
                    progress.check_ours(planned)
                progress.begin(planned)
                if all(self._commit(step, progress) for step in steps_of(planned, known)):
                    return progress.outcome()
            except (StoreError, Problems, Conflict) as error:
                if isinstance(error, EtcdError) and error.outcome is Outcome.UNKNOWN and attempt < _MOST_UNSURE:
                    continue  # read what is there, and go on with what is not
                if not (progress.done or progress.unsure):
                    raise
                raise progress.failure(error) from error
            # Others were faster. They shall not meet again in the same moment.
            time.sleep(apart(attempt, _LONGEST_PAUSE))
        lost = StoreError(f"{self.where}: others have changed the same objects {_MOST_TRIES} times; try again")
        raise progress.failure(lost) if progress.done or progress.unsure else lost

    def check(self, *, repair: bool = False) -> Checked:
        """What is wrong with what is kept below the prefix, and with the members; see ``store.checking``."""
        return checking.check(self._etcd, repair=repair)

    def image(self) -> Image:
        """All of it, at one revision, to be copied."""
        return copying.read_image(self._etcd)

    def take(self, image: Image) -> None:
        """Be a copy, where nothing is yet. Raises StoreError."""
        copying.write_image(self._etcd, image)

    def _commit(self, step: Step, progress: _Progress) -> bool:
        """Carry one transaction out; False where what it depends on has changed."""
        try:
            committed = self._etcd.run(self._etcd.client.commit(step.compares, step.operations))
        except EtcdError as error:
            if error.outcome is Outcome.UNKNOWN:
                progress.is_unsure_of(step)
            raise
        if committed.succeeded:
            progress.note(step, committed.revision)
        return committed.succeeded


class _Progress:
    """What of a write is done. ``unsure``: what was sent and never answered, with the uid it was to have."""

    def __init__(self, puts: Sequence[Object], deletes: Collection[Ref]) -> None:
        self._wanted = tuple(puts)
        self._gone = tuple(dict.fromkeys(deletes))
        self._planned: dict[Ref, Put] = {}
        self._actions: dict[Ref, Action] = {}
        self._missing: set[Ref] = set()
        self._dropped: dict[str, None] = {}
        self.done: dict[Ref, Applied | None] = {}
        self.unsure: dict[Ref, str] = {}

    @property
    def puts(self) -> tuple[Object, ...]:
        """What is still to be put."""
        return tuple(obj for obj in self._wanted if obj.ref not in self.done)

    @property
    def deletes(self) -> tuple[Ref, ...]:
        """What is still to be deleted; not what has been deleted, and put anew."""
        return tuple(ref for ref in self._gone if ref not in self.done)

    def failure(self, error: Exception) -> PartlyWritten:
        """What is said where it cannot go on."""
        unsure = [ref for ref in self.unsure if ref not in self.done]
        settled = {ref for ref, put in self._planned.items() if put.action == "unchanged"}.union(unsure)
        rest = [ref for ref in (*self.deletes, *(obj.ref for obj in self.puts)) if ref not in settled]
        return PartlyWritten(error, len(self.done), unsure, rest)

    def is_unsure_of(self, step: Step) -> None:
        """Nobody has said whether this was done."""
        for ref in step.refs:
            put = self._planned.get(ref)
            self.unsure[ref] = "" if put is None else str(put.body["metadata"]["uid"])

    def check_ours(self, planned: Plan) -> None:
        """Raises Conflict where there is an object of a put's name that we have not put there ourselves."""
        for put in planned.puts:
            if put.action != "created" and self.unsure.get(put.ref) != put.body["metadata"]["uid"]:
                raise Conflict(put.ref, "it exists already")

    def begin(self, planned: Plan) -> None:
        """This is to be carried out for what is not done yet."""
        self._planned = {put.ref: put for put in planned.puts}
        self._dropped |= dict.fromkeys(planned.dropped)
        self._missing.difference_update(planned.deletes)
        self._missing.update(ref for ref in planned.missing if ref not in self.unsure)
        for put in planned.puts:
            if put.ref not in self.unsure:
                self._actions[put.ref] = put.action

    def note(self, step: Step, revision: int) -> None:
        """One transaction is done, at this revision."""
        for ref in step.refs:
            put = self._planned.get(ref)
            self.done[ref] = (
                None if put is None else put.applied(put.version if put.action == "unchanged" else str(revision))
            )

    def outcome(self) -> Written:
        """What is answered when all of it is done."""
        applied = []
        for obj in self._wanted:
            one = self.done.get(obj.ref)
            if one is None:  # it is as it is wanted, and was not written
                one = self._planned[obj.ref].applied(self._planned[obj.ref].version)
            applied.append(replace(one, action=self._actions[obj.ref]))
        deleted = tuple(ref for ref in self._gone if ref not in self._missing)
        missing = tuple(ref for ref in self._gone if ref in self._missing)
        return Written(tuple(applied), deleted, missing, tuple(self._dropped))
