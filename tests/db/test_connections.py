"""Pools: bounded waiting, passwords that rotate, and recovery from a server that went away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from psycopg_pool import PoolTimeout, TooManyRequests

from db.connections import (
    CONFLICTED,
    LOCKED_RETRIES,
    RETRIES,
    UNAVAILABLE,
    SyncPool,
    connect,
    connect_async,
    in_transaction,
    open_async_pool,
    open_pool,
    parameters,
    probe,
    probe_async,
)
from rules.settings import DatabaseSettings, load
from scripts.embedded_postgres import EmbeddedPostgres
from tests.support.databases import Database
from tests.support.ports import free_port
from tests.support.processes import wait_until
from tests.support.services import People

WRONG = "not the password"


def settings_of(environment: dict[str, str], **changes: str) -> DatabaseSettings:
    return load({"APP_ENV": "test", **environment, **changes}, "migrate").database


def password_of(environment: dict[str, str]) -> str:
    return environment["DB_PASSWORD"]


@contextmanager
def pool_on(
    environment: dict[str, str], *, passwords: tuple[str, ...] = (), size: int = 2, **changes: str
) -> Iterator[SyncPool]:
    known = passwords or (password_of(environment),)
    pool = open_pool(settings_of(environment, **changes), known, "test-pool", size)
    try:
        yield pool
    finally:
        pool.close()


def answer(pool: SyncPool, query: str) -> Any:
    with pool.connection() as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def works(pool: SyncPool) -> bool:
    try:
        with pool.connection() as connection:
            probe(connection)
    except UNAVAILABLE:
        return False
    return True


@pytest.fixture
def environment(database: Database) -> dict[str, str]:
    return database.environment("api")


class TestAConnection:
    def test_it_is_in_autocommit_in_utc_and_every_wait_has_an_end(
        self, environment: dict[str, str]
    ) -> None:
        with pool_on(environment, DB_STATEMENT_TIMEOUT_MS="1500") as pool:
            with pool.connection() as connection:
                assert connection.autocommit
            shown = {
                name: answer(pool, f"SHOW {name}")
                for name in ("statement_timeout", "lock_timeout", "timezone", "application_name")
            }
        assert shown == {
            "statement_timeout": "1500ms",
            "lock_timeout": "1s",
            "timezone": "UTC",
            "application_name": "test-pool",
        }

    def test_no_function_waits_longer_for_a_lock_than_its_connection(
        self, environment: dict[str, str]
    ) -> None:
        with pool_on(environment) as pool:
            settings = "array_to_string(proconfig, ' ') LIKE '%lock_timeout%'"
            assert answer(pool, f"SELECT count(*) FROM pg_proc WHERE {settings}") == 0

    def test_a_statement_that_takes_too_long_is_cut_and_counts_as_unavailable(
        self, environment: dict[str, str]
    ) -> None:
        with pool_on(environment, DB_STATEMENT_TIMEOUT_MS="100") as pool:
            with pytest.raises(psycopg.errors.QueryCanceled) as caught:
                answer(pool, "SELECT pg_sleep(60)")
            assert isinstance(caught.value, UNAVAILABLE)
            assert works(pool)

    def test_a_standby_that_has_not_been_promoted_counts_as_unavailable(
        self, environment: dict[str, str]
    ) -> None:
        with pool_on(environment) as pool, pool.connection() as connection:
            connection.execute("SET default_transaction_read_only = on")
            with pytest.raises(UNAVAILABLE):
                connection.execute("UPDATE users SET display_name = 'x'")

    def test_a_lock_that_is_not_to_be_had_counts_as_a_conflict(
        self, environment: dict[str, str], database: Database
    ) -> None:
        with (
            pool_on(environment) as pool,
            database.connect() as owner,
            owner.transaction(),
            pool.connection() as connection,
        ):
            owner.execute("LOCK TABLE users")
            with pytest.raises(CONFLICTED):
                connection.execute("UPDATE users SET display_name = 'x'")


class TestAFullPool:
    def test_waiting_ends_after_the_pool_timeout(self, environment: dict[str, str]) -> None:
        with (
            pool_on(environment, size=1, DB_POOL_TIMEOUT_MS="50") as pool,
            pool.connection(),
            pytest.raises(PoolTimeout) as caught,
        ):
            answer(pool, "SELECT 1")
        assert isinstance(caught.value, UNAVAILABLE)

    def test_more_than_so_many_do_not_even_wait(self, environment: dict[str, str]) -> None:
        async def scenario() -> None:
            pool = await open_async_pool(
                settings_of(environment), [password_of(environment)], "test-pool", 1
            )

            async def ask() -> type[BaseException] | None:
                try:
                    async with pool.connection() as connection:
                        await probe_async(connection)
                except UNAVAILABLE as error:
                    return type(error)
                return None

            async with pool:
                async with pool.connection():
                    asking = [asyncio.create_task(ask()) for _ in range(105)]
                    done, waiting = await asyncio.wait(
                        asking, timeout=60, return_when=asyncio.FIRST_COMPLETED
                    )
                    refused = [task for task in done if task.result() is TooManyRequests]
                    assert refused
                    assert len(waiting) <= 100
                answers = await asyncio.gather(*asking)
            assert answers.count(TooManyRequests) == 5
            assert answers.count(None) == 100

        asyncio.run(scenario())


class TestPasswords:
    @pytest.mark.parametrize("place", ["first", "last", "in between"])
    def test_the_next_one_is_tried_when_the_server_refuses_one(
        self, environment: dict[str, str], place: str
    ) -> None:
        right = password_of(environment)
        passwords = {
            "first": (right, WRONG),
            "last": (WRONG, right),
            "in between": (WRONG, right, "another"),
        }[place]
        with pool_on(environment, passwords=passwords) as pool:
            assert answer(pool, "SELECT current_user") == "gatehouse_api"

        async def listen() -> str:
            async with await connect_async(settings_of(environment), passwords, "test") as one:
                return one.info.user

        assert asyncio.run(listen()) == "gatehouse_api"

    def test_a_rotation_is_survived_without_a_restart(self, database: Database) -> None:
        role = f"role_of_{database.name}"
        with psycopg.connect(database.cluster.conninfo("postgres"), autocommit=True) as postgres:
            postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'old password'")
            try:
                environment = {**database.environment("owner"), "DB_USER": role}
                passwords = ("old password", "new password")
                with pool_on(environment, passwords=passwords) as pool:
                    assert answer(pool, "SELECT current_user") == role
                    postgres.execute(f"ALTER ROLE {role} PASSWORD 'new password'")
                    hang_up(postgres, role)
                    wait_until(lambda: works(pool), "the pool connects with the new password")
            finally:
                hang_up(postgres, role)
                postgres.execute(f"DROP ROLE {role}")

    def test_when_none_is_right_no_message_holds_one(self, environment: dict[str, str]) -> None:
        with pytest.raises(psycopg.OperationalError) as caught:
            connect(settings_of(environment), [WRONG, "another"], "test").close()
        assert WRONG not in str(caught.value)
        assert isinstance(caught.value, UNAVAILABLE)

    def test_they_stand_in_nothing_that_is_printed(self, environment: dict[str, str]) -> None:
        password = password_of(environment)
        assert password not in repr(parameters(settings_of(environment), "test"))
        with pool_on(environment) as pool, pool.connection() as connection:
            assert password not in f"{pool!r}{pool.kwargs!r}{connection!r}{connection.info.dsn}"

    def test_a_server_that_is_not_there_is_not_asked_for_each_password(
        self, environment: dict[str, str]
    ) -> None:
        nowhere = settings_of(environment, DB_PORT=str(free_port()))
        with pytest.raises(psycopg.OperationalError, match="refused"):
            connect(nowhere, ["one", "two", "three"], "test").close()


class TestAServerThatGoesAway:
    def test_connections_that_were_cut_are_replaced_before_they_are_lent(
        self, database: Database
    ) -> None:
        with pool_on(database.environment("owner")) as pool, database.connect() as owner:
            assert works(pool)
            for _ in range(3):
                cut = owner.execute(_CUT_THE_POOL).fetchall()
                assert cut
                assert all(gone for (gone,) in cut)
                assert works(pool)

    def test_both_pools_come_back_by_themselves(self, own_postgres: EmbeddedPostgres) -> None:
        own_postgres.start()
        environment = own_postgres.environment()
        settings = settings_of(environment, DB_POOL_TIMEOUT_MS="200")
        passwords = [password_of(environment)]

        async def scenario() -> None:
            pool = await open_async_pool(settings, passwords, "test-pool", 2)

            async def answers() -> bool:
                try:
                    async with pool.connection() as connection:
                        await probe_async(connection)
                except UNAVAILABLE:
                    return False
                return True

            async with pool:
                assert await answers()
                own_postgres.kill()
                assert not await answers()
                own_postgres.start()
                async with asyncio.timeout(30):
                    while not await answers():
                        pass

        with pool_on(environment, DB_POOL_TIMEOUT_MS="200") as pool:
            assert works(pool)
            asyncio.run(scenario())
            wait_until(lambda: works(pool), "the pool works again", 30)
            own_postgres.stop()
            assert not works(pool)
            own_postgres.start()
            wait_until(lambda: works(pool), "the pool works again", 30)

    def test_a_pool_that_cannot_be_opened_says_so_in_time_and_leaves_nothing_behind(
        self, environment: dict[str, str]
    ) -> None:
        nowhere = settings_of(environment, DB_PORT=str(free_port()), DB_CONNECT_TIMEOUT="2")

        async def scenario() -> None:
            outcomes = await asyncio.gather(
                asyncio.to_thread(open_pool, nowhere, ["x"], "test", 1),
                open_async_pool(nowhere, ["x"], "test", 1),
                return_exceptions=True,
            )
            assert [type(outcome) for outcome in outcomes] == [PoolTimeout] * 2

        asyncio.run(scenario())


class TestTransactions:
    @pytest.fixture
    def pool(self, environment: dict[str, str]) -> Iterator[SyncPool]:
        with pool_on(environment) as opened:
            yield opened

    @pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
    def test_a_conflict_is_tried_again_from_the_beginning(
        self, pool: SyncPool, sqlstate: str, database: Database
    ) -> None:
        tries: list[int] = []

        def work(connection: Connection) -> str:
            tries.append(connection.execute(_NEW_USER, (f"{len(tries)}@example.org",)).rowcount)
            if len(tries) < RETRIES:
                connection.execute(f"DO $$ BEGIN RAISE SQLSTATE '{sqlstate}'; END $$")
            return "done"

        assert in_transaction(pool, work) == "done"
        assert len(tries) == RETRIES
        with database.connect() as owner:
            emails = owner.execute("SELECT email FROM users").fetchall()
        assert emails == [(f"{RETRIES - 1}@example.org",)]

    @pytest.mark.parametrize(
        ("sqlstate", "most"), [("40001", RETRIES), ("40P01", RETRIES), ("55P03", LOCKED_RETRIES)]
    )
    def test_a_conflict_that_stays_is_raised_in_the_end(
        self, pool: SyncPool, sqlstate: str, most: int
    ) -> None:
        tries = []

        def work(connection: Connection) -> None:
            tries.append(1)
            connection.execute(f"DO $$ BEGIN RAISE SQLSTATE '{sqlstate}'; END $$")

        with pytest.raises(CONFLICTED):
            in_transaction(pool, work)
        assert len(tries) == most

    def test_a_deadlock_ends_well_for_both(self, pool: SyncPool, database: Database) -> None:
        both_hold_one = threading.Barrier(2)
        tries: list[int] = []

        def work(connection: Connection, mine: int, other: int) -> None:
            tries.append(mine)
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (mine,))
            if tries.count(mine) == 1:
                both_hold_one.wait(10)
                if mine == 2:  # which therefore waits for a moment longer
                    wait_until(lambda: people.waiting() == 1, "the first one waits")
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (other,))

        with People(database) as people, ThreadPoolExecutor(2) as threads:
            ends = [
                threads.submit(in_transaction, pool, partial(work, mine=mine, other=other))
                for mine, other in ((1, 2), (2, 1))
            ]
            for end in ends:
                end.result()
        assert sorted(tries) == [1, 1, 2]

    def test_any_other_error_ends_it_at_once_and_undoes_it(self, pool: SyncPool) -> None:
        tries = []

        def work(connection: Connection) -> None:
            tries.append(1)
            connection.execute(_NEW_USER, ("ann@example.org",))
            raise ValueError("not a matter of the database")

        with pytest.raises(ValueError, match="not a matter"):
            in_transaction(pool, work)
        assert len(tries) == 1
        assert answer(pool, "SELECT count(*) FROM users") == 0


_CUT_THE_POOL = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'test-pool'"
)
_NEW_USER = (
    "INSERT INTO users (email, email_key, password_hash, display_name)"
    " SELECT e, e, 'x', 'x' FROM CAST(%s AS text) AS e"
)


def hang_up(postgres: psycopg.Connection[Any], role: str) -> None:
    """Ends every connection of a role and waits until it is gone."""
    postgres.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", (role,)
    )
