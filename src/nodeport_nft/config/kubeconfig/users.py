"""What a kubeconfig says of a user: a token, a certificate, a password, or a program that gives one of them."""

from __future__ import annotations

from nodeport_nft.config.kubeconfig.access import Plugin, User
from nodeport_nft.config.kubeconfig.entries import Entry
from nodeport_nft.problems import shown

_FIELDS = (
    "client-certificate",
    "client-certificate-data",
    "client-key",
    "client-key-data",
    "token",
    "tokenFile",
    "as",
    "as-uid",
    "as-groups",
    "as-user-extra",
    "username",
    "password",
    "auth-provider",
    "exec",
    "extensions",
)
_EXEC_FIELDS = (
    "apiVersion",
    "command",
    "args",
    "env",
    "installHint",
    "provideClusterInfo",
    "interactiveMode",
)
_GROUP = "client.authentication.k8s.io"
_VERSIONS = (f"{_GROUP}/v1", f"{_GROUP}/v1beta1")
_MODES = ("Never", "IfAvailable", "Always")

SECRETS = ("token", "password", "client-key-data")
"""Fields that others may not read."""


def read_user(entry: Entry) -> User:
    """The user of an entry; what is wrong is noted there."""
    entry.unknown(_FIELDS)
    _refuse_auth_provider(entry)
    certificate = entry.pem("client-certificate", "the file of the client's certificate (PEM)", is_secret=False)
    key = entry.pem("client-key", "the file of the client's key (PEM)", is_secret=True)
    has_certificate = entry.has("client-certificate") or entry.has("client-certificate-data")
    has_key = entry.has("client-key") or entry.has("client-key-data")
    if has_certificate and not has_key:
        entry.problem("client-key", "is missing, and the client's certificate needs it; name its file")
    if has_key and not has_certificate:
        entry.problem("client-certificate", "is missing, and there is a key for one; name the certificate's file")
    token, token_file = entry.secret("token"), entry.file_named("tokenFile", "the token's file", is_secret=True)
    username, password = entry.text("username", "a name", "write a user's name"), entry.secret("password")
    if password and not entry.has("username"):
        entry.problem("username", "is missing, and there is a password for one; name the user")
    if ":" in username:
        entry.problem(
            "username", f"{shown(username)} has a colon in it, where its password would begin; name another"
        )
    if (token or token_file) and username:
        entry.problem("username", "stands beside a token, and a request can be of one of them; leave one out")
    plugin = _plugin(entry.below("exec")) if entry.has("exec") else None
    if plugin and (token or token_file or username):
        entry.warning("exec", "counts for nothing beside a token or a username; leave one of them out")
        plugin = None
    as_user = entry.text("as", "a name", "write a user's name", parse=_header)
    for name in ("as-uid", "as-groups", "as-user-extra"):
        if entry.value.get(name) and not as_user:
            entry.problem(name, "is there without `as`, and the server wants both; name the user, or leave it out")
    return User(
        token=token,
        token_file=token_file,
        username=username,
        password=password,
        certificate=certificate,
        key=key,
        plugin=plugin,
        as_user=as_user,
        as_uid=entry.text("as-uid", "a uid", "write a user's uid", parse=_header),
        as_groups=entry.texts("as-groups", "a group", "write a group's name", parse=_header),
        as_extra=_extra(entry),
    )


def _extra(entry: Entry) -> tuple[tuple[str, tuple[str, ...]], ...]:
    below = entry.below("as-user-extra")
    return tuple((name, below.texts(name, "a text", "write it in quotes", parse=_header)) for name in below.value)


def _refuse_auth_provider(entry: Entry) -> None:
    """Kubernetes has taken out all providers but oidc, and that one wants a browser now and then."""
    if not entry.has("auth-provider"):
        return
    provider = entry.below("auth-provider").value.get("name")
    others = {
        "gcp": "use exec with gke-gcloud-auth-plugin",
        "azure": "use exec with kubelogin",
        "oidc": "use exec with a plugin such as kubelogin (kubectl oidc-login), or a ServiceAccount's token",
    }
    remedy = others.get(str(provider), "use exec with a plugin of your provider's, or a ServiceAccount's token")
    entry.problem("auth-provider", f"{shown(provider)} is not supported; {remedy}")


def _plugin(entry: Entry) -> Plugin:
    entry.unknown(_EXEC_FIELDS)
    remedy = f"write {' or '.join(_VERSIONS)}, whichever the plugin speaks"
    version = entry.text("apiVersion", "a version", remedy, parse=lambda text: _version(text, remedy))
    if not entry.is_mapping:
        return Plugin("", "")
    if not entry.has("apiVersion"):
        entry.problem("apiVersion", f"is missing; {remedy}")
    command = entry.text("command", "a command", "name the plugin's program")
    if not entry.has("command"):
        entry.problem("command", "is missing; name the plugin's program")
    mode = entry.text("interactiveMode", "a mode", f"choose one of {', '.join(_MODES)}", parse=_mode)
    if not entry.has("interactiveMode") and version == _VERSIONS[0]:
        entry.problem("interactiveMode", "is missing, and v1 wants it; write Never or IfAvailable")
    if mode == "Always":
        entry.problem(
            "interactiveMode",
            "Always asks somebody at a terminal, and plugins have none here; "
            "choose IfAvailable where the plugin can do without, or another way to log in",
        )
    return Plugin(
        command=entry.resolved(command) if "/" in command else command,
        version=version,
        arguments=entry.texts("args", "an argument", "write it in quotes"),
        environment=_environment(entry),
        install_hint=entry.text("installHint", "a text", "write it in quotes"),
        tells_cluster=entry.switch("provideClusterInfo"),
    )


def _environment(entry: Entry) -> tuple[tuple[str, str], ...]:
    found = []
    for index, _ in enumerate(entry.items("env")):
        each = entry.below("env", index)
        name = each.text("name", "a name", "write a variable's name")
        if not name or "=" in name:
            each.problem("name", "is not a name of a variable; write one without =")
            continue
        found.append((name, each.text("value", "a text", "write it in quotes")))
    return tuple(found)


def _header(text: str) -> str:
    """What goes to the server in a header's line."""
    if not text.isprintable():
        raise ValueError(f"{shown(text)} has characters that cannot be printed; leave them out")
    return text


def _version(text: str, remedy: str) -> str:
    if text not in _VERSIONS:
        gone = ", which Kubernetes 1.24 has taken out" if text == f"{_GROUP}/v1alpha1" else ""
        raise ValueError(f"{shown(text)} is not a version of plugins that is known here{gone}; {remedy}")
    return text


def _mode(text: str) -> str:
    if text not in _MODES:
        raise ValueError(f"{shown(text)} is not a mode; choose one of {', '.join(_MODES)}")
    return text
