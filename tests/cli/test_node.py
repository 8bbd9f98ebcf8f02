"""sync, render, diff and cleanup through the installed program, in the lab's node worker-1."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.cluster import Cluster
from tests.cli.program import SCRIPT
from tests.netns.kernel import generation

EXAMPLE = Path(__file__).parents[2] / "examples" / "my-ser.yaml"
NODE_NAME = ("--node-name", "worker-1")
ENDPOINT = """
---
apiVersion: v1
kind: Pod
metadata: {name: web-4, labels: {app: my-ser}}
spec: {nodeName: worker-2}
status: {podIP: 10.244.2.3}
"""


class Node:
    """worker-1, with the program on it and a store of its own."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster, self.directory = cluster, directory
        self.store = directory / "store.db"

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        argv = [str(SCRIPT), *words, "--store", str(self.store)]
        if words[0] in ("sync", "cleanup"):
            argv += ["--state-dir", str(self.directory)]
        done = self.cluster.run("worker-1", argv, check=False, text=stdin)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def ok(self, *words: str, stdin: str = "") -> str:
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ruleset(self) -> str:
        return re.sub(r" counter packets \d+ bytes \d+", "", self.cluster.ruleset("worker-1"))


@pytest.fixture
def node(cluster: Cluster, tmp_path: Path) -> Node:
    return Node(cluster, tmp_path)


@pytest.mark.proves("K4")
def test_a_second_sync_writes_nothing(node: Node) -> None:
    words = ("sync", "-f", str(EXAMPLE), "--once", *NODE_NAME)
    assert node.ok(*words) == "node worker-1: 1 service, tables created with 14 elements\n"
    before = generation(node.cluster, "worker-1")
    assert node.ok(*words) == "node worker-1: 1 service, nothing changed\n"
    assert generation(node.cluster, "worker-1") == before


def test_sync_from_the_store_needs_no_manifests(node: Node) -> None:
    node.ok("apply", "-f", str(EXAMPLE))
    assert "tables created" in node.ok("sync", "--once", *NODE_NAME)
    assert "nothing changed" in node.ok("sync", "--once", *NODE_NAME)


@pytest.mark.proves("X4")
def test_dry_run_diff_and_sync_agree_byte_for_byte(node: Node) -> None:
    """What dry-run and diff print, loaded by nft, is what sync would have made."""
    dry = node.ok("sync", "-f", str(EXAMPLE), "--dry-run", *NODE_NAME)
    assert not node.store.exists()
    assert node.cluster.ruleset("worker-1") == ""
    assert dry == node.ok("render", "-f", str(EXAMPLE), *NODE_NAME)
    node.ok("sync", "-f", str(EXAMPLE), "--once", *NODE_NAME)
    made = node.ruleset()
    node.cluster.nft("worker-1", "flush ruleset")
    node.cluster.nft("worker-1", dry)
    assert sorted(node.ruleset().splitlines()) == sorted(made.splitlines())

    more = node.directory / "more.yaml"
    more.write_text(EXAMPLE.read_text() + ENDPOINT)
    words = ("-f", str(more), *NODE_NAME)
    changes = node.run("diff", *words)
    assert changes.returncode == 1
    assert changes.stdout == node.ok("sync", *words, "--dry-run")
    assert changes.stdout.count("10.244.2.3") == 2
    node.cluster.nft("worker-1", changes.stdout)
    assert node.run("diff", *words).stdout == ""


def test_diff_exit_codes(node: Node) -> None:
    assert node.run("diff", "-f", str(EXAMPLE), *NODE_NAME).returncode == 1
    node.ok("sync", "-f", str(EXAMPLE), "--once", *NODE_NAME)
    assert node.run("diff", *NODE_NAME).returncode == 0
    assert node.run("diff", "-f", "/nonexistent", *NODE_NAME).returncode == 2
    assert node.run("diff", "--masquerade-bit", "99", *NODE_NAME).returncode == 2
    assert node.run("diff", "--service-cidr", "172.30.0.0/16", *NODE_NAME).returncode == 2


