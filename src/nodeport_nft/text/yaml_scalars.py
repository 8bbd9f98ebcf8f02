"""What a scalar of YAML without quotes means: YAML 1.1, less what JSON has no word for, and what it misreads."""

from __future__ import annotations

import re
from functools import lru_cache

from nodeport_nft.json_values import finite

_INTEGER = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | None] = {
    spelling: value
    for word, value in (
        ("yes", True),
        ("true", True),
        ("on", True),
        ("no", False),
        ("false", False),
        ("off", False),
        ("null", None),
    )
    for spelling in (word, word.capitalize(), word.upper())
} | {"": None, "~": None}


@lru_cache(4096)
def plain_scalar(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar means: YAML 1.1 without dates, sexagesimals, infinities and "="."""
    if text in _WORDS:
        return _WORDS[text]
    try:
        if _INTEGER.fullmatch(text):
            digits = text.replace("_", "")
            octal = digits.lstrip("+-").startswith("0") and digits.lstrip("+-").isdigit()
            return int(digits, 8 if octal else 0)
        if _FLOAT.fullmatch(text):
            return finite(text)
    except ValueError:  # "0x_", or more digits than Python converts
        return text
    return text
