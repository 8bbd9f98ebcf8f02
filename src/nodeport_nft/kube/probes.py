"""Readiness probes (core/v1 Probe): whose they are, and what is to be done for each (conformance X9).

A probe is ours where nobody else runs it:

- Of a Pod that has an address and no ``status.conditions``. Conditions are a kubelet's word, so where there are any,
  readiness is what ``Ready`` says, and the probe is the kubelet's affair: such a Pod was copied out of a cluster, and
  nothing of its probes is looked at. Without an address it is nobody's endpoint, and once it has ended neither.
- Of the endpoints of an EndpointSlice, or of Endpoints, that carry the annotation ``nodeport-nft/readiness-probe``.

``httpGet`` and ``tcpSocket`` are run. ``exec`` and ``grpc`` are refused where the probe would be ours, and there
alone. What is refused is so where objects come in. One that is stored already was taken by an older version: what is
wrong in its probe is passed over, and it is not probed.

Fields, defaults and checks are those of the API (validateProbe and SetDefaults_Probe, k8s.io/kubernetes
pkg/apis/core). A port's name must be one of the container's: the API lets others in, and such a Pod never gets ready.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from nodeport_nft.json_values import too_deep
from nodeport_nft.kube.annotations import READINESS_PROBE
from nodeport_nft.kube.fields import Fields, mappings_in
from nodeport_nft.kube.unknown import unknown_in
from nodeport_nft.model import EndpointPort, HttpGet, Probe, Protocol, TcpSocket
from nodeport_nft.notation import parse_address, service_name_fault, subdomain_fault
from nodeport_nft.problems import Path, field_text, nearest, shown

_EXEC = "is not run, since the command would run on the node and not in the container; use httpGet or tcpSocket"
_GRPC = "is not spoken here; use tcpSocket on its port, or httpGet"
_ACTIONS = ("exec", "httpGet", "tcpSocket", "grpc")
_EXAMPLE = '{"httpGet": {"path": "/healthz", "port": 8080}}'
_HEADER_NAME = re.compile(r"[-A-Za-z0-9]+")
_HEADER_VALUE = re.compile(r"[ \t\x21-\x7e\x80-\xff]*")
_MOST = 2**31 - 1
_PATH_LETTERS = "/%:=&?~+!$,;'@()*[]"  # that stay as they are in a path or a query

Numbers = Mapping[str, int]
"""The numbers of ports by their names."""


def is_unwatched(status: Any) -> bool:
    """Whether the status of a Pod, whatever that is, leaves its probes to us."""
    return (
        isinstance(status, dict)
        and bool(status.get("podIP") or status.get("podIPs"))
        and not status.get("conditions")
        and status.get("phase") not in ("Succeeded", "Failed")
    )


def parse_pod_probes(spec: dict[str, Any], fields: Fields) -> tuple[Probe, ...]:
    """The readiness probes of the containers and restartable init containers of a Pod that nobody else watches."""
    if fields.lenient:  # of a server, whose nodes have kubelets
        return ()
    containers = mappings_in(spec, ("spec",), "containers")
    sidecars = [
        (path, one)
        for path, one in mappings_in(spec, ("spec",), "initContainers")
        if one.get("restartPolicy") == "Always"
    ]
    found = (
        _parsed(probe, (*path, "readinessProbe"), _container_ports(path, container), "the container", fields)
        for path, container in (*containers, *sidecars)
        if (probe := container.get("readinessProbe")) is not None
    )
    return tuple(probe for probe in found if probe is not None)


def _container_ports(path: Path, container: dict[str, Any]) -> Numbers:
    """A container's ports by name; of equal ones the first counts. Its parser tells what is wrong with them."""
    named: dict[str, int] = {}
    for _, port in mappings_in(container, path, "ports"):
        name, number = port.get("name"), port.get("containerPort")
        if isinstance(name, str) and type(number) is int and 0 < number < 65536:
            named.setdefault(name, number)
    return named


