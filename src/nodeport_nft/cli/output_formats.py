"""Documents as ``get -o yaml`` and ``-o json`` write them: keys sorted as kubectl does, ASCII alone.

ASCII, so that every terminal and file can take them; what a reader of YAML 1.1, of YAML 1.2 or of Kubernetes would
each take for something else than a string is in quotes.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml


class _Dumper(yaml.CSafeDumper):
    """PyYAML's, which leaves "0o17", "1e3" and "y" plain, as they are strings to it."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"(?:[-+]?(?:0o[0-7_]+|\.?[0-9][0-9_.]*[eE][-+]?[0-9]+)|[yYnN])$"),
    list("-+.0123456789yYnN"),
)


def to_yaml(value: dict[str, Any]) -> str:
    """The document as YAML, without folded lines."""
    text: str = yaml.dump(value, Dumper=_Dumper, default_flow_style=False, width=1 << 16)
    return text.rstrip("\n")


def to_json(value: dict[str, Any]) -> str:
    """The document as JSON; Python leaves DEL alone, which is ASCII as well."""
    return json.dumps(value, indent=4, sort_keys=True).replace("\x7f", "\\u007f")
