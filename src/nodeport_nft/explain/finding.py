"""From a path to what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from nodeport_nft.explain.endpoints import ENDPOINTS, SLICE
from nodeport_nft.explain.field import Field
from nodeport_nft.explain.services import SERVICE
from nodeport_nft.explain.workloads import NODE, POD
from nodeport_nft.kube.unknown import field_names
from nodeport_nft.problems import nearest, shown

FIELDS: Mapping[str, tuple[Field, ...]] = MappingProxyType(
    {"Service": SERVICE, "Endpoints": ENDPOINTS, "EndpointSlice": SLICE, "Pod": POD, "Node": NODE}
)
"""The fields of each kind, in the order in which people write them."""

KIND_TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "Service": "What clients connect to: addresses and ports, and which endpoints answer there.",
        "Endpoints": "The addresses behind the Service of the same name, in the old way; EndpointSlices go first.",
        "EndpointSlice": "Addresses of one family behind a Service, with their ports and how they are.",
        "Pod": "What a Service's selector selects. It is not started here: it tells where something runs.",
        "Node": "A machine of the cluster: its addresses, its zone and the network of its pods.",
    }
)

_KEYED = ("map[string]string",)

_NAMED = 6
"""Fields that a message names; where there are more, it says how to list them."""


class UnknownFieldError(ValueError):
    """Kubernetes has no such field. The message names it, and the near one or those that there are."""


class Explained(Struct, frozen=True):
    """A field, None for the object as a whole or for one that has no effect here; and the fields ``inside`` of it.

    ``ignored``: names inside that Kubernetes knows and that have no effect here.
    """

    path: str
    field: Field | None
    inside: tuple[Field, ...]
    ignored: tuple[str, ...]

    @property
    def is_ignored(self) -> bool:
        """Whether Kubernetes knows the field, and it has no effect here."""
        return bool(self.path) and self.field is None


def explained(kind: str, path: str) -> Explained:
    """The field of ``kind`` at ``path``, "" for the object as a whole. Raises UnknownFieldError."""
    own = {field.path: field for field in FIELDS[kind]}
    done = ""
    for name in path.split(".") if path else ():
        if done in own and own[done].type in _KEYED:
            raise UnknownFieldError(f"{kind.lower()}.{done} has keys of your own choice, and no fields")
        known = field_names(kind, done)
        if name not in known:
            raise UnknownFieldError(_no_such_field(kind, done, name, own, known))
        done = f"{done}.{name}" if done else name
    inside = tuple(field for field in own.values() if field.path.rpartition(".")[0] == done)
    return Explained(done, own.get(done), inside, _ignored_names(kind, done))


def _ignored_names(kind: str, path: str) -> tuple[str, ...]:
    """The fields inside of the one at ``path`` that Kubernetes knows and that have no effect here."""
    explained_names = {field.name for field in FIELDS[kind] if field.path.rpartition(".")[0] == path}
    return tuple(name for name in field_names(kind, path) if name not in explained_names)


def _no_such_field(kind: str, parent: str, name: str, own: Mapping[str, Field], known: tuple[str, ...]) -> str:
    where = f"{kind.lower()}.{parent}" if parent else kind.lower()
    if not known:
        return f"{where} has no fields, and so no {shown(name)}"
    used = [field.name for field in own.values() if field.path.rpartition(".")[0] == parent]
    near = nearest(name, used) or nearest(name, known)
    deeper = [path for path in own if path.startswith(parent) and path.rpartition(".")[2].lower() == name.lower()]
    if near:
        remedy = f"did you mean {near}?"
    elif deeper:
        remedy = f"did you mean {' or '.join(f'{kind.lower()}.{path}' for path in deeper[:_NAMED])}?"
    elif len(used or known) > _NAMED:
        remedy = f"nodeport-nft explain {where} lists those that it has"
    else:
        remedy = f"it has {', '.join(used or known)}"
    return f"{where} has no field {shown(name)}; {remedy}"
