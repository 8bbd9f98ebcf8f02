"""What the daemon says: events with fields, a line each, for people or as JSON, on stderr.

Everything goes this one way: what libraries log, Python's warnings, and exceptions that nobody has caught. So no line
waits for its reader (see ``outlet``), none repeats itself without end (see ``limiter``), and none steers a terminal.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Hashable
from types import TracebackType
from typing import Any

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from nodeport_nft.daemon.limiter import Limiter
from nodeport_nft.daemon.options import LogFormat
from nodeport_nft.daemon.outlet import Outlet
from nodeport_nft.terminal import visible

_MOST_ALIKE, _MOST_OF_OTHERS = 100, 10
"""Lines a minute: of ours that are the same in all fields, and of one kind that a library logs."""

_END_SECONDS = 1.0
_FRAMES = 4
"""The innermost calls that an exception is told with."""


class Log:
    """The log of this process on the descriptor of stderr; ``events`` is what to log with. Times are UTC (RFC 3339).

    Raises RuntimeError where there can be no thread for it.
    """

    def __init__(self, form: LogFormat) -> None:
        self._limiter = Limiter()
        render = _json if form is LogFormat.json else _text
        stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        processors: list[Processor] = [structlog.processors.add_log_level, self._limit, stamp, render]

        def missing(lines: int) -> str:
            event: Any = {"event": "log lines lost", "lines": lines, "level": "warning"}
            for processor in processors[2:]:
                event = processor(None, "warning", event)
            return f"{event}\n"

        self.outlet = Outlet(sys.stderr.fileno() if sys.stderr else None, missing)
        structlog.configure(
            processors=processors,
            wrapper_class=structlog.make_filtering_bound_logger("info"),
            logger_factory=structlog.WriteLoggerFactory(file=self.outlet),  # type: ignore[arg-type]
            cache_logger_on_first_use=True,
        )
        self.events: FilteringBoundLogger = structlog.get_logger()
        self._take_others()

    def look(self) -> None:
        """Tell what was held back. To be called now and then."""
        self._tell_held_back()

    def defect(self, error: Exception) -> None:
        """Tell what ends the daemon and should not have been, with all that helps to mend it."""
        trace = "".join(traceback.format_exception(error))
        self.events.critical("defect", error=_told(error), remedy="please report it with this line", trace=trace)

    def close(self) -> None:
        """Write what waits, within a second."""
        self._tell_held_back(at_once=True)
        self.outlet.close(_END_SECONDS)

    def _tell_held_back(self, *, at_once: bool = False) -> None:
        for name, lines, seconds in self._limiter.ended(at_once=at_once):
            text = f"… and {lines:,} more of these in the last {seconds:.0f} s"
            self.events.warning("held back", of=name, lines=lines, text=text)

    def _limit(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        kind: Hashable = event.pop("kind", None)
        if event["level"] == "info":
            return event
        if kind is None:
            known = tuple((key, str(value)) for key, value in event.items())
            passes = self._limiter.lets_through(known, str(event["event"]), _MOST_ALIKE)
        else:
            passes = self._limiter.lets_through(kind, str(event["event"]), _MOST_OF_OTHERS)
        if not passes:
            raise structlog.DropEvent
        return event

    def _take_others(self) -> None:
        """Have everything that others would write to stderr come this way."""
        logging.raiseExceptions = False
        logging.captureWarnings(True)
        root = logging.getLogger()
        root.handlers = [_Handler(self.events)]
        root.setLevel(logging.WARNING)
        threading.excepthook = lambda args: self._uncaught(
            f"thread {args.thread.name if args.thread else ''} has ended", args.exc_value, args.exc_traceback
        )
        sys.unraisablehook = lambda args: self._uncaught(
            args.err_msg or "exception ignored", args.exc_value, args.exc_traceback
        )

    def _uncaught(self, event: str, error: BaseException | None, trace: TracebackType | None) -> None:
        self.events.error(event, kind=(event, type(error)), error=_told(error), at=_place(trace))


class _Handler(logging.Handler):
    """What libraries log, as events. Those of one place in their source are a kind."""

    def __init__(self, events: FilteringBoundLogger) -> None:
        super().__init__()
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        try:
            fields: dict[str, Any] = {"text": record.getMessage()}
        except Exception:  # what is wrong with its arguments is not for whoever logs to meet
            fields = {"text": str(record.msg)}
        if error is not None:
            fields |= {"error": _told(error), "at": _place(error.__traceback__)}
        kind = (record.name, record.pathname, record.lineno, type(error))
        level = self._events.error if record.levelno >= logging.ERROR else self._events.warning
        level(record.name, kind=kind, **fields)


def _told(error: BaseException | None) -> str:
    return "".join(traceback.format_exception_only(error)).strip() if error else ""


def _place(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)[-_FRAMES:]
    return " > ".join(f"{frame.filename}:{frame.lineno}" for frame in frames)


_render_json = structlog.processors.JSONRenderer()
_render_text = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)


def _json(logger: WrappedLogger, name: str, event: EventDict) -> str:
    """JSON escapes all that a terminal could obey, but for DEL."""
    return str(_render_json(logger, name, event)).replace("\x7f", "\\u007f")


def _text(logger: WrappedLogger, name: str, event: EventDict) -> str:
    return visible(str(_render_text(logger, name, event)))
