"""``--connect``: a TCP connection from here to each nodePort on each node, and to each clusterIP.

What should come of it is worked out as each node's tables do: a Service without an endpoint refuses, and one of
policy Local drops on a node that has none. So what answers as it should is well, whatever the answer is.

Behind a connection that does not answer as it should, the endpoints themselves are asked: where one does not answer
either, that is the cause, and it is told once, whatever the number of connections that lead there.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from itertools import chain, islice

from msgspec import Struct

from nodeport_nft.doctor.examination import Examination
from nodeport_nft.doctor.finding import Check, Finding, failed, ok, skipped
from nodeport_nft.interrupts import run
from nodeport_nft.model import ZONE_LABEL, IPAddress, Protocol, Service
from nodeport_nft.notation import socket_address
from nodeport_nft.resolve import Claimable, Frontend, FrontendKind, Resolver

_SECONDS = 3.0  # until a connection is given up: a lost SYN is sent again after one
_AT_ONCE = 64
_MOST = 4096  # connections in all: some minutes, where none of them is answered
_TOLD = 100  # connections that are told one by one
_ASKED = 8  # endpoints that are asked themselves behind one connection that fails
_NAMED = 3  # connections that one finding names


class Outcome(enum.StrEnum):
    """What came of a connection."""

    ANSWERED = "answered"
    REFUSED = "refused"
    TIMED_OUT = "timed out"
    UNREACHABLE = "unreachable"


_NO_ANSWER = frozenset(Outcome) - {Outcome.ANSWERED}


class Trial(Struct, frozen=True):
    """A connection to try: ``what`` it is for people, what ``should`` come of it, to which ``endpoints`` it leads."""

    service: Service
    what: str
    address: IPAddress
    port: int
    should: Outcome
    endpoints: tuple[tuple[IPAddress, int], ...]

    @property
    def place(self) -> str:
        """Where it goes."""
        return socket_address(self.address, self.port)


def _connections(examination: Examination) -> Iterator[Finding]:
    # One by one: thousands of nodes and Services make millions of them, of which only the first are tried.
    every = _each_once(chain(_cluster_ips(examination), _node_ports(examination)))
    first = list(islice(every, _MOST))
    has_more = next(every, None) is not None
    trials = [trial for trial in first if trial.should is not Outcome.TIMED_OUT]
    others = sum(
        port.protocol is not Protocol.TCP
        for service in examination.state.index.services.values()
        for port in service.ports
    )
    if not first:
        yield skipped("no Service has a TCP port on a clusterIP or a nodePort")
    results = run(_all_of_them(trials)) if trials else []
    wrong = [each for each in results if each[1] is not each[0].should]
    yield from _endpoints_that_fail(blamed := _blamed(trial for trial, outcome, _ in wrong if outcome in _NO_ANSWER))
    explained = {id(trial) for trials_there in blamed.values() for trial in trials_there}
    bad = [each for each in wrong if id(each[0]) not in explained]
    for trial, outcome, _ in bad[:_TOLD]:
        yield _finding(trial, outcome)
    if len(bad) > _TOLD:
        yield failed(f"{len(bad) - _TOLD:,} more of these", "see above", "nodeport-nft doctor --connect -o json")
    good = [each for each in results if each[1] is each[0].should]
    if len(results) <= _TOLD:
        for trial, outcome, seconds in good:
            why = "" if outcome is Outcome.ANSWERED else ", as it should"
            yield ok(f"{trial.place} {outcome.value} in {seconds * 1000:.3g} ms{why} ({trial.what})")
    elif good:
        counts = Counter(outcome.value for _, outcome, _ in good)
        yield ok(", ".join(f"{count:,} {what}" for what, count in counts.items()) + ", as they should")
    if silent := len(first) - len(trials):
        yield skipped(
            f"{silent:,} connection{'s' * (silent != 1)} that nobody should answer, as policy Local has it on nodes "
            f"without an endpoint; each would take {_SECONDS:g} s"
        )
    if has_more:
        yield skipped(f"all connections beyond {_MOST:,}; trace says of each what would become of it")
    if others:
        yield skipped(
            f"{others:,} port{'s' * (others != 1)} of UDP and SCTP, which do not say whether anybody is there"
        )


def _cluster_ips(examination: Examination) -> Iterator[Trial]:
    """Those of all Services, as this node's own processes reach them."""
    resolver = examination.state.resolver
    for service in examination.state.index.services.values():
        for frontend in resolver.resolved(service).frontends:
            if frontend.kind is FrontendKind.CLUSTER_IP and frontend.protocol is Protocol.TCP:
                assert frontend.address is not None  # a nodePort alone has none
                what = f"{service.key}, clusterIP"
                yield _trial(service, what, frontend.address, frontend, is_own=False)


def _node_ports(examination: Examination) -> Iterator[Trial]:
    """Those of all Services on each node, at the address by which it is known."""
    state = examination.state
    own = state.facts.node_port_ips or state.facts.addresses
    places: dict[str, tuple[str, tuple[IPAddress, ...]]] = {state.facts.name: (state.facts.zone, own)}
    for node in examination.nodes:
        if node.name != state.facts.name:
            places[node.name] = node.labels.get(ZONE_LABEL, ""), node.internal_ips
    for each in examination.registered:  # a node of etcd needs no object
        known = tuple(ip_address(text) for text in each.report.addresses)
        places.setdefault(each.name, (dict(each.report.labels).get(ZONE_LABEL, ""), known))
    for name, (zone, addresses) in sorted(places.items()):
        is_own = name == state.facts.name
        resolver = state.resolver if is_own else Resolver(state.index, name, zone, Claimable.of(state.facts))
        for service in state.index.services.values():
            if not any(port.node_port for port in service.ports):
                continue
            for frontend in resolver.resolved(service).frontends:
                address = next((each for each in addresses if each.version == frontend.family), None)
                if frontend.kind is FrontendKind.NODE_PORT and frontend.protocol is Protocol.TCP and address:
                    what = f"{service.key}, nodePort of {name}"
                    yield _trial(service, what, address, frontend, is_own=is_own)


