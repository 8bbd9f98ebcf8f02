"""What root undoes is what root has noted: nobody else can have it write or remove anything."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.cluster import Cluster
from nodeport_nft.errors import KernelError
from nodeport_nft.hosts import MARKER
from nodeport_nft.kernel.host.sysctl import SETTABLE, read_sysctl, set_sysctl
from tests.cli.program import SCRIPT
from tests.security.nobody import give
from tests.security.others import as_nobody

EXAMPLE = Path(__file__).parents[2] / "examples" / "my-ser.yaml"
FORWARDING = "net.ipv4.ip_forward"
BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
PRECIOUS = "of somebody else\n"


class Node:
    """worker-1, its files in directories that everybody can reach, and something that must not be touched."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        self.directory = directory
        self.state, self.stored, self.hosts = directory / "state", directory / "store", directory / "hosts"
        for each in (self.state, self.stored, self.hosts):
            each.mkdir(mode=0o755)
        self.store = self.stored / "store.db"
        self.victim, self.precious = directory / "victim", directory / "precious"
        self.victim.write_text(f"{MARKER}\n{PRECIOUS}")
        self.precious.write_text(PRECIOUS)

    def run(self, *words: str, node: str = "worker-1") -> subprocess.CompletedProcess[str]:
        """One run of ``sync`` or ``cleanup``."""
        own = ("--store", str(self.store), "--state-dir", str(self.state))
        done = self.cluster.run(node, [str(SCRIPT), *words, *own], check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def sync(self, *words: str, node: str = "worker-1") -> subprocess.CompletedProcess[str]:
        return self.run("sync", "-f", str(EXAMPLE), "--once", "--node-name", node, *words, node=node)

    def value(self, name: str = FORWARDING, node: str = "worker-1") -> str:
        return self.cluster.run(node, ["sysctl", "-n", name]).stdout.strip()

    def assert_untouched(self) -> None:
        assert self.victim.read_text() == f"{MARKER}\n{PRECIOUS}"
        assert self.precious.read_text() == PRECIOUS
        assert self.value() == "1"

    def forged(self) -> str:
        """Notes that would have root write and remove what their author wants."""
        sysctls = {FORWARDING: ["0", "1", BOOT], str(self.precious): ["x", PRECIOUS.strip(), BOOT]}
        return json.dumps({"hostsFiles": [str(self.victim)], "sysctls": sysctls})


@pytest.fixture
def node(cluster: Cluster) -> Iterator[Node]:
    directory = Path(tempfile.mkdtemp(dir="/run"))
    directory.chmod(0o755)
    yield Node(cluster, directory)
    cluster.sysctl("worker-1", {FORWARDING: "1"})
    shutil.rmtree(directory)


def by_nobody(place: Path, text: str) -> None:
    as_nobody(lambda: (place / "node-x.json").write_text(text))


def linked_by_nobody(place: Path, text: str) -> None:
    elsewhere = place.parent / "elsewhere"
    elsewhere.mkdir()
    give(elsewhere)
    by_nobody(elsewhere, text)
    (place / "node-x.json").symlink_to(elsewhere / "node-x.json")


def owned_by_nobody(place: Path, text: str) -> None:
    (place / "node-x.json").write_text(text)
    give(place / "node-x.json")


def writable_for_all(place: Path, text: str) -> None:
    (place / "node-x.json").write_text(text)
    (place / "node-x.json").chmod(0o666)


def in_open_directory(mode: int) -> Callable[[Path, str], None]:
    def make(place: Path, text: str) -> None:
        place.chmod(mode)
        by_nobody(place, text)

    return make


def in_nobodys_directory(place: Path, text: str) -> None:
    give(place)
    by_nobody(place, text)


def below_nobodys_directory(place: Path, text: str) -> None:
    in_nobodys_directory(place, text)
    shutil.chown(place / "node-x.json", "root")


def as_fifo(place: Path, text: str) -> None:  # noqa: ARG001 (whoever opens it waits)
    os.mkfifo(place / "node-x.json")


def as_directory(place: Path, text: str) -> None:  # noqa: ARG001
    (place / "node-x.json").mkdir()


@pytest.mark.proves("K5")
@pytest.mark.parametrize("where", ["state", "stored"])
@pytest.mark.parametrize(
    ("forge", "words"),
    [
        (in_open_directory(0o777), "others than its owner may write to"),
        (in_open_directory(0o1777), "choose a directory of your own"),
        (in_nobodys_directory, "who may put anything there"),
        (below_nobodys_directory, "who may put anything there"),
        (linked_by_nobody, "who may put anything there"),
        (owned_by_nobody, "who may put anything there"),
        (writable_for_all, "others than its owner may write to"),
        (as_fifo, "is not a regular file"),
        (as_directory, "is not a regular file"),
    ],
)
def test_forged_notes_change_nothing(node: Node, where: str, forge: Callable[[Path, str], None], words: str) -> None:
    node.cluster.nft("worker-1", "add table ip nodeport-nft")
    place = getattr(node, where)
    forge(place, node.forged())
    done = node.run("cleanup", *(("--node-name", "x") if where == "state" else ()))
    assert done.returncode == 1
    assert str(place) in done.stderr
    assert words in done.stderr
    node.assert_untouched()
    assert node.cluster.ruleset("worker-1") == "", "all else is done"


@pytest.mark.parametrize(
    "noted",
    [
        {"/run/precious": ["x", "y", BOOT]},
        {"../../../run/precious": ["x", "y", BOOT]},
        {"net/ipv4/ip_forward": ["0", "1", BOOT]},
        {"net.ipv4.ip_forward/": ["0", "1", BOOT]},
        {"net.ipv4.conf.all.rp_filter": ["0", "1", BOOT]},
        {"kernel.core_pattern": ["|/bin/sh", "not this", BOOT]},
        {"": ["0", "1", BOOT]},
        {FORWARDING: ["|/bin/sh", "1", BOOT]},
        {FORWARDING: ["0\n", "1", BOOT]},
        {FORWARDING: ["٠", "1", BOOT]},
        {FORWARDING: ["", "1", BOOT]},
        {FORWARDING: [0, "1", BOOT]},
        {FORWARDING: ["0", None, BOOT]},
        {FORWARDING: ["0", "1"]},
        {FORWARDING: ["0", "1", "any"]},
        {FORWARDING: ["0", "1", BOOT, 0, 0]},
        [{"name": FORWARDING, "before": "0"}],
        [{"name": "/run/precious", "before": "0", "value": "1", "boot": BOOT, "namespace": 0}],
        [{"name": FORWARDING, "before": "0", "value": "1", "boot": BOOT, "namespace": "0"}],
        [{"name": [FORWARDING], "before": "0", "value": "1", "boot": BOOT, "namespace": 0}],
        [[FORWARDING, "0", "1", BOOT]],
        "x",
        None,
        7,
    ],
)
def test_notes_name_nothing_but_what_the_program_sets(node: Node, noted: object) -> None:
    """Even root's own: what is odd in one place may be wrong in all, so nothing of it is done."""
    notes = node.state / "node-x.json"
    notes.write_text(json.dumps({"hostsFiles": [str(node.victim)], "sysctls": noted}))
    done = node.run("cleanup")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {notes}: ")
    assert "look into it and delete it" in done.stderr
    node.assert_untouched()
    assert notes.exists()


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"hostsFiles": ["x"], "sysctls": {}}', "\0", '{"sysctls": []}'])
def test_what_are_no_notes_is_told(node: Node, text: str) -> None:
    notes = node.state / "node-x.json"
    notes.write_text(text)
    done = node.run("cleanup")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {notes}: ")


