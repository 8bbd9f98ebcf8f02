"""One of several who write at once: ``python -m tests.cluster.writer CONFIG NAME JOURNAL``.

It makes Services with endpoints, moves the endpoints and deletes the Services again, and appends to JOURNAL what came
of each write, as JSON: {"at", "name", "came", "holds", "error"}. ``came`` is "acknowledged", "refused" (nothing was
written) or "unknown" (nobody has said); ``holds`` is [nodePort, clusterIP, endpoint's port], or null for a deletion.
On "pause" at its standard input it says "paused" once no write is under way, until "go"; at its end, it ends.
"""

from __future__ import annotations

import json
import select
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from nodeport_nft.config import load_config
from nodeport_nft.kube import parse_object
from nodeport_nft.model import Ref
from nodeport_nft.store import Objects, StoreError, open_objects
from nodeport_nft.store.etcd.store import PartlyWritten
from tests.daemon.objects import NOW, PORTS

PAUSE = 0.1  # seconds between two writes
MOST = 25  # Services of one writer


class Writer:
    """What one has, and what it does next."""

    def __init__(self, store: Objects, name: str, journal: TextIO, config: Any) -> None:
        self._store = store
        self._name = name
        self._journal = journal
        self._ranges = config.ranges
        self._count = 0
        self._mine: dict[str, list[Any]] = {}

    def step(self) -> None:
        """One write: every third moves endpoints, and where there are enough Services the oldest goes."""
        self._count += 1
        oldest = next(iter(self._mine), "")
        if self._count % 3 == 0 and oldest:
            self._write(oldest, [self._mine[oldest][0], self._mine[oldest][1], PORTS[self._count % len(PORTS)]])
        elif len(self._mine) >= MOST:
            self._write(oldest, None)
        else:
            self._write(f"{self._name}-{self._count}", [0, "", PORTS[0]])

    def _write(self, name: str, holds: list[Any] | None) -> None:
        came, error = "acknowledged", ""
        try:
            if holds is None:
                self._store.write(deletes=[Ref(kind, "default", name) for kind in ("Service", "Endpoints")], now=NOW)
            else:
                documents = [endpoints(name, holds[2])] if holds[0] else [service(name), endpoints(name, holds[2])]
                objects = [parse_object(document, ranges=self._ranges) for document in documents]
                written = self._store.write(objects, now=NOW)
                if not holds[0]:
                    spec = written.applied[0].object.raw["spec"]
                    holds[:2] = spec["ports"][0]["nodePort"], spec["clusterIP"]
        except PartlyWritten as partly:
            came, error = "unknown", str(partly)
        except StoreError as refused:
            came, error = "refused", str(refused)
        self._note(name, came, holds, error)

    def _note(self, name: str, came: str, holds: list[Any] | None, error: str) -> None:
        entry = {"at": time.monotonic(), "name": name, "came": came, "holds": holds, "error": error}
        self._journal.write(json.dumps(entry) + "\n")
        self._journal.flush()
        if came != "refused":
            self._mine.pop(name, None)  # the one that was written last is the youngest; one in doubt is left alone
        if came == "acknowledged" and holds is not None:
            self._mine[name] = holds


def service(name: str) -> dict[str, Any]:
    """A NodePort Service; etcd's writers choose its numbers."""
    spec = {"type": "NodePort", "ports": [{"port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def endpoints(name: str, port: int) -> dict[str, Any]:
    """One endpoint, a pod of worker-1."""
    subsets = [{"addresses": [{"ip": "10.244.1.2"}], "ports": [{"port": port}]}]
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name}, "subsets": subsets}


def main(path: str, name: str, journal: str) -> None:
    config = load_config(path, {})
    with open_objects(config) as store, Path(journal).open("a") as file:
        writer = Writer(store, name, file, config)
        print("begun", flush=True)
        while True:
            ready, _, _ = select.select([sys.stdin], [], [], PAUSE)
            if ready:
                if sys.stdin.readline() != "pause\n":
                    return
                print("paused", flush=True)
                if sys.stdin.readline() != "go\n":
                    return
            writer.step()


if __name__ == "__main__":
    main(*sys.argv[1:])
