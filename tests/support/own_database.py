"""A migrated database in a Postgres that the test may stop and kill."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import psycopg

from scripts.embedded_postgres import EmbeddedPostgres
from tests.support.cluster import clean_environment
from tests.support.databases import ROLES, Who
from tests.support.processes import ROOT


class OwnDatabase:
    """What tests/support/databases.Database is, on a server of the test's own."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self.postgres = postgres

    def environment(self, who: Who = "owner") -> dict[str, str]:
        return {"APP_ENV": "test", **self.postgres.environment(ROLES[who])}

    def connect(self, who: Who = "owner") -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            host=self.postgres.host,
            port=self.postgres.port,
            dbname="gatehouse",
            user=ROLES[who],
            password=self.postgres.role_password(ROLES[who]),
            sslmode="disable",
            autocommit=True,
        )


def migrated(postgres: EmbeddedPostgres) -> OwnDatabase:
    """Starts the server and migrates it as an operator does."""
    postgres.start()
    database = OwnDatabase(postgres)
    done = subprocess.run(
        [sys.executable, "-m", "db.migrate"],
        cwd=ROOT,
        env={**clean_environment(), **database.environment("owner")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return database
