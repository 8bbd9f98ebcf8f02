"""What became of very many objects: counts in place of twenty thousand lines.

Up to some number all lines are kubectl's, and scripts find each name in them; ``-o name`` prints every one however
many there are. Beyond it only those are counted that are alike: of 10,000 Services of which 3 have changed, the 3 are
still named.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable

from nodeport_nft.kinds import BY_KIND

MOST_ON_TERMINAL = 100
"""Objects of one kind that one thing has become of, each with a line: a person reads no more of them."""

MOST_IN_PIPE = 1000
"""The same where no person reads."""


def summarized(entries: Iterable[tuple[str, str, str]], note: str = "", most: int | None = None) -> list[str]:
    """The lines of ``(kind, line, action)``; ``line`` says already what ``action`` does. ``note`` ends each count."""
    entries = list(entries)
    if most is None:
        is_terminal = sys.stdout is not None and sys.stdout.isatty()
        most = MOST_ON_TERMINAL if is_terminal else MOST_IN_PIPE
    counts = Counter((kind, action) for kind, _, action in entries)
    lines: list[str] = []
    counted = set()
    for kind, line, action in entries:
        alike = kind, action
        if counts[alike] <= most:
            lines.append(f"{line}{note}")
        elif alike not in counted:
            counted.add(alike)
            lines.append(f"{counts[alike]:,} {BY_KIND[kind].plural} {action}{note}")
    return lines
