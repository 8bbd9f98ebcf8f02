"""``make demo``: it proves what it shows, says what is missing, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEMO = (sys.executable, "-m", "lab.demo")
NO_PRIVILEGE = ("setpriv", "--bounding-set=-all")  # root with as little power as anybody else


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The demo's environment: its temporary files in a folder of their own; no trace of a make around the tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    folder = tmp_path / "temporary"
    folder.mkdir()
    return {**inherited, "TMPDIR": str(folder)}


def run(command: tuple[str, ...], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def processes_in(folder: str) -> Iterator[int]:
    """The processes that name the folder in their arguments or their environment, as all of the demo's do."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            known = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:  # it has just ended
            continue
        if folder.encode() in known:
            yield int(process.name)


def assert_nothing_left(environment: dict[str, str]) -> None:
    folder = environment["TMPDIR"]
    deadline = time.monotonic() + 60  # the kernel takes a moment to end what was killed
    while (left := list(processes_in(folder))) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == []
    assert list(Path(folder).iterdir()) == []


@pytest.mark.usefixtures("private_namespaces")
def test_the_walk(environment: dict[str, str]) -> None:
    done = run(DEMO, environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"\| NodePort: +<unset>  3[0-2]\d{3}/TCP\n", done.stdout)
    assert done.stdout.count("| <h1>Welcome to nginx!</h1>") == 3
    answered = re.findall(r"^ +Welcome to nginx!  ([a-z0-9.-]+)(?::\d+)?", done.stdout, re.MULTILINE)
    assert answered == ["my-ser", "172.30.1.2", "172.30.2.2"]
    assert_nothing_left(environment)


@pytest.mark.usefixtures("private_namespaces")
@pytest.mark.parametrize(
    ("number", "line"),
    [(signal.SIGINT, "A small cluster is up"), (signal.SIGTERM, "6. "), (signal.SIGHUP, "4. ")],
)
def test_it_can_be_stopped(environment: dict[str, str], number: signal.Signals, line: str) -> None:
    with subprocess.Popen(
        DEMO, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        assert any(printed.startswith(line) for printed in demo.stdout), "the demo ended before"
        assert len(list(processes_in(environment["TMPDIR"]))) > 3  # itself and three nginx, at least
        demo.send_signal(number)
        _, said = demo.communicate(timeout=120)
    assert demo.returncode == 128 + number
    assert said == f"demo: stopped by {number.name}; nothing is left behind\n"
    assert_nothing_left(environment)


@pytest.mark.usefixtures("private_namespaces")
def test_a_wrong_answer_fails(environment: dict[str, str], tmp_path: Path) -> None:
    curl = tmp_path / "bin" / "curl"
    curl.parent.mkdir()
    curl.write_text("#!/bin/sh\necho '<h1>It works!</h1>'\n")
    curl.chmod(0o755)
    done = run(DEMO, {**environment, "PATH": f"{curl.parent}:{environment['PATH']}"})
    assert done.returncode == 1
    assert re.fullmatch(
        r"demo: client \$ curl 172\.30\.1\.2:\d+: no 'Welcome to nginx!' in: <h1>It works!</h1>\n", done.stderr
    )
    assert_nothing_left(environment)


@pytest.mark.usefixtures("private_namespaces")  # who is not root cannot give up what root has
@pytest.mark.parametrize(
    ("command", "makes_own_words"), [(DEMO, 0), (("make", "demo"), 1)], ids=["python -m lab.demo", "make demo"]
)
def test_without_the_privilege_it_says_so(
    environment: dict[str, str], command: tuple[str, ...], makes_own_words: int
) -> None:
    done = run((*NO_PRIVILEGE, *command), environment)
    assert done.returncode != 0
    assert done.stdout == ""
    line, *rest = done.stderr.splitlines()
    assert line.endswith("demo: network namespaces are refused: CAP_SYS_ADMIN is missing; run as root")
    assert len(rest) == makes_own_words  # "make: *** [Makefile:12: demo] Error 1"


@pytest.mark.usefixtures("private_namespaces")
def test_missing_programs_are_named(environment: dict[str, str], tmp_path: Path) -> None:
    ip = shutil.which("ip")
    assert ip is not None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ip").symlink_to(ip)
    done = run(DEMO, {**environment, "PATH": str(tmp_path / "bin")})
    assert (done.returncode, done.stdout) == (1, "")
    missing = "curl, dnsmasq, mount, nft, nginx, setpriv, unshare, wget"
    assert done.stderr == f"demo: missing: {missing}; `make demo` as root installs what it needs\n"
