"""The tables in the kernel against those that there should be, and what is wrong with the Services themselves."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport_nft.doctor.examination import Examination
from nodeport_nft.doctor.finding import Check, Finding, State, failed, of_text, ok, skipped, warning
from nodeport_nft.plan import Replace
from nodeport_nft.store import may_exist

_NAMED = 10


def _tables(examination: Examination) -> Iterator[Finding]:
    if not examination.may_administer:
        yield skipped("tables cannot be read without CAP_NET_ADMIN")
        return
    if not may_exist(examination.config.store):
        yield skipped(f"there is no store {examination.config.store} to compare them with")
        return
    state = examination.state
    transactions = state.tables.first_transaction()
    if not transactions:
        yield ok(f"as they should be, for {len(state.served):,} Service{'s' * (len(state.served) != 1)}")
        return
    means = "this node serves what was wanted at an earlier time, or nothing"
    missing: list[str] = []
    for transaction in transactions:
        table = f"table {transaction.family} {transaction.name}"
        if any(isinstance(operation, Replace) for operation in transaction.operations):
            if not examination.nft.has_table(transaction.family, transaction.name):
                missing.append(table)
                continue
            seen = f"{table} is not of this program's schema"
        else:
            count = transaction.size
            seen = f"{table} differs by {count:,} element{'s' * (count != 1)}"
        remedy = "give doctor the flags that the daemon has; else nodeport-nft diff shows it, sync --once writes it"
        yield failed(seen, means, remedy)
    if missing:
        seen = f"the kernel has no {' and no '.join(missing)}"
        yield failed(seen, "no Service is served on this node", "nodeport-nft sync --once, or start the daemon")


def _services(examination: Examination) -> Iterator[Finding]:
    state = examination.state
    problems = state.problems()
    for text in problems[:_NAMED]:
        yield of_text(State.FAILED, text, "a part of the Service is not served")
    if len(problems) > _NAMED:
        yield failed(f"{len(problems) - _NAMED:,} more of these", "see above", "nodeport-nft sync --dry-run")
    count, first = state.idle_services(_NAMED)
    if count:
        more = f" and {count - len(first):,} more" if count > len(first) else ""
        yield warning(
            f"{count:,} Service{'s have' if count > 1 else ' has'} no endpoint: {', '.join(map(str, first))}{more}",
            "connections to them are refused",
            f"nodeport-nft describe service {first[0].name} -n {first[0].namespace} says why",
        )
    if not problems and not count:
        yield ok(f"{len(state.served):,} served, each with an endpoint")


CHECKS = (
    Check("tables", "tables in the kernel", _tables),
    Check("services", "Services", _services),
)