@pytest.mark.parametrize(
    "name", ["{precious}", "../../../../{precious}", "kernel.hostname", "net.ipv4.ip_forward/../ip_default_ttl", ""]
)
def test_a_sysctl_is_one_of_a_few(node: Node, name: str) -> None:
    name = name.format(precious=node.precious)
    with pytest.raises(KernelError):
        read_sysctl(name)
    with pytest.raises(KernelError):
        set_sysctl(name, "0")
    with pytest.raises(KernelError):
        set_sysctl(FORWARDING, "1 0")
    node.assert_untouched()
    assert all(re.fullmatch(r"net(\.[a-z0-9_-]+)+", each) for each in SETTABLE)


def test_what_is_made_is_of_roots_own(node: Node) -> None:
    node.state = node.directory / "of" / "state"
    hosts = node.hosts / "hosts"
    node.cluster.sysctl("worker-1", {FORWARDING: "0"})
    before = os.umask(0)
    try:
        done = node.sync("--hosts-file", str(hosts), "--set-sysctls")
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    notes = node.state / "node-worker-1.json"
    modes = {path: path.stat().st_mode & 0o7777 for path in (node.state, node.state.parent, notes, hosts)}
    assert modes == {node.state: 0o700, node.state.parent: 0o700, notes: 0o600, hosts: 0o644}
    assert [path.name for path in node.hosts.iterdir()] == ["hosts"]
    done = node.run("cleanup")
    assert f"hosts file {hosts} removed" in done.stdout
    assert node.value() == "0"
    assert list(node.state.iterdir()) == list(node.hosts.iterdir()) == []


