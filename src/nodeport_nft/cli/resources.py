"""The kinds of object on the command line: kubectl's names for them, and how arguments name objects.

Arguments are ``KIND[,KIND...] [NAME...]`` or ``KIND/NAME...``, as kubectl takes them. ``all`` is Pods and Services,
as with kubectl: neither what has no namespace nor what follows from those. The shell completes kinds and names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nodeport_nft.cli import elsewhere, options
from nodeport_nft.cli.flags import Flags, with_store
from nodeport_nft.kinds import BY_KIND, BY_WORD, RESOURCES, Resource

if TYPE_CHECKING:
    from nodeport_nft.config import Config
    from nodeport_nft.kube import Object
    from nodeport_nft.store import Objects


Target = tuple[Resource, str | None]
"""A kind and the name of an object; None: every one."""


ALL = "all"
_OF_ALL = ("pods", "services")  # in kubectl's order


def parse_targets(words: list[str]) -> tuple[Target, ...]:
    """What ``KIND[,KIND...] [NAME...]`` or ``KIND/NAME...`` name; None: every object of the kind.

    What is named twice comes twice, and kubectl prints it twice as well. Leaves with BAD_INPUT for anything else.
    """
    if not any("/" in word for word in words):
        kinds = _kinds(words[0], words[1:])
        names: list[str | None] = [*words[1:]] or [None]
        return tuple((resource, name) for resource in kinds for name in names)
    targets: list[Target] = []
    for word in words:
        kind, slash, name = word.partition("/")
        if not (slash and kind and name) or "/" in name:
            options.fail(f"{word!r}: write KIND NAME..., or KIND/NAME each time", options.BAD_INPUT)
        targets += [(resource, name) for resource in _kinds(kind, [name])]
    return tuple(targets)


def _kinds(text: str, names: list[str]) -> tuple[Resource, ...]:
    """The kinds between commas, each once; ``names``: of which objects."""
    words = text.lower().split(",")
    if names and ALL in words:
        remedy = f"write {','.join(_OF_ALL)} {' '.join(names)}"
        options.fail(f"all is several kinds, and {names[0]!r} would be a name in each; {remedy}", options.BAD_INPUT)
    plain = (one for word in words for one in (_OF_ALL if word == ALL else (word,)))
    return tuple(dict.fromkeys(map(_resource, plain)))


def _resource(word: str) -> Resource:
    from nodeport_nft.problems import nearest

    resource = BY_WORD.get(word)
    if resource is None:
        known = ", ".join(resource.plural for resource in RESOURCES)
        if word in elsewhere.KINDS:
            options.fail(f"{word!r} is not a kind known here: {elsewhere.KINDS[word]}", options.BAD_INPUT)
        if not word:
            options.fail("a kind is missing beside a comma; write svc,pods, without a blank", options.BAD_INPUT)
        meant = nearest(word, tuple(BY_WORD))
        hint = f"; is {meant} meant?" if meant else ""
        if not meant:
            hint = f"; an object's name stands behind its kind: service {word}"
        options.fail(f"{word!r} is not a kind known here; known are {known}{hint}", options.BAD_INPUT)
    return resource


def not_found(resource: Resource, namespace: str, name: str) -> str:
    """The message for an object that is not there."""
    where = f" in namespace {namespace}" if resource.namespaced else ""
    return f'{resource.full} "{name}" not found{where}'


def not_stored(resource: Resource, namespace: str, name: str) -> str:
    """The message for an object that is not in the store; what ``get`` shows need not be."""
    text = not_found(resource, namespace, name)
    if resource.kind != "Endpoints":
        return text
    remedy = f"get endpoints {name} shows them as a table or with -o jsonpath, and pods or EndpointSlices change them"
    return f"{text}; those of a Service are computed, and not stored: {remedy}"


def select(
    store: Objects, targets: Iterable[Target], namespace: str | None
) -> tuple[tuple[Object, ...], tuple[str, ...]]:
    """The objects the targets name (in their order), and a message for each that is not there.

    What is there and cannot be read is in ``store.damaged`` afterwards.

    ``namespace`` None: every one; names cannot be given then.
    """
    from nodeport_nft.model import Ref

    found: list[Object] = []
    missing: list[str] = []
    for resource, name in targets:
        where = namespace if resource.namespaced else ""
        if name is None:
            found += store.objects(resource.kind, where)
        elif (stored := store.get(resource.kind, where or "", name)) is not None:
            found.append(stored)
        elif Ref(resource.kind, where or "", name) not in store.damaged:  # of which more is said
            missing.append(not_stored(resource, where or "", name))
    return tuple(found), tuple(missing)


def check_names(targets: Iterable[Target], *, all_namespaces: bool) -> None:
    """Leave with BAD_INPUT where a name is given beside all namespaces."""
    if all_namespaces and any(name is not None for _, name in targets):
        options.fail("a name belongs to one namespace; leave out --all-namespaces or the names", options.BAD_INPUT)


def say_nothing_found(targets: Iterable[Target], namespace: str | None) -> None:
    """That there is no object of these kinds."""
    is_in_one = namespace is not None and any(resource.namespaced for resource, _ in targets)
    options.say(f"No resources found{f' in {namespace} namespace' if is_in_one else ''}.")


def leave(missing: Iterable[str]) -> None:
    """Tell what was not found or cannot be read, and leave with FAILED if anything was not."""
    told = tuple(missing)
    for message in told:
        options.say(f"error: {message}")
    if told:
        raise typer.Exit(options.FAILED)


def complete(ctx: typer.Context, incomplete: str) -> list[str]:
    """Kinds for the first word, names of stored objects after it. Nothing at all if anything is amiss."""
    given: list[str] = ctx.params.get("resources") or []
    kind, slash, _ = incomplete.partition("/")
    if not (given or slash):
        return [resource.plural for resource in RESOURCES if resource.plural.startswith(incomplete)]
    try:
        names = _stored_names(BY_WORD[(kind if slash else given[0]).lower()], ctx.params)
    except Exception:  # a half-written command line, no store, a broken configuration: say nothing while typing
        return []
    offers = [f"{kind}/{name}" for name in names] if slash else names
    return [offer for offer in offers if offer.startswith(incomplete) and offer not in given]


def resource_meant(word: str) -> Resource | None:
    """The kind that is meant by a word of ``drain``."""
    return BY_WORD.get("endpoints" if word.lower() == "endpoint" else word.lower())  # there may be one alone


def complete_drainable(ctx: typer.Context, incomplete: str) -> list[str]:
    """Nodes or the word endpoint, then more nodes or addresses. Nothing at all if anything is amiss."""
    given: list[str] = ctx.params.get("what") or []
    try:
        if given and (resource := resource_meant(given[0])) is not None and resource.kind == "Endpoints":
            offers = _stored_addresses(ctx.params)
        else:
            offers = [*_stored_names(BY_WORD["nodes"], ctx.params), *([] if given else ["endpoint"])]
    except Exception:
        return []
    return [offer for offer in offers if offer.startswith(incomplete) and offer not in given]


def _stored_addresses(params: dict[str, Any]) -> list[str]:
    from nodeport_nft.model import EndpointSlice, Pod

    with options.open_existing(_flags(params).config()) as store:
        values = [value for _, own in store.readable() for value in own]
    pods = [str(ip) for value in values if isinstance(value, Pod) for ip in value.ips]
    slices = [value for value in values if isinstance(value, EndpointSlice)]
    return list(dict.fromkeys([*pods, *(str(endpoint.address) for each in slices for endpoint in each.endpoints)]))


def _flags(params: dict[str, Any]) -> Flags:
    given = {key: params.get(key) for key in ("store", "kubeconfig", "context")}
    return Flags(params.get("config"), with_store({key: text for key, text in given.items() if text}))


def _stored_names(resource: Resource, params: dict[str, Any]) -> list[str]:
    flags = _flags(params)
    namespace = (params.get("namespace") or flags.namespace("default")) if resource.namespaced else ""
    with options.open_existing(flags.config()) as store:
        return [stored.name for stored in store.objects(resource.kind, namespace)]


def targets_meant(
    verb: str, words: list[str] | None, files: list[str] | None, config: Config, namespace: str
) -> tuple[tuple[Target, ...], str]:
    """What words or manifests name, and in which namespace. Leaves with BAD_INPUT where that is not one thing.

    Raises Problems with what is wrong with the names in manifests.
    """
    if bool(words) == bool(files):
        options.fail(f"name what to {verb}: either a kind, KIND NAME..., or -f FILE", options.BAD_INPUT)
    if words:
        return parse_targets(words), namespace
    assert files is not None
    refs = dict.fromkeys(one.ref for one in options.read_files(files, config, namespace, names_only=True).objects)
    namespaces = {ref.namespace for ref in refs if BY_KIND[ref.kind].namespaced}
    if not refs:
        options.fail("no objects are named in the manifests; name others with -f")
    if len(namespaces) > 1:
        several = ", ".join(sorted(namespaces))
        options.fail(f"-f: objects of several namespaces ({several}); name those of one, with -n", options.BAD_INPUT)
    return tuple((BY_KIND[ref.kind], ref.name) for ref in refs), next(iter(namespaces), namespace)


Resources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KIND [NAME]",
        help="Kinds (svc or svc,pods; all: pods,services) and names, or KIND/NAME.",
        autocompletion=complete,
        show_default=False,
    ),
]
