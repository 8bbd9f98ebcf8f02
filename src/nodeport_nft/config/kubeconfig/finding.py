"""Which kubeconfigs count, and which cluster and user of them.

Of several files (``$KUBECONFIG``) the first that has a name wins, and the first that has a current context.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from nodeport_nft.config.file import ConfigFile, read_into
from nodeport_nft.config.kubeconfig.access import SERVICE_ACCOUNT, Access
from nodeport_nft.config.kubeconfig.clusters import read_cluster
from nodeport_nft.config.kubeconfig.entries import Entry, is_open
from nodeport_nft.config.kubeconfig.pod import pod_access
from nodeport_nft.config.kubeconfig.users import SECRETS, read_user
from nodeport_nft.problems import Problem, Problems, clipped, nearest, shown
from nodeport_nft.terminal import printable
from nodeport_nft.text.files import read_text, short_path, unreadable
from nodeport_nft.trust import file_fault

_MAX_BYTES = 4 << 20  # some have the certificates of a hundred clusters in them
_TOP = ("apiVersion", "kind", "clusters", "users", "contexts", "current-context", "preferences", "extensions")
_CONTEXT = ("cluster", "user", "namespace", "extensions")
_MOST_NAMES = 20


def find_access(
    kubeconfig: str = "",
    context: str = "",
    environ: Mapping[str, str] = os.environ,
    *,
    account: str = SERVICE_ACCOUNT,
) -> Access:
    """How to come to an API server. ``kubeconfig`` "": ``$KUBECONFIG``, the pod's account, or ``~/.kube/config``.

    ``context`` "": the current one. Raises Problems with everything that is wrong.
    """
    several = [path for path in environ.get("KUBECONFIG", "").split(":") if path]
    if kubeconfig:
        paths = [kubeconfig]
    elif several:
        paths = [path for path in several if os.path.lexists(path)]
        if not paths:
            raise _alone(f"$KUBECONFIG names {clipped(', '.join(several))}, and no such file is there; name another")
    elif pod := pod_access(environ, account):
        if context:
            raise _alone("in a pod its own account counts, which has no contexts; name a file", "context", context)
        return pod
    else:
        home = Path(environ.get("HOME") or os.path.expanduser("~")) / ".kube" / "config"  # noqa: PTH111 (never raises)
        if not os.path.lexists(home):
            raise _alone(
                f"is not given, $KUBECONFIG is not set, and neither is there {home}; name one with --kubeconfig"
            )
        paths = [str(home)]
    return _Finding([_read(path) for path in paths], context).access()


def _alone(message: str, field: str = "kubeconfig", value: str = "") -> Problems:
    return Problems((Problem("", "", field, f"{shown(value)}: {message}" if value else message),))


def _read(path: str) -> ConfigFile:
    """A kubeconfig; one that others can have written says who we are, and which program to run: it is not read."""
    file = ConfigFile(printable(short_path(path)), path=path)
    try:
        found = Path(path).stat()
        if stat.S_ISCHR(found.st_mode):
            return file  # /dev/null, by which people say that there is none
        fault = file_fault(path)
    except FileNotFoundError:
        file.problem(0, "no such file; name another with --kubeconfig")
        return file
    except (OSError, ValueError) as error:
        file.problems.append((0, unreadable(path, error)))
        return file
    if fault:
        file.problem(0, clipped(fault.removeprefix(f"{path} "), 500))
        return file
    text = read_text(path, _MAX_BYTES, remedy="a kubeconfig is a few pages; is this the right file?")
    if isinstance(text, Problem):
        file.problems.append((0, text))
    else:
        read_into(file, text)
    return file


class _Finding(Struct):
    """The way from a context to its cluster and its user, through all files."""

    files: list[ConfigFile]
    context: str
    sections: dict[str, dict[str, Entry]] = field(default_factory=dict)

    def access(self) -> Access:
        for section, within in (("contexts", "context"), ("clusters", "cluster"), ("users", "user")):
            self.sections[section] = self._section(section, within)
        for file in self.files:
            Entry(file, (), file.values).unknown(_TOP)
            kind = file.values.get("kind")
            if kind not in (None, "", "Config"):
                file.problem(file.line(("kind",)), f"{shown(kind)} is not a kubeconfig; write Config", key="kind")
        found = self._found()
        problems = tuple(
            problem for file in self.files for _, problem in sorted(file.problems, key=lambda each: each[0])
        )
        if problems or found is None:
            raise Problems(problems)
        warnings = tuple(dict.fromkeys(warning for file in self.files for warning in file.warnings))
        return replace(found, files=tuple(file.path for file in self.files), warnings=warnings)

    def _section(self, section: str, within: str) -> dict[str, Entry]:
        """The entries of a list by their names; the first file that has a name wins."""
        merged: dict[str, Entry] = {}
        for file in self.files:
            here: dict[str, Entry] = {}
            top = Entry(file, (), file.values)
            for index, _ in enumerate(top.items(section)):
                named = top.below(section, index)
                name = named.text("name", "a name", "write it in quotes")
                if not name:
                    if not named.has("name"):
                        named.problem("name", f"is missing; name the {within}")
                elif name in here:
                    named.problem("name", f"{shown(name)} is there twice; leave one out")
                else:
                    here[name] = named
            merged = here | merged
        return merged

    def _found(self) -> Access | None:
        chosen = self._chosen()
        if chosen is None:
            return None
        name, entry = chosen
        entry.unknown(_CONTEXT)
        cluster, user = self._named(entry, "cluster"), self._named(entry, "user")
        namespace = entry.text("namespace", "a name", "write it in quotes")
        if not entry.has("user"):
            entry.warning("user", "is missing, so that requests are anybody's; name a user")
        if cluster is None:
            return None
        made = Access(read_cluster(cluster), read_user(user or Entry(entry.file, entry.path, None)), "")
        if user is not None:
            self._told_open(user)
        return replace(made, name=f"context {clipped(name)} of {entry.file.name}", namespace=namespace)

    def _chosen(self) -> tuple[str, Entry] | None:
        """The context that was asked for, or the current one."""
        contexts = self.sections["contexts"]
        name, entry, where = self.context, None, ""
        for file in self.files:
            top = Entry(file, (), file.values)
            if not name and top.has("current-context"):
                name, entry, where = (
                    top.text("current-context", "a name", "write it in quotes"),
                    top,
                    "current-context",
                )
        if name in contexts:
            return name, contexts[name].below("context")
        known = ", ".join(clipped(each) for each in list(contexts)[:_MOST_NAMES])
        near = nearest(name, contexts)
        if any(file.problems for file in self.files) and not contexts:
            return None  # they say why there is none
        if not name:
            remedy = f"choose one of {known} with --context" if known else "is this the right file?"
            self._problem("current-context", f"is not set; {remedy}")
        else:
            remedy = (
                f"did you mean {near}?" if near else f"there are {known}" if known else "there is no context at all"
            )
            told = f"there is no context {shown(name)}; {remedy}"
            if entry is not None:
                entry.problem(where, told)
            else:
                self._problem("context", told)
        return None

    def _named(self, context: Entry, what: str) -> Entry | None:
        """The cluster or the user that a context names."""
        name = context.text(what, "a name", "write it in quotes")
        if not name:
            if what == "cluster" and not context.has(what):
                context.problem(what, "is missing; name one of those under clusters")
            return None
        section = self.sections[f"{what}s"]
        if name in section:
            return section[name].below(what)
        near = nearest(name, section)
        known = ", ".join(clipped(each) for each in list(section)[:_MOST_NAMES])
        remedy = f"did you mean {near}?" if near else f"there are {known}" if known else "there is none at all"
        context.problem(what, f"there is no {what} {shown(name)}; {remedy}")
        return None

    def _told_open(self, user: Entry) -> None:
        """Warn of a kubeconfig that everybody may read, where there is a secret in it."""
        secret = next((name for name in SECRETS if user.has(name)), "")
        if secret and is_open(user.file.path):
            user.warning(secret, f"is a secret, and everybody may read it; chmod o-rwx {user.file.name}")

    def _problem(self, field: str, message: str) -> None:
        self.files[0].problem(0, message, key=field)
