"""What the daemon says: events with fields, a line each, for people or as JSON, on stderr."""

from __future__ import annotations

import sys

import structlog

from nodeport_nft.daemon.options import LogFormat


def open_log(form: LogFormat) -> structlog.typing.FilteringBoundLogger:
    """A logger for this process. Times are UTC (RFC 3339)."""
    renderer: structlog.typing.Processor
    if form is LogFormat.json:
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return log
