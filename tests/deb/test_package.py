"""deb/: the package on fresh Debian 12 and 13, from `apt install` to purge, serving connections in between.

Debian comes from its archive, into directories. No systemd runs there: the daemon is started with the unit's words.
"""

from __future__ import annotations

import fcntl
import gzip
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from typer.main import get_command

from deb.build import SHELLS, completion, debian_version
from deb.manual import pages
from lab.cluster import Cluster
from lab.probe import connect
from nodeport_nft import __version__
from nodeport_nft.cli import app
from tests.cli.program import SCRIPT
from tests.deb.trees import SECONDS, Tree, later
from tests.kubernetes.image import online
from tests.kubernetes.running import ROOT

PATIENCE = 60.0
MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
spec: {nodeName: worker-1}
status: {podIP: POD}
"""


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built once for all processes of the tests."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "deb"
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (built := list(directory.glob("*.deb"))):
            words = [
                sys.executable,
                "-m",
                "pip",
                "wheel",
                "--quiet",
                "--no-deps",
                f"--wheel-dir={directory}",
                str(ROOT),
            ]
            _run([*online(), *words])
            (wheel,) = directory.glob("*.whl")
            build = ["-m", "deb.build", str(wheel), f"--output={directory}", "--compression=gzip"]
            built = [Path(_run([*online(), sys.executable, *build]).strip())]
    return built[0]


def _need(program: str) -> None:
    """`make test` installs them all; where it did not, the test is skipped, but not in CI."""
    if not shutil.which(program):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{program} is not installed")


def _run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(params=["bookworm", "trixie"])
def tree(request: pytest.FixtureRequest) -> Iterator[Tree]:
    _need("mmdebstrap")
    with TemporaryDirectory(dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)  # apt downloads as a user of its own
        yield Tree(Path(directory, "root"), request.param)


def test_lintian_finds_no_error(package: Path) -> None:
    _need("lintian")
    command = ["lintian", "--no-cfg", "--allow-root", "--fail-on", "error", str(package)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_finds_no_fault_in_the_units(package: Path, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed (package systemd)")
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path], check=True, timeout=SECONDS)
    units = tmp_path / "usr/lib/systemd/system"
    unit = units / "nodeport-nft.service"
    unit.write_text(unit.read_text().replace("/usr/bin/nodeport-nft", str(SCRIPT)))
    command = ["systemd-analyze", "verify", "--man=no", str(unit), str(units / "nodeport-nft.socket")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    about_ours = [line for line in (done.stdout + done.stderr).splitlines() if "nodeport-nft" in line]
    assert (done.returncode, about_ours) == (0, [])


def test_a_life_of_the_package(cluster: Cluster, tmp_path: Path, package: Path, tree: Tree) -> None:
    tree.satisfy(package)
    shutil.copy(package, tree.path("/root/nodeport-nft.deb"))
    tree.online("apt-get", "install", "--yes", "--no-install-recommends", "/root/nodeport-nft.deb")
    assert tree.online("nodeport-nft", "--version") == f"nodeport-nft {__version__}\n"
    for part in ("/usr/share/man/man1/nodeport-nft.1.gz", *SHELLS.values()):
        assert tree.path(part).stat().st_size, part
    assert list(tree.path("/usr/lib/nodeport-nft/common/nodeport_nft/__pycache__").glob("*.pyc")), "it is compiled"
    # The clients of the other stores are there, and come from nowhere else.
    python = "/usr/lib/nodeport-nft/$(ls /usr/bin | grep -xE 'python3[.][0-9]+')/bin/python3"
    imports = "import aiohttp, google.protobuf, grpc, msgspec, nftables, yaml; nftables.Nftables()"
    client = tree.online("sh", "-c", f"{python} -I -c '{imports}; print(grpc.__file__)'")
    assert client.startswith("/usr/lib/nodeport-nft/")
    assert not tree.path("/etc/systemd/system/multi-user.target.wants/nodeport-nft.service").is_symlink()

    manifest = MANIFEST.replace("POD", str(cluster.address("web-1")))
    tree.path("/root/web.yaml").write_text(manifest)
    tree.on_node(cluster, "nodeport-nft", "apply", "-f", "/root/web.yaml")
    daemon = tree.start(cluster, _daemon(tree), tmp_path / "log")
    try:
        _serves(cluster, tmp_path / "log")
        _upgrade(cluster, tmp_path, package, tree)
        assert daemon.poll() is None, "an upgrade ends no daemon"
    finally:
        _end(cluster, daemon)
    daemon = tree.start(cluster, _daemon(tree), tmp_path / "log")
    try:
        _serves(cluster, tmp_path / "log")
    finally:
        _end(cluster, daemon)
    assert "Traceback" not in (tmp_path / "log").read_text()

    tree.on_node(cluster, "dpkg", "--remove", "nodeport-nft", alive=True)
    assert cluster.ruleset("worker-1") == "", "with the program go the tables"
    assert tree.path("/var/lib/nodeport-nft/store.db").exists()
    assert tree.path("/etc/nodeport-nft/config.yaml").exists()
    assert not tree.path("/usr/lib/nodeport-nft").exists()
    tree.on_node(cluster, "dpkg", "--purge", "nodeport-nft", alive=True)
    assert tree.left_over() == {"/root/nodeport-nft.deb", "/root/web.yaml", "/root/later.deb"}


def _upgrade(cluster: Cluster, tmp_path: Path, package: Path, tree: Tree) -> None:
    """What people have changed stays, what they have not comes anew, and packets go on."""
    configuration = tree.path("/etc/nodeport-nft/config.yaml")
    configuration.write_text(configuration.read_text() + "syncPeriod: 31s\n")
    changed, store, ruleset = configuration.read_text(), _services(cluster, tree), _chains(cluster)
    shutil.copy(later(package, tmp_path), tree.path("/root/later.deb"))
    tree.on_node(cluster, "dpkg", "--install", "/root/later.deb")
    assert configuration.read_text() == changed
    assert "# of the later version" in tree.path("/etc/default/nodeport-nft").read_text()
    assert (_services(cluster, tree), _chains(cluster)) == (store, ruleset)
    _serves(cluster, tmp_path / "log")


def _daemon(tree: Tree) -> list[str]:
    """The unit's ExecStart, with the flag that stands for the machine's name."""
    unit = tree.path("/usr/lib/systemd/system/nodeport-nft.service").read_text()
    (line,) = (line for line in unit.splitlines() if line.startswith("ExecStart="))
    return line.partition("=")[2].replace("$NODEPORT_NFT_FLAGS", "--node-name worker-1").split()


def _serves(cluster: Cluster, log: Path) -> None:
    """A connection from outside reaches the pod. The daemon may still be starting."""
    destination, deadline = (cluster.address("worker-1"), 30080), time.monotonic() + PATIENCE
    while (outcome := connect(cluster, "client", destination)).name != "web-1":
        assert time.monotonic() < deadline, f"{outcome}\n{log.read_text()}"
        time.sleep(0.2)


def _services(cluster: Cluster, tree: Tree) -> str:
    return tree.on_node(cluster, "nodeport-nft", "get", "services", "-o", "yaml")


def _chains(cluster: Cluster) -> str:
    """The tables without what they count."""
    return cluster.run("worker-1", ["nft", "--stateless", "list", "ruleset"]).stdout


def _end(cluster: Cluster, daemon: subprocess.Popen[str]) -> None:
    """As the service manager does it; the rules stay."""
    os.killpg(daemon.pid, signal.SIGTERM)
    cluster.stop(daemon)


def test_versions_sort_in_debian_as_in_python() -> None:
    versions = ["0.1.0.dev3", "0.1.0a1", "0.1.0rc2", "0.1.0", "0.1.1"]
    in_debian = [debian_version(each) for each in versions]
    for low, high in pairwise(in_debian):
        subprocess.run(["dpkg", "--compare-versions", low, "lt", high], check=True)


def test_every_command_has_a_page_with_all_its_options() -> None:
    made = pages()
    group = get_command(app)
    context = group.context_class(group, info_name="nodeport-nft")
    assert isinstance(made["nodeport-nft-create-service-nodeport"], str)
    for name in group.list_commands(context):  # type: ignore[attr-defined]
        command = group.get_command(context, name)  # type: ignore[attr-defined]
        page = made.get(f"nodeport-nft-{name}", "")
        assert bool(page) == (not command.hidden)
        for parameter in command.params if page else ():
            for flag in parameter.opts if parameter.param_type_name == "option" and not parameter.hidden else ():
                assert flag.replace("-", "\\-") in page, (name, flag)


@pytest.mark.parametrize("shell", [*SHELLS])
def test_completion_is_a_script_of_its_shell(shell: str, tmp_path: Path) -> None:
    script = tmp_path / shell
    script.write_text(completion(shell))
    assert "_NODEPORT_NFT_COMPLETE=complete_" in script.read_text()
    if shutil.which(shell):
        subprocess.run([shell, "-n", str(script)], check=True, timeout=PATIENCE)


def test_man_finds_no_fault_in_the_pages(tmp_path: Path) -> None:
    _need("man")
    for name, text in pages().items():
        path = tmp_path / f"{name}.1.gz"
        path.write_bytes(gzip.compress(text.encode()))
        command = ["man", "--warnings", "--encoding=UTF-8", "--local-file", str(path)]
        environment = {**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=PATIENCE)
        assert done.stderr == "", name
        assert name in done.stdout
