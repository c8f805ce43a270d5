"""A page in headless Chromium, driven by the DevTools protocol over a plain socket.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.sync.client import connect

from scripts.leash import leashed
from tests.scenario.actor import ROOT, Actor

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Without a sandbox: a build machine is root, and the one page is our own. And it must not look for
# anything in the world outside.
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"),
    *("--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--no-proxy-server"),
)
SECONDS = 60.0


class Pages:
    """The repository's files on a loopback port: what a page is made of."""

    def __init__(self) -> None:
        handler = functools.partial(_QuietHandler, directory=str(ROOT))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Pages:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Chromium:
    """A browser with a fresh profile, and nothing left of it afterwards."""

    def __init__(self) -> None:
        program = next(filter(None, map(shutil.which, BROWSERS)), None)
        assert program, "no Chromium here: install it (Debian: apt-get install chromium)"
        self._profile = Path(tempfile.mkdtemp(prefix="gatehouse-chromium-"))
        self._output = (self._profile / "output").open("w+")
        self._process = subprocess.Popen(
            leashed(
                [program, *_FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
                signal.SIGKILL,
            ),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
        )

    def page(self, address: str) -> Page:
        deadline = time.monotonic() + SECONDS
        found = self._profile / "DevToolsActivePort"
        while not (found.exists() and "\n" in found.read_text()):
            assert self._process.poll() is None, f"Chromium has ended: {self._said()}"
            assert time.monotonic() < deadline, f"Chromium does not start: {self._said()}"
            time.sleep(0.05)
        port, path = found.read_text().split("\n")[:2]
        return Page(f"ws://127.0.0.1:{port}{path}", address)

    def _said(self) -> str:
        self._output.seek(0)
        return self._output.read()[-2000:]

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The browser leads a group of its own: its helpers go with it.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._output.close()
        shutil.rmtree(self._profile, ignore_errors=True)


class Page(Actor):
    """A page at `address` that has a function handle(command)."""

    def __init__(self, browser_url: str, address: str) -> None:
        super().__init__()
        # Apart from the actor's numbers, which are those of the commands to the page.
        self._own = itertools.count(1_000_000)
        self._session: str | None = None
        self._open = ExitStack()
        self._socket = self._open.enter_context(
            connect(browser_url, max_size=None, compression=None, close_timeout=1)
        )
        target = self._call("Target.createTarget", url=address)["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        deadline = time.monotonic() + SECONDS
        while self._value("typeof handle") != "function":
            assert time.monotonic() < deadline, f"{address} does not load"
            time.sleep(0.05)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._own)
        self._write(number, method, parameters)
        return self.finish(number)

    def _value(self, expression: str) -> Any:
        result = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        return result["result"].get("value")

    def _write(self, number: int, method: str, parameters: dict[str, Any]) -> None:
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))

    def _send(self, number: int, command: dict[str, Any]) -> None:
        expression = f"handle({json.dumps(command)})"
        parameters = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        self._write(number, "Runtime.evaluate", parameters)

    def _receive(self, seconds: float) -> dict[int, dict[str, Any]]:
        try:
            message = json.loads(self._socket.recv(timeout=max(0.0, seconds)))
        except TimeoutError:
            raise AssertionError("the page does not answer") from None
        if "id" not in message:
            return {}  # an event
        assert "error" not in message, message
        result = message["result"]
        assert "exceptionDetails" not in result, result
        is_command = message["id"] < 1_000_000
        return {message["id"]: result["result"]["value"] if is_command else result}

    def close(self) -> None:
        self._open.close()
