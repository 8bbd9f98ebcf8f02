"""etcd's messages and calls, made from ``etcd.proto`` when this is imported; it needs protobuf.

They live in a pool of their own, so that another etcd client in the same process does not meet them.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pool, message_factory

from nodeport_nft.store.etcd.proto.reading import Method, methods, read_proto

__all__ = ["METHODS", "Method", "message", "message_class"]

_FILE = read_proto("etcd.proto", files(__name__).joinpath("etcd.proto").read_text(encoding="utf-8"))
_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(_FILE.SerializeToString())

METHODS = methods(_FILE)
"""The calls by ``Service.Method``."""

_CLASSES: dict[str, Any] = {
    made.name: message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_FILE.package}.{made.name}"))
    for made in _FILE.message_type
}


def message(kind: str, /, **fields: Any) -> Any:
    """A new message; the calls are typed where they are wrapped, in client.py and watch.py alone."""
    return _CLASSES[kind](**fields)


def message_class(name: str) -> Any:
    """The class of messages called ``name``."""
    return _CLASSES[name]
