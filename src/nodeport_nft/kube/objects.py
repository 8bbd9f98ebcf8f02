"""One document → one object: which kinds there are, and what each is made of.

``raw`` stays what the author wrote, unknown fields included; ``values`` is what this program makes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from msgspec import Struct

from nodeport_nft.kinds import BY_KIND, KINDS, RESOURCES, Resource, is_namespaced
from nodeport_nft.kube.endpoints import parse_endpoints, parse_slice
from nodeport_nft.kube.fields import Fields
from nodeport_nft.kube.foreign_keys import check_foreign_keys
from nodeport_nft.kube.formats import check_formats
from nodeport_nft.kube.limits import check_limits
from nodeport_nft.kube.metadata import Metadata, parse_metadata, parse_name
from nodeport_nft.kube.service import parse_service
from nodeport_nft.kube.workload import parse_node, parse_pod
from nodeport_nft.model import Ranges, Ref, Value
from nodeport_nft.problems import Leftover, Problem, Problems, clipped, field_text, nearest, shown


class Object(Struct, frozen=True):
    """One object, as it was written and as it is stored: which it is, and its document ``raw`` (JSON types only).

    ``metadata.namespace`` is filled in, and once it is stored ``metadata.resourceVersion`` too; ``version`` is that
    resource version, "" until then. It is the store's own affair: equal or not is all that may be asked of it.
    ``source`` is ``file:line``, "" where it was read from no file. ``values`` are the parts of the model it gives:
    several slices for Endpoints, none for a slice that no service can use, and none where nobody has parsed it, as
    with what is only listed or named; ``leftovers`` are no part of them, and are for whoever stores the object to
    judge. ``notes``: what a lenient reader has to tell.
    """

    ref: Ref
    raw: dict[str, Any]
    values: tuple[Value, ...] = ()
    source: str = ""
    version: str = ""
    leftovers: tuple[Leftover, ...] = ()
    notes: tuple[Problem, ...] = ()

    @property
    def kind(self) -> str:
        """One of ``KINDS``, or what a document says instead."""
        return self.ref.kind

    @property
    def namespace(self) -> str:
        """That of ``ref``: "" for a Node."""
        return self.ref.namespace

    @property
    def name(self) -> str:
        """That of ``ref``."""
        return self.ref.name


def _slice(raw: dict[str, Any], metadata: Metadata, fields: Fields) -> tuple[Value, ...]:
    value = parse_slice(raw, metadata, fields)
    return () if value is None else (value,)


PARSERS: dict[str, Callable[[dict[str, Any], Metadata, Fields, Ranges | None], tuple[Value, ...]]] = {
    "Service": lambda raw, meta, fields, ranges: (parse_service(raw, meta, fields, ranges),),
    "Endpoints": lambda raw, meta, fields, _: parse_endpoints(raw, meta, fields),
    "EndpointSlice": lambda raw, meta, fields, _: _slice(raw, meta, fields),
    "Pod": lambda raw, meta, fields, _: (parse_pod(raw, meta, fields),),
    "Node": lambda raw, meta, fields, _: (parse_node(raw, meta, fields),),
}
"""What makes values of an object of each kind; ``ranges`` as in ``parse_object``."""

_SPELLINGS = (*KINDS, "List", *(f"{kind}List" for kind in KINDS))
_SHORT = {resource.short: resource.kind for resource in RESOURCES if resource.short}
_GROUPS = frozenset(resource.group for resource in RESOURCES)  # in others a kind like ours may exist
_NO_ITEMS = 'is not a list; write "items:" and the objects below it, each after "- "'


def listed_kind(kind: Any) -> str:
    """The one of ``KINDS`` that a list of this kind holds, "Service" for "ServiceList"; "" for all others."""
    inner = kind.removesuffix("List") if isinstance(kind, str) else ""
    return inner if inner != kind and inner in BY_KIND else ""


def describe(raw: Any, namespace: str) -> str:
    """The ref of a document that may be wrong in every way; "" if it says nothing of itself."""
    if not isinstance(raw, dict):
        return ""
    metadata = raw.get("metadata")
    names = metadata if isinstance(metadata, dict) else {}
    kind = raw.get("kind")
    own = names.get("namespace") or namespace
    if not kind or (kind == "List" and not names.get("name")):
        return ""
    parts = (kind, own if is_namespaced(kind) and not listed_kind(kind) else "", names.get("name"))
    return str(Ref(*(clipped(part) if isinstance(part, str) else "" for part in parts)))


def foreign(raw: dict[str, Any]) -> str:
    """What a document that is skipped rather than read is, as no use is made of it here; else "".

    A kind that looks like a slip of ours in the API groups of ours is no other kind, and an API group outside
    ``k8s.io`` may call its kinds as it likes (Knative has a Service too).
    """
    kind, version = raw.get("kind"), raw.get("apiVersion")
    if not isinstance(kind, str) or kind in ("", "List"):
        return ""
    group = version.partition("/")[0] if isinstance(version, str) and "/" in version else ""
    inner = listed_kind(kind) or kind
    if inner in BY_KIND:
        return f"{kind} of {clipped(group)}" if "." in group and not group.endswith(".k8s.io") else ""
    return "" if _slip(kind, near=group in _GROUPS) else clipped(kind)


@lru_cache(256)
def _slip(kind: str, *, near: bool = True) -> str:
    """The kind of ours that this one is a slip of, ``near``: probably so; "" if there is none like it."""
    folded = kind.casefold()
    same = next((known for known in _SPELLINGS if known.casefold() == folded), "")
    if same or not near:
        return same
    inner = kind[:-4] if folded.endswith("list") else kind
    found = _SHORT.get(inner.casefold()) or nearest(inner, KINDS)
    return f"{found}List" if found and inner != kind else found


def read_object(raw: dict[str, Any], fields: Fields, ranges: Ranges | None, namespace: str) -> Object:
    """An object from a document that is not ``foreign``, as far as it goes: ``fields`` tells what is wrong."""
    fields.incoming = ranges is not None
    kind = fields.text(raw, (), "kind")
    if (known := BY_KIND.get(kind)) is None:
        _note_kind(raw, kind, fields)
        return Object(Ref(kind, namespace, ""), raw)
    _note_version(raw, kind, known, fields)
    metadata = parse_metadata(raw, kind, namespace, fields)
    values = PARSERS[kind](raw, metadata, fields, ranges)
    if ranges is not None:
        check_limits(raw, metadata, values, fields)
        check_formats(raw, kind, metadata, fields)
        check_foreign_keys(raw, kind, metadata, fields)
    given = raw.get("metadata")
    if metadata.namespace and isinstance(given, dict) and not given.get("namespace"):
        raw = {**raw, "metadata": {**given, "namespace": metadata.namespace}}
    return Object(Ref(kind, metadata.namespace, metadata.name), raw, values)


def name_object(raw: dict[str, Any], fields: Fields, namespace: str) -> Object:
    """The object that a document which is not ``foreign`` names, without values: nothing else in it matters."""
    kind = fields.text(raw, (), "kind")
    if kind not in BY_KIND:
        _note_kind(raw, kind, fields)
        return Object(Ref(kind, namespace, ""), raw)
    where, name = parse_name(raw, kind, namespace, fields)
    return Object(Ref(kind, where, name), raw)


def _note_kind(raw: dict[str, Any], kind: str, fields: Fields) -> None:
    """Note why a document is no object of ``KINDS``; lists that are as they should be never come here."""
    if kind == "List":
        fields.refuse(("items",), _NO_ITEMS)
    elif inner := BY_KIND.get(listed_kind(kind)):
        _note_version(raw, kind, inner, fields)
        if not isinstance(raw.get("items", ""), list | None):
            fields.refuse(("items",), _NO_ITEMS)
    elif kind:
        right = _slip(kind)
        remedy = f"write {right}" if right else f"use one of {', '.join(KINDS)}"
        fields.refuse(("kind",), f"{shown(kind)} is unknown; {remedy}")
    elif raw.get("kind") in (None, ""):
        fields.refuse(("kind",), "is missing; say what the object is, as kind: Service")


def _note_version(raw: dict[str, Any], kind: str, known: Resource, fields: Fields) -> None:
    version = fields.text(raw, (), "apiVersion")
    if fields.lenient and raw.get("apiVersion") is None:
        return  # as in the lists that a server answers with
    if not version:
        if raw.get("apiVersion") in (None, ""):
            fields.problem(("apiVersion",), f"is missing; write apiVersion: {known.api_version}")
    elif version != known.api_version:
        same = known.group == version.rpartition("/")[0]  # a kind of this name in another group is another kind
        note = fields.problem if same else fields.refuse
        note(("apiVersion",), f"{shown(version)} has no {kind} for us; write {known.api_version}")


def parse_object(
    raw: dict[str, Any],
    *,
    ranges: Ranges | None = None,
    source: str = "",
    namespace: str = "default",
    lenient: bool = False,
) -> Object:
    """An object of one of ``KINDS``, from a mapping.

    ``ranges`` None: it is stored. Its nodePorts and clusterIPs may be anywhere, and leftovers do no harm: earlier
    versions let some in. Else raises Problems for them, as for everything that is wrong with it.
    ``lenient``: a server has validated it, by older or newer rules, and nothing in it hides the rest: what is not
    understood is passed over, and told in ``notes``; a restriction that is not understood lets nobody in. Addresses
    may have leading zeros (E8). Fields of other names have no meaning here and are not told. Raises Problems only
    where it is not certain which object this is: its kind, namespace or name.
    """
    fields = Fields(lenient=lenient)
    made = read_object(raw, fields, ranges, namespace)
    if lenient and made.kind not in BY_KIND:
        fields.refuse(
            ("kind",),
            "" if fields.problems else f"{shown(raw.get('kind'))} is not a kind; use one of {', '.join(KINDS)}",
        )
    elif lenient and not fields.problems:
        for key in ("name", "namespace"):
            fields.refuse(("metadata", key), _unnamed(raw, made, key))
    noted = [*fields.problems, *(fields.leftovers if ranges is not None else ())]
    if noted:
        ref = describe(raw, namespace)
        raise Problems(tuple(Problem(source, ref, field_text(path), text, more) for _, (path, text), more in noted))
    ref = str(made.ref) if fields.notes and lenient else ""
    notes = fields.notes if lenient else ()
    told = tuple(Problem(source, ref, field_text(path), text, more) for _, (path, text), more in notes)
    return Object(made.ref, made.raw, made.values, source, notes=told)


def _unnamed(raw: dict[str, Any], made: Object, key: str) -> str:
    """What keeps a lenient reader from knowing an object's name, or its namespace; "": nothing does."""
    metadata = raw.get("metadata")
    given = metadata.get(key) if isinstance(metadata, dict) else None
    if isinstance(given, str) or (key == "namespace" and (given is None or not made.namespace)):
        return ""
    return "is missing; name the object" if given is None else f"{shown(given)} is not a name; write one in quotes"
