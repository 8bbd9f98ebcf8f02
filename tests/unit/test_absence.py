"""Why a Service has no usable endpoint: manifests, and what is told of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from nodeport_nft.manifest import Object, read_manifests
from nodeport_nft.model import ObjectName, Pod, Ranges, Snapshot
from nodeport_nft.resolve import join
from nodeport_nft.resolve.absence import Around, Cause, why, why_none
from nodeport_nft.resolve.absence.around import items
from nodeport_nft.resolve.absence.cause import labels as told_labels
from nodeport_nft.store import Store
from tests.builders import make_endpoint, make_port, make_service, make_slice

LABEL = "kubernetes.io/service-name"


def service(ports: Any = None, selector: Any = "web", name: str = "web", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "annotations": more.pop("annotations", {})}
    spec = {"ports": ports or [{"port": 80, "targetPort": 8080}], **more}
    if selector:
        spec["selector"] = {"app": selector} if isinstance(selector, str) else selector
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def pod(name: str = "web-1", labels: Any = "web", ip: str = "10.244.1.2", **more: Any) -> dict[str, Any]:
    """``ports``: of its one container. ``status``, ``ready`` and ``metadata``: besides."""
    metadata = {"name": name, "labels": {"app": labels} if isinstance(labels, str) else labels}
    status: dict[str, Any] = {"podIP": ip} if ip else {}
    if "ready" in more:
        status["conditions"] = [{"type": "Ready", "status": more["ready"]}]
    containers = [{"name": "main", "ports": more.get("ports", [])}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**metadata, **more.get("metadata", {})},
        "spec": {"containers": containers, "nodeName": more.get("node", "worker-1")},
        "status": {**status, **more.get("status", {})},
    }


def piece(*addresses: str, name: str = "web-abc", of: str | None = "web", **more: Any) -> dict[str, Any]:
    """An EndpointSlice of the Service ``of``; ``ports``, ``conditions``, ``kind`` and ``labels`` besides."""
    labels = {**({LABEL: of} if of else {}), **more.get("labels", {})}
    conditions = {"conditions": more["conditions"]} if "conditions" in more else {}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": labels, **more.get("metadata", {})},
        "addressType": more.get("kind", "IPv4"),
        "ports": more.get("ports", [{"port": 8080}]),
        "endpoints": [{"addresses": [address], "nodeName": "worker-2", **conditions} for address in addresses],
    }


def endpoints(*subsets: dict[str, Any], name: str = "web", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": name, **metadata},
        "subsets": list(subsets),
    }


def subset(*ips: str, key: str = "addresses", port: Any = None) -> dict[str, Any]:
    return {key: [{"ip": ip} for ip in ips], "ports": [port or {"port": 8080}]}


def around(manifests: Iterable[dict[str, Any]], directory: Path, budget: int = 1_000_000) -> Around:
    """All of it, as the store would have it."""
    path = directory / "all.yaml"
    path.write_text(yaml.safe_dump_all(manifests))
    objects = read_manifests([str(path)], ranges=Ranges()).objects
    with Store(ranges=Ranges()) as store:
        with store.transaction() as transaction:
            transaction.apply(objects, now="2026-01-31T12:00:00Z")
        snapshot = store.snapshot()

    def documents(kind: str, namespace: str) -> Iterable[Object]:
        return [each for each in objects if (each.kind, each.namespace) == (kind, namespace)]

    return Around(snapshot, documents, budget=budget)


def causes(manifests: Iterable[dict[str, Any]], directory: Path, node: str = "", name: str = "web") -> list[Cause]:
    lies = around(manifests, directory)
    return list(why_none(lies.index.services[ObjectName("default", name)], lies, node))


FIX = "correct the selector, or the pods' labels"
START = "apply the pods, with their labels and status.podIP"
SOME = "apply the pods, or correct the selector or their labels"
NAMED = [{"port": 80, "targetPort": "http"}]
NAME_IT = "correct the port's targetPort (a number will do), or name the container's port"
BY_NAME = [{"name": "http", "port": 80}]
SAME_NAME = "give both the same name"
WAITS = "look at what the pod waits for (its events and its log)"
OTHER = {"namespace": "other"}
WEIGHT = "raise it in nodeport-nft/weight, or in nodeport-nft/weights of the Service"
NOTHING = "no selector, and no EndpointSlice or Endpoints named web; write one, or a selector"
HEADLESS = {"service.kubernetes.io/headless": ""}

PAIRS = (("a", "x"), ("b", "y"), ("c", "y"))

SELECTORS = {
    "a slip in the value": (
        [service(selector="wbe"), pod()],
        [f"selector app=wbe matches no pod; nearest: app=web on web-1; {FIX}"],
    ),
    "a slip in the key": (
        [service(selector={"aap": "web"}), pod()],
        [f"selector aap=web matches no pod; nearest: app=web on web-1; {FIX}"],
    ),
    "case": (
        [service(selector="Web"), pod("db-1", "db"), pod()],
        [f"selector app=Web matches no pod; nearest: app=web on web-1; {FIX}"],
    ),
    "case of the key": (
        [service(selector={"App": "web"}), pod()],
        [f"selector App=web matches no pod; nearest: app=web on web-1; {FIX}"],
    ),
    "another kind of key": (
        [service(), pod(labels={"app.kubernetes.io/name": "web"}), pod("db-1", {"app.kubernetes.io/name": "db"})],
        [f"selector app=web matches no pod; nearest: app.kubernetes.io/name=web on web-1; {FIX}"],
    ),
    "one of several labels, another value": (
        [service(selector={"app": "web", "tier": "front"}), pod(labels={"app": "web", "tier": "back"})],
        [f"selector app=web,tier=front matches no pod; nearest: tier=back on web-1, which has the rest; {FIX}"],
    ),
    "one of several labels, absent": (
        [service(selector={"app": "web", "tier": "front"}), pod(), pod("db-1", "db")],
        [f"selector app=web,tier=front matches no pod; nearest: no label tier on web-1, which has the rest; {FIX}"],
    ),
    "the nearest of several": (
        [service(selector="web-front"), pod("a", "web-fornt"), pod("b", "web-back"), pod("c", "cache")],
        [f"selector app=web-front matches no pod; nearest: app=web-fornt on a; {FIX}"],
    ),
    "nothing like it": (
        [service(), pod("db-1", "postgres"), pod("db-2", "postgres"), pod("q", "rabbitmq")],
        [f"selector app=web matches no pod of namespace default; they have app=postgres and app=rabbitmq; {SOME}"],
    ),
    "no such key at all": (
        [service(), pod("db-1", {"run": "postgres"})],
        [f"selector app=web matches no pod of namespace default; {SOME}"],
    ),
    "a pod without labels": (
        [service(), pod(labels={})],
        [f"selector app=web matches no pod of namespace default; {SOME}"],
    ),
    "no pods at all": (
        [service()],
        [f"selector app=web matches no pod: there is no pod in namespace default; {START}"],
    ),
    "another namespace": (
        [service(), pod(metadata=OTHER)],
        [
            "selector app=web matches no pod of namespace default; pod web-1 is in namespace other; "
            "put the Service there, or the pods into default",
        ],
    ),
    "several other namespaces": (
        [service(), pod("web-2", metadata={"namespace": "b"}), pod(metadata={"namespace": "a"}, ip="10.244.1.3")],
        [
            "selector app=web matches no pod of namespace default; pod web-1 is in namespace a; "
            "put the Service there, or the pods into default",
        ],
    ),
    "another namespace has several": (
        [service(), *(pod(f"web-{n}", ip=f"10.244.1.{n}", metadata=OTHER) for n in range(2, 7)), pod("db", "db")],
        [
            "selector app=web matches no pod of namespace default; pods web-2, web-3, web-4 and 2 more are in "
            "namespace other; put the Service there, or the pods into default",
        ],
    ),
}
FAR = {
    "a slip and another namespace": (
        [service(selector="wbe"), pod(metadata={"namespace": "other"})],
        ["selector app=wbe matches no pod of namespace default; nearest: app=web on web-1 in namespace other; "
         "correct the selector, or the pods' labels, and put both into one namespace"],
    ),
    "the key": (
        [service(selector={"ap": "web"}), pod("db-1", "db"), pod(metadata={"namespace": "other"})],
        ["selector ap=web matches no pod of namespace default; nearest: app=web on web-1 in namespace other; "
         "correct the selector, or the pods' labels, and put both into one namespace"],
    ),
    "three fifths alike": (
        [service(selector="abcxy"), pod(labels="abczw", metadata={"namespace": "other"})],
        ["selector app=abcxy matches no pod of namespace default; nearest: app=abczw on web-1 in namespace other; "
         "correct the selector, or the pods' labels, and put both into one namespace"],
    ),
    "nothing like it there": (
        [service(selector={"app": "wbe", "tier": "front"}), pod(labels={"app": "db", "tier": "front"},
                                                                metadata={"namespace": "other"})],
        ["selector app=wbe,tier=front matches no pod: there is no pod in namespace default; "
         "apply the pods, with their labels and status.podIP"],
    ),
    "one of the own namespace is nearer": (
        [service(selector="wbe"), pod("web-2", "web"), pod(metadata={"namespace": "other"})],
        ["selector app=wbe matches no pod; nearest: app=web on web-2; correct the selector, or the pods' labels"],
    ),
}  # fmt: skip
PODS = {
    "no address": (
        [service(), pod(ip="")],
        ["pod web-1 has no status.podIP; write there the address at which the pod is reached, once it has one"],
    ),
    "pending": (
        [service(), pod(ip="", status={"phase": "Pending"})],
        [
            "pod web-1 has no status.podIP (phase Pending); "
            "write there the address at which the pod is reached, once it has one"
        ],
    ),
    "ended": (
        [service(), pod(status={"phase": "Failed", "reason": "Evicted"})],
        ["pod web-1 has ended (Failed: Evicted); start others, or delete what has ended"],
    ),
    "succeeded": (
        [service(), pod(status={"phase": "Succeeded"}), pod("web-2", status={"phase": "Succeeded"}, ip="10.244.1.3")],
        ["pods web-1 and web-2 have ended (Succeeded); start others, or delete what has ended"],
    ),
    "not ready": (
        [service(), pod(ready="False")],
        [f"pod web-1 is not ready: condition Ready is False; {WAITS}"],
    ),
    "not ready, and why": (
        [
            service(),
            pod(
                status={
                    "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
                    "containerStatuses": [{"name": "main", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}],
                }
            ),
        ],
        [
            "pod web-1 is not ready: condition Ready is False, ContainersNotReady, container main: CrashLoopBackOff; "
            f"{WAITS}"
        ],
    ),
    "unknown": (
        [service(), pod(ready="Unknown")],
        [f"pod web-1 is not ready: condition Ready is Unknown; {WAITS}"],
    ),
    "no condition Ready": (
        [service(), pod(status={"conditions": [{"type": "Initialized", "status": "True"}]})],
        [f"pod web-1 is not ready: its status.conditions have none of type Ready; {WAITS}"],
    ),
    "terminating": (
        [service(), pod(ready="False", metadata={"deletionTimestamp": "2026-01-31T12:00:00Z"})],
        ["pod web-1 is terminating; start others"],
    ),
    "no such port name": (
        [service(NAMED), pod(ports=[{"name": "web", "containerPort": 8080}])],
        [f"no pod has a port named http; web-1 has: web; {NAME_IT}"],
    ),
    "no port name at all": (
        [service(NAMED), pod()],
        [f"no pod has a port named http; web-1 has: none with a name; {NAME_IT}"],
    ),
    "a port without a name": (
        [service(NAMED), pod(ports=[{"containerPort": 8080}])],
        [f"no pod has a port named http; web-1 has: 8080 without a name; {NAME_IT}"],
    ),
    "the likeliest port first": (
        [service(NAMED), pod(ports=[{"name": n, "containerPort": i} for i, n in enumerate(("b", "c", "https"), 1)])],
        [f"no pod has a port named http; web-1 has: https, b and c; {NAME_IT}"],
    ),
    "the protocol of a named port": (
        [service([{**NAMED[0], "protocol": "UDP"}]), pod(ports=[{"name": "http", "containerPort": 8080}])],
        ["port http of pod web-1 is TCP, and the Service wants UDP; give both the same protocol"],
    ),
    "the other family": (
        [service(), pod(ip="fd00:244::2")],
        [
            "pod web-1 has no IPv4 address in status.podIPs, but fd00:244::2; "
            "give the pod one, or leave IPv4 out of spec.ipFamilies"
        ],
    ),
    "one of two families": (
        [service(ipFamilyPolicy="RequireDualStack"), pod()],
        [
            "over IPv6: pod web-1 has no IPv6 address in status.podIPs, but 10.244.1.2; "
            "give the pod one, or leave IPv6 out of spec.ipFamilies"
        ],
    ),
    "weight of the pod": (
        [service(), pod(metadata={"annotations": {"nodeport-nft/weight": "0"}})],
        [f"pod web-1 has weight 0; {WEIGHT}"],
    ),
    "weight by the service": (
        [service(annotations={"nodeport-nft/weights": "10.244.1.2=0"}), pod()],
        [f"pod web-1 has weight 0; {WEIGHT}"],
    ),
    "the right port, and not ready": (
        [service(NAMED), pod(ports=[{"name": "http", "containerPort": 8080}], ready="False")],
        [f"pod web-1 is not ready: condition Ready is False; {WAITS}"],
    ),
    "published though not ready, and of weight 0": (
        [
            service(publishNotReadyAddresses=True),
            pod(ready="False", metadata={"annotations": {"nodeport-nft/weight": "0"}}),
        ],
        [f"pod web-1 has weight 0; {WEIGHT}"],
    ),
    "the pod with the likeliest port": (
        [service(NAMED), pod("a", ip="10.244.1.3"), pod("b", ports=[{"name": "htpp", "containerPort": 8080}])],
        [f"no pod has a port named http; b has: htpp; {NAME_IT}"],
    ),
    "terminating, and another not ready": (
        [
            service(),
            pod("a", ip="10.244.1.3", ready="False", metadata={"deletionTimestamp": "2026-01-31T12:00:00Z"}),
            pod("b", ready="False"),
        ],
        [f"pod b is not ready: condition Ready is False; {WAITS}"],
    ),
    "published though not ready": (
        [service(NAMED, publishNotReadyAddresses=True), pod(ready="False")],
        [f"no pod has a port named http; web-1 has: none with a name; {NAME_IT}"],
    ),
    "four reasons of many": (
        [
            service(),
            pod(
                status={
                    "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
                    "containerStatuses": [
                        {"name": n, "state": {"waiting": {"reason": "ImagePullBackOff"}}} for n in "abc"
                    ],
                }
            ),
        ],
        [
            "pod web-1 is not ready: condition Ready is False, ContainersNotReady, container a: ImagePullBackOff, "
            f"container b: ImagePullBackOff; {WAITS}"
        ],
    ),
    "each port has its own": (
        [
            service([{"name": n, "port": i, "targetPort": n} for i, n in enumerate("xy", 80)]),
            pod(ports=[{"name": "z", "containerPort": 8080}]),
        ],
        [f"port {name}: no pod has a port named {name}; web-1 has: z; {NAME_IT}" for name in "xy"],
    ),
    "a slice beside them that was meant": (
        [service(), pod(ready="False"), piece("10.244.1.9", of=None)],
        [
            f"pod web-1 is not ready: condition Ready is False; {WAITS}",
            f"slice web-abc has no label {LABEL}; label it {LABEL}=web",
        ],
    ),
    "what came furthest is told first": (
        [service(), pod("a", ip=""), pod("b", status={"phase": "Failed"}), pod("c", ready="False", ip="10.244.1.9")],
        [
            f"pod c is not ready: condition Ready is False; {WAITS}",
            "pod a has no status.podIP; write there the address at which the pod is reached, once it has one",
            "pod b has ended (Failed); start others, or delete what has ended",
        ],
    ),
    "one port of two": (
        [
            service(
                [{"name": "http", "port": 80, "targetPort": "web"}, {"name": "mon", "port": 81, "targetPort": "m"}]
            ),
            pod(ports=[{"name": "web", "containerPort": 8080}]),
        ],
        [f"port mon: no pod has a port named m; web-1 has: web; {NAME_IT}"],
    ),
    "two ports of three": (
        [
            service([{"name": n, "port": i, "targetPort": t} for i, (n, t) in enumerate(PAIRS, 80)]),
            pod(ports=[{"name": "x", "containerPort": 8080}]),
        ],
        [f"ports b and c: no pod has a port named y; web-1 has: x; {NAME_IT}"],
    ),
}
SLICES = {
    "another name of the port": (
        [service(BY_NAME, None), piece("10.244.1.2", ports=[{"name": "http2", "port": 8080}])],
        [f'slice web-abc names its port "http2", and the Service\'s is named "http"; {SAME_NAME}'],
    ),
    "several other names": (
        [
            service(BY_NAME, None),
            piece("10.244.1.2", ports=[{"name": "a", "port": 1}, {"name": "b", "port": 2}]),
        ],
        [f'slice web-abc names its ports "a" and "b", and the Service\'s is named "http"; {SAME_NAME}'],
    ),
    "no name there": (
        [service(BY_NAME, None), piece("10.244.1.2")],
        [f'slice web-abc has a port without a name, and the Service\'s is named "http"; {SAME_NAME}'],
    ),
    "no name here": (
        [service(None, None), piece("10.244.1.2", ports=[{"name": "http", "port": 8080}])],
        [f'slice web-abc names its port "http", and the Service\'s is without a name; {SAME_NAME}'],
    ),
    "no ports": (
        [service(None, None), piece("10.244.1.2", ports=[])],
        ["slice web-abc has no port with a number; list the port there, under the name that it has in the Service"],
    ),
    "the protocol": (
        [service([{"port": 53, "protocol": "UDP"}], None), piece("10.244.1.2")],
        ["slice web-abc has the port without a name as TCP, and the Service wants UDP; give both the same protocol"],
    ),
    "no endpoints": (
        [service(None, None), piece()],
        ["slice web-abc has no endpoints; write the endpoints' addresses there"],
    ),
    "not ready": (
        [service(None, None), piece("10.244.1.2", "10.244.1.3", conditions={"ready": False})],
        [
            "endpoints 10.244.1.2 and 10.244.1.3 of slice web-abc are not ready: conditions.ready is false; "
            "look at what they wait for, or correct that if it is written by hand"
        ],
    ),
    "terminating": (
        [
            service(None, None),
            piece("10.244.1.2", conditions={"ready": False, "serving": False, "terminating": True}),
        ],
        ["endpoint 10.244.1.2 of slice web-abc is terminating; start others"],
    ),
    "the other family": (
        [service(None, None), piece("fd00:244::2", kind="IPv6")],
        [
            "slice web-abc has no IPv4 address, but fd00:244::2; "
            "write a slice for IPv4, or leave it out of spec.ipFamilies"
        ],
    ),
    "weight": (
        [service(None, None), piece("10.244.1.2", metadata={"annotations": {"nodeport-nft/weight": "0"}})],
        [f"endpoint 10.244.1.2 of slice web-abc has weight 0; {WEIGHT}"],
    ),
    "names": (
        [service(None, None), piece("web.example.org", kind="FQDN")],
        [
            "slice web-abc is of addressType FQDN, and names are no endpoints; "
            "write a slice of type IPv4 or IPv6 with the addresses",
            NOTHING,
        ],
    ),
    "a selector that is not followed": (
        [service(), piece(), pod()],
        [
            "slice web-abc has no endpoints; write the endpoints' addresses there",
            "slice web-abc is there, so the selector is not followed, which matches pod web-1; "
            "delete what is out of date, or keep it up to date",
        ],
    ),
    "a selector that would not help": (
        [
            service(),
            piece(),
            pod("a", ready="False"),
            pod("b", status={"phase": "Succeeded"}, ip="10.244.1.3"),
            pod("c", ip="fd00:244::2"),
        ],
        ["slice web-abc has no endpoints; write the endpoints' addresses there"],
    ),
    "endpoints that are not looked at": (
        [service(None, None), piece(), endpoints(subset("10.244.1.2"))],
        [
            "slice web-abc has no endpoints; write the endpoints' addresses there",
            "slice web-abc is there, so Endpoints web is not looked at; delete one or the other",
        ],
    ),
    "Endpoints: the name of the port": (
        [service(BY_NAME, None), endpoints(subset("10.244.1.2", port={"name": "http2", "port": 8080}))],
        [f'Endpoints web names its port "http2", and the Service\'s is named "http"; {SAME_NAME}'],
    ),
    "Endpoints: not ready": (
        [service(None, None), endpoints(subset("10.244.1.2", key="notReadyAddresses"))],
        [
            "endpoint 10.244.1.2 of Endpoints web is not ready: they stand under notReadyAddresses; "
            "look at what they wait for, or correct that if it is written by hand"
        ],
    ),
    "Endpoints: no addresses": (
        [service(None, None), endpoints()],
        ["Endpoints web has no addresses; write them under subsets[].addresses", NOTHING],
    ),
}
STRAYS = {
    "nothing at all": ([service(None, None)], [NOTHING]),
    "no label": (
        [service(None, None), piece("10.244.1.2", of=None)],
        [f"slice web-abc has no label {LABEL}; label it {LABEL}=web", NOTHING],
    ),
    "no label, and others": (
        [
            service(None, None),
            piece("10.244.1.2", of=None, labels={"app": "web"}, metadata={"annotations": {"x": "y"}}),
        ],
        [f"slice web-abc has no label {LABEL}; label it {LABEL}=web", NOTHING],
    ),
    "no label, and a name that says nothing": (
        [service(None, None), piece("10.244.1.2", of=None, name="api-xyz")],
        [f"slice api-xyz has no label {LABEL}; label it {LABEL}=web", NOTHING],
    ),
    "three of many": (
        [service(None, None), *(piece(f"10.244.1.{n}", of=None, name=f"web-{n}") for n in range(2, 7))],
        [*(f"slice web-{n} has no label {LABEL}; label it {LABEL}=web" for n in (2, 3, 4)), NOTHING],
    ),
    "a label whose end alone is right": (
        [service(None, None), piece("10.244.1.2", of=None, labels={"x.example.org/the-service-name": "web"})],
        [
            f"slice web-abc has the label x.example.org/the-service-name, not {LABEL}; label it {LABEL}=web",
            NOTHING,
        ],
    ),
    "an unlike service that there is not": ([service(None, None), piece("10.244.1.2", of="cache")], [NOTHING]),
    "a service of the same name elsewhere": (
        [
            service(None, None),
            {**service(None, None), "metadata": {"name": "web", **OTHER}},
            piece("10.244.1.2", metadata=OTHER),
        ],
        [NOTHING],
    ),
    "a mistyped label": (
        [service(None, None), piece("10.244.1.2", of=None, labels={"kubernetes.io/servicename": "web"})],
        [
            f"slice web-abc has the label kubernetes.io/servicename, not {LABEL}; label it {LABEL}=web",
            NOTHING,
        ],
    ),
    "a label of another domain": (
        [service(None, None), piece("10.244.1.2", of=None, labels={"k8s.io/service-name": "web"})],
        [f"slice web-abc has the label k8s.io/service-name, not {LABEL}; label it {LABEL}=web", NOTHING],
    ),
    "an annotation": (
        [service(None, None), piece("10.244.1.2", of=None, metadata={"annotations": {LABEL: "web"}})],
        [f"slice web-abc has {LABEL} as an annotation, not a label; label it {LABEL}=web", NOTHING],
    ),
    "a mistyped service": (
        [service(None, None), piece("10.244.1.2", of="wbe")],
        [f"slice web-abc is labelled {LABEL}=wbe, a Service that there is not; label it {LABEL}=web", NOTHING],
    ),
    "another service's slice": (
        [service(None, None), service(None, None, name="webs"), piece("10.244.1.2", of="webs")],
        [NOTHING],
    ),
    "slice in another namespace": (
        [service(None, None), piece("10.244.1.2", metadata=OTHER)],
        ["slice web-abc is in namespace other, and the Service in default; put both into one", NOTHING],
    ),
    "Endpoints in another namespace": (
        [service(None, None), endpoints(subset("10.244.1.2"), namespace="other")],
        ["Endpoints web is in namespace other, and the Service in default; put both into one", NOTHING],
    ),
    "Endpoints of another name": (
        [service(None, None), endpoints(subset("10.244.1.2"), name="webb")],
        [
            "Endpoints webb belongs to a Service of its own name, which there is not; name it web",
            NOTHING,
        ],
    ),
    "headless": (
        [service(None, None), piece("10.244.1.2", labels=HEADLESS)],
        [
            "slice web-abc is labelled as of a headless Service, which this is not; "
            "take off the label service.kubernetes.io/headless",
            NOTHING,
        ],
    ),
    "headless Endpoints": (
        [service(None, None), endpoints(subset("10.244.1.2"), labels=HEADLESS)],
        [
            "Endpoints web is labelled as of a headless Service, which this is not; "
            "take off the label service.kubernetes.io/headless",
            NOTHING,
        ],
    ),
    "a selector, and slices of names alike": (
        [
            service(),
            *(piece("10.244.1.2", of=None, name=name) for name in ("web", "api-front", "web-x7k2p9q4", "wbe-x2z4")),
        ],
        [
            f"selector app=web matches no pod: there is no pod in namespace default; {START}",
            *(
                f"slice {name} has no label {LABEL}; label it {LABEL}=web"
                for name in ("web", "web-x7k2p9q4", "wbe-x2z4")
            ),
        ],
    ),
    "a selector, and a slice beside it": (
        [service(), piece("10.244.1.2", of=None), piece("10.244.1.2", of=None, name="api-xyz")],
        [
            f"selector app=web matches no pod: there is no pod in namespace default; {START}",
            f"slice web-abc has no label {LABEL}; label it {LABEL}=web",
        ],
    ),
}
TABLES = {
    f"{room}: {name}": case
    for room, table in (("selector", SELECTORS), ("far", FAR), ("pods", PODS), ("slices", SLICES), ("strays", STRAYS))
    for name, case in table.items()
}


@pytest.mark.parametrize(("manifests", "told"), TABLES.values(), ids=TABLES)
def test_each_cause_is_told_with_what_to_change(
    tmp_path: Path, manifests: list[dict[str, Any]], told: list[str]
) -> None:
    assert [str(cause) for cause in causes(manifests, tmp_path)] == told


PROXIED = {"service.kubernetes.io/service-proxy-name": "x"}
HEALTHY = {
    "pods": [service(), pod()],
    "one of two pods": [service(), pod(), pod("web-2", ip="")],
    "a named port": [service(NAMED), pod(ports=[{"name": "http", "containerPort": 80}])],
    "slices": [service(BY_NAME, None), piece("10.244.1.2", ports=[{"name": "http", "port": 80}])],
    "one of two slices": [service(None, None), piece("10.244.1.2"), piece(name="web-def")],
    "Endpoints": [service(None, None), endpoints(subset("10.244.1.2"))],
    "two families": [
        service(None, None, ipFamilyPolicy="RequireDualStack"),
        piece("10.244.1.2"),
        piece("fd00:244::2", name="web-6", kind="IPv6"),
    ],
    "not ready and published": [service(publishNotReadyAddresses=True), pod(ready="False")],
    "serving until it ends": [service(), pod(ready="True", metadata={"deletionTimestamp": "2026-01-31T12:00:00Z"})],
    "headless": [service(clusterIP="None")],
    "headless without a selector": [service(None, None, clusterIP="None")],
    "ExternalName": [service(None, None, type="ExternalName", externalName="example.org")],
    "another proxy's": [{**service(), "metadata": {"name": "web", "labels": PROXIED}}],
}


@pytest.mark.parametrize("manifests", HEALTHY.values(), ids=HEALTHY)
def test_of_what_is_well_nothing_is_said(tmp_path: Path, manifests: list[dict[str, Any]]) -> None:
    assert causes(manifests, tmp_path, "elsewhere") == []


EXTERNAL = {"type": "NodePort", "externalTrafficPolicy": "Local"}
ELSEWHERE = "connect to a node that has one, or choose the policy Cluster or PreferLocal"
TO_PODS = "write nodeName to the endpoints (spec.nodeName to Pods)"


@pytest.mark.parametrize(
    ("spec", "pods", "told"),
    [
        (EXTERNAL, {"web-1": "worker-1"}, None),
        (EXTERNAL, {"web-1": "worker-2", "web-2": "worker-1"}, None),
        (
            EXTERNAL,
            {"web-1": "worker-2", "web-2": "worker-2"},
            f"externalTrafficPolicy is Local, and of 2 endpoints none is on worker-1 (2 on worker-2); {ELSEWHERE}",
        ),
        (
            EXTERNAL,
            {f"web-{number}": f"worker-{number}" for number in range(2, 5)},
            "externalTrafficPolicy is Local, and of 3 endpoints none is on worker-1 "
            f"(1 on worker-2, 1 on worker-3, 1 on worker-4); {ELSEWHERE}",
        ),
        (
            {"internalTrafficPolicy": "Local"},
            {f"web-{number}": f"worker-{number}" for number in range(2, 8)},
            "internalTrafficPolicy is Local, and of 6 endpoints none is on worker-1 "
            f"(1 on worker-2, 1 on worker-3, 1 on worker-4, 3 nodes more); {ELSEWHERE}",
        ),
        (
            {**EXTERNAL, "internalTrafficPolicy": "Local"},
            {"web-1": "worker-2"},
            "externalTrafficPolicy and internalTrafficPolicy are Local, and of 1 endpoint none is on worker-1 "
            f"(1 on worker-2); {ELSEWHERE}",
        ),
        (
            EXTERNAL,
            {"web-1": "", "web-2": "worker-2"},
            f"externalTrafficPolicy is Local, and of 2 endpoints none is on worker-1: 1 names no node; {TO_PODS}",
        ),
        (
            EXTERNAL,
            {"web-1": "worker-1.example.org"},
            "externalTrafficPolicy is Local, and of 1 endpoint none is on worker-1; they name worker-1.example.org; "
            "use the node's own name there, or give --node-name",
        ),
    ],
)
def test_a_policy_local_says_where_the_endpoints_are(
    tmp_path: Path, spec: dict[str, Any], pods: dict[str, str], told: str | None
) -> None:
    there = (pod(name, node=node, ip=f"10.244.1.{number}") for number, (name, node) in enumerate(pods.items(), 2))
    manifests = [service(**spec), *there]
    assert [str(cause) for cause in causes(manifests, tmp_path, "worker-1")] == ([told] if told else [])
    assert causes(manifests, tmp_path) == []  # without a node


def test_the_next_node_of_a_row_is_no_slip_though_it_has_no_object(tmp_path: Path) -> None:
    known = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "worker-1"}}
    (cause,) = causes([service(**EXTERNAL), pod(node="worker-2"), known], tmp_path, "worker-1")
    assert (cause.text.endswith("(1 on worker-2)"), cause.expected) == (True, True)


def test_a_node_that_is_named_quite_otherwise_is_no_slip_though_it_has_no_object(tmp_path: Path) -> None:
    known = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "worker-1"}}
    (cause,) = causes([service(**EXTERNAL), pod(node="db-1"), known], tmp_path, "worker-1")
    assert (cause.text.endswith("(1 on db-1)"), cause.expected) == (True, True)


@pytest.mark.parametrize("nodes", [(), ("worker-1",), ("worker-1", "worker1")])
def test_a_node_name_with_a_slip_is_told_where_the_nodes_are_known(tmp_path: Path, nodes: tuple[str, ...]) -> None:
    """Names of nodes are much like each other: only one that no Node has is a slip."""
    known = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}} for name in nodes]
    (cause,) = causes([service(**EXTERNAL), pod(node="worker1"), *known], tmp_path, "worker-1")
    assert cause.text.endswith("they name worker1" if len(nodes) == 1 else "(1 on worker1)")
    assert cause.expected == (len(nodes) != 1)


def test_a_policy_local_without_any_endpoint_has_the_causes_of_that(tmp_path: Path) -> None:
    (cause,) = causes([service(**EXTERNAL), pod(ip="")], tmp_path, "worker-1")
    assert (cause.reason, cause.expected) == ("NoPodIP", False)
    (local,) = causes([service(**EXTERNAL), pod(node="worker-2")], tmp_path, "worker-1")
    assert (local.reason, local.expected) == ("NoLocalEndpoint", True)


def test_more_endpoints_than_are_looked_at_is_a_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last ports get nothing, though the slices are in order."""
    monkeypatch.setattr(join, "MAX_WEIGHED", 100)
    monkeypatch.setattr(why, "MAX_WEIGHED", 100)
    one = make_service("web", *(make_port(number, name=f"p{number}") for number in range(1, 51)))
    addresses = [f"10.244.1.{number}" for number in range(1, 31)]
    pieces = [make_slice(*addresses, name=f"web-{n}", port_name=f"p{n}") for n in range(1, 51)]
    found = why_none(one, Around(Snapshot((one,), tuple(pieces)), lambda _, __: ()))
    text = "more than 100 endpoints would have to be looked at for all ports together; split the Service"
    assert str(found[0]) == f"ports p4, p5, p6 and 7 more: {text}"  # of the first ten kinds of ports
    assert str(found[-1]) == "37 more are without an endpoint; mend these ports first"
    assert "MorePorts" not in {cause.reason for cause in found[:-1]}
    assert len(found) < 30


