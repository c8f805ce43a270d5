"""Erasing a message in anybody's channel."""

from __future__ import annotations

import falcon

from api.context import Request, Response
from api.ops_acts import operator
from api.request_input import Query
from api.services import Services
from db import audit
from db.connections import in_transaction
from db.operators import erase_message
from rules import fields
from rules.errors import Refusal


class OpsMessage:
    """DELETE /ops/channels/{channel_id}/messages/{seq} ?reason -> 204, also when it was before."""

    for_operators = True

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_delete(self, req: Request, resp: Response, channel_id: int, seq: int) -> None:
        reason = Query(req, "reason").read("reason", fields.reason)
        verdict, head = in_transaction(
            self._services.pool,
            lambda connection: erase_message(connection, operator(req), reason, channel_id, seq),
        )
        if verdict == "not_found":
            raise Refusal("not_found")
        if head is not None:
            audit.announce(head)
        resp.status = falcon.HTTP_204
