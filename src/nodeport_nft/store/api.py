"""What the program wants of the place where the desired state is kept. Read this first.

Whoever programs a node needs a ``Source`` and nothing else: it tells what there is, and what changes. Whoever serves
people needs ``Objects``: it reads and writes.
"""

from __future__ import annotations

import builtins
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Literal, Protocol, Self, TypeVar

from msgspec import Struct

from nodeport_nft.kube import Object
from nodeport_nft.model import Parsed, Pod, Ref, ServiceCIDR, Snapshot, Value
from nodeport_nft.problems import Problems
from nodeport_nft.settings import Validate
from nodeport_nft.store.objects import Damaged, made_of, parsed
from nodeport_nft.store.strange import strange_fields, told_strange

Made = TypeVar("Made")


class Superseded(Problems):
    """A write over what somebody else has written since it was read (``store.versions``). Nothing is written."""


class Conflict(Exception):
    """A write of what must be new, where ``ref`` is there already. Nothing is written."""

    def __init__(self, ref: Ref, why: str) -> None:
        super().__init__(f"{ref}: {why}")
        self.ref = ref


Action = Literal["created", "configured", "unchanged"]


class Applied(Struct, frozen=True):
    """What became of one object: ``ref`` as kubectl writes it ("service/web"), and the object as stored.

    Its values are finished: those that whoever reads it back from the store makes of it.
    """

    ref: str
    object: Object
    action: Action


class Written(Struct, frozen=True):
    """What a write did, or would do: ``applied`` in the order of what was put, ``deleted`` but for the ``missing``.

    ``told``: what is to be said of it, such as of fields that were dropped with a change of type.
    """

    applied: tuple[Applied, ...] = ()
    deleted: tuple[Ref, ...] = ()
    missing: tuple[Ref, ...] = ()
    told: tuple[str, ...] = ()


