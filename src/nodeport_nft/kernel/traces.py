"""What this program leaves on a node beside its tables: hosts files and changed sysctls, and how to undo them (K5).

They are noted in a small JSON file next to the store, one for each node name, so that ``cleanup`` knows later what
was ours. Every file here is replaced atomically: a reader sees the old one or the new one.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from nodeport_nft.hosts import MARKER
from nodeport_nft.kernel.nft import KernelError
from nodeport_nft.kernel.sysctl import read_sysctl, set_sysctl

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
        before = _read(path)
        if before is not None and before and not before.startswith(MARKER):
            raise KernelError(
                f"{path}: was not written by nodeport-nft and is left as it is; choose another --hosts-file, "
                "or move this one away"
            )
        if str(path) not in self.hosts_files:
            self.hosts_files.append(str(path))
            self._save()
        if before == text:
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

    def undo(self) -> tuple[str, ...]:
        """Remove our hosts files, restore the sysctls that still are as we set them; says what was done."""
        done = []
        for path in map(Path, self.hosts_files):
            text = _read(path)
            if text is not None and text.startswith(MARKER):
                path.unlink()
                done.append(f"hosts file {path} removed")
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
        for name, (before, value, when) in self.sysctls.items():
            if when == boot and read_sysctl(name) == value and before != value:
                set_sysctl(name, before)
                done.append(f"sysctl {name} set back to {before}")
        self.path.unlink(missing_ok=True)
        return tuple(done)


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


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
