"""What a failure means, from etcd's and grpc's words; and what is said of several members."""

from __future__ import annotations

import pickle

import pytest
from msgspec.structs import replace

from nodeport_nft.store.errors import told_by_daemon
from nodeport_nft.store.etcd.errors import Cause, EtcdError, Failure, Outcome, cause_of, etcd_error, in_words

CONNECTING = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:2379: "


@pytest.mark.parametrize(
    ("code", "details", "cause"),
    [
        ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded", Cause.FULL),
        ("RESOURCE_EXHAUSTED", "etcdserver: too many requests", Cause.BUSY),
        ("RESOURCE_EXHAUSTED", "trying to send message larger than max (2097152 vs. 2)", Cause.TOO_LARGE),
        ("INVALID_ARGUMENT", "etcdserver: request is too large", Cause.TOO_LARGE),
        ("INVALID_ARGUMENT", "etcdserver: too many operations in txn request", Cause.TOO_LARGE),
        ("INVALID_ARGUMENT", "etcdserver: duplicate key given in txn request", Cause.OTHER),
        ("INVALID_ARGUMENT", "etcdserver: authentication failed, invalid user ID or password", Cause.LOGIN),
        ("INVALID_ARGUMENT", "etcdserver: revision of auth store is old", Cause.TOKEN),
        ("INVALID_ARGUMENT", "etcdserver: user name is empty", Cause.LOGIN_NEEDED),
        ("UNAUTHENTICATED", "etcdserver: invalid auth token", Cause.TOKEN),
        ("PERMISSION_DENIED", "etcdserver: permission denied", Cause.DENIED),
        ("FAILED_PRECONDITION", "etcdserver: authentication is not enabled", Cause.NO_LOGIN),
        ("UNAVAILABLE", "etcdserver: no leader", Cause.NO_LEADER),
        ("UNAVAILABLE", "etcdserver: request timed out, possibly due to previous leader failure", Cause.SILENT),
        ("UNAVAILABLE", "etcdserver: leader changed", Cause.SILENT),
        ("UNAVAILABLE", "Stream removed (ping timeout)", Cause.SILENT),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", Cause.SILENT),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted", Cause.COMPACTED),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision", Cause.FUTURE),
        ("NOT_FOUND", "etcdserver: requested lease not found", Cause.NO_LEASE),
        ("DATA_LOSS", "etcdserver: corrupt cluster", Cause.CORRUPT),
        ("", "rpc error: code = PermissionDenied desc = etcdserver: permission denied", Cause.DENIED),
        ("", "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token", Cause.TOKEN),
        ("", "etcdserver: no leader", Cause.NO_LEADER),
        ("UNAVAILABLE", CONNECTING + "Failed to connect to remote host: Connection refused", Cause.UNREACHABLE),
        ("UNAVAILABLE", "DNS resolution failed for host:2379: C-ares status is not ARES_SUCCESS", Cause.UNREACHABLE),
        ("UNAVAILABLE", CONNECTING + "SSL_ERROR_SSL: CERTIFICATE_VERIFY_FAILED", Cause.CERTIFICATE),
        ("UNAVAILABLE", CONNECTING + "Unwrap failed (TSI_DATA_CORRUPTED)", Cause.CERTIFICATE),
        ("UNAVAILABLE", CONNECTING + "Handshake read failed (Socket closed)", Cause.UNREACHABLE),
        (
            "UNAVAILABLE",
            CONNECTING + "Handshake read failed (recvmsg:Connection reset by peer (104))",
            Cause.UNREACHABLE,
        ),
        ("UNIMPLEMENTED", "unknown service etcdserverpb.KV", Cause.OTHER),
    ],
)
def test_causes(code: str, details: str, cause: Cause) -> None:
    assert cause_of(code, details) is cause


@pytest.mark.parametrize(
    "said", ["tcp handshaker shutdown", "FAILED_PRECONDITION: tcp handshaker shutdown", "tls: it failed", "handshake"]
)
def test_without_tls_nobody_is_sent_to_certificates(said: str) -> None:
    assert cause_of("UNAVAILABLE", CONNECTING + said, is_secure=False) is Cause.UNREACHABLE


def test_a_member_that_does_not_answer_is_no_fault_of_its_certificate() -> None:
    said = CONNECTING + "tcp handshaker shutdown"
    assert cause_of("UNAVAILABLE", said) is Cause.UNREACHABLE
    assert in_words(said, is_secure=True) == "no answer to the attempt to connect"


def test_grpcs_words_are_left_out() -> None:
    assert in_words(CONNECTING + "Connection refused", is_secure=False) == "Connection refused"
    assert (
        in_words(CONNECTING + "Socket closed", is_secure=False) == "Socket closed (if etcd speaks TLS there, set ca)"
    )


@pytest.mark.parametrize("cause", Cause)
def test_each_has_a_remedy(cause: Cause) -> None:
    said = str(etcd_error([Failure("host:2379", "etcdserver: it failed", cause)], "a/b"))
    assert said.startswith("etcd host:2379: it failed; ")
    assert "{" not in said


def test_the_last_of_each_member_is_told_and_the_worst_gives_the_remedy() -> None:
    error = etcd_error(
        [
            Failure("a:1", "at first", Cause.SILENT),
            Failure("b:1", "bad certificate", Cause.CERTIFICATE),
            Failure("a:1", "refused", Cause.UNREACHABLE),
        ],
        "p",
    )
    assert str(error).startswith("etcd a:1: refused, b:1: bad certificate; compare ca, cert and key")
    assert error.cause is Cause.CERTIFICATE


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_without_a_majority_it_is_told_who_answers(order: tuple[int, ...]) -> None:
    failures = [
        Failure("a:1", "refused", Cause.UNREACHABLE),
        Failure("b:1", "etcdserver: no leader", Cause.NO_LEADER),
        Failure("c:1", "no answer", Cause.SILENT),
    ]
    error = etcd_error([failures[place] for place in order], "p", 3)
    assert "; 1 of 3 endpoints answers, without a majority; more than half of the members must run" in str(error)
    assert error.cause is Cause.NO_LEADER
    two = etcd_error([failures[1], replace(failures[1], endpoint="d:1")], "p", 3)
    assert "; 2 of 3 endpoints answer, without" in str(two)
    assert "of 1" not in str(etcd_error(failures[1:2], "p", 1))


@pytest.mark.parametrize("cause", Cause)
def test_a_daemon_is_not_told_to_choose_another_store(cause: Cause) -> None:
    error = etcd_error([Failure("a:1", "it failed", cause)], "p")
    assert "--store" not in told_by_daemon(str(error))
    assert told_by_daemon(str(error)).startswith("etcd a:1: it failed; ")


def test_doubt_is_told() -> None:
    error = etcd_error([Failure("a:1", "gone", Cause.SILENT, Outcome.UNKNOWN)], "p")
    assert "it may have been written all the same: look before you repeat it" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, EtcdError)
    assert (str(again), again.cause, again.outcome) == (str(error), Cause.SILENT, Outcome.UNKNOWN)
