"""The pictures of the documentation that show a running node: ``python -m lab.screenshots [DIRECTORY]``, as root.

A node of the lab serves a few Services, a client connects to them, and what ``top`` and the page show of that is
written to ``top.svg`` and ``page.png``: docs/images, unless another directory is named. Chromium takes the second.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from rich.console import Console

from lab.browser import Browser
from lab.cluster import Cluster
from lab.namespaces import LabError, enter_private_namespaces
from lab.probe import connect_many
from nodeport_nft.cli.top_screen import Screen
from nodeport_nft.observe.rates import Rates, Sampler

IMAGES = Path(__file__).parent.parent / "docs" / "images"
PROGRAM = Path(sys.executable).with_name("nodeport-nft")
NODE = "worker-1"
PODS = {f"pod-{number}": f"worker-{number % 2 + 1}" for number in range(5)}
PORT = 8080

# Name, namespace, nodePort, the pods behind it, and what it gets at most within a tenth of a second.
SERVICES = (
    ("web", "shop", 30080, ("pod-0", "pod-1", "pod-2"), 40),
    ("search", "shop", 30081, ("pod-3", "pod-4"), 16),
    ("cart", "shop", 30082, ("pod-1",), 7),
    ("metrics", "monitoring", 30083, ("pod-2", "pod-3"), 3),
    ("old-shop", "shop", 30084, (), 2),
    ("mail", "office", 30085, ("pod-4",), 0),
)
_COURSE_SECONDS = 0.5
_READINGS = 24  # as many as a course has bars
_START_SECONDS = 60.0


def manifests(cluster: Cluster) -> str:
    """The Services, and where their endpoints are."""
    documents = []
    for name, namespace, node_port, pods, _ in SERVICES:
        head = f"metadata: {{name: {name}, namespace: {namespace}"
        ports = f"[{{port: 80, targetPort: {PORT}, nodePort: {node_port}}}]"
        documents.append(f"apiVersion: v1\nkind: Service\n{head}}}\nspec: {{type: NodePort, ports: {ports}}}\n")
        endpoints = [
            f"  - {{addresses: [{cluster.address(pod)}], nodeName: {cluster.host(pod).node}}}\n" for pod in pods
        ]
        documents.append(
            f"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n{head}, "
            f"labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: IPv4\n"
            f"ports: [{{port: {PORT}, protocol: TCP}}]\nendpoints:{'' if pods else ' []'}\n{''.join(endpoints)}"
        )
    return "---\n".join(documents)


@contextmanager
def daemon(cluster: Cluster, directory: Path) -> Iterator[None]:
    """A daemon on the node, with its page; on entry it serves."""
    file = directory / "shop.yaml"
    file.write_text(manifests(cluster), encoding="utf-8")
    words = [str(PROGRAM), "sync", "-f", str(file), "--node-name", NODE, "--store", str(directory / "store.db")]
    words += ["--state-dir", str(directory), "--cluster-cidr", "10.244.0.0/16", "--status-page"]
    with (directory / "log").open("wb") as log:
        running = cluster.popen(NODE, words, stdout=log.fileno(), stderr=log.fileno(), cwd=directory)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while cluster.run(NODE, [str(PROGRAM), "status"], check=False).returncode == 2:
            if running.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"the daemon does not serve: {(directory / 'log').read_text(encoding='utf-8')}")
            time.sleep(0.2)
        yield
    finally:
        cluster.stop(running)


@contextmanager
def visitors(cluster: Cluster) -> Iterator[None]:
    """A client that connects all the time, now more and now less."""
    done = Event()

    def visit() -> None:
        address, step = str(cluster.address(NODE)), 0
        while not done.wait(0.1):
            step += 1
            for number, (*_, node_port, _pods, most) in enumerate(SERVICES):
                count = round(most * (0.6 + 0.4 * math.sin(step / 9 + number)))
                connect_many(cluster, "client", (address, node_port), "TCP", count, timeout=2.0)

    visiting = Thread(target=visit)
    visiting.start()
    try:
        yield
    finally:
        done.set()
        visiting.join(60)


def picture_of_top(cluster: Cluster, path: Path) -> None:
    """The screen of ``top`` after some readings, as SVG with no font but the reader's own."""
    with cluster.host(NODE).namespace.entered():
        sampler = Sampler()
        sampler.sample()
        screen: Screen | None = None
        for _ in range(_READINGS):
            time.sleep(_COURSE_SECONDS)
            rates = sampler.sample()
            assert isinstance(rates, Rates)
            if screen is None:
                screen = Screen("services", sampler, rates, _COURSE_SECONDS, lambda: _daemon_line(cluster))
            else:
                screen.take(rates)
    assert screen is not None
    with Path("/dev/null").open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=88, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(screen.drawn(16))
        svg = console.export_svg(title="nodeport-nft top", unique_id="top")
    # What would be fetched from elsewhere goes, and who has made it is no news.
    svg = re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    path.write_text(svg.replace("Fira Code", "ui-monospace"), encoding="utf-8")


def _daemon_line(cluster: Cluster) -> str:
    script = (
        "import time; from nodeport_nft.cli.status import ask, in_short; from ipaddress import ip_address; "
        "print(in_short(ask(ip_address('127.0.0.1'), 10249, 5.0), time.time()))"
    )
    return cluster.run(NODE, [sys.executable, "-c", script]).stdout.strip()


def picture_of_page(cluster: Cluster, directory: Path, path: Path) -> None:
    """The page of a Service; a rate needs a second look."""
    with cluster.host(NODE).namespace.entered():
        browser = Browser(directory / "browser")
    with browser:
        browser.resize(1240, 640)
        for _ in range(2):
            browser.open("http://127.0.0.1:10249/services/shop/web?refresh=0")
            time.sleep(2.0)
        browser.open("http://127.0.0.1:10249/services/shop/web")
        browser.picture(path)
    _squeeze(path)


def _squeeze(path: Path) -> None:
    """Fewer colours, where there is a library for that: a quarter of the size."""
    try:
        from PIL import Image
    except ImportError:
        return
    with Image.open(path) as image:
        image.convert("RGB").quantize(48).save(path, optimize=True)


def main() -> None:
    """Write both pictures."""
    images = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    enter_private_namespaces()
    directory = Path(tempfile.mkdtemp(prefix="nodeport-nft-"))
    try:
        with Cluster(pods=PODS) as cluster:
            for pod in PODS:
                cluster.start_responder(pod, [PORT])
            with daemon(cluster, directory), visitors(cluster):
                picture_of_top(cluster, images / "top.svg")
                picture_of_page(cluster, directory, images / "page.png")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    except (LabError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"error: {error}")