def test_what_left_the_manifests_is_deleted_and_freed(node: Node) -> None:
    manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec:\n  type: NodePort\n  ports: [%s]\n"
    explicit = "{port: 80, nodePort: 30080}"
    node.ok("sync", "-f", "-", "--once", *NODE_NAME, stdin=manifest % ("one", explicit))
    node.ok("sync", "-f", "-", "--once", *NODE_NAME, stdin=manifest % ("two", explicit))
    assert "default/one" not in node.ruleset()
    assert '30080 comment "default/two"' in node.ruleset()
    assert node.run("get", "services", "one").returncode == 1


ONE = "apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec:\n  type: NodePort\n  ports: [{port: 80}]\n"


def test_what_apply_has_stored_goes_with_prune_alone(node: Node) -> None:
    for name in ("one", "two", "mine"):
        node.ok("apply", "-f", "-", stdin=ONE % name)
    node.ok("sync", "--once", *NODE_NAME)
    before, stored = node.ruleset(), node.ok("get", "services", "-o", "yaml")
    words = ("-f", "-", *NODE_NAME)
    for command in (("sync", "--once"), ("sync", "--dry-run"), ("diff",), ("sync", "--once", "--allow-empty")):
        done = node.run(*command, *words, stdin=ONE % "mine")
        assert (done.returncode, done.stdout) == (2, ""), command
        assert "holds 2 objects (Service/default/one, Service/default/two)" in done.stderr
        assert "--prune" in done.stderr
    manifest = node.directory / "mine.yaml"
    manifest.write_text(ONE % "mine", encoding="utf-8")
    done = node.run("sync", "-f", str(manifest), *NODE_NAME)  # as a daemon
    assert done.returncode == 2
    assert "holds 2 objects" in done.stderr
    assert (node.ruleset(), node.ok("get", "services", "-o", "yaml")) == (before, stored)
    assert node.run("diff", "--prune", *words, stdin=ONE % "mine").returncode == 1
    done = node.run("sync", "--once", "--prune", *words, stdin=ONE % "mine")
    assert done.returncode == 0
    assert "service/one deleted" in done.stderr
    # From now on the manifests are the whole state, and what they wrote goes with them.
    node.ok("sync", "--once", *words, stdin=ONE % "yours")
    assert node.run("get", "services", "mine").returncode == 1
    node.ok("apply", "-f", "-", stdin=ONE % "yours")
    assert node.run("sync", "--once", *words, stdin=ONE % "mine").returncode == 2


def test_prune_is_nothing_without_manifests(node: Node) -> None:
    for command in (("sync", "--once"), ("sync",), ("diff",)):
        done = node.run(*command, "--prune", *NODE_NAME)
        assert (done.returncode, done.stdout) == (2, "")
        assert "--prune is for manifests" in done.stderr


def test_a_change_of_type_takes_every_way_into_the_store(node: Node) -> None:
    """Edited from what ``get -o yaml`` gives, one word changed."""
    service = ONE % "web"
    node.ok("apply", "-f", "-", stdin=service)
    edited = node.ok("get", "service", "web", "-o", "yaml").replace("type: NodePort", "type: ClusterIP")
    assert "nodePort:" in edited
    done = node.run("apply", "--dry-run", "-f", "-", stdin=edited)
    assert (done.returncode, done.stdout) == (0, "service/web configured (dry run)\n")
    assert "spec.ports[0].nodePort, spec.externalTrafficPolicy: dropped" in done.stderr
    for command, code in ((("sync", "--dry-run"), 0), (("diff",), 1), (("sync", "--once"), 0)):
        assert node.run(*command, "-f", "-", *NODE_NAME, stdin=edited).returncode == code, command
    assert "nodePort" not in node.ok("get", "service", "web", "-o", "yaml")
    done = node.run("sync", "--once", "-f", "-", *NODE_NAME, stdin=edited)
    assert done.returncode == 0, "a file that still names it may come again"
    assert "nothing changed" in done.stdout
    other = re.sub(r"nodePort: \d+", "nodePort: 30001", edited)
    done = node.run("sync", "--once", "-f", "-", *NODE_NAME, stdin=other)
    assert done.returncode == 2, "a number that it never had"
    assert "may not be set on a service of type ClusterIP" in done.stderr


