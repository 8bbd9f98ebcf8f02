"""Whether a page makes a browser ask another server: the site has to work where there is none."""

from __future__ import annotations

import re
from pathlib import Path

_LOADS = re.compile(
    r"""<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=["']?(?P<tag>(?:https?:)?//[^"'\s>]+)"""
    r"""|(?:@import\s+|url\()["']?(?P<style>(?:https?:)?//[^"')\s]+)""",
    re.IGNORECASE,
)
"""What is loaded with a page. Links that a reader follows (``<a href>``) are the reader's business."""


def requests_to_others(site: Path) -> list[str]:
    """One line for each address that a page or a style of ``site`` has a browser load from elsewhere."""
    told = []
    for path in sorted(site.rglob("*")):
        if path.suffix in {".html", ".css", ".svg"}:
            for match in _LOADS.finditer(path.read_text(encoding="utf-8")):
                told.append(f"{path}: loads {match['tag'] or match['style']}; keep a copy here instead")
    return told
