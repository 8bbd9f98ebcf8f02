"""drain and uncordon: nodes and endpoints that get no new connections for a while, and keep those they have.

They are written down on the objects, so that every node of a cluster hears of it; the commands do not wait for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from msgspec import Struct

from nodeport_nft.cli.changing.deleting import Deleting, Emptying, Evicting, Force, GracePeriod, Limit
from nodeport_nft.cli.changing.dry_run import DryRun, DryRunOption, note
from nodeport_nft.cli.changing.stored import as_it_was_read
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import BAD_INPUT, fail, may_exist, now, put, say, warn
from nodeport_nft.cli.resources import complete_drainable, resource_meant
from nodeport_nft.cli.unheard import tell_if_unheard

if TYPE_CHECKING:
    from nodeport_nft.kube import Object
    from nodeport_nft.model import IPAddress, Parsed, Value
    from nodeport_nft.resolve.leaving import Effect
    from nodeport_nft.store import Objects

What = Annotated[
    list[str],
    typer.Argument(
        metavar="NODE|endpoint ADDRESS",
        help="Names of nodes, or the word endpoint and addresses.",
        autocompletion=complete_drainable,
        show_default=False,
    ),
]

_MOST_TRIES = 100
"""How often a write is tried anew because others have changed the same objects: as many may drain at once."""

_LONGEST_PAUSE = 0.2  # seconds

_MOST_LINES = 10


@command
def drain(
    *,
    what: What,
    dry_run: DryRunOption = None,
    force: Force = False,
    grace_period: GracePeriod = None,
    timeout: Limit = None,
    evicting: Evicting = False,
    emptying: Emptying = False,
    deleting: Deleting = False,
    flags: Annotated[Flags, "store"],
) -> None:
    """Let nodes, or single endpoints, get no new connections; those that they have live on.

    A Service that has no other endpoint goes on with those that are drained. Undone by uncordon.
    """
    manner = {
        "--force": force,
        "--grace-period": grace_period is not None,
        "--timeout": timeout is not None,
        "--ignore-daemonsets": evicting,
        "--delete-emptydir-data": emptying,
        "--disable-eviction": deleting,
    }
    if given := [flag for flag, is_given in manner.items() if is_given]:
        say(f"note: {', '.join(given)}: no meaning here; no pod is evicted, and connections live on")
    _change(flags, what, drains=True, dry_run=dry_run)


@command
def uncordon(*, what: What, dry_run: DryRunOption = None, flags: Annotated[Flags, "store"]) -> None:
    """Let nodes, or single endpoints, that were drained get new connections again."""
    _change(flags, what, drains=False, dry_run=dry_run)


class _Asked(Struct, frozen=True):
    """What is to be drained or no longer, each once: names of nodes or addresses, one of the two."""

    nodes: tuple[str, ...] = ()
    addresses: tuple[IPAddress, ...] = ()


class _Changed(Struct, frozen=True):
    """What a write is to do: objects that are there, and such as are not yet; and ``names``, what changes by it."""

    puts: tuple[Object, ...]
    new: tuple[Object, ...]
    names: frozenset[str]


def _change(flags: Flags, words: Sequence[str], *, drains: bool, dry_run: DryRun | None) -> None:
    from nodeport_nft.resolve import Index
    from nodeport_nft.resolve.leaving import effects
    from nodeport_nft.store import is_kubernetes, open_objects, open_trial

    chosen = flags.config()
    asked = _parse(words)
    if is_kubernetes(chosen.store):
        _refuse_cluster(chosen.store, asked, drains=drains)
    if not may_exist(chosen.store):
        fail(f"there is no store {chosen.store}; name the store with --store")
    with (open_trial if dry_run else open_objects)(chosen) as store:
        before = store.readable()
        complaints = store.complaints()
        written, names = _write(store, asked, before, drains=drains, dry_run=bool(dry_run))
    old, new = Index(), Index()
    for ref, values in before:
        old.put(ref, values)
        new.put(ref, values)
    touched = {key for obj in written for key in new.put(obj.ref, obj.values)}
    for name in (*asked.nodes, *map(str, asked.addresses)):
        already = "" if name in names else "already "
        done = f"{already}{'drained' if drains else 'uncordoned'}{note(dry_run)}"
        put(f"{'node' if asked.nodes else 'endpoint'}/{name} {done}")
    for line in _told(effects(old, new, touched)):
        say(line)
    warn(complaints)
    if written and not dry_run:
        tell_if_unheard(chosen)


def _refuse_cluster(store: str, asked: _Asked, *, drains: bool) -> NoReturn:
    """Leave: there others write EndpointSlices, and no node follows the Node objects of others."""
    verb = "drain" if drains else "uncordon"
    if asked.nodes:
        remedy = (
            f"kubectl {verb} {' '.join(asked.nodes)} is what {'empties' if drains else 'takes back'} a node there"
        )
        why = "its nodes do not follow the Node objects of others"
    else:
        remedy = "change a label of the pod that the Service selects, and its connections live on"
        why = "a controller writes its EndpointSlices anew"
    fail(f"{verb}: {store} is a cluster's API server, and {why}; {remedy}", BAD_INPUT)


def _write(
    store: Objects, asked: _Asked, stored: Sequence[Parsed], *, drains: bool, dry_run: bool
) -> tuple[list[Object], set[str]]:
    """Write what is asked for; what was written, and of what was asked for that which is another now by it.

    ``stored``: what there is. Where others write at the same time it is looked at once more.
    """
    import time

    from nodeport_nft.agenda import apart
    from nodeport_nft.store import Conflict, Superseded

    written: list[Object] = []
    names: set[str] = set()
    for attempt in range(_MOST_TRIES):
        changed = (_nodes if asked.nodes else _addresses)(store, asked, stored, drains)
        names |= changed.names
        try:
            for objects, are_new in ((changed.new, True), (changed.puts, False)):
                if objects:
                    store.write(objects, now=now(), only_new=are_new, dry_run=dry_run)
                    written += objects
        except (Conflict, Superseded):
            # Those who meet here shall not meet again in the same moment.
            time.sleep(apart(attempt, _LONGEST_PAUSE))
            stored = store.readable()
        else:
            break
    else:
        fail(f"{store.where}: others have changed the same objects {_MOST_TRIES} times; try again")
    return written, names


def _parse(words: Sequence[str]) -> _Asked:
    """What the words name. Leaves with BAD_INPUT where that is nothing, or neither nodes nor endpoints."""
    from nodeport_nft.notation import each_once, parse_address

    kind, names = "Node", list(words)
    first, slash, _ = words[0].partition("/")
    if slash:
        if not all("/" in word for word in words) or len({_kind(word.partition("/")[0]) for word in words}) > 1:
            fail("write NODE..., endpoint ADDRESS..., or KIND/NAME each time, of one kind", BAD_INPUT)
        kind, names = _kind(first), [word.partition("/")[2] for word in words]
    elif resource_meant(first) is not None and (len(words) > 1 or _kind(first) != "Node"):
        kind, names = _kind(first), list(words[1:])
    if not slash:
        _check_one_kind(kind, names)
    if not names or not all(names):
        fail(f"name the {'nodes' if kind == 'Node' else 'addresses of the endpoints'}", BAD_INPUT)
    if kind == "Node":
        return _Asked(nodes=tuple(dict.fromkeys(names)))
    addresses = []
    for text in names:
        try:
            addresses.append(parse_address(text))
        except ValueError as error:
            fail(f"endpoint: {_without_port(text) or error}", BAD_INPUT)
    return _Asked(addresses=each_once(addresses))


def _check_one_kind(kind: str, names: Sequence[str]) -> None:
    """Leaves with BAD_INPUT where another kind is named among the names of one."""
    for word in names:
        other = resource_meant(word)
        if other is not None and other.kind == ("Endpoints" if kind == "Node" else "Node"):
            fail(f"{word!r} after {names[0]!r}: one kind at a time; write NODE..., or endpoint ADDRESS...", BAD_INPUT)


def _without_port(text: str) -> str:
    """What is said of an address with a port; "" if it is none."""
    from nodeport_nft.notation import parse_address

    address, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdecimal()):
        return ""
    try:
        found = parse_address(address.removeprefix("[").removesuffix("]"))
    except ValueError:
        return ""
    return (
        f"{text!r} is an address with a port; leave out the port, as an endpoint is drained on all of them: {found}"
    )


def _kind(word: str) -> str:
    resource = resource_meant(word)
    if resource is None or resource.kind not in ("Node", "Endpoints"):
        fail(f"{word!r} cannot be drained; write NODE..., or endpoint ADDRESS...", BAD_INPUT)
    return resource.kind


def _nodes(store: Objects, asked: _Asked, stored: Sequence[Parsed], drains: bool) -> _Changed:
    """What is to be written of nodes. Leaves with all that are not there."""
    from nodeport_nft.model import Member, Node, Pod, Ref
    from nodeport_nft.resolve.absence.cause import listed
    from nodeport_nft.resolve.whereabouts import nodes_of
    from nodeport_nft.store import Store

    values = [value for _, own in stored for value in own]
    nodes = {value.name: value for value in values if isinstance(value, Node)}
    named = {name for value in values for name in nodes_of(value) if name}
    known = {*nodes, *named, *(value.name for value in values if isinstance(value, Member))}
    pods = {value.name: value.ips[0] for value in values if isinstance(value, Pod) and value.ips}
    refused = []
    puts, new = [], []
    for name in asked.nodes:
        ref = Ref("Node", "", name)
        if ref in store.damaged:
            refused.append(store.damaged[ref].complaint(store.where))
        elif name not in known:
            # No guess which was meant: names of machines are alike, and the wrong one would be drained.
            there = f"known are {listed(sorted(known))}" if known else "no object, endpoint or daemon names one"
            if name in pods:
                there = f"for the pod of this name: drain endpoint {pods[name]}"
            refused.append(f'node "{name}" not found; {there}')
        elif name in nodes and nodes[name].drained != drains:
            if (current := store.get(*ref)) is None:
                fail(f"{ref} has just been deleted; look what there is, and try again")
            puts.append(_made(current.raw, "true" if drains else ""))
        elif name not in nodes and drains and isinstance(store, Store) and store.any_of_manifests():
            refused.append(
                f'node "{name}" has no object, and {store.where} follows manifests, which would delete one that they '
                "lack; add a Node of this name to the manifests"
            )
        elif name not in nodes and drains:
            new.append(_made({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}, "true"))
    if refused:
        fail("\n".join(refused))
    return _Changed(tuple(puts), tuple(new), frozenset(obj.name for obj in (*puts, *new)))


def _addresses(store: Objects, asked: _Asked, stored: Sequence[Parsed], drains: bool) -> _Changed:
    """What is to be written of endpoints. Leaves with all that are not there.

    What is drained of an object so far is read with the version that is written over, not taken from ``stored``: of
    two who drain endpoints of one object at once, neither may undo what the other has written.
    """
    from nodeport_nft.notation import each_once
    from nodeport_nft.store.objects import Damaged, parsed

    wanted = {ip.packed: ip for ip in asked.addresses}
    there: set[bytes] = set()
    names: set[str] = set()
    puts = []

    for ref, values in stored:
        held, until_now = _held_and_drained(values)
        if wanted.keys().isdisjoint({*held, *(ip.packed for ip in until_now)}):
            continue
        current = store.get(*ref)
        values_now = () if current is None else parsed(current)
        if current is None or isinstance(values_now, Damaged):  # since a moment ago
            continue
        held, until_now = _held_and_drained(values_now)
        there |= held & wanted.keys()
        is_drained = {ip.packed for ip in until_now}
        if drains:
            differing = [ip for packed, ip in wanted.items() if packed in held - is_drained]
            left = each_once([*until_now, *differing])
        else:
            differing = [ip for packed, ip in wanted.items() if packed in is_drained]
            there |= {ip.packed for ip in differing}
            left = tuple(ip for ip in until_now if ip.packed not in wanted)
        if differing:
            names |= {str(ip) for ip in differing}
            puts.append(_made(current.raw, ",".join(map(str, left))))
    if missing := [ip for packed, ip in wanted.items() if packed not in there]:
        fail(
            "\n".join(
                f"endpoint {ip} not found: no Pod, Endpoints or EndpointSlice has it; "
                "get endpoints --all-namespaces shows those that are used"
                for ip in missing
            )
        )
    return _Changed(tuple(puts), (), frozenset(names))


def _held_and_drained(values: Iterable[Value]) -> tuple[set[bytes], tuple[IPAddress, ...]]:
    """The addresses of an object, packed, and those of them that are drained."""
    from nodeport_nft.model import EndpointSlice, Pod
    from nodeport_nft.notation import each_once
    from nodeport_nft.resolve.whereabouts import addresses_of

    values = tuple(values)
    held = {packed for value in values for packed in addresses_of(value)}
    return held, each_once(ip for value in values if isinstance(value, Pod | EndpointSlice) for ip in value.drained)


def _made(raw: dict[str, Any], text: str) -> Object:
    """The object of a document, with this to say of what is drained."""
    from nodeport_nft.kube import parse_object
    from nodeport_nft.kube.annotations import DRAIN

    annotations = {**(raw["metadata"].get("annotations") or {}), DRAIN: text}
    raw = {**raw, "metadata": {**raw["metadata"], "annotations": annotations}}
    return parse_object(as_it_was_read(raw), ranges=None)


def _told(found: Sequence[Effect]) -> Iterable[str]:
    """What happens to connections, for people."""
    from nodeport_nft.resolve.absence.cause import listed, named

    for which, one, several in (
        (
            [(each.service, [ip for ip in each.drained if ip not in each.last]) for each in found],
            "now terminates: its connections live on, and new ones go to others",
            "now terminate: their connections live on, and new ones go to others",
        ),
        (
            [(each.service, each.back) for each in found],
            "gets new connections again",
            "get new connections again",
        ),
    ):
        count = len({ip.packed for _, ips in which for ip in ips})
        if count:
            whose = named("Service", [str(service) for service, ips in which if ips])
            yield f"{count:,} endpoint{'s' * (count != 1)} of {whose} {one if count == 1 else several}"
    last = [each for each in found if each.last]
    for each in last[:_MOST_LINES]:
        yield f"Service {each.service} has no others, and goes on with {listed([str(ip) for ip in each.last])}"
    if len(last) > _MOST_LINES:
        yield f"… and {len(last) - _MOST_LINES:,} more Services have no others"
