"""``python -m deb.build WHEEL``: build/nodeport-nft_VERSION_ARCHITECTURE.deb, for Debian 12 and 13 alike.

The package brings the Python packages that it needs, in versions that Debian has not got, and leaves the interpreter,
libnftables with its binding and libc, where security updates matter most, to Debian. For each Python it holds a
virtual environment, laid out like those of venv: other programs see nothing of it, nor does it see theirs. What is
the same for both is in it once. dh-virtualenv would tie the file to one Python and so to one Debian; in /opt nobody
expects what apt has installed.

Needs pip and its index, dpkg-deb, and ``nodeport_nft`` in the interpreter that runs this.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from email.utils import formatdate
from importlib.metadata import Distribution, distributions
from pathlib import Path
from tempfile import TemporaryDirectory

from deb.manual import pages

ROOT = Path(__file__).parents[1]
PACKAGE = Path(__file__).parent / "package"
SYSTEMD = ROOT / "contrib" / "systemd"

PYTHONS = ("3.13", "3.11")
"""Debian 13's and Debian 12's. control, triggers and the launcher name them, too."""

EXTRAS = "etcd,kubernetes"
FROM_DEBIAN = {"pip_nftables": "nftables"}
"""Projects whose module Debian's python3-nftables brings, at the version of its library, and under the GPL alone."""

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Debian's names of architectures, and those in the names of wheels."""

GLIBC = (2, 36)
"""Debian 12's; wheels for this or an older one are taken."""

SHELLS = {
    "bash": "usr/share/bash-completion/completions/nodeport-nft",
    "zsh": "usr/share/zsh/vendor-completions/_nodeport-nft",
    "fish": "usr/share/fish/vendor_completions.d/nodeport-nft.fish",
}


def main() -> None:
    """The command. Exits with the code of the program that failed, after what it said."""
    parser = argparse.ArgumentParser(prog="python -m deb.build", description="Build the Debian package.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--output", type=Path, default=ROOT / "build", help="the directory; default build/")
    parser.add_argument("--compression", default="xz", help="dpkg-deb's -Z; gzip is quick and a quarter larger")
    options = parser.parse_args()
    try:
        print(build(options.wheel.absolute(), options.output, options.compression))
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


def build(wheel: Path, output: Path, compression: str = "xz") -> Path:
    """The package's path. Raises CalledProcessError where pip or dpkg-deb fails; it has said why."""
    version = debian_version(wheel.name.split("-")[1])
    architecture = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
    if architecture not in MACHINES:
        sys.exit(f"error: architecture {architecture}; the package is made for {' and '.join(MACHINES)}")
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"nodeport-nft_{version}_{architecture}.deb"
    with TemporaryDirectory() as directory:
        os.umask(0o022)
        tree = Path(directory, "tree")
        tree.mkdir()
        _environments(wheel, tree / "usr/lib/nodeport-nft", Path(directory), MACHINES[architecture])
        _service(tree)
        _texts(tree, version)
        _control(tree, version, architecture)
        tree.chmod(0o755)
        _say("packing")
        # Beside its place: a package that was broken off would be taken for one.
        begun = path.with_suffix(".part")
        command = ["dpkg-deb", "--root-owner-group", f"-Z{compression}", "--build", str(tree), str(begun)]
        try:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            begun.replace(path)
        finally:
            begun.unlink(missing_ok=True)
    return path


def _say(what: str) -> None:
    """It takes a minute or more: what is going on, on stderr."""
    print(f"{what} ...", file=sys.stderr, flush=True)


def debian_version(version: str) -> str:
    """A version of Python's as dpkg sorts it: 0.2.0rc1 comes before 0.2.0."""
    return re.sub(r"(a|b|rc)(\d+)", r"~\1\2", re.sub(r"\.dev(\d+)", r"~~dev\1", version))


