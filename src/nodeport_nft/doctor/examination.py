"""What the checks look at. Each part is read when it is first asked for, and once; so is the failure to read it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import Struct

from nodeport_nft.config import Config, ConfigError
from nodeport_nft.errors import KernelError
from nodeport_nft.facts import Host, gather, networks_of
from nodeport_nft.kernel.host.addresses import read_host
from nodeport_nft.kernel.netlink.messages import may_administer
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import Family, IPAddress, IPNetwork, Node, NodeFacts, Parsed, Ref, ServiceCIDR
from nodeport_nft.problems import Problems
from nodeport_nft.reconcile import NodeState, read_tables
from nodeport_nft.store import StoreError, is_kubernetes, may_exist, open_existing, open_members

if TYPE_CHECKING:
    from nodeport_nft.observe.status import Status
    from nodeport_nft.store.api import Registered

_Read = TypeVar("_Read")


class Answer(Struct, frozen=True):
    """What the daemon answers: its ``status`` and its ``troubles``, or ``silence``: why there is no answer."""

    status: Status | None = None
    troubles: tuple[str, ...] = ()
    silence: str = ""


class Stored(Struct, frozen=True):
    """The desired state as the store has it; ``complaints`` are about what cannot be read of it."""

    objects: tuple[Parsed, ...]
    unreadable: frozenset[Ref] = frozenset()
    complaints: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


class _Once(Generic[_Read]):
    """A value that is read once, or the reason why it cannot be."""

    def __init__(self, read: Callable[[], _Read]) -> None:
        self._read = read
        self._value: list[_Read] = []
        self._error: Exception | None = None

    def __call__(self) -> _Read:
        """Raises what reading it has raised, every time."""
        if self._error is not None:
            raise self._error
        if not self._value:
            try:
                self._value.append(self._read())
            except (KernelError, StoreError, Problems, OSError) as error:
                self._error = error
                raise
        return self._value[0]


class Examination:
    """One node, looked at from inside its network namespace.

    ``fault``: what is wrong with the configuration, of which ``config`` is the rest then. ``ask`` asks the daemon.
    All but ``config`` and ``answer`` raise KernelError, StoreError, Problems or OSError where they cannot be read.
    """

    def __init__(
        self,
        config: Config,
        *,
        name: str,
        node_ips: tuple[IPAddress, ...] = (),
        fault: ConfigError | None = None,
        ask: Callable[[], Answer],
    ) -> None:
        self.config = config
        self.name = name
        self.fault = fault
        self._node_ips = node_ips
        self._ask = ask
        self._host = _Once(read_host)
        self._nft = _Once(Nft)
        self._stored = _Once(self._read_store)
        self._nodes = _Once(self._read_nodes)
        self._registered = _Once(self._read_members)
        self._gathered = _Once(self._gather)
        self._state = _Once(self._compile)

    @property
    def has_node_ips(self) -> bool:
        """Whether somebody has said which addresses are the node's."""
        return bool(self._node_ips)

    @property
    def host(self) -> Host:
        """The host's network."""
        return self._host()

    @property
    def nft(self) -> Nft:
        """nftables."""
        return self._nft()

    @property
    def may_administer(self) -> bool:
        """Whether nftables may be asked at all."""
        return may_administer()

    @property
    def stored(self) -> Stored:
        """The desired state."""
        return self._stored()

    @property
    def state(self) -> NodeState:
        """The node as it should be, with its tables; over what the kernel holds, where that may be read."""
        return self._state()

    @property
    def families(self) -> frozenset[Family]:
        """Those that have Services."""
        return frozenset(f for f, desired in self.state.tables.desired.items() if desired.elements["cluster-ips"])

    @property
    def pod_cidrs(self) -> tuple[IPNetwork, ...]:
        """The networks of all pods, as far as they are known."""
        of_nodes = (cidr for node in self.state.index.nodes.values() for cidr in node.pod_cidrs)
        return tuple(dict.fromkeys((*self.config.cluster_cidrs, *of_nodes)))

    @property
    def facts_warnings(self) -> tuple[str, ...]:
        """What is wrong with the node's own addresses, and its DNS servers."""
        return self._gathered()[1]

    @property
    def registered(self) -> tuple[Registered, ...]:
        """The nodes that have registered with a shared store; none with that of one node."""
        return self._registered()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Every Node object, also where a node follows its own alone. Raises as the store does."""
        return self._nodes()

    @cached_property
    def answer(self) -> Answer:
        """The daemon's."""
        return self._ask()

    def _read_store(self) -> Stored:
        if not may_exist(self.config.store):  # a node can be looked at before anything is applied
            return Stored(())
        with open_existing(self.config) as store:
            objects = store.desired(self.name)
            meant = (damaged.meant for damaged in store.damaged.values())
            return Stored(objects, frozenset().union(*meant), store.complaints(), store.doubts())

    def _read_nodes(self) -> tuple[Node, ...]:
        if not is_kubernetes(self.config.store):
            return tuple(self.state.index.nodes.values())
        with open_existing(self.config) as store:
            return store.snapshot().nodes

    def _read_members(self) -> tuple[Registered, ...]:
        _ = self.stored  # a store that does not answer is waited for once
        members = open_members(self.config)
        if members is None:
            return ()
        with closing(members):
            return members.list()

    def _gather(self) -> tuple[NodeFacts, tuple[str, ...]]:
        values = [value for _, values in self.stored.objects for value in values]
        node = next((each for each in values if isinstance(each, Node) and each.name == self.name), None)
        cidrs = networks_of(each for each in values if isinstance(each, ServiceCIDR))
        return gather(
            self.config, name=self.name, node=node, node_ips=self._node_ips, host=self.host, service_cidrs=cidrs
        )

    def _compile(self) -> NodeState:
        facts, _ = self._gathered()
        listed = read_tables(self.nft, facts) if may_administer() else {}
        state = NodeState.of(facts, listed, self.stored.objects, self.stored.unreadable)
        state.compile(sorted(state.touched))
        return state
