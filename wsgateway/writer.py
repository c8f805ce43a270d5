"""The write path: messages wait in one queue and are stored a batch a transaction.

An ack goes out only after the commit. A batch that conflicts is tried again; one that Postgres
objects to is split until the message that it objects to stands alone, so that one bad message
cannot take others down; while Postgres cannot be reached the senders are told so. A channel whose
row somebody keeps locked costs the others three seconds, and is then left alone for two.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from db.chat_log import AppendResult, NewMessage, WriteLimits, append_messages_async
from db.connections import CONFLICTED, LOCKED, NO_CONNECTION, UNAVAILABLE, AsyncPool
from db.security_events import Event
from rules.append_verdict import LOCKED_OUT, LOCKED_OUT_NOW, REPEAT, STORED, refusal_of
from rules.errors import Refusal
from rules.log_entry import Entry
from rules.recent import RecentCount, RecentValues
from rules.times import rfc3339
from wsgateway.batching import Batcher
from wsgateway.connection import Connection
from wsgateway.fanout import Fanout
from wsgateway.protocol import Send, error_frame, with_ref
from wsgateway.security_events import SecurityEvents

logger = logging.getLogger("gatehouse.gateway")

MAX_BATCH = 100
MAX_WAITING = 10_000
ATTEMPTS = 4
LOCKED_ATTEMPTS = 2  # each waits for lock_timeout
RETRY_AFTER_SECONDS = 2


@dataclass(frozen=True, slots=True)
class PendingSend:
    connection: Connection
    send: Send
    message: NewMessage
    submitted_at: float  # monotonic


class Writer:
    """`has_ended` is told of sessions that the database would not store for."""

    def __init__(
        self,
        pool: AsyncPool,
        fanout: Fanout,
        events: SecurityEvents,
        limits: WriteLimits,
        has_ended: Callable[[int], None],
    ) -> None:
        self._pool = pool
        self._events = events
        self._limits = limits
        self._has_ended = has_ended
        self._fanout = fanout
        self._batcher = Batcher(self._store, max_batch=MAX_BATCH, max_waiting=MAX_WAITING)
        # The backend that is storing for us at this moment: what it notifies of, we are about to
        # deliver ourselves, and reading it from the table as well would be work for nothing.
        self.storing_pid: int | None = None
        self.stored = 0
        self.submitted = 0
        # For the metrics: from the beginning of a batch's transaction to its last delivery.
        self.flush_ms = RecentValues(seconds=300, room=5000)
        self.rate_limited = RecentCount(seconds=300)
        # Channels whose row was kept locked: not tried again before this monotonic time.
        self._locked_until: dict[int, float] = {}

    def submit(self, connection: Connection, send: Send) -> None:
        message = NewMessage(
            session_id=connection.session_id,
            channel_id=send.channel_id,
            client_msg_id=send.client_msg_id,
            content=send.content,
            request_id=connection.request_id,
            address=connection.address,
        )
        pending = PendingSend(connection, send, message, time.monotonic())
        connection.acks_due += 1
        self.submitted += 1
        if not self._batcher.submit(pending):
            _refuse(pending, Refusal("unavailable", retry_after_seconds=RETRY_AFTER_SECONDS))

    async def run(self) -> None:
        await self._batcher.run()

    async def flushed(self) -> None:
        await self._batcher.flushed()

    async def _store(self, batch: list[PendingSend]) -> None:
        batch = self._without_locked_channels(batch)
        if not batch:
            return
        started = time.monotonic()
        try:
            results = await self._append([pending.message for pending in batch])
        except CONFLICTED as error:
            by_channel = _by_channel(batch)
            if len(by_channel) == 1:
                if isinstance(error, LOCKED):
                    channel_id = batch[0].message.channel_id
                    self._locked_until[channel_id] = time.monotonic() + RETRY_AFTER_SECONDS
                _refuse_for_now(batch, error)
            else:  # somebody keeps the row of one channel: that is no matter of the others
                for of_channel in by_channel:
                    await self._store(of_channel)
        except UNAVAILABLE as error:
            _refuse_for_now(batch, error)
        except Exception as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._store(batch[:middle])
                await self._store(batch[middle:])
            else:
                logger.error("a message cannot be stored", exc_info=error)
                _refuse(batch[0], Refusal("internal_error"))
        else:
            self._deliver(batch, results)
            ended = time.monotonic()
            self.flush_ms.add((ended - started) * 1000, ended)

    def _without_locked_channels(self, batch: list[PendingSend]) -> list[PendingSend]:
        """The batch without the messages that would only wait for a lock again."""
        if not self._locked_until:
            return batch
        now = time.monotonic()
        self._locked_until = {
            channel_id: until for channel_id, until in self._locked_until.items() if until > now
        }
        free = []
        for pending in batch:
            if pending.message.channel_id in self._locked_until:
                _refuse(pending, Refusal("unavailable", retry_after_seconds=RETRY_AFTER_SECONDS))
            else:
                free.append(pending)
        return free

    async def _append(self, messages: Sequence[NewMessage]) -> list[AppendResult]:
        """A repeat after a lost answer is harmless: client_msg_id makes it the same message."""
        channel_ids = {message.channel_id for message in messages}
        locked_attempts = LOCKED_ATTEMPTS if len(channel_ids) == 1 else 1
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._pool.connection() as connection:
                    self.storing_pid = connection.info.backend_pid
                    return await append_messages_async(connection, messages, self._limits)
            except NO_CONNECTION:
                raise  # it has been waited for; the senders need an answer
            except (*UNAVAILABLE, *CONFLICTED) as error:
                # What was stored before the answer got lost is found through the table.
                self._fanout.suspect(channel_ids)
                if attempt == (locked_attempts if isinstance(error, LOCKED) else ATTEMPTS):
                    raise
                await asyncio.sleep(0.05 * 2**attempt)
            finally:
                self.storing_pid = None
        raise AssertionError("unreachable")

    def _deliver(self, batch: Sequence[PendingSend], results: Sequence[AppendResult]) -> None:
        entries = []
        for pending, result in zip(batch, results, strict=True):
            refusal = refusal_of(result.verdict, result.retry_after_seconds)
            if refusal is not None:
                if refusal.code == "rate_limited":
                    self.rate_limited.add(1, time.monotonic())
                _refuse(pending, refusal)
                if refusal.code == "session_revoked":
                    # Revoked, disabled or drained: the socket is closed by who reads which.
                    self._has_ended(pending.connection.session_id)
                if result.verdict == LOCKED_OUT_NOW:
                    self._note_lockout(pending, refusal)
                if result.verdict in (LOCKED_OUT_NOW, LOCKED_OUT):
                    _strike(pending, refusal)
                continue
            if result.verdict == STORED:
                pending.connection.patience.restore()
                entries.append(_entry(pending.message, result))
            _settle(pending, with_ref(_ack(pending.send, result), pending.send.ref))
        self.stored += len(entries)
        entries.sort(key=lambda entry: (entry.channel_id, entry.seq))
        self._fanout.offer(entries)

    def _note_lockout(self, pending: PendingSend, refusal: Refusal) -> None:
        connection = pending.connection
        self._events.note(
            Event.RATE_LIMITED,
            connection.address,
            request_id=connection.request_id,
            user_id=connection.user_id,
            session_id=connection.session_id,
            what="chat",
            seconds=refusal.retry_after_seconds,
        )


def _by_channel(batch: Sequence[PendingSend]) -> list[list[PendingSend]]:
    by_channel: dict[int, list[PendingSend]] = {}
    for pending in batch:
        by_channel.setdefault(pending.message.channel_id, []).append(pending)
    return list(by_channel.values())


def _ack(send: Send, result: AppendResult) -> dict[str, Any]:
    assert result.created_at is not None  # noqa: S101 - stored and repeat have one
    return {
        "type": "ack",
        "channel_id": send.channel_id,
        "client_msg_id": send.named,
        "seq": result.seq,
        "created_at": rfc3339(result.created_at),
        "duplicate": result.verdict == REPEAT,
    }


def _entry(message: NewMessage, result: AppendResult) -> Entry:
    assert result.seq is not None  # noqa: S101 - stored has all three
    assert result.sender_id is not None  # noqa: S101 - the same
    assert result.created_at is not None  # noqa: S101 - the same
    return Entry(
        channel_id=message.channel_id,
        seq=result.seq,
        kind="message",
        sender_id=result.sender_id,
        sender_name=result.sender_name,
        content=message.content,
        client_msg_id=message.client_msg_id,
        target_seq=None,
        created_at=result.created_at,
    )


def _refuse_for_now(batch: Sequence[PendingSend], error: Exception) -> None:
    logger.warning("messages cannot be stored: %s", type(error).__name__)
    for pending in batch:
        _refuse(pending, Refusal("unavailable", retry_after_seconds=RETRY_AFTER_SECONDS))


def _refuse(pending: PendingSend, refusal: Refusal) -> None:
    frame = error_frame(refusal, ref=pending.send.ref, client_msg_id=pending.send.named)
    _settle(pending, frame)


def _strike(pending: PendingSend, refusal: Refusal) -> None:
    """The account has been told of its lockout; perhaps it went on for too long."""
    if pending.connection.patience.lost(pending.submitted_at, told_at=time.monotonic()):
        pending.connection.close(refusal, after_acks=True)


def _settle(pending: PendingSend, frame: dict[str, Any]) -> None:
    pending.connection.send(frame)
    pending.connection.ack_given()
