"""``python -m bench.allocation [COUNT …]``: what one more apply costs beside the Services that etcd holds.

One Service with a nodePort and a clusterIP to be chosen, and its endpoints, are applied and deleted again, ten times;
what is counted are the calls to etcd and the keys that come back. The last rows are what a node pays that lists all.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, Self

from bench.etcd import fill, member, opened, piece, service
from bench.figures import table
from bench.workload import NOW
from lab.namespaces import enter_private_namespaces
from nodeport_nft.model import Ref
from nodeport_nft.store.etcd import layout

COUNTS = (100, 1_000, 10_000, 50_000)
APPLIES = 10
EXTRA = 1_999  # one that wants a nodePort


def main(counts: list[int]) -> None:
    enter_private_namespaces()
    rows: dict[str, list[str]] = {}

    def note(what: str, text: str) -> None:
        print(f"{what}: {text}", file=sys.stderr, flush=True)
        rows.setdefault(what, []).append(text)

    with member() as etcd, opened() as store:
        before = 0
        for count in counts:
            fill(store, before, count)
            before = count
            print(f"{count:,} Services", file=sys.stderr)
            measure(store, note)
            note("etcd's database (MB)", f"{etcd.database_megabytes():.0f}")
            note("etcd's memory (MB)", f"{etcd.megabytes():.0f}")
    heads = ["", *(f"{count:,} Services" for count in counts)]
    print(table(heads, [[what, *cells] for what, cells in rows.items()]))


class Counting:
    """Counts what comes back from etcd in the block."""

    def __init__(self, client: Any) -> None:
        self.calls = self.asked = self.keys = self.bytes = 0
        self._client = client
        self._ask = client.calls.call

    def __enter__(self) -> Self:
        self._client.calls.call = self._call
        return self

    def __exit__(self, *_: object) -> None:
        self._client.calls.call = self._ask

    async def _call(self, name: str, request: Any, **options: Any) -> Any:
        answer = await self._ask(name, request, **options)
        is_transaction = name == "KV.Txn"
        ranges = [one.response_range for one in answer.responses] if is_transaction else [answer]
        self.calls += 1
        self.asked += len(request.success) if is_transaction else 1
        self.keys += sum(len(each.kvs) for each in ranges)
        self.bytes += answer.ByteSize()
        return answer


def measure(store: Any, note: Callable[[str, str], None]) -> None:
    client = store._etcd.client
    seconds, counts = [], []
    for _ in range(APPLIES):
        with Counting(client) as counted:
            begin = time.perf_counter()
            store.write([service(EXTRA, "one-more"), piece(EXTRA, name="one-more")], now=NOW)
            seconds.append(time.perf_counter() - begin)
        counts.append(counted)
        store.write(
            deletes=[Ref("Service", "default", "one-more"), Ref("EndpointSlice", "default", "one-more-x")], now=NOW
        )
    note("one apply, median (ms)", f"{statistics.median(seconds) * 1000:.0f}")
    note("its calls to etcd, most", f"{max(each.calls for each in counts)}")
    note("keys that it asks for or writes, most", f"{max(each.asked for each in counts)}")
    note("keys that come back, most", f"{max(each.keys for each in counts)}")
    with Counting(client) as counted:
        begin = time.perf_counter()
        store._etcd.run(client.list_all(layout.OBJECTS))
        note("to list all objects (s)", f"{time.perf_counter() - begin:.1f}")
    note("calls of that", f"{counted.calls}")
    note("bytes of that (MB)", f"{counted.bytes / 1e6:.1f}")


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or list(COUNTS))
