"""What is read from our own .proto is what protoc makes of it; and nothing else of the program needs grpc."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import nodeport_nft.store.etcd as package

PROTO = Path(package.__file__).parent / "proto" / "etcd.proto"

# In a process of its own: the tests' fork, and shall not have loaded what keeps threads.
COMPARE = f"""
import sys
from google.protobuf import descriptor_pb2
from nodeport_nft.store.etcd.proto.reading import read_proto
made = descriptor_pb2.FileDescriptorSet.FromString(sys.stdin.buffer.read()).file[0]
for message in made.message_type:
    for field in message.field:
        field.ClearField("json_name")  # of no use on the wire
read = read_proto("etcd.proto", open({str(PROTO)!r}, encoding="utf-8").read())
assert str(read) == str(made)
assert len(read.message_type) > 30
"""

REFUSE = """
import sys
from google.protobuf import descriptor_pb2
from nodeport_nft.store.etcd.proto.reading import read_proto
for text in sys.argv[1:]:
    try:
        read_proto("x.proto", text)
    except ValueError as error:
        print(error)
"""

WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("grpc", "google"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
import nodeport_nft.cli, nodeport_nft.store
from nodeport_nft.store.etcd import open_blocking, open_client
from nodeport_nft.store.etcd.address import parse_connection
from nodeport_nft.store import StoreError
for opener in (open_blocking, open_client):
    try:
        opener(parse_connection("etcd://host/prefix"))
    except StoreError as error:
        print(error)
"""


def test_it_is_what_protoc_reads(tmp_path: Path) -> None:
    compiled = tmp_path / "set"
    compile_it = [
        *(sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO.parent}"),
        *(f"--descriptor_set_out={compiled}", PROTO.name),
    ]
    subprocess.run(compile_it, check=True, timeout=60, capture_output=True)
    subprocess.run([sys.executable, "-c", COMPARE], input=compiled.read_bytes(), check=True, timeout=60)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("message A {\n  int64 a = 1 [deprecated = true];\n}", "x.proto:2: not understood: int64 a = 1 [deprecated"),
        ("message A {\n  message B {\n  }\n}", "x.proto:2: not understood: message B {"),
        ('import "a.proto";', "x.proto:1: not understood"),
        ("}", "x.proto:1: not understood: }"),
        ("message A {", "x.proto: message has no end"),
        ("enum A {\n  int64 a = 1;\n}", "x.proto:2: not understood"),
    ],
)
def test_what_it_does_not_understand_it_says(text: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REFUSE, text], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith(said)


def test_without_the_extra() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60, check=True)
    said = (
        "etcd://host:2379/prefix: the Python packages grpcio and protobuf, which speak to etcd, are missing; "
        f"in a clone of nodeport-nft, {sys.executable} -m pip install '.[etcd]'"
    )
    assert done.stdout.splitlines() == [said, said]
