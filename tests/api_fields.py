"""Writes ``src/nodeport_nft/kube/api_fields.json``: the names of the API's fields, for the kinds read here.

They come from the models of the official Python client, which are made from the API server's own OpenAPI document:

    python3 -m venv /tmp/client && /tmp/client/bin/pip install kubernetes
    /tmp/client/bin/python tests/api_fields.py > src/nodeport_nft/kube/api_fields.json
"""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import version

_KINDS = {
    "Service": "V1Service",
    "EndpointSlice": "V1EndpointSlice",
    "Endpoints": "V1Endpoints",
    "Pod": "V1Pod",
    "Node": "V1Node",
}
_LIST = re.compile(r"list\[(\w+)\]", re.IGNORECASE)


def main() -> None:
    """Print the file."""
    from kubernetes.client import models  # type: ignore[import-not-found]  # not one of our dependencies

    types: dict[str, dict[str, str]] = {}
    ahead = list(_KINDS.values())
    while ahead:
        name = ahead.pop()
        if name in types:
            continue
        model = getattr(models, name)
        types[name] = {}
        for own, kind in model.openapi_types.items():
            items = _LIST.fullmatch(kind)
            inner = items[1] if items else kind
            if hasattr(models, inner):
                ahead.append(inner)
            else:
                inner = ""  # a text, a number, a mapping of them: names that the author is free to choose
            types[name][model.attribute_map[own]] = f"[{inner}]" if items and inner else inner
    client = f"PyPI kubernetes {version('kubernetes')}"
    document = {"source": f"{client}; written by tests/api_fields.py", "kinds": _KINDS, "types": types}
    json.dump(document, sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
