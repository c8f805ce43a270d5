"""How sessions end, who is told why, and what a race cannot save."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import pytest

from db import notifications
from db.operators import Operator, UserAct, act_on_user
from db.sessions import (
    ClientInfo,
    EndedSession,
    OpenedSession,
    RefreshVerdict,
    SessionTerms,
    find_live_session,
    list_ended_sessions,
    list_live_sessions,
    lock_user_if_unchanged,
    open_session,
    refresh_session,
    revoke_other_sessions,
    revoke_session,
    revoke_session_of_user,
    touch_sessions,
)
from db.users import User, find_user, insert_user, replace_password_hash
from tests.support.databases import Database, Who
from tests.support.processes import wait_until
from tests.support.rows_read import fill_house

Connection = psycopg.Connection[tuple[Any, ...]]
NOBODY = ClientInfo(ip=None, user_agent=None, version=None, content_version=None)
TERMS = SessionTerms(ttl_days=30, idle_days=14, max_per_account=20)


@dataclass(frozen=True, slots=True)
class Ending:
    change: str
    cause: str
    reason: str | None = None


ENDINGS = [
    Ending(
        "UPDATE user_sessions SET revoked_at = now(), revoked_reason = 'logout'",
        "revoked",
        "logout",
    ),
    Ending("UPDATE user_sessions SET revoked_at = now()", "revoked"),
    Ending("DELETE FROM user_sessions", "revoked"),
    Ending("DELETE FROM users", "revoked"),
    Ending("UPDATE users SET disabled_at = now()", "disabled"),
    Ending("UPDATE user_sessions SET drain_deadline_at = now()", "drained"),
    Ending("UPDATE user_sessions SET expires_at = now()", "expired"),
    Ending("UPDATE user_sessions SET idle_expires_at = now()", "expired"),
    # Of several reasons the one that a person must know comes first.
    Ending(
        "UPDATE user_sessions"
        " SET revoked_at = now(), drain_deadline_at = now(), expires_at = now()",
        "revoked",
    ),
]


@pytest.fixture
def api(database: Database) -> Iterator[Connection]:
    with database.connect("api") as connection:
        yield connection


@pytest.fixture
def owner(database: Database) -> Iterator[Connection]:
    with database.connect() as connection:
        yield connection


def new_user(api: Connection, name: str) -> User:
    user = insert_user(api, email=f"{name}@example.org", password_hash="hash 1", display_name=name)
    assert user is not None
    return user


@pytest.fixture
def ann(api: Connection) -> User:
    return new_user(api, "Ann")


def log_in(api: Connection, user: User, checked_hash: str = "hash 1") -> OpenedSession | None:
    with api.transaction():
        return open_session(api, user.id, checked_hash=checked_hash, client=NOBODY, terms=TERMS)


def opened(api: Connection, user: User) -> OpenedSession:
    session = log_in(api, user)
    assert session is not None
    return session


def ended(database: Database, session_ids: Collection[int]) -> list[EndedSession]:
    """As a gateway asks."""

    async def ask() -> list[EndedSession]:
        async with await psycopg.AsyncConnection.connect(
            database.conninfo("gateway"), autocommit=True
        ) as gateway:
            return await list_ended_sessions(gateway, session_ids)

    return asyncio.run(ask())


class TestWhatAGatewayIsTold:
    def test_a_live_session_has_not_ended(
        self, api: Connection, ann: User, database: Database
    ) -> None:
        assert ended(database, [opened(api, ann).id]) == []

    @pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.change)
    def test_the_cause_of_an_end(
        self, api: Connection, ann: User, owner: Connection, database: Database, ending: Ending
    ) -> None:
        session = opened(api, ann)
        owner.execute(ending.change)
        [end] = ended(database, [session.id])
        assert (end.session_id, end.cause) == (session.id, ending.cause)
        assert end.revoked_reason == ending.reason

    def test_only_those_that_were_asked_for_are_named(
        self, api: Connection, ann: User, owner: Connection, database: Database
    ) -> None:
        first, second, third = (opened(api, ann).id for _ in range(3))
        owner.execute("UPDATE user_sessions SET revoked_at = now() WHERE id <> %s", (second,))
        assert [one.session_id for one in ended(database, [first, second])] == [first]
        assert ended(database, []) == []
        assert third not in [one.session_id for one in ended(database, [first])]


class TestNotices:
    def heard(self, database: Database, owner: Connection, *statements: str) -> list[object]:
        """What a gateway that listens makes of what the statements notify of."""

        async def listen() -> list[object]:
            async with await psycopg.AsyncConnection.connect(
                database.conninfo("gateway"), autocommit=True
            ) as gateway:
                await notifications.listen(gateway)
                for statement in statements:
                    await asyncio.to_thread(owner.execute, statement)
                await asyncio.to_thread(owner.execute, "NOTIFY gatehouse_sessions, '0'")
                notices: list[object] = []
                while notices[-1:] != [notifications.SessionsChanged(frozenset({0}))]:
                    async for notice in notifications.receive(gateway, 0.05):
                        notices.append(notice)
                return notices[:-1]

        return asyncio.run(listen())

    @pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.change)
    def test_whatever_ends_a_session_names_it(
        self, api: Connection, ann: User, owner: Connection, database: Database, ending: Ending
    ) -> None:
        session = opened(api, ann)
        assert self.heard(database, owner, ending.change) == [
            notifications.SessionsChanged(frozenset({session.id}))
        ]

    def test_a_change_of_mind_is_worth_another_look_too(
        self, api: Connection, ann: User, owner: Connection, database: Database
    ) -> None:
        session = opened(api, ann)
        owner.execute("UPDATE users SET disabled_at = now()")
        notice = notifications.SessionsChanged(frozenset({session.id}))
        assert self.heard(database, owner, "UPDATE users SET disabled_at = NULL") == [notice]

    def test_what_does_not_decide_about_a_session_wakes_nobody(
        self, api: Connection, ann: User, owner: Connection, database: Database
    ) -> None:
        opened(api, ann)
        quiet = (
            "UPDATE user_sessions SET last_seen_at = now(), idle_expires_at = 'infinity'",
            "UPDATE user_sessions SET client_version = '9'",
            "UPDATE user_sessions SET revoked_at = revoked_at",
            "UPDATE users SET display_name = 'x', password_hash = 'y', muted_until = now()",
            "DELETE FROM user_sessions WHERE false",
        )
        assert self.heard(database, owner, *quiet) == []

    @pytest.mark.parametrize(
        ("channel", "payload", "notice"),
        [
            ("gatehouse_sessions", "3 4", notifications.SessionsChanged(frozenset({3, 4}))),
            ("gatehouse_sessions", "*", notifications.SessionsChanged(None)),
            ("gatehouse_sessions", "3 x", notifications.SessionsChanged(None)),
            ("gatehouse_replaced", "7", notifications.ConnectionsReplaced(frozenset({7}))),
            ("gatehouse_replaced", "*", notifications.ConnectionsReplaced(None)),
        ],
    )
    def test_what_cannot_be_read_means_look_at_everything(
        self,
        database: Database,
        owner: Connection,
        channel: str,
        payload: str,
        notice: notifications.Notice,
    ) -> None:
        statement = f"SELECT pg_notify('{channel}', '{payload}')"
        assert self.heard(database, owner, statement) == [notice]

    @pytest.mark.parametrize(
        ("payload", "last_seqs"),
        [("1:5 2:7", {1: 5, 2: 7}), ("*", None), ("1:5 2", None), ("1:x", None), ("1:2:3", None)],
    )
    def test_a_channel_that_has_grown(
        self,
        database: Database,
        owner: Connection,
        payload: str,
        last_seqs: dict[int, int] | None,
    ) -> None:
        [notice] = self.heard(database, owner, f"SELECT pg_notify('gatehouse_log', '{payload}')")
        assert isinstance(notice, notifications.LogGrown)
        assert notice.last_seqs == last_seqs
        assert notice.backend_pid == owner.info.backend_pid


class TestEnding:
    def test_one_ends_ones_own_session_once(self, api: Connection, ann: User) -> None:
        session = opened(api, ann)
        assert revoke_session(api, session.id, "logout")
        assert not revoke_session(api, session.id, "again")
        assert find_live_session(api, session.id) is None

    def test_the_first_reason_stays(self, api: Connection, ann: User, database: Database) -> None:
        session = opened(api, ann)
        revoke_session(api, session.id, "refresh_token_reused")
        revoke_session(api, session.id, "logout")
        revoke_other_sessions(api, ann.id, except_session_id=0, reason="password_changed")
        [one] = ended(database, [session.id])
        assert one.revoked_reason == "refresh_token_reused"

    def test_nobody_ends_anothers_session(self, api: Connection, ann: User) -> None:
        bob = new_user(api, "Bob")
        session = opened(api, ann)
        assert not revoke_session_of_user(api, session.id, bob.id)
        assert find_live_session(api, session.id) is not None
        assert revoke_session_of_user(api, session.id, ann.id)
        assert not revoke_session_of_user(api, session.id, ann.id)

    def test_all_others_of_the_user_and_nobody_elses(self, api: Connection, ann: User) -> None:
        bob = new_user(api, "Bob")
        mine = [opened(api, ann).id for _ in range(3)]
        his = opened(api, bob).id
        assert (
            revoke_other_sessions(api, ann.id, except_session_id=mine[1], reason="ended_by_user")
            == 2
        )
        assert [one.session_id for one in list_live_sessions(api, ann.id)] == [mine[1]]
        assert find_live_session(api, his) is not None

    def test_live_sessions_come_newest_first(self, api: Connection, ann: User) -> None:
        ids = [opened(api, ann).id for _ in range(3)]
        revoke_session(api, ids[1], "logout")
        assert [one.session_id for one in list_live_sessions(api, ann.id)] == [ids[2], ids[0]]

    def test_the_end_of_sessions_in_the_ways_of_two_people_is_no_deadlock(
        self, api: Connection, ann: User, database: Database
    ) -> None:
        for _ in range(10):
            opened(api, ann)
        gate = threading.Barrier(4)

        def end(number: int) -> int:
            with database.connect("api") as connection:
                gate.wait()
                return revoke_other_sessions(
                    connection, ann.id, except_session_id=number, reason="x"
                )

        with ThreadPoolExecutor(4) as threads:
            assert sum(threads.map(end, range(4))) == 10


@pytest.mark.parametrize(
    ("who", "change"),
    [
        ("api", "UPDATE user_sessions SET revoked_at = now()"),
        ("owner", "UPDATE users SET disabled_at = now()"),
        ("owner", "UPDATE users SET is_admin = true"),
    ],
)
def test_what_was_done_to_one_before_is_done_to_twenty_thousand_in_time(
    database: Database, owner: Connection, who: Who, change: str
) -> None:
    fill_house(owner, people=20_000)
    first = owner.execute("SELECT min(id) FROM users").fetchone()
    with database.connect(who) as used:
        # Twice the services' own; for each of them by itself it would take a multiple of that.
        used.execute("SET statement_timeout = '10s'")
        assert used.execute(f"{change} WHERE id = %s", first).rowcount == 1
        assert used.execute(f"{change} WHERE id <> %s", first).rowcount == 19_999


def enable(connection: Connection, user: User) -> None:
    act_on_user(connection, Operator("olga", None), UserAct.ENABLE, user.id, "a mistake")


def make_room(connection: Connection, user: User) -> None:
    terms = SessionTerms(ttl_days=30, idle_days=14, max_per_account=1)
    with connection.transaction():
        open_session(connection, user.id, checked_hash="hash 1", client=NOBODY, terms=terms)


def end_others(connection: Connection, user: User) -> None:
    revoke_other_sessions(connection, user.id, except_session_id=0, reason="ended_by_user")


@pytest.mark.parametrize("act", [enable, make_room, end_others])
def test_a_change_of_several_sessions_locks_them_in_id_order(
    database: Database, api: Connection, owner: Connection, ann: User, act: Any
) -> None:
    first, *others = sorted(opened(api, ann).id for _ in range(5))
    if act is enable:
        owner.execute("UPDATE users SET disabled_at = now() WHERE id = %s", [ann.id])
    # Moved to the end of the table and of its indexes, so that a scan finds it last.
    owner.execute(
        "UPDATE user_sessions SET expires_at = expires_at + interval '1 s' WHERE id = %s", [first]
    )
    with ThreadPoolExecutor(1) as threads, database.connect("api") as busy:
        for way in ("indexscan", "bitmapscan", "nestloop", "mergejoin"):
            busy.execute(f"SET enable_{way} = off")  # so that nothing is in order by chance
        with owner.transaction():
            owner.execute("SELECT FROM user_sessions WHERE id = %s FOR UPDATE", [first])
            acting = threads.submit(act, busy, ann)
            wait_until(lambda: is_waiting(api, busy), "the change to wait for the first session")
            free = owner.execute(
                "SELECT id FROM user_sessions WHERE id = ANY (%s)"
                " ORDER BY id FOR UPDATE SKIP LOCKED",
                [others],
            ).fetchall()
        acting.result()
    assert [session_id for (session_id,) in free] == others
    assert not {first, *others} & {one.session_id for one in list_live_sessions(api, ann.id)}


def is_waiting(looking: Connection, connection: Connection) -> bool:
    """Whether the other connection waits for a lock."""
    row = looking.execute(
        "SELECT cardinality(pg_blocking_pids(%s)) > 0", [connection.info.backend_pid]
    ).fetchone()
    assert row is not None
    return bool(row[0])


def idle_ends(owner: Connection) -> dict[int, datetime]:
    rows = owner.execute("SELECT id, idle_expires_at FROM user_sessions").fetchall()
    return dict(rows)


class TestTouching:
    def test_live_sockets_keep_their_sessions_from_going_idle(
        self, api: Connection, ann: User, owner: Connection, database: Database
    ) -> None:
        alive, dead, busy = (opened(api, ann).id for _ in range(3))
        owner.execute("UPDATE user_sessions SET last_seen_at = now() - interval '61 s'")
        revoke_session(api, dead, "logout")
        before = idle_ends(owner)

        async def touch() -> None:
            async with await psycopg.AsyncConnection.connect(
                database.conninfo("gateway"), autocommit=True
            ) as gateway:
                await gateway.execute("SET lock_timeout = '1s'")  # the gateway's own
                await touch_sessions(gateway, [alive, dead, busy], 28)

        # Somebody holds one of the rows: it is left for the next time, nobody waits.
        with owner.transaction():
            owner.execute("SELECT FROM user_sessions WHERE id = %s FOR UPDATE", (busy,))
            asyncio.run(touch())
        after = idle_ends(owner)
        assert [after[one] > before[one] for one in (alive, dead, busy)] == [True, False, False]


class TestRaces:
    def test_of_logins_that_race_with_a_change_of_password_no_session_survives(
        self, api: Connection, ann: User, database: Database
    ) -> None:
        gate = threading.Barrier(9)

        def log_in_with_the_old_hash(_: int) -> OpenedSession | None:
            with database.connect("api") as connection:
                gate.wait()
                return log_in(connection, ann)

        def change_password() -> None:
            with database.connect("api") as connection:
                gate.wait()
                with connection.transaction():
                    assert lock_user_if_unchanged(connection, ann.id, "hash 1")
                    assert replace_password_hash(
                        connection, ann.id, checked_hash="hash 1", new_hash="hash 2"
                    )
                    revoke_other_sessions(connection, ann.id, except_session_id=0, reason="x")

        with ThreadPoolExecutor(9) as threads:
            changing = threads.submit(change_password)
            logins = list(threads.map(log_in_with_the_old_hash, range(8)))
            changing.result()
        assert list_live_sessions(api, ann.id) == []
        assert log_in(api, ann) is None
        assert log_in(api, ann, "hash 2") is not None
        assert len(logins) == 8

    def test_of_two_changes_of_a_password_one_wins(
        self, api: Connection, ann: User, database: Database
    ) -> None:
        gate = threading.Barrier(4)

        def change(number: int) -> bool:
            with database.connect("api") as connection:
                gate.wait()
                return replace_password_hash(
                    connection, ann.id, checked_hash="hash 1", new_hash=f"new {number}"
                )

        with ThreadPoolExecutor(4) as threads:
            won = list(threads.map(change, range(4)))
        assert won.count(True) == 1
        found = find_user(api, ann.id)
        assert found is not None
        assert found.password_hash == f"new {won.index(True)}"

    def test_of_many_logins_at_once_no_more_than_the_limit_stay(
        self, api: Connection, ann: User, database: Database
    ) -> None:
        terms = SessionTerms(ttl_days=30, idle_days=14, max_per_account=3)
        gate = threading.Barrier(8)

        def log_in_once(_: int) -> None:
            with database.connect("api") as connection:
                gate.wait()
                with connection.transaction():
                    open_session(
                        connection, ann.id, checked_hash="hash 1", client=NOBODY, terms=terms
                    )

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(log_in_once, range(8)))
        assert len(list_live_sessions(api, ann.id)) == 3

    def test_of_many_registrations_of_one_address_one_is_made(
        self, api: Connection, database: Database
    ) -> None:
        gate = threading.Barrier(8)

        def register(number: int) -> User | None:
            with database.connect("api") as connection:
                gate.wait()
                email = "Ann@example.org" if number % 2 else "ann@EXAMPLE.org"
                return insert_user(
                    connection, email=email, password_hash="x", display_name=str(number)
                )

        with ThreadPoolExecutor(8) as threads:
            made = [user for user in threads.map(register, range(8)) if user is not None]
        assert len(made) == 1

    def test_two_instances_within_the_grace_answer_with_the_same_successor(
        self, api: Connection, ann: User, database: Database
    ) -> None:
        token = opened(api, ann).refresh_token
        answers = []
        for _ in range(2):
            with database.connect("api") as instance, instance.transaction():
                answers.append(refresh_session(instance, token, grace_seconds=60, client=NOBODY))
        assert [one.verdict for one in answers] == [RefreshVerdict.RENEWED] * 2
        assert answers[0].refresh_token == answers[1].refresh_token

    def test_theft_is_remembered_although_the_thief_gets_an_error(
        self, api: Connection, ann: User, database: Database
    ) -> None:
        session = opened(api, ann)
        with api.transaction():
            second = refresh_session(
                api, session.refresh_token, grace_seconds=60, client=NOBODY
            ).refresh_token
        assert second is not None
        with api.transaction():
            refresh_session(api, second, grace_seconds=60, client=NOBODY)
        with database.connect("api") as thief, thief.transaction():
            stolen = refresh_session(thief, session.refresh_token, grace_seconds=60, client=NOBODY)
        assert (stolen.verdict, stolen.refresh_token) == (RefreshVerdict.REUSED, None)
        assert stolen.session is not None  # for the security event
        assert stolen.session.user_id == ann.id
        [one] = ended(database, [session.id])
        assert (one.cause, one.revoked_reason) == ("revoked", "refresh_token_reused")

    def test_without_any_grace_a_second_use_is_theft_at_once(
        self, api: Connection, ann: User
    ) -> None:
        token = opened(api, ann).refresh_token
        verdicts = []
        for _ in range(2):
            with api.transaction():
                verdicts.append(refresh_session(api, token, grace_seconds=0, client=NOBODY).verdict)
        assert verdicts == [RefreshVerdict.RENEWED, RefreshVerdict.REUSED]

    def test_a_refresh_notes_what_the_client_says_of_itself(
        self, api: Connection, ann: User
    ) -> None:
        session = opened(api, ann)
        updated = ClientInfo(ip=None, user_agent=None, version="2.0", content_version="7")
        with api.transaction():
            refresh_session(api, session.refresh_token, grace_seconds=60, client=updated)
        live = find_live_session(api, session.id)
        assert live is not None
        assert (live.client_version, live.client_content_version) == ("2.0", "7")

    def test_what_a_refresh_does_not_name_stays_as_it_was_said(
        self, api: Connection, ann: User
    ) -> None:
        session = opened(api, ann)
        token = session.refresh_token
        for version, content_version, kept in (
            ("2.0", "7", ("2.0", "7")),
            (None, "8", ("2.0", "8")),
            ("2.1", None, ("2.1", "8")),
            (None, None, ("2.1", "8")),
        ):
            client = ClientInfo(None, None, version, content_version)
            with api.transaction():
                refreshed = refresh_session(api, token, grace_seconds=60, client=client)
            assert refreshed.refresh_token is not None
            token = refreshed.refresh_token
            live = find_live_session(api, session.id)
            assert live is not None
            assert (live.client_version, live.client_content_version) == kept
