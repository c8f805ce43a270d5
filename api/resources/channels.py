"""Channels: which there are for me, a new group, the direct one with somebody."""

from __future__ import annotations

from typing import Any, TypeVar

from psycopg import Connection

from api import quotas
from api.context import Request, Response
from api.request_input import read_body
from api.resources.people import count_lookup
from api.services import Services
from db.channels import (
    Channel,
    create_group,
    find_direct,
    list_readable_channels,
    open_direct,
)
from db.connections import in_transaction
from rules import fields, limit_subjects
from rules.errors import Refusal, invalid_field
from rules.times import rfc3339

T = TypeVar("T")

# Channels are for ever, so nobody makes them by the thousand; but whoever moves in with all groups
# and friends at once, more than a socket subscribes to (WS_MAX_SUBSCRIPTIONS), is not stopped.
NEW_CHANNELS_AN_HOUR = 300


class Channels:
    """GET /chat/channels: what the user may read; POST {name} -> 201, a group of one's own."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: Request, resp: Response) -> None:
        with self._services.pool.connection() as connection:
            channels = list_readable_channels(connection, req.session.user_id)
        resp.send_json(200, {"channels": [_shown(channel) for channel in channels]})

    def on_post(self, req: Request, resp: Response) -> None:
        body = read_body(req)
        name = body.required("name", fields.channel_name)
        body.end()
        quotas.spend(self._services.pool, lambda connection: _count_new_one(connection, req))

        def create(connection: Connection) -> dict[str, Any]:
            channel_id = create_group(
                connection,
                owner_id=req.session.user_id,
                name=name,
                request_id=req.context.request_id,
            )
            return _one(connection, req, channel_id)

        resp.send_json(201, in_transaction(self._services.pool, create))


class Direct:
    """POST /chat/channels/direct {user_id} -> 201, or 200 where the two have theirs already."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: Request, resp: Response) -> None:
        body = read_body(req)
        other_id = body.required("user_id", fields.row_id)
        body.end()
        if other_id == req.session.user_id:
            raise invalid_field("user_id", "must be somebody else's")
        count_lookup(self._services, req)

        def find_or_create(connection: Connection) -> tuple[bool, dict[str, Any]] | Refusal:
            me, is_new = req.session.user_id, False
            (channel_id,) = _there(find_direct(connection, me, other_id))
            if channel_id is None:
                refusal = _count_new_one(connection, req)
                if refusal is None:
                    channel_id, is_new = _there(open_direct(connection, me, other_id))
                else:
                    # Whoever asked at the same time may have made it with the last that was left.
                    (channel_id,) = _there(find_direct(connection, me, other_id))
                    if channel_id is None:
                        return refusal
            return is_new, _one(connection, req, channel_id)

        opened = in_transaction(self._services.pool, find_or_create)
        if isinstance(opened, Refusal):
            raise opened
        is_new, shown = opened
        resp.send_json(201 if is_new else 200, shown)


def _there(found: T | None) -> T:
    if found is None:
        raise Refusal("not_found", "There is no such user.")
    return found


def _count_new_one(connection: Connection, req: Request) -> Refusal | None:
    return quotas.take_of_caller(
        connection,
        req,
        limit_subjects.channels_of_account(req.session.user_id),
        maximum=NEW_CHANNELS_AN_HOUR,
        window_seconds=quotas.HOUR,
    )


def _one(connection: Connection, req: Request, channel_id: int) -> dict[str, Any]:
    (channel,) = list_readable_channels(connection, req.session.user_id, channel_id)
    return _shown(channel)


def _shown(channel: Channel) -> dict[str, Any]:
    peer = None
    if channel.peer_id is not None:
        peer = {"id": channel.peer_id, "display_name": channel.peer_name}
    return {
        "id": channel.id,
        "kind": channel.kind,
        "name": channel.name,
        "created_at": rfc3339(channel.created_at),
        "last_seq": channel.last_seq,
        "role": channel.role,
        "peer": peer,
    }
