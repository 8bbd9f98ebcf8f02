"""Which stored objects a command changes, and the writing of them over what they were when they were read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from msgspec import Struct, field
from msgspec.structs import replace

from nodeport_nft.cli.options import BAD_INPUT, fail, may_exist, now, read_files, say
from nodeport_nft.cli.resources import Target, complete, not_stored, parse_targets
from nodeport_nft.cli.selectors import Selector, read_selector
from nodeport_nft.kinds import BY_KIND

if TYPE_CHECKING:
    from nodeport_nft.config import Config
    from nodeport_nft.kube import Object
    from nodeport_nft.model import Ref
    from nodeport_nft.store import Objects, Written

_MOST_TRIES = 8
_LONGEST_PAUSE = 0.5  # seconds between two of them

Named = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KIND NAME",
        help="A kind and names, or KIND/NAME each time.",
        autocompletion=complete,
        show_default=False,
    ),
]
Every = Annotated[bool, typer.Option("--all", help="All objects of the kinds, in the namespace.")]


class Asked(Struct, frozen=True):
    """Which objects are meant: ``refs`` by their names, or those of the ``kinds`` that ``selector`` picks.

    ``namespace`` None: those of every one.
    """

    refs: tuple[Ref, ...] = ()
    kinds: tuple[str, ...] = ()
    namespace: str | None = None
    selector: Selector = field(default_factory=Selector)


def parse_asked(
    words: Sequence[str],
    *,
    files: list[str] | None,
    config: Config,
    namespace: str,
    all_namespaces: bool = False,
    every: bool | None = None,
    selector: str | None = None,
    fields: str | None = None,
) -> Asked:
    """What is meant by the words and options of a command. Leaves with BAD_INPUT where that is not one thing.

    ``every`` None: the command has no ``--all``.
    Raises Problems with what is wrong with manifests.
    """
    from nodeport_nft.model import Ref

    chooses = selector is not None or fields is not None
    if files:
        if words or every or chooses:
            fail("name objects by -f alone, or by a kind", BAD_INPUT)
        found = read_files(files, config, namespace, names_only=True).objects
        return Asked(tuple(dict.fromkeys(one.ref for one in found)))
    if not words:
        fail("name the objects: KIND NAME..., KIND/NAME..., or -f FILE", BAD_INPUT)
    targets = parse_targets(list(words))
    by_name = [target for target in targets if target[1] is not None]
    if every or chooses:
        flag = "-l" if selector is not None else "--field-selector"
        if by_name:
            fail("name the objects, or leave out the names with --all and --selector", BAD_INPUT)
        if every and chooses:
            fail(f"{flag} and --all choose twice; leave out one of them", BAD_INPUT)
        picked = read_selector(selector, fields, targets)
        if not (every or picked):  # as of a variable that is not set
            fail(f"{flag}: is empty; write --all to change all of them", BAD_INPUT)
        kinds = tuple(dict.fromkeys(resource.kind for resource, _ in targets))
        return Asked(kinds=kinds, namespace=None if all_namespaces else namespace, selector=picked)
    if all_namespaces:
        fail("a name belongs to one namespace; leave out --all-namespaces, or add --all", BAD_INPUT)
    if len(by_name) < len(targets):
        _fail_unnamed(targets, every is not None)
    names = [(resource, name) for resource, name in targets if name is not None]
    refs = (Ref(resource.kind, namespace if resource.namespaced else "", name) for resource, name in names)
    return Asked(tuple(dict.fromkeys(refs)))


def _fail_unnamed(targets: Sequence[Target], has_all: bool) -> NoReturn:
    resource = next(resource for resource, name in targets if name is None)
    remedy = ", or add --all" if has_all else f", as {resource.singular} NAME; get {resource.plural} lists them"
    fail(f"name the {resource.plural}{remedy}", BAD_INPUT)


def look_up(store: Objects, asked: Asked) -> tuple[Object, ...]:
    """The objects that are meant. Leaves with FAILED where one is not there, or cannot be read."""
    found: list[Object] = []
    absent: list[str] = []
    for ref in asked.refs:
        if (stored := store.get(*ref)) is not None:
            found.append(stored)
        elif ref not in store.damaged:
            absent.append(not_stored(BY_KIND[ref.kind], ref.namespace, ref.name))
    for kind in asked.kinds:
        stored_ones = store.objects(kind, asked.namespace if BY_KIND[kind].namespaced else "")
        found += [one for one in stored_ones if asked.selector.picks(one.raw)]
    absent += store.complaints()
    if absent:
        fail("\n".join(absent))
    return tuple(found)


def check_store(config: Config) -> None:
    """Leaves with FAILED where there is no store: a command that changes what is there makes none."""
    if not may_exist(config.store):
        fail(f"there is no store {config.store}; name the store with --store")


def write_over(
    store: Objects,
    asked: Asked,
    change: Callable[[Sequence[Object]], Sequence[Object]],
    *,
    dry_run: bool,
    once: bool = False,
) -> Written:
    """Write what ``change`` makes of the objects that are meant, as they are now: those alone that it changes.

    Where others write at the same time, what they have written is looked at once more, unless it is to be done
    ``once``. Raises as ``Objects.write`` does, and what ``change`` does.
    """
    import time

    from nodeport_nft.agenda import apart
    from nodeport_nft.store import Superseded, Written

    attempt = 0
    while True:
        wanted = change(look_up(store, asked))
        if not wanted:
            return Written()
        try:
            return store.write(wanted, now=now(), dry_run=dry_run)
        except Superseded:
            attempt += 1
            if once or attempt == _MOST_TRIES:
                raise
            # Those who meet here shall not meet again in the same moment.
            time.sleep(apart(attempt, _LONGEST_PAUSE))


def as_it_was_read(raw: dict[str, Any]) -> dict[str, Any]:
    """The document of an object of a store of ours, to be written over that state of it and over no other.

    It names the version that was read, and no uid: with one that is not the stored object's, it would be applied as
    one from elsewhere (``store.versions``), over what somebody has deleted and created anew meanwhile.
    """
    return {**raw, "metadata": {key: value for key, value in raw["metadata"].items() if key != "uid"}}


def with_uids(changed: Iterable[Object], before: Iterable[Object]) -> Iterator[Object]:
    """What ``before`` would become, with the uids that it keeps and a write does without (``as_it_was_read``)."""
    stored = {one.ref: one for one in before}
    for one in changed:
        kept = {key: value for key, value in stored[one.ref].raw["metadata"].items() if key == "uid"}
        yield replace(one, raw={**one.raw, "metadata": one.raw["metadata"] | kept})


def undrained(raw: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The document, which says so where the user has taken away what is drained; else that stays (``drained``)."""
    from nodeport_nft.kube.annotations import DRAIN

    annotations = raw["metadata"].get("annotations") or {}
    if (
        not isinstance(annotations, dict)
        or DRAIN in annotations
        or DRAIN not in (before["metadata"].get("annotations") or {})
    ):
        return raw
    return {**raw, "metadata": {**raw["metadata"], "annotations": {**annotations, DRAIN: ""}}}


def say_nothing_found(asked: Asked) -> None:
    """Say that no objects are meant by what was asked."""
    where = f" in {asked.namespace} namespace" if asked.namespace is not None else ""
    say(f"No resources found{where}.")
