"""Reads ``etcd.proto`` into a descriptor, from which protobuf makes the message classes.

Code that protoc has generated is bound to protobuf's major version: what one writes, the next but one refuses, and
the next warns of. Read at import time, one file of ours serves every version, and needs no compiler to be changed. A
test holds what is read here against what protoc makes of the same file.

The syntax is a subset: one statement a line. Raises ValueError for any line outside of it.
"""

from __future__ import annotations

import re

from google.protobuf import descriptor_pb2
from msgspec import Struct

_FIELD = re.compile(r"(?:(repeated) )?(\w+) (\w+) = (\d+);")
_CONSTANT = re.compile(r"(\w+) = (\d+);")
_BLOCK = re.compile(r"(message|enum|oneof|service) (\w+) {")
_METHOD = re.compile(r"rpc (\w+)\((stream )?(\w+)\) returns \((stream )?(\w+)\);")
_HEAD = re.compile(r'(syntax|package) (?:= )?"?(\w+)"?;')

_FIELD_TYPE = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _FIELD_TYPE.TYPE_BOOL,
    "bytes": _FIELD_TYPE.TYPE_BYTES,
    "int64": _FIELD_TYPE.TYPE_INT64,
    "string": _FIELD_TYPE.TYPE_STRING,
    "uint64": _FIELD_TYPE.TYPE_UINT64,
}


class Method(Struct, frozen=True):
    """One call: its path on the wire, what is sent and what comes back; each may be a stream."""

    path: str
    request: str
    response: str
    sends_stream: bool
    gets_stream: bool


def read_proto(name: str, text: str) -> descriptor_pb2.FileDescriptorProto:
    """The descriptor of a file, as protoc would write it."""
    file = descriptor_pb2.FileDescriptorProto(name=name)
    within: list[tuple[str, object]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        statement = line.split("//")[0].strip()
        if statement and not _read_statement(file, within, statement):
            raise ValueError(f"{name}:{number}: not understood: {statement}")
    if within:
        raise ValueError(f"{name}: {within[-1][0]} has no end")
    _name_types(file)
    return file


def methods(file: descriptor_pb2.FileDescriptorProto) -> dict[str, Method]:
    """The calls of all services by ``Service.Method``; types without their package."""
    return {
        f"{service.name}.{method.name}": Method(
            path=f"/{file.package}.{service.name}/{method.name}",
            request=method.input_type.rsplit(".", 1)[-1],
            response=method.output_type.rsplit(".", 1)[-1],
            sends_stream=method.client_streaming,
            gets_stream=method.server_streaming,
        )
        for service in file.service
        for method in service.method
    }


def _read_statement(
    file: descriptor_pb2.FileDescriptorProto, within: list[tuple[str, object]], statement: str
) -> bool:
    kind, block = within[-1] if within else ("", None)
    if statement == "}" and within:
        within.pop()
    elif found := _BLOCK.fullmatch(statement):
        return _open(file, within, found[1], found[2])
    elif not within and (found := _HEAD.fullmatch(statement)):
        setattr(file, found[1], found[2])
    elif isinstance(block, descriptor_pb2.EnumDescriptorProto) and (found := _CONSTANT.fullmatch(statement)):
        block.value.add(name=found[1], number=int(found[2]))
    elif isinstance(block, descriptor_pb2.ServiceDescriptorProto) and (found := _METHOD.fullmatch(statement)):
        made = block.method.add(name=found[1], input_type=found[3], output_type=found[5])
        if found[2]:
            made.client_streaming = True
        if found[4]:
            made.server_streaming = True
    elif isinstance(block, descriptor_pb2.DescriptorProto) and (found := _FIELD.fullmatch(statement)):
        field = block.field.add(name=found[3], number=int(found[4]), type_name=found[2])
        field.label = _FIELD_TYPE.LABEL_REPEATED if found[1] else _FIELD_TYPE.LABEL_OPTIONAL
        if kind == "oneof":
            field.oneof_index = len(block.oneof_decl) - 1
    else:
        return False
    return True


def _open(file: descriptor_pb2.FileDescriptorProto, within: list[tuple[str, object]], kind: str, name: str) -> bool:
    outer = within[-1][1] if within else None
    if isinstance(outer, descriptor_pb2.DescriptorProto):
        if kind == "oneof":
            outer.oneof_decl.add(name=name)
            within.append((kind, outer))  # its fields are the message's
            return True
        if kind == "enum":
            within.append((kind, outer.enum_type.add(name=name)))
            return True
        return False
    if within or kind == "oneof":
        return False
    adders = {"message": file.message_type, "enum": file.enum_type, "service": file.service}
    within.append((kind, adders[kind].add(name=name)))
    return True


def _name_types(file: descriptor_pb2.FileDescriptorProto) -> None:
    """Turn the words of types into protobuf's; a name of an inner enum goes before one of the file's."""
    messages = {message.name for message in file.message_type}
    for message in file.message_type:
        inner = {enum.name for enum in message.enum_type}
        for field in message.field:
            word = field.type_name
            if word in _SCALARS:
                field.ClearField("type_name")
                field.type = _SCALARS[word]
            elif word in messages:
                field.type_name, field.type = f".{file.package}.{word}", _FIELD_TYPE.TYPE_MESSAGE
            else:
                scope = f"{message.name}." if word in inner else ""
                field.type_name, field.type = f".{file.package}.{scope}{word}", _FIELD_TYPE.TYPE_ENUM
    for service in file.service:
        for method in service.method:
            method.input_type = f".{file.package}.{method.input_type}"
            method.output_type = f".{file.package}.{method.output_type}"
