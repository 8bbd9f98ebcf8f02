"""The DaemonSet's container without a container engine: its files, its rights, its arguments.

What kubelet and a runtime would do to the process is read from the manifests and done with mounts, chroot(8) and
setpriv(1), so that they cannot ask for less than the program needs. Seccomp profiles are not imitated; the network
namespace is a node's of the lab, and that of processes its own.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from lab.cluster import Cluster
from tests.cli.program import SCRIPT
from tests.kubernetes.manifests import Manifest, container, the
from tests.kubernetes.running import ApiServer

ACCOUNT = "/run/secrets/kubernetes.io/serviceaccount"  # /var/run leads there

ENTER = """
root=$1 work=$2; shift 2
mount --make-rprivate / && mount -t proc proc /proc || exit
mkdir -p "$work/root" && mount --rbind "$root" "$work/root" || exit
if [ "$root" = / ]; then  # the machine's own files, with an /etc and a /run that may get mount points
    for own in etc run; do
        mount -t tmpfs -o mode=755 "$own" "$work/mnt" && { [ $own = run ] || cp -a /etc/. "$work/mnt"; } &&
        mount --move "$work/mnt" "$work/root/$own" || exit
    done
else
    mount --bind /proc "$work/root/proc" && mount --rbind /dev "$work/root/dev" || exit
fi
root=$work/root
while [ "$1" != -- ]; do  # volumes: what, where, ro or rw
    mkdir -p "$root$2" && mount --bind "$1" "$root$2" || exit
    [ "$3" = rw ] || mount -o remount,bind,ro "$root$2" || exit
    shift 3
done
shift
mount --bind "$root/proc/sys" "$root/proc/sys" && mount -o remount,bind,ro "$root/proc/sys" || exit
mount -o remount,bind,ro "$root" || exit
[ "$(stat -c %d "$root/etc")" = "$(stat -c %d "$root")" ] || {
    mount -o remount,bind,ro "$root/etc" && mount -o remount,bind,ro "$root/run"; } || exit
exec chroot "$root" "$@"
"""


@dataclass(frozen=True, slots=True)
class Container:
    """The one of a DaemonSet, as ``manifests`` have it, in ``work``, a directory of ours.

    ``root``: the image's files, ``entrypoint`` and ``environment`` what else it brings; without them it is this
    machine's files, with the installed program of the tests.
    """

    manifests: list[Manifest]
    work: Path
    root: Path = Path("/")
    entrypoint: Sequence[str] = (str(SCRIPT),)
    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": os.environ["PATH"]})

    def start(self, cluster: Cluster, node: str, server: ApiServer, log: Path) -> subprocess.Popen[str]:
        """Start it on a node, for an API server whose address stands in no manifest; it logs to a file."""
        spec = container(self.manifests)
        security = spec["securityContext"]
        assert security["capabilities"]["drop"] == ["ALL"]
        assert security["readOnlyRootFilesystem"] is True
        assert (security["runAsUser"], security["allowPrivilegeEscalation"]) == (0, False)
        assert "privileged" not in security
        kept = ",".join(["-all", *(f"+{name.lower()}" for name in security["capabilities"]["add"])])
        rights = ["setpriv", "--inh-caps=-all", f"--bounding-set={kept}", "--no-new-privs"]
        assert "command" not in spec, "the image's entry point starts it"
        words = [each.replace("$(NODE_NAME)", node) for each in spec["args"]]
        (self.work / "mnt").mkdir(parents=True, exist_ok=True)
        argv = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            ENTER,
            "sh",
            str(self.root),
            str(self.work),
        ]
        argv += [*self._volumes(server), "--", *rights, *self.entrypoint, *words]
        # Nothing of the tests' environment, as in a container; python's coverage could not be written either.
        env = {**self.environment, "NODE_NAME": node}
        with log.open("a") as sink:
            return cluster.popen(node, argv, env=env, stdout=subprocess.DEVNULL, stderr=sink.fileno(), cwd="/")

    @staticmethod
    def program(process: subprocess.Popen[str]) -> int:
        """The process id of the program, which sees itself as number 1 and nobody else's processes."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 1, "it has not begun, or has ended"
        return int(children[0])

    def _volumes(self, server: ApiServer) -> list[str]:
        """What is mounted where, as words for ``ENTER``."""
        found: list[str] = []
        pod = the(self.manifests, "DaemonSet")["spec"]["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for mount in container(self.manifests)["volumeMounts"]:
            volume, path = volumes[mount["name"]], self.work / mount["name"]
            if "projected" in volume:
                data: dict[str, str] = {}
                for source in volume["projected"]["sources"]:
                    [config] = [
                        each for each in self.manifests
                        if each["kind"] == "ConfigMap" and each["metadata"]["name"] == source["configMap"]["name"]
                    ]  # fmt: skip
                    data |= config["data"]
                write_volume(path, {name: with_server(name, text, server.url) for name, text in data.items()})
            else:
                assert volume["hostPath"]["type"] == "DirectoryOrCreate"
                path.mkdir(mode=0o755, exist_ok=True)
            found += [str(path), mount["mountPath"], "ro" if mount.get("readOnly") else "rw"]
        account = self.work / "account"
        write_volume(
            account, {"token": "node-token", "ca.crt": server.ca_file.read_text(), "namespace": "kube-system"}
        )
        return [*found, str(account), ACCOUNT, "ro"]


def write_volume(path: Path, data: Mapping[str, str]) -> None:
    """A projected volume as kubelet (its AtomicWriter) writes or exchanges it, on a tmpfs that anybody enters."""
    path.mkdir(exist_ok=True)
    path.chmod(0o1777)
    files = path / f"..2026_01_01_00_00_{len(list(path.iterdir())):02}"
    files.mkdir(mode=0o755)
    for name, text in data.items():
        (files / name).write_text(text)
        (files / name).chmod(0o444)
        if not (path / name).is_symlink():
            (path / name).symlink_to(f"..data/{name}")
    (path / "..data_tmp").symlink_to(files.name)
    (path / "..data_tmp").rename(path / "..data")


def with_server(name: str, text: str, url: str) -> str:
    """A file of a ConfigMap; a kubeconfig with the address that is a cluster's own."""
    if not name.startswith("kubeconfig"):
        return text
    document = yaml.safe_load(text)
    [cluster] = document["clusters"]
    cluster["cluster"]["server"] = url
    return yaml.safe_dump(document)
