"""Where a store in etcd is, and with what one comes to it: ``etcd://host:2379,host2:2379/prefix``, TLS, a password.

All of it is read before the first connection, and all that is wrong is told at once. Needs no grpc.
"""

from __future__ import annotations

import random
import re
import stat
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from msgspec import Struct

from nodeport_nft.problems import Problem, Problems
from nodeport_nft.trust import file_fault

SCHEME = "etcd://"
DEFAULT_PORT = 2379  # etcd's client port, as registered at IANA
DEFAULT_PREFIX = "nodeport-nft"
EXAMPLE = "etcd://10.0.0.1:2379,10.0.0.2:2379/nodeport-nft"

_LONGEST_PREFIX = 128
_MOST_ENDPOINTS = 16
_PREFIX_PART = re.compile(r"[A-Za-z0-9._-]+")
_NAME_PART = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")  # _: names of containers and of test machines have it


class Endpoint(Struct, frozen=True):
    """One member's client address; ``host`` is a name or an address, IPv6 without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Connection(Struct, frozen=True):
    """All that is needed to come to a store in etcd. ``prefix`` has no slash at either end.

    ``ca`` holds the certificates that may sign a member's; with it, or with ``cert``, every connection is TLS.
    ``cert`` and ``key`` are the client's own. Files are PEM, and read when a connection is made: one that has been
    renewed is used from the next connection on. ``password_file`` holds the password of ``user``; a newline at its
    end does not count.
    """

    endpoints: tuple[Endpoint, ...]
    prefix: str = DEFAULT_PREFIX
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    user: str = ""
    password_file: Path | None = None

    @property
    def is_secure(self) -> bool:
        """Whether it is TLS that is spoken."""
        return self.ca is not None or self.cert is not None

    def any_endpoint(self) -> int:
        """The index of one of the endpoints, at random: who begins there spreads clients over the members."""
        return random.randrange(len(self.endpoints))  # noqa: S311

    def __str__(self) -> str:
        return f"{SCHEME}{','.join(map(str, self.endpoints))}/{self.prefix}"


def is_etcd(store: str) -> bool:
    """Whether a ``store`` setting means etcd; any case, as in all URLs."""
    return store[: len(SCHEME)].lower() == SCHEME


def parse_connection(  # the keys are those of the configuration
    store: str,
    *,
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    user: str = "",
    password_file: Path | None = None,
) -> Connection:
    """The connection that the settings describe. Raises Problems with everything that is wrong; opens no file."""
    problems: list[Problem] = []
    endpoints, prefix = _parse_store(store, problems)
    if cert and not key:
        _tell(
            problems, "etcdKeyFile", f"is missing, and the client's certificate {cert} needs it; name the key's file"
        )
    if key and not cert:
        _tell(problems, "etcdCertFile", f"is missing, and the key {key} is for one; name the certificate's file")
    if user and not password_file:
        _tell(
            problems,
            "etcdPasswordFile",
            f"is missing, and user {user!r} has to log in; name the file of the password",
        )
    if password_file and not user:
        _tell(problems, "etcdUser", f"is missing, and {password_file} holds somebody's password; name the user")
    if user and not user.isprintable():
        _tell(problems, "etcdUser", f"{user!r} has characters that cannot be printed; name a user of etcd")
    if problems:
        raise Problems(tuple(problems))
    return Connection(endpoints, prefix, ca, cert, key, user, password_file)


def connection_faults(connection: Connection) -> tuple[Problem, ...]:
    """What is wrong with the files that a connection names: not there, others may write them, or read a secret."""
    problems: list[Problem] = []
    named = (
        ("etcdCAFile", connection.ca, False),
        ("etcdCertFile", connection.cert, False),
        ("etcdKeyFile", connection.key, True),
    )
    for field, path, is_secret in (*named, ("etcdPasswordFile", connection.password_file, True)):
        if path is not None and (fault := _file_fault(path, is_secret=is_secret)):
            _tell(problems, field, f"{path}: {fault}")
    return tuple(problems)


def _file_fault(path: Path, *, is_secret: bool) -> str:
    try:
        if not path.exists():
            return "there is no such file; name another"
        if fault := file_fault(path):
            return fault
        # A group may read it: Debian's ssl-cert is there for that.
        if is_secret and path.stat().st_mode & stat.S_IROTH:
            return f"everybody may read it, and it is a secret; chmod o-rwx {path}"
    except OSError as error:
        return f"{error.strerror}; make it readable for this user"
    return ""


def _parse_store(store: str, problems: list[Problem]) -> tuple[tuple[Endpoint, ...], str]:
    if not is_etcd(store):
        _tell(problems, "store", f"{store!r} does not begin with {SCHEME}; write it as {EXAMPLE}")
        return (), ""
    rest = store[len(SCHEME) :]
    if "@" in rest:  # not quoted: it may hold a password
        _tell(problems, "store", f"has a user in it, which others can read in a process list; {_USE_KEYS}")
        return (), ""
    if found := re.search(r"[?#].*", rest, re.DOTALL):
        _tell(problems, "store", f"{found[0]!r} means nothing here; leave it out")
        rest = rest[: found.start()]
    hosts, _, prefix = rest.partition("/")
    return _parse_endpoints(hosts, problems), _parse_prefix(prefix, problems)


_USE_KEYS = "use the keys etcdUser and etcdPasswordFile of the configuration"


def _parse_endpoints(hosts: str, problems: list[Problem]) -> tuple[Endpoint, ...]:
    if not hosts:
        _tell(problems, "store", f"names no endpoint; write it as {EXAMPLE}")
        return ()
    endpoints: list[Endpoint] = []
    words = hosts.split(",")
    if len(words) > _MOST_ENDPOINTS:
        _tell(problems, "store", f"has {len(words)} endpoints; name at most {_MOST_ENDPOINTS}")
        words = words[:_MOST_ENDPOINTS]
    for word in words:
        parsed = _parse_endpoint(word)
        if isinstance(parsed, str):
            _tell(problems, "store", f"endpoint {word!r}: {parsed}")
        elif parsed in endpoints:
            _tell(problems, "store", f"endpoint {word!r} is there twice; leave one out")
        else:
            endpoints.append(parsed)
    return tuple(endpoints)


def _parse_endpoint(word: str) -> Endpoint | str:
    """An endpoint, or what is wrong with it."""
    bracketed = re.fullmatch(r"\[(.*)\](?::(.*))?", word, re.DOTALL)
    if bracketed:
        host, port = bracketed[1], bracketed[2]
        try:
            host = str(IPv6Address(host))
        except ValueError:
            return "what is in brackets is not an IPv6 address; write it as [fd00::1]:2379"
        if "%" in host:
            return "an address with a zone is good on one machine only; use another address"
    elif word.count(":") > 1:
        return f"an IPv6 address needs brackets; write it as [fd00::1]:{DEFAULT_PORT}"
    else:
        name, colon, after = word.partition(":")
        host, port = name.lower(), after if colon else None
        if not host:
            return "is empty; name a host, or leave the comma out"
        if fault := _host_fault(host):
            return fault
    if port is None:
        return Endpoint(host, DEFAULT_PORT)
    if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or not 1 <= int(port) <= 65535:
        return f"port {port!r} is none; use a number from 1 to 65535, or leave it out for {DEFAULT_PORT}"
    return Endpoint(host, int(port))


def _host_fault(host: str) -> str:
    if re.fullmatch(r"[0-9.]+", host, re.ASCII):
        try:
            ip_address(host)
        except ValueError:
            return "is not an IPv4 address; write it as 10.0.0.1"
        return ""
    if len(host) <= 253 and all(_NAME_PART.fullmatch(part) for part in host.removesuffix(".").split(".")):
        return ""
    return "is not a name of a host; use letters, digits, - and ."


def _parse_prefix(prefix: str, problems: list[Problem]) -> str:
    prefix = prefix.strip("/")
    if not prefix:
        return DEFAULT_PREFIX
    if len(prefix) > _LONGEST_PREFIX:
        _tell(problems, "store", f"prefix has {len(prefix)} characters; use at most {_LONGEST_PREFIX}")
    elif not all(_PREFIX_PART.fullmatch(part) and part.strip(".") for part in prefix.split("/")):
        _tell(
            problems, "store", f"prefix {prefix!r} is none; use letters, digits, -, _ and ., in parts between slashes"
        )
    return prefix


def _tell(problems: list[Problem], field: str, message: str) -> None:
    problems.append(Problem("", "", field, message))
