"""Lists of objects → the objects: ``List``, and the lists of one kind that an API server answers with.

The items of a ``ServiceList`` say neither kind nor apiVersion, for their list has said it (``kubectl get --raw``,
``kubectl cluster-info dump``). kubectl reads them so, whatever their kind; one that says something else than its list
is a contradiction here. Lists of kinds that nobody here has a use for are skipped as a whole, like their items.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from nodeport_nft.kinds import BY_KIND, KINDS
from nodeport_nft.kube.objects import foreign, listed_kind
from nodeport_nft.problems import Path, shown


class Item(NamedTuple):
    """A document, or what stands in a list, with its ``path`` in the document.

    ``raw`` has the kind and the apiVersion of its list, if it has none of its own; ``contradictions`` are fields in
    which it says something else, and what to tell of them.
    """

    path: Path
    raw: Any
    contradictions: tuple[tuple[str, str], ...] = ()


def unfold(value: Any) -> Iterator[Item]:
    """The objects of a document: itself, or the items of a list, however nested.

    A list that has something wrong with itself, or is ``foreign``, is an object.
    """
    return _unfold(Item((), value))


def owner(value: Any, path: Path) -> Item:
    """The object of a document that ``path`` leads to or into."""
    item = Item((), value)
    while _is_list(item.raw):
        match path[len(item.path) :]:
            case ("items", int(index), *_) if index < len(item.raw["items"] or ()):
                item = _item(item, index)
            case _:
                break
    return item


def _unfold(item: Item) -> Iterator[Item]:
    raw = item.raw
    if not _is_list(raw):
        yield item
        if isinstance(raw, dict) and foreign(raw).endswith("List") and isinstance(raw.get("items"), list):
            yield from _strays(item)
        return
    for index in range(len(raw["items"] or ())):
        yield from _unfold(_item(item, index))


def _strays(item: Item) -> Iterator[Item]:
    """Objects of ours in a list of another kind, which must not be skipped with it."""
    for index, inner in enumerate(item.raw["items"]):
        if isinstance(inner, dict) and inner.get("kind") in KINDS and not foreign(inner):
            yield _item(item, index)


def _is_list(raw: Any) -> bool:
    """Whether this is a list to be unfolded; ``items: null`` is an empty one."""
    if not isinstance(raw, dict) or not isinstance(raw.get("items", ""), list | None):
        return False
    kind = listed_kind(raw.get("kind"))
    return raw.get("kind") == "List" or bool(kind and raw.get("apiVersion") == BY_KIND[kind].api_version)


def _item(within: Item, index: int) -> Item:
    raw, kind, version = within.raw["items"][index], within.raw["kind"], within.raw.get("apiVersion")
    path = (*within.path, "items", index)
    if kind == "List" or not isinstance(raw, dict) or raw.get("kind") == "List" or listed_kind(raw.get("kind")):
        return Item(path, raw)
    wanted = {"apiVersion": version, "kind": kind.removesuffix("List")}
    missing = {name: value for name, value in wanted.items() if raw.get(name) in (None, "")}
    told = tuple(
        (name, f"{shown(raw[name])} contradicts the {kind} it stands in, which says {value}; change one of them")
        for name, value in wanted.items()
        if name not in missing and raw[name] != value
    )
    return Item(path, {**raw, **missing} if missing else raw, told)
