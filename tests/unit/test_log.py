"""What the daemon's log makes of others' words, in a process of its own: lines, no tracebacks, not too many."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

_BEGIN = """
import logging, sys, threading, warnings
from nodeport_nft.daemon.log import Log
from nodeport_nft.daemon.options import LogFormat
log = Log(LogFormat(sys.argv[1]))
"""


def logged(text: str, form: str = "json") -> list[str]:
    """The lines on stderr of a process that logs so."""
    command = [sys.executable, "-W", "always", "-c", f"{_BEGIN}{text}\nlog.close()\n", form]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged(text)]


def test_a_library_that_repeats_itself_is_cut_short_and_counted() -> None:
    told = events(
        """
for _ in range(1237):
    try:
        open("/missing")
    except OSError:
        logging.getLogger("tornado.application").error("Exception in callback %r", print, exc_info=True)
log.events.warning("something else")
"""
    )
    alike = [event for event in told if event["event"] == "tornado.application"]
    assert len(alike) == 10
    assert alike[0]["error"] == "FileNotFoundError: [Errno 2] No such file or directory: '/missing'"
    assert alike[0]["at"].endswith("<string>:9")
    assert [event["event"] for event in told[10:]] == ["something else", "held back"]
    assert told[-1]["text"].startswith("… and 1,227 more of these in the last ")


def test_what_is_news_is_not_held_back() -> None:
    told = events("for number in range(500):\n    log.events.warning('problem', problem=f'number {number}')")
    assert len(told) == 500
    assert len(events("for _ in range(500):\n    log.events.info('sync')")) == 500


def test_warnings_and_the_exceptions_of_threads_are_lines_too() -> None:
    told = events(
        """
warnings.warn("old \\x1b[31m")
def fail():
    raise ValueError("no\\x9bgood")
thread = threading.Thread(target=fail, name="one")
thread.start()
thread.join()
class Bad:
    def __del__(self):
        raise ValueError("late")
Bad()
logging.getLogger("x").error("%d", "no number")
"""
    )
    assert [event["event"] for event in told][:3] == ["py.warnings", "thread one has ended", "exception ignored"]
    assert told[1]["error"] == "ValueError: no\x9bgood"
    assert told[3]["text"] == "%d"


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_line_steers_a_terminal(form: str) -> None:
    (line,) = logged(r"log.events.warning('a', b='\x1b[31m\x07\x7f\x9b\u202e\u2066\u2028\n', c='\ud800')", form)
    assert [c for c in line if not c.isprintable()] == []


def test_a_defect_is_one_line_with_all_that_helps() -> None:
    (told,) = events("try:\n    1 / 0\nexcept Exception as error:\n    log.defect(error)")
    assert (told["event"], told["level"]) == ("defect", "critical")
    assert told["error"] == "ZeroDivisionError: division by zero"
    assert "Traceback" in told["trace"]
