"""How one comes to an API server: which kubeconfig, and which of its contexts. Needs no library."""

from __future__ import annotations

from msgspec import Struct

STORE = "kubernetes:"


class Connection(Struct, frozen=True):
    """What the settings say. ``kubeconfig`` "": where kubectl looks, and in a pod its own token.

    ``context`` "": the current one.
    """

    kubeconfig: str = ""
    context: str = ""

    def __str__(self) -> str:
        """The store, as problems name it."""
        return f"{STORE}{self.context}".removesuffix(":")


def is_kubernetes(store: str) -> bool:
    """Whether a ``store`` setting means the API server of a cluster; any case, as in all URLs."""
    return store.lower() == STORE
