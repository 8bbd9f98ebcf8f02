"""What the server refuses, in the words of the API: a Status with a reason, a code, and the causes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple


class Cause(NamedTuple):
    """One fault of an object: why, what is told of it, and the field that it is in."""

    reason: str
    message: str
    field: str


class Refusal(Exception):
    """A request that is answered by a Status. ``headers`` go with it, as Retry-After."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.headers = headers or {}
        self.status: dict[str, Any] = {
            "kind": "Status", "apiVersion": "v1", "metadata": metadata or {}, "status": "Failure", "message": message,
        }  # fmt: skip
        if reason:
            self.status["reason"] = reason
        if details is not None:
            self.status["details"] = details
        self.status["code"] = code


class PlainRefusal(Exception):
    """A request that is answered by plain text, as what has no such path is."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


# --- faults of one field ------------------------------------------------------------------------------------


def shown(value: Any) -> str:
    """A value as the API's messages show it: as JSON, without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def invalid(field: str, value: Any, why: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {shown(value)}: {why}", field)


def required(field: str, why: str = "") -> Cause:
    return Cause("FieldValueRequired", f"Required value: {why}" if why else "Required value", field)


def unsupported(field: str, value: Any, supported: Sequence[str]) -> Cause:
    names = ", ".join(f'"{name}"' for name in supported)
    return Cause("FieldValueNotSupported", f"Unsupported value: {shown(value)}: supported values: {names}", field)


def forbidden_field(field: str, why: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {why}", field)


def duplicate(field: str, value: Any) -> Cause:
    return Cause("FieldValueDuplicate", f"Duplicate value: {shown(value)}", field)


def too_many(field: str, count: int, most: int) -> Cause:
    return Cause("FieldValueTooMany", f"Too many: {count}: must have at most {most} items", field)


# --- whole answers ------------------------------------------------------------------------------------------


def unprocessable(kind: str, group: str, name: str, causes: Sequence[Cause]) -> Refusal:
    """422 for an object with faults in it."""
    told = [f"{cause.field}: {cause.message}" for cause in causes]
    text = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    details: dict[str, Any] = {"name": name} if name else {}
    if group:
        details["group"] = group
    details["kind"] = kind
    details["causes"] = [cause._asdict() for cause in causes]
    whole = f"{kind}.{group}" if group else kind
    return Refusal(422, "Invalid", f'{whole} "{name}" is invalid: {text}', details=details)


def bad_request(message: str) -> Refusal:
    return Refusal(400, "BadRequest", message)


def _about(resource: str, group: str, name: str) -> dict[str, Any]:
    about = {"name": name, "group": group, "kind": resource}
    return {key: value for key, value in about.items() if value}


def _qualified(resource: str, group: str) -> str:
    return f"{resource}.{group}" if group else resource


def not_found(resource: str, group: str, name: str) -> Refusal:
    message = f'{_qualified(resource, group)} "{name}" not found'
    return Refusal(404, "NotFound", message, details=_about(resource, group, name))


def already_exists(resource: str, group: str, name: str) -> Refusal:
    message = f'{_qualified(resource, group)} "{name}" already exists'
    return Refusal(409, "AlreadyExists", message, details=_about(resource, group, name))


def conflict(resource: str, group: str, name: str, why: str = "") -> Refusal:
    """409 for a write that is of an older version of the object."""
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {_qualified(resource, group)} "{name}": {why}'
    return Refusal(409, "Conflict", message, details=_about(resource, group, name))


def internal(why: str) -> Refusal:
    details = {"causes": [{"message": why}]}
    return Refusal(500, "InternalError", f"Internal error occurred: {why}", details=details)


def no_such_resource() -> Refusal:
    return Refusal(404, "NotFound", "the server could not find the requested resource", details={})


def not_allowed() -> Refusal:
    message = "the server does not allow this method on the requested resource"
    return Refusal(405, "MethodNotAllowed", message, details={})


def options_refused(kind: str, causes: Sequence[Cause]) -> Refusal:
    """422 for the options of a request, as ListOptions."""
    return unprocessable(kind, "meta.k8s.io", "", causes)


def unauthorized() -> Refusal:
    return Refusal(401, "Unauthorized", "Unauthorized")


def forbidden(
    user: str, verb: str, resource: str, subresource: str, group: str, namespace: str, name: str
) -> Refusal:
    """403 for what no role allows, told as the RBAC authorizer does."""
    whole = f"{resource}/{subresource}" if subresource else resource
    scope = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    named = f' "{name}"' if name else ""
    message = (
        f'{_qualified(resource, group)}{named} is forbidden: User "{user}" cannot {verb} resource "{whole}" '
        f'in API group "{group}" {scope}'
    )
    headers = {"X-Content-Type-Options": "nosniff"}
    return Refusal(403, "Forbidden", message, details=_about(resource, group, name), headers=headers)


def forbidden_path(user: str, verb: str, path: str) -> Refusal:
    message = f'forbidden: User "{user}" cannot {verb} path "{path}"'
    return Refusal(403, "Forbidden", message, details={}, headers={"X-Content-Type-Options": "nosniff"})


def too_large(revision: int, current: int) -> Refusal:
    """504 for a list that is to be as new as a version which has not been yet."""
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    message = f"Timeout: Too large resource version: {revision}, current: {current}"
    return Refusal(504, "Timeout", message, details={"causes": causes, "retryAfterSeconds": 1})


def expired(message: str, token: str = "") -> Refusal:
    """410 for what is too old; ``token`` goes on with the list, not consistent with its beginning."""
    return Refusal(410, "Expired", message, metadata={"continue": token} if token else None)


def undeclared(kind: str, api_version: str, key: tuple[str, str], paths: Sequence[str]) -> Refusal:
    """An apply with unknown fields, which is refused whatever its fieldValidation, as if by an error here."""
    told = [f".{path}: field not declared in schema" for path in paths]
    group = "" if "/" in api_version else "/"
    said = told[0] if len(told) == 1 else "errors:\n  " + "\n  ".join(told)
    what = f"({'/'.join(key)}; {group}{api_version}, Kind={kind})"
    return Refusal(500, "", f"failed to create typed patch object {what}: {said}")
