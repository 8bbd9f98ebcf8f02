"""What the old iptables has in the kernel, asked of its own program: nft does not list it."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from nodeport_nft.problems import clipped
from nodeport_nft.terminal import printable
from nodeport_nft.trust import file_fault

_SECONDS = 10.0
_MOST_BYTES = 16 << 20
_DIRECTORIES = ("/usr/sbin", "/sbin", "/usr/local/sbin")
_PROGRAMS = {"ip": ("iptables-legacy-save", "ip_tables_names"), "ip6": ("ip6tables-legacy-save", "ip6_tables_names")}
_CONCERNED = frozenset(("filter", "mangle", "security"))


class Saved(Struct, frozen=True):
    """The rules of a family as the program prints them. ``fault``: why they cannot be had, where they are in use."""

    family: str
    text: str = ""
    fault: str = ""

    def digest(self) -> bytes:
        """What changes with the rules and the fault alone: not with the packets that are counted, nor the time."""
        lines = (line.partition(" [")[0] if line.startswith(":") else line for line in self.text.splitlines())
        rules = "\n".join(line for line in lines if not line.startswith("#"))
        return hashlib.sha256(f"{self.family}\n{self.fault}\n{rules}".encode()).digest()


def read_saved() -> Iterator[Saved]:
    """The old iptables' rules of both families, where it is in use in this network namespace."""
    for family, (program, _) in _PROGRAMS.items():
        concerned = sorted(_CONCERNED.intersection(used_tables(family)))
        if not concerned:
            continue
        text, fault = run_legacy(program)
        if fault:
            text, which = "", f"table{'s' * (len(concerned) > 1)} {', '.join(concerned)}"
            fault = f"legacy {program.split('-')[0]} rules are in use ({which}) and cannot be judged: {fault}"
        yield Saved(family, text, fault)


def used_tables(family: str) -> tuple[str, ...]:
    """The tables of nft's family ``ip`` or ``ip6`` that somebody has used; reading a rule would bring one up."""
    _, names = _PROGRAMS[family]
    try:
        return tuple(Path("/proc/thread-self/net", names).read_text(encoding="ascii", errors="replace").split())
    except OSError:
        return ()  # the kernel has none


def run_legacy(
    program: str, *words: str, text: str = "", remedy: str = "look whether they let Services through"
) -> tuple[str, str]:
    """What a program of the old iptables prints, given ``text`` to read, or why it cannot.

    ``remedy``: what else helps where it is not installed.
    """
    path = next((path for where in _DIRECTORIES if (path := Path(where, program)).exists()), None)
    if path is None:
        return "", f"{program} is not installed; install it, or {remedy}"
    try:
        if fault := file_fault(path):
            return "", fault
        # S603: a program of the system, as root alone can have put it there.
        done = subprocess.run(  # noqa: S603
            [str(path), *words], capture_output=True, check=False, timeout=_SECONDS, input=text.encode(), env={}
        )
    except subprocess.TimeoutExpired:
        return "", f"{path} has not answered for {_SECONDS:g} s"
    except OSError as error:
        return "", f"{path} cannot be run: {error.strerror}"
    if done.returncode != 0 or len(done.stdout) > _MOST_BYTES:
        said = printable(done.stderr.decode(errors="replace").strip().partition("\n")[0])
        return "", f"{path} fails{f' ({clipped(said)})' if said else ''}; run it to see why"
    return done.stdout.decode(errors="replace"), ""
