"""Whether what a store keeps beside its objects agrees with them: (objects, what is kept) → what is wrong.

A write keeps both in step, and one that is killed leaves none of itself behind. What is found here comes from
elsewhere: a hand with etcdctl or sqlite3, a restored part, a damaged disk, a defect.

Pure, and the same for every store. Mended is what is certain: the objects say what they hold, so claims and notes
follow from them. No object is changed or deleted. Where two have one number, clients, firewalls and load balancers
outside of our sight know it as that of either; which of them gives way is for a person to say. Nor is anything taken
from an object that cannot be read: what is kept for it is all that is known of what it holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from msgspec import Struct

from nodeport_nft.allocate import holdings
from nodeport_nft.kinds import reference
from nodeport_nft.kube import Object
from nodeport_nft.model import IPAddress, ObjectName, Ref, Service
from nodeport_nft.store.holders import claimed_from_outside
from nodeport_nft.store.objects import Damaged, parsed

Claim = int | IPAddress
"""A number of the nodePort range, or a clusterIP."""


class Outside(NamedTuple):
    """That a Service claims an address from outside (externalIPs, load-balancer addresses)."""

    ip: str
    name: ObjectName


class Note(NamedTuple):
    """Something that is noted of an object, and is nothing without it; ``what`` is the store's own word."""

    what: str
    ref: Ref


Item = Claim | Outside | Note


class Contents(Struct, frozen=True):
    """All that a store holds, of one moment.

    ``claims``: who holds what; None where that cannot be read. ``outside`` None: nobody notes it yet (a file of an
    earlier version). ``strange``: what is none of all this, each with what is said of it.
    """

    objects: tuple[Object | Damaged, ...]
    claims: Mapping[Claim, ObjectName | None]
    outside: frozenset[Outside] | None = frozenset()
    notes: frozenset[Note] = frozenset()
    strange: tuple[Finding, ...] = ()


class Repair(Struct, frozen=True):
    """What mends a finding: ``item`` is kept for ``holder``; None: it goes.

    It is right as long as the item is as it was found, and so are the objects of ``depends`` (there or not).
    """

    item: Item
    holder: ObjectName | None
    depends: tuple[Ref, ...]

    @property
    def verb(self) -> str:
        """What is done to it, in the third person."""
        return "deletes it" if self.holder is None else f"keeps it for Service/{self.holder}"

    @property
    def done(self) -> str:
        """What was done to it."""
        return "deleted" if self.holder is None else f"it is kept for Service/{self.holder} now"


class Finding(Struct, frozen=True):
    """One thing that is wrong: ``where`` (a key, a row, an object), and either a repair or what a person can do."""

    where: str
    wrong: str
    remedy: str = ""
    repair: Repair | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.wrong}; {f'--repair {self.repair.verb}' if self.repair else self.remedy}"

    @property
    def mended(self) -> str:
        """What is said of it once it is repaired."""
        return f"{self.where}: {self.wrong}; {self.repair.done if self.repair else self.remedy}"


class Checked(Struct, frozen=True):
    """What is wrong with a store; with a repair, what is still wrong, and what was ``mended``.

    ``about``: how those are who keep it, a line each. ``hints``: what is not wrong, and may be soon.
    """

    findings: tuple[Finding, ...]
    mended: tuple[Finding, ...] = ()
    about: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


class Words(Protocol):
    """How a store calls what it holds, so that it can be found with the store's own tools."""

    def item(self, item: Item) -> str:
        """A claim or a note."""

    def object(self, ref: Ref) -> str:
        """An object."""

    def removal(self, ref: Ref) -> str:
        """How a person gets rid of what is filed there and is no object that a command of ours can name."""


def findings(contents: Contents, words: Words) -> tuple[Finding, ...]:
    """All that is wrong: objects first, then claims, then notes; each of them in order."""
    view = View.of(contents)
    return (
        *(_unreadable(each, words) for each in contents.objects if isinstance(each, Damaged)),
        *(_unparsed(ref, each, words) for ref, each in view.unparsed.items()),
        *_doubles(contents, view, words),
        *_claims(contents, view, words),
        *_outside(contents, view, words),
        *_notes(contents, view, words),
        *contents.strange,
    )


class View(Struct, frozen=True):
    """The objects as claims see them.

    ``refs``: all that are there, or may be, in what cannot be read. ``hidden``: Services of which nothing else is
    known than that. ``wanted``: who says of itself that it has what, the oldest first.
    """

    refs: frozenset[Ref]
    services: Mapping[ObjectName, Service]
    unparsed: Mapping[Ref, Damaged]
    hidden: frozenset[ObjectName]
    wanted: Mapping[Claim, list[ObjectName]]

    @classmethod
    def of(cls, contents: Contents) -> View:
        services: dict[ObjectName, Service] = {}
        unparsed: dict[Ref, Damaged] = {}
        meant: set[Ref] = set()
        for each in contents.objects:
            if isinstance(each, Damaged):
                meant |= each.meant
                continue
            values = parsed(each)
            if isinstance(values, Damaged):
                unparsed[each.ref] = values
                meant.add(each.ref)
            else:
                services |= {value.key: value for value in values if isinstance(value, Service)}
        named = {ObjectName(ref.namespace, ref.name) for ref in meant if ref.kind == "Service"}
        wanted: dict[Claim, list[ObjectName]] = {}
        for service in sorted(services.values(), key=lambda one: (one.created, one.key)):
            held = holdings(service)
            for claim in (*held.node_ports, *held.cluster_ips):
                wanted.setdefault(claim, []).append(service.key)
        refs = meant.union(each.ref for each in contents.objects)
        return cls(frozenset(refs), services, unparsed, frozenset(named - services.keys()), wanted)

    def keeper(self, claim: Claim, holder: ObjectName | None) -> ObjectName | None:
        """Whose a claim is to be. Who has it from the store keeps it; else it is the oldest's who says so."""
        who = self.wanted.get(claim, [])
        if holder is not None and (holder in who or holder in self.hidden):
            return holder
        return next(iter(who), None)


def _unreadable(damaged: Damaged, words: Words) -> Finding:
    remedy = damaged.remedy or words.removal(damaged.ref)
    return Finding(words.object(damaged.ref), f"cannot be read: {damaged.why}", remedy)


def _unparsed(ref: Ref, damaged: Damaged, words: Words) -> Finding:
    return Finding(words.object(ref), f"cannot be read: {damaged.why}", damaged.remedy)


def _doubles(contents: Contents, view: View, words: Words) -> Iterator[Finding]:
    """Objects that have what is another one's."""
    told: dict[tuple[ObjectName, ObjectName], list[Claim]] = {}
    for claim in sorted(view.wanted, key=_order):
        keeper = view.keeper(claim, contents.claims.get(claim))
        for name in view.wanted[claim]:
            if keeper is not None and name != keeper:
                told.setdefault((name, keeper), []).append(claim)
    for (name, keeper), claims in sorted(told.items()):
        has = " and ".join(_called(claim, view.services[name]) for claim in claims)
        anew = f"delete {reference('Service', name.name)} -n {name.namespace}"
        yield Finding(
            words.object(_ref(name)),
            f"has {has} as Service/{keeper} has, which keeps {'it' if len(claims) == 1 else 'them'}",
            f"nodeport-nft {anew}, and apply it anew without {'it' if len(claims) == 1 else 'them'}",
        )


def _called(claim: Claim, service: Service) -> str:
    if not isinstance(claim, int):
        return f"clusterIP {claim}"
    is_health = claim == service.health_check_node_port
    return f"{'healthCheckNodePort' if is_health else 'nodePort'} {claim}"


def _claims(contents: Contents, view: View, words: Words) -> Iterator[Finding]:
    """Claims that are another one's than whose they should be."""
    for claim in sorted({*contents.claims, *view.wanted}, key=_order):
        holder, is_kept = contents.claims.get(claim), claim in contents.claims
        keeper = view.keeper(claim, holder)
        if is_kept and holder is not None and holder == keeper:
            continue
        where = words.item(claim)
        about = tuple(dict.fromkeys(_ref(name) for name in (holder, keeper) if name))
        if keeper is not None:
            was = (
                f"{_held_by(holder, view)}: Service/{keeper} has it"
                if is_kept
                else f"Service/{keeper} has it, but it was kept for nobody, and may be given twice"
            )
            yield Finding(where, was, repair=Repair(claim, keeper, about))
        elif holder is None and view.hidden:
            rest = ", ".join(f"Service/{name}" for name in sorted(view.hidden)[:3])
            yield Finding(where, _held_by(holder, view), f"it may be that of {rest}, which cannot be read: mend that")
        else:
            yield Finding(where, _held_by(holder, view), repair=Repair(claim, None, about))


def _held_by(holder: ObjectName | None, view: View) -> str:
    if holder is None:
        return "is kept for nobody knows whom, its value is damaged"
    why = "has it not" if holder in view.services else "is not there"
    return f"is kept for Service/{holder}, which {why}"


def _outside(contents: Contents, view: View, words: Words) -> Iterator[Finding]:
    if contents.outside is None:
        return
    wanted = {Outside(ip, each.key) for each in view.services.values() for ip in claimed_from_outside(each)}
    for each in sorted(wanted | contents.outside):
        about = (_ref(each.name),)
        if each not in contents.outside:
            text = f"Service/{each.name} claims it from outside, which is not noted: it may become a clusterIP"
            yield Finding(words.item(each), text, repair=Repair(each, each.name, about))
        elif each not in wanted and each.name not in view.hidden:
            why = "claims it not" if each.name in view.services else "is not there"
            text = f"is noted as claimed from outside by Service/{each.name}, which {why}"
            yield Finding(words.item(each), text, repair=Repair(each, None, about))


def _notes(contents: Contents, view: View, words: Words) -> Iterator[Finding]:
    for note in sorted(contents.notes):
        if note.ref not in view.refs:
            text = f"is left over of {note.ref}, which is not there"
            yield Finding(words.item(note), text, repair=Repair(note, None, (note.ref,)))


def _ref(name: ObjectName) -> Ref:
    return Ref("Service", name.namespace, name.name)


def _order(claim: Claim) -> tuple[int, int]:
    return (0, claim) if isinstance(claim, int) else (claim.version, int(claim))
