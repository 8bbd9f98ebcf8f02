"""The machines of the lab, once they are up: commands on them, and what they say.

Commands go over plain ssh with one lasting connection a machine (0.1 s a command; `vagrant ssh` takes 3 s). Which
machines there are, and how to get in, Vagrant tells: any provider will do. Of the provider itself one thing is asked:
to pull a machine's cable.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vm.topology import CLIENT, Worker

ROOT = Path(__file__).parent.parent
DOMAINS = "nodeport-nft-"
"""What Vagrantfile puts before a machine's name in libvirt."""

Result = TypeVar("Result")


class MachineError(Exception):
    """A machine could not be reached, or a command on it has failed; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine. ``config`` is a file for ssh's -F."""

    name: str
    config: Path

    def run(self, command: str, *, text: str = "", timeout: float = 120.0, check: bool = True) -> str:
        """Run a shell command as root, ``text`` on its standard input; its standard output.

        Raises MachineError when it is not done after ``timeout`` seconds, and, with ``check``, when it fails.
        """
        words = ["ssh", "-F", str(self.config), self.name, f"sudo -n bash -c {shlex.quote(command)}"]
        try:
            done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise MachineError(f"{self.name}: {command}: not done within {timeout:g} s") from None
        if check and done.returncode != 0:
            raise MachineError(f"{self.name}: {command}: exit {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    def in_pod(self, pod: str, command: str, *, timeout: float = 120.0, check: bool = True) -> str:
        """The same in a pod of this machine."""
        return self.run(f"ip netns exec {pod} bash -c {shlex.quote(command)}", timeout=timeout, check=check)

    def ask(
        self, protocol: str, address: str, port: int, count: int = 1, *, seconds: float = 3.0, pod: str = ""
    ) -> list[dict[str, Any]]:
        """Knock at a responder, ``count`` times, from this machine or a pod of it; see vm/guest/ask.py."""
        command = f"python3 -IS /opt/lab/ask.py {protocol} {address} {port} {count} {seconds:g}"
        timeout = 60.0 + count * (seconds + 0.5)
        said = self.in_pod(pod, command, timeout=timeout) if pod else self.run(command, timeout=timeout)
        return [json.loads(line) for line in said.splitlines()]

    def names(self, protocol: str, address: str, port: int, count: int = 1, *, pod: str = "") -> set[str]:
        """Who answers, or the fates of those connections that nobody answers."""
        return {said.get("name") or said["fate"] for said in self.ask(protocol, address, port, count, pod=pod)}

    def reaches(self, names: set[str], address: str, port: int, *, count: int = 12) -> None:
        """Wait until connections from here are answered by exactly these, each of them among ``count`` answers."""
        eventually(
            lambda: self.names("tcp", address, port, count) == names,
            f"{self.name}: {address} port {port} answered by {', '.join(sorted(names))}",
        )

    def put(self, file: Path, destination: str) -> None:
        """Copy a file to this machine."""
        _run(["scp", "-q", "-F", str(self.config), str(file), f"{self.name}:{destination}"])

    def forget_connection(self) -> None:
        """End the lasting connection, which does not outlive a reboot."""
        words = ["ssh", "-F", str(self.config), "-O", "exit", self.name]
        subprocess.run(words, capture_output=True, timeout=30, check=False)


class Lab:
    """The machines that are up, in ``directory`` what it takes to reach them. ``workers`` grows as workers join."""

    def __init__(self, directory: Path, workers: int) -> None:
        self._directory = directory
        self.client = Machine(CLIENT, directory / "ssh-config")
        self.workers: list[Machine] = []
        self._blocks: dict[str, str] = {}
        self._coming: subprocess.Popen[bytes] | None = None
        self._include([CLIENT, *(Worker(number).name for number in range(1, workers + 1))])

    @property
    def machines(self) -> tuple[Machine, ...]:
        """All of them."""
        return (*self.workers, self.client)

    def everywhere(self, call: Callable[[Machine], Result], among: Iterable[Machine] = ()) -> dict[str, Result]:
        """``call`` on all machines, or those ``among``, at the same time; what it gives, by name."""
        machines = tuple(among) or self.machines
        with ThreadPoolExecutor(len(machines)) as pool:
            return dict(zip((m.name for m in machines), pool.map(call, machines), strict=True))

    def prepare(self, worker: Worker) -> None:
        """Begin to start another worker, beside whatever else goes on."""
        with (self._directory / f"{worker.name}.log").open("w", encoding="utf-8") as log:
            self._coming = subprocess.Popen(
                ["vagrant", "up", worker.name], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def join(self, worker: Worker) -> Machine:
        """The worker that was prepared, once it is up."""
        assert self._coming is not None, f"{worker.name} was not prepared"
        log = self._directory / f"{worker.name}.log"
        try:
            code = self._coming.wait(timeout=600.0)
        except subprocess.TimeoutExpired:
            self.abandon()
            code = None
        if code != 0:
            raise MachineError(f"vagrant up {worker.name}: exit {code}: {log.read_text(encoding='utf-8')[-4000:]}")
        self._coming = None
        self._include([worker.name])
        return self.workers[-1]

    def abandon(self) -> None:
        """Wait no longer for a worker that was prepared."""
        if self._coming is not None:
            self._coming.kill()
            self._coming.wait()
            self._coming = None

    def leave(self, machine: Machine) -> None:
        """Destroy a worker; nothing if it is none any more."""
        if machine in self.workers:
            self.workers.remove(machine)
            machine.forget_connection()
            del self._blocks[machine.name]
            self._write()
            vagrant("destroy", "--force", machine.name, timeout=120.0)

    def _include(self, names: Sequence[str]) -> None:
        with ThreadPoolExecutor(len(names)) as pool:
            self._blocks.update(zip(names, pool.map(lambda name: vagrant("ssh-config", name), names), strict=True))
        self._write()
        self.workers += [Machine(name, self.client.config) for name in names if name != CLIENT]

    def _write(self) -> None:
        shared = (
            f"Host *\n  ControlMaster auto\n  ControlPath {self._directory}/%n\n  ControlPersist 600\n"
            "  LogLevel ERROR\n  ConnectTimeout 20\n  ServerAliveInterval 5\n  ServerAliveCountMax 6\n"
        )
        text = shared + "".join(block.replace("  LogLevel FATAL\n", "") for block in self._blocks.values())
        self.client.config.write_text(text, encoding="utf-8")


@contextmanager
def unplugged(machine: Machine) -> Iterator[None]:
    """Pull the machine's cable to the others, and put it in again. The way that Vagrant takes stays open."""
    _set_cable(machine, plugged=False)
    try:
        yield
    finally:
        _set_cable(machine, plugged=True)


def _set_cable(machine: Machine, *, plugged: bool) -> None:
    if os.environ.get("VAGRANT_DEFAULT_PROVIDER", "libvirt") == "libvirt":
        domain = DOMAINS + machine.name
        links = _run(["virsh", "--connect", _URI, "--quiet", "domiflist", domain]).splitlines()
        mac = next(line.split()[4] for line in links if line.split()[2] == "nodeport-nft")
        state = "up" if plugged else "down"
        _run(["virsh", "--connect", _URI, "--quiet", "domif-setlink", domain, mac, state])
    else:
        identity = (ROOT / ".vagrant/machines" / machine.name / "virtualbox/id").read_text(encoding="utf-8")
        _run(["VBoxManage", "controlvm", identity, "setlinkstate2", "on" if plugged else "off"])


_URI = os.environ.get("LIBVIRT_DEFAULT_URI", "qemu:///system")


def vagrant(*words: str, timeout: float = 60.0) -> str:
    """Run Vagrant. Raises MachineError with its words if it fails."""
    return _run(["vagrant", *words], timeout=timeout)


def _run(words: Sequence[str], *, timeout: float = 60.0) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT)
    except subprocess.TimeoutExpired:
        raise MachineError(f"{' '.join(words)}: not done within {timeout:g} s") from None
    except FileNotFoundError:
        raise MachineError(f"{words[0]} is missing; install it") from None
    if done.returncode != 0:
        raise MachineError(f"{' '.join(words)}: exit {done.returncode}: {done.stderr}{done.stdout}")
    return done.stdout


def eventually(question: Callable[[], bool], what: str, *, seconds: float = 90.0) -> None:
    """Ask until the answer is true. Raises MachineError with ``what`` if it never is within ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        trouble = ""
        try:
            if question():
                return
        except MachineError as error:
            trouble = f": {error}"
        if time.monotonic() > deadline:
            raise MachineError(f"not within {seconds:g} s: {what}{trouble}")
        time.sleep(1)


class Traffic:
    """Connections from a machine, round after round (lab/client.py): ``connect`` new ones, ``stream`` one that lasts.

    A service of systemd's, since it goes on while other commands come and go.
    """

    def __init__(self, machine: Machine, mode: str, destinations: Sequence[tuple[str, int]]) -> None:
        self._machine = machine
        Traffic._count += 1
        self._unit = f"lab-traffic-{os.getpid()}-{Traffic._count}"
        self._output = f"/run/{self._unit}"
        words = " ".join(f"{address} {port}" for address, port in destinations)
        # Not as fast as it can: emulated machines have other things to do.
        machine.run(
            f"systemd-run --quiet --unit {self._unit} --setenv PAUSE=0.2 "
            f"-p StandardOutput=truncate:{self._output} python3 -IS /opt/lab/client.py {mode} {words}"
        )
        eventually(lambda: "begun" in machine.run(f"cat {self._output}"), f"{self._unit}: first connection")

    _count = 0

    def finish(self) -> dict[str, Any]:
        """End it; what it has done: ``done`` answers, ``failures``, ``names`` of those who answered."""
        self._machine.run(f"systemctl stop {self._unit}")
        found: dict[str, Any] = json.loads(self._machine.run(f"tail -n 1 {self._output}"))
        return found


@contextmanager
def traffic(machine: Machine, *streams: tuple[str, Sequence[tuple[str, int]]]) -> Iterator[list[dict[str, Any]]]:
    """``Traffic`` of several modes while the block runs; afterwards the list has what came of each."""
    running = [Traffic(machine, mode, destinations) for mode, destinations in streams]
    results: list[dict[str, Any]] = []
    try:
        yield results
    finally:
        results += [each.finish() for each in running]
