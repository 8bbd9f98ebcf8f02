"""A client for commands, which have no event loop: it brings one of its own.

It cannot be used where one runs already.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from nodeport_nft.interrupts import Runner, ends_at_once


class _Client(Protocol):
    async def close(self) -> None: ...


ClientOf = TypeVar("ClientOf", bound=_Client)
Result = TypeVar("Result")


class BlockingClient(Generic[ClientOf]):
    """``with ... as store: store.run(store.client.get("key"))``. Use it as a context manager, or close it."""

    def __init__(self, make: Callable[[], ClientOf]) -> None:
        """Makes the client on its loop. Raises what ``make`` does."""
        self._runner = Runner()

        async def made() -> ClientOf:
            return make()

        try:
            self.client = self._runner.run(made())
        except BaseException:
            self._runner.close()
            raise

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Wait for it; Ctrl-C cancels it, and is raised then."""
        return self._runner.run(work)

    def close(self) -> None:
        """Hang up."""
        with ends_at_once():  # a client that is half closed complains
            self._runner.run(self.client.close())
            self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