def _environments(wheel: Path, target: Path, directory: Path, machine: str) -> None:
    found = {python: _wheels(wheel, directory / python, python, machine) for python in PYTHONS}
    same = set.intersection(*({each.name for each in wheels} for wheels in found.values()))
    common = [each for each in found[PYTHONS[0]] if each.name in same]
    _unpack(common, target / "common", PYTHONS[0], machine)
    for module in FROM_DEBIAN.values():
        (target / "common" / module).symlink_to(f"/usr/lib/python3/dist-packages/{module}")
    for python, wheels in found.items():
        place = target / f"python{python}"
        packages = place / "lib" / f"python{python}" / "site-packages"
        _unpack([each for each in wheels if each.name not in same], packages, python, machine)
        (packages / "common.pth").write_text("/usr/lib/nodeport-nft/common\n")
        (place / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
        (place / "bin").mkdir()
        (place / "bin" / "python3").symlink_to(f"/usr/bin/python{python}")
        # -B: what postinst has compiled is all there is, so that removal leaves nothing.
        start = (
            f"#!/usr/lib/nodeport-nft/python{python}/bin/python3 -IB\nfrom nodeport_nft.entry import main\n\nmain()\n"
        )
        _write(place / "bin" / "nodeport-nft", start, 0o755)
    _write(target.parents[1] / "bin" / "nodeport-nft", (PACKAGE / "nodeport-nft").read_text(), 0o755)


def _platforms(python: str, machine: str) -> list[str]:
    """What pip is told to choose wheels for another Python and Debian 12's libc."""
    names = [f"manylinux_{GLIBC[0]}_{minor}_{machine}" for minor in range(GLIBC[1], 4, -1)]
    words = [f"--platform={name}" for name in (*names, f"manylinux2014_{machine}")]
    return ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *words]


def _wheels(wheel: Path, target: Path, python: str, machine: str) -> list[Path]:
    _say(f"collecting packages for Python {python}")
    target.mkdir()
    words = ["download", "--dest", str(target), *_platforms(python, machine), f"{wheel}[{EXTRAS}]"]
    _pip(*words)
    return sorted(path for path in target.glob("*.whl") if path.name.split("-")[0] not in FROM_DEBIAN)


def _unpack(wheels: Iterable[Path], target: Path, python: str, machine: str) -> None:
    words = ["install", "--no-deps", "--no-index", "--no-compile", "--target", str(target)]
    _pip(*words, *_platforms(python, machine), *map(str, wheels))
    shutil.rmtree(target / "bin", ignore_errors=True)
    for path in target.rglob("*"):
        # Wheels come with all kinds of rights. Nothing in here is started by its path.
        path.chmod(0o755 if path.is_dir() else 0o644)


def _pip(*words: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words], check=True, stdout=2
    )


def _service(tree: Path) -> None:
    """What contrib/systemd's README has people install by hand, where packages put it."""
    units = tree / "usr/lib/systemd/system"
    service = (SYSTEMD / "nodeport-nft.service").read_text()
    for old, new in (
        ("/usr/local/bin/", "/usr/bin/"),
        ("contrib/systemd/README.md says how to install it and", "/usr/share/doc/nodeport-nft/systemd.md.gz says"),
        (
            "sysctl.d/90-nodeport-nft.conf sets them, at boot and for good",
            "/etc/nodeport-nft/sysctl.conf is for them",
        ),
    ):
        service = _replaced(service, old, new)
    _write(units / "nodeport-nft.service", service)
    _write(units / "nodeport-nft.socket", (SYSTEMD / "nodeport-nft.socket").read_text())
    _write(units / "nodeport-nft.service.d/package.conf", (PACKAGE / "package.conf").read_text())
    sysctls = (SYSTEMD / "sysctl.d/90-nodeport-nft.conf").read_text()
    place = "Goes to /etc/sysctl.d/; `sysctl --system` applies it at once."
    _write(
        tree / "etc/nodeport-nft/sysctl.conf", _replaced(sysctls, place, "The service sets it whenever it starts.")
    )
    _write(tree / "etc/nodeport-nft/config.yaml", (SYSTEMD / "config.yaml").read_text())
    _write(tree / "etc/default/nodeport-nft", (SYSTEMD / "nodeport-nft.default").read_text())
    _write(tree / "etc/modules-load.d/nodeport-nft.conf", (SYSTEMD / "modules-load.d/nodeport-nft.conf").read_text())
    _write(tree / "usr/share/doc/nodeport-nft/examples/no-ports.conf", (SYSTEMD / "no-ports.conf").read_text())


