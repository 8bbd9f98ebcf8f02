"""What this program leaves on a node beside its tables: hosts files and changed sysctls, and how to undo them (K5).

They are noted in a small JSON file in the state directory, one for each node name, so that ``cleanup`` knows later
what was ours. Root obeys what is noted: so the notes are believed only where nobody else can have written them, and
name nothing but sysctls that this program sets, and files that it recognises as its own when it removes them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import asdict

from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.host.directory import opened, read, replace
from nodeport_nft.kernel.host.hostsdir import remove_names
from nodeport_nft.kernel.host.hostsfile import check_hosts_path, remove_hosts, write_hosts
from nodeport_nft.kernel.host.node_lock import boot_id, network_namespace
from nodeport_nft.kernel.host.sysctl import SETTABLE, is_value, read_sysctl, set_sysctl
from nodeport_nft.problems import clipped, shown
from nodeport_nft.store import is_shared
from nodeport_nft.trust import directory_fault, file_fault

_MAX_BYTES = 1 << 20
_WHAT = "stateDir"


class _Odd(Exception):
    """Something that this program does not note."""


class SysctlChange(Struct, frozen=True):
    """A sysctl that we have set, in which boot and network namespace (its inode; 0: earlier versions did not say)."""

    name: str
    before: str
    value: str
    boot: str
    namespace: int = 0

    def __post_init__(self) -> None:
        """Raise _Odd for what this program does not note."""
        if self.name not in SETTABLE:
            raise _Odd(f"sysctl {shown(self.name)}, which nodeport-nft never sets")
        if not (_is_text(self.before) and _is_text(self.value)):
            raise _Odd(f"sysctl {self.name} as {shown(self.before)} and {shown(self.value)}, not whole numbers")
        if not re.fullmatch(r"[0-9a-f-]{36}", self.boot) or not isinstance(self.namespace, int):
            raise _Odd(f"sysctl {self.name} without the boot it was set in")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and is_value(value)


class UndoJournal(Struct):
    """What was left on one node, as noted at ``path``."""

    path: Path
    hosts_files: list[str] = field(default_factory=list)
    hosts_directories: list[str] = field(default_factory=list)
    sysctls: list[SysctlChange] = field(default_factory=list)

    @classmethod
    def of(cls, state_dir: str, node_name: str) -> UndoJournal:
        """The journal of a node, whatever store it is programmed from.

        Raises KernelError if they cannot be read, or must not be believed.
        """
        return cls._load(Path(state_dir).absolute() / _file_name(node_name))

    @classmethod
    def _load(cls, path: Path) -> UndoJournal:
        try:
            with opened(path.parent, _WHAT) as directory:
                if fault := file_fault(path):
                    raise KernelError(f"{path}: what is noted there is not believed: {fault}")
                text = read(directory, path.name, _MAX_BYTES)
            noted = json.loads(text or b"")
            files = [_absolute(each) for each in noted["hostsFiles"]]
            directories = [
                _absolute(each) for each in noted.get("hostsDirectories", ())
            ]  # unknown to earlier versions
            return cls(path, files, directories, list(_changes(noted["sysctls"])))
        except FileNotFoundError:
            return cls(path)
        except OSError as error:
            raise KernelError(f"{path}: what is noted there cannot be read: {error.strerror}") from error
        except _Odd as error:
            raise KernelError(
                f"{path}: notes {error}; nothing of it is undone: look into it and delete it"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise KernelError(f"{path}: not a file of ours any more; look into it and delete it") from error

    def _save(self) -> None:
        noted = {
            "hostsFiles": self.hosts_files,
            "hostsDirectories": self.hosts_directories,
            "sysctls": [asdict(change) for change in self.sysctls],
        }
        try:
            with opened(self.path.parent, _WHAT, make=True) as directory:
                replace(directory, self.path.name, json.dumps(noted, indent=2) + "\n", mode=0o600)
        except OSError as error:
            raise KernelError(
                f"{self.path}: what has to be undone later cannot be noted: {error.strerror}; run as root, or name "
                "another directory with --state-dir"
            ) from error

    def write_hosts(self, path: Path, text: str) -> bool:
        """Replace our hosts file at ``path``; whether it changed. Raises KernelError over a file that is not ours."""
        path = path.absolute()
        check_hosts_path(path)
        if str(path) not in self.hosts_files:
            self.hosts_files.append(str(path))
            self._save()
        return write_hosts(path, text)

    def note_names(self, path: Path) -> None:
        """Note that there will be hosts files of ours in this directory. Raises KernelError."""
        if str(path.absolute()) not in self.hosts_directories:
            self.hosts_directories.append(str(path.absolute()))
            self._save()

    def set_sysctl(self, name: str, value: str) -> None:
        """Set a sysctl and note what it was, unless an earlier change of ours in this boot is noted already."""
        boot, here = boot_id(), network_namespace()
        noted = [change for change in self.sysctls if change.name == name and change.namespace in (0, here)]
        before = next((change.before for change in noted if change.boot == boot), None) or read_sysctl(name)
        self.sysctls = [change for change in self.sysctls if change not in noted]
        self.sysctls.append(SysctlChange(name, before, value, boot, here))
        self._save()
        set_sysctl(name, value)

    def undo(self) -> tuple[list[str], list[str]]:
        """Restore sysctls that still are as we set them, remove our hosts files; says what was done and what failed.

        What failed stays noted, for the next time, and so do sysctls of another network namespace.
        """
        done: list[str] = []
        failed: list[str] = []
        boot, here = boot_id(), network_namespace()
        for change in tuple(self.sysctls):
            if change.boot == boot and change.namespace not in (0, here):
                continue
            try:
                done += _restore(change, boot)
            except KernelError as error:
                failed.append(str(error))
            else:
                self.sysctls.remove(change)
        left = (
            ("hosts file", self.hosts_files, remove_hosts),
            ("hosts files in", self.hosts_directories, remove_names),
        )
        for what, paths, remove in left:
            for path in map(Path, tuple(paths)):
                try:
                    if remove(path):
                        done.append(f"{what} {path} removed")
                except (OSError, KernelError) as error:
                    why = error.strerror if isinstance(error, OSError) else error
                    failed.append(f"{what} {path} cannot be removed: {why}")
                else:
                    paths.remove(str(path))
        if self.sysctls or self.hosts_files or self.hosts_directories:
            self._save()
        else:
            self.path.unlink(missing_ok=True)
        return done, failed


def undo(state_dir: str, store: str, node_name: str | None = None) -> tuple[list[str], list[str]]:
    """Undo what was left under a node name, or under any: says what was done and what failed.

    Earlier versions noted it beside the store.
    """
    done: list[str] = []
    failed: list[str] = []
    pattern = "node-*.json" if node_name is None else _file_name(node_name)
    beside = () if is_shared(store) else (Path(store).parent,)
    for directory in dict.fromkeys(Path(each).absolute() for each in (state_dir, *beside)):
        for path in sorted(directory.glob(pattern)):
            try:
                if fault := directory_fault(directory):
                    failed.append(f"{directory}: what is noted there is not believed: {fault}")
                    break
                undone, kept = UndoJournal._load(path).undo()
            except (KernelError, OSError) as error:
                undone, kept = [], [str(error)]
            done += undone
            failed += kept
    return done, failed


def _file_name(node_name: str) -> str:
    if len(node_name) > 200:  # a file's name has 255 bytes, a node's up to 253
        node_name = f"{node_name[:180]}~{hashlib.sha256(node_name.encode()).hexdigest()[:16]}"
    return f"node-{node_name}.json"


def _changes(noted: Any) -> Iterator[SysctlChange]:
    if isinstance(noted, dict):  # as earlier versions wrote them
        yield from (SysctlChange(name, *values) for name, values in noted.items())
    else:
        yield from (SysctlChange(**each) for each in noted)


def _absolute(path: object) -> str:
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        raise _Odd(f"hosts file {clipped(str(path))}, which is not an absolute path")
    return path


def _restore(change: SysctlChange, boot: str) -> list[str]:
    if change.boot != boot or change.before == change.value or read_sysctl(change.name) != change.value:
        return []
    set_sysctl(change.name, change.before)
    return [f"sysctl {change.name} set back to {change.before}"]
