"""A line that is being typed while others' lines arrive: the keys, without any terminal."""

from __future__ import annotations

import re

END = object()

# What arrow and function keys send (ECMA-48): CSI sequences, SS3, and Alt with a letter.
_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O.|[^\[O])", re.DOTALL)
_UNFINISHED = re.compile(r"\x1b(\[[0-?]*[ -/]*|O)?\Z")


class LineEditor:
    """`text` is what has been typed of the present line."""

    def __init__(self) -> None:
        self.text = ""
        self._rest = ""

    def feed(self, keys: str) -> list[str | object]:
        """The lines that these keys finish; END for Ctrl-D on an empty line."""
        keys = self._rest + keys
        unfinished = _UNFINISHED.search(keys)
        self._rest = unfinished[0] if unfinished else ""
        keys = keys[: len(keys) - len(self._rest)]
        finished: list[str | object] = []
        for key in _ESCAPE.sub("", keys):
            match key:
                case "\r" | "\n":
                    finished.append(self.text)
                    self.text = ""
                case "\x7f" | "\x08":
                    self.text = self.text[:-1]
                case "\x15":  # Ctrl-U
                    self.text = ""
                case "\x17":  # Ctrl-W
                    self.text = re.sub(r"\S*\s*\Z", "", self.text)
                case "\x04":  # Ctrl-D
                    if not self.text:
                        finished.append(END)
                case _ if key >= " ":
                    self.text += key
        return finished
