"""The forms of ``-o``: what the option says, and what it makes of objects."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from nodeport_nft.cli.layout import table
from nodeport_nft.cli.options import BAD_INPUT, fail
from nodeport_nft.kinds import reference

if TYPE_CHECKING:
    from nodeport_nft.cli.get.custom_columns import Column
    from nodeport_nft.cli.get.template import Template
    from nodeport_nft.kube import Object


class Form(enum.StrEnum):
    """What an ``-o`` gives."""

    table = ""
    wide = "wide"
    yaml = "yaml"
    json = "json"
    name = "name"
    jsonpath = "jsonpath"
    jsonpath_as_json = "jsonpath-as-json"
    columns = "custom-columns"


FORMS = (
    "wide, yaml, json, name, jsonpath=TEMPLATE, jsonpath-file=PATH, jsonpath-as-json=TEMPLATE, "
    "custom-columns=COLUMNS or custom-columns-file=PATH"
)

WORDS = ("wide", "yaml", "json", "name", "jsonpath=", "jsonpath-file=", "jsonpath-as-json=", "custom-columns=")
"""What the shell offers."""

_OF_FILES = {"jsonpath-file": Form.jsonpath, "custom-columns-file": Form.columns}
_WITH_TEXT = (Form.jsonpath, Form.jsonpath_as_json, Form.columns)
_REFUSED = {
    "go-template": "write it as -o jsonpath='{range .items[*]}{.metadata.name}{\"\\n\"}{end}', or -o json | jq",
    "go-template-file": "write it as -o jsonpath-file=PATH, or -o json | jq",
    "template": "write it as -o jsonpath=TEMPLATE, or -o json | jq",
    "templatefile": "write it as -o jsonpath-file=PATH, or -o json | jq",
    "kyaml": "-o yaml says the same",
}


class Output(Struct, frozen=True):
    """A form, with the ``template`` or the ``columns`` that it wants."""

    form: Form
    template: Template | None = None
    columns: tuple[Column, ...] = ()
    titles: bool = True

    @property
    def is_table(self) -> bool:
        """Whether it is kubectl's own columns."""
        return self.form in (Form.table, Form.wide)

    @property
    def is_question(self) -> bool:
        """Whether it picks something out of objects, so that nobody can apply what it gives."""
        return self.form in _WITH_TEXT

    def one(self, document: dict[str, Any]) -> str:
        """A single object, or a whole list as one, with its last newline. Raises PathError."""
        match self.form:
            case Form.yaml | Form.json:
                from nodeport_nft.cli.output_formats import to_json, to_yaml

                return (to_yaml if self.form is Form.yaml else to_json)(document) + "\n"
            case Form.jsonpath | Form.jsonpath_as_json:
                assert self.template is not None
                return self.template.text(document) if self.form is Form.jsonpath else self.template.json(document)
            case _:
                raise AssertionError(f"{self.form} is made of each object")

    def text(self, objects: Sequence[Object], *, single: bool) -> str:
        """All of the objects; ``single``: one was asked for by its name, and is no list. Raises PathError."""
        match self.form:
            case Form.name:
                return "".join(f"{reference(stored.kind, stored.name)}\n" for stored in objects)
            case Form.columns:
                return self._columns_text(objects)
        if single:
            return self.one(objects[0].raw) if objects else ""
        return self.one({"apiVersion": "v1", "items": [stored.raw for stored in objects], "kind": "List"})

    def _columns_text(self, objects: Sequence[Object]) -> str:
        from nodeport_nft.cli.get.custom_columns import column_cells

        rows = [column_cells(self.columns, stored.raw) for stored in objects]
        titles = [column.title for column in self.columns] if self.titles else None
        return f"{table(titles, rows)}\n" if rows or titles else ""


def read_output(text: str | None, *, titles: bool = True) -> Output:
    """What ``-o`` says, in whatever case; None: the table. Leaves with BAD_INPUT for what it cannot say."""
    if text is None:
        return Output(Form.table)
    word, sign, rest = text.partition("=")
    word = word.lower()
    if hint := _REFUSED.get(word):
        fail(f"-o {word}: is not known here; {hint}", BAD_INPUT)
    form = _OF_FILES.get(word) or next((each for each in Form if word and each == word), None)
    if form is None or (sign and form not in _WITH_TEXT):
        fail(f"-o {text}: is not a form of output; write one of {FORMS}", BAD_INPUT)
    if form not in _WITH_TEXT:
        return Output(form)
    if not rest:
        fail(f"-o {word}: format specified but none given; write -o {word}={_example(word)}", BAD_INPUT)
    from nodeport_nft.cli.get.jsonpath import PathError

    try:
        return _made(form, _read(rest) if word in _OF_FILES else rest, word in _OF_FILES, titles=titles)
    except PathError as error:
        fail(f"-o {word}{f'={rest}' if word in _OF_FILES else ''}: {error}", BAD_INPUT)


def _made(form: Form, text: str, is_file: bool, *, titles: bool) -> Output:
    from nodeport_nft.cli.get.custom_columns import parse_column_lines, parse_columns
    from nodeport_nft.cli.get.template import Template

    if form is Form.columns:
        return Output(form, columns=(parse_column_lines if is_file else parse_columns)(text), titles=titles)
    return Output(form, Template(text))


def _read(path: str) -> str:
    """The text of a file. Raises OSError; leaves with BAD_INPUT where it is none."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        fail(f"{path}: is not UTF-8 text", BAD_INPUT)


def _example(word: str) -> str:
    if word in _OF_FILES:
        return "PATH"
    return "NAME:.metadata.name" if word == Form.columns else "'{.items[*].metadata.name}'"
