"""Our tables read from the kernel, and compared with their schema; no other table is looked at.

Anybody may have changed them, so nothing is taken for granted. Sets, chains and flowtables are compared with the
messages that would make them (``declarations``), rules with the instructions that they are assembled to. What is not
equal, or not known here, is a difference with a name, for which the table is replaced; it is never an error.

Not compared is what does no harm: how large a map may grow, in which words nft lists its key, a flowtable's devices,
which come and go with the links of the host, and numbers that the kernel gives.

The kernel asks for the table's name where rules, sets, flowtables and objects are dumped. Chains it tells of all
tables of a family.

Source: linux/netfilter/nf_tables.h; net/netfilter/nf_tables_api.c (nf_tables_fill_*_info).
"""

from __future__ import annotations

import errno
import re
import socket
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial

from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink import declarations as declared_as
from nodeport_nft.kernel.netlink import flowtables
from nodeport_nft.kernel.netlink.batch import FAMILIES
from nodeport_nft.kernel.netlink.disassembly import disassemble, matches
from nodeport_nft.kernel.netlink.dumps import TRIES, Interrupted, dump, forget, settled
from nodeport_nft.kernel.netlink.expressions import Instruction, Opaque, unpack
from nodeport_nft.kernel.netlink.layouts import NFNL_SUBSYS_NFTABLES, Layout, layout_of
from nodeport_nft.kernel.netlink.messages import ACK, BODY, DUMP, attribute, find, walk
from nodeport_nft.kernel.netlink.packed import OddElement, PackedElements
from nodeport_nft.kernel.netlink.reading import read_elements, read_memories, read_prefixes
from nodeport_nft.kernel.netlink.runs import LARGE, Run, draws_of, read_runs
from nodeport_nft.plan import ListedTable
from nodeport_nft.render import schema_comment
from nodeport_nft.ruleset import Chain, Element, Key, Map, Rule, Schema

_GETTABLE, _GETCHAIN, _GETRULE, _GETSET, _GETOBJ, _GETFLOWTABLE = (
    NFNL_SUBSYS_NFTABLES << 8 | kind for kind in (1, 4, 7, 10, 19, 23)
)
_NAME = {_GETCHAIN: 3, _GETSET: 2, _GETOBJ: 2, _GETFLOWTABLE: 2}  # NFTA_*_NAME
_TABLE_NAME, _TABLE_FLAGS, _TABLE_USERDATA = 1, 2, 6
_CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE, _CHAIN_FLAGS, _CHAIN_USERDATA = 4, 5, 7, 10, 12
_RULE_CHAIN, _RULE_EXPRESSIONS, _RULE_COMPATIBLE, _RULE_USERDATA = 2, 4, 5, 7
_SET_FLAGS, _SET_DATA_TYPE, _SET_DATA_LENGTH, _SET_DESCRIPTION, _SET_NUMBER, _SET_USERDATA = 3, 6, 7, 9, 10, 13
_SET_HANDLE, _SET_PAD, _SET_EXPRESSION, _SET_BACKEND, SET_COUNT = 16, 14, 17, 19, 20
_FLOWTABLE_HOOK, _FLOWTABLE_FLAGS, _HOOK_DEVICES = 3, 7, 3
_DESCRIPTION_FIELDS = 2  # NFTA_SET_DESC_CONCAT
_EXPR_NAME = 1
_USER_MERGE = 2  # NFTNL_UDATA_SET_MERGE_ELEMENTS
_VERDICT_TYPE = b"\xff\xff\xff\0"  # NFT_DATA_VERDICT
_ANONYMOUS = 0x1  # NFT_SET_ANONYMOUS
_BASE_CHAIN = 0x1  # NFT_CHAIN_BASE

_OWN_NAME = re.compile(r"[A-Za-z0-9_./-]{1,255}")
"""What a service's chain or set can be called; a table with any other is replaced."""

_TIMES_LOOKED = 2 * TRIES
"""How often a table is read: from some time on one that others' commits fell into will do."""

_OBJECTS = {1: "counter", 2: "quota", 3: "ct helper", 4: "limit", 6: "tunnel", 7: "ct timeout", 8: "secmark"}
_OBJECTS |= {9: "ct expectation", 10: "synproxy"}  # NFT_OBJECT_*
_OBJECT_TYPE = 3

Form = Mapping[object, object]
"""What matters of a set, chain or flowtable: equal for those that are alike."""


