"""The one embedded Postgres of a test run, with a migrated template database in it.

The process that the user started owns it; the workers of pytest-xdist learn its address from the
environment they inherit. A template that cannot be made fails the tests that want a database, and
no others.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import psycopg

from scripts.embedded_postgres import DATABASE, EmbeddedPostgres, PostgresError, Role

TEMPLATE = "gatehouse_template"
_VARIABLE = "GATEHOUSE_TEST_POSTGRES"
_PREFIX = "gatehouse-tests-"
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Cluster:
    """How to reach the run's Postgres."""

    host: str
    port: int
    passwords: dict[str, str]
    psql: str
    failure: str | None = None

    def environment(self, role: Role, database: str = DATABASE) -> dict[str, str]:
        """DB_* for a service or a script, in an APP_ENV that lets a plain password pass."""
        return {
            "APP_ENV": "test",
            "DB_HOST": self.host,
            "DB_PORT": str(self.port),
            "DB_NAME": database,
            "DB_USER": role,
            "DB_PASSWORD": self.passwords[role],
            "DB_SSLMODE": "disable",
        }

    def conninfo(self, role: str, database: str = DATABASE) -> str:
        """libpq's connection string."""
        return psycopg.conninfo.make_conninfo(
            host=self.host,
            port=self.port,
            dbname=database,
            user=role,
            password=self.passwords[role],
            sslmode="disable",
        )


class TestRunPostgres:
    """Starts the Postgres of a run and removes every trace of it at the end."""

    __test__ = False  # pytest would take the name for a class of tests

    def __init__(self) -> None:
        _sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = _try_lock(self._folder)
        self._postgres = EmbeddedPostgres(self._folder, durable=False)

    def start(self) -> None:
        """Starts and publishes it, for this process and those it starts."""
        try:
            self._postgres.start()
        except PostgresError as error:
            cluster = Cluster("", 0, {}, "", failure=str(error))
        else:
            roles: tuple[Role, ...] = ("gatehouse", "gatehouse_api", "gatehouse_gateway")
            passwords: dict[str, str] = {role: self._postgres.role_password(role) for role in roles}
            passwords["postgres"] = self._postgres.superuser_password
            cluster = Cluster(
                self._postgres.host,
                self._postgres.port,
                passwords,
                self._postgres.programs["psql"],
            )
            failure = _make_template(cluster)
            cluster = Cluster(**{**asdict(cluster), "failure": failure})
        os.environ[_VARIABLE] = json.dumps(asdict(cluster))

    def remove(self) -> None:
        os.environ.pop(_VARIABLE, None)
        self._postgres.destroy()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock:
            self._lock.close()


def published_cluster() -> Cluster | None:
    """The run's cluster; None when the run has none (unit tests alone)."""
    value = os.environ.get(_VARIABLE)
    return Cluster(**json.loads(value)) if value else None


def clean_environment() -> dict[str, str]:
    """The environment without anything that configures Gatehouse or libpq, for child processes."""
    prefixes = ("GATEHOUSE_", "DB_", "JWT_", "OPS_", "AUTH_", "CHAT_", "WS_", "DRAIN_", "PG")
    kept = {"GATEHOUSE_PG_BIN"}  # where programs are, like PATH
    names = {"APP_ENV", "HOST", "PORT", "PUBLIC_WS_URL", "API_THREADS", "K_SERVICE"}
    return {
        name: value
        for name, value in os.environ.items()
        if name in kept or (name not in names and not name.startswith(prefixes))
    }


def _make_template(cluster: Cluster) -> str | None:
    """Migrates a fresh database the way an operator does; returns what went wrong."""
    with psycopg.connect(cluster.conninfo("gatehouse"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {TEMPLATE}")
        done = subprocess.run(
            [sys.executable, "-m", "db.migrate"],
            cwd=_ROOT,
            env={**clean_environment(), **cluster.environment("gatehouse", TEMPLATE)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode != 0:
            return f"python -m db.migrate failed:\n{done.stdout}{done.stderr}"
        # Nobody may be connected to a database that is being cloned, autovacuum included.
        connection.execute(f"ALTER DATABASE {TEMPLATE} WITH ALLOW_CONNECTIONS false")
    return None


def _sweep() -> None:
    """Removes what runs that were killed have left behind."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if folder.stat().st_uid != os.geteuid():
            continue
        lock = _try_lock(folder)
        if lock is not None:
            with lock:
                shutil.rmtree(folder, ignore_errors=True)


def _try_lock(folder: Path) -> IO[str] | None:
    try:
        lock = (folder / "lock").open("w")
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock
