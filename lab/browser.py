"""Chromium without a screen, driven over a pipe: what a page looks like, and what it does behind its back.

It speaks the DevTools protocol over the descriptors 3 and 4 (``--remote-debugging-pipe``), so that no port is opened
and no driver has to be installed. It runs in the network namespace of whoever starts it, and notes each request that
it makes and each complaint: of the console, of scripts, of a Content-Security-Policy that is broken.

Source: https://chromedevtools.github.io/devtools-protocol/ (Target, Page, Runtime, Network, Log, Emulation).
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from lab.namespaces import LabError

PROGRAM = "chromium"

_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_SECONDS = 60.0


class Browser:
    """One tab. ``requests`` are the addresses it has asked for, ``complaints`` what it has found wrong.

    ``directory`` is where it keeps its profile. Raises LabError where it cannot be started, or does not answer.
    """

    def __init__(self, directory: Path) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._loads = 0
        self._numbers = itertools.count(1)
        self._session = ""
        self._read = b""
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        words = [PROGRAM, *_FLAGS, f"--user-data-dir={directory}", "about:blank"]
        try:
            self._process = subprocess.Popen(
                # dash knows no descriptor above 9
                ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', PROGRAM, *words],
                pass_fds=(theirs_in, theirs_out),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "HOME": str(directory)},
                start_new_session=True,
            )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        try:
            self._begin()
        except LabError:
            self.close()
            raise

    def _begin(self) -> None:
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for room in ("Page", "Runtime", "Network", "Log"):
            self._ask(f"{room}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it, and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(_SECONDS)
        os.close(self._in)
        os.close(self._out)

    def resize(self, width: int, height: int, *, dark: bool = False, scale: float = 1.0) -> None:
        """Let the window have this size, and its user this taste."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        self._ask("Emulation.setDeviceMetricsOverride", **size)
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[feature])

    def open(self, address: str) -> None:
        """Go there; on return all of the page is loaded."""
        loads = self._loads
        answer = self._ask("Page.navigate", url=address)
        if answer.get("errorText"):
            raise LabError(f"{address}: {answer['errorText']}")
        self._until_loaded(loads)

    def do(self, script: str) -> None:
        """Do something that leads to another page, as a click does; on return that one is loaded."""
        loads = self._loads
        self.value(script)
        self._until_loaded(loads)

    def value(self, script: str) -> Any:
        """What an expression of JavaScript gives; it is the debugger's, and no script of the page."""
        answer = self._ask("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in answer:
            raise LabError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def text(self) -> str:
        """What a reader sees."""
        return str(self.value("document.body.innerText"))

    def picture(self, path: Path) -> None:
        """Write what is seen to a PNG."""
        path.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot", format="png")["data"]))

    def _until_loaded(self, loads: int) -> None:
        deadline = time.monotonic() + _SECONDS
        while self._loads == loads:
            self._take(deadline)

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        question = {"id": number, "method": method, "params": parameters}
        if self._session:
            question["sessionId"] = self._session
        with contextlib.suppress(BrokenPipeError):  # it has ended: so does what it says
            os.write(self._out, json.dumps(question).encode() + b"\0")
        deadline = time.monotonic() + _SECONDS
        while True:
            message = self._take(deadline)
            if message.get("id") == number:
                if "error" in message:
                    raise LabError(f"{PROGRAM}: {method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result

    def _take(self, deadline: float) -> dict[str, Any]:
        """The next message; what happens in the page is noted."""
        while b"\0" not in self._read:
            if not select.select([self._in], [], [], max(deadline - time.monotonic(), 0.0))[0]:
                raise LabError(f"{PROGRAM} does not answer within {_SECONDS:g} s")
            piece = os.read(self._in, 1 << 16)
            if not piece:
                raise LabError(f"{PROGRAM} has ended; is it installed?")
            self._read += piece
        data, _, self._read = self._read.partition(b"\0")
        message: dict[str, Any] = json.loads(data)
        what = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._loads += 1
            case "Network.requestWillBeSent":
                self.requests.append(what["request"]["url"])
            case "Log.entryAdded" if what["entry"]["level"] in ("warning", "error"):
                self.complaints.append(f"{what['entry']['text']} {what['entry'].get('url', '')}".strip())
            case "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(what["args"]))
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(what["exceptionDetails"]))
        return message