def read_table(netlink: socket.socket, schema: Schema) -> ListedTable | None:
    """What the kernel has of the table that ``schema`` is about; None if there is none. Raises KernelError."""
    whose = f"table {schema.family} {schema.name}"
    try:
        for tried in range(_TIMES_LOOKED):
            forget(netlink)
            try:
                return _Reading(netlink, schema, settled(netlink) if tried < TRIES else None).table()
            except Interrupted:
                pass
    except OSError as error:
        raise KernelError(f"{whose} cannot be read: nftables answers {error.strerror}") from error
    raise KernelError(f"{whose} cannot be read: it changes all the time; see who does that: nft monitor")


class _Reading:
    """One reading between two commits; ``begun`` as of ``dump``."""

    def __init__(self, netlink: socket.socket, schema: Schema, begun: bytes | None) -> None:
        self._netlink = netlink
        self._schema = schema
        self._begun = begun
        self._expected = _expected(schema)
        self._listed = ListedTable()
        self._counts: dict[str, int] = {}  # of elements, where the kernel tells them

    def table(self) -> ListedTable | None:
        """Raises Interrupted, KernelError, OSError."""
        ours = list(self._dumped(_GETTABLE, flags=ACK))
        if not ours:
            return None
        different = [*self._sets(), *self._chains(), *self._flowtables(), *self._elements()]
        for data in self._dumped(_GETOBJ):
            kind = _OBJECTS.get(_number(data, find(data, BODY, len(data), _OBJECT_TYPE)), "object")
            different.append(f"{kind} {_told(_text(data, _NAME[_GETOBJ]))}")
        if flags := _number(ours[0], find(ours[0], BODY, len(ours[0]), _TABLE_FLAGS)):
            different.append("dormant" if flags & 1 else f"the table's flags {flags:#x}")
        userdata = _userdata(ours[0], find(ours[0], BODY, len(ours[0]), _TABLE_USERDATA))
        if userdata.get(declared_as.TABLE_COMMENT) != schema_comment(self._schema).encode() + b"\0":
            different.append("the table's comment")
        self._listed.differences = tuple(different)
        return self._listed

    def _dumped(self, kind: int, *, flags: int = DUMP) -> Iterable[bytes]:
        """The messages about our table, or about what is in it."""
        naming = attribute(_TABLE_NAME, self._schema.name.encode() + b"\0")
        family = FAMILIES[self._schema.family]
        for data in dump(self._netlink, kind, family, naming, self._begun, flags=flags):
            if _text(data, _TABLE_NAME) == self._schema.name:
                yield data

    def _sets(self) -> Iterable[str]:
        """Reads the declarations of maps and sets; names those that differ."""
        wanted = self._expected.sets
        found: dict[str, Form] = {}
        for data in self._dumped(_GETSET):
            name, flags = _text(data, _NAME[_GETSET]), _number(data, find(data, BODY, len(data), _SET_FLAGS))
            if flags & _ANONYMOUS:
                continue  # of a rule, which is then none of ours
            if (counted := find(data, BODY, len(data), SET_COUNT))[0]:
                self._counts[name] = _number(data, counted)
            own = self._schema.own_map(name) if _OWN_NAME.fullmatch(name) else None
            if name in wanted:
                found[name] = _set_form(data)
            elif own is None:
                yield f"{'map' if flags & declared_as.SET_MAP else 'set'} {_told(name)}"
            elif _set_form(data) == self._expected.own_sets[name.partition("/")[0]]:
                self._listed.own_maps[name] = own
            else:
                yield f"set {name}"  # its type cannot be changed: the table has to be made anew
        yield from _unequal("map or set", found, wanted)

    def _chains(self) -> Iterable[str]:
        """Reads chains with their rules; names those that differ."""
        expected = self._expected
        found = {_text(data, _NAME[_GETCHAIN]): _chain_form(data) for data in self._dumped(_GETCHAIN)}
        rules: dict[str, list[tuple[Instruction | Opaque, ...]]] = defaultdict(list)
        for data in self._dumped(_GETRULE):
            rules[_text(data, _RULE_CHAIN)].append(_instructions(data))
        shared: dict[str, Form] = {}
        for name, form in found.items():
            if self._schema.is_own_chain(name) and _OWN_NAME.fullmatch(name):
                self._read_own_chain(name, form, rules[name])
            elif form == expected.chains.get(name) and _same_rules(
                self._schema.family, expected.rules[name], rules[name]
            ):
                shared[name] = form
            else:
                shared[name] = {}
        yield from _unequal("chain", shared, expected.chains)

    def _read_own_chain(
        self, name: str, form: Form, instructions: Iterable[tuple[Instruction | Opaque, ...]]
    ) -> None:
        comment = form["comment"]
        rules = [disassemble(self._schema.family, each) for each in instructions]
        readable = tuple(rule for rule in rules if rule is not None)
        if len(readable) < len(rules) or form != {"comment": comment}:
            self._listed.unreadable += (name,)
            readable = ()
        text = comment.rstrip(b"\0").decode(errors="replace") if isinstance(comment, bytes) else ""
        self._listed.own_chains[name] = Chain(name, readable, comment=text)

    def _flowtables(self) -> Iterable[str]:
        found = {
            _text(data, _NAME[_GETFLOWTABLE]): _flowtable_form(data, BODY) for data in self._dumped(_GETFLOWTABLE)
        }
        return _unequal("flowtable", found, self._expected.flowtables)

    def _elements(self) -> Iterable[str]:
        """Reads what maps and sets hold, of those that can be read; says of which that cannot be."""
        for declared in (*self._schema.maps, *self._listed.own_maps.values()):
            layout = layout_of(self._schema.family, declared.name)
            assert layout is not None, declared.name
            try:
                if self._counts.get(declared.name) == 0 and not declared.interval:  # of which it counts half
                    self._hold_nothing(declared)
                elif declared.learned:
                    self._listed.memories[declared.name] = read_memories(self._netlink, layout)
                elif declared.interval:
                    self._listed.elements[declared.name] = read_prefixes(self._netlink, layout)
                else:
                    self._listed.elements[declared.name] = self._slots(layout) or read_elements(self._netlink, layout)
            except OddElement as error:
                yield f"map {declared.name} holds an unknown element: {error}"

    def _hold_nothing(self, declared: Map) -> None:
        if declared.learned:
            self._listed.memories[declared.name] = ()
        else:
            self._listed.elements[declared.name] = {}

    def _slots(self, layout: Layout) -> Mapping[Key, Element] | None:
        """What a large slot map holds, by its keys; None where that is not known to be all."""
        count = self._counts.get(layout.name, 0)
        if not layout.has_slots or count < LARGE:
            return None
        draws = draws_of((*self._schema.chains, *self._listed.own_chains.values()))
        size = layout.key.size - 4  # without the slot
        runs: dict[tuple[bytes, int], int] = {}
        for held in self._listed.elements.values():
            for key, chain in held.verdicts() if isinstance(held, PackedElements) and held.is_of_verdicts else ():
                for (name, first), slots in draws.get(chain, {}).items():
                    if name == layout.name and len(key) == size:
                        runs[key, first] = max(slots, runs.get((key, first), 0))
        try:
            packed = read_runs(self._netlink, layout, (Run(*which, slots) for which, slots in runs.items()))
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            forget(self._netlink)  # the host lets sockets hold very little (net.core.rmem_default): a dump waits
            return None
        if self._begun is not None and settled(self._netlink) != self._begun:
            raise Interrupted
        return PackedElements(layout, packed) if len(packed) == count else None