def test_notes_of_earlier_versions_beside_the_store_are_undone(node: Node) -> None:
    hosts = node.hosts / "hosts"
    hosts.write_text(f"{MARKER}\n")
    noted = {"hostsFiles": [str(hosts)], "sysctls": {FORWARDING: ["0", "1", BOOT]}}
    (node.stored / "node-worker-1.json").write_text(json.dumps(noted))
    done = node.run("cleanup", "--node-name", "worker-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"sysctl {FORWARDING} set back to 0", f"hosts file {hosts} removed"]
    assert node.value() == "0"
    assert list(node.stored.iterdir()) == []


def test_a_sysctl_is_set_back_where_it_was_set(node: Node) -> None:
    """Two network namespaces of one machine, and one state directory."""
    node.cluster.sysctl("worker-1", {FORWARDING: "0"})
    assert node.sync("--set-sysctls").returncode == 0
    assert node.value() == "1"
    assert "set back" not in node.run("cleanup", node="worker-2").stdout
    assert (node.value(), node.value(node="worker-2")) == ("1", "1")
    assert f"sysctl {FORWARDING} set back to 0" in node.run("cleanup").stdout
    assert node.value() == "0"


def exchange(node: Node, hosts: Path) -> None:
    """As nobody, who owns the directory: a link to something of root's in the place of the hosts file."""
    give(hosts.parent)

    def act() -> None:
        hosts.unlink()
        hosts.symlink_to(node.victim)

    as_nobody(act)


def exchange_above(node: Node, hosts: Path) -> None:
    """As nobody, who owns the directory above: a link in the place of the directory."""
    above = hosts.parent.parent
    give(above)
    others = node.directory / "others"
    others.mkdir()
    shutil.copy(node.victim, others / hosts.name)
    node.victim = others / hosts.name

    def act() -> None:
        hosts.parent.rename(above / "old")
        hosts.parent.symlink_to(others)

    as_nobody(act)


@pytest.mark.parametrize("attack", [exchange, exchange_above])
def test_a_hosts_file_that_was_exchanged_is_left(node: Node, attack: Callable[[Node, Path], None]) -> None:
    hosts = node.hosts / "d" / "hosts"
    hosts.parent.mkdir()
    assert node.sync("--hosts-file", str(hosts)).returncode == 0
    attack(node, hosts)
    again = node.sync("--hosts-file", str(hosts))
    assert again.returncode == 1
    assert f"error: the hosts file's directory {hosts.parent}: " in again.stderr
    done = node.run("cleanup")
    assert done.returncode == 1
    assert f"hosts file {hosts} cannot be removed: " in done.stderr
    assert "who may put anything there" in done.stderr
    node.assert_untouched()


@pytest.mark.parametrize("make", [Path.symlink_to, Path.hardlink_to])
def test_a_link_in_the_place_of_a_hosts_file_is_not_followed(node: Node, make: Callable[[Path, Path], None]) -> None:
    """In a directory of root's, where only root can have made it."""
    hosts = node.hosts / "hosts"
    assert node.sync("--hosts-file", str(hosts)).returncode == 0
    hosts.unlink()
    make(hosts, node.victim)
    node.sync("--hosts-file", str(hosts))
    node.run("cleanup")
    node.assert_untouched()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_a_hosts_file_needs_a_directory_of_roots(node: Node, mode: int) -> None:
    node.hosts.chmod(mode)
    done = node.sync("--hosts-file", str(node.hosts / "hosts"))
    assert done.returncode == 1
    assert f"error: the hosts file's directory {node.hosts}: " in done.stderr
    assert re.search(r"chmod go-w |choose a directory of your own", done.stderr)
    assert list(node.hosts.iterdir()) == []
    assert node.cluster.ruleset("worker-1") == "", "refused before anything is programmed"


@pytest.mark.parametrize("flag", [("--hosts-file", "hosts/hosts"), ("--set-sysctls",)])
def test_nothing_is_done_that_cannot_be_noted(node: Node, flag: tuple[str, ...]) -> None:
    node.state.chmod(0o777)
    words = [word.replace("hosts/", f"{node.hosts}/") for word in flag]
    node.cluster.sysctl("worker-1", {FORWARDING: "0"})
    done = node.sync(*words)
    assert done.returncode == 1
    assert f"error: stateDir {node.state}: others than its owner may write to {node.state}" in done.stderr
    assert node.cluster.ruleset("worker-1") == ""
    assert node.value() == "0"
    assert node.sync().returncode == 0, "where nothing is to be noted, the directory is no matter"
