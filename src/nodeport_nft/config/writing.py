"""The other way round: what a file has to say for a configuration to be in force, by the keys of ``settings``."""

from __future__ import annotations

from typing import Any, assert_never

from nodeport_nft.config.config import Config
from nodeport_nft.model import NodePortMode, PortRange
from nodeport_nft.settings import Choice, PathTo, Plain, Seconds, Setting, Whole


def as_written(config: Config, setting: Setting) -> Any:
    """The value of a key as YAML takes it: a text, a number, a boolean or a list of texts; None where it has none."""
    values = [_field(config, name) for name in setting.fields]
    written = _written(setting, *values)
    return None if not setting.default and written in ("", []) else written


def _field(config: Config, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _written(setting: Setting, value: Any, *more: Any) -> Any:
    match setting.kind:
        case Plain.PORTS:
            assert isinstance(value, PortRange)
            return str(value)
        case Plain.NODE_PORT_ADDRESSES:
            return list(map(str, *more)) if value is NodePortMode.CIDRS else str(value)
        case Plain.CLAIMABLE:
            return "any" if value is None else list(map(str, value)) or "deny"
        case Plain.BIND_ADDRESS:
            return "none" if value is None else _socket(*value)
        case Plain():
            return list(map(str, value)) if isinstance(value, tuple) else value
        case Seconds():
            return _duration(value)
        case Choice():
            return str(value)
        case PathTo() | Whole():
            return value
        case _:
            assert_never(setting.kind)


def _socket(address: Any, port: int) -> str:
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


def _duration(seconds: float) -> str | float:
    """In the largest unit of which it is a whole number; seconds where it is none of milliseconds either."""
    if not seconds:
        return 0
    for unit, length in (("h", 3600), ("m", 60), ("s", 1)):
        if seconds % length == 0:
            return f"{int(seconds // length)}{unit}"
    milliseconds = round(seconds * 1000)
    return f"{milliseconds}ms" if milliseconds / 1000 == seconds else seconds
