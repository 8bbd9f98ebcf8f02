"""A selector that matches no Pod: which Pod it was probably meant for.

Of each Pod in the namespace every label of the selector is weighed: the same costs nothing; another value costs what
it differs by, and so does the same value under another key; nothing like it costs all of it. The cheapest Pod is the
nearest. Texts that are very long count as altogether different.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping
from itertools import islice

from nodeport_nft.kube.endpoints import SERVICE_NAME_LABEL
from nodeport_nft.model import Pod, Service
from nodeport_nft.resolve.absence.around import LIKE, LONGEST, Around
from nodeport_nft.resolve.absence.cause import Cause, is_or_are, label, labels, listed, named

_OTHER_KEY = 0.8
"""What the right value under a key of another kind costs."""

_OTHER_VALUE = 0.95
"""What the right key with another value costs, which is hardly better than no such key."""

_Pair = tuple[str, str]
_Found = tuple[float, str]
"""What a label costs, and what there is in its place, for people."""


def unmatched(service: Service, around: Around) -> Iterable[Cause]:
    """Why the selector matches no Pod of the namespace; at least one cause."""
    what = f"selector {labels(service.selector.items())} matches no pod"
    pods = around.pods_by_namespace.get(service.namespace, ())
    elsewhere = tuple(_elsewhere(service, around, what))
    yield from elsewhere
    near = nearest_pod(service.selector, pods, around)
    if near is not None:
        pod, differing, has_rest = near
        rest = ", which has the rest" if has_rest else ""
        text = f"{what}; nearest: {listed(differing)} on {pod.name}{rest}"
        yield Cause("NoPodSelected", text, "correct the selector, or the pods' labels")
    elif elsewhere:
        return
    elif (far := _near_elsewhere(service, around)) is not None:
        pod, differing = far
        text = f"{what} of namespace {service.namespace}; nearest: {listed(differing)} on {pod.name} "
        remedy = "correct the selector, or the pods' labels, and put both into one namespace"
        yield Cause("NoPodSelected", f"{text}in namespace {pod.namespace}", remedy)
    elif not pods:
        text = f"{what}: there is no pod in namespace {service.namespace}"
        yield Cause("NoPodSelected", text, "apply the pods, with their labels and status.podIP")
    else:
        held = _held(service.selector, pods, around)
        text = f"{what} of namespace {service.namespace}{f'; they have {listed(held)}' if held else ''}"
        yield Cause("NoPodSelected", text, "apply the pods, or correct the selector or their labels")


def without_slice(service: Service, around: Around) -> tuple[Cause, ...]:
    """That nobody has written a slice for Pods that the selector matches, where they are no endpoints without one."""
    wanted = labels(service.selector.items())
    nothing = f"no EndpointSlice has the label {SERVICE_NAME_LABEL}={service.name}"
    writer = "that kube-controller-manager runs, which writes them"
    if around.pods is None:
        command = f"kubectl get pods -n {service.namespace} -l {shlex.quote(wanted.replace(' ', ''))}"
        return (Cause("NoSlice", nothing, f"see with {command} whether the selector matches any pod, and {writer}"),)
    pods = around.pods_by_namespace.get(service.namespace, ())
    found = [pod.name for pod in pods if service.selector.items() <= pod.labels.items()]
    if not found:
        return ()
    return (Cause("NoSlice", f"{nothing}, and selector {wanted} matches {named('pod', found)}", f"see {writer}"),)


def _elsewhere(service: Service, around: Around, what: str) -> Iterable[Cause]:
    """The selector fits Pods, but of other namespaces."""
    wanted = service.selector.items()
    found: list[Pod] = []
    for pod in min((around.pods_by_label.get(pair, []) for pair in wanted), key=len):
        if not around.spend(len(wanted)) or len(found) > LONGEST:
            break
        if wanted <= pod.labels.items():
            found.append(pod)
    if found:
        space = min(pod.namespace for pod in found)
        names = sorted(pod.name for pod in found if pod.namespace == space)
        yield Cause(
            "PodInOtherNamespace",
            f"{what} of namespace {service.namespace}; {named('pod', names)} {is_or_are(names)} in namespace {space}",
            f"put the Service there, or the pods into {service.namespace}",
        )


def _near_elsewhere(service: Service, around: Around) -> tuple[Pod, list[str]] | None:
    """The Pod of another namespace that the selector would fit but for one slip, and what it has there."""
    pods = (pod for space, its in around.pods_by_namespace.items() if space != service.namespace for pod in its)
    found = nearest_pod(service.selector, pods, around, most=1 - LIKE)
    return found and found[:2]


def nearest_pod(
    selector: Mapping[str, str], pods: Iterable[Pod], around: Around, *, most: float = math.inf
) -> tuple[Pod, list[str], bool] | None:
    """The Pod whose labels are most like the selector, what it has where it differs, and whether it has the rest.

    ``most``: what it may cost. None: no Pod has anything like it.
    """
    wanted = sorted(islice(selector.items(), LONGEST))
    best: tuple[float, str] = min(_OTHER_VALUE * len(wanted) - 0.001, most + 0.001), ""
    nearest: tuple[Pod, list[_Found]] | None = None
    for pod in pods:
        if not around.spend(len(wanted) * (1 + len(pod.labels))):
            break
        found = [_nearest_label(pair, pod.labels, around) for pair in wanted]
        rank = sum(cost for cost, _ in found), pod.name
        if rank < best:
            best, nearest = rank, (pod, found)
    if nearest is None:
        return None
    pod, found = nearest
    differing = [text for cost, text in found if cost]
    return pod, differing, len(differing) < len(found)


def _nearest_label(pair: _Pair, held: Mapping[str, str], around: Around) -> _Found:
    """What of some labels is most like the one that is wanted, and what that costs: 0 for the same, 1 for none."""
    key, value = pair
    own = held.get(key)
    if own == value:
        return 0.0, ""
    found: _Found = (1.0, f"no label {label(key)}")
    if own is not None:
        found = _cost(value, own, _OTHER_VALUE, around), label(key, own)
    for other, its in islice(held.items(), LONGEST):
        if its == value:  # under another key, or it would be the same label
            found = min(found, (_cost(key, other, _OTHER_KEY, around), label(other, its)))
    return found


def _cost(one: str, other: str, otherwise: float, around: Around) -> float:
    alike = around.likeness(one, other)
    return min(otherwise, 1 - alike) if alike >= LIKE else otherwise


def _held(selector: Mapping[str, str], pods: Iterable[Pod], around: Around) -> list[str]:
    """The labels that the Pods have under the keys of the selector, each once."""
    found: dict[str, None] = {}
    for pod in pods:
        if not around.spend(len(selector)) or len(found) > LONGEST:
            break
        found |= {label(key, pod.labels[key]): None for key in selector if key in pod.labels}
    return sorted(found)