def _texts(tree: Path, version: str) -> None:
    """Manual pages, completion, and what Debian asks every package to have in /usr/share/doc."""
    for name, page in pages().items():
        _compress(tree / f"usr/share/man/man1/{name}.1.gz", page)
    for shell, path in SHELLS.items():
        _write(tree / path, completion(shell))
    documents = tree / "usr/share/doc/nodeport-nft"
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        _compress(documents / f"{document.name}.gz", document.read_text())
    _compress(documents / "systemd.md.gz", (SYSTEMD / "README.md").read_text())
    for example in sorted((ROOT / "examples").glob("*.yaml")):
        _write(documents / "examples" / example.name, example.read_text())
    _compress(documents / "changelog.gz", (ROOT / "CHANGELOG.md").read_text())
    maintainer = _field("Maintainer")
    date = formatdate(float(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    entry = f"nodeport-nft ({version}) stable; urgency=medium\n\n  * See changelog.gz.\n\n -- {maintainer}  {date}\n"
    _compress(documents / "changelog.Debian.gz", entry)
    _write(documents / "copyright", _copyright(tree / "usr/lib/nodeport-nft"))
    _write(tree / "usr/share/lintian/overrides/nodeport-nft", (PACKAGE / "lintian-overrides").read_text())


def completion(shell: str) -> str:
    """What the program prints for ``shell``. zsh calls a file that it loads for the first TAB: it has to answer."""
    program = [sys.executable, "-I", "-m", "nodeport_nft"]
    environment = {**os.environ, "_NODEPORT_NFT_COMPLETE": f"source_{shell}"}
    script = (
        subprocess.run(program, env=environment, check=True, capture_output=True, text=True).stdout.strip() + "\n"
    )
    return script + '\n_nodeport_nft_completion "$@"\n' if shell == "zsh" else script


def _copyright(packages: Path) -> str:
    """In a form for people: the licence of each package that is in here; their texts are beside their code."""
    places = [str(packages / "common"), *(str(each) for each in packages.glob("python*/lib/python*/site-packages"))]
    lines = {_licence(each) for each in distributions(path=places) if each.name != "nodeport-nft"}
    return (
        "nodeport-nft is under the Apache License 2.0, see /usr/share/common-licenses/Apache-2.0.\n"
        "Copyright: the authors of nodeport-nft\n\n"
        "The package brings these Python packages. Their copyright notices and the texts of their licences are in\n"
        "/usr/lib/nodeport-nft, in their .dist-info directories.\n"
        "/usr/share/common-licenses has the GNU and Mozilla ones.\n\n" + "\n".join(sorted(lines)) + "\n"
    )


def _licence(package: Distribution) -> str:
    classifiers = package.metadata.get_all("Classifier") or []
    named = [each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License :: OSI Approved :: ")]
    told = package.metadata.json.get("license_expression") or ", ".join(named) or package.metadata.json.get("license")
    return f"  {package.name} {package.version}: {str(told).splitlines()[0] if told else 'see there'}"


def _control(tree: Path, version: str, architecture: str) -> None:
    kilobytes = sum(path.lstat().st_size for path in tree.rglob("*") if path.is_file()) // 1024
    control = (PACKAGE / "control").read_text()
    filled = control.format(version=version, architecture=architecture, kilobytes=kilobytes)
    _write(tree / "DEBIAN/control", filled)
    for name in ("postinst", "prerm", "postrm"):
        _write(tree / "DEBIAN" / name, (PACKAGE / name).read_text(), 0o755)
    _write(tree / "DEBIAN/triggers", (PACKAGE / "triggers").read_text())
    files = sorted(f"/{path.relative_to(tree)}\n" for path in (tree / "etc").rglob("*") if path.is_file())
    _write(tree / "DEBIAN/conffiles", "".join(files))
    _write(tree / "DEBIAN/md5sums", _checksums(tree))


def _checksums(tree: Path) -> str:
    files = [path for path in sorted((tree / "usr").rglob("*")) if path.is_file() and not path.is_symlink()]
    names = [str(path.relative_to(tree)) for path in files]
    return subprocess.check_output(["md5sum", "--", *names], cwd=tree, text=True)


def _field(name: str) -> str:
    (value,) = re.findall(rf"^{name}: (.*)$", (PACKAGE / "control").read_text(), re.MULTILINE)
    return str(value)


def _replaced(text: str, old: str, new: str) -> str:
    """Raises ValueError where the file has changed and no longer says ``old``."""
    if old not in text:
        raise ValueError(f"{old!r} is no longer there")
    return text.replace(old, new)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _compress(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
