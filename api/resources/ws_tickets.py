"""POST /auth/ws-ticket: one ticket for one socket, instead of a bearer token in a URL."""

from __future__ import annotations

from psycopg import Connection

from api import quotas
from api.context import Request, Response
from api.request_input import read_no_fields
from api.services import Services
from db.connections import in_transaction
from db.sessions import update_client_version
from db.tickets import issue_ticket
from rules import limit_subjects
from rules.errors import Refusal
from rules.socket_names import DEFAULT_WS_URL, SUBPROTOCOL, TICKET_PREFIX
from rules.times import rfc3339


class WsTickets:
    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: Request, resp: Response) -> None:
        read_no_fields(req)
        session, client = req.session, req.client()
        settings = self._services.settings

        def issue(connection: Connection) -> tuple[str, str] | Refusal:
            # Session rows come before limit rows in the lock order.
            update_client_version(connection, session.session_id, client)
            refusal = quotas.take_of_caller(
                connection,
                req,
                limit_subjects.tickets_of_session(session.session_id),
                maximum=settings.auth.tickets_per_session_per_minute,
                window_seconds=quotas.MINUTE,
            )
            if refusal is not None:
                return refusal
            ticket, expires_at = issue_ticket(
                connection,
                session_id=session.session_id,
                ttl_seconds=settings.socket.ticket_ttl_seconds,
                request_id=req.context.request_id,
                client_version=client.version,
                client_content_version=client.content_version,
            )
            return ticket, rfc3339(expires_at)

        issued = in_transaction(self._services.pool, issue)
        if isinstance(issued, Refusal):
            raise issued
        ticket, expires_at = issued
        answer = {
            "ticket": ticket,
            "expires_at": expires_at,
            "websocket_url": settings.service.public_ws_url or DEFAULT_WS_URL,
            "subprotocols": [SUBPROTOCOL, TICKET_PREFIX + ticket],
        }
        resp.send_json(201, answer)
