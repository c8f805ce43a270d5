"""One connection: one request at a time, and a time for everything.

waitress parses ahead whatever has arrived; its only timeout begins anew with each byte and does
not count while a request is being worked on. Here the bytes behind a request wait until its answer
is out, so that answers are in order, a worker is never held up by a client that does not read, and
nothing behind a refused request is ever taken for another. Deadlines are absolute.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from enum import Enum
from typing import Any

from waitress.channel import HTTPChannel

from api.http_answers import AnswerTerms, AppTask, RefusalTask
from api.http_limits import HttpLimits
from api.http_parser import StrictParser


class Overdue(Enum):
    """Why a connection is ended without an answer."""

    IDLE = "idle"
    RECEIVING = "the request was not complete in time"
    ANSWERING = "the answer was not read in time"
    LINGERING = "lingering"


class Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    # waitress's own attributes, typed.
    request: StrictParser | None
    requests: list[StrictParser]
    total_outbufs_len: int
    connected: bool
    will_close: bool
    close_when_flushed: bool
    sent_continue: bool

    parser_class = StrictParser
    task_class = AppTask
    error_task_class = RefusalTask

    def __init__(
        self,
        server: Any,
        sock: socket.socket,
        addr: Any,
        adj: Any,
        *,
        map: dict[int, Any],  # noqa: A002 - waitress passes it by this name
        terms: AnswerTerms,
        limits: HttpLimits,
        is_draining: Callable[[], bool],
    ) -> None:
        self.terms = terms
        self.is_draining = is_draining
        self.will_linger = False
        self._limits = limits
        self._held = b""  # received behind the request that is being worked on
        self._waiting_since = time.monotonic()
        self._receiving_since = self._waiting_since
        self._lingering_since: float | None = None
        self._lingered_bytes = 0
        self._answers = 0
        self._answering_since = (0, self._waiting_since)  # which answer, since when
        super().__init__(server, sock, addr, adj, map=map)

    # Receiving. All of it runs in the loop's thread.

    def readable(self) -> bool:
        if self._lingering_since is not None:
            return True
        if self._held and not self.requests and not self.total_outbufs_len:
            with self.requests_lock:
                self._parse_held()
        return bool(super().readable())

    def received(self, data: bytes) -> bool:
        with self.requests_lock:
            self._held += data
            self._parse_held()
        return True

    def _parse_held(self) -> None:
        if self.will_close or self.close_when_flushed:
            self._held = b""
        while self._held and not self.requests:
            if self.request is None:
                self.request = StrictParser(self.adj)
                self._receiving_since = self.request.started
            request = self.request
            self._held = self._held[request.received(self._held) :]
            # Completed comes first: waitress asks the client to go on with a request that has no
            # body or is refused already, takes it for unfinished, and adds to it what comes next.
            if request.completed:
                self.request, self.sent_continue = None, False
                if request.error:
                    self._held = b""  # what follows a refused request is no request
                if not request.empty:
                    self.requests.append(request)
                    self.server.add_task(self)
            elif request.expect_continue and not self.sent_continue:
                try:
                    self.send_continue()
                except OSError:  # must not reach the loop when it asks whether we are readable
                    self.will_close = True

    def service(self) -> None:
        """Runs in a worker."""
        super().service()
        self._answers += 1
        self._waiting_since = time.monotonic()

    # Refusing. The client may still be sending; closed with unread bytes, the kernel would answer
    # it with a reset, which can overtake and erase the refusal (RFC 9112, 9.6). So our side closes
    # first, and what still comes is read and thrown away for a while.

    def handle_write(self) -> None:
        if not (self.will_linger and self.close_when_flushed) or self.will_close:
            super().handle_write()
            return
        self._flush_exception(self._flush_some)
        if self.connected and not self.total_outbufs_len:
            self.close_when_flushed = False
            self._lingering_since = time.monotonic()
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                self.handle_close()

    def handle_read(self) -> None:
        if self._lingering_since is None:
            super().handle_read()
            return
        try:
            self._lingered_bytes += len(self.recv(self.adj.recv_bytes))
        except OSError:
            self.handle_close()
        if self.connected and self._lingered_bytes > self._limits.linger_bytes:
            self.handle_close()

    # What the server asks from time to time.

    def overdue(self, now: float) -> Overdue | None:
        limits = self._limits
        if self._lingering_since is not None:
            late = now - self._lingering_since > limits.linger_seconds
            return Overdue.LINGERING if late else None
        if self.total_outbufs_len:
            if self._answering_since[0] != self._answers + 1:
                self._answering_since = (self._answers + 1, now)
            late = now - self._answering_since[1] > limits.answer_seconds
            return Overdue.ANSWERING if late else None
        if self.requests:
            return None  # the app's turn: its own timeouts hold
        if self.request is not None:
            late = now - self._receiving_since > limits.receive_seconds
            return Overdue.RECEIVING if late else None
        return Overdue.IDLE if now - self._waiting_since > limits.idle_seconds else None

    def expendable_since(self) -> tuple[int, float] | None:
        """How readily this connection makes room for a new one, least first; None: it does not."""
        if self._lingering_since is not None:
            return (0, self._lingering_since)
        if self.requests or self.total_outbufs_len:
            return None
        if self.request is None and self._answers:
            return (1, self._waiting_since)
        # Among those that have yet to ask, the age alone counts: a new client must not be the one
        # to go because its first byte is still on the way.
        return (2, self._waiting_since)

    def is_idle(self, now: float, seconds: float) -> bool:
        """Whether nothing has been asked on this connection for so long, nor is about to be."""
        if self.requests or self.request is not None or self.total_outbufs_len or self._held:
            return False
        return now - self._waiting_since >= seconds and not self._has_unread_bytes()

    def _has_unread_bytes(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        return False
