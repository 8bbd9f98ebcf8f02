"""What is put into a page: drawings of mermaid; and parts that the code gives, which stand in the repository, too."""

from __future__ import annotations

import re
from pathlib import Path

_MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_THEMES = {"light": "neutral", "dark": "dark"}

GENERATED = re.compile(
    r"(?P<begin><!-- generated: (?P<name>\w+) -->\n\n)(?P<text>.*?)(?P<end>\n\n<!-- generated: end -->)", re.DOTALL
)
"""A part that the code gives. ``UPDATE_GOLDENS=1 pytest tests/unit/test_website.py`` writes it anew."""


def up_to_date(text: str) -> str:
    """The text of a page with its generated parts as the code gives them now."""
    from website import commands, examples, habits

    makers = {"commands": commands.reference, "habits": habits.table} | {
        name: getattr(examples, name) for name in ("trace", "trace_nothing", "graph", "tree")
    }
    return GENERATED.sub(lambda part: part["begin"] + makers[part["name"]]() + part["end"], text)


def drawn(text: str, page: str, staged: Path) -> str:
    """The text of a page with pictures in place of mermaid; they are written below the folder ``staged``."""
    for number, match in enumerate(list(_MERMAID.finditer(text)), 1):
        text = text.replace(match[0], _drawing(match[1], f"{page}-{number}", staged), 1)
    return text


def _drawing(diagram: str, name: str, staged: Path) -> str:
    """Mermaid as two pictures, of which the reader's theme shows one: no script has to draw it while it is read."""
    from mermaidx import Diagram

    folder = staged / "drawings"
    folder.mkdir(exist_ok=True)
    title = re.search(r"^\s*accTitle:\s*(.*)$", diagram, re.MULTILINE)
    alternative = title[1] if title else "diagram"
    pictures = []
    for look, theme in _THEMES.items():
        (folder / f"{name}-{look}.svg").write_text(Diagram(diagram, theme=theme).svg(), encoding="utf-8")
        pictures.append(f"```{{image}} drawings/{name}-{look}.svg\n:alt: {alternative}\n:class: only-{look}\n```")
    return "\n\n".join(pictures)