# --- what a schema leads to -------------------------------------------------------------------------------


class _Expected:
    """The forms and rules of all that is the same whatever the services, and the forms of sets that they add."""

    def __init__(self, schema: Schema) -> None:
        self.sets = {declared.name: _made_set(schema, declared) for declared in schema.maps}
        self.own_sets = {pattern.name: _made_set(schema, pattern) for pattern in schema.own_maps}
        self.chains: dict[str, Form] = {}
        self.rules: dict[str, tuple[Rule, ...]] = {}
        for chain in schema.chains:
            made = declared_as.new_chain(schema.family, schema.name, chain)
            self.chains[chain.name] = _chain_form(bytes(BODY) + made.attributes)
            self.rules[chain.name] = chain.rules
        self.flowtables: dict[str, Form] = {}
        if schema.flowtable:
            flowtable = flowtables.new(schema.family, schema.name, schema.flowtable)
            self.flowtables[schema.flowtable] = _flowtable_form(flowtable.attributes, 0)


@lru_cache(maxsize=4)  # as that of schema_comment
def _expected(schema: Schema) -> _Expected:
    return _Expected(schema)


def _made_set(schema: Schema, declared: Map) -> Form:
    return _set_form(bytes(BODY) + declared_as.new_set(schema.family, schema.name, declared).attributes)


