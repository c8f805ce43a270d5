"""Where scripts/chat reads and prints: a terminal with a line that stays, or pipes and files."""

from __future__ import annotations

import asyncio
import codecs
import os
import shutil
import sys
import termios
import threading
import tty
from types import TracebackType
from typing import Any

from scripts.chat_text import printable, tail
from scripts.line_editor import END, LineEditor

PROMPT = "> "
_ERASE_LINE = "\r\x1b[K"


class Terminal:
    """`lines` gets what is typed, and None at the end of it.

    A context manager: a terminal is given back as it was.
    """

    def __init__(self) -> None:
        self.lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._editor = LineEditor()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        self._before: list[Any] | None = None  # the terminal's settings, while we have changed them

    def __enter__(self) -> Terminal:
        if self._is_terminal:
            self._before = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)  # keys one by one, not shown; Ctrl-C still interrupts
        self._draw()
        # Daemon: what nobody types must not keep the program from ending.
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._before is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)
            self._before = None
            sys.stdout.write(_ERASE_LINE)
            sys.stdout.flush()

    def say(self, line: str) -> None:
        """Prints a line above the one that is being typed."""
        erase = _ERASE_LINE if self._before is not None else ""
        sys.stdout.write(f"{erase}{line}\n")
        self._draw()

    def _draw(self) -> None:
        if self._before is not None:
            room = shutil.get_terminal_size().columns - len(PROMPT) - 1
            sys.stdout.write(_ERASE_LINE + PROMPT + tail(printable(self._editor.text), room))
        sys.stdout.flush()

    def _read(self) -> None:
        # os.read, not sys.stdin: a thread that waits in there holds a lock that the end of the
        # program needs.
        while True:
            try:
                data = os.read(sys.stdin.fileno(), 65_536)
            except (OSError, ValueError):  # the terminal has gone
                data = b""
            try:
                self._loop.call_soon_threadsafe(self._typed, data)
            except RuntimeError:  # the loop is closed: nobody wants to know
                return
            if not data:
                return

    def _typed(self, data: bytes) -> None:
        keys = self._decoder.decode(data, final=not data)
        finished = self._editor.feed(keys) if self._is_terminal else self._split(keys)
        if not data:
            finished += [self._editor.text, END]
        for line in finished:
            self.lines.put_nowait(line if isinstance(line, str) else None)
        self._draw()

    def _split(self, text: str) -> list[str | object]:
        *finished, self._editor.text = (self._editor.text + text).split("\n")
        return [line.rstrip("\r") for line in finished]
