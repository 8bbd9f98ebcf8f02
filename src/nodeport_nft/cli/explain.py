"""``explain``: what a field, an annotation or a setting means here, in kubectl's layout."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from nodeport_nft.cli.options import BAD_INPUT, fail, put, reported
from nodeport_nft.kinds import BY_WORD, RESOURCES

if TYPE_CHECKING:
    from nodeport_nft.explain import Annotation, Explained, Field
    from nodeport_nft.kinds import Resource
    from nodeport_nft.settings import Kind, Setting

_WIDTH = 80
_ANNOTATIONS = ("annotations", "annotation")
_CONFIG = ("config", "configuration")
_NO_EFFECT = "Kubernetes knows this field. Here it is kept as it is and has no effect."
_CHECKED = "It is checked and kept, and has no effect here."


def _complete(incomplete: str) -> list[str]:
    """Kinds, then the fields behind each dot. Nothing at all if anything is amiss."""
    start, dot, last = incomplete.rpartition(".")
    if not dot:
        words = [*(resource.plural for resource in RESOURCES), _ANNOTATIONS[0], _CONFIG[0]]
        return [word for word in words if word.startswith(incomplete)]
    try:
        names = _names_below(start)
    except Exception:  # a half-written word: say nothing while typing
        return []
    return [f"{start}.{name}" for name in names if name.startswith(last)]


def _names_below(path: str) -> Collection[str]:
    from nodeport_nft.explain import ANNOTATIONS, explained
    from nodeport_nft.settings import KEYS

    kind, _, rest = path.partition(".")
    if path in _ANNOTATIONS:
        return [annotation.name for annotation in ANNOTATIONS]
    if path in _CONFIG:
        return list(KEYS)
    return [field.name for field in explained(BY_WORD[kind.lower()].kind, rest).inside]


def explain(
    *,
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="KIND or KIND.FIELD.FIELD, annotations or nodeport-nft/NAME, config or config.KEY.",
            autocompletion=_complete,
            show_default=False,
        ),
    ],
    recursive: Annotated[bool, typer.Option("--recursive", help="All fields below, by name and type alone.")] = False,
) -> None:
    """Say what a field of an object means here, its default and what it may be.

    Our annotations and the settings of the configuration are explained, too.
    """
    with reported():
        put(text_of(what, recursive=recursive))


def text_of(what: str, *, recursive: bool = False) -> str:
    """What ``explain`` prints. Leaves with BAD_INPUT where there is no such field."""
    from nodeport_nft.kube.annotations import PREFIX
    from nodeport_nft.settings import KEYS

    what = what.replace("[]", "").strip(".")
    if what.startswith(PREFIX):  # as it is written in a manifest
        return _annotations(what)
    if what in KEYS:  # as it is written in the configuration
        return _config(what)
    word, _, path = what.partition(".")
    if word.lower() in _ANNOTATIONS:
        return _annotations(path)
    if word.lower() in _CONFIG:
        return _config(path)
    resource = BY_WORD.get(word.lower())
    if resource is None:
        fail(_unknown_kind(word), BAD_INPUT)
    return _fields(resource, path, recursive=recursive)


def _unknown_kind(word: str) -> str:
    from nodeport_nft.explain import ANNOTATIONS
    from nodeport_nft.problems import nearest, shown
    from nodeport_nft.settings import KEYS

    words = [*(resource.plural for resource in RESOURCES), _ANNOTATIONS[0], _CONFIG[0]]
    annotations = {each.name: f"{_ANNOTATIONS[0]}.{each.name}" for each in ANNOTATIONS}
    settings = {key: f"{_CONFIG[0]}.{key}" for key in KEYS}
    near = annotations.get(word) or nearest(word, [*words, *BY_WORD])
    if not near and (key := nearest(word, [*annotations, *settings])):
        near = annotations.get(key) or settings[key]
    return f"{shown(word)} is nothing that is explained; {f'did you mean {near}?' if near else f'use {_or(words)}'}"


# --- fields -------------------------------------------------------------------------------------------------------


def _fields(resource: Resource, path: str, *, recursive: bool) -> str:
    from nodeport_nft.explain import FIELDS, UnknownFieldError, explained

    try:
        found = explained(resource.kind, path)
    except UnknownFieldError as error:
        fail(str(error), BAD_INPUT)
    lines = [f"{'GROUP:':12}{resource.group}"] if resource.group else []
    lines = [*lines, f"{'KIND:':12}{resource.kind}", f"{'VERSION:':12}{resource.version}", ""]
    if found.path:
        kind = f" <{found.field.type}>" if found.field else ""
        lines += [f"FIELD: {found.path.rpartition('.')[2]}{kind}", ""]
    lines += _about(found, resource.kind)
    below = found.inside
    if recursive:
        start = f"{found.path}." if found.path else ""
        below = tuple(field for field in FIELDS[resource.kind] if field.path.startswith(start))
    if below:
        lines += ["", "FIELDS:", *_listed(below, found.path, recursive=recursive)]
    if found.ignored and not found.is_ignored:
        lines += ["", "WITHOUT EFFECT HERE:", *_wrapped(", ".join(found.ignored))]
    if found.path == "metadata.annotations":
        lines += ["", "OURS:", *(line for each in _of_kind(resource.kind) for line in _summary(each.key, each.text))]
    return _joined(lines)


def _about(found: Explained, kind: str) -> Iterator[str]:
    from nodeport_nft.explain import KIND_TEXTS

    yield "DESCRIPTION:"
    field = found.field
    if field is None:
        yield from _wrapped(_NO_EFFECT if found.is_ignored else KIND_TEXTS[kind])
        return
    yield from _wrapped(field.text)
    if not field.acts:
        yield from _wrapped(_CHECKED)
    yield from _facts(field.default, field.allowed)


def _listed(fields: Iterable[Field], parent: str, *, recursive: bool) -> Iterator[str]:
    depth = parent.count(".") + 1 if parent else 0
    for field in fields:
        indent = 2 * (field.path.count(".") - depth + 1)
        yield f"{'':{indent}}{field.name}\t<{field.type}>"
        if not recursive:
            yield from _wrapped(field.text)
            yield ""


# --- annotations and settings -------------------------------------------------------------------------------------


def _annotations(path: str) -> str:
    from nodeport_nft.explain import ANNOTATIONS
    from nodeport_nft.kube.annotations import PREFIX

    by_name = {each.name: each for each in ANNOTATIONS}
    if not path:
        lines = ["Annotations of our own, on the objects that they have a meaning on.", ""]
        lines += [line for each in ANNOTATIONS for line in _summary(f"{each.key}\t{_or(each.kinds)}", each.text)]
        return _joined(lines)
    name = path.removeprefix(PREFIX)
    if name not in by_name:
        fail(_unknown("annotation", name, by_name, _ANNOTATIONS[0]), BAD_INPUT)
    each = by_name[name]
    return "\n".join(
        [
            f"ANNOTATION: {each.key}",
            f"{'ON:':12}{', '.join(each.kinds)}",
            "",
            "DESCRIPTION:",
            *_wrapped(each.text),
            *_facts(each.default, each.allowed),
            "",
            "EXAMPLE:",
            f"    {each.key}: {_quoted(each.example)}",
        ]
    )


def _of_kind(kind: str) -> list[Annotation]:
    from nodeport_nft.explain import ANNOTATIONS

    return [each for each in ANNOTATIONS if kind in each.kinds]


def _config(path: str) -> str:
    from nodeport_nft.settings import KEYS, SETTINGS

    if not path:
        lines = ["Settings of the configuration file, /etc/nodeport-nft/config.yaml.", ""]
        lines += [
            line for each in SETTINGS for line in _summary(f"{each.key}\t<{_setting_type(each.kind)}>", _plain(each))
        ]
        return _joined(lines)
    if path not in KEYS:
        fail(_unknown("setting", path, KEYS, _CONFIG[0]), BAD_INPUT)
    each = KEYS[path]
    return "\n".join(
        [
            f"SETTING: {each.key} <{_setting_type(each.kind)}>",
            "",
            "DESCRIPTION:",
            *_wrapped(_plain(each)),
            *_facts(each.default or "none", _setting_allowed(each.kind)),
            *([f"{'FLAG:':12}{each.flag}"] if each.flag else []),
            f"{'CHANGED:':12}{'when the daemon is started again' if each.restart else 'while the daemon runs'}",
        ]
    )


def _plain(setting: Setting) -> str:
    """What a setting means, as a sentence without Markdown."""
    text = setting.meaning.replace("`", "")
    return f"{text[0].upper()}{text[1:]}."


def _setting_type(kind: Kind) -> str:
    from nodeport_nft.settings import Plain, Seconds, Whole

    match kind:
        case Plain.SWITCH:
            return "boolean"
        case Whole():
            return "integer"
        case Seconds():
            return "duration"
        case Plain.NETWORKS | Plain.SERVICE_NETWORKS | Plain.CHAINS | Plain.SERVERS | Plain.NODE_ADDRESSES:
            return "[]string"
    return "string"


def _setting_allowed(kind: Kind) -> str:
    from nodeport_nft.settings import Choice, Plain, Seconds, Whole

    match kind:
        case Plain.SWITCH:
            return "true, false"
        case Whole(low=low, high=high):
            return f"{low}-{high}"
        case Seconds(low=low, high=high):
            most = f"{high / 86400:g} days" if high > 86400 else f"{high:g} s"
            return f"{low:g} s to {most}; seconds, or as 500ms or 1h30m"
        case Choice(words=words):
            return ", ".join(words)
    return ""


# --- layout -------------------------------------------------------------------------------------------------------


def _joined(lines: Iterable[str]) -> str:
    """The lines with one empty line between two parts, and none at the end."""
    text = "\n".join(lines)
    return text.replace("\n\n\n", "\n\n").rstrip("\n")


def _facts(default: str, allowed: str) -> Iterator[str]:
    if default or allowed:
        yield ""
    for title, text in (("DEFAULT:", default), ("ALLOWED:", allowed)):
        if text:
            first, *more = _wrapped(text, 12)
            yield f"{title:12}{first.strip()}"
            yield from more


def _summary(title: str, text: str) -> Iterator[str]:
    yield f"  {title}"
    yield from _wrapped(text)
    yield ""


def _wrapped(text: str, indent: int = 4) -> list[str]:
    import textwrap

    start = " " * indent
    return textwrap.wrap(
        text, _WIDTH, initial_indent=start, subsequent_indent=start, break_on_hyphens=False, break_long_words=False
    )


def _unknown(what: str, name: str, known: Collection[str], parent: str) -> str:
    from nodeport_nft.problems import nearest, shown

    near = nearest(name, known)
    remedy = f"did you mean {near}?" if near else f"nodeport-nft explain {parent} lists them"
    return f"there is no {what} {shown(name)}; {remedy}"


def _or(words: Collection[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def _quoted(text: str) -> str:
    """As YAML would have it where it is no plain word."""
    return text if text.isalpha() else f"'{text}'"