class Objects(ABC):
    """All objects of a store, to read and to write. Use it as a context manager, or close it.

    A store is as good as its writes, so this is what each promises:

    - A ``write`` is atomic, up to the size that the store says: all of its puts and deletes or none of them, also
      where it is killed. It is durable when it returns.
    - A nodePort, a healthCheckNodePort and a clusterIP have one holder, whatever happens. They are free when their
      holder is deleted, or gives them up, in the same write.
    - Versions are opaque. A version is another one whenever the object is; equal or not is all that may be asked.

    ``damaged`` is what could not be read of what was asked for so far. ``strange`` are warnings about the unknown
    fields of the objects that were parsed so far.

    Every method raises StoreError where the store cannot be read or written. It belongs to the thread that made it.
    """

    def __init__(self, where: object, validate: Validate) -> None:
        """``where``: how an operator knows it. Unknown fields are looked for unless ``validate`` says ignore."""
        self.where = where
        self.damaged: dict[Ref, Damaged] = {}
        self.strange: dict[Ref, tuple[str, ...]] = {}
        self._validate = validate

    # --- what each store does in its own way --------------------------------------------------------------

    @abstractmethod
    def list(self, kind: str | None = None, namespace: str | None = None) -> Iterator[Object | Damaged]:
        """What there is of a kind and a namespace (None: of all), of one moment, by kind, namespace and name.

        Raises StoreError where some of all there is may be missing.
        """

    @abstractmethod
    def find(self, ref: Ref) -> Object | Damaged | None:
        """One object, None if there is none of that name."""

    def heard(self) -> Iterable[Parsed]:
        """What the store says of the cluster besides objects: which nodes are lost, which probes fail (``model``)."""
        return ()

    @abstractmethod
    def write(
        self,
        puts: Sequence[Object] = (),
        deletes: Collection[Ref] = (),
        *,
        now: str,
        only_new: bool = False,
        dry_run: bool = False,
    ) -> Written:
        """Put and delete as ``writing.plan`` has it; what is deleted gives to what is put.

        ``now``: the time of this write, as ``plan`` wants it. ``dry_run``: say what it would do, and write nothing.
        Raises Problems with everything that is refused; Superseded, which is one of them, where a put names a version
        that is not the stored one; and Conflict: with ``only_new``, where there is an object of a put's name.
        """

    @abstractmethod
    def close(self) -> None:
        """Give up what it takes to read and write."""

    # --- what follows for all of them ---------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def objects(self, kind: str | None = None, namespace: str | None = None) -> tuple[Object, ...]:
        """``list`` without what is ``damaged``."""
        found = [self._noted(each) for each in self.list(kind, namespace)]
        return tuple(each for each in found if isinstance(each, Object))

    def made_of_each(
        self,
        kind: str,
        namespace: str | None,
        of_body: Callable[[str, str, bytes], Made | None],  # noqa: ARG002
        of_object: Callable[[Object], Made],
    ) -> builtins.list[Made]:
        """What is made of each of the ``objects`` of a kind, for lists of them all.

        A store that has them as JSON asks ``of_body`` first, with namespace, name and body, and ``of_object`` only
        where that says None: nothing is decoded then that is not asked for.
        """
        return [of_object(each) for each in self.objects(kind, namespace)]

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """One object, None if there is none of that name, or it is ``damaged``. The namespace of a Node is ""."""
        found = self._noted(self.find(Ref(kind, namespace, name)))
        return found if isinstance(found, Object) else None

    def snapshot(self) -> Snapshot:
        """Every stored object, parsed into the model, but for those that are ``damaged``; and what is ``heard``."""
        return made_of(value for _, values in self.readable() for value in values)

    def readable(self) -> tuple[Parsed, ...]:
        """Every stored object with what it is parsed into, but for the ``damaged``; and what is ``heard``."""
        readable: list[Parsed] = []
        self.damaged.clear()
        for ref, values in self.values():
            if isinstance(values, Damaged):
                self.damaged[ref] = values
            else:
                readable.append((ref, values))
        return (*readable, *self.heard())

    def documents(self, kind: str, namespace: str) -> Iterable[Object]:
        """What there is of a kind, for those who look for what is missing; nothing where that is not to be seen."""
        return self.objects(kind, namespace)

    def pods(self, snapshot: Snapshot) -> Iterable[Pod] | None:
        """All Pods, also where they are no endpoints by themselves, and no part of it; None: nobody may see them."""
        return snapshot.pods

    def service_cidrs(self) -> tuple[ServiceCIDR, ...]:
        """Where a server that allocates takes clusterIPs from; the other stores take them from our configuration."""
        return ()

    def desired(self, node: str) -> tuple[Parsed, ...]:  # noqa: ARG002
        """What the node of this name is to program: all that is ``readable``, or of it what its daemon follows."""
        return self.readable()

    def values(self) -> Iterator[tuple[Ref, tuple[Value, ...] | Damaged]]:
        """Every stored object parsed into the model, or what is wrong with it; no ranges are checked."""
        self.strange.clear()
        for each in self.list():
            yield each.ref, self._parsed(each)

    def value(self, ref: Ref) -> tuple[Value, ...] | Damaged:
        """One object parsed, or what is wrong with it; without values if there is none of that name."""
        self.strange.pop(ref, None)
        found = self.find(ref)
        return () if found is None else self._parsed(found)

    def complaints(self) -> tuple[str, ...]:
        """What an operator is told of the ``damaged``."""
        return tuple(self.damaged[ref].complaint(self.where) for ref in sorted(self.damaged))

    def doubts(self) -> tuple[str, ...]:
        """What an operator is told of unknown fields; from some number on, those of a kind are counted."""
        return told_strange(self.strange, self.where)

    def _parsed(self, stored: Object | Damaged) -> tuple[Value, ...] | Damaged:
        if isinstance(stored, Damaged):
            return stored
        if self._validate is not Validate.ignore and (fields := strange_fields(stored.kind, stored.raw)):
            self.strange[stored.ref] = fields
        return parsed(stored)

    def _noted(self, stored: Object | Damaged | None) -> Object | Damaged | None:
        if isinstance(stored, Damaged):
            self.damaged[stored.ref] = stored
        elif stored is not None:
            self.damaged.pop(stored.ref, None)
        return stored


class Change(Struct, frozen=True):
    """An object as it is now; without values it is gone, or is nothing that this program can use."""

    ref: Ref
    values: tuple[Value, ...]


class Changes(Struct, frozen=True):
    """What has changed since a source was last asked, each object once.

    ``whole``: it is all there is, and any other object is gone. ``unreadable`` are objects that are there and cannot
    be read: their last good state stays. ``warnings`` are told once, here and never again. ``position``: the store as
    it was when all of this had changed, opaque; "" where a store has no words for it.
    """

    changes: tuple[Change, ...] = ()
    whole: bool = False
    unreadable: frozenset[Ref] = frozenset()
    warnings: tuple[str, ...] = ()
    position: str = ""

    def __bool__(self) -> bool:
        return bool(self.changes or self.whole)


