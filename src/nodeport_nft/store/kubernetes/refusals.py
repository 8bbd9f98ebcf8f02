"""What an API server says when it refuses → problems in our form: object, field, value and remedy.

The server's own words stay, since people look them up; what can be done about it is added where it is known.
Source: the Kubernetes API conventions ("Response Status Kind"), and recorded answers of API servers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from msgspec import Struct, field

from nodeport_nft.kinds import BY_KIND
from nodeport_nft.kube import Object
from nodeport_nft.model import Ref
from nodeport_nft.problems import Problem, clipped
from nodeport_nft.store.errors import StoreError
from nodeport_nft.store.kubernetes.errors import Refused

MANAGER = "nodeport-nft"
"""The name under which we write fields."""

_HELD = "already allocated"
_OUTSIDE = re.compile(r"does not match the current range|the provided IP .* is not in the valid range")
_LONGEST_SAID = 300

_NO_RULE = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]*)")?'
)
_MANAGED = re.compile(r'conflict with "(?P<name>[^"]*)"')
_STRICT = re.compile(r'(?P<what>unknown|duplicate) field "(?P<field>[^"]*)"')
_UNDECLARED = "field not declared in schema"
_SHAPE = re.compile(r"(?<!\S)(?P<field>\.\S+): (?P<what>.+?)(?=\s+\.\S+: |$)", re.DOTALL)
"""Of "failed to create typed patch object": a line each, which may have become one line on the way."""
_NUMBER = re.compile(r"[0-9a-fA-F.:]*[0-9a-fA-F]")  # ports and addresses, and words that are none

_REMEDIES = (
    ("provided port is not in the valid range", "choose one of these, or leave it out and one is found"),
    ("may not change once set", "leave it as it is, or delete the object and create it anew"),
    ("field is immutable", "leave it as it is, or delete the object and create it anew"),
    ("range is full", "delete what is no longer needed, or let the cluster's administrator widen the range"),
    ("Unsupported value", "use one of these"),
    ("Required value", "add it"),
)


class Around(Struct, frozen=True):
    """What is known of the cluster where numbers were refused: who holds which, and what clusterIPs come from."""

    holders: Mapping[str, Ref] = field(default_factory=dict)
    networks: tuple[str, ...] = ()


def asks_around(refused: Refused) -> bool:
    """Whether more can be said of it by one who looks ``Around``."""
    return any(_HELD in text or _OUTSIDE.search(text) for text in _texts(refused))


def is_held_by_others(refused: Refused) -> bool:
    """Whether fields are refused because others manage them."""
    return any(cause.reason == "FieldManagerConflict" for cause in refused.causes)


def is_own(refused: Refused) -> bool:
    """Whether all these others are ourselves, in a former ``create``: a write counts as another manager's there."""
    owners = {_manager(cause.message) for cause in refused.causes}
    return is_held_by_others(refused) and owners == {MANAGER}


def has_unknown_fields(refused: Refused) -> bool:
    """Whether fields are refused that this server does not know. Who applies cannot send any."""
    return _UNDECLARED in str(refused)


def is_absent(refused: Refused) -> bool:
    """Whether there is no object of this name. A server that has no such kind answers with the same code."""
    return refused.code == 404 and _missing_kind(refused) not in ("", "namespaces")


def is_outdated(refused: Refused) -> bool:
    """Whether a version was given that is not the stored one."""
    return refused.code == 409 and refused.reason == "Conflict" and not is_held_by_others(refused)


def knows_no_trial(refused: Refused) -> bool:
    """Whether something in the server's way cannot try a write without doing it (an admission webhook)."""
    return "does not support dry run" in str(refused)


def problems_of(refused: Refused, obj: Object, where: object, around: Around) -> tuple[Problem, ...]:
    """What is wrong with an object. Raises StoreError where it is none of the object's faults."""
    return tuple(
        Problem(obj.source, str(obj.ref), at, clipped(text, _LONGEST_SAID))
        for at, text in _found(refused, obj.ref, where, around)
    )


