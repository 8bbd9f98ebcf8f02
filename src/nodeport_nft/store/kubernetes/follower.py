"""Follow one kind of object at an API server: list it, watch it, and miss nothing, whatever becomes of the server.

- All there is comes as the initial events of a watch (KEP-3157), or in pages from a server that cannot do so: it
  answers 400 or 422, or 200 and an ERROR event of code 500, or never says that this was all. Either is a read of the
  latest state: one from the cache of a server that lags (resourceVersion=0) could take the node back in time.
- A watch goes on after the last event or bookmark. What it would have told is gone where that is too old (410, as an
  answer or as an event) or where it told something that is no event: then everything is listed once more, and only
  what differs is told.
- Before a watch is begun again the server is asked for the revision it is at. One that is behind us has another
  history, that of an etcd restored from a copy; a watch from a revision that is yet to come would be silent for ever.
- A watch is begun again where it has been silent for three minutes. Bookmarks come every minute, but not over an etcd
  that knows no progress requests (3.4), so it has to be cheap, and asks for nothing again.

Source: API concepts, "Efficient detection of changes", https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from msgspec import Struct

from nodeport_nft.store.errors import StoreError
from nodeport_nft.store.kubernetes.client import Client, refusal
from nodeport_nft.store.kubernetes.decoding import (
    Event,
    Garbled,
    Page,
    read_bookmark,
    read_code,
    read_event,
    read_item,
    read_page,
)
from nodeport_nft.store.kubernetes.errors import Refused, Unreachable
from nodeport_nft.store.kubernetes.known import Known, Listing, is_behind
from nodeport_nft.store.kubernetes.patience import AWAY_SECONDS, Reach, Refusals, is_away
from nodeport_nft.store.kubernetes.selection import Selected

_PAGE = 500
_PORTION = 500
"""Events that are taken before others on the event loop have their turn."""

_MOST_STARTS = 3
"""How often a list is begun in pages, if the server forgets the moment of the first one before the last."""

_ABSENT_SECONDS = 600.0
"""How often to ask again for a kind that the server does not have: it may have been upgraded."""

_GONE, _NOT_FOUND, _FORBIDDEN = 410, 404, 403
_SENSELESS = (400, 422)
_NOT_STREAMED = (*_SENSELESS, 500)


class Timings(Struct, frozen=True):
    """Seconds. ``silence``: of a watch, until it is begun again. ``watch``: how long one is asked for, at random.

    ``shortest``: a watch that ends sooner has not gone well.
    """

    silence: float = 180.0
    answer: float = 30.0
    watch: tuple[float, float] = (300.0, 600.0)
    shortest: float = 1.0


class Streaming(Struct):
    """Whether the server streams what there is, as far as its kinds have found out."""

    is_on: bool = True


class Follower:
    """One kind. ``fault``: why it cannot be followed now, "" if it can; ``told`` is called when there is news."""

    def __init__(
        self,
        client: Client,
        selected: Selected,
        reach: Reach,
        streaming: Streaming,
        told: Callable[[], None],
        timings: Timings,
    ) -> None:
        self.known = Known(selected.kind)
        self.fault = ""
        self._client = client
        self._selected = selected
        self._paths = [selected.path]
        if not selected.is_needed:  # what was served as beta first
            self._paths.append(selected.path.replace("/v1/", "/v1beta1/"))
        self._reach = reach
        self._streaming = streaming
        self._told = told
        self._timings = timings
        self._refusals = Refusals()
        self._failures = 0
        self._is_doubtful = False  # it has to show first that it goes well
        self._begun = 0.0  # when the watch began, by the clock of the loop

    @property
    def plural(self) -> str:
        """As the API calls the kind."""
        return self._selected.path.rpartition("/")[2]

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            self._begun = 0.0
            try:
                await self._follow()
            except StoreError as error:
                await self._failed(error)

    async def _follow(self) -> None:
        """List if that has to be, and watch until that ends. Raises StoreError."""
        known = self.known
        if known.is_current and not await self._is_same_history():
            known.distrust()
        if known.is_current:
            await self._watch({"resourceVersion": known.revision}, None)
        elif self._streaming.is_on:
            await self._watch({"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}, known.begin())
        elif await self._list():
            await self._watch({"resourceVersion": known.revision}, None)

    async def _is_same_history(self) -> bool:
        page = await self._page({"limit": "1"})
        return not is_behind(page.revision, self.known.revision)

    async def _list(self) -> bool:
        """Take all there is, in pages; False where that has to be done once more."""
        for start in range(_MOST_STARTS + 1):
            limit = {"limit": str(_PAGE)} if start < _MOST_STARTS else {}
            listing, token = self.known.begin(), ""
            try:
                while True:
                    page = await self._page({**limit, **({"continue": token} if token else {})})
                    self.known.note(listing, (read_item(each, self.known.kind) for each in page.items))
                    token = page.token
                    if not token:
                        return self._adopt(listing, page.revision)
            except Refused as refused:
                # The token that comes with it would go on with what is there now, and what has changed on the pages
                # before would be missed.
                if refused.code != _GONE or not token:
                    raise
        return False

    def _adopt(self, listing: Listing, revision: str) -> bool:
        is_taken = self.known.adopt(listing, revision)
        if is_taken:
            self._heard()
            self._told()
        return is_taken

    async def _watch(self, query: Mapping[str, str], listing: Listing | None) -> None:
        """Take what is told until the watch ends; with ``listing`` all there is comes first."""
        query = {**query, "watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": self._watch_seconds()}
        count = 0
        try:
            async with self._stream(query) as portions, self._proving(listing):
                self._begun = asyncio.get_running_loop().time()
                if listing is None and not self._is_doubtful:
                    self._heard()
                while lines := await self._next(portions, is_initial=listing is not None):
                    for line in lines:
                        if listing is None:
                            self._take(read_event(line))
                        elif self._take_initial(read_event(line), listing):
                            listing = None
                        count += 1
                        if count % _PORTION == 0:
                            await asyncio.sleep(0)
        except Refused as refused:
            if listing is None or refused.code not in _NOT_STREAMED:
                raise
            self._streaming.is_on = False
            return
        if listing is not None:  # it never came to the end
            self._streaming.is_on = False
        elif not (count or self._has_lasted()):
            raise Unreachable(f"{self._client.connection}: a watch of {self.plural} ended as soon as it had begun")

    def _take_initial(self, event: Event, listing: Listing) -> bool:
        """Take one of what there is; True where that was the last of it."""
        if event.type == "BOOKMARK":
            revision, is_end = read_bookmark(event)
            if is_end and not self._adopt(listing, revision):
                raise _BeginAgain
            return is_end
        self._check(event)
        self.known.note(listing, (read_item(event.body, self.known.kind),))
        return False

    def _take(self, event: Event) -> None:
        if event.type == "BOOKMARK":
            self.known.reached(read_bookmark(event)[0])
        else:
            self._check(event)
            if self.known.change(read_item(event.body, self.known.kind), deleted=event.type == "DELETED"):
                self._told()
        self._heard()

    def _check(self, event: Event) -> None:
        if event.type == "ERROR":
            raise refusal(read_code(event), bytes(event.body), {})
        if event.type not in ("ADDED", "MODIFIED", "DELETED"):
            raise Garbled(f"its watch tells of an event {event.type[:20]!r}, which the API does not know")

    async def _next(self, portions: AsyncIterator[list[bytes]], *, is_initial: bool) -> list[bytes]:
        """The lines that come next, none where the watch has ended or has been silent too long.

        ``is_initial``: there is something to be told now.
        """
        try:
            async with asyncio.timeout(self._timings.answer if is_initial else self._timings.silence):
                return await anext(portions)
        except (StopAsyncIteration, TimeoutError):
            return []

    async def _failed(self, error: StoreError) -> None:
        """Tell it, and wait as long as that takes."""
        has_lasted, is_garbled, is_gone = self._has_lasted(), isinstance(error, Garbled), _is_gone(error)
        if is_garbled or is_gone or _is_senseless(error):
            self.known.missed()
        if has_lasted:
            self._refusals.over()
        if isinstance(error, Refused) and self._does_without(error):
            return await self._wait_absent(error)
        self._failures += 1
        self._is_doubtful = is_garbled or bool(self._begun and not (has_lasted or is_gone))
        # What is mended at once is nothing to tell of, unless there is nothing to go on with meanwhile.
        if not is_gone and (self._failures > 1 or is_garbled or not self.known.is_listed):
            self._tell(self._fault_of(error))
        if not is_away(error):
            return await asyncio.sleep(self._refusals.pause(error))
        if self._begun:  # else whoever asks next waits
            self._reach.lost()
            if not has_lasted:
                await asyncio.sleep(min(self._refusals.pause(error), AWAY_SECONDS))
        return None

    def _does_without(self, refused: Refused) -> bool:
        return not self._selected.is_needed and refused.code in (_NOT_FOUND, _FORBIDDEN)

    async def _wait_absent(self, refused: Refused) -> None:
        """Go on without a kind that is not needed: with none of it, or with what was there before."""
        if refused.code == _NOT_FOUND and len(self._paths) > 1:
            self._paths.append(self._paths.pop(0))
            if self._paths[0] != self._selected.path:
                return
        is_first = not self.known.is_listed
        if is_first:
            self.known.adopt(self.known.begin(), "")
            self.known.missed()
        self._tell("" if refused.code == _NOT_FOUND else self._fault_of(refused))
        if is_first:
            self._told()
        await asyncio.sleep(_ABSENT_SECONDS if refused.code == _NOT_FOUND else self._refusals.pause(refused))

    def _fault_of(self, error: StoreError) -> str:
        where, what = self._client.connection, f"listing and watching {self.plural}"
        match error:
            case Unreachable() | Refused(code=401):  # which say it all
                return str(error)
            case Garbled():
                remedy = "see which server the kubeconfig names, and whether a proxy stands before it"
                return f"{where}: {error}; {remedy}"
            case Refused(code=code) if code == _FORBIDDEN:
                return f"{where}: {error}; allow {what} to whom the kubeconfig names"
            case Refused(code=code):
                return f"{where}: {what}: {error} ({code}); it is asked again"
        return f"{where}: {error}"

    def _heard(self) -> None:
        """It goes well."""
        self._is_doubtful = False
        self._failures = 0
        self._tell("")

    def _tell(self, fault: str) -> None:
        if fault != self.fault:
            self.fault = fault
            self._told()

    @asynccontextmanager
    async def _proving(self, listing: Listing | None) -> AsyncIterator[None]:
        """A watch that has lasted for so long goes well, also where there is nothing to tell."""
        proof = None
        if listing is None:
            proof = asyncio.get_running_loop().call_later(self._timings.shortest, self._heard)
        try:
            yield
        finally:
            if proof:
                proof.cancel()

    def _has_lasted(self) -> bool:
        now = asyncio.get_running_loop().time()
        return self._begun > 0.0 and now - self._begun >= self._timings.shortest

    def _watch_seconds(self) -> str:
        return str(max(1, round(random.uniform(*self._timings.watch))))  # noqa: S311

    async def _page(self, query: Mapping[str, str]) -> Page:
        async with self._reach.turn():
            answer = await self._client.request(
                "GET", self._paths[0], {**self._selected.query, **query}, seconds=self._timings.answer
            )
        return read_page(answer.body)

    @asynccontextmanager
    async def _stream(self, query: Mapping[str, str]) -> AsyncIterator[AsyncIterator[list[bytes]]]:
        """The lines of a watch, as they come; it counts as answered when it has begun."""
        opening = self._client.stream(self._paths[0], {**self._selected.query, **query})
        async with self._reach.turn():
            try:
                async with asyncio.timeout(self._timings.answer):
                    portions = await opening.__aenter__()
            except TimeoutError:
                text = (
                    f"{self._client.connection}: no answer within {self._timings.answer:g} s; see how its server does"
                )
                raise Unreachable(text) from None
        try:
            yield portions
        except BaseException as error:
            if not await opening.__aexit__(type(error), error, error.__traceback__):
                raise
        else:
            await opening.__aexit__(None, None, None)


class _BeginAgain(StoreError):
    """What was listed cannot be compared with what is known: once more."""

    def __init__(self) -> None:
        super().__init__("the server has another history than before")


def _is_senseless(error: StoreError) -> bool:
    """Whether the server cannot make sense of what it was asked, so of the revision: asked again it says the same."""
    return isinstance(error, Refused) and error.code in _SENSELESS


def _is_gone(error: StoreError) -> bool:
    if isinstance(error, Refused):
        return error.code == _GONE or error.reason in ("Expired", "Gone")
    return isinstance(error, _BeginAgain)
