"""From options to a running daemon, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from nodeport_nft import __version__
from nodeport_nft.config import Config, ConfigError
from nodeport_nft.daemon.followed import FollowedNode
from nodeport_nft.daemon.kernel_tables import KernelTables
from nodeport_nft.daemon.lasting import lasting
from nodeport_nft.daemon.log import Log
from nodeport_nft.daemon.loop import Daemon
from nodeport_nft.daemon.options import Options
from nodeport_nft.daemon.report import Reporter
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.host.addresses import HostEvents, read_host
from nodeport_nft.kernel.host.node_lock import DaemonPresence
from nodeport_nft.observe.metrics import Metrics
from nodeport_nft.observe.server import ObserveServer
from nodeport_nft.observe.status import Status
from nodeport_nft.scarcity import scarcity
from nodeport_nft.store import StoreError

if TYPE_CHECKING:
    from nodeport_nft.page.answers import Page

_STOP_SECONDS = 1.5
"""How long an orderly end may take. What is under way then is not waited for: the kernel takes a transaction as a
whole or not at all, the rules stay, and the next start writes what is left."""

_LISTEN_SECONDS = 10.0
_LOG_SECONDS = 10.0


def run(options: Options) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reads the configuration again.

    Raises ConfigError, KernelError, StoreError and OSError where the daemon cannot begin.
    """
    config = options.load()
    presence = DaemonPresence(config.run_dir)
    log = Log(options.log_format)
    try:
        _run_with(options, config, log)
    except (ConfigError, KernelError, StoreError, OSError):
        raise
    except Exception as error:
        if scarcity(error):
            raise
        log.defect(error)
        sys.exit(1)
    finally:
        presence.close()
        log.close()


def _run_with(options: Options, config: Config, log: Log) -> None:
    metrics = Metrics(__version__)
    page = _page(options, config)
    server = ObserveServer(metrics, healthz=config.healthz_address, metrics_address=config.metrics_address, page=page)
    status = Status(
        version=__version__,
        node=options.node_name,
        source=", ".join(options.manifests) or config.store,
        pid=os.getpid(),
        started=time.time(),
        sync_period=config.sync_period,
    )
    reporter = Reporter(log.events, metrics, server, status)
    if page:
        page.follow(lambda: reporter.status)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    tables = KernelTables(config.run_dir)
    node = FollowedNode(options, config, reporter, HostEvents(), read_host())
    try:
        asyncio.run(_run(options, Daemon(options, config, reporter, tables, node, page), reporter, server, log))
    except ExceptionGroup as group:
        raise _only(group) from None
    finally:
        tables.close()
        server.close()
        if page:
            page.close()
        reporter.close()


def _page(options: Options, config: Config) -> Page | None:
    """The page, where there is to be one: nobody else pays for its templates."""
    if not config.status_page or config.metrics_address is None:
        return None
    from nodeport_nft.page.answers import Page

    return Page(options.node_name)


async def _run(options: Options, daemon: Daemon, reporter: Reporter, server: ObserveServer, log: Log) -> None:
    loop = asyncio.get_running_loop()

    def stop(number: int, _: object) -> None:
        # Not the loop's own handler: it would wait for a bulk load to end.
        if not options.cleanup_on_exit:
            _end_soon()
        loop.call_soon_threadsafe(daemon.stop, signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    status = reporter.status
    reporter.log.info("starting", version=status.version, node=status.node, source=status.source)
    works = {
        "opening the ports": lambda: _listen(server, reporter),
        "following: log": lambda: _look_after(log, reporter),
    }
    tasks = [asyncio.create_task(lasting(what, work, reporter)) for what, work in works.items()]
    for task in tasks:
        task.add_done_callback(daemon.ended)
    await asyncio.sleep(0)  # they open before the first sync: whoever hears of that may ask at once
    try:
        await daemon.run()
        if options.cleanup_on_exit:
            daemon.clean_up()
            _end_soon()  # a worker may be at something that takes long
    finally:
        for task in tasks:
            task.cancel()
    reporter.log.info("stopped", rules="removed" if options.cleanup_on_exit else "stay")


def _end_soon() -> None:
    """End in a moment, whatever this process is at then."""
    end = threading.Timer(_STOP_SECONDS, os._exit, (0,))
    end.daemon = True
    with contextlib.suppress(RuntimeError):  # no more threads: then it takes as long as it takes
        end.start()


def _only(group: ExceptionGroup[Exception]) -> Exception:
    """What a group of tasks has failed for, where it is one thing."""
    error: Exception = group
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _listen(server: ObserveServer, reporter: Reporter) -> None:
    """Open the ports of the server, if need be again and again."""
    while True:
        troubles = server.listen()
        reporter.problems("http", troubles)
        if not troubles:
            return
        await asyncio.sleep(_LISTEN_SECONDS)


async def _look_after(log: Log, reporter: Reporter) -> None:
    """Tell how the log does: at once where it can be written no longer, or again; now and then what it lacks."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(changed.set)

    log.outlet.changed = wake
    while True:
        log.look()
        reporter.logged(log.outlet.fault, log.outlet.lost)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOG_SECONDS):
                await changed.wait()
        changed.clear()