def parse_annotated_probe(
    annotations: Mapping[str, str], ports: tuple[EndpointPort, ...], what: str, fields: Fields
) -> Probe | None:
    """The probe of the endpoints of ``what``, which have these ports; None if there is none, or it is wrong."""
    text = annotations.get(READINESS_PROBE)
    if text is None:
        return None
    path: Path = ("metadata", "annotations", READINESS_PROBE)
    raw, fault = _json(text)
    if not isinstance(raw, dict):
        if fields.incoming or fields.lenient:
            said = fault or "is not JSON mapping"
            fields.problem(path, f"{shown(text)} {said}; write the fields of a readinessProbe, as {_EXAMPLE}")
        return None
    numbers = {port.name: port.port for port in reversed(ports) if port.name and port.protocol is Protocol.TCP}
    return _parsed(raw, path, numbers, what, fields, of_annotation=True)


def _json(text: str) -> tuple[Any, str]:
    """The value, None if it is none; and what is wrong with the text, "" if nothing is."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        return None, f"is not JSON: {error.msg} ({where})"
    except (ValueError, RecursionError):  # a number of thousands of digits; nested too deeply
        return None, ""
    return (None, "is nested too deeply") if too_deep(value) else (value, "")


def _parsed(
    raw: Any, path: Path, numbers: Numbers, what: str, fields: Fields, *, of_annotation: bool = False
) -> Probe | None:
    """A probe; None if anything is wrong with it, which is told where the object comes in."""
    own = Fields()
    here = () if of_annotation else path
    if isinstance(raw, dict):
        probe = _probe(raw, here, numbers, what, own)
        for fault in unknown_in(raw, "V1Probe") if of_annotation else ():
            own.problem((), fault)
    else:
        own.problem(here, f"{shown(raw)} stands where a mapping belongs")
        probe = None
    if fields.incoming or fields.lenient:
        for _, (place, text), _ in own.problems:
            inner = f"{field_text(place)}: {text}" if place else text
            fields.problem(path if of_annotation else place, inner if of_annotation else text)
        for _, (place, text), _ in own.notes:
            fields.note(path if of_annotation else place, text)
    return None if own.problems else probe


def _probe(raw: dict[str, Any], path: Path, numbers: Numbers, what: str, fields: Fields) -> Probe | None:
    if raw.get("terminationGracePeriodSeconds") is not None:
        fields.problem((*path, "terminationGracePeriodSeconds"), "may not be set for a readiness probe; leave it out")
    delay, timeout, period, successes, failures = (
        _count(raw, path, key, default, fields)
        for key, default in (
            ("initialDelaySeconds", 0),
            ("timeoutSeconds", 1),
            ("periodSeconds", 10),
            ("successThreshold", 1),
            ("failureThreshold", 3),
        )
    )
    action = _action(raw, path, numbers, what, fields)
    return None if action is None else Probe(action, delay, timeout, period, successes, failures)


def _count(raw: dict[str, Any], path: Path, key: str, default: int, fields: Fields) -> int:
    """A number that may not be negative; 0 stands for the default, as the API has it."""
    number = fields.integer(raw, path, key) or 0
    if number < 0:
        fields.problem((*path, key), f"{shown(number)} is negative; write a whole number from 0 on")
    elif number > _MOST:
        fields.problem((*path, key), f"{shown(number)} is more than the API takes; write {_MOST} at most")
    return number or default


def _action(
    raw: dict[str, Any], path: Path, numbers: Numbers, what: str, fields: Fields
) -> HttpGet | TcpSocket | None:
    given = [key for key in _ACTIONS if raw.get(key) is not None]
    if len(given) > 1:
        fields.problem(path, f"has {' and '.join(given)}; keep one of them")
    elif not given:
        slips = (nearest(name, _ACTIONS) for name in raw if isinstance(name, str) and name not in _ACTIONS)
        meant = next(filter(None, slips), "")
        if path or not meant:  # in an annotation, the slip is told as the unknown field that it is
            remedy = f"did you mean {meant}?" if meant else "give it httpGet or tcpSocket"
            fields.problem(path, f"says nothing to do; {remedy}")
    if "exec" in given:
        fields.problem((*path, "exec"), _EXEC)
    if "grpc" in given:
        fields.problem((*path, "grpc"), _GRPC)
    found: HttpGet | TcpSocket | None = None
    for key, make in (("tcpSocket", _tcp_socket), ("httpGet", _http_get)):
        if key not in given:
            continue
        if not isinstance(raw[key], dict):
            fields.problem((*path, key), f"{shown(raw[key])} stands where a mapping belongs")
            continue
        found = make(raw[key], (*path, key), numbers, what, fields)
    return found


def _tcp_socket(action: dict[str, Any], path: Path, numbers: Numbers, what: str, fields: Fields) -> TcpSocket:
    return TcpSocket(_port(action, path, numbers, what, fields), _host(action, path, fields))


def _http_get(action: dict[str, Any], path: Path, numbers: Numbers, what: str, fields: Fields) -> HttpGet:
    port = _port(action, path, numbers, what, fields)
    scheme = fields.choice(action, path, "scheme", ("HTTP", "HTTPS"), "HTTP")
    if (version := fields.text(action, path, "protocol")) not in ("", "HTTP/1.1"):
        fields.note((*path, "protocol"), f"{shown(version)} is not spoken here, HTTP/1.1 is; leave it out")
    headers = tuple(_headers(action, path, fields))
    target = _target(fields.text(action, path, "path"))
    return HttpGet(port, target, _host(action, path, fields), scheme == "HTTPS", headers)


def _port(action: dict[str, Any], path: Path, numbers: Numbers, what: str, fields: Fields) -> int:
    """The port's number, which may be given by its name; 0 after a problem."""
    value = action.get("port")
    if not isinstance(value, str):
        return fields.port(action, path, "port")
    here = (*path, "port")
    if value in numbers:
        return numbers[value]
    if value.isascii() and value.isdecimal():
        fields.problem(here, f"{shown(value)} is a string, not a number; leave out the quotes")
    elif fault := service_name_fault(value):
        fields.problem(here, fault)
    else:
        known = f"use {' or '.join(map(shown, sorted(numbers)[:5]))}, or a number" if numbers else "give its number"
        fields.problem(here, f"{shown(value)} names no port of {what}; {known}")
    return 0