def test_wrong_input_changes_nothing(node: Node) -> None:
    node.ok("sync", "-f", str(EXAMPLE), "--once", *NODE_NAME)
    before, stored = node.ruleset(), node.ok("get", "services", "-o", "name")
    wrong = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 0}, {port: http}]}\n"
    done = node.run("sync", "-f", "-", "--once", *NODE_NAME, stdin=wrong)
    assert done.returncode == 2
    assert (
        len([line for line in done.stderr.splitlines() if line.startswith("<stdin>:4: Service/default/web: ")]) >= 2
    )
    assert node.ruleset() == before
    assert node.ok("get", "services", "-o", "name") == stored


@pytest.mark.proves("K6")
def test_k6_no_sysctl_is_changed_unless_asked(node: Node) -> None:
    cluster = node.cluster
    setting = "net.ipv4.ip_forward"

    def value() -> str:
        return cluster.run("worker-1", ["sysctl", "-n", setting]).stdout.strip()

    cluster.sysctl("worker-1", {setting: "0"})
    try:
        done = node.run("sync", "-f", str(EXAMPLE), "--once", *NODE_NAME)
        assert f"sysctl -w {setting}=1" in done.stderr
        assert value() == "0"
        node.ok("sync", "--once", "--set-sysctls", *NODE_NAME)
        assert value() == "1"
        assert "ip_forward" not in node.run("sync", "--once", *NODE_NAME).stderr
        assert f"sysctl {setting} set back to 0" in node.ok("cleanup", *NODE_NAME)
        assert value() == "0"
    finally:
        cluster.sysctl("worker-1", {setting: "1"})


@pytest.mark.proves("K5")
def test_k5_cleanup_removes_what_was_made(node: Node) -> None:
    hosts = node.directory / "hosts"
    node.ok("sync", "-f", str(EXAMPLE), "--once", "--hosts-file", str(hosts), *NODE_NAME)
    lines = hosts.read_text().splitlines()
    assert lines[0].startswith("# Written by nodeport-nft")
    assert re.fullmatch(r"10\.\S+ my-ser my-ser\.default my-ser\.default\.svc \S+\.cluster\.local", lines[-1])
    done = node.ok("cleanup", *NODE_NAME)
    assert done.splitlines() == [
        "table ip nodeport-nft removed",
        "table ip6 nodeport-nft removed",
        f"hosts file {hosts} removed",
    ]
    assert not hosts.exists()
    assert node.cluster.ruleset("worker-1") == ""
    assert node.ok("get", "services", "-o", "name") == "service/my-ser\n"
    assert node.ok("cleanup") == "nothing to clean up\n"
    node.ok("sync", "--once", "--hosts-file", str(hosts), "--node-name", "another-name")
    node.ok("cleanup", "--delete-store")
    assert list(node.directory.iterdir()) == []


@pytest.mark.proves("K5")
def test_a_hosts_file_of_somebody_else_is_left_alone(node: Node) -> None:
    hosts = node.directory / "hosts"
    hosts.write_text("127.0.0.1 localhost mine\n")
    done = node.run("sync", "-f", str(EXAMPLE), "--once", "--hosts-file", str(hosts), *NODE_NAME)
    assert done.returncode == 1
    assert f"{hosts}: was not written by nodeport-nft" in done.stderr
    node.ok("cleanup", *NODE_NAME)
    assert hosts.read_text() == "127.0.0.1 localhost mine\n"


