"""Which files are pages, in which order, and the copies of them that Sphinx reads."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from website.links import BrokenPageError, moved
from website.parts import drawn

ROOT = Path(__file__).parents[1]

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Use": ("start", "kubectl", "manifests", "daemon", "systemd", "cluster", "dns", "kubernetes", "troubleshooting"),
    "Monitor": ("monitoring", "prometheus", "grafana"),
    "Reference": ("commands", "configuration", "ruleset", "store", "features", "kubernetes-failures"),
    "Background": ("performance", "scale", "security", "design", "lab"),
    "Project": ("contributing", "changelog"),
}
"""The pages by the title above them in the sidebar. The README is the front page."""

ELSEWHERE = {
    "index": "README.md",
    "systemd": "contrib/systemd/README.md",
    "dns": "contrib/dns/README.md",
    "prometheus": "contrib/prometheus/README.md",
    "grafana": "contrib/grafana/README.md",
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
}
"""Pages whose file is not ``docs/NAME.md``."""


def source(page: str) -> str:
    """The file that a page is made of, from the root of the repository."""
    return ELSEWHERE.get(page, f"docs/{page}.md")


def stage(staged: Path, pictures: Callable[[str, str, Path], str] = drawn) -> None:
    """Write all pages to the folder ``staged``, as Sphinx is to read them.

    ``pictures`` puts them in place of mermaid. Raises BrokenPageError with a line for each link to nothing.
    """
    staged.mkdir(parents=True)
    pages = {source(name): f"{name}.md" for name in ("index", *(each for group in GROUPS.values() for each in group))}
    # Files that no group names are staged as well: Sphinx tells of a page that nothing leads to.
    pages |= {f"docs/{path.name}": path.name for path in (ROOT / "docs").glob("*.md")}
    wrong: list[str] = []
    for file, page in pages.items():
        text, broken = moved((ROOT / file).read_text(encoding="utf-8"), file, pages, ROOT)
        wrong += broken
        text = pictures(text, page.removesuffix(".md"), staged)
        if page == "index.md":
            text += _sidebar()
        (staged / page).write_text(text, encoding="utf-8")
    for folder in ("images", "plots"):
        if (ROOT / "docs" / folder).is_dir():
            shutil.copytree(ROOT / "docs" / folder, staged / folder)
    if wrong:
        raise BrokenPageError("\n".join(wrong))


def _sidebar() -> str:
    """The tree of pages, which Sphinx wants on the front page; hidden there, as the README has its own links."""
    tree = "\n```{{toctree}}\n:caption: {}\n:hidden:\n\n{}\n```\n"
    return "".join(tree.format(title, "\n".join(names)) for title, names in GROUPS.items())


__all__ = ["GROUPS", "ROOT", "BrokenPageError", "source", "stage"]
