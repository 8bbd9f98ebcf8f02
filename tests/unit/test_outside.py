"""No clusterIP is given that somebody claims from outside, as an externalIP or a load-balancer address."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from nodeport_nft.manifest import Object, Problems, parse_object
from nodeport_nft.model import Ranges
from nodeport_nft.resolve import Resolver
from nodeport_nft.store import Store
from tests.unit.test_store import NOW, RANGES, applied_service, apply, document, refused, service

pytestmark = pytest.mark.proves("A2", "F10")


def claiming(name: str, how: str, *ips: str, **spec: Any) -> Object:
    """A Service that claims these addresses from outside."""
    made = document(name, "LoadBalancer", **spec)
    if how == "externalIPs":
        made["spec"]["externalIPs"] = list(ips)
    else:
        made["status"] = {"loadBalancer": {"ingress": [{"ip": ip} for ip in ips]}}
    return parse_object(made, ranges=RANGES, source=f"{name}.yaml:1")


WAYS = pytest.mark.parametrize("how", ["externalIPs", "ingress"])


def drawn(*others: Object) -> str:
    """The clusterIP that web draws beside these, each stored before it."""
    with Store(ranges=RANGES) as store:
        for other in others:
            apply(store, other)
        return str(applied_service(store, service("web")).cluster_ips[0])


@WAYS
def test_a_new_service_draws_no_address_that_another_claims(how: str) -> None:
    wanted = drawn()
    second = drawn(claiming("taker", how, wanted))
    third = drawn(claiming("taker", how, wanted, second))
    assert len({wanted, second, third}) == 3
    assert drawn(claiming("taker", how, "192.0.2.1")) == wanted


@WAYS
@pytest.mark.parametrize("taker", ["a-taker", "z-taker"])
def test_nor_one_that_comes_with_it(how: str, taker: str) -> None:
    with Store(ranges=RANGES) as store:
        applied = apply(store, claiming(taker, how, drawn()), service("web"))
        assert applied[1].object.raw["spec"]["clusterIP"] != drawn()


@WAYS
def test_one_that_is_asked_for_is_refused_with_the_name_of_who_claims_it(how: str) -> None:
    with Store(ranges=RANGES) as store:
        apply(store, claiming("taker", how, "10.96.0.40"))
        (problem,) = refused(store, service("web", clusterIP="10.96.0.40"))
        assert (problem.field, problem.message) == (
            "spec.clusterIP",
            "10.96.0.40 is claimed by default/taker as an externalIP or a load-balancer address; "
            "choose another or leave it out",
        )


@WAYS
def test_of_two_that_come_together_the_cluster_ip_goes_first(how: str) -> None:
    """Else nobody could build a store anew once a stranger claims an address that a manifest names."""
    with Store(ranges=RANGES) as store:
        web = service("web", clusterIP="10.96.0.40")
        applied = apply(store, claiming("a-taker", how, "10.96.0.40"), web)
        assert applied[1].object.raw["spec"]["clusterIP"] == "10.96.0.40"
        snapshot = store.snapshot()
        taker = next(each for each in snapshot.services if each.name == "a-taker")
        (problem,) = Resolver(snapshot, "worker-1").resolved(taker).problems
        assert "10.96.0.40 is the clusterIP of Service/default/web, which keeps it" in problem
        # And whoever has it keeps it, whatever others claim later.
        apply(store, claiming("b-taker", how, "10.96.0.40"))
        assert apply(store, service("web"))[0].object.raw["spec"]["clusterIP"] == "10.96.0.40"


@WAYS
@pytest.mark.parametrize("end", ["deleted", "changed", "pruned", "changed in the same write"])
def test_an_address_is_free_once_nobody_claims_it(how: str, end: str) -> None:
    web, taker = service("web", clusterIP="10.96.0.40"), claiming("taker", how, "10.96.0.40")
    other = claiming("taker", how, "192.0.2.1")
    with Store(ranges=RANGES) as store:
        apply(store, taker, claiming("taker-2", how, "10.96.0.40"))
        with store.transaction() as transaction:
            transaction.delete("Service", "default", "taker-2")
        refused(store, web)
        with store.transaction() as transaction:
            if end == "deleted":
                transaction.delete("Service", "default", "taker")
            elif end == "pruned":
                transaction.prune([])
            elif end == "changed":
                transaction.apply([other], now=NOW)
        applied = apply(store, web, other) if end == "changed in the same write" else apply(store, web)
        assert applied[0].object.raw["spec"]["clusterIP"] == "10.96.0.40"


def test_a_service_may_have_its_own_address_from_outside_as_its_cluster_ip() -> None:
    with Store(ranges=RANGES) as store:
        apply(store, claiming("web", "externalIPs", "10.96.0.40", clusterIP="10.96.0.40"))
        apply(store, claiming("api", "externalIPs", "10.96.0.41"))
        with store.transaction() as transaction:
            transaction.delete("Service", "default", "api")
        apply(store, claiming("api", "externalIPs", "10.96.0.41", clusterIP="10.96.0.41"))


def test_nobody_uses_up_the_addresses_by_claiming_them_all() -> None:
    """A clusterIP goes before a claim, so one that is claimed is better than none."""
    ranges = Ranges(RANGES.node_ports, RANGES.service_cidrs[:1])
    with Store(ranges=ranges) as store:
        everything = [str(ip_address("10.96.0.0") + n) for n in range(1, 255)]
        apply(store, claiming("taker", "externalIPs", *everything[:-1], clusterIP="10.96.0.7"))
        assert str(applied_service(store, service("first")).cluster_ips[0]) == "10.96.0.254"
        given = {str(applied_service(store, service(f"s{n}")).cluster_ips[0]) for n in range(20)}
        assert len(given) == 20
        assert not given & {"10.96.0.7", "10.96.0.254"}
        apply(store, *(service(f"c{n}", "ClusterIP") for n in range(254 - 22)))
        with pytest.raises(Problems, match=r"service CIDR 10\.96\.0\.0/24 is exhausted"):
            apply(store, service("web"))


@WAYS
@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"kind": "Service"}', "[" * 100_000])
def test_a_store_of_an_earlier_version_learns_what_its_services_claim(tmp_path: Path, how: str, damage: str) -> None:
    path = tmp_path / "store.db"
    with Store(path, ranges=RANGES) as store:
        apply(store, claiming("taker", how, "10.96.0.40"), service("other"))
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE outside_ips")
        db.execute("UPDATE objects SET body = ? WHERE name = 'other'", (damage,))  # no reason to give up
        db.commit()
    with Store(path, ranges=RANGES) as store:
        with pytest.raises(KeyboardInterrupt), store.transaction():
            raise KeyboardInterrupt
        with store.transaction() as transaction, pytest.raises(Problems, match=r"is claimed by default/taker"):
            transaction.apply([service("web", clusterIP="10.96.0.40")], now=NOW)
        apply(store, service("web", clusterIP="10.96.0.41"))
