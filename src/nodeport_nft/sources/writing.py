"""One write of the follower: all that the store takes, and for the rest the reasons.

Services may want what others are about to give up, and trade what they hold, so all are tried together first. One
that is refused keeps what it holds; who wants that is refused, too. What remains is tried again, and what was refused
once more one by one: it may have stood in the way of another who is refused.

None of this may try every object for every reason: a hundred thousand of them come from one careless script. So who
depends on whom is told from what they hold and want. Each object is tried alone once, and once more for each number
it wants that has become free.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from nodeport_nft.allocate import holdings
from nodeport_nft.kinds import reference
from nodeport_nft.kube import Object
from nodeport_nft.model import Ref, Service
from nodeport_nft.problems import Problem, Problems
from nodeport_nft.sources.handover import File, Finished
from nodeport_nft.store import Store, file_identity
from nodeport_nft.store.sqlite.writers import summary

if TYPE_CHECKING:
    from nodeport_nft.config import Config
    from nodeport_nft.store.sqlite.transaction import Transaction

_STAYS = "it stays in force: delete it, or start with --prune"

_MOST_ROUNDS = 8
"""How often what remains is tried together. What is left then is tried one by one."""


class Written(Struct, frozen=True):
    """What became of one write: who was deleted (as "service/web"), and who was refused, with the reasons.

    ``warnings``: what is to be said once. ``finished``: what was taken, as it then stood in ``file``.
    """

    deleted: tuple[str, ...]
    refused: dict[Ref, tuple[Problem, ...]]
    warnings: tuple[str, ...]
    file: File | None
    finished: dict[Ref, Finished]


def write(
    path: str,
    config: Config,
    keep: Sequence[Object] | None,
    gone: Sequence[Ref],
    changed: Sequence[Object],
    *,
    of_others: bool = False,
    first: bool = False,
) -> Written:
    """One transaction: all that is not in ``keep`` is pruned, ``gone`` deleted, ``changed`` applied.

    What others wrote stays, unless it may be deleted, too (``of_others``). At the ``first`` write, a store in which
    manifests wrote nothing yet, and others did, is not taken for the one that was meant.

    Runs in a thread of its own, to which its Store belongs. Raises StoreError, OthersObjects.
    """
    with Store(path, ranges=config.ranges) as store, store.transaction() as transaction:
        deleted: list[str] = []
        warnings: list[str] = []
        if keep is not None:
            if first and not of_others and not transaction.any_of_manifests():
                transaction.refuse_others(keep)
            if not of_others and (others := transaction.of_others(keep)):
                warnings.append(f"{path} holds {summary(others)} that others wrote and the manifests lack; {_STAYS}")
            deleted += transaction.prune(keep, of_others=of_others)
        ours = [ref for ref in gone if of_others or transaction.is_of_manifests(ref)]
        deleted += [reference(ref.kind, ref.name) for ref in ours if transaction.delete(*ref)]
        if taken := [ref for ref in set(gone).difference(ours) if transaction.exists(ref)]:
            warnings.append(f"{summary(taken)} left the manifests, and others have written to it since; {_STAYS}")
        finished: dict[Ref, Finished] = {}
        refused = apply(transaction, changed, finished)
        warnings += transaction.dropped
        return Written(tuple(deleted), refused, tuple(warnings), file_identity(path), finished)


def apply(
    transaction: Transaction, objects: Sequence[Object], finished: dict[Ref, Finished] | None = None
) -> dict[Ref, tuple[Problem, ...]]:
    """Applies all objects but those that are refused, which it returns with the reasons.

    The others are put into ``finished``.
    """
    attempt = _Attempt(transaction, {} if finished is None else finished)
    reasons = attempt.refusal(objects)
    if not reasons:
        return {}
    trial = _Trial(transaction, objects, attempt)
    trial.together(reasons)
    trial.alone()
    return trial.refused


class _Attempt:
    """Tries objects within one write, all at one time; what is taken is put into ``finished``."""

    def __init__(self, transaction: Transaction, finished: dict[Ref, Finished]) -> None:
        self._transaction = transaction
        self._finished = finished
        self._now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def refusal(self, objects: Sequence[Object]) -> tuple[Problem, ...]:
        """Why these cannot be applied together; nothing was written then."""
        try:
            applied = self._transaction.apply(objects, now=self._now, by_manifests=True)
        except Problems as error:
            return error.problems
        for obj in (each.object for each in applied):
            self._finished[obj.ref] = Finished(obj.version, obj.values)
        return ()


class _Trial:
    """Objects of which some are refused."""

    def __init__(self, transaction: Transaction, objects: Sequence[Object], attempt: _Attempt) -> None:
        self._attempt = attempt
        self._objects = {obj.ref: obj for obj in objects}
        self._held = transaction.holdings()
        self._claimants: defaultdict[int | str, list[Ref]] = defaultdict(list)
        for ref, obj in self._objects.items():
            for claim in _claims(obj):
                self._claimants[claim].append(ref)
        self.refused: dict[Ref, tuple[Problem, ...]] = {}

    def together(self, reasons: tuple[Problem, ...]) -> None:
        """Apply what can be applied at once; ``reasons`` are those why all of them cannot."""
        rest = dict(self._objects)
        for _ in range(_MOST_ROUNDS):
            named = {problem.object for problem in reasons}
            out = [ref for ref in rest if str(ref) in named]
            self._refuse(out or list(rest), rest)  # a reason may name none of them
            reasons = self._attempt.refusal(list(rest.values())) if rest else ()
            if not reasons:
                return
        self._refuse(list(rest), rest)

    def _refuse(self, out: list[Ref], rest: dict[Ref, Object]) -> None:
        """Take these out of the rest, and whoever wants what they now keep."""
        while out:
            ref = out.pop()
            if rest.pop(ref, None) is not None:
                self.refused[ref] = ()
                out += self._waiting_for(ref, rest)

    def alone(self) -> None:
        """Try each of the refused by itself; who is taken then may have given up what another wants."""
        once_more = self._try([ref for ref in self._objects if ref in self.refused])
        if once_more:  # for those who want any number, of which there were none left
            self._try(list(self.refused))

    def _try(self, refs: Iterable[Ref]) -> bool:
        """Whether somebody was taken who held something before."""
        gave_up = False
        queue = dict.fromkeys(refs)
        pending = deque(queue)
        while pending:
            ref = pending.popleft()
            del queue[ref]
            reasons = self._attempt.refusal([self._objects[ref]])
            if reasons:
                self.refused[ref] = reasons
                continue
            del self.refused[ref]
            gave_up = gave_up or ref in self._held
            again = [other for other in self._waiting_for(ref, self.refused) if other not in queue]
            self._held.pop(ref, None)
            queue |= dict.fromkeys(again)
            pending += dict.fromkeys(again)
        return gave_up

    def _waiting_for(self, ref: Ref, among: Collection[Ref]) -> list[Ref]:
        """Who of these wants what an object held before this write."""
        held = self._held.get(ref, ())
        return [other for claim in held for other in self._claimants.get(claim, ()) if other in among]


def _claims(obj: Object) -> set[int | str]:
    """The numbers and addresses that an object names itself."""
    found = [holdings(value) for value in obj.values if isinstance(value, Service)]
    claims: set[int | str] = {port for each in found for port in each.node_ports}
    return claims | {str(ip) for each in found for ip in each.cluster_ips}