def _trial(service: Service, what: str, address: IPAddress, frontend: Frontend, *, is_own: bool) -> Trial:
    endpoints = tuple((each.address, each.port) for each in frontend.backends)
    return Trial(service, what, address, frontend.port, _should(frontend, is_own=is_own), endpoints)


def _should(frontend: Frontend, *, is_own: bool) -> Outcome:
    """What comes of it where all is well; ``is_own``: a nodePort of this node, which offers it all endpoints (P2)."""
    if not frontend.backends:
        return Outcome.REFUSED
    if frontend.local_backends == () and not frontend.prefer_local and not is_own:
        return Outcome.TIMED_OUT
    return Outcome.ANSWERED


def _each_once(trials: Iterable[Trial]) -> Iterator[Trial]:
    """Each place once."""
    known: set[tuple[IPAddress, int]] = set()
    for trial in trials:
        if (trial.address, trial.port) not in known:
            known.add((trial.address, trial.port))
            yield trial


def _blamed(trials: Iterable[Trial]) -> dict[tuple[IPAddress, int, Outcome], list[Trial]]:
    """The endpoints of these connections that do not answer when they are asked themselves, and how."""
    behind: dict[tuple[IPAddress, int], list[Trial]] = defaultdict(list)
    for trial in trials:
        for endpoint in trial.endpoints[:_ASKED]:
            behind[endpoint].append(trial)
    asked = dict(islice(behind.items(), _MOST))
    outcomes = run(_outcomes(asked)) if asked else []
    return {
        (*endpoint, outcome): asked[endpoint]
        for endpoint, (outcome, _) in zip(asked, outcomes, strict=True)
        if outcome is not Outcome.ANSWERED
    }


def _endpoints_that_fail(blamed: Mapping[tuple[IPAddress, int, Outcome], list[Trial]]) -> Iterator[Finding]:
    for (address, port, outcome), trials in islice(blamed.items(), _TOLD):
        place = socket_address(address, port)
        services = ", ".join(dict.fromkeys(str(trial.service.key) for trial in trials[:_NAMED]))
        whence = ", ".join(dict.fromkeys(trial.place for trial in trials[:_NAMED]))
        more = f" and {len(trials) - _NAMED} more" if len(trials) > _NAMED else ""
        seen = f"endpoint {place} of {services} {outcome.value} itself (so no answer from {whence}{more})"
        if outcome is Outcome.REFUSED:
            means = "nothing listens there"
            remedy = f"correct the targetPort of service {services}, or start the server on port {port}"
        else:
            means = "packets to the pod or back are lost: it is gone, or a route or a firewall is in the way"
            remedy = f"see whether the pod runs, and `ip route get {address}` here and on its node"
        yield failed(seen, means, remedy)
    if len(blamed) > _TOLD:
        yield failed(f"{len(blamed) - _TOLD:,} more endpoints", "see above", "mend those above, and look again")


async def _all_of_them(trials: Iterable[Trial]) -> list[tuple[Trial, Outcome, float]]:
    trials = tuple(trials)
    found = await _outcomes((trial.address, trial.port) for trial in trials)
    return [(trial, *each) for trial, each in zip(trials, found, strict=True)]


async def _outcomes(places: Iterable[tuple[IPAddress, int]]) -> list[tuple[Outcome, float]]:
    """What comes of a connection to each of these places, and after how many seconds."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(address: IPAddress, port: int) -> tuple[Outcome, float]:
        async with room:
            begin = time.monotonic()
            outcome = await _connect(str(address), port)
            return outcome, time.monotonic() - begin

    return list(await asyncio.gather(*(one(*place) for place in places)))


async def _connect(address: str, port: int) -> Outcome:
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        return Outcome.TIMED_OUT
    except ConnectionRefusedError:
        return Outcome.REFUSED
    except OSError:
        return Outcome.UNREACHABLE
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return Outcome.ANSWERED


_MEANS = {
    Outcome.ANSWERED: "somebody answers where nobody should: the tables there are others than the store's",
    Outcome.REFUSED: "its endpoints answer, so the tables of that node are others than the store's",
    Outcome.TIMED_OUT: "packets are lost on the way: a firewall, a missing route back, or a node that is down",
    Outcome.UNREACHABLE: "there is no way to that address from here",
}


def _finding(trial: Trial, outcome: Outcome) -> Finding:
    service = trial.service
    means = _MEANS[outcome]
    if outcome is Outcome.TIMED_OUT and (service.node_port_source_ranges or service.load_balancer_source_ranges):
        means += "; or its source ranges keep this node out, as they may be meant to"
    seen = f"{trial.place} {outcome.value} ({trial.what})"
    remedy = f"nodeport-nft trace {trial.place} says what should happen; run doctor on that node, too"
    return failed(seen, means, remedy)


CHECKS = (Check("connect", "connections", _connections),)
