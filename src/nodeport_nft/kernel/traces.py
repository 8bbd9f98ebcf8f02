"""What this program leaves on a node beside its tables: hosts files and changed sysctls, and how to undo them (K5).

They are noted in a small JSON file next to the store, one for each node name, so that ``cleanup`` knows later what
was ours. Every file here is replaced atomically: a reader sees the old one or the new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from nodeport_nft.hosts import MARKER, kept_lines
from nodeport_nft.kernel.nft import KernelError
from nodeport_nft.kernel.sysctl import read_sysctl, set_sysctl
from nodeport_nft.model import ObjectName, Ref

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(slots=True)
class Traces:
    """What was left on one node. ``sysctls``: name → (value before, value set, boot it was set in)."""

    path: Path
    hosts_files: list[str] = field(default_factory=list)
    sysctls: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: str, node_name: str) -> Traces:
        """The traces of a node, by the store it is programmed from. Raises KernelError if they cannot be read."""
        if len(node_name) > 200:  # a file's name has 255 bytes, a node's up to 253
            node_name = f"{node_name[:180]}~{hashlib.sha256(node_name.encode()).hexdigest()[:16]}"
        return cls._load(Path(store).parent / f"node-{node_name}.json")

    @classmethod
    def all(cls, store: str) -> tuple[Traces, ...]:
        """The traces of every node that was programmed from this store on this machine, sorted."""
        return tuple(cls._load(path) for path in sorted(Path(store).parent.glob("node-*.json")))

    @classmethod
    def _load(cls, path: Path) -> Traces:
        try:
            noted = json.loads(path.read_text(encoding="utf-8"))
            sysctls = {str(k): (str(v[0]), str(v[1]), str(v[2])) for k, v in noted["sysctls"].items()}
            return cls(path, [str(p) for p in noted["hostsFiles"]], sysctls)
        except FileNotFoundError:
            return cls(path)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise KernelError(f"{path}: not a file of ours any more; look into it and delete it") from error

    def _save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        noted = {"hostsFiles": self.hosts_files, "sysctls": self.sysctls}
        replace_file(self.path, json.dumps(noted, indent=2) + "\n")

    def write_hosts(self, path: Path, text: str) -> bool:
        """Replace our hosts file at ``path``; whether it changed. Raises KernelError over a file that is not ours."""
        path = path.absolute()
        check_hosts_path(path)
        if str(path) not in self.hosts_files:
            self.hosts_files.append(str(path))
            self._save()
        if path.exists() and path.read_text(encoding="utf-8", errors="replace") == text:
            return False
        replace_file(path, text)
        return True

    def set_sysctl(self, name: str, value: str) -> None:
        """Set a sysctl and note what it was, unless an earlier change of ours in this boot is noted already."""
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
        noted = self.sysctls.get(name)
        before = noted[0] if noted and noted[2] == boot else read_sysctl(name)
        self.sysctls[name] = (before, value, boot)
        self._save()
        set_sysctl(name, value)

    def undo(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Restore sysctls that still are as we set them, remove our hosts files; says what was done and what failed.

        What failed stays noted, for the next time.
        """
        done: list[str] = []
        failed: list[str] = []
        for name in tuple(self.sysctls):
            try:
                done += self._restore(name)
            except KernelError as error:
                failed.append(str(error))
            else:
                del self.sysctls[name]
        for path in map(Path, tuple(self.hosts_files)):
            try:
                if _is_ours(path):
                    path.unlink()
                    done.append(f"hosts file {path} removed")
            except OSError as error:
                failed.append(f"hosts file {path} cannot be removed: {error.strerror}")
            else:
                self.hosts_files.remove(str(path))
        if self.sysctls or self.hosts_files:
            self._save()
        else:
            self.path.unlink(missing_ok=True)
        return tuple(done), tuple(failed)

    def _restore(self, name: str) -> list[str]:
        before, value, when = self.sysctls[name]
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
        if when != boot or before == value or read_sysctl(name) != value:
            return []
        set_sysctl(name, before)
        return [f"sysctl {name} set back to {before}"]


def check_hosts_path(path: Path) -> None:
    """Raise KernelError where a hosts file of ours must not be written: over anything that is not one already."""
    path = path.absolute()
    if not path.parent.is_dir():
        raise KernelError(f"{path}: there is no directory {path.parent}; make it, or choose another --hosts-file")
    if os.path.lexists(path) and not _is_ours(path):
        raise KernelError(
            f"{path}: was not written by nodeport-nft and is left as it is; choose another --hosts-file, "
            "or move this one away"
        )


def _is_ours(path: Path) -> bool:
    """Whether this is a regular file (no link, no device) that begins with our marker."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(len(MARKER)) == MARKER
    except (FileNotFoundError, NotADirectoryError):
        return False


def kept_hosts_lines(path: Path, unreadable: Collection[Ref]) -> tuple[str, ...]:
    """The lines that our hosts file at ``path`` has for Services which cannot be read: their names still count."""
    keys = {ObjectName(ref.namespace, ref.name) for ref in unreadable if ref.kind == "Service"}
    if not keys or not _is_ours(path):
        return ()
    return kept_lines(path.read_text(encoding="utf-8", errors="replace"), keys)


def replace_file(path: Path, text: str) -> None:
    """Put a file in place at once: written beside it, synced, renamed over it. Mode 0644. Raises OSError."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
