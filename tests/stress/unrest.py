"""What happens around the writers: sessions end, people are muted, come and go, old rows go."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable

import psycopg

from db.chat_log import erase_message
from db.housekeeping import Busy, Chore, forget, forget_messages
from db.members import add_member, remove_member
from tests.stress.ground import Connection, Ground, open_another_session

# Of each channel so many entries are left to repeats; older ones are made old enough to go.
KEPT_ENTRIES = 1_000
OUTSIDE_AT_A_TIME = 20  # of all pairs of people and channels


class Unrest:
    """Threads that do it until stop(). `done` counts what was done, `failures` what failed."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._stopping = threading.Event()
        self.done: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self._outside: deque[tuple[int, int]] = deque()
        self._threads = [
            threading.Thread(target=self._again_and_again, args=(work, pause))
            for work, pause in (
                (self._revoke, 0.05),
                (self._mute, 0.05),
                (self._change_members, 0.02),
                (self._erase, 0.05),
                (self._grow_old, 0.2),
                (self._keep_house, 0.02),
                (self._keep_house, 0.02),
            )
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _again_and_again(self, work: Callable[[Connection], None], pause: float) -> None:
        with self._ground.connect() as connection:
            connection.execute("SET lock_timeout = '1s'")
            while not self._stopping.is_set():
                try:
                    work(connection)
                except psycopg.Error as error:
                    self.failures[type(error).__name__] += 1
                time.sleep(pause)

    def _revoke(self, connection: Connection) -> None:
        """All sessions of a few people, in id order; they log in again."""
        user_ids = random.sample(self._ground.user_ids, 3)
        connection.execute(
            "UPDATE user_sessions SET revoked_at = clock_timestamp(), revoked_reason = 'stress'"
            " WHERE id IN (SELECT id FROM user_sessions WHERE user_id = ANY (%s)"
            " AND revoked_at IS NULL ORDER BY id FOR NO KEY UPDATE)",
            (user_ids,),
        )
        for user_id in user_ids:
            open_another_session(connection, user_id)
        self.done["revocations"] += 3

    def _mute(self, connection: Connection) -> None:
        connection.execute(
            "UPDATE users SET muted_until = clock_timestamp() + interval '0.3 s' WHERE id = %s",
            (random.choice(self._ground.user_ids),),
        )
        self.done["mutes"] += 1

    def _change_members(self, connection: Connection) -> None:
        user_id = random.choice(self._ground.user_ids[1:])
        channel_id = random.choice(self._ground.channel_ids)
        if random.random() < 0.2:  # the person on call, with psql
            connection.execute(
                "DELETE FROM chat_members WHERE user_id = %s AND channel_id = %s",
                (user_id, channel_id),
            )
        else:
            remove_member(
                connection,
                actor_id=random.choice((user_id, self._ground.user_ids[0])),
                channel_id=channel_id,
                user_id=user_id,
                request_id="stress",
            )
        self._outside.append((user_id, channel_id))
        if len(self._outside) > OUTSIDE_AT_A_TIME:
            user_id, channel_id = self._outside.popleft()
            add_member(
                connection,
                actor_id=self._ground.user_ids[0],
                channel_id=channel_id,
                user_id=user_id,
                most=1000,
                request_id="stress",
            )
        self.done["membership changes"] += 1

    def _erase(self, connection: Connection) -> None:
        """Anything that is kept: what has just been said, and what is just being forgotten."""
        channel_id = random.choice(self._ground.channel_ids)
        row = connection.execute(
            "SELECT min(seq), max(seq) FROM chat_messages WHERE channel_id = %s", (channel_id,)
        ).fetchone()
        if row is None or row[0] is None:
            return
        verdict = erase_message(
            connection,
            actor_id=self._ground.user_ids[0],
            channel_id=channel_id,
            seq=random.choice((row[0], row[1], random.randint(*row))),
            request_id="stress",
        )
        self.done["erasures"] += verdict == "erased"

    def _grow_old(self, connection: Connection) -> None:
        """The beginning of a channel, and limit rows of addresses that are just being used."""
        connection.execute(
            "UPDATE chat_messages SET created_at = created_at - interval '2 days'"
            " WHERE channel_id = %s AND seq <= (SELECT last_seq FROM chat_channels WHERE id = %s)"
            " - %s AND created_at > clock_timestamp() - interval '1 day'",
            (channel := random.choice(self._ground.channel_ids), channel, KEPT_ENTRIES),
        )
        connection.execute(
            "UPDATE rate_limits SET touched_at = clock_timestamp() - interval '3 days'"
            " WHERE key IN (SELECT key FROM rate_limits WHERE key LIKE 'chat:%%10.0.0.%%'"
            " ORDER BY random() LIMIT 2 FOR UPDATE SKIP LOCKED)"
        )

    def _keep_house(self, connection: Connection) -> None:
        asyncio.run(self._step())

    async def _step(self) -> None:
        connection = await psycopg.AsyncConnection.connect(self._ground.conninfo, autocommit=True)
        async with connection:
            try:
                for chore, age in (
                    (Chore.LIMITS, 86_400),
                    (Chore.TICKETS, 3_600),
                    (Chore.NONCES, 60),
                    (Chore.REFRESH_TOKENS, 30),
                    (Chore.SESSIONS, 30),
                    (Chore.SECURITY_EVENTS, 90),
                ):
                    self.done["rows forgotten"] += await forget(connection, chore, age, 500)
                channel_id = 0
                while step := await forget_messages(connection, 1, channel_id, 500):
                    channel_id, forgotten = step
                    self.done["messages forgotten"] += forgotten
            except Busy:
                self.done["times another kept house"] += 1
