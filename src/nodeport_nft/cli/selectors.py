"""Which objects are meant by what they say: ``-l`` (their labels) and ``--field-selector`` (a few fields)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import Struct

from nodeport_nft.cli.options import BAD_INPUT, fail

if TYPE_CHECKING:
    from nodeport_nft.cli.resources import Target
    from nodeport_nft.model import Requirement

Labels = Annotated[
    str | None,
    typer.Option("--selector", "-l", metavar="SELECTOR", help="By label: app=web,tier in (a,b),!canary."),
]
Fields = Annotated[
    str | None,
    typer.Option("--field-selector", metavar="SELECTOR", help="By field: metadata.name!=web, spec.type=NodePort."),
]

_EVERY_KIND = ("metadata.name", "metadata.namespace")
_OF_KIND: Mapping[str, tuple[str, ...]] = {
    "Service": ("spec.clusterIP", "spec.type"),
    "Pod": ("spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase", "status.podIP"),
    "Node": ("spec.unschedulable",),
}
"""The fields by which an API server selects. Source: kubernetes, pkg/apis/core/v1/conversion.go."""

_FALSE = frozenset({"spec.unschedulable"})  # where the field is not there
_PHASE = "status.phase"


class _FieldRequirement(Struct, frozen=True):
    path: str
    value: str
    is_equal: bool

    def holds(self, document: Mapping[str, Any]) -> bool:
        found: Any = document
        for key in self.path.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if found in (None, "") and self.path == _PHASE:
            found = _phase(document)
        if found is None:
            found = self.path not in _FALSE and ""
        text = str(found).lower() if isinstance(found, bool) else str(found)
        return (text == self.value) is self.is_equal


def _phase(document: Mapping[str, Any]) -> str:
    """That of a Pod which states none, as the table has it: it is not one of those that an API server lets fail."""
    from nodeport_nft.cli.columns import pod_of, pod_phase
    from nodeport_nft.kube import Object
    from nodeport_nft.model import Ref

    return pod_phase(pod_of(Object(Ref("Pod", "", ""), dict(document))))


class Selector(Struct, frozen=True):
    """Labels and fields that are asked for; without any of them every object is picked."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[_FieldRequirement, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.labels or self.fields)

    def picks(self, document: Mapping[str, Any]) -> bool:
        """Whether the object that is this document is meant."""
        if not self:
            return True
        found = labels_of(document)
        return all(each.holds(found) for each in self.labels) and all(each.holds(document) for each in self.fields)


def labels_of(document: Mapping[str, Any]) -> dict[str, str]:
    """The labels of an object, null as "", as the API reads it; none where they are of an unexpected shape."""
    metadata = document.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    if not isinstance(labels, dict):
        return {}
    return (
        {key: "" if value is None else value for key, value in labels.items()} if None in labels.values() else labels
    )


def read_selector(labels: str | None, fields: str | None, targets: Iterable[Target] = ()) -> Selector:
    """What the flags ask of the objects of these kinds. Leaves with BAD_INPUT for what is wrong, and beside names."""
    targets = tuple(targets)
    given = labels is not None or fields is not None
    if given and any(name is not None for _, name in targets):
        fail("a name and a selector choose twice; leave out the name, or -l and --field-selector", BAD_INPUT)
    kinds = tuple(dict.fromkeys(resource.kind for resource, _ in targets))
    return Selector(_read_labels(labels or ""), _read_fields(fields or "", kinds))


def _read_labels(text: str) -> tuple[Requirement, ...]:
    from nodeport_nft.kube.selector import parse_selector

    if not text.strip():
        return ()
    requirements, faults = parse_selector(text)
    if faults:
        fail("\n".join(f"--selector: {fault}" for fault in faults), BAD_INPUT)
    return requirements


def _read_fields(text: str, kinds: tuple[str, ...]) -> tuple[_FieldRequirement, ...]:
    from nodeport_nft.problems import shown

    requirements = []
    for part in filter(None, map(str.strip, text.split(","))):
        name, sign, value = part.partition("!=") if "!=" in part else part.partition("=")
        if not (name and sign):
            fail(f"--field-selector: {shown(part)} compares nothing; write metadata.name=web, or !=", BAD_INPUT)
        path = name.strip()
        for kind in kinds:
            known = (*_EVERY_KIND, *_OF_KIND.get(kind, ()))
            if path not in known:
                remedy = f"a {kind} is selected by {', '.join(known)}; of other fields ask with -o jsonpath"
                fail(f"--field-selector: field label not supported: {path}; {remedy}", BAD_INPUT)
        requirements.append(_FieldRequirement(path, value.removeprefix("=").strip(), sign != "!="))
    return tuple(requirements)
