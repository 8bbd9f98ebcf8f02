"""Sums of connections per Service (X3), over transactions and scrapes in any order; the kernel is a dictionary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from threading import Thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from nodeport_nft.compile import TABLE, compile_schema
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink.counters import ChangingError
from nodeport_nft.model import Family
from nodeport_nft.observe.connections import COUNTED, Connections, Name, Wanted
from nodeport_nft.plan import Add, Delete, Desired, Operation, Replace, Transaction, plan_edits
from nodeport_nft.ruleset import Contender, Element, Goto, Key, Pool, Table
from tests.builders import FACTS

SCHEMA = compile_schema(Family.IPV4, FACTS)
VERDICT = Goto("refuse")
MAP = "service-ips"
WEB, API, DB = ("default", "web"), ("default", "api"), ("prod", "db")
Place = tuple[str, Key]


def key(port: int) -> Key:
    return "10.96.0.10", "tcp", port


class Lab:
    """A kernel with counters, a desired state, and the sums between the two."""

    def __init__(self, limit: int = 1000) -> None:
        self.kernel: dict[Place, int] = {}
        self.reads: list[tuple[Family, dict[str, list[Key] | None]]] = []
        self.refuses: Exception | None = None
        self.applying = False
        self.meanwhile: Callable[[], object] | None = None  # what happens right after a scrape has read the maps
        self.first: Callable[[], object] | None = None  # what happens right before that
        self.owners: dict[Place, Name] = {}
        self.connections = Connections(self.read, lambda _, name, key: self.owners.get((name, key)), limit)

    def read(self, family: Family, wanted: Wanted) -> Mapping[str, Mapping[Key, int]]:
        self.reads.append((family, {name: None if keys is None else sorted(keys) for name, keys in wanted.items()}))
        if self.refuses and None in wanted.values():
            raise self.refuses
        scraping = None in wanted.values() and not self.applying
        if self.first and scraping:
            happens, self.first = self.first, None
            happens()
        found: dict[str, dict[Key, int]] = {name: {} for name in wanted}
        for (name, place), count in self.kernel.items():
            keys = wanted.get(name, ())
            if family is Family.IPV4 and (keys is None or place in keys):
                found[name][place] = count
        if self.meanwhile and scraping:
            happens, self.meanwhile = self.meanwhile, None
            happens()
        return found

    def transaction(self, owners: Mapping[Place, Name | None], whole: bool = False) -> tuple[Transaction, ...]:
        """Give keys to Services, None: to nobody; what carries that out."""
        operations: list[Operation] = []
        for (name, place), owner in owners.items():
            if (name, place) in self.owners:
                operations.append(Delete(name, (place,)))
            if owner is not None:
                operations.append(Add(name, (Element(place, VERDICT),)))
        self.owners = {place: owner for place, owner in {**self.owners, **owners}.items() if owner is not None}
        if whole:
            elements: dict[str, dict[Key, Element]] = {}
            for name, place in self.owners:
                elements.setdefault(name, {})[place] = Element(place, VERDICT)
            operations = [Replace(Table(SCHEMA, elements))]
        return (Transaction("ip", TABLE, tuple(operations)),)

    def commit(self, transactions: Iterable[Transaction]) -> None:
        for operation in (operation for transaction in transactions for operation in transaction.operations):
            match operation:
                case Delete(map=name, keys=keys):
                    for place in keys:
                        del self.kernel[name, place]
                case Add(map=name, elements=elements):
                    self.kernel |= {(name, element.key): 0 for element in elements}
                case Replace(table=table):
                    self.kernel = {(name, place): 0 for name, held in table.elements.items() for place in held}

    def apply(self, owners: Mapping[Place, Name | None], whole: bool = False) -> None:
        transactions = self.transaction(owners, whole)
        self.connections.before(transactions)
        self.commit(transactions)
        self.connections.committed()

    def give(self, *ports: int, to: Name | None = WEB) -> None:
        self.apply({(MAP, key(port)): to for port in ports})

    def connect(self, port: int, times: int, name: str = MAP) -> None:
        self.kernel[name, key(port)] += times

    def scrape(self) -> dict[Name, int]:
        (metric,) = self.connections.collect()
        names = [(sample.labels["namespace"], sample.labels["service"]) for sample in metric.samples]
        assert len(names) == len(set(names))
        return dict(zip(names, (int(sample.value) for sample in metric.samples), strict=True))


@pytest.mark.proves("X3")
def test_the_exposition_names_namespace_and_service() -> None:
    lab = Lab()
    lab.give(80)
    lab.connect(80, 3)
    registry = CollectorRegistry()
    registry.register(lab.connections)
    assert not [keys for _, wanted in lab.reads for keys in wanted.values() if keys is None], "registering read"
    line = 'nodeport_nft_service_connections_total{namespace="default",service="web"} 3.0'
    assert line in generate_latest(registry).decode().splitlines()


@pytest.mark.proves("X3")
@pytest.mark.parametrize("whole", [False, True])
def test_a_replaced_element_keeps_its_sum(whole: bool) -> None:
    lab = Lab()
    lab.apply({(name, key(80)): WEB for name in COUNTED})
    for n in range(1, 4):
        for name in COUNTED:
            lab.connect(80, 10, name)
        lab.apply({(name, key(80)): WEB for name in COUNTED}, whole)
        assert lab.scrape() == {WEB: 40 * n}


@pytest.mark.proves("X3")
def test_it_reads_what_is_deleted_and_nothing_else() -> None:
    lab = Lab()
    lab.give(80, 81)
    assert lab.reads == [], "nothing is deleted"
    lab.give(80)
    lab.connections.before((Transaction("ip", TABLE, (Delete("service-endpoints", ((*key(80), 0),)),)),))
    lab.connections.before((Transaction("ip", TABLE, (Delete("firewall-ips", (key(80),)),)),))
    assert lab.reads == [(Family.IPV4, {MAP: [key(80)]})]


@pytest.mark.proves("X3")
def test_a_refused_transaction_changes_nothing() -> None:
    lab = Lab()
    lab.give(80)
    lab.connect(80, 5)
    for _ in range(3):
        lab.connections.before((Transaction("ip", TABLE, (Delete(MAP, (key(80),)),)),))
        assert lab.scrape() == {WEB: 5}
        lab.connections.refused()
        assert lab.scrape() == {WEB: 5}
    lab.connect(80, 1)
    assert lab.scrape() == {WEB: 6}


@pytest.mark.proves("X3")
def test_a_scrape_between_reading_and_committing_sees_no_reset_and_nothing_twice() -> None:
    lab = Lab()
    lab.give(80)
    lab.connect(80, 5)
    steps = lab.transaction({(MAP, key(80)): WEB})

    def finish() -> None:
        lab.commit(steps)
        lab.connections.committed()

    lab.connections.before(steps)
    assert lab.scrape() == {WEB: 5}
    lab.meanwhile = finish  # read before the commit, summed after it
    assert lab.scrape() == {WEB: 5}
    lab.connect(80, 1)
    assert lab.scrape() == {WEB: 6}


@pytest.mark.proves("X3")
def test_a_frontend_that_goes_leaves_its_count_to_the_service_that_stays() -> None:
    lab = Lab()
    lab.give(80, 81)
    lab.connect(80, 100)
    lab.connect(81, 10)
    assert lab.scrape() == {WEB: 110}
    lab.give(80, to=None)
    lab.connect(81, 1)
    assert lab.scrape() == {WEB: 111}
    lab.apply({(MAP, key(81)): None, (MAP, key(82)): WEB})  # all its frontends are others
    lab.connect(82, 1)
    assert lab.scrape() == {WEB: 112}


@pytest.mark.proves("X3")
def test_a_frontend_begins_at_0_with_the_service_it_passes_to() -> None:
    lab = Lab()
    lab.give(80, 81)
    lab.give(82, to=API)
    lab.connect(80, 100)
    lab.give(80, to=API)
    lab.connect(80, 1)
    assert lab.scrape() == {WEB: 100, API: 1}
    lab.give(80, 81, 82, to=DB)
    assert lab.scrape() == {DB: 0}


@pytest.mark.proves("X3")
def test_what_a_deleted_service_had_is_forgotten() -> None:
    lab = Lab()
    lab.give(80)
    lab.connect(80, 100)
    lab.give(80)
    assert lab.scrape() == {WEB: 100}
    lab.give(80, to=None)
    assert lab.scrape() == {}
    lab.give(80)
    lab.connect(80, 1)
    assert lab.scrape() == {WEB: 1}


@pytest.mark.proves("X3")
def test_memory_is_bounded_by_the_keys_that_exist() -> None:
    lab = Lab()
    for port in range(1, 500):
        lab.give(port, to=("default", f"s{port}"))
        lab.connect(port, port)
        lab.apply({(MAP, key(port)): ("default", f"s{port}")})
        lab.scrape()
        lab.give(port, to=None)
    connections = lab.connections
    states = connections._maps.values()
    assert not any(state.owners or state.kept or state.moves or state.noted for state in states)
    assert not connections._services


@pytest.mark.proves("X3")
def test_elements_that_were_there_before_us_count_for_their_owner() -> None:
    lab = Lab()
    lab.owners = {(MAP, key(80)): WEB}
    lab.kernel = {(MAP, key(80)): 7, (MAP, key(81)): 9}  # and one that nobody wants
    assert lab.scrape() == {WEB: 7}
    lab.give(80)
    assert lab.scrape() == {WEB: 7}
    lab.give(80, to=API)
    assert lab.scrape() == {API: 0}


@pytest.mark.proves("X3")
@pytest.mark.parametrize("whole", [False, True])
def test_they_are_counted_too_where_they_are_replaced_before_any_scrape(whole: bool) -> None:
    lab = Lab()
    lab.owners = {(MAP, key(80)): WEB}
    lab.kernel = {(MAP, key(80)): 7}
    lab.apply({(MAP, key(80)): WEB}, whole)
    lab.connect(80, 1)
    assert lab.scrape() == {WEB: 8}


@pytest.mark.proves("X3")
def test_at_most_so_many_services_have_a_series_and_no_series_falls() -> None:
    lab = Lab(limit=2)
    names = [("default", f"s{port}") for port in range(5)]
    for port, name in enumerate(names):
        lab.give(port, to=name)
        lab.connect(port, port)
    assert lab.scrape() == {names[4]: 4, names[3]: 3, ("", ""): 0 + 1 + 2}
    lab.connect(0, 10)
    lab.connect(1, 1)
    # s3 is now one of the rest, whose new connections alone it has to count; s0 is none any more.
    assert lab.scrape() == {names[0]: 10, names[4]: 4, ("", ""): 3 + 1}
    lab.connect(3, 1)
    lab.give(2, to=None)
    # And s3, with 4 like s4, comes second by its name.
    assert lab.scrape() == {names[0]: 10, names[4]: 4, ("", ""): 3 + 1 + 1}


@pytest.mark.proves("X3")
@pytest.mark.parametrize("repair", ["whole", "element"])
def test_counts_that_somebody_else_deleted_are_not_taken_back(repair: str) -> None:
    lab = Lab()
    lab.give(80)
    lab.connect(80, 100)
    assert lab.scrape() == {WEB: 100}
    lab.kernel.clear()
    assert lab.scrape() == {WEB: 100}
    lab.owners.clear()  # so that the repair adds without deleting
    lab.apply({(MAP, key(80)): WEB}, repair == "whole")
    lab.connect(80, 1)
    assert lab.scrape() == {WEB: 101}


@pytest.mark.proves("X3")
def test_a_kernel_that_does_not_answer_is_no_reset_and_stops_no_transaction() -> None:
    lab = Lab()
    lab.give(80)
    lab.connect(80, 5)
    assert lab.scrape() == {WEB: 5}
    lab.refuses = KernelError("nftables answers that it will not")
    assert lab.scrape() == {WEB: 5}
    assert lab.connections.error == "nftables answers that it will not"
    lab.apply({}, whole=True)
    lab.connect(80, 1)
    lab.refuses = None
    assert lab.scrape()[WEB] >= 5
    assert lab.connections.error == ""


@pytest.mark.proves("X3")
def test_maps_that_never_stand_still_are_read_key_by_key() -> None:
    lab = Lab()
    lab.give(80)
    lab.connect(80, 5)
    lab.refuses = ChangingError("nftables was changed all the time")
    assert lab.scrape() == {WEB: 5}
    assert lab.connections.error == ""


@pytest.mark.proves("X3")
def test_scrapes_in_other_threads_at_the_same_time() -> None:
    lab = Lab()
    lab.give(80)
    said: list[list[int]] = [[], []]
    done: list[bool] = []

    def scrape(mine: list[int]) -> None:
        while not done:
            mine.append(lab.scrape()[WEB])

    threads = [Thread(target=scrape, args=(mine,)) for mine in said]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2000):
            lab.connect(80, 1)
            lab.give(80)
    finally:
        done.append(True)
        for thread in threads:
            thread.join()
    assert all(mine == sorted(mine) for mine in said)
    assert lab.scrape() == {WEB: 2000}


# --- any order --------------------------------------------------------------------------------------------

PLACES = [(name, key(port)) for name in (MAP, "short-circuit-ips") for port in (80, 81)]
CHANGES = st.dictionaries(st.sampled_from(PLACES), st.sampled_from([WEB, API, DB, None]), max_size=4)
STEPS = st.one_of(
    st.tuples(st.just("connect"), st.sampled_from(PLACES), st.integers(1, 9)),
    st.tuples(st.just("change"), CHANGES, st.sampled_from(["", "", "whole", "refused"])),
    st.tuples(st.just("advance"), st.integers(1, 8)),
    st.tuples(st.just("scrape"), st.integers(0, 9), st.integers(0, 9)),
)


class Course:
    """One change after the other, phase by phase, with scrapes at any point; beside them what is true."""

    def __init__(self) -> None:
        self.lab = Lab()
        self.phases: list[Callable[[], None]] = []
        self.true: Counter[Name] = Counter()
        self.in_force: dict[Place, Name] = {}
        self.reading = False
        self.waiting: list[tuple[dict[Place, Name | None], str]] = []
        self.said: dict[Name, int] = {}
        self.gone: set[Name] = set()

    def connect(self, place: Place, times: int) -> None:
        if place in self.lab.kernel and not self.reading:
            self.lab.kernel[place] += times
            self.true[self.in_force[place]] += times

    def advance(self, phases: int) -> None:
        for _ in range(phases):
            if not self.phases and self.waiting:
                self.start(*self.waiting.pop(0))
            if self.phases:
                self.phases.pop(0)()

    def start(self, owners: dict[Place, Name | None], how: str) -> None:
        whole, refused = how == "whole", how == "refused"
        before = dict(self.lab.owners)
        steps: list[tuple[Transaction, ...]] = []

        def begin() -> None:
            self.reading = self.lab.applying = True
            self.lab.connections.before(steps[0])
            self.lab.applying = False

        def end() -> None:
            if refused:
                self.lab.owners = before
                self.lab.connections.refused()
            else:
                self.lab.connections.committed()
                self.in_force = dict(self.lab.owners)
                for name in {WEB, API, DB} - set(self.in_force.values()):
                    self.gone.add(name)
                    del self.true[name]  # of a Counter, whether it is there or not
                    self.said.pop(name, None)
            self.reading = False

        self.phases = [
            lambda: steps.append(self.lab.transaction(owners, whole)),
            begin,
            lambda: None if refused else self.lab.commit(steps[0]),
            end,
        ]

    def scrape(self, before: int = 0, after: int = 0) -> None:
        """Scrape, with so many phases before and after it reads; nothing falls, and nothing is more than it is."""
        most = self.true.copy()
        self.gone.clear()
        self.lab.first = lambda: self.advance(before)
        self.lab.meanwhile = lambda: self.advance(after)
        found = self.lab.scrape()
        for name, count in found.items():
            assert self.said.get(name, 0) <= count <= max(most[name], self.true[name])
        self.said = {name: count for name, count in found.items() if name not in self.gone}


@pytest.mark.proves("X3")
@settings(max_examples=500)
@given(st.lists(STEPS, min_size=10, max_size=60))
def test_sums_never_fall_and_are_exact_in_the_end(steps: list[tuple[Any, ...]]) -> None:
    course = Course()
    course.start(dict.fromkeys(PLACES[:3], WEB), "whole")
    course.advance(4)
    for what, *arguments in steps:
        if what == "change":
            course.waiting.append((arguments[0], arguments[1]))
        else:
            getattr(course, what)(*arguments)
    while course.waiting or course.phases:
        course.advance(1)
    course.scrape()
    assert course.said == {name: course.true[name] for name in course.in_force.values()}


# --- who has a key ----------------------------------------------------------------------------------------


def contender(created: str, name: str, *maps: str) -> Contender:
    return Contender((created, "default", name), (tuple(Pool(m, key(80), VERDICT, "", (), "") for m in maps),))


@pytest.mark.proves("X3")
def test_the_holder_of_a_key_in_any_map_of_its_frontend() -> None:
    desired = Desired()
    inside = "short-circuit-ips"
    assert desired.holder(MAP, key(80)) is None
    desired.update(API, contender("2", "api", MAP))
    assert (desired.holder(MAP, key(80)), desired.holder(inside, key(80))) == (API, None)
    desired.update(WEB, contender("1", "web", MAP, inside))
    assert (desired.holder(MAP, key(80)), desired.holder(inside, key(80))) == (WEB, WEB)
    assert desired.holder(MAP, key(81)) is None
    desired.update(WEB, None)
    assert (desired.holder(MAP, key(80)), desired.holder(inside, key(80))) == (API, None)
    desired.update(API, None)
    assert desired.holder(MAP, key(80)) is None
    assert plan_edits(SCHEMA, desired.take_edits()) == ()
