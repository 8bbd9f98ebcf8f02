"""What may be shown on a terminal: text that steers it is shown as escapes.

Names of other processes, chains, files and objects come from whoever gave them. A terminal obeys control characters
(ECMA-48), and with those for the direction of writing (Unicode, UAX 9) a line says something else than it holds.
"""

from __future__ import annotations


def visible(text: str) -> str:
    r"""``text`` as one line: whatever is no visible character or blank is escaped as in ``\n``, ``\x1b``, ``\u202e``.

    Those are the Unicode categories Cc, Cf, Cs, Co, Cn, Zl, Zp, and Zs but for the blank itself.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def visible_lines(text: str) -> str:
    """The same for text of several lines, which it stays; its tabs, too."""
    if text.isprintable():
        return text
    return "\n".join("\t".join(map(visible, line.split("\t"))) for line in text.split("\n"))


def printable(text: str, encoding: str) -> str:
    """The same for a stream: what its ``encoding`` lacks is escaped as well."""
    return visible_lines(text.encode(encoding, "backslashreplace").decode(encoding))