def test_what_a_budget_does_not_reach_is_left_out_and_a_cause_is_told_all_the_same(tmp_path: Path) -> None:
    manifests = [service(selector="wbe"), *(pod(f"p{n}", f"v{n}", ip=f"10.244.1.{n}") for n in range(2, 60)), pod()]
    for budget in (0, 1, 100, 1000):
        lies = around(manifests, tmp_path, budget)
        (cause,) = why_none(lies.index.services[ObjectName("default", "web")], lies)
        assert cause.reason == "NoPodSelected"
    lies = around(manifests, tmp_path)
    (cause,) = why_none(lies.index.services[ObjectName("default", "web")], lies)
    assert "nearest: app=web on web-1" in cause.text
    assert 0 < lies.budget < 1_000_000


def lone(selector: dict[str, str], labels: dict[str, str]) -> list[Cause]:
    """A Service and a Pod, as an old store may hold them: what comes in today has been looked at."""
    one = make_service(selector=selector)
    lies = Around(Snapshot((one,), pods=(Pod("default", "web-1", labels),)), lambda _, __: ())
    return list(why_none(one, lies))


def test_neither_long_nor_strange_labels_get_far() -> None:
    long, steering = "x" * 1_000_000, "web\u202e\x1b[31m"
    many = {f"k{number}": long for number in range(300)}
    similar = {f"{number:050}": "ab" * 50 for number in range(200)}
    for selector, labels in (
        (many, many | {"k0": "y"}),
        (many, {}),
        ({steering: "a"}, {"app": steering}),
        ({"app": steering}, {"app": steering + "y"}),
        ({"app": long}, many),
        (similar, {key[1:]: value for key, value in similar.items()}),
    ):
        found = lone(selector, labels)
        assert found
        for cause in found:
            assert len(str(cause)) < 1000
            assert str(cause).isprintable()


