"""What is read from etcd and what is asked of it, as values. Keys are relative to the store's prefix.

Sources: https://etcd.io/docs/v3.4/learning/api/ (revisions, transactions), etcd's defaults of --max-txn-ops and
--max-request-bytes. Needs no grpc.
"""

from __future__ import annotations

from msgspec import Struct

MOST_OPERATIONS = 128
"""Of compares, of operations and of what is done otherwise, each, that etcd takes in one transaction."""

MOST_BYTES = 3 * 512 * 1024 - 16 * 1024
"""Of one transaction: etcd's limit is 1.5 MiB, and what it adds around a request is less than 16 KiB."""


class KeyValue(Struct, frozen=True):
    """A key as it is. Revisions are of the whole of etcd; ``version`` counts this key's writes; 0 is no lease."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int = 1
    lease: int = 0


class Event(Struct, frozen=True):
    """What has happened to a key at ``revision``; ``now`` is None if it was deleted."""

    key: str
    revision: int
    now: KeyValue | None


class Position(Struct, frozen=True):
    """How far a reader knows the store: all of ``revision`` and of those before it, in one history.

    ``cluster`` and ``term`` (of raft, it never falls in one history) tell another history apart, and so does the
    ``witness``: the last change that was seen. Where it is not to be found at its revision any more, a backup was
    restored, and as many revisions may have come since.
    """

    cluster: int
    revision: int
    term: int
    witness: Event | None = None


class Listing(Struct, frozen=True):
    """All keys under a prefix at one revision, by key."""

    keys: tuple[KeyValue, ...]
    position: Position


class Batch(Struct, frozen=True):
    """Changes in their order, of whole revisions only; ``position`` is how far one knows the store after them."""

    events: tuple[Event, ...]
    position: Position


class BeginAgain(Exception):
    """What came after the position cannot be told: list everything again, and follow from there. Says why."""


class Compacted(BeginAgain):
    """Changes after the position have been compacted away."""


class Restored(BeginAgain):
    """It is another history: a backup was restored, or another cluster stands at the endpoints."""


class Compare(Struct, frozen=True):
    """A condition of a transaction: create one by the functions below."""

    key: str
    target: str  # CREATE or MOD, as etcd calls them
    result: str  # EQUAL, GREATER or LESS
    revision: int
    is_prefix: bool = False


def is_absent(key: str) -> Compare:
    """The key is not there."""
    return Compare(key, "CREATE", "EQUAL", 0)


def is_present(key: str) -> Compare:
    """The key is there, with any value."""
    return Compare(key, "CREATE", "GREATER", 0)


def is_unchanged(key: str, mod_revision: int) -> Compare:
    """The key is there, and was last written at ``mod_revision``; 0: it is not there."""
    return Compare(key, "MOD", "EQUAL", mod_revision)


def is_none_newer(prefix: str, revision: int) -> Compare:
    """No key under ``prefix`` was written after ``revision``. It does not see what was deleted since."""
    return Compare(prefix, "MOD", "LESS", revision + 1, is_prefix=True)


class Put(Struct, frozen=True):
    """Write a key; it vanishes with its ``lease``, if it has one."""

    key: str
    value: bytes
    lease: int = 0


class Delete(Struct, frozen=True):
    """Remove a key, or with ``is_prefix`` all that begin with it; one that is not there is no error."""

    key: str
    is_prefix: bool = False


class Get(Struct, frozen=True):
    """Read a key in the same transaction."""

    key: str


Operation = Put | Delete | Get


class Committed(Struct, frozen=True):
    """What became of a transaction: whether all compares held, and at which revision it was done.

    ``answers`` are those to the Gets of the branch that was taken, in their order; None for a key that is not there.
    """

    succeeded: bool
    revision: int
    answers: tuple[KeyValue | None, ...] = ()


class MemberStatus(Struct, frozen=True):
    """One member's own view; sizes in bytes. ``errors`` are its alarms, in etcd's words."""

    endpoint: str
    version: str
    member: int
    leader: int
    revision: int
    database_size: int
    size_in_use: int
    errors: tuple[str, ...] = ()
