"""python -m tests.kubernetes.apiserver: serve until SIGTERM. The first line printed is JSON: the addresses."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import ssl
from pathlib import Path

from aiohttp import web

from tests.kubernetes.apiserver.control import Control
from tests.kubernetes.apiserver.front import Front
from tests.kubernetes.apiserver.seeding import CIDRS, begin
from tests.kubernetes.apiserver.serving import State
from tests.kubernetes.apiserver.watching import Options


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="tests.kubernetes.apiserver", description=__doc__)
    parser.add_argument(
        "--listen", action="append", required=True, help="ADDRESS:PORT of a server; several may be equal"
    )
    parser.add_argument("--control", required=True, help="Unix socket to steer by")
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--client-ca", required=True)
    parser.add_argument("--token", action="append", default=[], help="TOKEN=USER[,GROUP...]")
    parser.add_argument("--rbac", action="append", default=[], help="manifests with roles and bindings")
    parser.add_argument("--service-cidrs", default=",".join(CIDRS))
    parser.add_argument("--streaming", choices=("on", "off", "broken"), default="on")
    parser.add_argument("--bookmarks", type=float, default=60.0, help="seconds between two")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments))


async def _serve(arguments: argparse.Namespace) -> None:
    state = State(Options(arguments.streaming, arguments.bookmarks), arguments.seed)
    begin(state, cidrs=tuple(arguments.service_cidrs.split(",")))
    for text in arguments.token:
        token, _, who = text.partition("=")
        user, *groups = who.split(",")
        state.access.add_token(token, user, groups)
    state.access.load(map(Path, arguments.rbac))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=arguments.client_ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_cert_chain(arguments.certificate, arguments.key)
    fronts: list[Front] = []
    ports: dict[str, int] = {}
    for replica, text in enumerate(arguments.listen):
        host, _, port = text.rpartition(":")
        front = Front(state, replica, (host.strip("[]"), ports.get(text, int(port))), context)
        ports[text] = front.address[1]
        fronts.append(front)
        await front.start()
    application = web.Application(client_max_size=64 << 20)
    application.router.add_route("*", "/{path:.*}", Control(state, fronts).handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, arguments.control).start()
    print(json.dumps({"addresses": [front.address for front in fronts], "pid": os.getpid()}), flush=True)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    for front in fronts:
        await front.stop()


if __name__ == "__main__":
    main()
