"""A real nginx in a pod, with the welcome page of its package."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from lab.cluster import Cluster
from lab.namespaces import LabError
from lab.probe import connect

CONFIGURATION = Path(__file__).with_name("nginx.conf")


def start_nginx(
    cluster: Cluster, host: str, directory: Path, port: int = 80, *, timeout: float = 60.0
) -> subprocess.Popen[str]:
    """Run nginx on ``host`` with its files in ``directory`` (one for each host); it listens on return.

    Its answers carry the header ``Served-By: HOST``. Raises LabError with nginx's words if it ends, or does
    not listen within ``timeout`` seconds.
    """
    directory.mkdir(parents=True, exist_ok=True)
    configuration = directory / "nginx.conf"
    text = CONFIGURATION.read_text(encoding="utf-8")
    for name, value in {"DIRECTORY": directory.absolute(), "PORT": port, "HOST": host}.items():
        text = text.replace(f"@{name}@", str(value))
    configuration.write_text(text, encoding="utf-8")
    log = directory / "error.log"
    argv = ["nginx", "-e", str(log.absolute()), "-c", str(configuration.absolute())]
    process = cluster.popen(host, argv, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + timeout
    address = cluster.address(host)
    while process.poll() is None and time.monotonic() < deadline:
        outcome = connect(cluster, host, (address, port), timeout=0.01)
        if outcome.detail == "connected":  # and silent, as a web server is until it is asked
            return process
        time.sleep(0.005)
    words = log.read_text().strip() if log.exists() else "it could not be started; install the package nginx"
    raise LabError(f"{host}: nginx does not listen on port {port}: {words}")
