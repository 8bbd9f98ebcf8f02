"""deploy/Containerfile: what comes out of it does the DaemonSet's work. Building takes two minutes: SOAK=1."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from lab.cluster import Cluster
from nodeport_nft import __version__
from tests.kubernetes.container import Container
from tests.kubernetes.image import CONTAINERFILE, Image, build, enter, instructions
from tests.kubernetes.manifests import BASE, built
from tests.kubernetes.running import ROOT
from tests.kubernetes.test_daemonset import api_server, publish, serves


def test_what_is_copied_into_the_image_is_in_the_clone() -> None:
    copied = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and not rest.startswith("--from")]
    assert copied
    assert [name for names in copied for name in names if not (ROOT / name).exists()] == []


def test_the_command_that_builds_the_image_gives_it_the_name_that_the_manifests_have() -> None:
    assert f"--tag nodeport-nft:{__version__} --file deploy/Containerfile" in CONTAINERFILE.read_text()


@pytest.fixture
def image() -> Iterator[Image]:
    if not os.environ.get("SOAK"):
        pytest.skip("SOAK=1 builds the image")
    if not shutil.which("mmdebstrap"):
        pytest.skip("mmdebstrap is not installed, which makes a Debian in a directory")
    with TemporaryDirectory(dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)  # apt downloads as a user of its own
        yield build(Path(directory))


def test_the_image_serves_a_node_as_the_daemonset_starts_it(cluster: Cluster, image: Image, tmp_path: Path) -> None:
    assert image.user == "0"
    enter(image, ["nft", "--version"])
    container = Container(built(BASE), tmp_path / "container", image.root, image.entrypoint, image.environment)
    with api_server(cluster, tmp_path / "server") as server:
        publish(server, cluster, "web", type="NodePort", externalIPs=["192.0.2.1"])
        serves(container, cluster, server, tmp_path / "log")
