"""How the members of etcd are: what each says of itself, what is wrong with it, and what soon may be.

All of it concerns the whole of etcd, in which our prefix is one of several. So nothing of it is mended here: what is
to be done is said in etcdctl's words.
"""

from __future__ import annotations

from nodeport_nft.store.checking import Finding
from nodeport_nft.store.etcd.client import Blocking
from nodeport_nft.store.etcd.errors import Cause, EtcdError
from nodeport_nft.store.etcd.values import MemberStatus

_QUOTA = 2 << 30
"""Bytes that a database may have if --quota-backend-bytes says nothing (etcd, server/storage/quota.go)."""

_NEAR = 0.8


def about_members(etcd: Blocking) -> tuple[tuple[str, ...], tuple[Finding, ...], tuple[str, ...]]:
    """A line about each endpoint, what is wrong, and hints about what is not yet."""
    about: list[str] = []
    wrong: dict[Finding, None] = {}
    hints: list[str] = []
    statuses = etcd.run(etcd.client.status())
    for endpoint, status in zip(etcd.client.connection.endpoints, statuses, strict=True):
        if isinstance(status, EtcdError):
            if status.cause is Cause.DENIED:
                about.append(f"etcd {endpoint}: this user may not see its status")
            else:
                where = f"etcd {endpoint}"
                wrong[Finding(where, *_split(str(status).removeprefix(f"{where}: ")))] = None
            continue
        about.append(_line(status))
        for error in status.errors:
            wrong[_alarm(error.strip(), status)] = None
        if status.database_size >= _NEAR * _QUOTA:
            hints.append(_hint(status))
    return tuple(about), tuple(wrong), tuple(hints)


def _split(message: str) -> tuple[str, str]:
    said, _, remedy = message.partition("; ")
    return said, remedy or "see etcd's own log"


def _line(status: MemberStatus) -> str:
    role = "leader" if status.member == status.leader else "follower" if status.leader else "without a leader"
    size = f"database {_megabytes(status.database_size)} MB, {_megabytes(status.size_in_use)} MB of it in use"
    return f"etcd {status.endpoint}: version {status.version}, {role}, revision {status.revision}, {size}"


def _alarm(error: str, status: MemberStatus) -> Finding:
    """An alarm is the cluster's: each member tells it in the same words, and it is one finding."""
    if "NOSPACE" in error:
        remedy = (
            f"writes are refused until there is room: `etcdctl compact {status.revision}`, "
            "`etcdctl defrag --cluster`, then `etcdctl alarm disarm`; or raise --quota-backend-bytes"
        )
    elif "CORRUPT" in error:
        remedy = "remove the damaged member and add it anew, or restore a snapshot"
    else:
        remedy = "look at `etcdctl endpoint status` and at etcd's own log"
    return Finding("etcd", error, remedy)


def _hint(status: MemberStatus) -> str:
    full = f"etcd {status.endpoint}: its database has {_megabytes(status.database_size)} MB"
    room = f"`etcdctl compact {status.revision}`, then `etcdctl defrag --cluster`"
    return f"{full}, and etcd refuses writes from 2,048 MB on, unless --quota-backend-bytes is larger; {room}"


def _megabytes(size: int) -> str:
    return f"{size / (1 << 20):,.1f}"
