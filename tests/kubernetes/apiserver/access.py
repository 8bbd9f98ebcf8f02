"""Who asks (bearer tokens, client certificates), and what they may do (RBAC, out of manifests)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.kubernetes.apiserver.answers import unauthorized

_MASTERS = "system:masters"
_PUBLIC = ("/healthz", "/livez", "/readyz", "/version")
_DISCOVERY = ("/api", "/apis", "/openapi", *_PUBLIC)


class User(NamedTuple):
    """Who asks. A service account's name is ``system:serviceaccount:NAMESPACE:NAME``."""

    name: str
    groups: tuple[str, ...]


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


def _authenticated(name: str, groups: Iterable[str]) -> User:
    found = (*groups, "system:authenticated")
    if name.startswith("system:serviceaccount:"):
        found += ("system:serviceaccounts", f"system:serviceaccounts:{name.split(':')[2]}")
    return User(name, found)


class Asked(NamedTuple):
    """What is asked for: a verb on a resource, or on a path that is none."""

    verb: str
    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


class Access:
    """The tokens that are good, and the roles."""

    def __init__(self) -> None:
        self.tokens: dict[str, User] = {}
        self._rules: list[tuple[set[tuple[str, str]], str, list[dict[str, Any]]]] = []

    def add_token(self, token: str, name: str, groups: Iterable[str] = ()) -> None:
        self.tokens[token] = _authenticated(name, groups)

    def user(self, authorization: str, certificate: dict[str, Any] | None) -> User:
        """Who asks; 401 where a token is not good."""
        if certificate:
            subject = [pair for entry in certificate["subject"] for pair in entry]
            names = [value for key, value in subject if key == "commonName"]
            groups = [value for key, value in subject if key == "organizationName"]
            return _authenticated(names[0], groups)
        if not authorization:
            return ANONYMOUS
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or token not in self.tokens:
            raise unauthorized()
        return self.tokens[token]

    def load(self, paths: Iterable[Path]) -> None:
        """Roles and bindings out of manifests; what else is in them is left."""
        documents = [
            document
            for path in paths
            for document in yaml.safe_load_all(path.read_text())
            if isinstance(document, dict)
        ]
        documents = [item for document in documents for item in document.get("items", [document])]
        roles = {
            (document["kind"], document["metadata"].get("namespace", ""), document["metadata"]["name"]): document[
                "rules"
            ]
            for document in documents
            if document.get("kind") in ("ClusterRole", "Role")
        }
        for document in documents:
            if document.get("kind") not in ("ClusterRoleBinding", "RoleBinding"):
                continue
            namespace = document["metadata"].get("namespace", "") if document["kind"] == "RoleBinding" else ""
            reference = document["roleRef"]
            role = (reference["kind"], namespace if reference["kind"] == "Role" else "", reference["name"])
            subjects = {_subject(subject) for subject in document.get("subjects") or ()}
            self._rules.append((subjects, namespace, roles.get(role, [])))

    def allows(self, user: User, asked: Asked) -> bool:
        """Whether a role of the user's has it."""
        if _MASTERS in user.groups:
            return True
        if asked.path:
            known = _PUBLIC if user == ANONYMOUS else _DISCOVERY
            at_root = any(asked.path == path or asked.path.startswith(f"{path}/") for path in known)
            if asked.verb == "get" and at_root:
                return True
        who = {("User", user.name), *(("Group", group) for group in user.groups)}
        return any(
            who & subjects
            and (not namespace or namespace == asked.namespace)
            and any(_fits(rule, asked) for rule in rules)
            for subjects, namespace, rules in self._rules
        )


def _subject(subject: dict[str, Any]) -> tuple[str, str]:
    if subject["kind"] == "ServiceAccount":
        return "User", f"system:serviceaccount:{subject['namespace']}:{subject['name']}"
    return subject["kind"], subject["name"]


def _fits(rule: dict[str, Any], asked: Asked) -> bool:
    def has(field: str, value: str) -> bool:
        return bool({value, "*"} & set(rule.get(field) or ()))

    if asked.path:
        paths = rule.get("nonResourceURLs") or ()
        return has("verbs", asked.verb) and any(
            path == asked.path or (path.endswith("*") and asked.path.startswith(path[:-1])) for path in paths
        )
    whole = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    named = rule.get("resourceNames")
    return (
        has("verbs", asked.verb)
        and has("apiGroups", asked.group)
        and (has("resources", whole) or (bool(asked.subresource) and f"*/{asked.subresource}" in rule["resources"]))
        and (not named or asked.name in named)
    )