def test_many_services_share_one_budget(tmp_path: Path) -> None:
    """All of a store is asked about: what is near is looked for as long as the budget lasts, the rest is told."""
    services = [service(selector=f"wbe{number}", name=f"web{number}") for number in range(300)]
    lies = around(
        [*services, *(pod(f"p{n}", f"web-{n}", ip=f"10.244.1.{n}") for n in range(2, 200))], tmp_path, 100_000
    )
    told = [why_none(one, lies) for one in lies.snapshot.services]
    assert all(len(causes) == 1 for causes in told)
    assert lies.budget > -1000  # what is spent at once is little


def test_causes_are_frozen_and_one_line() -> None:
    cause = Cause("NoPodIP", "a", "b", "port http")
    assert str(cause) == "port http: a; b"
    assert json.dumps(cause.reason) == '"NoPodIP"'


# --- how far it looks -------------------------------------------------------------


def bare(budget: int = 1_000_000) -> Around:
    return Around(Snapshot(()), lambda _, __: (), budget=budget)


def test_texts_are_alike_from_three_fifths_on_and_up_to_a_hundred_characters() -> None:
    lies = bare()
    assert lies.is_like("abcxy", "abczw")
    assert not lies.is_like("abxyz", "abuvw")
    assert not lies.is_like("abc", "abc"), "the same is no slip"
    assert lies.likeness("ABC", "abc") == 0.99
    assert lies.likeness("a" * 100, "a" * 99 + "b") > 0.9
    assert lies.likeness("a" * 101, "a" * 100 + "b") == 0.0
    assert lies.likeness("a" * 5, "a" * 101) == 0.0


