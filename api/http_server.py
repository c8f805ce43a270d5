"""The loop that serves the app: who may connect, for how long, and how it all stops.

waitress does the sockets and the workers; what it would do differently is in the files beside this
one: http_grammar, http_chunks and http_parser (what a request is), http_channel (one connection),
http_answers (what is said without the app), http_limits (numbers).

There is no limit a peer address: behind a proxy all clients share the proxy's few addresses, and
what it says about them is known only after a request's head has come. Instead a full house shows
out whoever has kept it waiting longest, so that a new connection, a probe's for one, always gets
in: somebody who holds a thousand connections open loses his own.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import waitress
from waitress import wasyncore

from api.http_answers import AnswerTerms, log_access
from api.http_channel import Channel, Overdue
from api.http_limits import HttpLimits, limits_for
from api.http_parser import StrictParser
from rules import log_lines
from rules.request_id import choose_request_id

logger = logging.getLogger("gatehouse.api")

# Over max_connections only while all of those are being answered; then accepting pauses.
_CONNECTIONS_BEYOND = 64
_BACKLOG = 1024
_LAST_WORKERS_SECONDS = 0.1
_NEVER_SECONDS = 2**31


class HttpServer:
    """One listening socket, a loop in the calling thread, `threads` workers."""

    def __init__(
        self,
        app: Any,
        listening: socket.socket,
        *,
        threads: int,
        max_body_bytes: int,
        trusted_proxy_hops: int = 0,
        cors_allowed_origins: Collection[str] = (),
        cloud_project: str | None = None,
        limits: HttpLimits | None = None,
    ) -> None:
        self._stopping = False
        self._limits = limits or limits_for(trusted_proxy_hops)
        self._terms = AnswerTerms(
            trusted_proxy_hops, frozenset(cors_allowed_origins), cloud_project
        )
        self._next_sweep = 0.0
        self._accepted = 0
        self._shown_out = 0
        self._server = waitress.create_server(
            app,
            sockets=[listening],
            threads=threads,
            ident=None,
            backlog=_BACKLOG,
            asyncore_use_poll=True,
            connection_limit=self._limits.max_connections + _CONNECTIONS_BEYOND,
            max_request_header_size=self._limits.max_header_bytes,
            max_request_body_size=max_body_bytes,
            clear_untrusted_proxy_headers=False,  # api/middleware/client_address.py reads them
            log_socket_errors=False,  # a client that is gone is no news
            # Never: _sweep knows what a connection is in the middle of, and by a clock that does
            # not jump.
            channel_timeout=_NEVER_SECONDS,
        )
        self._server.channel_class = self._open_channel

    @property
    def is_draining(self) -> bool:
        return self._stopping

    def stop(self) -> None:
        """Asks run() to drain and return; safe in a signal handler."""
        if not self._stopping:  # a second SIGTERM may come when the trigger is closed already
            self._stopping = True
            # From another thread: run() may have seen the flag, drained and closed the trigger.
            with suppress(OSError):
                self._server.pull_trigger()

    def run(self) -> None:
        """Serves until stop(), then drains: at most `drain_seconds`."""
        while not self._stopping:
            self._turn(self._limits.sweep_seconds)
        deadline = time.monotonic() + self._limits.drain_seconds
        self._stop_accepting()
        while self._is_busy() and time.monotonic() < deadline:
            self._close_idle_channels()
            self._turn(0.05)
        if self._server.active_channels:
            cut = len(self._server.active_channels)
            logger.error("stopped with %d connections still busy", cut)
        self._server.task_dispatcher.shutdown(timeout=_LAST_WORKERS_SECONDS)
        wasyncore.close_all(self._server._map)

    def _turn(self, seconds: float) -> None:
        wasyncore.loop(timeout=seconds, use_poll=True, map=self._server._map, count=1)
        now = time.monotonic()
        if now >= self._next_sweep:
            self._next_sweep = now + self._limits.sweep_seconds
            self._sweep(now)

    def _open_channel(self, server: Any, *connection: Any, map: Any) -> Channel:  # noqa: A002
        """Called by waitress for each connection that it has accepted."""
        self._accepted += 1
        if len(server.active_channels) >= self._limits.max_connections:
            self._make_room(server.active_channels.values())
        return Channel(
            server,
            *connection,
            map=map,
            terms=self._terms,
            limits=self._limits,
            is_draining=lambda: self._stopping,
        )

    def _make_room(self, channels: Collection[Channel]) -> None:
        expendable = [
            (since, channel) for channel in channels if (since := channel.expendable_since())
        ]
        if expendable:
            min(expendable, key=lambda pair: pair[0])[1].handle_close()
            self._shown_out += 1

    def _sweep(self, now: float) -> None:
        if self._shown_out:
            logger.warning("full: %d connections made room for newer ones", self._shown_out)
            self._shown_out = 0
        for channel in list(self._server.active_channels.values()):
            overdue = channel.overdue(now)
            if overdue is Overdue.RECEIVING and channel.request is not None:
                _log_timeout(channel, channel.request)
            elif overdue is Overdue.ANSWERING:
                logger.warning("cut a connection: %s", overdue.value)
            if overdue is not None:
                # At once: waitress's own way waits until the socket takes more, which for a client
                # that does not read is never.
                channel.handle_close()

    # Stopping.

    def _stop_accepting(self) -> None:
        # Who is in the backlog believes to be connected and may have sent a request already.
        for _ in range(_BACKLOG):
            accepted = self._accepted
            self._server.handle_accept()
            if self._accepted == accepted:
                break
        self._server.accepting = False
        self._server.del_channel()
        self._server.socket.close()

    def _is_busy(self) -> bool:
        # A client may be gone while a worker still writes down what it asked for.
        dispatcher = self._server.task_dispatcher
        return bool(self._server.active_channels or dispatcher.queue or dispatcher.active_count)

    def _close_idle_channels(self) -> None:
        now = time.monotonic()
        for channel in list(self._server.active_channels.values()):
            if channel.is_idle(now, self._limits.drain_idle_seconds):
                channel.handle_close()


def _log_timeout(channel: Channel, request: StrictParser) -> None:
    """Only a line: an answer could be taken for one to a request that was never finished."""
    request.refuse(408, Overdue.RECEIVING.value)
    log_lines.request_id.set(choose_request_id(request.headers.get("X_REQUEST_ID")))
    log_access(channel, request, 408, Overdue.RECEIVING.value)
    log_lines.request_id.set(None)
