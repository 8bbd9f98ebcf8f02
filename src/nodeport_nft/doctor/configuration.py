"""The configuration file and the flags."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport_nft.doctor.examination import Examination
from nodeport_nft.doctor.finding import Check, Finding, State, of_text, ok


def _configuration(examination: Examination) -> Iterator[Finding]:
    config = examination.config
    if examination.fault:
        means = "a daemon goes on with what it has read before, and does not start anew"
        for line in str(examination.fault).splitlines():
            yield of_text(State.FAILED, line, means)
        return
    for text in config.warnings:
        yield of_text(State.WARNING, text, "it may be meant otherwise than it is taken")
    if not config.warnings:
        count = len(config.places)
        yield ok(f"{count} setting{'s' * (count != 1)} given, no fault in {'it' if count == 1 else 'them'}")


CHECKS = (Check("configuration", "configuration", _configuration),)