def test_a_comparison_costs_more_for_longer_texts_and_none_is_made_when_the_budget_is_spent() -> None:
    costs = []
    for size in (4, 40, 100):
        lies = bare()
        lies.likeness("a" * size, "b" * size)
        costs.append(1_000_000 - lies.budget)
        lies.likeness("a" * size, "b" * size)
        assert 1_000_000 - lies.budget == costs[-1], "what is known costs nothing"
    assert 0 < 10 * costs[0] < costs[1] < costs[2]
    assert costs[2] > 5 * costs[1]
    assert bare(0).likeness("web", "webs") == 0.0
    lies = bare(2)
    assert [lies.spend(), lies.spend(), lies.spend()] == [True, True, False]


@pytest.mark.parametrize(
    ("status", "found"),
    [({"list": ["odd", {"a": 1}, None]}, [{"a": 1}]), ({"list": {"a": 1}}, []), ("odd", []), (None, []), ({}, [])],
)
def test_of_a_document_whatever_is_in_it_mappings_alone_are_taken(status: Any, found: list[Any]) -> None:
    """A store may hold what came in with --validate=ignore, or by hand."""
    assert items({"status": status}, "status", "list") == found


def test_nothing_is_looked_for_elsewhere_when_the_budget_is_spent(tmp_path: Path) -> None:
    for there in (pod(metadata=OTHER), pod(labels="postgres")):
        lies = around([service(), there], tmp_path, budget=0)
        (cause,) = why_none(lies.index.services[ObjectName("default", "web")], lies)
        assert cause.reason == "NoPodSelected"
        assert "they have" not in cause.text