class Source(Protocol):
    """What there is, and what changes, on the thread of one event loop.

    The first ``take`` that is not empty is ``whole``, and comes when *all* kinds have been listed: a Service whose
    endpoints are yet to come must not be programmed as one without any. Whenever a source cannot say what has changed
    since (another file at the path, a compacted history, a restored backup) it says everything once more, ``whole``.
    """

    async def run(self) -> None:
        """Follow the store until cancelled. Never returns by itself, and outlives every failure of the store."""

    async def changed(self) -> None:
        """Return when there may be something to ``take``, or when the ``problems`` are others.

        One waits at a time, and may be cancelled: what it would have been told of is told to the next.
        """

    def take(self) -> Changes:
        """What has come since the last time; empty if nothing has. It never waits for a network.

        Raises StoreError where nothing has ever come and waiting would mend nothing.
        """

    def forget(self) -> None:
        """Tell everything once more, ``whole``: what was taken last may not have come through."""

    def problems(self) -> tuple[str, ...]:
        """What is wrong now, each with its remedy; none if all is well. What was taken last stays good."""

    def close(self) -> None:
        """Follow no longer; nothing is asked afterwards."""


class Membership(Protocol):
    """This node's registration with a store that several nodes share, on the thread of one event loop.

    While it stands the node is Ready to the others; where it ends (the machine is gone, or cut off) they see that it
    has. A store of one node has none.
    """

    async def run(self) -> None:
        """Keep the registration until cancelled. Never returns by itself, and outlives every failure of the store."""

    def tell(self, report: NodeReport) -> None:
        """This is how the node is now; it never waits for a network."""

    def problems(self) -> tuple[str, ...]:
        """What is wrong now, each with its remedy; none if all is well."""


class NodeReport(Struct, frozen=True):
    """What a node says of itself to the others. Times are Unix times in seconds; 0.0: never.

    ``position``: of the last ``Changes`` that its kernel has all of. ``error``: what went wrong in the last sync, ""
    if nothing did.
    """

    name: str
    version: str = ""
    addresses: tuple[str, ...] = ()
    pod_cidrs: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    position: str = ""
    programmed: float = 0.0
    pending: int = 0
    pending_since: float = 0.0
    error: str = ""
    last_error: str = ""
    last_error_at: float = 0.0
    started: float = 0.0


class Happening(Struct, frozen=True):
    """What whoever looks at the object ``ref`` should know of it. ``reason`` is one word (``FrontendContested``)."""

    ref: Ref
    reason: str
    message: str


class Recorder(Protocol):
    """Writes beside the objects what happens to them, on the thread of one event loop, where a store keeps such.

    It is no log: what cannot be written while it is so is never written, and little is written at once.
    """

    async def run(self) -> None:
        """Write what is told until cancelled. Never returns by itself, and outlives every failure of the store."""

    def tell(self, happenings: Iterable[Happening]) -> None:
        """These there are now, and no others; it never waits for a network."""


class Registered(Struct, frozen=True):
    """A node as the others see it: alive while its registration stands, else lost since ``lost_at``.

    ``lost_at`` 0.0: nobody has noted since when. ``machine`` is the host name of its daemon's machine. Of a node that
    is not alive the ``report`` has nothing but its name.
    """

    report: NodeReport
    is_alive: bool
    lost_at: float = 0.0
    machine: str = ""

    @property
    def name(self) -> str:
        """Under which it has registered."""
        return self.report.name


class Waited(Struct, frozen=True):
    """What became of a wait: who was in time, who was not and is alive, and who is not.

    Who was in time has taken everything; its report's ``error`` says what of it its kernel refuses.
    """

    synced: tuple[Registered, ...] = ()
    late: tuple[Registered, ...] = ()
    away: tuple[Registered, ...] = ()


class Members(Protocol):
    """The nodes of a shared store, for commands. Every method raises StoreError where the store does not answer."""

    def list(self) -> tuple[Registered, ...]:
        """All that have registered and were not forgotten, by name."""

    def wait(self, seconds: float) -> Waited:
        """Return when every node that is alive has programmed what the store has now, or after so many seconds."""

    def forget(self, name: str) -> bool:
        """Let a node that is not alive be none of the cluster; False if it is alive, or was none."""

    def close(self) -> None:
        """Hang up."""
