"""The ends of a traced connection: from words of the command line to addresses, with what is known of the objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING

import typer
from msgspec import Struct
from msgspec.structs import replace

from nodeport_nft.cli.flags import Flags, with_store
from nodeport_nft.cli.options import BAD_INPUT, FAILED, fail, may_exist, open_existing
from nodeport_nft.kinds import BY_KIND, BY_WORD

if TYPE_CHECKING:
    from nodeport_nft.cli.desired import Wanted
    from nodeport_nft.config import Config
    from nodeport_nft.model import IPAddress, Node, Pod, Snapshot
    from nodeport_nft.reach import End, Located
    from nodeport_nft.resolve.absence import Document


class Known:
    """The objects that names are looked up in, and causes: the manifests', else the store's, if there is one."""

    def __init__(self, config: Config, wanted: Wanted | None) -> None:
        self._config = config
        self._wanted = wanted

    @property
    def is_of_store(self) -> bool:
        """Whether they are the store's."""
        return self._wanted is None or self._wanted.written is None

    @cached_property
    def snapshot(self) -> Snapshot | None:
        """All of them; None where there is no store."""
        if self._wanted:
            return self._wanted.snapshot()
        if not may_exist(self._config.store):
            return None
        with open_existing(self._config) as store:
            return store.snapshot()

    @cached_property
    def registered(self) -> Mapping[str, Node]:
        """The nodes that have registered with a shared store, as Node objects would say it; they need none there."""
        from nodeport_nft.cli.nodes import registered_nodes
        from nodeport_nft.model import Node

        found = registered_nodes(self._config) if self.is_of_store and may_exist(self._config.store) else None
        return {
            name: Node(name, internal_ips=tuple(map(ip_address, one.report.addresses)))
            for name, one in (found or {}).items()
        }

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Those that have an object, and those that have registered."""
        named = self.snapshot.nodes if self.snapshot else ()
        names = {node.name for node in named if node.internal_ips}
        return (
            *(node for node in named if node.internal_ips or node.name not in self.registered),
            *(node for name, node in self.registered.items() if name not in names),
        )

    def pods(self) -> Iterable[Pod] | None:
        """All Pods, also where they are no endpoints by themselves; None: nobody may see them."""
        if self.snapshot is None or not self.is_of_store:
            return self.snapshot.pods if self.snapshot else ()
        with open_existing(self._config) as store:
            return store.pods(self.snapshot)

    def documents(self, kind: str, namespace: str) -> Iterable[Document]:
        """What was written of a kind in a namespace."""
        if self._wanted and self._wanted.written is not None:
            return [each for each in self._wanted.written if (each.kind, each.namespace) == (kind, namespace)]
        with open_existing(self._config) as store:
            return tuple(store.documents(kind, namespace))


class Ends(Struct, frozen=True):
    """Both ends as they were typed. ``sender`` None: nobody was named, and it is a client outside."""

    sender: End | None
    target: End
    port: int | None
    protocol: str

    @property
    def has_names(self) -> bool:
        """Whether objects are to be looked up."""
        return bool(self.target.kind or (self.sender and self.sender.kind))

    def located(self, known: Known, namespace: str) -> tuple[Located | None, Located]:
        """Where they are. Leaves where one of them is not there, or they are of two families."""
        from nodeport_nft.model import Snapshot
        from nodeport_nft.reach import Directory, NotThere

        snapshot = known.snapshot if self.has_names else Snapshot()
        if snapshot is None:
            fail("names are looked up in the store, and there is none; give manifests with -f, or --store", BAD_INPUT)
        if self.has_names:
            snapshot = replace(snapshot, nodes=known.nodes)
        directory = Directory(snapshot, namespace, known.pods)
        given = self.sender.address if self.sender else None
        try:
            target = directory.locate(self.target, given.version if given else None, self.protocol, self.port)
            version = target.address.version if target.address else target.version
            sender = directory.locate(self.sender, version) if self.sender else None
        except NotThere as error:
            fail(str(error), FAILED)
        if target.port is None:
            fail(f"TO {self.target.text}: which port? Write it behind a colon, or give --port", BAD_INPUT)
        if sender and sender.address and target.address and sender.address.version != target.address.version:
            two = f"FROM {sender.address} and TO {target.address} are of two families"
            fail(f"{two}; give both of one", BAD_INPUT)
        return sender, target

    def node(self, sender: Located | None, target: Located, known: Known, here: str) -> str:
        """Whose tables the connection meets first: those of the node that an end is on, else of ``here``.

        Where objects are named and ``here`` is no node of theirs, whoever asks looks at a cluster from outside, and
        its first node stands for all of them.
        """
        named = (sender.node if sender else "") or (target.node if self.target.kind == "Node" else "")
        if named or not self.has_names or known.snapshot is None:
            return named or here
        names = [node.name for node in known.nodes if node.internal_ips]
        return here if here in names or not names else min(names)


def parse_ends(
    words: list[str], sender: str | None, port: int | None, protocol: str, node: str | None = None
) -> Ends:
    """``[FROM] TO`` and ``--from``, and ``--node-name``. Leaves with BAD_INPUT where they are none."""
    if len(words) > 2:
        fail(f"{len(words)} ends of one connection; give [FROM] TO", BAD_INPUT)
    if len(words) == 2 and sender is not None:
        fail("--from and FROM are one end of the connection; leave one of them out", BAD_INPUT)
    if len(words) == 2 and _is_port(words[1]) and not _is_port(words[0]):
        fail(f"TO {words[1]} is a port alone; did you mean {words[0]}:{words[1]}?", BAD_INPUT)
    if len(words) == 1 and _is_port(words[0]) and (meant := f"node/{node}" if node else _own_address()):
        fail(f"TO {words[0]} is a port alone; did you mean {meant}:{words[0]}?", BAD_INPUT)
    from_words = words[0] if len(words) == 2 else sender
    from_end = None if from_words is None else _parsed("FROM", from_words)
    target = _parsed("TO", words[-1])
    if from_end and from_end.port is not None:
        fail(f"FROM {from_end.text}: leave out the port, which the sender's kernel chooses", BAD_INPUT)
    if from_end and from_end.kind == "Service":
        remedy = "name a pod, a node or an address"
        fail(f"FROM {from_end.text}: a Service opens no connections; {remedy}", BAD_INPUT)
    if port is not None and target.port not in (None, port):
        fail(f"TO {target.text} and --port {port} are two ports; leave one of them out", BAD_INPUT)
    return Ends(from_end, target, port, protocol)


def _is_port(word: str) -> bool:
    return word.isascii() and word.isdigit() and 1 <= int(word[:6]) <= 65535


def _own_address() -> IPAddress | None:
    """An address by which this machine is known, to show how one is written; None where there is none to see."""
    from nodeport_nft.errors import KernelError
    from nodeport_nft.kernel.host.addresses import read_host

    try:
        return min(read_host().sources, key=lambda each: each.version, default=None)
    except (KernelError, OSError):
        return None


def sender_address(sender: Located | None, target: IPAddress) -> IPAddress:
    """Where the connection comes from; of nobody who was named: outside, and this very node for its loopback."""
    from nodeport_nft.reach import OUTSIDE

    if sender is not None and sender.address is not None:
        return sender.address
    return target if target.is_loopback else OUTSIDE[target.version]


def _parsed(what: str, text: str) -> End:
    from nodeport_nft.reach import EndError, parse_end

    try:
        return parse_end(text)
    except EndError as error:
        fail(f"{what} {error}", BAD_INPUT)


_OFFERED = ("svc", "pod", "node")


def complete_ends(ctx: typer.Context, incomplete: str) -> list[str]:
    """``svc/``, ``pod/``, ``node/`` and the names behind them. Nothing at all if anything is amiss."""
    word, slash, _ = incomplete.partition("/")
    if not slash:
        return [f"{kind}/" for kind in _OFFERED if kind.startswith(incomplete)]
    try:
        resource = BY_WORD[word.lower()]
        given = {key: text for key in ("store", "kubeconfig", "context") if (text := ctx.params.get(key))}
        flags = Flags(ctx.params.get("config"), with_store(given))
        namespace = ctx.params.get("namespace") or flags.namespace("default")
        where = namespace if BY_KIND[resource.kind].namespaced else ""
        with open_existing(flags.config()) as store:
            offers = [f"{word}/{stored.name}" for stored in store.objects(resource.kind, where)]
    except Exception:  # a half-written command line, no store, a broken configuration: say nothing while typing
        return []
    return [offer for offer in offers if offer.startswith(incomplete)]
