"""waitress, made to speak our envelope and to stop in good order.

waitress answers malformed and oversized requests itself, before the app sees them; EnvelopeTask
gives those answers the same headers and the same envelope as the app's. On a stop the listening
socket closes first, requests in flight finish, then the threads end: SystemExit in the middle of
waitress's loop would cut responses.
"""

from __future__ import annotations

import json
import logging
import socket
import time
from typing import Any

import waitress
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask

from rules.errors import KINDS, envelope
from rules.request_id import choose_request_id
from rules.security_headers import security_headers

logger = logging.getLogger("gatehouse.api")

DRAIN_SECONDS = 8.0  # Cloud Run kills ten seconds after SIGTERM
MAX_HEADER_BYTES = 16_384
MAX_CONNECTIONS = 1000

_CODES = {
    400: "invalid_request",
    413: "payload_too_large",
    431: "headers_too_large",
    500: "internal_error",
    501: "invalid_request",
}


class EnvelopeTask(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """An answer that waitress gives on its own."""

    def execute(self) -> None:
        error = self.request.error
        kind = KINDS[_CODES.get(error.code, "internal_error")]
        request_id = choose_request_id(self.request.headers.get("X_REQUEST_ID"))
        body = json.dumps(envelope(kind.code, kind.message, request_id)).encode("utf-8")
        self.status = f"{error.code} {error.reason}"
        self.response_headers.extend(security_headers(secure=False))
        self.response_headers.append(("X-Request-ID", request_id))
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)
        fields = {"status": error.code, "cause": error.body, "request_id": request_id}
        logger.info("refused before the app: %s", error.code, extra={"fields": fields})


class EnvelopeChannel(HTTPChannel):  # type: ignore[misc]
    error_task_class = EnvelopeTask


class HttpServer:
    """One listening socket, a loop in the main thread, `threads` workers."""

    def __init__(
        self, app: Any, listening: socket.socket, *, threads: int, max_body_bytes: int
    ) -> None:
        self._listening = listening
        self._stopping = False
        self._server = waitress.create_server(
            app,
            sockets=[listening],
            threads=threads,
            ident=None,
            asyncore_use_poll=True,
            connection_limit=MAX_CONNECTIONS,
            max_request_header_size=MAX_HEADER_BYTES,
            max_request_body_size=max_body_bytes + 1,  # the comparison is >=
            clear_untrusted_proxy_headers=False,  # api/middleware/client_address.py reads them
        )
        self._server.channel_class = EnvelopeChannel

    @property
    def is_draining(self) -> bool:
        return self._stopping

    def stop(self) -> None:
        """Asks run() to drain and return; safe in a signal handler."""
        self._stopping = True
        self._server.pull_trigger()

    def run(self) -> None:
        """Serves until stop(), then drains: at most DRAIN_SECONDS."""
        while not self._stopping:
            self._turn(timeout=1.0)
        self._stop_accepting()
        deadline = time.monotonic() + DRAIN_SECONDS
        while self._server.active_channels and time.monotonic() < deadline:
            self._close_idle_channels()
            self._turn(timeout=0.05)
        cut = len(self._server.active_channels)
        if cut:
            logger.error("stopped with %d connections still busy", cut)
        self._server.task_dispatcher.shutdown(timeout=0.5)
        wasyncore.close_all(self._server._map)

    def _turn(self, timeout: float) -> None:
        wasyncore.loop(timeout=timeout, use_poll=True, map=self._server._map, count=1)

    def _stop_accepting(self) -> None:
        self._server.accepting = False
        self._server.del_channel()
        self._listening.close()
        self._server.socket.close()

    def _close_idle_channels(self) -> None:
        for channel in list(self._server.active_channels.values()):
            idle = not channel.requests and channel.request is None
            if idle and not channel.total_outbufs_len:
                channel.will_close = True
