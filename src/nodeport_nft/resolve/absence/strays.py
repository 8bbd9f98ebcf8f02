"""What was probably written for a Service and does not belong to it: slices and Endpoints that nearly are its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nodeport_nft.kube.endpoints import HEADLESS_LABEL, SERVICE_NAME_LABEL
from nodeport_nft.model import ObjectName, Service
from nodeport_nft.resolve.absence.around import LONGEST, Around, at, word
from nodeport_nft.resolve.absence.cause import Cause, label, named

_MOST = 3
"""Causes of one kind that are told."""


def strays(service: Service, around: Around) -> Iterable[Cause]:
    """What there is of slices and Endpoints that may have been meant for this Service."""
    for kind in (_headless, _in_documents, _of_similar_name, _in_other_namespaces):
        for number, cause in enumerate(kind(service, around)):
            if number == _MOST:
                break
            yield cause


def _headless(service: Service, around: Around) -> Iterator[Cause]:
    pieces = [piece for piece in around.index.slices(service) if piece.headless]
    if pieces:
        remedy = f"take off the label {HEADLESS_LABEL}"
        what = (
            f"Endpoints {service.name} is"
            if all(piece.mirrored for piece in pieces)
            else f"{named('slice', sorted(p.name for p in pieces))} {'is' if len(pieces) == 1 else 'are'}"
        )
        yield Cause("SliceHeadless", f"{what} labelled as of a headless Service, which this is not", remedy)


def _in_documents(service: Service, around: Around) -> Iterator[Cause]:
    """What the model has no value for: slices of no Service or of names, Endpoints without an address."""
    for name, raw in around.documents("EndpointSlice", service.namespace).items():
        if not around.spend():
            return
        owner = word(raw, "metadata", "labels", SERVICE_NAME_LABEL)
        if owner == service.name:
            if raw.get("addressType") == "FQDN":
                text = f"slice {name} is of addressType FQDN, and names are no endpoints"
                yield Cause("SliceOfNames", text, "write a slice of type IPv4 or IPv6 with the addresses")
        elif not owner and _may_be_of(service, name, around):
            yield _unlabelled(service, name, raw, around)
    endpoints = around.documents("Endpoints", service.namespace).get(service.name)
    if endpoints is not None and not any(True for _ in around.index.slices(service)):
        text = f"Endpoints {service.name} has no addresses"
        yield Cause("NoAddresses", text, "write them under subsets[].addresses")


def _may_be_of(service: Service, name: str, around: Around) -> bool:
    """Whether a slice of this name was probably meant for the Service: controllers add a dash and some letters."""
    if name == service.name or name.startswith(f"{service.name}-") or not service.selector:
        return True
    return around.is_like(service.name, name) or around.is_like(service.name, name.rpartition("-")[0])


def _unlabelled(service: Service, name: str, raw: Mapping[str, Any], around: Around) -> Cause:
    remedy = f"label it {SERVICE_NAME_LABEL}={service.name}"
    annotations, labels = at(raw, "metadata", "annotations"), at(raw, "metadata", "labels")
    if isinstance(annotations, dict) and SERVICE_NAME_LABEL in annotations:
        return Cause(
            "SliceUnlabelled", f"slice {name} has {SERVICE_NAME_LABEL} as an annotation, not a label", remedy
        )
    for key in list(labels)[:LONGEST] if isinstance(labels, dict) else ():
        if isinstance(key, str) and (key.endswith("service-name") or around.likeness(SERVICE_NAME_LABEL, key) > 0.75):
            return Cause(
                "SliceUnlabelled", f"slice {name} has the label {label(key)}, not {SERVICE_NAME_LABEL}", remedy
            )
    return Cause("SliceUnlabelled", f"slice {name} has no label {SERVICE_NAME_LABEL}", remedy)


def _of_similar_name(service: Service, around: Around) -> Iterator[Cause]:
    """Slices and Endpoints of a name like the Service's, if there is no Service of that name."""
    for piece in around.slices_by_namespace.get(service.namespace, ()):
        if not around.spend():
            return
        owner = piece.service
        if ObjectName(service.namespace, owner) in around.index.services or not around.is_like(service.name, owner):
            continue
        if piece.mirrored:
            text = f"Endpoints {owner} belongs to a Service of its own name, which there is not"
            yield Cause("EndpointsOfOtherName", text, f"name it {service.name}")
        else:
            text = f"slice {piece.name} is labelled {label(SERVICE_NAME_LABEL, owner)}, a Service that there is not"
            yield Cause("SliceOfOtherName", text, f"label it {SERVICE_NAME_LABEL}={service.name}")


def _in_other_namespaces(service: Service, around: Around) -> Iterator[Cause]:
    for piece in around.slices_by_service.get(service.name, ()):
        if not around.spend():
            return
        key = ObjectName(piece.namespace, service.name)
        if piece.namespace != service.namespace and key not in around.index.services:
            what = f"Endpoints {service.name}" if piece.mirrored else f"slice {piece.name}"
            text = f"{what} is in namespace {piece.namespace}, and the Service in {service.namespace}"
            yield Cause("SliceInOtherNamespace", text, "put both into one")
