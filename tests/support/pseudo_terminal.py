"""A process with a terminal of its own, whose keyboard and screen are the test's."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

# The terminal becomes the process's own, so that Ctrl-C on it interrupts; also where the tests run
# in the background of a shell, which has its jobs ignore it.
_TAKE_TERMINAL = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "signal.signal(signal.SIGINT, signal.SIG_DFL);"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


class PseudoTerminal:
    """`screen` is everything that was written, control sequences included."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> None:
        self.screen = ""
        self._position = 0
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.settings_before = termios.tcgetattr(theirs)
        self._theirs = theirs  # kept open, so that its settings can be read at the end
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *command],
            cwd=cwd,
            env={**environment, "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )

    @property
    def settings(self) -> list[object]:
        return termios.tcgetattr(self._theirs)

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode("utf-8"))

    def wait_for(self, text: str, seconds: float = 30.0) -> None:
        """Until the text stands in what was written after the last one that was waited for."""
        deadline = time.monotonic() + seconds
        while (found := self.screen.find(text, self._position)) < 0:
            ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError(f"no {text!r} after {self.screen[self._position :]!r}")
            self.screen += os.read(self._ours, 65_536).decode("utf-8", "replace")
        self._position = found + len(text)

    def interrupt(self) -> int:
        """Ctrl-C until it ends; returns the exit code.

        As people do: input() itself overlooks one that comes between its prompt and its reading.
        """
        for _ in range(10):
            self.press("\x03")
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(2.0)
        raise AssertionError(f"Ctrl-C does not end it: {self.screen!r}")

    def wait(self, seconds: float = 20.0) -> int:
        return self._process.wait(seconds)

    def __enter__(self) -> PseudoTerminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._ours)
        os.close(self._theirs)
