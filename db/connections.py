"""Pools of connections to Postgres: synchronous for the API, asynchronous for the gateway.

Both are built from the same parameters. Connections are in autocommit: a single statement costs
one round trip, and whoever needs more takes `with connection.transaction()`. A connection is
checked before it is lent, waiting is bounded, and every statement has a timeout.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg_pool import (
    AsyncConnectionPool,
    ConnectionPool,
    PoolClosed,
    PoolTimeout,
    TooManyRequests,
)

from db.connection_errors import check_root_certificate, tell
from db.terse_errors import TerseAsyncConnection, TerseConnection
from rules.settings import DatabaseSettings

T = TypeVar("T")

# What is raised when Postgres cannot serve now but may soon: gone, starting, full, too slow, or a
# standby that has not been promoted yet.
UNAVAILABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    PoolTimeout,
    PoolClosed,
    TooManyRequests,
)

# What may succeed when the same transaction is simply run again.
CONFLICTED = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
)
# Somebody else keeps a row for longer than lock_timeout.
LOCKED = psycopg.errors.LockNotAvailable
# No connection was to be had in all the time that the pool allows.
NO_CONNECTION = (PoolTimeout, PoolClosed, TooManyRequests)
FAILED = psycopg.Error  # anything that Postgres or the way to it objects to

LOCK_TIMEOUT_MS = 1000
# An act on all sessions there are takes longer than any statement of a client may.
MASS_STATEMENT_TIMEOUT_MS = 120_000
_ALLOW_MASS_STATEMENT = f"SET LOCAL statement_timeout = {MASS_STATEMENT_TIMEOUT_MS}"
RETRIES = 5
# A deadlock looks like a lock that somebody keeps: lock_timeout ends it, for the server looks for
# deadlocks after a second too. The one who tries again finds the other gone, or waits once more.
LOCKED_RETRIES = 2
# A half-dead connection is given up within this time: keepalives find a silent peer, the user
# timeout one that no longer acknowledges what we sent.
_KEEPALIVE = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

SyncPool = ConnectionPool[Connection]
AsyncPool = AsyncConnectionPool[AsyncConnection]


def parameters(settings: DatabaseSettings, application: str) -> dict[str, Any]:
    """libpq's connection parameters, without the password."""
    options = {
        "statement_timeout": settings.statement_timeout_ms,
        "lock_timeout": LOCK_TIMEOUT_MS,
        "idle_in_transaction_session_timeout": 2 * settings.statement_timeout_ms,
        "timezone": "UTC",
    }
    result: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "dbname": settings.name,
        "user": settings.user,
        "sslmode": settings.sslmode,
        "connect_timeout": settings.connect_timeout_seconds,
        "application_name": application,
        "client_encoding": "UTF8",
        "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
        **_KEEPALIVE,
    }
    if settings.sslrootcert is not None:
        result["sslrootcert"] = settings.sslrootcert
    return result


def open_pool(
    settings: DatabaseSettings, passwords: Sequence[str], application: str, size: int
) -> SyncPool:
    """An open pool, or PoolTimeout with the reason when the database cannot be reached."""
    check_root_certificate(settings)
    attempts = _Attempts()
    pool = ConnectionPool(
        connection_class=_sync_class(passwords, attempts),
        kwargs={**parameters(settings, application), "autocommit": True},
        min_size=min(2, size),
        max_size=size,
        max_waiting=100 * size,
        timeout=settings.pool_timeout_ms / 1000,
        max_idle=300,
        reconnect_timeout=1,
        check=_check,
        open=False,
        name=application,
    )
    try:
        pool.open(wait=True, timeout=settings.connect_timeout_seconds)
    except BaseException as error:
        pool.close()
        if isinstance(error, PoolTimeout):
            raise PoolTimeout(attempts.reason(settings)) from None
        raise
    return pool


async def open_async_pool(
    settings: DatabaseSettings, passwords: Sequence[str], application: str, size: int
) -> AsyncPool:
    """As open_pool, for an event loop."""
    check_root_certificate(settings)
    attempts = _Attempts()
    pool = AsyncConnectionPool(
        connection_class=_async_class(passwords, attempts),
        kwargs={**parameters(settings, application), "autocommit": True},
        min_size=min(2, size),
        max_size=size,
        max_waiting=100 * size,
        timeout=settings.pool_timeout_ms / 1000,
        max_idle=300,
        reconnect_timeout=1,
        check=_check_async,
        open=False,
        name=application,
    )
    try:
        await pool.open(wait=True, timeout=settings.connect_timeout_seconds)
    except BaseException as error:
        await pool.close()
        if isinstance(error, PoolTimeout):
            raise PoolTimeout(attempts.reason(settings)) from None
        raise
    return pool


