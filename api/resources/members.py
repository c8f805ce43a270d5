"""Who is in a channel: to see for its members, to change for a group's owner; anybody may leave."""

from __future__ import annotations

from typing import Any

import falcon
from psycopg import Connection

from api.context import Request, Response
from api.request_input import read_body
from api.resources.people import count_lookup
from api.services import Services
from db.channels import find_readable_channel
from db.connections import in_transaction
from db.members import Member, add_member, find_member, list_members, remove_member
from rules import fields
from rules.errors import Refusal
from rules.times import rfc3339

# All of them are listed in one answer.
MOST_MEMBERS = 1000


class Members:
    """GET /chat/channels/{channel_id}/members; POST {user_id} -> 201, or 200 for who is in it."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: Request, resp: Response, channel_id: int) -> None:
        with self._services.pool.connection() as connection:
            if find_readable_channel(connection, channel_id, req.session.user_id) is None:
                raise Refusal("not_found")
            members = list_members(connection, channel_id)
        resp.send_json(200, {"members": [_shown(member) for member in members]})

    def on_post(self, req: Request, resp: Response, channel_id: int) -> None:
        body = read_body(req)
        user_id = body.required("user_id", fields.row_id)
        body.end()
        count_lookup(self._services, req)

        def add(connection: Connection) -> tuple[str, Member | None]:
            verdict = add_member(
                connection,
                actor_id=req.session.user_id,
                channel_id=channel_id,
                user_id=user_id,
                most=MOST_MEMBERS,
                request_id=req.context.request_id,
            )
            return verdict, find_member(connection, channel_id, user_id)

        verdict, member = in_transaction(self._services.pool, add)
        if verdict == "no_such_user":
            raise Refusal("not_found", "There is no such user.")
        if verdict == "full":
            raise Refusal("conflict", f"A group has at most {MOST_MEMBERS} members.")
        if member is None or verdict in ("not_found", "forbidden"):
            raise Refusal(verdict)
        resp.send_json(201 if verdict == "added" else 200, _shown(member))


class OneMember:
    """DELETE /chat/channels/{channel_id}/members/{user_id} -> 204; with one's own id: leaving.

    Live delivery ends with it on every instance. A group that its owner leaves passes to whoever
    has been in it longest.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_delete(self, req: Request, resp: Response, channel_id: int, user_id: int) -> None:
        verdict = in_transaction(
            self._services.pool,
            lambda connection: remove_member(
                connection,
                actor_id=req.session.user_id,
                channel_id=channel_id,
                user_id=user_id,
                request_id=req.context.request_id,
            ),
        )
        if verdict != "removed":
            raise Refusal(verdict)
        resp.status = falcon.HTTP_204


def _shown(member: Member) -> dict[str, Any]:
    return {
        "user_id": member.user_id,
        "display_name": member.display_name,
        "role": member.role,
        "joined_at": rfc3339(member.joined_at),
    }
