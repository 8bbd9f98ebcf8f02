"""A node whose tables are ``fake.FakeTables``, objects to give it, and faults to meet there."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from msgspec.structs import replace

from nodeport_nft.model import EndpointSlice, NodeFacts, ObjectName, Ref, Value
from nodeport_nft.plan import Add, AddChain, AddMap, AddRules, Delete, DeleteChain, FlushChain, Replace, Transaction
from nodeport_nft.reconcile import NodeState, Reconciler, Synced, compile_snapshot
from nodeport_nft.ruleset import Element, Elements, Key
from tests.builders import FACTS, make_endpoint, make_port, make_service, make_slice
from tests.property.fake import FakeTables, Fault
from tests.property.test_laws import normal

Object = tuple[Ref, tuple[Value, ...]]


# --- objects ------------------------------------------------------------------


def name_of(number: int) -> ObjectName:
    return ObjectName("default", f"s{number}")


def cluster_ip(number: int) -> str:
    return str(ip_address("10.96.0.1") + number)


def service(number: int, *, affinity: int = 0, protocol: str = "TCP", created: str = "") -> Object:
    port = make_port(80, node_port=20000 + number, protocol=protocol)
    made = make_service(f"s{number}", port, ips=(cluster_ip(number),), created=created)
    return Ref("Service", *made.key), (replace(made, session_affinity_seconds=affinity),)


def endpoints(number: int, *last: int, protocol: str = "TCP") -> Object:
    """Endpoints of a service, of which each is named by a number."""
    piece = endpoint_slice(number, *last, protocol=protocol)
    return Ref("EndpointSlice", piece.namespace, piece.name), (piece,)


def endpoint_slice(number: int, *last: int, protocol: str = "TCP") -> EndpointSlice:
    addresses = [str(ip_address("10.244.0.0") + 256 * number + each) for each in last]
    pods = [make_endpoint(address, node="worker-1") for address in addresses]
    return make_slice(*pods, service=f"s{number}", name=f"s{number}-1", protocol=protocol)


def gone(made: Object) -> Object:
    return made[0], ()


# --- the node -----------------------------------------------------------------

MOVED = replace(FACTS, node_port_ips=(ip_address("172.30.1.9"), ip_address("fd00:30:1::2")))
REMARKED = replace(FACTS, masquerade_bit=3)


class Node:
    """The reconciler with its state, over tables with faults."""

    def __init__(self, backend: FakeTables | None = None, facts: NodeFacts = FACTS) -> None:
        self.backend = backend or FakeTables()
        known = self.backend.read(facts)
        self.state = NodeState(facts, known)
        self.reconciler = Reconciler(self.backend, self.state, known)
        self.backend.reads = 0

    def put(self, *objects: Object) -> None:
        for ref, values in objects:
            self.state.put(ref, values)

    def sync(self, *objects: Object) -> Synced:
        """A sync, after these changes."""
        self.put(*objects)
        return self.reconciler.sync()

    def repair(self) -> Synced:
        """Without faults: what the daemon does in the end."""
        self.backend.faults.clear()
        self.backend.late_faults.clear()
        self.reconciler.retry()
        return self.reconciler.sync()

    def is_right(self) -> bool:
        """Whether the kernel holds what the objects ask for, compiled from scratch."""
        wanted = compile_snapshot(self.state.snapshot(), self.state.facts).tables
        for table in wanted.tables():
            if table.schema.family not in self.backend.kernels:
                return False
            kernel = self.backend.kernels[table.schema.family]
            held = kernel.table(table)
            if self.backend.schemas[table.schema.family] != table.schema:
                return False
            if multiset(held.elements) != multiset(table.elements):
                return False
            if (dict(held.maps), dict(held.chains)) != (dict(table.maps), dict(table.chains)):
                return False
            if any(kernel.rules.get(chain.name) != list(chain.rules) for chain in table.schema.chains):
                return False
        return True

    def held(self, number: int) -> dict[str, dict[Key, Element]]:
        """All that the kernel has under this service's clusterIP and nodePort."""
        return {
            name: found
            for name, elements in self.backend.kernels["ip"].elements.items()
            if (found := {key: e for key, e in elements.items() if belongs(number, key)})
        }

    def chains(self, number: int) -> dict[str, list[object]]:
        """The chains that are this service's own."""
        rules = self.backend.kernels["ip"].rules
        return {name: list(held) for name, held in rules.items() if is_own(number, name)}


def multiset(elements: Elements) -> object:
    """Elements without the order of endpoints among their slots, and without maps that hold nothing."""
    try:
        return normal(elements)
    except AssertionError:
        return "slots with a hole"


def belongs(number: int, key: Key) -> bool:
    return cluster_ip(number) in key or 20000 + number in key


def is_own(number: int, name: str) -> bool:
    return f"/default/s{number}/" in f"{name}/"


# --- faults -------------------------------------------------------------------


def refuses(*numbers: int) -> Fault:
    """Whatever writes what belongs to one of these services is refused."""

    def why(transaction: Transaction) -> str | None:
        return next(
            (f"EINVAL: s{n}" for n in numbers if any(n in touched(o, numbers) for o in transaction.operations)), None
        )

    return why


def touched(operation: object, numbers: Iterable[int]) -> set[int]:
    """Which of these services an operation writes."""
    keys: Iterable[Key] = ()
    names: Iterable[str] = ()
    match operation:
        case Add(elements=elements):
            keys = [element.key for element in elements]
        case Delete(keys=deleted):
            keys = deleted
        case Replace(table=table):
            keys = [key for held in table.elements.values() for key in held]
            names = table.chains
        case AddChain(chain=chain) | AddRules(chain=chain):
            names = (chain.name,)
        case AddMap(map=declared):
            names = (declared.name,)
        case FlushChain(name=name) | DeleteChain(name=name):
            names = (name,)
    return {n for n in numbers if any(belongs(n, key) for key in keys) or any(is_own(n, name) for name in names)}


def out_of_memory(transaction: Transaction) -> str | None:
    return f"ENOBUFS: {len(transaction.operations)} operations"


def out_of_memory_after(most: int, commits: list[tuple[Transaction, ...]]) -> Fault:
    def why(_: Transaction) -> str | None:
        return "ENOMEM" if len(commits) > most else None

    return why


def too_long(limit: int) -> Fault:
    def why(transaction: Transaction) -> str | None:
        return f"EMSGSIZE: {transaction.size}" if transaction.size > limit else None

    return why


# --- a service that the kernel refuses ----------------------------------------
