"""A channel's log over HTTP: the same entries and the same rules as on the socket."""

from __future__ import annotations

from typing import Any

import falcon
from psycopg import Connection

from api.context import Request, Response
from api.request_input import Query, read_body
from api.services import Services
from db import security_events
from db.channels import find_readable_channel
from db.chat_log import (
    AppendResult,
    NewMessage,
    append_messages,
    erase_message,
    list_entries_after,
    list_entries_before,
    write_limits,
)
from db.connections import in_autocommit
from db.security_events import Event
from rules import fields
from rules.append_verdict import LOCKED_OUT_NOW, refusal_of
from rules.errors import Refusal, invalid_field
from rules.times import rfc3339

DEFAULT_PAGE = 50


class Messages:
    """GET and POST /chat/channels/{channel_id}/messages."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._limits = write_limits(services.settings.chat)

    def on_get(self, req: Request, resp: Response, channel_id: int) -> None:
        """?after_seq or ?before_seq, &limit; with neither, the newest entries. Ascending."""
        query = Query(req, "after_seq", "before_seq", "limit")
        after_seq, before_seq = query.seq("after_seq"), query.seq("before_seq")
        largest = self._services.settings.chat.history_page_max
        limit = query.page(min(DEFAULT_PAGE, largest), largest)
        if after_seq is not None and before_seq is not None:
            raise invalid_field("before_seq", "must not come together with after_seq")
        with self._services.pool.connection() as connection:
            # The bounds come first: an entry that arrives in between shows in the next page.
            bounds = find_readable_channel(connection, channel_id, req.session.user_id)
            if bounds is None:
                raise Refusal("not_found")
            if after_seq is not None:
                entries = list_entries_after(connection, channel_id, after_seq, limit)
            else:
                before = bounds.last_seq + 1 if before_seq is None else before_seq
                entries = list_entries_before(connection, channel_id, before, limit)
        newest = max(bounds.last_seq, entries[-1].seq if entries else 0)
        answer = {
            "entries": [entry.as_object() for entry in entries],
            "first_seq": bounds.first_seq,
            "last_seq": newest,
        }
        resp.send_json(200, answer)

    def on_post(self, req: Request, resp: Response, channel_id: int) -> None:
        """{client_msg_id, content} -> 201, a repeat 200; only after the commit."""
        body = read_body(req)
        client_msg_id = body.required("client_msg_id", fields.client_msg_id)
        content = body.required(
            "content", fields.content(self._services.settings.chat.message_max_chars)
        )
        body.end()
        message = NewMessage(
            session_id=req.session.session_id,
            channel_id=channel_id,
            client_msg_id=client_msg_id,
            content=content,
            request_id=req.context.request_id,
            address=req.context.address,
        )
        result = in_autocommit(
            self._services.pool, lambda connection: self._append(connection, req, message)
        )
        refusal = refusal_of(result.verdict, result.retry_after_seconds)
        if refusal is not None:
            raise refusal
        resp.send_json(200 if result.verdict == "repeat" else 201, _stored(message, result))

    def _append(self, connection: Connection, req: Request, message: NewMessage) -> AppendResult:
        [result] = append_messages(connection, [message], self._limits)
        if result.verdict == LOCKED_OUT_NOW:
            security_events.record(
                connection,
                Event.RATE_LIMITED,
                ip=message.address,
                user_id=req.session.user_id,
                session_id=message.session_id,
                what="chat",
                seconds=result.retry_after_seconds,
            )
        return result


class OneMessage:
    """DELETE /chat/channels/{channel_id}/messages/{seq} -> 204, also when it was erased before.

    For its sender and for the owner of the channel: the content goes, a `deleted` entry says so.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_delete(self, req: Request, resp: Response, channel_id: int, seq: int) -> None:
        verdict = in_autocommit(
            self._services.pool,
            lambda connection: erase_message(
                connection,
                actor_id=req.session.user_id,
                channel_id=channel_id,
                seq=seq,
                request_id=req.context.request_id,
            ),
        )
        if verdict in ("not_found", "forbidden"):
            raise Refusal(verdict)
        resp.status = falcon.HTTP_204


def _stored(message: NewMessage, result: AppendResult) -> dict[str, Any]:
    assert result.created_at is not None  # noqa: S101 - stored and repeat have one
    return {
        "channel_id": message.channel_id,
        "client_msg_id": str(message.client_msg_id),
        "seq": result.seq,
        "created_at": rfc3339(result.created_at),
        "duplicate": result.verdict == "repeat",
    }
