"""From options to a running daemon, and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

from nodeport_nft import __version__
from nodeport_nft.daemon.log import open_log
from nodeport_nft.daemon.loop import Daemon
from nodeport_nft.daemon.node import ThisNode
from nodeport_nft.daemon.options import Options
from nodeport_nft.daemon.report import Reporter
from nodeport_nft.daemon.tables import KernelTables
from nodeport_nft.kernel.host import HostEvents, read_host
from nodeport_nft.kernel.turns import Presence
from nodeport_nft.observe.metrics import Metrics
from nodeport_nft.observe.server import ObserveServer
from nodeport_nft.observe.status import Status

_STOP_SECONDS = 1.5
"""How long an orderly end may take. What is under way then is not waited for: the kernel takes a transaction as a
whole or not at all, the rules stay, and the next start writes what is left."""

_LISTEN_SECONDS = 10.0


def run(options: Options) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reads the configuration again.

    Raises ConfigError, KernelError, StoreError and OSError where the daemon cannot begin.
    """
    config = options.load()
    presence = Presence(config.run_dir)
    log = open_log(options.log_format)
    metrics = Metrics(__version__)
    server = ObserveServer(metrics, healthz=config.healthz_address, metrics_address=config.metrics_address)
    status = Status(
        version=__version__,
        node=options.node_name,
        source=", ".join(options.manifests) or config.store,
        pid=os.getpid(),
        started=time.time(),
        sync_period=config.sync_period,
    )
    reporter = Reporter(log, metrics, server, status)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    tables = KernelTables(config.run_dir)
    node = ThisNode(options, config, reporter, HostEvents(), read_host())
    try:
        asyncio.run(_run(options, Daemon(options, config, reporter, tables, node), reporter, server))
    finally:
        tables.close()
        server.close()
        presence.close()


async def _run(options: Options, daemon: Daemon, reporter: Reporter, server: ObserveServer) -> None:
    loop = asyncio.get_running_loop()

    def stop(number: int, _: object) -> None:
        # Not the loop's own handler: it would wait for a bulk load to end.
        if not options.cleanup_on_exit:
            end = threading.Timer(_STOP_SECONDS, os._exit, (0,))
            end.daemon = True
            end.start()
        loop.call_soon_threadsafe(daemon.stop, signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    status = reporter.status
    reporter.log.info("starting", version=status.version, node=status.node, source=status.source)
    ports = asyncio.create_task(_listen(server, reporter))
    await asyncio.sleep(0)  # they open before the first sync: whoever hears of that may ask at once
    try:
        await daemon.run()
        if options.cleanup_on_exit:
            daemon.clean_up()
    finally:
        ports.cancel()
    reporter.log.info("stopped", rules="removed" if options.cleanup_on_exit else "stay")


async def _listen(server: ObserveServer, reporter: Reporter) -> None:
    """Open the ports of the server, if need be again and again."""
    while True:
        troubles = server.listen()
        reporter.problems("http", troubles)
        if not troubles:
            return
        await asyncio.sleep(_LISTEN_SECONDS)
