"""Names that both services and every client must agree on."""

from __future__ import annotations

SUBPROTOCOL = "gatehouse.v1"
# The ticket travels as a second offered subprotocol: unlike a URL it ends up in nobody's log.
TICKET_PREFIX = "ticket."
DEFAULT_WS_URL = "ws://127.0.0.1:8001/ws"
