"""One pass over everything that can be wrong on a node: what was seen, what it means, and what mends it.

What the daemon judges is judged here by the same functions: sysctls, chains of others, collisions, tables, Services.
A check is a function of one ``Examination``, in the table of its domain; ``CHECKS`` is all of them in the order in
which one thing needs another. To add one, write the function and its row.

Nothing is changed. What a check needs is read once, however many need it; where that fails, the others say so.
"""

from nodeport_nft.doctor import (
    configuration,
    daemon,
    kernel,
    names,
    network,
    rivals,
    storage,
    sysctls,
    tables,
)
from nodeport_nft.doctor.examination import Answer, Examination
from nodeport_nft.doctor.finding import Check, Finding, State, examine

CHECKS: tuple[Check, ...] = (
    *configuration.CHECKS,
    *kernel.CHECKS,
    *storage.CHECKS,
    *network.CHECKS,
    *sysctls.CHECKS,
    *rivals.CHECKS,
    *tables.CHECKS,
    *names.CHECKS,
    *daemon.CHECKS,
)

__all__ = ["CHECKS", "Answer", "Check", "Examination", "Finding", "State", "examine"]
