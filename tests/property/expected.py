"""What a few services of ``test_laws.Change`` ought to be served by, worked out from the changes alone.

An independent word for the laws: it knows the Kubernetes rules that concern these services and none of the program's
modules that make tables of them. Slow and simple; only what all of them have is asked about.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nodeport_nft.compile import LOCAL_SLOTS
from nodeport_nft.model import Family, LoadBalancing
from nodeport_nft.ruleset import Elements, Key
from tests.property.test_laws import Change

EXTERNAL = "192.0.2.1"
POD = {Family.IPV4: "10.244.0.", Family.IPV6: "fd00:244::"}
CLUSTER = {Family.IPV4: "10.96.0.", Family.IPV6: "fd00:10:96::"}

_Rank = tuple[str, int]
"""Who comes first: the older one, of two as old the one whose name comes first."""


@dataclass
class Expected:
    """``holders``: by family and key, who has a frontend. ``problems``: the claims that lose. ``starving`` and
    ``idle`` as ``NodeState`` counts them; ``idling``: the numbers of the services with an address of no endpoint.
    """

    holders: dict[tuple[Family, Key], Change] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    starving: Counter[tuple[Family, str]] = field(default_factory=Counter)
    idle: Counter[Family] = field(default_factory=Counter)
    idling: set[int] = field(default_factory=set)


def expected(changes: Iterable[Change]) -> Expected:
    """What there ought to be once each of these services, each number once, has become so."""
    found = Expected()
    wanted: dict[tuple[Family, Key], list[Change]] = defaultdict(list)
    for change in changes:
        if change.address is None:
            continue
        serving = change.endpoints if change.weight else frozenset()
        is_starving = change.policy == "Local" and bool(serving) and not here(serving)
        for family in Family:
            own = keys(change, family)
            for key in own:
                wanted[family, key].append(change)
            found.idle[family] += not serving
            found.starving[family, "internal"] += is_starving
            found.starving[family, "external"] += is_starving and len(own) > 1
        if not serving:
            found.idling.add(change.number)
    for (family, key), claimants in wanted.items():
        holder, *losers = sorted(claimants, key=rank)
        found.holders[family, key] = holder
        for loser in losers:
            reason = "is as old and comes first by its name" if holder.created == loser.created else "is older"
            found.problems.append(
                f"Service/default/s{loser.number}: {' '.join(map(str, key))} is held by "
                f"Service/default/s{holder.number}, which {reason}; change one of them"
            )
    return found


def rank(change: Change) -> _Rank:
    return change.created, change.number


def keys(change: Change, family: Family) -> list[Key]:
    """Where one family's clients reach a service: its clusterIP, first, and what it has beside."""
    found: list[Key] = [(f"{CLUSTER[family]}{change.address}", "tcp", 80)]
    if change.node_port:
        found.append(("tcp", 30000 + change.number))
    if family is Family.IPV4 and change.number in (1, 2, 3):  # an externalIP, or a load balancer's address
        found.append((EXTERNAL, "tcp", 80))
    return found


def here(endpoints: Iterable[int]) -> set[int]:
    """Those on worker-1, the node that is programmed."""
    return {number for number in endpoints if number % 2 == 0}


def pools(change: Change, family: Family, *, internal: bool) -> tuple[set[object], set[object]]:
    """The endpoints in the pool of all, and in that of this node's own, behind one frontend of a service without
    affinity; neither where nothing leads to it.
    """
    serving = set(change.endpoints) if change.weight else set()
    everywhere: set[object] = {(f"{POD[family]}{number}", 8080) for number in serving}
    local: set[object] = {(f"{POD[family]}{number}", 8080) for number in here(serving)}
    match change.policy:
        case "Local":
            return set() if internal else everywhere, local
        case "PreferLocal" if local:
            return set(), local
        case _:
            return everywhere, set()


def prove_endpoints(found: Expected, elements: Mapping[Family, Elements]) -> None:
    """Each frontend is its holder's, and behind it are the endpoints that it ought to have, each by its weight."""
    for family in Family:
        own = {key: change for (each, key), change in found.holders.items() if each is family}
        for verdicts, slots, length in (
            ("service-ips", "service-endpoints", 3),
            ("node-ports", "node-port-endpoints", 2),
        ):
            led = {key: element.comment for key, element in elements[family].get(verdicts, {}).items()}
            assert led == {key: f"default/s{change.number}" for key, change in own.items() if len(key) == length}
            filled: dict[Key, tuple[Counter[object], Counter[object]]] = defaultdict(lambda: (Counter(), Counter()))
            for key, element in elements[family].get(slots, {}).items():
                filled[key[:-1]][int(key[-1]) >= LOCAL_SLOTS][element.value] += 1
            for key in led:
                change, held = own[key], filled.pop(key, (Counter(), Counter()))
                if change.affinity:
                    assert held == (Counter(), Counter()), "in chains of the service's own"
                    continue
                # A LoadBalancer's clusterIP alone is for those inside.
                wanted = pools(change, family, internal=str(key[0]).startswith(CLUSTER[family]))
                for counts, among in zip(held, wanted, strict=True):
                    assert set(counts) == among
                    if change.balancing is LoadBalancing.RANDOM:
                        assert set(counts.values()) <= {change.weight}
            assert not filled, "slots that nothing leads to"