def test_a_label_three_fifths_alike_is_the_nearest() -> None:
    (cause,) = lone({"app": "abcxy"}, {"app": "abczw"})
    assert "nearest: app=abczw on web-1" in cause.text


@pytest.mark.parametrize(
    ("count", "told"),
    [(1, "k1=v"), (3, "k1=v,k2=v,k3=v"), (4, "k1=v,k2=v,k3=v,k4=v"), (5, "k1=v,k2=v,k3=v and 2 more")],
)
def test_four_labels_are_told_and_of_more_the_first_three(count: int, told: str) -> None:
    assert told_labels((f"k{n}", "v") for n in range(count, 0, -1)) == told


@pytest.mark.parametrize(
    "more",
    [{"external_ips": "192.0.2.1"}, {"load_balancer_ips": "192.0.2.1"}, {}],
    ids=["an externalIP", "a load balancer's", "not offered outside"],
)
def test_a_policy_local_counts_where_it_is_offered(more: dict[str, str]) -> None:
    offered: dict[str, Any] = {key: (ip_address(ip),) for key, ip in more.items()}
    local = replace(make_service(), external_traffic_policy="Local", **offered)
    found = why_none(local, Around(Snapshot((local,), (make_slice("10.244.2.1"),)), lambda _, __: ()), "worker-1")
    assert [cause.reason for cause in found] == ["NoLocalEndpoint"] * bool(more)


