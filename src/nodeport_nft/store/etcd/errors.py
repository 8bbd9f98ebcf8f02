"""What is said of an etcd that cannot be used: the endpoint, what is wrong, and the remedy; and whether it wrote.

A failed call has one of three outcomes, and they are told apart: etcd refused it, or was never asked (``NOT_DONE``),
or was asked and gave no answer (``UNKNOWN``). Only the last leaves a writer in doubt.

Sources: etcd api/v3rpc/rpctypes/error.go (its words and codes), grpc's status codes. Needs no grpc.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum

from msgspec import Struct

from nodeport_nft.store.errors import ELSEWHERE, StoreError


class Cause(Enum):
    """Why a call failed, and what it takes to mend it."""

    UNREACHABLE = "no member could be asked"
    SILENT = "asked, and gave no answer"
    NO_LEADER = "the cluster has no quorum"
    BUSY = "too many requests"
    CERTIFICATE = "TLS failed"
    LOGIN = "user and password were refused"
    TOKEN = "the login has ended"  # noqa: S105 (no secret)
    LOGIN_NEEDED = "etcd wants a user"
    NO_LOGIN = "etcd knows no users"
    DENIED = "the user may not do this"
    FULL = "the database is full"
    CORRUPT = "the database is damaged"
    TOO_LARGE = "the request is too large"
    COMPACTED = "this revision is gone"
    FUTURE = "this revision is yet to come"
    NO_LEASE = "the lease has ended"
    LEASE_EXISTS = "the lease is there already"
    OTHER = "something else"


PASSING = frozenset({Cause.UNREACHABLE, Cause.SILENT, Cause.NO_LEADER, Cause.BUSY})
"""What another member may do better, or the same one a little later."""


class Outcome(Enum):
    """What became of a write that failed."""

    NOT_DONE = "nothing was written"
    UNKNOWN = "whether it was written is not known"


class EtcdError(StoreError):
    """A call failed; the message names the endpoint and the remedy."""

    def __init__(self, message: str, cause: Cause, outcome: Outcome = Outcome.NOT_DONE) -> None:
        super().__init__(message)
        self.cause = cause
        self.outcome = outcome

    def __reduce__(self) -> tuple[type[EtcdError], tuple[str, Cause, Outcome]]:
        return type(self), (str(self), self.cause, self.outcome)


# etcd's own words, without "etcdserver: "; the first that the details hold.
_WORDS = (
    ("mvcc: database space exceeded", Cause.FULL),
    ("mvcc: required revision has been compacted", Cause.COMPACTED),
    ("mvcc: required revision is a future revision", Cause.FUTURE),
    ("no leader", Cause.NO_LEADER),
    ("authentication failed", Cause.LOGIN),
    ("invalid auth token", Cause.TOKEN),
    ("revision of auth store is old", Cause.TOKEN),
    ("user name is empty", Cause.LOGIN_NEEDED),
    ("user name not found", Cause.LOGIN),
    ("authentication is not enabled", Cause.NO_LOGIN),
    ("permission denied", Cause.DENIED),
    ("request is too large", Cause.TOO_LARGE),
    ("too many operations in txn request", Cause.TOO_LARGE),
    ("requested lease not found", Cause.NO_LEASE),
    ("lease already exists", Cause.LEASE_EXISTS),
    ("too many requests", Cause.BUSY),
    ("corrupt", Cause.CORRUPT),
)
_CODES = {
    "UNAVAILABLE": Cause.SILENT,
    "DEADLINE_EXCEEDED": Cause.SILENT,
    "UNKNOWN": Cause.SILENT,  # grpc's own word for a stream that broke off in the middle
    "INTERNAL": Cause.SILENT,
    "CANCELLED": Cause.SILENT,
    "PERMISSION_DENIED": Cause.DENIED,
    "UNAUTHENTICATED": Cause.TOKEN,
    "DATA_LOSS": Cause.CORRUPT,
    "RESOURCE_EXHAUSTED": Cause.TOO_LARGE,
}
_NOT_SENT = ("failed to connect to all addresses", "dns resolution failed", "address lookup failed")
# The last: a member has refused the client's certificate (with TLS 1.3 it does so after the handshake).
_TLS = ("ssl", "tls", "certificate", "handshake", "verification check failed", "peer name", "unwrap failed")
_CLOSED = ("socket closed", "connection reset", "broken pipe", "endpoint closing")
_NO_ANSWER = "tcp handshaker shutdown"  # grpc's word for an attempt to connect that took too long: long before TLS
# What grpc puts before the one thing that matters; the endpoint is told anyway.
_AROUND = re.compile(r"^failed to connect to all addresses; last error: (?:[A-Z_]+: (?:ipv4|ipv6|dns):\S+: )?", re.I)

_LONGEST_DETAILS = 300
_TRY_AGAIN = "etcd may be starting or electing a leader; try again, and look at `etcdctl endpoint status`"
_REMEDIES = {
    Cause.UNREACHABLE: f"start etcd there, look at the network between, or {ELSEWHERE}",
    Cause.SILENT: _TRY_AGAIN,
    Cause.NO_LEADER: "more than half of the members must run and reach each other; start those that are down",
    Cause.BUSY: "try again a little later",
    Cause.CERTIFICATE: "compare ca, cert and key with the certificates of the members, their names and their dates",
    Cause.LOGIN: "compare user and passwordFile with `etcdctl user get`",
    Cause.TOKEN: "the login has ended or users have changed; try again",
    Cause.LOGIN_NEEDED: "set user and passwordFile",
    Cause.NO_LOGIN: "leave user and passwordFile out, or `etcdctl auth enable`",
    Cause.DENIED: "grant it with `etcdctl role grant-permission ROLE --prefix=true readwrite {prefix}/`",
    Cause.FULL: (
        "nothing was written. Make room: `etcdctl compact REVISION`, `etcdctl defrag --cluster`, "
        "then `etcdctl alarm disarm`; or raise --quota-backend-bytes"
    ),
    Cause.CORRUPT: "remove the damaged member and add it anew, or restore a snapshot",
    Cause.TOO_LARGE: "apply less at once; etcd's limits are --max-request-bytes and --max-txn-ops",
    Cause.COMPACTED: "read everything again",
    Cause.FUTURE: "a backup was restored; read everything again",
    Cause.NO_LEASE: "register again",
    Cause.LEASE_EXISTS: "choose another",
    Cause.OTHER: "see etcd's own log",
}


def cause_of(code: str, details: str, *, is_secure: bool = True) -> Cause:
    """What a status means; ``code`` is grpc's name of it. Without TLS (``is_secure``) TLS cannot fail."""
    words = details.lower()
    if "etcdserver" in words:
        for word, cause in _WORDS:
            if word in words:
                return cause
        return Cause.SILENT if code == "UNAVAILABLE" else Cause.OTHER  # such as "request timed out"
    if code == "UNAVAILABLE" and was_not_sent(details):
        # A member that is ending closes the connection as well as one that speaks no TLS.
        is_plain = not is_secure or _NO_ANSWER in words or _was_closed(words)
        is_tls = not is_plain and any(word in words for word in _TLS)
        return Cause.CERTIFICATE if is_tls else Cause.UNREACHABLE
    return _CODES.get(code, Cause.OTHER)


