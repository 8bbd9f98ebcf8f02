"""What very many objects have in common is kept once, and garbage is seldom looked for while they are read."""

from __future__ import annotations

import gc
import json
from typing import Any

import msgspec
import pytest

from nodeport_nft.daemon.spare_memory import give_back_memory, seldom_collected
from nodeport_nft.model import EndpointSlice, Ref, Service, Value
from nodeport_nft.store.kubernetes.decoding import read_item
from nodeport_nft.store.kubernetes.known import Known


def read(kind: str, document: dict[str, Any]) -> tuple[Ref, Value]:
    """As an API server's answer is read: each time out of other bytes."""
    known = Known(kind)
    listing = known.begin()
    known.note(listing, [read_item(msgspec.Raw(json.dumps(document).encode()))])
    known.adopt(listing, "1")
    ((ref, (value,)),) = known.pending.items()
    return ref, value


def metadata(name: str) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": name}
    return {"name": name, "namespace": "a-namespace", "uid": name, "resourceVersion": "1", "labels": labels}


def service(name: str) -> dict[str, Any]:
    spec = {
        "clusterIP": "10.96.0.1",
        "ports": [{"name": "a-port", "port": 80, "protocol": "TCP"}],
        "externalTrafficPolicy": "Local",
        "internalTrafficPolicy": "Local",
        "ipFamilyPolicy": "SingleStack",
        "trafficDistribution": "PreferClose",
        "type": "NodePort",
    }
    return {"metadata": metadata(name), "spec": spec}


def piece(name: str) -> dict[str, Any]:
    endpoints = [{"addresses": ["10.0.0.1"], "nodeName": "a-node"}]
    ports = [{"name": "a-port", "port": 80}]
    return {"metadata": metadata(name), "addressType": "IPv4", "endpoints": endpoints, "ports": ports}


def test_services_share_the_texts_that_few_of_them_differ_in() -> None:
    (one_ref, one), (other_ref, other) = read("Service", service("one")), read("Service", service("other"))
    assert isinstance(one, Service)
    assert isinstance(other, Service)
    assert one_ref.namespace is other_ref.namespace is one.namespace is other.namespace
    assert one.ports[0].name is other.ports[0].name
    for name in ("external_traffic_policy", "internal_traffic_policy", "ip_family_policy", "traffic_distribution"):
        assert getattr(one, name), f"{name} is given"
        assert getattr(one, name) is getattr(other, name), name


def test_slices_share_them_too() -> None:
    (one_ref, one), (other_ref, other) = read("EndpointSlice", piece("one")), read("EndpointSlice", piece("other"))
    assert isinstance(one, EndpointSlice)
    assert isinstance(other, EndpointSlice)
    assert one_ref.namespace is other_ref.namespace is one.namespace is other.namespace
    assert one.ports[0].name is other.ports[0].name
    assert one.endpoints[0].node_name is other.endpoints[0].node_name


def test_an_object_s_name_is_kept_once() -> None:
    ref, value = read("Service", service("one"))
    assert isinstance(value, Service)
    assert ref.name is value.name


def test_garbage_is_looked_for_as_before_when_all_is_read() -> None:
    """Also where the reading is given up."""
    gc.enable()  # a command that another test has run in this process has switched it off
    before = gc.get_threshold()
    with seldom_collected():
        assert gc.isenabled(), "a store may be waited for for days"
        assert gc.get_threshold()[0] > before[0]
    assert gc.get_threshold() == before
    with pytest.raises(KeyError), seldom_collected():
        raise KeyError
    assert gc.get_threshold() == before


def test_giving_memory_back_is_harmless_where_there_is_nothing_to_give() -> None:
    give_back_memory()
    give_back_memory()
