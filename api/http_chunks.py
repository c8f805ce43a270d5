"""A chunked body, read strictly (RFC 9112, 7.1), its content counted against the body limit.

The server's own reader counts the framing as if it were content, lets a line between two chunks be
empty and one line grow as long as it likes. Extensions and trailers are checked, bounded, and then
ignored: the app never sees them.
"""

from __future__ import annotations

import re
from typing import Any

from api.http_grammar import FIELD_LINE, RefusedHead

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb'|"[^"\\\x00-\x1f\x7f]*"))?)*'
)
MAX_LINE_BYTES = 1024
# A chunk of one byte has five bytes of framing; whoever sends more than this hides something in it.
_FRAMING_BYTES_EACH = 8
_FRAMING_BYTES_FREE = 8192


class ChunkedBody:
    """What waitress calls a receiver. Raises RefusedHead."""

    def __init__(self, buffer: Any, max_bytes: int) -> None:
        self.completed = False
        self._buffer = buffer
        self._max_bytes = max_bytes
        self._line = b""
        self._expected = "size"  # then, after the content, "end"; after the last chunk, "trailer"
        self._remaining = 0  # of the current chunk's content
        self._content_bytes = 0
        self._framing_bytes = 0

    def received(self, data: bytes) -> int:
        """Takes what belongs to the body; returns how much that was."""
        position = 0
        while position < len(data) and not self.completed:
            if self._remaining:
                piece = data[position : position + self._remaining]
                self._buffer.append(piece)
                self._remaining -= len(piece)
            else:
                line_feed = data.find(b"\n", position)
                piece = data[position:] if line_feed < 0 else data[position : line_feed + 1]
                self._receive_framing(piece)
            position += len(piece)
        return position

    def _receive_framing(self, piece: bytes) -> None:
        self._line += piece
        self._framing_bytes += len(piece)
        allowed = _FRAMING_BYTES_FREE + _FRAMING_BYTES_EACH * self._content_bytes
        if len(self._line) > MAX_LINE_BYTES or self._framing_bytes > allowed:
            raise RefusedHead(400, "chunks with too much around them")
        if self._line.endswith(b"\n"):
            line, self._line = self._line, b""
            if not line.endswith(b"\r\n"):
                raise RefusedHead(400, "a bare line feed between chunks")
            self._take_line(line[:-2])

    def _take_line(self, line: bytes) -> None:
        if self._expected == "size":
            self._start_chunk(line)
        elif self._expected == "end":
            if line:
                raise RefusedHead(400, "a chunk longer than its size")
            self._expected = "size"
        elif not line:
            self.completed = True
        elif not FIELD_LINE.fullmatch(line):
            raise RefusedHead(400, "a malformed trailer")

    def _start_chunk(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise RefusedHead(400, "a malformed chunk size")
        self._remaining = int(match[1], 16)
        self._content_bytes += self._remaining
        if self._content_bytes > self._max_bytes:
            raise RefusedHead(413, "a chunk beyond the body limit")
        self._expected = "end" if self._remaining else "trailer"

    # What waitress asks of a receiver beside that:

    def __len__(self) -> int:
        return self._content_bytes

    def getfile(self) -> Any:
        return self._buffer.getfile()

    def getbuf(self) -> Any:
        return self._buffer