def failure(refused: Refused, where: object, ref: Ref | None = None) -> StoreError:
    """What is said where reading, or writing whatever it is, is refused; with the remedy."""
    said = str(refused)
    about = f"{where}: {ref}" if ref else str(where)
    if refused.code == 403 and (rule := _NO_RULE.search(said)):
        return StoreError(f"{about}: {said}; {_missing(rule)}")
    if refused.code == 404 and ref is not None:
        resource = BY_KIND[ref.kind]
        return StoreError(f"{about}: this API server has no {resource.plural} of {resource.api_version}: {said}")
    if refused.code == 429 or refused.code >= 500:
        return StoreError(f"{about}: {said} (code {refused.code}); try again, and see how the API server does")
    return StoreError(f"{about}: {said}")


def _found(refused: Refused, ref: Ref, where: object, around: Around) -> Iterator[tuple[str, str]]:
    """Field and text of each fault."""
    said = str(refused)
    if is_held_by_others(refused):
        for cause in refused.causes:
            yield (
                cause.field.removeprefix("."),
                f"another field manager has set it: {cause.message}; give it the same value, leave it out, or take "
                "it over with --force-conflicts",
            )
    elif refused.code == 400 and (found := [*_STRICT.finditer(said)]):
        for each in found:
            what = "is unknown to this API server" if each["what"] == "unknown" else "is given twice"
            yield each["field"], f"{what}; leave it out"
    elif "typed patch" in said and (found := [*_SHAPE.finditer(said)]):  # told as an error of the server's own
        for each in found:
            is_unknown = each["what"] == _UNDECLARED
            text = "is unknown to this API server; leave it out" if is_unknown else each["what"]
            yield each["field"].removeprefix("."), text
    elif _is_about_namespace(refused):
        yield "metadata.namespace", f"{said}; create it first, with kubectl create namespace {ref.namespace}"
    elif "failed to allocate" in said and not refused.causes:  # an error of the server's own, by its code
        at = "spec.healthCheckNodePort" if "HealthCheck" in said else ""
        yield at, _with_remedy(said, around)
    elif refused.causes and refused.code not in (401, 403):
        for cause in refused.causes:
            yield cause.field, _with_remedy(cause.message, around)
    elif refused.code in (401, 404, 429) or refused.code >= 500 or (refused.code == 403 and _NO_RULE.search(said)):
        raise failure(refused, where, ref)
    else:
        yield "", said


def _with_remedy(said: str, around: Around) -> str:
    if _HELD in said:
        named = (around.holders.get(number) for number in _NUMBER.findall(said))
        holder = next(filter(None, named), None)
        return f"{said}{f', to {holder}' if holder else ''}; choose another or leave it out"
    if _OUTSIDE.search(said):
        where = f"one in {', '.join(around.networks)}" if around.networks else "another"
        return f"{said}; choose {where}, or leave it out and one is found"
    remedy = next((remedy for words, remedy in _REMEDIES if words in said), "")
    return f"{said}; {remedy}" if remedy else said


def _missing(rule: re.Match[str]) -> str:
    """Which rule of RBAC would let one do it."""
    namespace = rule["namespace"]
    kind = f"Role in {namespace} or a ClusterRole" if namespace else "ClusterRole"
    return (
        f'what is missing is a {kind} with apiGroups: ["{rule["group"]}"], resources: ["{rule["resource"]}"], '
        f'verbs: ["{rule["verb"]}"], bound to {rule["user"]}'
    )


def _is_about_namespace(refused: Refused) -> bool:
    """Whether it is the namespace that is not there."""
    return refused.code == 404 and _missing_kind(refused) == "namespaces"


def _missing_kind(refused: Refused) -> str:
    """Of what kind (as in paths) the object is that is not there; "" where it is no object that is not there."""
    try:
        details = json.loads(refused.body)["details"]
        return str(details.get("kind") or "") if details.get("name") else ""
    except (ValueError, LookupError, TypeError, AttributeError):  # no Status, or none with details
        return ""


def _manager(message: str) -> str:
    found = _MANAGED.search(message)
    return found["name"] if found else ""


def _texts(refused: Refused) -> Iterator[str]:
    yield str(refused)
    for cause in refused.causes:
        yield cause.message
