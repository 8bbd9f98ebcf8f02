"""The tables of docs/features.md, made of what proves them, so that they cannot say more than the tests do.

``features.yaml`` names the behaviours. Two things prove one: a case, a folder ``cases/ID-words`` with packets, which
go through the tracer and through the kernel; and a test with the mark ``@pytest.mark.proves("ID", …)``, or all tests
of a module with ``pytestmark = pytest.mark.proves("ID", …)``. Marks are read from the source, no test is imported.
A behaviour with a proof works, or partly, if ``features.yaml`` says what is missing; one without is not there yet.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MOST_NAMES = 2
"""Tests of a module that are named; more are counted."""


class FeaturesError(Exception):
    """The table cannot be made; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One behaviour. ``partly`` is what is missing, ``note`` a limit; "" for none."""

    id: str
    behaviour: str
    note: str = ""
    partly: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """One table."""

    title: str
    features: tuple[Feature, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """What proves a behaviour: a case (``module`` is ""), a test, or a whole module (``name`` is "")."""

    module: str
    name: str


Proofs = Mapping[str, tuple[Proof, ...]]
"""The proofs of each behaviour by its id, cases first, then by module and line."""


def read_groups(text: str) -> tuple[Group, ...]:
    """The groups of ``features.yaml``. Raises FeaturesError where an id is given twice or a key is unknown."""
    groups = tuple(Group(entry["group"], tuple(map(_feature, entry["features"]))) for entry in yaml.safe_load(text))
    ids = [feature.id for group in groups for feature in group.features]
    if twice := sorted({each for each in ids if ids.count(each) > 1}):
        raise FeaturesError(f"features.yaml: {', '.join(twice)} given twice; leave one out")
    return groups


def _feature(entry: Mapping[str, Any]) -> Feature:
    try:
        return Feature(**entry)
    except TypeError as error:
        message = f"features.yaml: {entry}: {error}; there are id, behaviour, note and partly"
        raise FeaturesError(message) from None


def find_proofs(tests: Path, ids: Iterable[str]) -> Proofs:
    """The proofs below the folder ``tests``. Raises FeaturesError for an id that is none of ``ids``."""
    found: dict[str, list[Proof]] = defaultdict(list)
    for packets in sorted(tests.glob("cases/*/packets.yaml")):
        case = packets.parent.name
        found[case.partition("-")[0]].append(Proof("", case))
    for path in sorted(tests.glob("**/test_*.py")):
        module = path.relative_to(tests).as_posix()
        for each, name in _marks(module, path.read_text()):
            found[each].append(Proof(module, name))
    if unknown := sorted(set(found) - set(ids)):
        places = ", ".join(_place(proof) for each in unknown for proof in found[each])
        raise FeaturesError(f"unknown id {', '.join(unknown)} ({places}); correct it, or add it to features.yaml")
    return {each: tuple(proofs) for each, proofs in found.items()}


def _marks(module: str, source: str) -> Iterator[tuple[str, str]]:
    """The ids that a module's marks name, each with the test, or "" where it stands for the whole module."""
    tree = ast.parse(source, module)
    misplaced = {
        node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_mark(node, "proves")
    }
    whole: set[str] = set()
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name("pytestmark")], value=value):
                name, marks = "", value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
            case ast.FunctionDef(name=name, decorator_list=marks) if name.startswith("test_"):
                pass
            case _:
                continue
        proves = [mark for mark in marks if isinstance(mark, ast.Call) and _is_mark(mark, "proves")]
        if proves and any(_is_mark(mark, "skip", "xfail") for mark in marks):
            raise FeaturesError(f"{module}:{proves[0].lineno}: a test that is not to pass proves nothing")
        named = [each for mark in proves for each in _ids(module, mark)]
        misplaced -= {mark.lineno for mark in proves}
        if not name:
            whole.update(named)
        yield from ((each, name) for each in dict.fromkeys(named) if not (name and each in whole))
    for line in sorted(misplaced):
        raise FeaturesError(
            f"{module}:{line}: a mark `proves` belongs to a test function or to the module's pytestmark"
        )


def _is_mark(node: ast.AST, *names: str) -> bool:
    """Whether this is ``pytest.mark.NAME`` or a call of it."""
    match node.func if isinstance(node, ast.Call) else node:
        case ast.Attribute(value=ast.Attribute(value=ast.Name("pytest"), attr="mark"), attr=attr):
            return attr in names
    return False


def _ids(module: str, mark: ast.Call) -> tuple[str, ...]:
    """The ids of a mark, which are written out: nothing is run to learn them."""
    ids = tuple(arg.value for arg in mark.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))
    if not ids or len(ids) != len(mark.args) or mark.keywords:
        raise FeaturesError(f'{module}:{mark.lineno}: write the ids out: @pytest.mark.proves("K1", "K3")')
    return ids


def state(feature: Feature, proved: bool) -> str:
    """What the table says of a behaviour. Raises FeaturesError if it works partly, and nothing shows that it does."""
    if feature.partly and not proved:
        raise FeaturesError(
            f"{feature.id} is said to work partly, but nothing proves it; mark a test, or leave it out"
        )
    word = f"partly: {feature.partly}" if feature.partly else "works" if proved else "not yet"
    return f"{word}; {feature.note}" if feature.note else word


def render(groups: Iterable[Group], proofs: Proofs) -> str:
    """All tables, as Markdown."""
    return "\n\n".join(_table(group, proofs) for group in groups)


def _table(group: Group, proofs: Proofs) -> str:
    rows: list[tuple[str, ...]] = [("id", "behaviour", "state", "shown by"), ("---",) * 4]
    for feature in group.features:
        own = proofs.get(feature.id, ())
        rows.append((feature.id, feature.behaviour, state(feature, bool(own)), "; ".join(_shown(own))))
    lines = ["| " + "".join(f"{cell} | ".lstrip() for cell in map(_escaped, row)).rstrip() for row in rows]
    return "\n".join([f"## {group.title}", "", *lines])


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


def _shown(proofs: Iterable[Proof]) -> Iterator[str]:
    """The cases together, then the tests of each module together."""
    modules: dict[str, list[Proof]] = defaultdict(list)
    for proof in proofs:
        modules[proof.module].append(proof)
    for module, own in modules.items():
        if not module:
            yield "traced and sent: " + ", ".join(f"`{proof.name}`" for proof in own)
        elif len(own) > MOST_NAMES:
            yield f"`{module}` ({len(own)} tests)"
        else:
            yield ", ".join(f"`{_place(proof)}`" for proof in own[:1]) + "".join(f", `{p.name}`" for p in own[1:])


def _place(proof: Proof) -> str:
    return "::".join(part for part in (proof.module, proof.name) if part)