@pytest.mark.parametrize(("count", "is_told"), [(10, False), (11, True)])
def test_as_many_endpoints_as_are_looked_at_are_no_cause(
    monkeypatch: pytest.MonkeyPatch, count: int, is_told: bool
) -> None:
    monkeypatch.setattr(join, "MAX_WEIGHED", 100)
    monkeypatch.setattr(why, "MAX_WEIGHED", 100)
    one = make_service("web", *(make_port(number, name=f"p{number}") for number in range(1, 11)))
    local = replace(one, internal_traffic_policy="Local")
    ends = [make_endpoint(f"10.244.1.{number}", ready=False) for number in range(1, count + 1)]
    pieces = [make_slice(*ends, name=f"web-{n}", port_name=f"p{n}") for n in range(1, 11)]
    found = why_none(local, Around(Snapshot((local,), tuple(pieces)), lambda _, __: ()), "worker-1")
    assert ("TooManyEndpoints" in {cause.reason for cause in found}) is is_told


def test_one_kind_of_port_too_many_is_counted_as_one() -> None:
    one = make_service("web", *(make_port(number, name=f"p{number}") for number in range(1, 12)))
    found = why_none(one, Around(Snapshot((one,), (make_slice("10.244.1.1", port_name="x"),)), lambda _, __: ()))
    assert str(found[-1]) == "1 more is without an endpoint; mend these ports first"
