"""The documentation: its links, its commands, and that its site asks nobody else. ``make docs`` builds it all."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from nodeport_nft.cli import app
from website.closed import requests_to_others
from website.links import moved, prose
from website.pages import GROUPS, ROOT, source, stage
from website.parts import GENERATED, up_to_date

PAGES = {source("index"): "index.md", "docs/store.md": "store.md", "contrib/dns/README.md": "dns.md"}


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 300, "move what the first ten minutes do not need"


def test_every_link_to_a_file_leads_to_one(tmp_path: Path) -> None:
    stage(tmp_path / "staged", pictures=lambda text, *_: text)
    staged = {path.stem for path in (tmp_path / "staged").glob("*.md")}
    assert staged == {"index"}.union(*GROUPS.values()), "each page is in the sidebar"


@pytest.mark.parametrize(
    ("file", "text", "page"),
    [
        ("README.md", "[a](docs/store.md#what-is-left)", "[a](store.md#what-is-left)"),
        ("docs/store.md", "[a](../README.md) ![b](images/packet.svg)", "[a](index.md) ![b](images/packet.svg)"),
        ("README.md", "![a](docs/images/packet.svg)", "![a](images/packet.svg)"),
        ("docs/store.md", "[a](../contrib/dns/README.md), [b](../contrib/dns)", "[a](dns.md), [b](dns.md)"),
        ("docs/store.md", "[`f`](../pyproject.toml) [pyproject.toml](../pyproject.toml)", "`f` `pyproject.toml`"),
        ("docs/store.md", "[a](https://example.org/x#y) [b](#here)", "[a](https://example.org/x#y) [b](#here)"),
        ("docs/store.md", "```\n[a](nowhere)\n```", "```\n[a](nowhere)\n```"),
    ],
)
def test_links_lead_from_page_to_page(file: str, text: str, page: str) -> None:
    assert moved(text, file, PAGES, ROOT) == (page + "\n", [])


def test_a_link_to_nothing_is_told_with_its_place() -> None:
    text = "\n[a](nowhere.md#x)\n"
    assert moved(text, "docs/store.md", PAGES, ROOT)[1] == [
        "docs/store.md:2: a link leads to nowhere.md, which is not there; correct or remove it"
    ]


def test_a_page_that_asks_another_server_is_told(tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    page.write_text('<script src="a.js"></script><a href="https://example.org">read on</a>')
    assert requests_to_others(tmp_path) == []
    page.write_text('<link rel="stylesheet" href="//example.org/a.css">')
    (tmp_path / "b.css").write_text("@font-face { src: url('https://example.org/a.woff2') }")
    assert [line.split(" loads ")[1].partition(";")[0] for line in requests_to_others(tmp_path)] == [
        "//example.org/a.css",
        "https://example.org/a.woff2",
    ]


@pytest.mark.parametrize("page", ["commands", "kubectl"])
def test_generated_parts_are_what_the_code_gives(page: str) -> None:
    path = ROOT / source(page)
    if os.environ.get("UPDATE_GOLDENS"):
        path.write_text(up_to_date(path.read_text()))
    assert path.read_text() == up_to_date(path.read_text()), "UPDATE_GOLDENS=1 pytest tests/unit/test_website.py"
    assert GENERATED.search(path.read_text())


def command_lines() -> list[tuple[str, str]]:
    """The program's command lines in all pages, with their file and line: of code blocks and between backticks."""
    found = []
    for file in map(source, ("index", *(name for names in GROUPS.values() for name in names if name != "changelog"))):
        text = GENERATED.sub("", (ROOT / file).read_text())  # which holds slips, too, and what is said of them
        for number, line, is_prose in prose(text):
            texts = re.findall(r"`([^`]+)`", line) if is_prose else [line]
            for shown in texts:
                found += [
                    (f"{file}:{number}", match[1])
                    for match in re.finditer(r"(?:^|[#$|] |&& |sudo )nodeport-nft ([a-z][a-z-]* ?[^|;&#>]*)", shown)
                ]
    return found


def flags_by_command() -> dict[str, set[str]]:
    """The flags of each command and of each group of commands, as "create service nodeport" and "create"."""
    found = {}

    def walk(name: str, command: Any) -> None:
        found[name] = {option for made in command.params for option in (*made.opts, *made.secondary_opts)}
        for word, each in getattr(command, "commands", {}).items():
            walk(f"{name} {word}".strip(), each)

    walk("", typer.main.get_command(app))
    del found[""]
    return dict(sorted(found.items(), reverse=True))  # the longer name of two first


def test_commands_in_the_documentation_are_the_programs() -> None:
    flags = flags_by_command()
    lines = command_lines()
    assert len(lines) > 80
    wrong = []
    for place, line in lines:
        words = re.sub(r"<[^>]*>|'[^']*'", "", line).split()
        name = next((name for name in flags if words[: name.count(" ") + 1] == name.split()), None)
        known = {*flags.get(name or "", ()), "--help", "-h"}
        unknown = [word for word in words if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known]
        if name is None or unknown:
            wrong.append(f"{place}: nodeport-nft {line.strip()}: {', '.join(unknown) or 'no such command'}")
    assert not wrong, "\n".join(wrong)
