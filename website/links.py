"""Links from file to file of the repository, as links from page to page of the site."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)")
_FENCE = re.compile(r"^\s*(```+|~~~+)")
_ELSEWHERE = re.compile(r"^(?:https?|mailto):")


class BrokenPageError(Exception):
    """A page cannot be made; the message has one line for each cause, with file and line."""


def prose(text: str) -> Iterator[tuple[int, str, bool]]:
    """The lines with their numbers, from 1, and whether each is prose, that is, no code block's."""
    fence = ""
    for number, line in enumerate(text.splitlines(), 1):
        mark = _FENCE.match(line)
        if not fence:
            yield number, line, not mark
            fence = mark[1] if mark else ""
        else:
            yield number, line, False
            if mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""


def moved(text: str, file: str, pages: Mapping[str, str], root: Path) -> tuple[str, list[str]]:
    """The text of ``file`` with its links as the page has them, and a line for each that leads nowhere.

    ``pages`` has the page of each file that becomes one. A link to any other file of the repository becomes its name:
    the site has no sources. Anchors are Sphinx' to check, which knows the headings.
    """
    broken = []

    def on_the_site(match: re.Match[str], number: int) -> str:
        target, _, anchor = match["target"].partition("#")
        if _ELSEWHERE.match(target) or not target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(file), target))
        if path.startswith("..") or not (root / path).exists():
            broken.append(f"{file}:{number}: a link leads to {target}, which is not there; correct or remove it")
            return match[0]
        if match["picture"]:
            return f"![{match['text']}]({posixpath.relpath(path, 'docs')})"
        page = pages.get(path) or pages.get(f"{path}/README.md")
        if page:
            return f"[{match['text']}]({page}{'#' * bool(anchor)}{anchor})"
        return match["text"] if "`" in match["text"] or path != match["text"] else f"`{path}`"

    lines = []
    for number, line, is_prose in prose(text):
        lines.append(_LINK.sub(partial(on_the_site, number=number), line) if is_prose else line)
    return "\n".join(lines) + "\n", broken
