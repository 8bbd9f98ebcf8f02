"""label and annotate: KEY=VALUE and KEY- → the objects with other labels, or annotations.

Annotations of our own (``kube.annotations``) are checked as in manifests: whoever restricts a Service must not get an
open one by a slip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import Struct, field

from nodeport_nft.cli.changing.dry_run import DryRun, DryRunOption
from nodeport_nft.cli.changing.manifests import Recursive
from nodeport_nft.cli.changing.outcome import Manner, OutputOption, read_form, tell
from nodeport_nft.cli.changing.stored import (
    Asked,
    Every,
    as_it_was_read,
    check_store,
    look_up,
    parse_asked,
    say_nothing_found,
    with_uids,
    write_over,
)
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import BAD_INPUT, AllNamespaces, Files, Namespace, fail, put, say, warn
from nodeport_nft.cli.resources import complete
from nodeport_nft.cli.selectors import Fields, Labels
from nodeport_nft.cli.unheard import tell_if_unheard
from nodeport_nft.kinds import reference
from nodeport_nft.settings import Validate

if TYPE_CHECKING:
    from nodeport_nft.cli.get.output import Output
    from nodeport_nft.config import Config
    from nodeport_nft.kube import Object
    from nodeport_nft.store import Applied
    from nodeport_nft.store.api import Action

_Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KIND NAME... KEY=VALUE... KEY-...",
        help="Objects, as KIND NAME or KIND/NAME, then what is set and what is taken away.",
        autocompletion=complete,
        show_default=False,
    ),
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Also where there is another value.")]
_List = Annotated[bool, typer.Option("--list", help="Print what there is; with no changes.")]
_Version = Annotated[
    str | None,
    typer.Option("--resource-version", metavar="VERSION", help="Only if this is still the object's version."),
]


class _Talk(Struct, frozen=True):
    """How one of the two commands talks of what it changes, and ``key``: where that is in ``metadata``."""

    key: str
    what: str
    done: str
    undone: str
    both: str


_LABELS = _Talk("labels", "label", "labeled", "unlabeled", "modified")
_ANNOTATIONS = _Talk("annotations", "annotation", "annotated", "annotated", "annotated")


class _Options(Struct, frozen=True):
    """What both commands are told besides the words."""

    overwrite: bool
    lists: bool
    version: str | None
    dry_run: DryRun | None
    output: Output | None


class _Changes(Struct, frozen=True):
    """What is set, and what is taken away."""

    given: dict[str, str] = field(default_factory=dict)
    removed: tuple[str, ...] = ()


def _verb(kind: _Talk, purpose: str) -> Callable[..., None]:
    """The command of this kind, ``purpose`` being its help."""

    def verb(
        *,
        resources: _Words = None,
        filename: Files = None,
        recursive: Recursive = False,  # noqa: ARG001 (directories are always read so)
        every: Every = False,
        labels: Labels = None,
        fields: Fields = None,
        overwrite: _Overwrite = False,
        lists: _List = False,
        resource_version: _Version = None,
        namespace: Namespace = "default",
        all_namespaces: AllNamespaces = False,
        dry_run: DryRunOption = None,
        output: OutputOption = None,
        flags: Annotated[Flags, "validate", "store"],
    ) -> None:
        words, changes = _split(resources or [], kind, lists=lists)
        chosen = flags.config()
        asked = parse_asked(
            words,
            files=filename,
            config=chosen,
            namespace=namespace,
            all_namespaces=all_namespaces,
            every=every,
            selector=labels,
            fields=fields,
        )
        form = read_form(output)
        _run(chosen, asked, changes, kind, _Options(overwrite, lists, resource_version, dry_run, form))

    verb.__doc__ = purpose
    return command(verb)


label = _verb(_LABELS, "Give objects labels, or take them away: label pod web-1 tier=front canary-.")
annotate = _verb(
    _ANNOTATIONS,
    "Give objects annotations, or take them away. Those of this program are checked as in manifests.",
)


def _split(words: Sequence[str], kind: _Talk, *, lists: bool) -> tuple[list[str], _Changes]:
    """The words that name objects, and what is to be changed. Leaves with BAD_INPUT for what is neither."""
    names = []
    given: dict[str, str] = {}
    removed: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key:
            if given.setdefault(key, value) != value:
                fail(f"{key} is given two values; choose one", BAD_INPUT)
        elif word.endswith("-") and len(word) > 1 and not equals:
            removed.append(word[:-1])
        elif given or removed or equals:
            fail(f"{word!r} stands among the {kind.key}; write KEY=VALUE or KEY-, and objects before them", BAD_INPUT)
        else:
            names.append(word)
    if both := sorted(given.keys() & set(removed)):
        fail(f"{both[0]}: one command cannot both set and take it away", BAD_INPUT)
    if lists and (given or removed):
        fail(f"--list prints the {kind.key} there are; leave it out to change them", BAD_INPUT)
    if not (lists or given or removed):
        fail(f"name at least one {kind.what}: KEY=VALUE sets it, KEY- takes it away", BAD_INPUT)
    return names, _Changes(given, tuple(removed))


def _run(config: Config, asked: Asked, changes: _Changes, kind: _Talk, options: _Options) -> None:
    from nodeport_nft.store import open_objects, open_trial

    check_store(config)
    if options.version is not None and (len(asked.refs) != 1):
        fail("--resource-version is of one object; name that one alone", BAD_INPUT)
    if options.lists:
        with open_trial(config) as store:
            _list(look_up(store, asked), kind)
        return
    found: list[Object] = []
    told: list[str] = []

    def change(objects: Sequence[Object]) -> list[Object]:
        found[:] = objects
        told[:] = []
        return _changed(objects, changes, kind, options, config, told)

    # Without the store nothing is asked but what is there; what a store would make of it is not known.
    opening = open_trial if options.dry_run else open_objects
    with opening(config, replacing=True) as store:
        if options.dry_run and not options.dry_run.asks_store:
            wanted = change(look_up(store, asked))
            made = {one.ref: one for one in with_uids(wanted, found)}
        else:
            written = write_over(
                store, asked, change, dry_run=bool(options.dry_run), once=options.version is not None
            )
            warn((*written.told, *_lost(written.applied, changes, kind)))
            made = {one.object.ref: one.object for one in written.applied if one.action != "unchanged"}
    for line in dict.fromkeys(told):
        say(line)
    if not found:
        say_nothing_found(asked)
        return
    _tell(found, made, kind, changes, options)
    if made and not options.dry_run:
        tell_if_unheard(config)


def _tell(
    found: Sequence[Object], made: dict[Any, Object], kind: _Talk, changes: _Changes, options: _Options
) -> None:
    from nodeport_nft.store import Applied

    past = kind.both if changes.given and changes.removed else kind.undone if changes.removed else kind.done
    manner = Manner(options.dry_run, options.output, past=past, alike=f"not {kind.done}")
    applied = []
    for one in found:
        now_is = made.get(one.ref, one)
        is_same = _texts(now_is.raw, kind.key) == _texts(one.raw, kind.key)
        action: Action = "unchanged" if is_same else "configured"
        applied.append(Applied(reference(one.kind, one.name), now_is, action))
    tell(applied, manner)


def _lost(applied: Sequence[Applied], changes: _Changes, kind: _Talk) -> Iterator[str]:
    """What is to be said of what was set and is not stored: of Pods and Nodes a store of ours keeps what it uses."""
    for one in applied:
        kept = _texts(one.object.raw, kind.key)
        for key in (key for key, value in changes.given.items() if value and key not in kept):
            yield f"{one.ref}: the {kind.what} {key} is not kept: of a {one.object.kind} only those of use here are"


def _list(objects: Sequence[Object], kind: _Talk) -> None:
    lines: list[str] = []
    for one in objects:
        if len(objects) > 1:
            lines.append(f"Listing {kind.key} for {reference(one.kind, one.name)}:")
        indent = " " if len(objects) > 1 else ""
        lines += [f"{indent}{key}={value}" for key, value in sorted(_texts(one.raw, kind.key).items())]
    if lines:
        put("\n".join(lines))


def _texts(raw: dict[str, Any], key: str) -> dict[str, Any]:
    found = raw["metadata"].get(key)
    return {name: "" if text is None else text for name, text in found.items()} if isinstance(found, dict) else {}


def _changed(
    objects: Sequence[Object],
    changes: _Changes,
    kind: _Talk,
    options: _Options,
    config: Config,
    told: list[str],
) -> list[Object]:
    """The objects that are other ones by it. Leaves where a value is there that is not to be overwritten.

    Raises Problems with what is wrong with the new ones. ``told`` gets what there is to say.
    """
    refused = []
    changed = []
    for one in objects:
        before = _texts(one.raw, kind.key)
        taken = [
            f"{key!r} already has a value ({before[key]}), and --overwrite is false"
            for key, value in changes.given.items()
            if not options.overwrite and before.get(key, value) != value
        ]
        refused += [f"{reference(one.kind, one.name)}: {text}" for text in taken]
        told += [f'{kind.what} "{key}" not found.' for key in changes.removed if key not in before]
        after = {key: value for key, value in (before | changes.given).items() if key not in changes.removed}
        if after != before and not taken:
            changed.append(_made(one, kind, after, changes, options, config))
    if refused:
        fail("\n".join(refused))
    return changed


def _made(
    stored: Object, kind: _Talk, texts: dict[str, Any], changes: _Changes, options: _Options, config: Config
) -> Object:
    """The object with other labels or annotations. Raises Problems with what is wrong with them."""
    from nodeport_nft.kube import parse_object
    from nodeport_nft.kube.annotations import DRAIN
    from nodeport_nft.model import Ranges
    from nodeport_nft.problems import Problems, field_text
    from nodeport_nft.store import is_kubernetes

    if kind is _ANNOTATIONS and DRAIN in changes.removed and not is_kubernetes(config.store):
        texts = {**texts, DRAIN: ""}  # else it would stay (``store.drained``)
    metadata = {key: value for key, value in stored.raw["metadata"].items() if key != kind.key}
    metadata |= {kind.key: texts} if texts else {}
    metadata |= {"resourceVersion": options.version} if options.version is not None else {}
    raw = {**stored.raw, "metadata": metadata}
    _check_unknown(stored, kind, changes, config.validate)
    if not is_kubernetes(config.store):
        return parse_object(as_it_was_read(raw), ranges=Ranges.of_anybody())
    # The server has validated all the rest, by its own rules; of what is set here it knows the form alone.
    fields = {field_text(("metadata", kind.key, key)) for key in changes.given}
    try:
        return parse_object(raw)
    except Problems as error:
        if wrong := tuple(problem for problem in error.problems if problem.field in fields):
            raise Problems(wrong) from error
    return parse_object(raw, lenient=True)


def _check_unknown(stored: Object, kind: _Talk, changes: _Changes, validate: Validate) -> None:
    """Raises Problems with what is set under our prefix and means nothing, or only warns of it."""
    from nodeport_nft.kube.annotations import note_unknown
    from nodeport_nft.kube.fields import Fields
    from nodeport_nft.problems import Problem, Problems, field_text

    if validate is Validate.ignore:
        return
    fields = Fields()
    labels, annotations = (changes.given, {}) if kind is _LABELS else ({}, changes.given)
    note_unknown(labels, annotations, stored.kind, fields)
    problems = tuple(Problem("", str(stored.ref), field_text(path), text) for path, text in fields.unknown)
    if problems and validate is Validate.strict:
        raise Problems(problems)
    warn(map(str, problems))
