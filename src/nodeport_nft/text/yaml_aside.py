"""Large YAML texts, of which another process reads the larger part meanwhile.

Reading a million lines takes three seconds, two thirds of what ``apply`` takes, and no thread can help: Python runs
one at a time. So a text of many megabytes is cut where a document begins, a fork reads what is behind, and whoever
makes objects of the documents has those before it first. What a document is made of, plain values, comes over in a
fiftieth of the time. A fork it is, and no new process: it has the text, and is there at once. It is made only where
no other thread is at work, so that nobody can hold a lock in it for ever; those that tell people of waiting hold none
that it asks for, since it writes nothing for people.

The documents are those that ``read_yaml`` gives for the whole text, with the same lines. Wherever that is not certain
(faults, aliases, which are counted over a whole text, other ends of lines), and wherever the fork fails, it is asked.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import re
import signal
import struct
import threading
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, NoReturn

from nodeport_nft.text.document import Document, Fault
from nodeport_nft.text.yaml_text import MARKER, read_yaml

LARGE = 2 << 20
"""Characters from which on it pays: a fifth of a second's reading."""

_OURS = 0.3
"""The part that is read here: objects are to be made of all of it, in half of the time that reading takes."""

_TELLING = ("waiting", "progress")
"""Names of the threads that a command has at its side (``text.steps``, ``cli.progress``)."""

_BATCH = 500  # documents that are handed over at a time
_SIZE = struct.Struct("=Q")
_ANCHOR = re.compile(r"(?:^|[\s,\[\]{}:?-])&\S", re.MULTILINE)


def read_yaml_aside(text: str) -> Iterator[Document | Fault]:
    """As ``read_yaml``. Never raises."""
    cut = _cut(text)
    try:
        rest = None if cut is None else _Rest(text[cut:], text.count("\n", 0, cut))
    except OSError:  # no process, no memory, no descriptors
        rest = None
    if rest is None:
        yield from read_yaml(text)
        return
    with contextlib.closing(rest):
        for given, document in enumerate(read_yaml(text[:cut])):
            if isinstance(document, Fault):  # what comes of it may depend on what is behind
                yield from islice(read_yaml(text), given, None)
                return
            yield document
        yield from rest.documents()


def _cut(text: str) -> int | None:
    """Where the rest begins that another process may read; None where it may not."""
    if len(text) < LARGE or not _is_alone() or len(os.sched_getaffinity(0)) < 2:
        return None
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:  # by whoever has started us
        return None  # a fork that has ended would be gone by itself, and its number could be another's by then
    if text.count("\r") != text.count("\r\n") or any(end in text for end in "\x85\u2028\u2029"):
        return None  # libyaml counts lines by these, too
    if "&" in text and _ANCHOR.search(text):
        return None
    found = MARKER.search(text, int(len(text) * _OURS))
    return found and found.start()


def _is_alone() -> bool:
    """Whether this thread is the only one at work."""
    others = (each for each in threading.enumerate() if each is not threading.current_thread())
    return all(each.name in _TELLING for each in others)


class _Rest:
    """The documents of a text that a fork reads; ``line`` lines go before it. Raises OSError."""

    def __init__(self, text: str, line: int) -> None:
        self._text, self._line = text, line
        self._found: list[Document | Fault] = []  # the same, read here for the sake of lines
        with contextlib.ExitStack() as undo:
            self._memory = os.memfd_create("documents")  # no pipe: that holds little, and the fork is to read on
            undo.callback(os.close, self._memory)
            self._heard, telling = os.pipe()
            undo.callback(os.close, self._heard)
            undo.callback(os.close, telling)
            self._process = os.fork()
            undo.pop_all()
        if not self._process:
            _read_aside(text, line, self._memory, telling)
        os.close(telling)

    def documents(self) -> Iterator[Document | Fault]:
        """All of them, as they come. Never raises."""
        given = at = 0
        while told := os.read(self._heard, _SIZE.size):  # so few bytes are written and read at once
            (size,) = _SIZE.unpack(told)
            if not size:
                return  # there are no more
            # S302: it comes from a fork of ours.
            batch: list[tuple[Any, int]] = marshal.loads(os.pread(self._memory, size, at))  # noqa: S302
            at += size
            for value, first in batch:
                document = Document(value, first, locate=partial(self._located, given))
                if type(value) is not dict or "items" in value:
                    document.line(())  # who makes objects of a list asks for the line of each
                given += 1
                yield document
        yield from islice(read_yaml(self._text, self._line), given, None)

    def close(self) -> None:
        """End the process, whatever it is at."""
        os.close(self._memory)
        os.close(self._heard)
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)

    def _located(self, number: int) -> Document | None:
        if not self._found:
            self._found = list(read_yaml(self._text, self._line))
        document = self._found[number]
        return document if isinstance(document, Document) else None


def _read_aside(text: str, line: int, memory: int, telling: int) -> NoReturn:
    """Be the fork: hand over all documents, or end with those behind which something is to be told."""
    code = 1
    try:
        batch: list[tuple[Any, int]] = []
        for document in read_yaml(text, line):
            if isinstance(document, Fault) or document.faults or document.doubled:
                os._exit(0)
            batch.append((document.value, document.first))
            if len(batch) == _BATCH:
                _tell(batch, memory, telling)
                batch = []
        if batch:
            _tell(batch, memory, telling)
        os.write(telling, _SIZE.pack(0))
        code = 0
    finally:
        os._exit(code)  # nothing of what the parent has begun is to be ended here, nor written


def _tell(batch: list[tuple[Any, int]], memory: int, telling: int) -> None:
    data = marshal.dumps(batch)
    done = 0
    while done < len(data):
        done += os.write(memory, data[done:])
    os.write(telling, _SIZE.pack(len(data)))
