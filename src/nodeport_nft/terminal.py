"""What may be shown on a terminal: the one place that says which characters, and what stands for the others.

Names of other processes, chains, files and objects come from whoever gave them. A terminal obeys control characters
(ECMA-48), and with those for the direction of writing (Unicode, UAX 9) a line says something else than it holds.

What is shown as it stands is ``visible``: an escape for each such character, so that nothing is lost. What a message
quotes of a document is ``printable``: a mark for each, since ``\\x1b`` in it may be what the author wrote.
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


def visible_in(encoding: str, text: str) -> str:
    """The same for a stream: what its ``encoding`` lacks is escaped as well."""
    return visible_lines(text.encode(encoding, "backslashreplace").decode(encoding))


def printable(text: str) -> str:
    """``text`` as one line, with U+FFFD for whatever ``visible`` escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
