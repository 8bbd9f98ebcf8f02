"""Carries out deploy/Containerfile in directories, where there is no builder of images and no registry to be reached.

A stage is a directory. What it is FROM is made by mmdebstrap, with the packages that Debian's own image has (variant
minbase; its "slim" leaves out documentation); RUN runs in a chroot with what a builder lends: /dev, /proc, name
resolution. Whoever asks from behind a proxy or a mirror has that in PIP_… variables and in the host's certificates.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.kubernetes.running import ROOT

CONTAINERFILE = ROOT / "deploy" / "Containerfile"
BASE = "debian:bookworm-slim"
_OURS = ("PIP_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
_CERTIFICATES = "/run/certificates.crt"
_NETWORK = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)  # before tests go into one of their own

ENTER = """
root=$1; shift
mount --make-rprivate / && mount -t proc proc "$root/proc" && mount -t tmpfs -o mode=755 dev "$root/dev" &&
mount -t tmpfs -o mode=755 run "$root/run" || exit
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "$root/dev/${device%:*}" c 1 "${device#*:}" || exit
done
cp /etc/resolv.conf /etc/hosts "$root/etc/" || exit
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp /etc/ssl/certs/ca-certificates.crt "$root$PIP_CERT" || exit
[ -e "$root$PIP_CERT" ] || unset PIP_CERT
exec chroot "$root" "$@"
"""
"""What a step finds of this machine are copies: packages write to what they find."""


@dataclass(slots=True)
class Image:
    """What comes out: the file system, and how a program in it is started."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    user: str = "0"
    workdir: str = "/"


def instructions(path: Path = CONTAINERFILE) -> Iterator[tuple[str, str]]:
    """The words and the rest of each instruction, in their order."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            yield word, rest.strip()


def build(directory: Path) -> Image:
    """The last stage. Raises CalledProcessError where a step fails; its output is on standard error."""
    stages: dict[str, Image] = {}
    image: Image | None = None
    base: Path | None = None
    for number, (word, rest) in enumerate(instructions()):
        if word == "FROM":
            source, _, name = rest.partition(" AS ")
            assert source == BASE, f"{source}: only Debian's is known here"
            base = base or _debootstrap(directory / "base")
            image = stages[name or str(number)] = Image(directory / f"stage-{name or number}")
            subprocess.run(["cp", "--archive", "--reflink=auto", str(base), str(image.root)], check=True)
            continue
        assert image is not None, "FROM comes first"
        _carry_out(image, stages, word, rest)
    assert image is not None
    return image


def _carry_out(image: Image, stages: dict[str, Image], word: str, rest: str) -> None:
    match word:
        case "RUN":
            enter(image, ["sh", "-c", f"cd {shlex.quote(image.workdir)} && {rest}"])
        case "COPY":
            _copy(image, stages, rest.split())
        case "WORKDIR":
            image.workdir = rest
            (image.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        case "ENV":
            image.environment |= dict(each.split("=", 1) for each in shlex.split(rest))
        case "USER":
            image.user = rest
        case "ENTRYPOINT":
            image.entrypoint = json.loads(rest)
        case "CMD":
            image.command = json.loads(rest)
        case _:
            raise AssertionError(f"{word} is not known here")


def enter(image: Image, argv: list[str]) -> None:
    """Run a step in the image."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
    environment |= {name: os.environ[name] for name in _OURS if name in os.environ}
    subprocess.run(
        [*online(), "unshare", "--mount", "--pid", "--fork", "sh", "-c", ENTER, "sh", str(image.root), *argv],
        check=True,
        env={**environment, **image.environment, "PIP_CERT": _CERTIFICATES},
        stdin=subprocess.DEVNULL,
        stdout=2,
        timeout=900,
    )


def online() -> list[str]:
    """What comes before a command that asks a mirror."""
    return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{_NETWORK}"]


def _copy(image: Image, stages: dict[str, Image], words: list[str]) -> None:
    source = ROOT
    if words[0].startswith("--from="):
        source = stages[words.pop(0).removeprefix("--from=")].root
    *names, target = words
    into = image.root / Path(image.workdir, target).as_posix().lstrip("/")
    for name in names:
        path = source / name.lstrip("/")
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__") if source == ROOT else None
            shutil.copytree(path, into, symlinks=True, dirs_exist_ok=True, ignore=ignored)
        else:
            shutil.copy2(path, into / path.name if target.endswith("/") else into)


def _debootstrap(target: Path) -> Path:
    """Debian 12 as its image has it."""
    make = [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--format=directory",
        "--variant=minbase",
        "bookworm",
        str(target),
    ]
    subprocess.run([*online(), *make], check=True, stdin=subprocess.DEVNULL, stdout=2, timeout=900)
    return target
