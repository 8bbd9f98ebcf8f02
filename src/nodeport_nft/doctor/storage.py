"""The store: whether it answers, and whether what it holds agrees with itself."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport_nft.doctor.examination import Examination
from nodeport_nft.doctor.finding import Check, Finding, State, failed, of_text, ok, skipped
from nodeport_nft.problems import Problems
from nodeport_nft.store import StoreError, check_store, is_kubernetes, may_exist

_NAMED = 10  # findings that are told one by one


def _store(examination: Examination) -> Iterator[Finding]:
    config = examination.config
    if not may_exist(config.store):
        yield failed(
            f"there is no store {config.store}",
            "there is nothing to serve",
            "nodeport-nft apply -f MANIFESTS, or name the store with --store",
        )
        return
    try:
        stored = examination.stored
    except (StoreError, Problems) as error:
        yield of_text(State.FAILED, _line(error), "the daemon serves what it knows, and learns of nothing new")
        return
    count = len(stored.objects)
    yield ok(f"{config.store} answers, with {count:,} object{'s' * (count != 1)}")
    for text in stored.complaints[:_NAMED]:
        yield of_text(State.FAILED, text, "what the kernel has of it stays as it is")
    for text in stored.doubts[:_NAMED]:
        yield of_text(State.WARNING, text, "a field that this program does not know has no effect")


def _integrity(examination: Examination) -> Iterator[Finding]:
    config = examination.config
    if is_kubernetes(config.store):
        yield skipped(
            "an API server looks after its claims itself; kubectl get --raw '/readyz?verbose' tells how it is"
        )
        return
    if not may_exist(config.store):
        yield skipped(f"there is no store {config.store}")
        return
    _ = examination.stored  # one that does not answer is waited for once
    checked = check_store(config, repair=False)
    for each in checked.findings[:_NAMED]:
        remedy = "nodeport-nft check --repair" if each.repair else each.remedy
        yield failed(f"{each.where}: {each.wrong}", "a number may be given twice, or to nobody", remedy)
    if (more := len(checked.findings) - _NAMED) > 0:
        yield failed(f"{more:,} more of these", "see above", "nodeport-nft check")
    for text in checked.hints:
        yield of_text(State.WARNING, text, "it may soon take no writes")
    if not checked.findings and not checked.hints:
        yield ok("; ".join(checked.about) or "claims and objects agree")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


CHECKS = (
    Check("store", "store", _store),
    Check("store-integrity", "integrity of the store", _integrity),
)
