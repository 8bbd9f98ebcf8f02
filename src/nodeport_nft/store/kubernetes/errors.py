"""What is said of an API server that cannot be used, and what it says when it refuses. Needs no library."""

from __future__ import annotations

from msgspec import Struct

from nodeport_nft.problems import Problems
from nodeport_nft.store.errors import StoreError


class KubeconfigWrong(Problems, StoreError):
    """What is configured of an API server, and of who we are there, cannot be used; all that is wrong."""


class Unreachable(StoreError):
    """No answer: no connection, TLS that failed, silence, an answer that broke off. The message has the remedy.

    ``is_sent``: the request may have been carried out.
    """

    def __init__(self, message: str, *, is_sent: bool = False) -> None:
        super().__init__(message)
        self.is_sent = is_sent


class NoCredentials(Unreachable):
    """Nothing was asked, since what we would ask with is missing now: a file, or what a plugin gives."""


class Cause(Struct, frozen=True):
    """One fault of a refused object (meta/v1 StatusCause); ``field`` is a path as the API writes it."""

    reason: str
    message: str
    field: str


class Refused(StoreError):
    """An answer that is a ``Status`` of failure (meta/v1), also where it came as an event of a watch.

    ``reason`` is the API's word ("Conflict", "Invalid", "Expired"). ``retry_after``: seconds, 0.0 if nothing is said.
    """

    def __init__(
        self,
        message: str,
        code: int,
        reason: str = "",
        causes: tuple[Cause, ...] = (),
        retry_after: float = 0.0,
        body: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.causes = causes
        self.retry_after = retry_after
        self.body = body
