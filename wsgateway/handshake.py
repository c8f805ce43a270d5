"""The HTTP side of the gateway: what is refused before the upgrade, and the health probes.

Wrong path, method and Origin and a full or stopping server are refused here, with the headers and
the envelope of every other answer; what a browser must understand (a bad ticket) waits until after
the upgrade, since a browser hides HTTP errors of a handshake from its page.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers, MultipleValuesError
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from db.security_events import Event
from rules import log_lines
from rules.client_address import Address, came_by_https, client_address
from rules.errors import Refusal, envelope
from rules.request_id import choose_request_id
from rules.security_headers import security_headers
from rules.socket_names import SUBPROTOCOL, TICKET_PREFIX
from wsgateway.security_events import SecurityEvents

access_log = logging.getLogger("gatehouse.gateway.access")

_PLACES = _SOCKET, _LIVE, _READY = "/ws", "/health/live", "/health/ready"

# What the websockets library refuses by itself, by its status.
_LIBRARY_REFUSALS = {
    400: Refusal("invalid_request", "This is not a websocket handshake (RFC 6455)."),
    403: Refusal("origin_not_allowed"),
    405: Refusal("method_not_allowed"),
    414: Refusal("headers_too_large"),
    426: Refusal("invalid_request", "Open a websocket here; plain HTTP finds nothing."),
    431: Refusal("headers_too_large"),
    503: Refusal("unavailable", "This gateway is stopping.", retry_after_seconds=1),
    505: Refusal("invalid_request", "The gateway speaks HTTP/1.1."),
}


class Handshake:
    """`refusal_now` says whether the gateway takes anybody at this moment, and `refusal_for`
    whether it takes this address; `probe` is readiness."""

    def __init__(
        self,
        *,
        allowed_origins: Collection[str],
        trusted_proxy_hops: int,
        ticket_in_query: bool,
        cloud_project: str | None,
        events: SecurityEvents,
        refusal_now: Callable[[], Refusal | None],
        refusal_for: Callable[[Address | None], Refusal | None],
        probe: Callable[[], Awaitable[None]],
    ) -> None:
        self._allowed_origins = frozenset(allowed_origins)
        self._trusted_proxy_hops = trusted_proxy_hops
        self._ticket_in_query = ticket_in_query
        self._cloud_project = cloud_project
        self._events = events
        self._refusal_now = refusal_now
        self._refusal_for = refusal_for
        self._probe = probe

    async def process_request(self, socket: ServerConnection, request: Request) -> Response | None:
        # For the lines of this connection's task, the socket's among them.
        log_lines.request_id.set(_request_id(request))
        log_lines.trace.set(self._trace_of(request))
        try:
            return await self._route(request, self.address_of(socket, request))
        except Refusal as refusal:
            return self._refuse(request, refusal)

    def process_response(
        self, socket: ServerConnection, request: Request, response: Response
    ) -> Response | None:
        """Every answer carries the request's id and the security headers; the library's own
        refusals get our form."""
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            response.headers.update(self._common_headers(request))
            self._note_access(request, HTTPStatus.SWITCHING_PROTOCOLS)
            return None
        if "X-Request-ID" in response.headers:
            return None  # ours already
        return self._refuse(request, _library_refusal(response))

    def last_look(self, request: Request, response: Response) -> Response:
        """Right before it is sent: a head that is too large is refused without process_response,
        and so is whoever came through it at the moment of the stop."""
        if "X-Request-ID" in response.headers:
            return response
        return self._refuse(request, _library_refusal(response))

    def refuse_unread(self, request: Request) -> Response:
        """A request with a body, or with a head that is none: it gets no further, but its path and
        its method, where they can be read, are refused like anybody's."""
        refusal = _LIBRARY_REFUSALS[400]
        if request.method:
            try:
                _require_place(request)
            except Refusal as misplaced:
                refusal = misplaced
        return self._refuse(request, refusal)

    def ticket_of(self, request: Request) -> str | None:
        """The one ticket that the handshake offers; None where there is none, or more than one."""
        tickets = [
            offered.removeprefix(TICKET_PREFIX)
            for value in request.headers.get_all("Sec-WebSocket-Protocol")
            for offered in (part.strip() for part in value.split(","))
            if offered.startswith(TICKET_PREFIX)
        ]
        if self._ticket_in_query:
            tickets += parse_qs(request.path.partition("?")[2]).get("ticket", [])
        return tickets[0] if len(tickets) == 1 else None

    def address_of(self, socket: ServerConnection, request: Request) -> Address | None:
        peer = socket.remote_address
        forwarded_for = _single(request, "X-Forwarded-For")
        return client_address(peer[0] if peer else "", forwarded_for, self._trusted_proxy_hops)

    async def _route(self, request: Request, address: Address | None) -> Response | None:
        path = _require_place(request)
        if path == _READY:
            if (refusal := self._refusal_now()) is not None:
                raise refusal
            await self._probe()
        if path != _SOCKET:
            self._note_access(request, HTTPStatus.OK)
            return self._answer(request, HTTPStatus.OK, {"status": "ok"})
        origin = _single(request, "Origin")
        if origin is not None and origin not in self._allowed_origins:
            self._events.note_from_stranger(Event.STRANGE_ORIGIN, address, _request_id(request))
            raise Refusal("origin_not_allowed")
        if (refusal := self._refusal_now() or self._refusal_for(address)) is not None:
            raise refusal
        return None

    def _refuse(self, request: Request, refusal: Refusal) -> Response:
        status = HTTPStatus(refusal.kind.status or 503)
        body = envelope(refusal.code, refusal.message, _request_id(request), refusal.details)
        response = self._answer(request, status, body)
        if refusal.retry_after_seconds is not None:
            response.headers["Retry-After"] = str(refusal.retry_after_seconds)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers["Allow"] = "GET"
        self._note_access(request, status, code=refusal.code)
        return response

    def _note_access(self, request: Request, status: HTTPStatus, **more: str) -> None:
        """A line a request, as the API writes it. The library answers some outside any task, so it
        brings its id and its trace along."""
        path = request.path.partition("?")[0]
        fields: dict[str, Any] = {
            "request_id": _request_id(request),
            "method": log_lines.shown_method(request.method),
            "route": path if path in _PLACES else "(none)",
            "status": status.value,
            **more,
        }
        if (trace := self._trace_of(request)) is not None:
            fields[log_lines.TRACE_FIELD] = trace
        line = f"{fields['method']} {fields['route']} {fields['status']}"
        access_log.info(line, extra={"fields": fields})

    def _trace_of(self, request: Request) -> str | None:
        return log_lines.trace_name(_single(request, "X-Cloud-Trace-Context"), self._cloud_project)

    def _answer(self, request: Request, status: HTTPStatus, body: dict[str, Any]) -> Response:
        data = json.dumps(body).encode("utf-8")
        headers = Headers(
            [
                *self._common_headers(request),
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(data))),
                ("Connection", "close"),
            ]
        )
        return Response(status.value, status.phrase, headers, data)

    def _common_headers(self, request: Request) -> Sequence[tuple[str, str]]:
        forwarded_proto = _single(request, "X-Forwarded-Proto")
        secure = came_by_https(forwarded_proto, self._trusted_proxy_hops)
        return (*security_headers(secure=secure), ("X-Request-ID", _request_id(request)))


def select_subprotocol(
    socket: ServerConnection, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    """Ours where it is offered; never the ticket, which must not be said back."""
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None


def _library_refusal(response: Response) -> Refusal:
    return _LIBRARY_REFUSALS.get(response.status_code) or Refusal("internal_error")


def _require_place(request: Request) -> str:
    """The path, one of those that there are, asked for with GET."""
    path = request.path.partition("?")[0]
    if path not in _PLACES:
        raise Refusal("not_found")
    if request.method != "GET":
        raise Refusal("method_not_allowed")
    return path


def _request_id(request: Request) -> str:
    # Made once a request, also where the client sends none: kept among the request's headers.
    chosen = choose_request_id(_single(request, "X-Request-ID"))
    if "X-Request-ID" in request.headers:
        del request.headers["X-Request-ID"]
    request.headers["X-Request-ID"] = chosen
    return chosen


def _single(request: Request, name: str) -> str | None:
    try:
        return request.headers.get(name)
    except MultipleValuesError:
        return ", ".join(request.headers.get_all(name))
