"""The writers: batches of every size through the function that the services call."""

from __future__ import annotations

import pickle
import random
import threading
import time
import uuid
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path

import psycopg

from db.chat_log import NewMessage, WriteLimits, append_messages
from rules.append_verdict import REPEAT, STORED
from tests.stress.ground import Ground, live_sessions

LARGEST_BATCH = 100
REMEMBERED = 100  # of what was said lately, some is said again
SESSIONS_READ_EVERY_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Accepted:
    user_id: int
    channel_id: int
    seq: int
    client_msg_id: uuid.UUID
    at: float  # created_at, in seconds


@dataclass(slots=True)
class Report:
    """What writers saw. `wrong` are answers that cannot be right."""

    accepted: list[Accepted] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Report) -> None:
        self.accepted += other.accepted
        self.verdicts += other.verdicts
        self.failures += other.failures
        self.wrong += other.wrong


def run_writers(
    ground: Ground, limits: WriteLimits, count: int, seconds: float, report_to: Path
) -> None:
    """One process with so many writers; leaves its report in a file."""
    writers = [_Writer(ground, limits, time.monotonic() + seconds) for _ in range(count)]
    threads = [threading.Thread(target=writer.run) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = Report()
    for writer in writers:
        whole.add(writer.report)
    report_to.write_bytes(pickle.dumps(whole))


class _Writer:
    def __init__(self, ground: Ground, limits: WriteLimits, until: float) -> None:
        self.report = Report()
        self._ground = ground
        self._limits = limits
        self._until = until
        self._sessions: list[tuple[int, int]] = []
        self._sessions_read_at = -1e9
        self._remembered: deque[tuple[NewMessage, int]] = deque(maxlen=REMEMBERED)

    def run(self) -> None:
        try:
            with self._ground.connect() as connection:
                connection.execute("SET lock_timeout = '1s'")
                while time.monotonic() < self._until:
                    self._write(connection)
        except BaseException as error:
            self.report.wrong.append(f"a writer ended: {error!r}")

    def _write(self, connection: psycopg.Connection) -> None:
        if time.monotonic() - self._sessions_read_at > SESSIONS_READ_EVERY_SECONDS:
            self._sessions = live_sessions(connection, self._ground)
            self._sessions_read_at = time.monotonic()
        user_of = dict(self._sessions)
        size = random.choice((1, 1, 2, 10, 50, LARGEST_BATCH))
        batch = [self._message() for _ in range(size)]
        expected: list[int | None] = [None] * size
        for position in range(size):
            if self._remembered and random.random() < 0.1:
                said, earlier_seq = random.choice(self._remembered)
                batch[position], expected[position] = self._again(said), earlier_seq
        try:
            results = append_messages(connection, batch, self._limits)
        except psycopg.Error as error:
            self.report.failures[type(error).__name__] += 1
            return
        for message, seq, result in zip(batch, expected, results, strict=True):
            self.report.verdicts[result.verdict] += 1
            if result.verdict == REPEAT and seq not in (None, result.seq):
                self.report.wrong.append(f"a repeat of {seq} was answered with {result.seq}")
            if result.verdict != STORED:
                continue
            if seq is not None:
                self.report.wrong.append(f"a repeat of {seq} was stored as {result.seq}")
            assert result.seq is not None
            assert result.sender_id is not None
            assert result.created_at is not None
            if user_of.get(message.session_id) not in (None, result.sender_id):
                self.report.wrong.append("a message was stored for somebody else")
            self._remembered.append((message, result.seq))
            self.report.accepted.append(
                Accepted(
                    result.sender_id,
                    message.channel_id,
                    result.seq,
                    message.client_msg_id,
                    result.created_at.timestamp(),
                )
            )

    def _message(self) -> NewMessage:
        return NewMessage(
            session_id=random.choice(self._sessions)[0],
            channel_id=random.choice(self._ground.channel_ids),
            client_msg_id=uuid.uuid4(),
            content="x" * random.choice((1, 20, 200, 2000)),
            request_id="stress",
            address=ip_address(f"10.0.0.{random.randrange(1, 20)}"),
        )

    def _again(self, said: NewMessage) -> NewMessage:
        """The same, or under the same id something else."""
        return replace(said, content="another content") if random.random() < 0.2 else said
