"""What the daemon sees at one moment: a value, exchanged as a whole, so that another thread may read it any time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Status:
    """The daemon at one moment. Times are Unix times in seconds; 0.0: never.

    ``synced``: when the kernel last had all there was to write. ``pending``: Services whose latest state is not in
    the kernel, ``pending_since``: since when. ``refused``: Services the kernel refuses, with its words;
    their last good state is in force. ``problems``: what else an operator should mend, such as contested frontends
    and files that cannot be read. ``error`` is what went wrong in the last sync, "" if nothing did.
    ``last_error`` stays until the next one.
    """

    version: str = ""
    node: str = ""
    node_ports_on: str = ""
    source: str = ""
    pid: int = 0
    started: float = 0.0
    services: int = 0
    node_deleted: bool = False
    synced: float = 0.0
    sync_seconds: float = 0.0
    sync_cause: str = ""
    sync_operations: int = 0
    syncs: int = 0
    pending: int = 0
    pending_since: float = 0.0
    refused: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()
    error: str = ""
    last_error: str = ""
    last_error_at: float = 0.0
    sync_period: float = 30.0
