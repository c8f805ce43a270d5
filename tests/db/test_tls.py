"""The way to Postgres: encrypted or refused, and verified where that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from db.connections import connect, connect_async, open_async_pool, open_pool
from rules.settings import DatabaseSettings, load
from tests.support.certificates import Authority
from tests.support.databases import Database
from tests.support.processes import Processes
from tests.support.tls_front import TlsFront


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def environment_of(database: Database, port: int, **changes: str) -> dict[str, str]:
    base = {**database.environment("gateway"), "DB_PORT": str(port), "DB_CONNECT_TIMEOUT": "2"}
    del base["DB_SSLMODE"]  # `require`, like anywhere that says nothing
    return {**base, **changes}


def settings_of(environment: dict[str, str]) -> DatabaseSettings:
    return load(environment, "gateway").database


@contextmanager
def connected(environment: dict[str, str]) -> Iterator[psycopg.Connection[Any]]:
    with connect(settings_of(environment), [environment["DB_PASSWORD"]], "test") as connection:
        yield connection


def refusal(environment: dict[str, str]) -> str:
    """What a connection is refused with; one line, the same for both services."""
    settings, passwords = settings_of(environment), [environment["DB_PASSWORD"]]
    with pytest.raises(psycopg.OperationalError) as refused:
        connect(settings, passwords, "test")
    with pytest.raises(psycopg.OperationalError) as refused_too:
        asyncio.run(connect_async(settings, passwords, "test"))
    said = str(refused.value)
    assert str(refused_too.value) == said
    assert "\n" not in said
    assert passwords[0] not in said
    return said


async def pools_refusals(environment: dict[str, str]) -> list[str]:
    """What both pools say, once their time for opening is up."""
    settings, passwords = settings_of(environment), [environment["DB_PASSWORD"]]
    outcomes: list[object] = await asyncio.gather(
        asyncio.to_thread(open_pool, settings, passwords, "test", 1),
        open_async_pool(settings, passwords, "test", 1),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [PoolTimeout] * 2
    return [str(outcome) for outcome in outcomes]


class TestEncryption:
    def test_a_link_is_encrypted_unless_somebody_says_otherwise(
        self, database: Database, authority: Authority
    ) -> None:
        with TlsFront(database.cluster.port, authority.server_context()) as front:
            with connected(environment_of(database, front.port)) as connection:
                assert connection.pgconn.ssl_in_use
            plain = environment_of(database, database.cluster.port, DB_SSLMODE="disable")
            with connected(plain) as connection:
                assert not connection.pgconn.ssl_in_use

    def test_a_server_without_tls_is_refused_with_what_to_do(self, database: Database) -> None:
        port = database.cluster.port
        environment = environment_of(database, port)
        said = refusal(environment)
        assert said == (
            f'connection failed: connection to server at "127.0.0.1", port {port} failed: server'
            " does not support SSL, but SSL was required. DB_SSLMODE demands encryption: switch"
            " TLS on in Postgres (ssl = on). Only a laptop or a unix socket does without"
            " (DB_SSLMODE=disable)"
        )
        assert asyncio.run(pools_refusals(environment)) == [said, said]

    def test_a_service_says_so_in_one_line_and_ends(
        self, database: Database, processes: Processes
    ) -> None:
        refused = processes.start_module(
            "wsgateway", environment_of(database, database.cluster.port)
        )
        assert refused.wait() == 1
        told = [line for line in refused.output.splitlines() if line.startswith("gateway: ")]
        assert len(told) == 1
        assert told[0].startswith("gateway: cannot start: connection failed")
        assert "switch TLS on in Postgres" in told[0]


class TestVerification:
    def test_the_right_certificate_passes_and_the_service_runs_on_it(
        self, database: Database, authority: Authority, processes: Processes
    ) -> None:
        with TlsFront(database.cluster.port, authority.server_context()) as front:
            verified = environment_of(
                database, front.port, DB_SSLMODE="verify-full", DB_SSLROOTCERT=str(authority.file)
            )
            gateway, _ = processes.start_service("wsgateway", verified)
            assert gateway.stop() == 0

    def test_another_name_is_refused(self, database: Database, authority: Authority) -> None:
        context = authority.server_context("db.example.org")
        with TlsFront(database.cluster.port, context) as front:
            wanted = {"DB_SSLROOTCERT": str(authority.file)}
            said = refusal(environment_of(database, front.port, DB_SSLMODE="verify-full", **wanted))
            assert 'server certificate for "db.example.org"' in said
            assert said.endswith("DB_HOST must be a name that stands in the server's certificate")
            with connected(
                environment_of(database, front.port, DB_SSLMODE="verify-ca", **wanted)
            ) as connection:  # which asks for the authority and not for the name
                assert connection.pgconn.ssl_in_use

    # libpq verifies the authority with `require` too, once it has been told one.
    @pytest.mark.parametrize("mode", ["verify-full", "verify-ca", "require"])
    def test_another_authority_is_refused(
        self, database: Database, authority: Authority, tmp_path: Path, mode: str
    ) -> None:
        stranger = Authority(tmp_path, "Somebody else")
        with TlsFront(database.cluster.port, stranger.server_context()) as front:
            said = refusal(
                environment_of(
                    database, front.port, DB_SSLMODE=mode, DB_SSLROOTCERT=str(authority.file)
                )
            )
        assert "certificate verify failed. The server's certificate is not signed by" in said

    def test_an_expired_certificate_is_refused(
        self, database: Database, authority: Authority
    ) -> None:
        with TlsFront(database.cluster.port, authority.server_context(valid_days=-1)) as front:
            said = refusal(
                environment_of(
                    database,
                    front.port,
                    DB_SSLMODE="verify-full",
                    DB_SSLROOTCERT=str(authority.file),
                )
            )
        assert "or has expired; scripts/check-deployment says which" in said

    @pytest.mark.parametrize("mode", ["verify-full", "require"])
    def test_a_root_certificate_that_is_not_there_is_missed(
        self, database: Database, authority: Authority, mode: str
    ) -> None:
        missing = "/nonexistent/authority.pem"
        with TlsFront(database.cluster.port, authority.server_context()) as front:
            said = refusal(
                environment_of(database, front.port, DB_SSLMODE=mode, DB_SSLROOTCERT=missing)
            )
        assert said == f"DB_SSLROOTCERT: {missing} is not there or cannot be read"