def _host(action: dict[str, Any], path: Path, fields: Fields) -> str:
    """Whom to ask in place of the endpoint: a name or an address; "" if it is not given."""
    text = fields.text(action, path, "host")
    try:
        if text:
            parse_address(text)
    except ValueError as error:
        if ":" in text or text.replace(".", "").isdecimal():
            fields.problem((*path, "host"), str(error))
        elif subdomain_fault(text.lower()):
            fields.problem((*path, "host"), f"{shown(text)} is neither a host's name nor an IP address; correct it")
    return text


def _target(path: str) -> str:
    """What a request names: the path and the query, percent-encoded where need be."""
    try:
        parts = urlsplit(path)
    except ValueError:
        return "/" + quote(path, safe=_PATH_LETTERS).lstrip("/")
    where = "/" + quote(parts.path, safe=_PATH_LETTERS).removeprefix("/")
    return f"{where}?{quote(parts.query, safe=_PATH_LETTERS)}" if parts.query else where


def _headers(action: dict[str, Any], path: Path, fields: Fields) -> Iterator[tuple[str, str]]:
    for here, entry in fields.mappings(action, path, "httpHeaders"):
        name, value = fields.text(entry, here, "name"), fields.text(entry, here, "value")
        if not _HEADER_NAME.fullmatch(name):
            if isinstance(entry.get("name", ""), str | None):
                text = f"{shown(name)} is not a name of a header; use letters, digits and '-', as X-Token"
                fields.problem((*here, "name"), text)
        elif not _HEADER_VALUE.fullmatch(value):
            fields.problem((*here, "value"), f"{shown(value)} has characters that no header may have; leave them out")
        else:
            yield name, value
