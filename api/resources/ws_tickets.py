"""POST /auth/ws-ticket: one ticket for one socket, instead of a bearer token in a URL."""

from __future__ import annotations

from psycopg import Connection

from api.context import Request, Response
from api.request_input import read_no_fields
from api.services import Services
from db.connections import in_transaction
from db.sessions import update_client_version
from db.tickets import issue_ticket
from rules.socket_names import DEFAULT_WS_URL, SUBPROTOCOL, TICKET_PREFIX
from rules.times import rfc3339


class WsTickets:
    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: Request, resp: Response) -> None:
        read_no_fields(req)
        session, client = req.session, req.client()
        settings = self._services.settings

        def issue(connection: Connection) -> tuple[str, str]:
            update_client_version(connection, session.session_id, client)
            ticket, expires_at = issue_ticket(
                connection,
                session_id=session.session_id,
                ttl_seconds=settings.socket.ticket_ttl_seconds,
                request_id=req.context.request_id,
                client_version=client.version,
                client_content_version=client.content_version,
            )
            return ticket, rfc3339(expires_at)

        ticket, expires_at = in_transaction(self._services.pool, issue)
        answer = {
            "ticket": ticket,
            "expires_at": expires_at,
            "websocket_url": settings.service.public_ws_url or DEFAULT_WS_URL,
            "subprotocols": [SUBPROTOCOL, TICKET_PREFIX + ticket],
        }
        resp.send_json(201, answer)
