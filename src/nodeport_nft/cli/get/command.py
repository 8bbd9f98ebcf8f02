"""get: list objects, in which form one likes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from nodeport_nft.cli import colour
from nodeport_nft.cli.changing.manifests import Recursive
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import BAD_INPUT, AllNamespaces, Files, Namespace, fail, open_existing, put, say
from nodeport_nft.cli.resources import Resources, check_names, leave, say_nothing_found, targets_meant
from nodeport_nft.cli.selectors import Fields, Labels, read_selector

if TYPE_CHECKING:
    from nodeport_nft.cli.get.events import EventPrinter
    from nodeport_nft.cli.get.jsonpath import Path
    from nodeport_nft.cli.get.listings import Wanted
    from nodeport_nft.cli.get.output import Output
    from nodeport_nft.config import Config
    from nodeport_nft.kube import Object
    from nodeport_nft.store import Objects


def _forms() -> list[str]:
    from nodeport_nft.cli.get.output import WORDS

    return list(WORDS)


@command
def get(
    *,
    resources: Resources = None,
    filename: Files = None,
    recursive: Recursive = False,  # noqa: ARG001 (directories are always read so)
    namespace: Namespace = "default",
    all_namespaces: AllNamespaces = False,
    labels: Labels = None,
    fields: Fields = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FORM",
            help="wide, yaml, json, name, jsonpath[-file|-as-json]=..., custom-columns[-file]=....",
            autocompletion=_forms,
        ),
    ] = None,
    sort_by: Annotated[
        str | None, typer.Option("--sort-by", metavar="PATH", help="In the order of a field, as .metadata.name.")
    ] = None,
    show_labels: Annotated[bool, typer.Option("--show-labels", help="Labels as the last column.")] = False,
    label_columns: Annotated[
        list[str] | None,
        typer.Option("--label-columns", "-L", metavar="LABEL", help="A column for a label; repeatable, or a,b."),
    ] = None,
    show_kind: Annotated[
        bool, typer.Option("--show-kind", help="The kind before each name, as with several kinds.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on with what changes, until Ctrl-C.")] = False,
    watch_only: Annotated[bool, typer.Option("--watch-only", help="What changes alone.")] = False,
    output_watch_events: Annotated[
        bool, typer.Option("--output-watch-events", help="With --watch: ADDED, MODIFIED or DELETED.")
    ] = False,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Rows alone.")] = False,
    ignore_not_found: Annotated[
        bool, typer.Option("--ignore-not-found", help="A name that is not there is no error.")
    ] = False,
    show_managed_fields: Annotated[
        bool, typer.Option("--show-managed-fields", help="With yaml and json: who manages which field (kubernetes:).")
    ] = False,
    chunk_size: Annotated[int | None, typer.Option("--chunk-size", hidden=True)] = None,  # noqa: ARG001
    flags: Annotated[Flags, "store"],
) -> None:
    """List objects: services, endpoints, endpointslices, pods or nodes, several kinds with commas, or all of them.

    The endpoints of a Service are computed, from whatever it gets them from; yaml, json and name give the stored
    Endpoints objects alone.
    """
    from nodeport_nft.cli.get.listings import Wanted, listings, selected
    from nodeport_nft.cli.get.output import Form, read_output
    from nodeport_nft.cli.listing import Look
    from nodeport_nft.cli.unheard import say_why_unknown
    from nodeport_nft.store.kubernetes.connection import is_kubernetes

    chosen = flags.config()
    targets, namespace = targets_meant("get", resources, filename, chosen, namespace)
    check_names(targets, all_namespaces=all_namespaces)
    form = read_output(output, titles=not no_headers)
    columns = tuple(part for each in label_columns or () for part in each.split(","))
    _check_table_alone(form, output, show_labels=show_labels, label_columns=bool(columns), show_kind=show_kind)
    wanted = Wanted(
        targets,
        None if all_namespaces else namespace,
        read_selector(labels, fields, targets),
        _read_sort(sort_by),
        wide=form.form is Form.wide,
        labels=show_labels or bool(columns),
    )
    _check_watch(watches=watch or watch_only, events=output_watch_events)
    is_several = len({resource for resource, _ in targets}) > 1
    look = Look(all_namespaces, show_kind or is_several, show_labels, columns, titles=not no_headers)
    wanted = replace(wanted, computes_endpoints=form.is_question and not is_kubernetes(chosen.store))
    with _sensible(output):
        if watch or watch_only:
            from nodeport_nft.cli.get.events import EventPrinter

            shown = _as_stored if show_managed_fields else _without_managers
            printer = EventPrinter(form, look, shown, events=output_watch_events)
            complaints = _watch(chosen, wanted, printer, only_changes=watch_only)
            leave(() if ignore_not_found else complaints)
            return
        with open_existing(chosen) as opened:
            if form.is_table:
                tables, missing = listings(opened, chosen, wanted)
                say_why_unknown(chosen, tables)
                text = ("\n" if no_headers else "\n\n").join(each.text(look) for each in tables)
                text, is_empty = (f"{text}\n" if tables else ""), not tables
            else:
                objects, missing = selected(opened, wanted)
                if not show_managed_fields:
                    objects = tuple(map(_without_managers, objects))
                is_single = len(targets) == 1 and targets[0][1] is not None
                text, is_empty = form.text(objects, single=is_single), not objects
                if not (wanted.computes_endpoints or is_kubernetes(chosen.store)):
                    _note_computed(opened, wanted, objects)
            complaints = opened.complaints()
    missing = () if ignore_not_found else missing
    put(text, end="", paint=colour.table if form.is_table else None)
    is_list = form.form in (Form.yaml, Form.json, Form.jsonpath, Form.jsonpath_as_json)
    if is_empty and not (is_list or missing or complaints or ignore_not_found):
        say_nothing_found(targets, wanted.namespace)
    leave((*missing, *complaints))


def _note_computed(store: Objects, wanted: Wanted, objects: Iterable[Object]) -> None:
    """Say why there are no endpoints here, where the table has some."""
    is_asked = any(resource.kind == "Endpoints" and name is None for resource, name in wanted.targets)
    if not is_asked or any(one.kind == "Endpoints" for one in objects):
        return
    if next(iter(store.list("Service", wanted.namespace)), None) is not None:
        say("note: endpoints of Services are computed, and not stored: a table has them, and -o jsonpath")


def _check_watch(*, watches: bool, events: bool) -> None:
    if events and not watches:
        fail("--output-watch-events: option can only be used with --watch or --watch-only", BAD_INPUT)


def _watch(config: Config, wanted: Wanted, printer: EventPrinter, *, only_changes: bool) -> tuple[str, ...]:
    """Watch until Ctrl-C, which is how that ends; or return which of the names are not there."""
    from nodeport_nft.cli.get.watching import watch

    if wanted.computes_endpoints and any(resource.kind == "Endpoints" for resource, _ in wanted.targets):
        fail(
            "--watch: the endpoints of Services are computed, and watched as a table alone; leave out -o",
            BAD_INPUT,
        )
    return watch(config, wanted, printer, only_changes=only_changes)


def _read_sort(text: str | None) -> Path | None:
    if text is None:
        return None
    from nodeport_nft.cli.get.jsonpath import PathError, relaxed

    try:
        return relaxed(text)
    except PathError as error:
        fail(f"--sort-by: {error}", BAD_INPUT)


def _check_table_alone(form: Output, text: str | None, **given: bool) -> None:
    """Leave with BAD_INPUT where what changes a table stands beside another form."""
    for name, is_given in given.items():
        if is_given and not form.is_table:
            flag = f"--{name.replace('_', '-')}"
            fail(f"{flag}: option cannot be used with -o {text}; leave one of them out", BAD_INPUT)


@contextmanager
def _sensible(output: str | None) -> Iterator[None]:
    """Leave with FAILED where what a path asks for is not in the objects."""
    from nodeport_nft.cli.get.jsonpath import PathError

    try:
        yield
    except PathError as error:
        told = str(error)
        fail(told if told.startswith("--") else f"-o {output}: {told}")


def _as_stored(stored: Object) -> Object:
    return stored


def _without_managers(stored: Object) -> Object:
    """The object as people want to see it: of a Service, who manages which field is longer than all the rest."""
    metadata = stored.raw.get("metadata")
    if not isinstance(metadata, dict) or "managedFields" not in metadata:
        return stored
    rest = {key: value for key, value in metadata.items() if key != "managedFields"}
    return replace(stored, raw={**stored.raw, "metadata": rest})
