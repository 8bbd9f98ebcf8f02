"""Pods that a selector matches, and why none of them is an endpoint of a port.

They go through the same sieve as on their way to an endpoint. What is told is what each step has held back, the last
step first: a Pod that came further is nearer to serving.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nodeport_nft.model import Family, ObjectName, Pod, Service, ServicePort
from nodeport_nft.problems import clipped
from nodeport_nft.resolve.absence.around import Around, at, items, word
from nodeport_nft.resolve.absence.cause import Cause, has_or_have, is_or_are, listed, named

_LOOK = "look at what the pod waits for (its events and its log)"
_MOST = 100  # names of one kind that are gone through


def unusable(
    service: Service, port: ServicePort, family: Family, pods: Sequence[Pod], around: Around
) -> Iterable[Cause]:
    """Why no Pod of those that are selected serves this port in this family; at least one cause."""
    steps: list[Cause] = []
    left = list(pods)
    for test, told in _SIEVE:
        passed = [pod for pod in left if test(service, port, family, pod)]
        held = sorted((pod for pod in left if not test(service, port, family, pod)), key=lambda pod: pod.name)
        left = passed
        if held:
            steps.append(told(port, family, held, around))
    # What is left has been taken out by its weight alone.
    if left:
        steps.append(_weightless(left))
    return reversed(steps)


def _is_alive(_: Service, __: ServicePort, ___: Family, pod: Pod) -> bool:
    return not pod.finished


def _has_ip(_: Service, __: ServicePort, ___: Family, pod: Pod) -> bool:
    return bool(pod.ips)


def _has_ip_of_family(_: Service, __: ServicePort, family: Family, pod: Pod) -> bool:
    return any(ip.version == family for ip in pod.ips)


def _is_ready(service: Service, _: ServicePort, __: Family, pod: Pod) -> bool:
    return pod.ready or service.publish_not_ready_addresses


def _has_target(_: Service, port: ServicePort, __: Family, pod: Pod) -> bool:
    if isinstance(port.target_port, int):
        return True
    return any((held.name, held.protocol) == (port.target_port, port.protocol) for held in pod.ports)


def _finished(_: ServicePort, __: Family, pods: Sequence[Pod], around: Around) -> Cause:
    status = _document(pods[0], around)
    words = ": ".join(filter(None, (word(status, "status", "phase"), word(status, "status", "reason"))))
    text = f"{named('pod', _names(pods))} {has_or_have(pods)} ended{f' ({clipped(words)})' if words else ''}"
    return Cause("PodsEnded", text, "start others, or delete what has ended")


def _without_ip(_: ServicePort, __: Family, pods: Sequence[Pod], around: Around) -> Cause:
    phase = word(_document(pods[0], around), "status", "phase")
    note = f" (phase {clipped(phase)})" if phase not in ("", "Running") else ""
    text = f"{named('pod', _names(pods))} {has_or_have(pods)} no status.podIP{note}"
    return Cause("NoPodIP", text, "write there the address at which the pod is reached, once it has one")


def _of_other_family(_: ServicePort, family: Family, pods: Sequence[Pod], __: Around) -> Cause:
    text = (
        f"{named('pod', _names(pods))} {has_or_have(pods)} no IPv{family.value} address in status.podIPs, "
        f"but {pods[0].ips[0]}"
    )
    return Cause("NoAddressOfFamily", text, f"give the pod one, or leave IPv{family.value} out of spec.ipFamilies")


def _without_target(port: ServicePort, _: Family, pods: Sequence[Pod], around: Around) -> Cause:
    wanted = str(port.target_port)
    for pod in pods:
        for held in pod.ports:
            if held.name == wanted:
                text = (
                    f"port {clipped(wanted)} of pod {pod.name} is {held.protocol}, and the Service wants "
                    f"{port.protocol}"
                )
                return Cause("OtherProtocol", text, "give both the same protocol")
    pod = max(
        pods[:_MOST], key=lambda pod: max((around.likeness(wanted, held.name) for held in pod.ports), default=0)
    )
    held_names = sorted(
        dict.fromkeys(held.name for held in pod.ports[:_MOST]), key=lambda name: -around.likeness(wanted, name)
    )
    unnamed = [
        f"{number} without a name"
        for container in items(_document(pod, around), "spec", "containers")[:_MOST]
        for entry in items(container, "ports")[:_MOST]
        if not entry.get("name") and type(number := entry.get("containerPort")) is int
    ]
    has = listed([*held_names, *unnamed]) if held_names or unnamed else "none with a name"
    text = f"no pod has a port named {clipped(wanted)}; {pod.name} has: {has}"
    return Cause(
        "NoPortOfName", text, "correct the port's targetPort (a number will do), or name the container's port"
    )


def _unready(_: ServicePort, __: Family, pods: Sequence[Pod], around: Around) -> Cause:
    ending = [pod for pod in pods if pod.terminating]
    if len(ending) == len(pods):
        return Cause("PodsTerminating", f"{named('pod', _names(pods))} {is_or_are(pods)} terminating", "start others")
    waiting = [pod for pod in pods if not pod.terminating]
    why = _why_unready(_document(waiting[0], around))
    text = f"{named('pod', _names(waiting))} {is_or_are(waiting)} not ready{f': {why}' if why else ''}"
    return Cause("PodsNotReady", text, _LOOK)


def _why_unready(document: Mapping[str, Any]) -> str:
    """What a Pod's status says of why it is not ready; "" if it says nothing."""
    conditions = items(document, "status", "conditions")
    ready = next((condition for condition in conditions if condition.get("type") == "Ready"), None)
    if ready is None:
        return "its status.conditions have none of type Ready" if conditions else ""
    status = word(ready, "status")
    reasons = [f"condition Ready is {clipped(status)}" if status else "condition Ready has no status"]
    reasons += [clipped(word(ready, "reason"))] if word(ready, "reason") else []
    for container in items(document, "status", "containerStatuses")[:_MOST]:
        waits = word(at(container, "state"), "waiting", "reason")
        if waits:
            reasons.append(f"container {clipped(word(container, 'name'))}: {clipped(waits)}")
    return ", ".join(reasons[:4])


def _weightless(pods: Sequence[Pod]) -> Cause:
    text = f"{named('pod', _names(sorted(pods, key=lambda pod: pod.name)))} {has_or_have(pods)} weight 0"
    return Cause("WeightZero", text, "raise it in nodeport-nft/weight, or in nodeport-nft/weights of the Service")


_SIEVE: Sequence[
    tuple[
        Callable[[Service, ServicePort, Family, Pod], bool],
        Callable[[ServicePort, Family, Sequence[Pod], Around], Cause],
    ]
] = (
    (_is_alive, _finished),
    (_has_ip, _without_ip),
    (_has_ip_of_family, _of_other_family),
    (_has_target, _without_target),
    (_is_ready, _unready),
)


def _names(pods: Sequence[Pod]) -> list[str]:
    return [pod.name for pod in pods]


def _document(pod: Pod, around: Around) -> Mapping[str, Any]:
    return around.document("Pod", ObjectName(pod.namespace, pod.name))