def _same_rules(
    family: str,
    wanted: Sequence[Rule],
    found: Sequence[tuple[Instruction | Opaque, ...]],
) -> bool:
    return len(wanted) == len(found) and all(map(partial(matches, family), wanted, found))


def _unequal(kind: str, found: Mapping[str, Form], wanted: Mapping[str, Form]) -> Iterable[str]:
    return [f"{kind} {_told(name)}" for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]


def _told(name: str) -> str:
    """A name as people are told it: anybody may give a set or a chain any name."""
    return name if name.isprintable() else ascii(name)


# --- what matters of a message ----------------------------------------------------------------------------

# Numbers of the kernel's or of one transaction, and what is compared in another form.
_UNCOMPARED = {_TABLE_NAME, _NAME[_GETSET], _SET_DESCRIPTION, _SET_NUMBER, _SET_USERDATA}
_UNCOMPARED |= {_SET_HANDLE, _SET_PAD, _SET_EXPRESSION, _SET_BACKEND, SET_COUNT}


def _set_form(data: bytes) -> Form:
    """Of a map or set: all but its size, and how nft spells its key."""
    parts = {kind: (start, end) for kind, start, end in walk(data, BODY, len(data))}
    form: dict[object, object] = {k: data[slice(*span)] for k, span in parts.items() if k not in _UNCOMPARED}
    form.setdefault(_SET_FLAGS, bytes(4))
    if form.get(_SET_DATA_TYPE) == _VERDICT_TYPE:
        form.pop(_SET_DATA_LENGTH, None)  # the kernel's own
    userdata = _userdata(data, parts.get(_SET_USERDATA, (0, 0)))
    return form | {
        "fields": data[slice(*find(data, *parts.get(_SET_DESCRIPTION, (0, 0)), _DESCRIPTION_FIELDS))],
        "expression": data[slice(*find(data, *parts.get(_SET_EXPRESSION, (0, 0)), _EXPR_NAME))],
        "comment": userdata.get(declared_as.SET_COMMENT),
        "auto-merge": userdata.get(_USER_MERGE),
    }


def _chain_form(data: bytes) -> Form:
    """Of a chain without its rules: its comment; of a base chain where it hangs, too."""
    parts = {kind: (start, end) for kind, start, end in walk(data, BODY, len(data))}
    userdata = _userdata(data, parts.get(_CHAIN_USERDATA, (0, 0)))
    form: dict[object, object] = {"comment": userdata.get(declared_as.CHAIN_COMMENT)}
    if _CHAIN_HOOK in parts:
        form["hook"] = {kind: data[start:end] for kind, start, end in walk(data, *parts[_CHAIN_HOOK])}
        form |= {kind: data[slice(*parts.get(kind, (0, 0)))] for kind in (_CHAIN_POLICY, _CHAIN_TYPE)}
    if flags := _number(data, parts.get(_CHAIN_FLAGS, (0, 0))) & ~_BASE_CHAIN:
        form["flags"] = flags
    return form


def _instructions(data: bytes) -> tuple[Instruction | Opaque, ...]:
    """A rule's; with what nft or others have noted beside it, such as a comment, it is none of ours."""
    parts = {kind: (start, end) for kind, start, end in walk(data, BODY, len(data))}
    noted = (Opaque("", data[slice(*parts[kind])]) for kind in (_RULE_COMPATIBLE, _RULE_USERDATA) if kind in parts)
    return *unpack(data[slice(*parts.get(_RULE_EXPRESSIONS, (0, 0)))]), *noted


def _flowtable_form(data: bytes, start: int) -> Form:
    hook = find(data, start, len(data), _FLOWTABLE_HOOK)
    form: dict[object, object] = {k: data[a:b] for k, a, b in walk(data, *hook) if k != _HOOK_DEVICES}
    return form | {"flags": _number(data, find(data, start, len(data), _FLOWTABLE_FLAGS))}


def _userdata(data: bytes, span: tuple[int, int]) -> dict[int, bytes]:
    """What nft has noted beside an object: each has a type and a length of a byte."""
    at, end = span
    found: dict[int, bytes] = {}
    while at + 2 <= end:
        found[data[at]] = data[at + 2 : min(at + 2 + data[at + 1], end)]
        at += 2 + data[at + 1]
    return found


def _number(data: bytes, span: tuple[int, int]) -> int:
    return int.from_bytes(data[slice(*span)], "big")


def _text(data: bytes, kind: int) -> str:
    return data[slice(*find(data, BODY, len(data), kind))].rstrip(b"\0").decode(errors="replace")
