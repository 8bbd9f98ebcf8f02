"""A table of chains for each Service, loaded by ``nft -f``: the least that any tool with such a layout needs.

The text is there when the clock starts: what a tool needs to watch, to compile and to write text comes on top.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from bench.contestants.contestant import CHANGE_SECONDS, START_SECONDS, Contestant, Memory
from bench.contestants.layout import (
    TABLE,
    Layout,
    first_transaction,
    lay_out,
    rewriting_transaction,
    sweep,
    transaction,
)
from bench.measuring import waited_for
from bench.node import Node
from bench.workload import Change, Document, Workload


class Chains(Contestant):
    """What is in the table is known all the while, as a tool that has just written it knows it."""

    name = "chains by nft -f"
    is_daemon = False

    def __init__(self, node: Node, directory: Path) -> None:
        super().__init__(node)
        self._text, self._errors = directory / "transaction.nft", directory / "errors"
        self._services: dict[str, Document] = {}
        self._pieces: dict[str, dict[str, Document]] = {}
        self._peak = self._processor = 0.0

    def fill(self, workload: Workload) -> None:
        self.workload = workload
        for document in workload.documents():
            self._put(document)

    def start(self) -> float:
        """Over an empty kernel everything, over its own table what a start writes again."""
        layout = Layout()
        for name in self._services:
            layout.add(self._laid_out(name))
        is_there = TABLE in self.node.run(["nft", "list", "tables"])
        return self._load(rewriting_transaction(layout) if is_there else first_transaction(layout), START_SECONDS)

    def stop(self) -> None:
        """Nothing stays."""

    def change(self, change: Change) -> float:
        document = change.document
        name = document["metadata"]["name"]
        if document["kind"] != "Service":
            name = document["metadata"]["labels"]["kubernetes.io/service-name"]
        before = self._laid_out(name)
        if change.deletes:
            del self._services[name]
        else:
            self._put(document)
        after = self._laid_out(name)
        seconds = self._load(transaction(before, after), CHANGE_SECONDS)
        if left := list(sweep(before, after)):
            self._load(left, CHANGE_SECONDS)
        return seconds

    def memory(self) -> Memory:
        return Memory(0.0, self._peak, 0.0)

    def processor_seconds(self) -> float:
        return self._processor

    def _put(self, document: Document) -> None:
        metadata = document["metadata"]
        if document["kind"] == "Service":
            self._services[metadata["name"]] = document
        else:
            service = metadata["labels"]["kubernetes.io/service-name"]
            self._pieces.setdefault(service, {})[metadata["name"]] = document

    def _laid_out(self, name: str) -> Layout:
        if name not in self._services:
            return Layout()
        pieces = self._pieces.get(name, {}).values()
        endpoints = [each for piece in pieces for each in piece["endpoints"]]
        return lay_out(self._services[name], [(each["addresses"][0], each["nodeName"]) for each in endpoints])

    def _load(self, lines: Iterable[str], seconds: float) -> float:
        with self._text.open("w", encoding="ascii") as file:
            file.writelines(lines)
        with self._errors.open("wb") as errors:
            begin = time.perf_counter()
            process = self.node.popen(["nft", "-f", str(self._text)], stderr=errors)
            ended = waited_for(process, seconds=seconds)
            took = time.perf_counter() - begin
        assert process.returncode == 0, self._errors.read_text(errors="replace")[:2_000]
        self._peak = max(self._peak, ended.megabytes)
        self._processor = ended.processor_seconds
        return took