@pytest.mark.proves("F7")
def test_f7_a_service_cidr_that_the_node_uses_is_refused(node: Node) -> None:
    words = ("sync", "-f", str(EXAMPLE), "--once", *NODE_NAME, "--service-cidr", "172.30.0.0/16")
    done = node.run(*words)
    assert done.returncode == 2
    assert "service CIDR 172.30.0.0/16 holds this node's address 172.30.1.2" in done.stderr
    assert "overlaps this node's route 172.30.1.0/24" in done.stderr
    assert node.cluster.ruleset("worker-1") == ""
    assert not node.store.exists()
    config = node.directory / "config.yaml"
    config.write_text("ownRoutes: [172.30.0.0/16, 10.244.0.0/16]\n")
    node.ok(*words, "--config", str(config))


@pytest.mark.proves("F2")
def test_f2_the_primary_address_is_the_source_of_the_default_route(node: Node) -> None:
    node.ok("apply", "-f", str(EXAMPLE))
    done = node.run("sync", "--once", "--node-name", "not-in-the-manifests")
    assert "node not-in-the-manifests: nodePorts on 172.30.1.2, fd00:30:1::2" in done.stderr
    done = node.run("sync", "--once", *NODE_NAME, "--node-ip", "192.0.2.1")
    assert "node worker-1: nodePorts on 192.0.2.1\n" in done.stderr
    done = node.run("sync", "--once", *NODE_NAME, "--nodeport-addresses", "127.0.0.0/8,172.16.0.0/12")
    assert "nodePorts are not served on 127.0.0.1" in done.stderr
    assert "nodePorts on 172.30.1.2" in done.stderr


def test_without_the_privilege_one_line_says_so(node: Node) -> None:
    drop = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]
    argv = [*drop, str(SCRIPT), "sync", "-f", str(EXAMPLE), "--once", *NODE_NAME, "--store", str(node.store)]
    done = node.cluster.run("worker-1", argv, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: nftables needs CAP_NET_ADMIN; run as root, or give the program that capability"
    ]
    assert not node.store.exists()


def test_a_daemon_cannot_follow_standard_input(node: Node) -> None:
    done = node.run("sync", "-f", "-")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--once" in done.stderr


def render(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-X", "importtime", "-m", "nodeport_nft", "render", *words]
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=60)


def test_render_needs_neither_netlink_nor_libnftables() -> None:
    done = render("-f", str(EXAMPLE), *NODE_NAME)
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "yaml" in imported
    assert not imported & {"nftables", "pyroute2"}


def test_render_json_names_the_same_elements() -> None:
    tables = json.loads(render("-f", str(EXAMPLE), "-o", "json", *NODE_NAME).stdout)["tables"]
    assert [table["family"] for table in tables] == ["ip", "ip6"]
    held = {m["name"]: m["elements"] for m in tables[0]["maps"]}
    assert [e["value"] for e in held["node-port-endpoints"]] == [
        ["10.244.1.2", 80],
        ["10.244.1.3", 80],
        ["10.244.2.2", 80],
    ]


def test_equal_manifests_give_equal_bytes_whatever_their_order(tmp_path: Path) -> None:
    documents = EXAMPLE.read_text().split("\n---\n")
    turned = tmp_path / "turned.yaml"
    turned.write_text("\n---\n".join(reversed(documents)))
    assert render("-f", str(EXAMPLE), *NODE_NAME).stdout == render("-f", str(turned), *NODE_NAME).stdout


def test_render_keeps_what_a_store_gave(tmp_path: Path) -> None:
    store = str(tmp_path / "store.db")
    create = [str(SCRIPT), "create", "service", "nodeport", "my-ser", "--tcp", "8000:80", "--node-port", "30007"]
    subprocess.run([*create, "--store", store], check=True, capture_output=True, timeout=60)
    assert "tcp . 30007 comment" in render("-f", str(EXAMPLE), *NODE_NAME, "--store", store).stdout
    assert "tcp . 30007 comment" not in render("-f", str(EXAMPLE), *NODE_NAME).stdout