def in_words(details: str, *, is_secure: bool) -> str:
    """grpc's details without what surrounds them, and with what may be behind a connection that is closed at once."""
    if _NO_ANSWER in details.lower():
        return "no answer to the attempt to connect"
    said = _AROUND.sub("", details)
    if was_not_sent(details) and _was_closed(details):
        hint = "ca is set, so TLS is spoken" if is_secure else "if etcd speaks TLS there, set ca"
        return f"{said} ({hint})"
    return said


def _was_closed(details: str) -> bool:
    return any(word in details.lower() for word in _CLOSED)


def was_not_sent(details: str) -> bool:
    """Whether grpc says that there was no connection over which to send: then nothing can have been written."""
    words = details.lower()
    return any(word in words for word in _NOT_SENT)


class Failure(Struct, frozen=True):
    """One attempt of a call that failed: where, in whose words, and what that means."""

    endpoint: object
    details: str
    cause: Cause
    outcome: Outcome = Outcome.NOT_DONE

    def __str__(self) -> str:
        said = " ".join(self.details.split())[:_LONGEST_DETAILS] or self.cause.value
        return f"{self.endpoint}: {said.replace('etcdserver: ', '')}"


def etcd_error(failures: Iterable[Failure], prefix: str, known: int = 0) -> EtcdError:
    """The error that is shown of the last failure at each endpoint; the worst of them gives the remedy.

    ``known``: how many endpoints there are; 0: as many as have failed.
    """
    last = {failure.endpoint: failure for failure in failures}
    told = sorted(last.values(), key=lambda failure: str(failure.endpoint))  # whichever was asked first: one error
    # A member that answers says more than one that is not there.
    worst = max(
        told,
        key=lambda failure: (
            failure.outcome is Outcome.UNKNOWN,
            failure.cause not in PASSING,
            failure.cause is Cause.NO_LEADER,
        ),
    )
    remedy = _REMEDIES[worst.cause].format(prefix=prefix)
    if worst.cause is Cause.NO_LEADER and (known := max(known, len(told))) > 1:
        answer = sum(failure.cause is Cause.NO_LEADER for failure in told)
        remedy = f"{answer} of {known} endpoints answer{'s' * (answer == 1)}, without a majority; {remedy}"
    doubt = "it may have been written all the same: look before you repeat it; "
    if worst.outcome is not Outcome.UNKNOWN:
        doubt = ""
    return EtcdError(f"etcd {', '.join(map(str, told))}; {doubt}{remedy}", worst.cause, worst.outcome)
