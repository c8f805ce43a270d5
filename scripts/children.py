"""Child processes of a launcher: started, watched without polling, stopped in good order.

The launcher decides when a child ends. Each child leads a session of its own, so Ctrl-C at the
terminal reaches the launcher alone; and should the launcher be killed, Linux tells the children
(scripts/leash.py).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from types import FrameType

from scripts.leash import leashed


class Signals:
    """Notes the wish to stop, and wakes `wait()` on any signal, the end of a child included."""

    def __init__(self) -> None:
        self.stop_requested = False
        self._awake, self._wake = socket.socketpair()
        for end in (self._awake, self._wake):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._request_stop)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)  # only to wake

    def wait(self, seconds: float | None = None) -> None:
        """Returns after the next signal or the given time, whichever is first."""
        readable, _, _ = select.select([self._awake], [], [], seconds)
        if readable:
            with contextlib.suppress(BlockingIOError):
                self._awake.recv(4096)

    def _request_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stop_requested = True


class Child:
    """One process, started by a shell command; its output goes where the launcher's goes."""

    def __init__(self, name: str, command: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            # `exec`, so that no shell stands between us and the process that we stop.
            leashed(["/bin/sh", "-c", f"exec {command.removeprefix('exec ')}"], signal.SIGTERM),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def how_it_ended(self) -> str:
        code = self._process.poll()
        if code is None:
            return "is running"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def terminate(self) -> None:
        if not self.ended:
            self._process.terminate()

    def kill(self) -> None:
        """Also for one that has ended: what it has started itself must go too."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def stop_all(children: list[Child], signals: Signals, seconds: float) -> list[Child]:
    """SIGTERM to all at once; after `seconds` SIGKILL. Returns those that had to be killed."""
    for child in children:
        child.terminate()
    deadline = time.monotonic() + seconds
    while any(not child.ended for child in children):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            break
        signals.wait(remaining)
    late = [child for child in children if not child.ended]
    for child in children:
        child.kill()
    return late
