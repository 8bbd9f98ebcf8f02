"""A recorder of Events on its own, as a process: what it is to tell comes on standard input, a line of JSON each.

{"tell": [[KIND, NAMESPACE, NAME, REASON, MESSAGE], …]} is what there is now, {"advance": SECONDS} lets its clock go
on. It prints its problems, a list, whenever they are others; and [] when it begins.

usage: python -m tests.kubernetes.telling KUBECONFIG NODE
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from nodeport_nft.model import Ref
from nodeport_nft.store.api import Happening
from nodeport_nft.store.kubernetes.connection import Connection
from nodeport_nft.store.kubernetes.events import EventRecorder, Notebook


async def tell(kubeconfig: str, node: str) -> None:
    """Until standard input ends."""
    advanced, told = 0.0, [""]
    happenings: list[Happening] = []

    def show(problems: tuple[str, ...]) -> None:
        text = json.dumps(problems)
        if text != told[-1]:
            told.append(text)
            print(text, flush=True)

    notebook = Notebook(lambda: time.monotonic() + advanced, lambda: 0.0)
    recorder = EventRecorder(Connection(kubeconfig), node, show, notebook)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    show(())
    running = asyncio.create_task(recorder.run())
    while line := await reader.readline():
        command = json.loads(line)
        advanced += command.get("advance", 0.0)
        if "tell" in command:
            happenings = [Happening(Ref(*each[:3]), *each[3:]) for each in command["tell"]]
        recorder.tell(happenings)
        if running.done():
            break
    running.cancel()
    await asyncio.wait([running])
    if not running.cancelled() and (error := running.exception()):
        raise error


if __name__ == "__main__":
    asyncio.run(tell(sys.argv[1], sys.argv[2]))
