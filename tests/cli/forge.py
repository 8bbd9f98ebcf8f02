"""Runs of the program without the wait for its start: a process that has imported it forks one for each.

A start is 0.3 s of imports, and more where coverage watches them; of a thousand runs that is most of the time. What
is forked has imported the program and done nothing else, and goes the installed script's way from there: through
``entry.main``, with its own arguments, directory, streams and exit code.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path

import nodeport_nft

_MOST = 1 << 17  # bytes of a request


class Forge:
    """A process that forks runs, in the namespaces of the process that made it."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.forge", str(theirs.fileno())],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def close(self) -> None:
        """Let it end."""
        self._ours.close()
        self._process.wait(timeout=60)

    def run(self, words: Sequence[str], *, cwd: Path, stdin: bytes, timeout: float) -> tuple[int, bytes, bytes]:
        """Exit code, stdout and stderr of one run. Raises TimeoutExpired after so many seconds."""
        pipes = [os.pipe() for _ in range(4)]
        (their_in, to), (out, their_out), (err, their_err), (reply, their_reply) = pipes
        theirs = [their_in, their_out, their_err, their_reply]
        socket.send_fds(self._ours, [json.dumps([list(words), str(cwd), dict(os.environ)]).encode()], theirs)
        for descriptor in theirs:
            os.close(descriptor)
        printed = {out: b"", err: b"", reply: b""}

        def read(descriptor: int) -> None:
            with os.fdopen(descriptor, "rb") as stream:
                printed[descriptor] = stream.read()

        def write() -> None:
            # Who does not read to the end breaks the pipe; closing it writes what is left, and may say so again.
            with contextlib.suppress(BrokenPipeError), os.fdopen(to, "wb") as stream:
                stream.write(stdin)

        threads = [threading.Thread(target=read, args=[each], daemon=True) for each in (out, err)]
        threads.append(threading.Thread(target=write, daemon=True))
        for thread in threads:
            thread.start()
        ended = threading.Thread(target=read, args=[reply], daemon=True)
        ended.start()
        ended.join(timeout)
        if ended.is_alive():
            raise subprocess.TimeoutExpired(list(words), timeout)
        for thread in threads:
            thread.join(timeout)
        return int(printed[reply]), printed[out], printed[err]


def _serve(requests: socket.socket) -> None:
    """Fork a run for each request, and tell its exit code when it has ended, until nobody can ask any more."""
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.data is not None:
                pid, reply = key.data
                selector.unregister(key.fd)
                os.close(key.fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                os.write(reply, str(code).encode())
                os.close(reply)
                continue
            data, descriptors, _, _ = socket.recv_fds(requests, _MOST, 4)
            if not data:
                return
            *streams, reply = descriptors
            pid = os.fork()
            if pid == 0:
                _run(json.loads(data), streams, [requests.fileno(), reply])
            for descriptor in streams:
                os.close(descriptor)
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, reply))


def _run(request: tuple[list[str], str, dict[str, str]], streams: list[int], others: list[int]) -> None:
    words, cwd, environment = request
    code: object = 1
    try:
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
            os.close(descriptor)
        for descriptor in others:
            os.close(descriptor)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [str(Path(sys.executable).parent / "nodeport-nft"), *words]
        from nodeport_nft.entry import main

        main()
        code = 0
    except SystemExit as left:
        code = left.code if left.code is not None else 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        assert isinstance(code, int)
        os._exit(code)


def _main() -> None:
    for name in ("typer._adapters", "nftables", "pyroute2"):  # what the program and Typer import when it is needed
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for module in pkgutil.walk_packages(nodeport_nft.__path__, "nodeport_nft."):
        if module.name != "nodeport_nft.__main__":
            importlib.import_module(module.name)
    _serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    _main()
