"""What a test's services are told beside their database, and who uses them.

Limits are wide open unless a test is about them: all tests share one address.
"""

from __future__ import annotations

import itertools
import time
import uuid
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg

from db.chat_log import NewMessage, WriteLimits, append_messages
from db.sessions import ClientInfo, SessionTerms, open_session
from db.tickets import issue_ticket
from db.users import insert_user
from rules.access_tokens import AccessTokens
from tests.support.databases import Who

JWT_SECRET = "a key for tests that is longer than thirty-two bytes"
OPERATOR, OPS_TOKEN = "olga", "an-operators-token-for-tests"
ACCESS_TOKENS = AccessTokens([JWT_SECRET.encode()], "gatehouse", "gatehouse-client", 900)
_NO_LIMIT = "1000000"
_WIDE_OPEN = WriteLimits(
    window_seconds=10,
    max_per_account=1_000_000,
    max_per_address=1_000_000,
    lockout_seconds=1,
    lockout_max_seconds=1,
)
_names = itertools.count(1)


class SomeDatabase(Protocol):
    """A migrated database, of the run's Postgres or of a test's own."""

    def environment(self, who: Who = "owner") -> dict[str, str]: ...

    def connect(self, who: Who = "owner") -> psycopg.Connection[tuple[Any, ...]]: ...


def api_environment(database: SomeDatabase, **changes: str) -> dict[str, str]:
    return {
        **database.environment("api"),
        "JWT_SECRET": JWT_SECRET,
        "OPS_API_TOKEN": f"{OPERATOR}:{OPS_TOKEN}",
        "AUTH_SCRYPT_LOG2_N": "4",
        "AUTH_REGISTRATIONS_PER_IP_PER_HOUR": _NO_LIMIT,
        "AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_IP": _NO_LIMIT,
        "AUTH_TICKETS_PER_SESSION_PER_MINUTE": _NO_LIMIT,
        "AUTH_REFRESHES_PER_SESSION_PER_MINUTE": _NO_LIMIT,
        "CHAT_WRITE_RATE_LIMIT_MAX_PER_ACCOUNT": _NO_LIMIT,
        "CHAT_WRITE_RATE_LIMIT_MAX_PER_IP": _NO_LIMIT,
        **changes,
    }


def gateway_environment(database: SomeDatabase, **changes: str) -> dict[str, str]:
    return {
        **database.environment("gateway"),
        "AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_IP": _NO_LIMIT,
        "CHAT_WRITE_RATE_LIMIT_MAX_PER_ACCOUNT": _NO_LIMIT,
        "CHAT_WRITE_RATE_LIMIT_MAX_PER_IP": _NO_LIMIT,
        "WS_MAX_CONNECTIONS_PER_ACCOUNT": "1000",
        "WS_MAX_CONNECTIONS_PER_IP": _NO_LIMIT,
        "WS_MAX_FRAMES_PER_SECOND": "1000",
        "WS_SHUTDOWN_SPREAD_SECONDS": "0",
        **changes,
    }


@dataclass(frozen=True, slots=True)
class Person:
    """A user with a live session."""

    user_id: int
    session_id: int
    name: str


class People:
    """Makes people, channels and tickets with the statements that the API makes them with."""

    def __init__(self, database: SomeDatabase) -> None:
        self._api = database.connect("api")
        self.owner = database.connect("owner")  # what the person on call has with psql

    def close(self) -> None:
        self._api.close()
        self.owner.close()

    def __enter__(self) -> People:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def person(self, name: str = "Ada", version: str | None = None) -> Person:
        with self._api.transaction():
            user = insert_user(
                self._api,
                email=f"{next(_names)}@example.org",
                password_hash="nobody logs in with it",
                display_name=name,
            )
            assert user is not None
            session = open_session(
                self._api,
                user.id,
                checked_hash=user.password_hash,
                client=ClientInfo(None, None, version, None),
                terms=SessionTerms(ttl_days=30, idle_days=14, max_per_account=20),
            )
            assert session is not None
        return Person(user.id, session.id, name)

    def ticket(
        self,
        person: Person,
        *,
        seconds: int = 60,
        request_id: str = "test-ticket",
        version: str | None = None,
    ) -> str:
        ticket, _ = issue_ticket(
            self._api,
            session_id=person.session_id,
            ttl_seconds=seconds,
            request_id=request_id,
            client_version=version,
            client_content_version=None,
        )
        return ticket

    def access_token(self, person: Person) -> str:
        return ACCESS_TOKENS.issue(
            user_id=person.user_id, session_id=person.session_id, now=time.time()
        )

    def channel(self, *members: Person) -> int:
        """A new group of these people alone."""
        channel_id: int = self.one("INSERT INTO chat_channels (kind) VALUES ('group') RETURNING id")
        for member in members:
            self.owner.execute(
                "INSERT INTO chat_members (channel_id, user_id) VALUES (%s, %s)",
                (channel_id, member.user_id),
            )
        return channel_id

    def fill(self, sender: Person, channel_id: int, count: int, content: str) -> None:
        """Stores messages as the HTTP service does."""
        messages = [
            NewMessage(
                session_id=sender.session_id,
                channel_id=channel_id,
                client_msg_id=uuid.uuid4(),
                content=content,
                request_id="test-fill",
                address=None,
            )
            for _ in range(count)
        ]
        for result in append_messages(self._api, messages, _WIDE_OPEN):
            assert result.verdict == "stored", result

    def stored(self, channel_id: int) -> list[tuple[int, str]]:
        """What a person with psql sees of a channel: (seq, content), ascending."""
        rows = self.owner.execute(
            "SELECT seq, content FROM chat_messages WHERE channel_id = %s ORDER BY seq",
            (channel_id,),
        )
        return [(seq, content) for seq, content in rows]

    def one(self, query: str, *values: object) -> Any:
        """The one value of the one row."""
        row = self.owner.execute(query, values).fetchone()
        assert row is not None
        return row[0]

    def waiting(self) -> int:
        """How many connections to this database wait for a lock."""
        count: int = self.one(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return count
