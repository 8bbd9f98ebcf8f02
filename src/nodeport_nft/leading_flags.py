"""Flags that stand before the verb, as kubectl takes them: ``nodeport-nft -n web get services``.

Nothing is imported here: the program's first steps ask it which command is meant.
"""

from __future__ import annotations

from collections.abc import Sequence

SWITCHES = frozenset(
    (
        *("-A", "--all-namespaces", "-w", "--watch", "--show-labels", "--no-headers", "--show-managed-fields"),
        *("--watch-only", "--output-watch-events", "--show-kind", "--now"),
        *("-R", "--recursive", "--prune", "--force", "--force-conflicts", "--all", "--ignore-not-found", "--wait"),
        *("--once", "--dry-run", "--allow-empty", "--set-sysctls", "--cleanup-on-exit", "--repair", "--client"),
        *("--flowtable", "--replace-kube-proxy", "--status-page", "--live", "--delete-store", "--tree", "--connect"),
        *("--overwrite", "--list", "--server-side", "--edit", "--show-events", "--ignore-daemonsets"),
        *("--delete-emptydir-data", "--delete-local-data", "--disable-eviction"),
    )
)
"""Flags of which no value stands in the next word. Of one that is not known here that is taken for granted."""

_OF_THE_PROGRAM = ("-h", "--help", "--version")


def split(words: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """The flags before the verb, each with its value, and the verb with all that follows; [] where there is none.

    Where the program itself is asked for help or its version, what stands before that is all there is to it.
    """
    flags, index = [], 0
    while index < len(words) and words[index].startswith("-") and words[index] not in ("-", "--", *_OF_THE_PROGRAM):
        end = index + (2 if _takes_next(words[index]) else 1)
        flags.append(list(words[index:end]))
        index = end
    rest = list(words[index:])
    return (flags, rest) if rest and not rest[0].startswith("-") else (flags, [])


def _takes_next(word: str) -> bool:
    if word.startswith("--"):
        return "=" not in word and word not in SWITCHES and not word.startswith("--no-")
    return len(word) == 2 and word not in SWITCHES  # of `-nweb` the value stands in the word itself