def test_render_of_nothing_is_told() -> None:
    assert render().returncode == 2


def test_a_node_name_must_be_one() -> None:
    done = render("-f", str(EXAMPLE), "--node-name", "../etc")
    assert done.returncode == 2
    assert '"../etc" is not an RFC 1123 subdomain' in done.stderr


def test_manifests_without_an_object_are_refused(node: Node) -> None:
    node.ok("sync", "-f", str(EXAMPLE), "--once", *NODE_NAME)
    before = node.ruleset()
    done = node.run("sync", "-f", "-", "--once", *NODE_NAME)
    assert done.returncode == 2
    assert "--allow-empty" in done.stderr
    assert node.ruleset() == before
    assert "service/my-ser" in node.ok("get", "services", "-o", "name")
    done = node.run("sync", "-f", "-", "--once", "--allow-empty", *NODE_NAME)
    assert done.returncode == 0
    assert "service/my-ser deleted: it is not in the manifests" in done.stderr
    assert "my-ser" not in node.ruleset()


def test_a_mistyped_store_does_not_empty_the_node(node: Node) -> None:
    node.ok("sync", "-f", str(EXAMPLE), "--once", *NODE_NAME)
    before = node.ruleset()
    node.store = node.directory / "typo.db"
    for words in (("sync", "--once"), ("sync", "--dry-run"), ("diff",)):
        done = node.run(*words, *NODE_NAME)
        assert done.returncode != 0
        assert f"there is no store {node.store}" in done.stderr
    assert node.ruleset() == before
    assert not node.store.exists()


@pytest.mark.proves("K5")
def test_only_a_store_is_deleted(node: Node) -> None:
    precious = node.directory / "precious"
    precious.write_text("do not delete")
    node.store = precious
    done = node.run("cleanup", "--delete-store", *NODE_NAME)
    assert done.returncode == 1
    assert "is not a nodeport-nft store" in done.stderr
    assert precious.read_text() == "do not delete"


def test_a_hosts_file_replaces_nothing_but_a_hosts_file_of_ours(node: Node) -> None:
    real, link, empty = (node.directory / name for name in ("real", "link", "empty"))
    real.write_text("# Written by nodeport-nft; changes are overwritten.\n")
    link.symlink_to(real)
    empty.write_text("")
    for path, words in (
        (link, "was not written by nodeport-nft"),
        (empty, "was not written by nodeport-nft"),
        (node.directory, "was not written by nodeport-nft"),
        (node.directory / "no" / "hosts", "there is no directory"),
    ):
        done = node.run("sync", "-f", str(EXAMPLE), "--once", "--hosts-file", str(path), *NODE_NAME)
        assert done.returncode == 1
        assert words in done.stderr
    assert node.cluster.ruleset("worker-1") == "", "refused before anything is programmed"
    assert link.is_symlink()


