"""What is put into a page: parts that the code gives, and drawings of mermaid."""

from __future__ import annotations

import re
from pathlib import Path

_PART = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
_MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_THEMES = {"light": "neutral", "dark": "dark"}


def replaced(text: str, page: str, staged: Path) -> str:
    """The text with its parts in place; drawings are written below the folder ``staged``."""
    from website import commands, habits

    makers = {"commands": commands.reference, "habits": habits.table}
    text = _PART.sub(lambda match: makers[match[1]](), text)
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
