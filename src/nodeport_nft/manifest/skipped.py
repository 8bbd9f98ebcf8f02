"""What is skipped, as one line where there is much of it: a project's Deployments would drown all other warnings."""

from __future__ import annotations

from collections import Counter

from nodeport_nft.problems import Problem

_MOST_TOLD = 5  # documents that are told one by one
_MOST_KINDS = 10


class Skipped:
    """Documents of kinds that are not used here, counted by kind."""

    __slots__ = ("_first", "_kinds")

    def __init__(self) -> None:
        self._kinds: Counter[str] = Counter()
        self._first: list[tuple[str, str, str]] = []

    def add(self, source: str, ref: str, kind: str) -> None:
        """Count one document; ``kind`` as ``foreign`` gives it."""
        self._kinds[kind] += 1
        if len(self._first) < _MOST_TOLD:
            self._first.append((source, ref, kind))

    def warnings(self) -> tuple[str, ...]:
        """The warnings: one for each document while they are few, else one for all, at the place of the first."""
        count = self._kinds.total()
        if count <= _MOST_TOLD:
            told = ((source, ref, "", f"{_reason(kind)}; skipped") for source, ref, kind in self._first)
            return tuple(str(Problem(*parts)) for parts in told)
        most = self._kinds.most_common(_MOST_KINDS)
        kinds = ", ".join(f"{kind} ({number})" for kind, number in most)
        if rest := len(self._kinds) - len(most):
            kinds += f", {rest} other kind{'s' * (rest > 1)}"
        source, _, _ = self._first[0]
        text = f"{count:,} objects of kinds that are not used here are skipped, the first of them here: {kinds}"
        return (str(Problem(source, "", "", text)),)


def _reason(kind: str) -> str:
    if " of " in kind:
        return f"a {kind} is not one of Kubernetes' own"
    return f"kind {kind} is not used here"
