"""Sessions and refresh tokens: what lives, what a token buys, and what theft does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from db.sessions import (
    ClientInfo,
    OpenedSession,
    RefreshVerdict,
    SessionTerms,
    find_live_session,
    lock_user_if_unchanged,
    open_session,
    refresh_session,
    revoke_other_sessions,
    touch_session,
)
from db.users import User, find_user_by_email, insert_user, replace_password_hash
from tests.support.databases import Database

Connection = psycopg.Connection[tuple[Any, ...]]
NOBODY = ClientInfo(ip=None, user_agent=None, version="1.2", content_version=None)
TERMS = SessionTerms(ttl_days=30, idle_days=14, max_per_account=20)
GRACE = 60


@pytest.fixture
def api(database: Database) -> Iterator[Connection]:
    with database.connect("api") as connection:
        yield connection


@pytest.fixture
def ann(api: Connection) -> User:
    user = insert_user(api, email="Ann@Example.org", password_hash="hash 1", display_name="Ann")
    assert user is not None
    return user


def log_in(api: Connection, user: User, terms: SessionTerms = TERMS) -> OpenedSession:
    with api.transaction():
        session = open_session(
            api, user.id, checked_hash=user.password_hash, client=NOBODY, terms=terms
        )
    assert session is not None
    return session


def refresh(api: Connection, token: str) -> tuple[RefreshVerdict, str | None]:
    with api.transaction():
        refreshed = refresh_session(api, token, grace_seconds=GRACE, client=NOBODY)
    return refreshed.verdict, refreshed.refresh_token


class TestWhetherASessionLives:
    def test_a_new_session_lives(self, api: Connection, ann: User) -> None:
        live = find_live_session(api, log_in(api, ann).id)
        assert live is not None
        assert (live.user_id, live.email, live.client_version) == (ann.id, "Ann@Example.org", "1.2")

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE user_sessions SET revoked_at = now()",
            "UPDATE user_sessions SET expires_at = now()",
            "UPDATE user_sessions SET idle_expires_at = now()",
            "UPDATE user_sessions SET drain_deadline_at = now()",
            "UPDATE users SET disabled_at = now()",
            "DELETE FROM user_sessions",
            "DELETE FROM users",
        ],
    )
    def test_each_of_these_ends_it_at_once(
        self, api: Connection, ann: User, database: Database, change: str
    ) -> None:
        session = log_in(api, ann)
        with database.connect() as owner:
            owner.execute(change)
        assert find_live_session(api, session.id) is None
        assert refresh(api, session.refresh_token)[1] is None

    def test_a_deadline_that_lies_ahead_does_not_end_it(
        self, api: Connection, ann: User, database: Database
    ) -> None:
        session = log_in(api, ann)
        with database.connect() as owner:
            owner.execute("UPDATE user_sessions SET drain_deadline_at = now() + interval '1 hour'")
        assert find_live_session(api, session.id) is not None

    def test_a_touch_moves_the_idle_end_once_a_minute_at_most(
        self, api: Connection, ann: User, database: Database
    ) -> None:
        session = log_in(api, ann)
        moved = "UPDATE user_sessions SET last_seen_at = now() - interval '61 s'"
        idle_end = "SELECT idle_expires_at FROM user_sessions"
        with database.connect() as owner:
            before = owner.execute(idle_end).fetchone()
            touch_session(api, session.id, 28)
            assert owner.execute(idle_end).fetchone() == before
            owner.execute(moved)
            touch_session(api, session.id, 28)
            assert owner.execute(idle_end).fetchone() != before

    def test_a_touch_does_not_wait_for_somebody_who_holds_the_session(
        self, api: Connection, ann: User, database: Database
    ) -> None:
        session = log_in(api, ann)
        api.execute("SET statement_timeout = '5s'")
        with database.connect() as owner:
            owner.execute("UPDATE user_sessions SET last_seen_at = now() - interval '61 s'")
            with owner.transaction():
                owner.execute("SELECT FROM user_sessions FOR UPDATE")
                touch_session(api, session.id, 28)


class TestOpening:
    def test_a_hash_that_was_replaced_meanwhile_opens_nothing(
        self, api: Connection, ann: User
    ) -> None:
        replace_password_hash(api, ann.id, checked_hash="hash 1", new_hash="hash 2")
        assert open_session(api, ann.id, checked_hash="hash 1", client=NOBODY, terms=TERMS) is None

    def test_no_login_in_flight_survives_a_change_of_password(
        self, api: Connection, ann: User, database: Database
    ) -> None:
        changed = threading.Event()

        def log_in_late() -> OpenedSession | None:
            with database.connect("api") as late, late.transaction():
                changed.wait()
                return open_session(late, ann.id, checked_hash="hash 1", client=NOBODY, terms=TERMS)

        with ThreadPoolExecutor(1) as threads, api.transaction():
            assert lock_user_if_unchanged(api, ann.id, "hash 1")
            login = threads.submit(log_in_late)
            replace_password_hash(api, ann.id, checked_hash="hash 1", new_hash="hash 2")
            revoke_other_sessions(api, ann.id, except_session_id=0, reason="password_changed")
            changed.set()  # it now waits for our lock, and must see what we commit
            with database.connect() as owner:
                waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                while owner.execute(waiting).fetchone() == (0,):
                    assert not login.done()
            api.execute("SELECT 1")
        assert login.result() is None

    def test_a_disabled_user_opens_nothing(
        self, api: Connection, ann: User, database: Database
    ) -> None:
        with database.connect() as owner:
            owner.execute("UPDATE users SET disabled_at = now()")
        assert open_session(api, ann.id, checked_hash="hash 1", client=NOBODY, terms=TERMS) is None

    def test_the_oldest_sessions_make_room(self, api: Connection, ann: User) -> None:
        terms = SessionTerms(ttl_days=30, idle_days=14, max_per_account=3)
        sessions = [log_in(api, ann, terms) for _ in range(5)]
        alive = [find_live_session(api, session.id) is not None for session in sessions]
        assert alive == [False, False, True, True, True]

    def test_one_address_is_one_account_however_it_is_written(
        self, api: Connection, ann: User
    ) -> None:
        for email in ("ann@example.org", "ANN@EXAMPLE.ORG", "\uff21nn@example.org"):
            assert insert_user(api, email=email, password_hash="x", display_name="B") is None
            found = find_user_by_email(api, email)
            assert found is not None
            assert found.id == ann.id


class TestRefreshing:
    def test_a_token_buys_its_successor(self, api: Connection, ann: User) -> None:
        first = log_in(api, ann).refresh_token
        verdict, second = refresh(api, first)
        assert verdict is RefreshVerdict.RENEWED
        assert second is not None
        assert second != first
        assert refresh(api, second)[0] is RefreshVerdict.RENEWED

    def test_whoever_lost_the_answer_gets_the_same_one_again(
        self, api: Connection, ann: User
    ) -> None:
        first = log_in(api, ann).refresh_token
        answers = {refresh(api, first)[1] for _ in range(3)}
        assert len(answers) == 1

    def test_twenty_at_once_get_one_successor(
        self, api: Connection, ann: User, database: Database
    ) -> None:
        first = log_in(api, ann).refresh_token
        gate = threading.Barrier(20)

        def ask(_: int) -> tuple[RefreshVerdict, str | None]:
            with database.connect("api") as connection:
                gate.wait()
                return refresh(connection, first)

        with ThreadPoolExecutor(20) as threads:
            answers = set(threads.map(ask, range(20)))
        assert len(answers) == 1
        assert api.execute("SELECT count(*) FROM refresh_tokens").fetchone() == (2,)

    def test_a_spent_token_whose_successor_was_used_is_theft(
        self, api: Connection, ann: User
    ) -> None:
        session = log_in(api, ann)
        _, second = refresh(api, session.refresh_token)
        assert second is not None
        _, third = refresh(api, second)
        assert third is not None
        assert refresh(api, session.refresh_token) == (RefreshVerdict.REUSED, None)
        assert find_live_session(api, session.id) is None
        assert refresh(api, third) == (RefreshVerdict.ENDED, None)

    def test_after_the_grace_a_repeat_is_theft(
        self, api: Connection, ann: User, database: Database
    ) -> None:
        session = log_in(api, ann)
        refresh(api, session.refresh_token)
        with database.connect() as owner:
            owner.execute("UPDATE refresh_tokens SET spent_at = spent_at - interval '61 s'")
        assert refresh(api, session.refresh_token) == (RefreshVerdict.REUSED, None)
        assert find_live_session(api, session.id) is None

    def test_without_its_nonce_a_repeat_is_theft(
        self, api: Connection, ann: User, database: Database
    ) -> None:
        session = log_in(api, ann)
        refresh(api, session.refresh_token)
        with database.connect() as owner:
            owner.execute("UPDATE refresh_tokens SET successor_nonce = NULL")
        assert refresh(api, session.refresh_token) == (RefreshVerdict.REUSED, None)

    def test_a_token_that_nobody_issued_is_unknown(self, api: Connection) -> None:
        assert refresh(api, "A" * 43) == (RefreshVerdict.UNKNOWN, None)

    def test_only_hashes_are_stored(self, api: Connection, ann: User, database: Database) -> None:
        session = log_in(api, ann)
        _, second = refresh(api, session.refresh_token)
        with database.connect() as owner:
            stored = str(owner.execute("SELECT * FROM refresh_tokens").fetchall())
        assert session.refresh_token not in stored
        assert second is not None
        assert second not in stored