def test_cleanup_goes_on_past_what_it_cannot_undo(node: Node) -> None:
    setting = "net.ipv4.ip_forward"
    directory = node.directory / "d"
    directory.mkdir()
    hosts = directory / "hosts"
    node.cluster.sysctl("worker-1", {setting: "0"})
    try:
        node.ok("sync", "-f", str(EXAMPLE), "--once", "--set-sysctls", "--hosts-file", str(hosts), *NODE_NAME)
        subprocess.run(["mount", "--bind", directory, directory], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", directory], check=True)
        done = node.run("cleanup", *NODE_NAME)
        assert done.returncode == 1
        assert f"sysctl {setting} set back to 0" in done.stdout
        assert "table ip nodeport-nft removed" in done.stdout
        assert f"hosts file {hosts} cannot be removed: Read-only file system" in done.stderr
        subprocess.run(["umount", directory], check=True)
        assert node.ok("cleanup", *NODE_NAME) == f"hosts file {hosts} removed\n"
    finally:
        subprocess.run(["umount", "--quiet", directory], check=False)
        node.cluster.sysctl("worker-1", {setting: "1"})


@pytest.mark.proves("P6")
@pytest.mark.parametrize("bit", ["0", "15", "31"])
def test_any_masquerade_bit_reads_back(node: Node, bit: str) -> None:
    words = ("sync", "-f", str(EXAMPLE), "--once", "--masquerade-bit", bit, *NODE_NAME)
    node.ok(*words)
    assert "nothing changed" in node.ok(*words)


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::ffff:1.2.3.4", "fe80::1%eth0", "x"]
)
def test_a_node_ip_must_be_one(address: str) -> None:
    done = render("-f", str(EXAMPLE), *NODE_NAME, "--node-ip", address)
    assert done.returncode == 2
    assert "--node-ip: " in done.stderr


def test_syncs_at_once_wait_for_each_other(node: Node) -> None:
    node.ok("sync", "-f", str(EXAMPLE), "--once", *NODE_NAME)
    other = node.directory / "other.yaml"
    other.write_text(EXAMPLE.read_text().replace("my-ser", "other"))
    argv = [str(SCRIPT), "sync", "--once", *NODE_NAME, "--store", str(node.store), "-f"]
    running = [node.cluster.popen("worker-1", [*argv, str(path)]) for path in (EXAMPLE, other) * 4]
    assert [process.wait(60) for process in running] == [0] * len(running)
    assert node.run("diff", *NODE_NAME).returncode == 0


@pytest.mark.proves("X4")
def test_what_differs_in_a_damaged_table_is_named(node: Node) -> None:
    node.ok("sync", "-f", str(EXAMPLE), "--once", *NODE_NAME)
    node.cluster.nft("worker-1", "add rule ip nodeport-nft services counter")
    done = node.run("diff", *NODE_NAME)
    assert done.returncode == 1
    assert "table ip nodeport-nft is not as it should be (chain services); it is replaced as a whole" in done.stderr


def test_diff_without_a_store_is_an_error_and_no_difference(node: Node) -> None:
    done = node.run("diff", *NODE_NAME)
    assert done.returncode == 2
    assert f"there is no store {node.store}" in done.stderr


@pytest.mark.proves("P7")
def test_a_change_of_a_service_with_affinity_is_told_as_what_it_is(node: Node, tmp_path: Path) -> None:
    manifests = tmp_path / "web.yaml"
    manifests.write_text(EXAMPLE.read_text().replace("type: NodePort", "type: NodePort\n  sessionAffinity: ClientIP"))
    words = ("sync", "-f", str(manifests), "--once", *NODE_NAME)
    assert "tables created" in node.ok(*words)
    manifests.write_text(manifests.read_text() + ENDPOINT)
    told = node.ok(*words)
    assert "replaced" not in told
    # The endpoint's two rules, and for each of four endpoints one that knows and one that draws.
    assert told == "node worker-1: 1 service, 0 elements added, 0 deleted, 10 rules of the services' own written\n"
    assert "nothing changed" in node.ok(*words)


@pytest.mark.proves("X4")
def test_trace_of_the_store_is_about_this_machine_whatever_it_is_called(node: Node) -> None:
    manifests = EXAMPLE.read_text().split("\n---\n")
    node.ok("apply", "-f", "-", stdin="\n---\n".join(text for text in manifests if "kind: Node\n" not in text))
    port = re.search(r"8000:(\d+)/TCP", node.ok("get", "services"))
    assert port
    told = node.ok("trace", "172.30.0.10", "172.30.1.2", "--port", port[1], "--node-name", "called-otherwise")
    assert "outcome     forwarded" in told
