"""What an API server, whoever is between, and plugins answer: a line for a header, then the body."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from fuzz.engine import Target
from fuzz.targets.common import check_lines
from nodeport_nft.config.kubeconfig import Plugin
from nodeport_nft.store.kubernetes.answers import is_page, page, refusal, retry_after, warnings
from nodeport_nft.store.kubernetes.plugins import credential

_V1 = "client.authentication.k8s.io/v1"


def run(data: bytes) -> None:
    """All that is made of an answer of failure, and of what a plugin printed."""
    first, _, body = data.partition(b"\n")
    header = first.decode(errors="replace")
    headers = {"Retry-After": header, "Content-Type": header, "Location": header}
    refused = refusal(500, body, headers)
    refusal(302, body, headers)
    assert refused.retry_after >= 0
    assert retry_after(header) >= 0
    if is_page(headers):
        check_lines([page(200, body)])
    check_lines(
        [
            *str(refused).split("\n"),
            *(f"{cause.field}{cause.message}{cause.reason}".replace("\n", "") for cause in refused.causes),
        ]
    )
    check_lines(warnings([header]))
    with suppress(ValueError):
        credential(Plugin("plugin", _V1), body)


def seeds() -> Sequence[bytes]:
    """One of each kind."""
    return (
        b'30\n{"kind": "Status", "status": "Failure", "message": "is invalid", "reason": "Invalid", "code": 422, '
        b'"details": {"retryAfterSeconds": 1, "causes": [{"reason": "R", "message": "m", "field": '
        b'"spec.ports[0]"}]}}',
        b"text/html; charset=utf-8\n<html><title>Log in</title></html>",
        b'299 - "unknown field \\"spec.prts\\"", 299 - "b" "Wed, 21 Oct 2015 07:28:00 GMT"\nClient sent HTTP',
        b'Wed, 21 Oct 2099 07:28:00 GMT\n{"kind": "ExecCredential", "apiVersion": "' + _V1.encode() + b'", '
        b'"status": {"token": "t", "expirationTimestamp": "2030-01-01T00:00:00Z"}}',
    )


TOKENS = (
    *b"null true 7 -1 Status ExecCredential details causes status token clientKeyData expirationTimestamp".split(),
    *b'299 - "x" text/html <title> </title>'.split(b" "),
)

TARGET = Target("answers", run, seeds, TOKENS)
