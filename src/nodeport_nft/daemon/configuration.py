"""The configuration while the daemon runs: read again when its file changes, and only taken if all of it is right."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from asyncinotify import Event, Mask

from nodeport_nft.config import Config, ConfigError
from nodeport_nft.daemon.node import ThisNode
from nodeport_nft.daemon.options import Options
from nodeport_nft.daemon.report import Reporter
from nodeport_nft.errors import KernelError
from nodeport_nft.settings import SETTINGS
from nodeport_nft.sources.inotify import POLL_SECONDS, open_inotify, unwatched
from nodeport_nft.store.kubernetes.connection import is_kubernetes

# Not when it is created: an editor has yet to fill it, and an empty one means all defaults.
_EVENTS = Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.DELETE | Mask.MOVED_FROM | Mask.ATTRIB


class Configuration:
    """The file, and what is wrong with it."""

    def __init__(
        self, options: Options, node: ThisNode, reporter: Reporter, check_flowtables: Callable[[], None]
    ) -> None:
        """``check_flowtables`` raises KernelError where the kernel has none."""
        self._options = options
        self._check_flowtables = check_flowtables
        self._node = node
        self._reporter = reporter
        self._refused = False
        self._looked_at = _stamp(options.config_file)

    def load(self, before: Config) -> Config | None:
        """What the file says now; None if that is wrong, which is told: what was read before stays in force."""
        try:
            config = self._read()
        except ConfigError as error:
            self._refused = True
            stays = "the configuration read before stays in force"
            self._problems(*(f"{line}; {stays}" for line in str(error).splitlines()))
            return None
        self._refused = False
        kept = [
            each.key
            for each in SETTINGS
            if each.restart and any(getattr(config, name) != getattr(before, name) for name in each.fields)
        ]
        for warning in config.warnings:
            self._reporter.log.warning("configuration", text=warning)
        self._problems(*(f"{self._place(config, key)}: {key}: has changed; restart the daemon" for key in kept))
        return config

    async def follow(self, changed: Callable[[], None]) -> None:
        """Tell when the file has changed; its directory is watched, since editors rename.

        Where the system has no watches left, that is a problem, and the file is looked at every few seconds.
        """
        path = self._options.config_file
        if not path.parent.is_dir():
            return
        while True:
            try:
                await self._watch(path, changed)
            except OSError as error:
                self._reporter.problems("configuration file", [unwatched(path, error)])
            await self._poll(path, changed)

    async def _watch(self, path: Path, changed: Callable[[], None]) -> None:
        """Raises OSError where the directory cannot be watched."""
        with open_inotify() as inotify:
            inotify.add_watch(path.parent, _EVENTS)
            self._reporter.problems("configuration file", ())
            if self._is_other():
                changed()  # between the start, or the last look, and the watch
            async for event in inotify:
                if self._concerns(event, path):
                    self._look(path, changed)

    async def _poll(self, path: Path, changed: Callable[[], None]) -> None:
        """One look without a watch; a file that goes on changing is not complete."""
        before = _stamp(path)
        await asyncio.sleep(POLL_SECONDS)
        now = _stamp(path)
        if now == before and now != self._looked_at:
            self._looked_at = now
            if now is None or self._is_other():
                self._look(path, changed)

    def _look(self, path: Path, changed: Callable[[], None]) -> None:
        if path.exists():
            changed()
        else:
            self._problems(f"{path}: is gone; what was read before stays in force until it is back")

    def _read(self) -> Config:
        config = self._options.load()
        # What is refused at the start, too: it would cut the node off, or no table could be written. An API server's
        # networks go before the configuration's, and of theirs it is told where the facts are gathered.
        if not is_kubernetes(config.store) and (collisions := self._node.collisions(config)):
            raise ConfigError("\n".join(collisions), config)
        if config.flowtable and not self._node.config.flowtable:
            try:
                self._check_flowtables()
            except KernelError as error:
                raise ConfigError(str(error), config) from error
        return config

    def _place(self, config: Config, key: str) -> str:
        """Where a key has its value from; the file where it is no longer in there."""
        return config.places.get(key, str(self._options.config_file))

    def _concerns(self, event: Event, path: Path) -> bool:
        """Whether it is news; other rights of the file, or of its directory, where it was refused."""
        if event.mask & Mask.Q_OVERFLOW:
            return True
        if event.mask & Mask.ATTRIB:
            return self._refused and event.name in (None, Path(path.name))
        return event.name is not None and event.name.name in _entries(path)

    def _is_other(self) -> bool:
        try:
            return self._options.load() != self._node.config
        except ConfigError:
            return True

    def _problems(self, *found: str) -> None:
        self._reporter.problems("configuration", found)


def _entries(path: Path) -> set[str]:
    """The names in the file's directory that it goes by: its own, and where that is a link, what it leads through.

    kubelet keeps a ConfigMap so: ``config.yaml`` leads to ``..data/config.yaml``, and ``..data`` is exchanged.
    """
    found = {path.name}
    with suppress(OSError):
        target = path.readlink()
        if not target.is_absolute():
            found.add(target.parts[0])
    return found


def _stamp(path: Path) -> tuple[int, int, int, int] | None:
    """What changes when the file does; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