class _Attempts:
    """Why the last attempt to connect failed: a pool itself only says that the time is up."""

    def __init__(self) -> None:
        self.last: psycopg.OperationalError | None = None

    def reason(self, settings: DatabaseSettings) -> str:
        if self.last is not None:
            return str(self.last)
        return (
            f"no answer from {settings.host}, port {settings.port}, within"
            f" {settings.connect_timeout_seconds} s (DB_HOST, DB_PORT, DB_CONNECT_TIMEOUT)"
        )


def connect(settings: DatabaseSettings, passwords: Sequence[str], application: str) -> Connection:
    """One connection outside any pool, in autocommit, for a script."""
    check_root_certificate(settings)
    connection_class = _sync_class(passwords, _Attempts())
    return connection_class.connect(**parameters(settings, application), autocommit=True)


async def connect_async(
    settings: DatabaseSettings, passwords: Sequence[str], application: str
) -> AsyncConnection:
    """One connection outside any pool, in autocommit; the gateway listens on it."""
    check_root_certificate(settings)
    connection_class = _async_class(passwords, _Attempts())
    return await connection_class.connect(**parameters(settings, application), autocommit=True)


def in_transaction(pool: SyncPool, work: Callable[[Connection], T]) -> T:
    """Runs `work` in one transaction; serialisation failures and deadlocks are tried again, and a
    lock that somebody keeps is so once."""

    def transact(connection: Connection) -> T:
        with connection.transaction():
            return work(connection)

    return in_autocommit(pool, transact)


def in_autocommit(pool: SyncPool, work: Callable[[Connection], T]) -> T:
    """The same for a `work` that is one statement, or opens its own transaction."""
    for attempt in range(1, RETRIES + 1):
        try:
            with pool.connection() as connection:
                return work(connection)
        except CONFLICTED as error:
            if attempt >= (LOCKED_RETRIES if isinstance(error, LOCKED) else RETRIES):
                raise
    raise AssertionError("unreachable")


# Passwords rotate: when the server refuses one, the next is tried. They live in the class that the
# pool instantiates, not in its parameters, which libraries like to print.


def _sync_class(passwords: Sequence[str], attempts: _Attempts) -> type[Connection]:
    class PasswordConnection(TerseConnection):
        @classmethod
        def connect(cls, conninfo: str = "", **kwargs: Any) -> Any:
            try:
                for password in passwords[:-1]:
                    try:
                        return super().connect(conninfo, password=password, **kwargs)
                    except psycopg.OperationalError as error:
                        if not _password_refused(error):
                            raise
                return super().connect(conninfo, password=_last(passwords), **kwargs)
            except psycopg.OperationalError as error:
                attempts.last = tell(error)
                raise

    return PasswordConnection


def _async_class(passwords: Sequence[str], attempts: _Attempts) -> type[AsyncConnection]:
    class PasswordConnection(TerseAsyncConnection):
        @classmethod
        async def connect(cls, conninfo: str = "", **kwargs: Any) -> Any:
            try:
                for password in passwords[:-1]:
                    try:
                        return await super().connect(conninfo, password=password, **kwargs)
                    except psycopg.OperationalError as error:
                        if not _password_refused(error):
                            raise
                return await super().connect(conninfo, password=_last(passwords), **kwargs)
            except psycopg.OperationalError as error:
                attempts.last = tell(error)
                raise

    return PasswordConnection


def _last(passwords: Sequence[str]) -> str | None:
    return passwords[-1] if passwords else None


def _password_refused(error: psycopg.OperationalError) -> bool:
    # The message is translated by the server's locale; that a password was used is not.
    return error.pgconn is not None and error.pgconn.used_password


def _check(connection: Connection) -> None:
    """Costs no round trip while the line is quiet; a server that hung up made it readable."""
    if _readable(connection.fileno()):
        ConnectionPool.check_connection(connection)


async def _check_async(connection: AsyncConnection) -> None:
    if _readable(connection.fileno()):
        await AsyncConnectionPool.check_connection(connection)


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


def cut(connection: AsyncConnection) -> None:
    """Ends a line that does not answer any more: whoever waits on it gets what UNAVAILABLE names.

    Cancelling the one who waits would not do: psycopg then asks the server to cancel and waits for
    the answer, on the same dead line.
    """
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def probe(connection: Connection) -> None:
    """Raises what UNAVAILABLE names unless the database answers."""
    connection.execute("SELECT 1")


async def probe_async(connection: AsyncConnection) -> None:
    await connection.execute("SELECT 1")


def allow_mass_statement(connection: Connection) -> None:
    """What comes after it in this transaction may take two minutes."""
    connection.execute(_ALLOW_MASS_STATEMENT)


async def allow_mass_statement_async(connection: AsyncConnection) -> None:
    await connection.execute(_ALLOW_MASS_STATEMENT)
