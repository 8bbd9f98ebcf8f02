"""What lies around a Service: all objects, and of some the documents, for what the model has no place for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from difflib import SequenceMatcher
from functools import cached_property
from typing import Any, Protocol

from nodeport_nft.model import EndpointSlice, ObjectName, Pod, Snapshot
from nodeport_nft.resolve.index import Index

LIKE = 0.6
"""From which likeness on one text may be a slip of another."""

LONGEST = 100
"""Characters of a text that is compared with others (a label's value has at most 63), and labels of one object."""

_BUDGET = 1_000_000
_COMPARISON = 20


class Document(Protocol):
    """An object as it was written, whether it stands in a store or in a file."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def raw(self) -> Mapping[str, Any]:
        """What was written; of any shape below its metadata."""


class Around:
    """The objects that a Service's endpoints could come from, and nearly come from.

    ``documents`` gives those of a kind in a namespace. ``pods`` gives all Pods where they are no endpoints by
    themselves, and so are none of the snapshot's; None where nobody may see them. ``budget`` is how many comparisons
    there may still be, of all questions together: one costs about a microsecond.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        documents: Callable[[str, str], Iterable[Document]],
        index: Index | None = None,
        budget: int = _BUDGET,
        pods: Callable[[], Iterable[Pod] | None] | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.index = index or Index.of(snapshot)
        self.budget = budget
        self._documents = documents
        self._pods = pods
        self._read: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
        self._likeness: dict[tuple[str, str], float] = {}

    def spend(self, cost: int = 1) -> bool:
        """Whether there may be one more comparison."""
        self.budget -= cost
        return self.budget >= 0

    def likeness(self, one: str, other: str) -> float:
        """How alike two texts are, from 0.0 to 1.0, upper and lower case apart; 0.0 once the budget is spent."""
        known = self._likeness.get((one, other))
        if known is None:
            if max(len(one), len(other)) > LONGEST or not self.spend(_COMPARISON + len(one) * len(other) // 4):
                return 0.0
            known = self._likeness[one, other] = _likeness(one.casefold(), other.casefold())
        return known

    def is_like(self, one: str, other: str) -> bool:
        """Whether one of two different names may be a slip of the other."""
        return one != other and self.likeness(one, other) >= LIKE

    def documents(self, kind: str, namespace: str) -> Mapping[str, Mapping[str, Any]]:
        """The documents of a kind in a namespace, by name."""
        if (kind, namespace) not in self._read:
            found = {document.name: document.raw for document in self._documents(kind, namespace)}
            self._read[kind, namespace] = found
        return self._read[kind, namespace]

    def document(self, kind: str, name: ObjectName) -> Mapping[str, Any]:
        """One of them; empty if there is none."""
        return self.documents(kind, name.namespace).get(name.name, {})

    @cached_property
    def pods(self) -> Iterable[Pod] | None:
        """All Pods, also where they are no endpoints by themselves; None where nobody may see them."""
        return self.snapshot.pods if self._pods is None else self._pods()

    @cached_property
    def pods_by_namespace(self) -> Mapping[str, list[Pod]]:
        """All Pods, those of a namespace by name."""
        found: dict[str, list[Pod]] = defaultdict(list)
        for pod in self.pods or ():
            found[pod.namespace].append(pod)
        return found

    @cached_property
    def pods_by_label(self) -> Mapping[tuple[str, str], list[Pod]]:
        """The Pods of all namespaces by each of their labels."""
        found: dict[tuple[str, str], list[Pod]] = defaultdict(list)
        for pod in self.pods or ():
            for pair in pod.labels.items():
                found[pair].append(pod)
        return found

    @cached_property
    def slices_by_namespace(self) -> Mapping[str, list[EndpointSlice]]:
        """All slices, those of Endpoints objects among them."""
        found: dict[str, list[EndpointSlice]] = defaultdict(list)
        for piece in self.snapshot.slices:
            found[piece.namespace].append(piece)
        return found

    @cached_property
    def slices_by_service(self) -> Mapping[str, list[EndpointSlice]]:
        """The slices of all namespaces by the name of their Service."""
        found: dict[str, list[EndpointSlice]] = defaultdict(list)
        for piece in self.snapshot.slices:
            found[piece.service].append(piece)
        return found


def _likeness(one: str, other: str) -> float:
    if one == other:
        return 0.99
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    if matcher.real_quick_ratio() < LIKE or matcher.quick_ratio() < LIKE:
        return 0.0
    return matcher.ratio()


def at(raw: Any, *path: str) -> Any:
    """What stands at a path of a document; None where there is nothing."""
    for key in path:
        raw = raw.get(key) if isinstance(raw, dict) else None
    return raw


def items(raw: Any, *path: str) -> list[dict[str, Any]]:
    """The mappings of the list at a path of a document."""
    found = at(raw, *path)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def word(raw: Any, *path: str) -> str:
    """The text at a path of a document; "" where there is none."""
    found = at(raw, *path)
    return found if isinstance(found, str) else ""
