"""What the daemon was started with."""

from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:  # the command line imports this for its help, which is to come quickly
    from nodeport_nft.config import Config
    from nodeport_nft.model import IPAddress


class LogFormat(enum.StrEnum):
    """How events are written."""

    text = "text"
    json = "json"


class Options(Struct, frozen=True):
    """``load`` reads the configuration, now and on SIGHUP; it raises ConfigError. ``config_file`` is watched."""

    load: Callable[[], Config]
    config_file: Path
    node_name: str
    node_ips: tuple[IPAddress, ...] = ()
    manifests: tuple[str, ...] = ()
    prune: bool = False
    allow_empty: bool = False
    hosts_file: Path | None = None
    set_sysctls: bool = False
    cleanup_on_exit: bool = False
    log_format: LogFormat = LogFormat.text
