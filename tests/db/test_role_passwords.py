"""A role's password changes without the server ever seeing it."""

from __future__ import annotations

import psycopg
import pytest

from db.role_passwords import change_password
from tests.support.databases import Database


@pytest.mark.parametrize("password", ["a new password", 'it\'s 100% "quoted" \\ ünïcode'])
def test_the_new_one_opens_and_no_statement_holds_it(database: Database, password: str) -> None:
    role = f"role of {database.name}"  # a name that must be quoted
    statements: list[str] = []
    with psycopg.connect(database.cluster.conninfo("postgres"), autocommit=True) as postgres:
        postgres.execute(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'old'")
        try:
            # The server says every statement back to this connection.
            postgres.execute("SET client_min_messages = 'log'")
            postgres.execute("SET log_statement = 'all'")
            postgres.add_notice_handler(lambda told: statements.append(str(told.message_primary)))
            change_password(postgres, role, password)
            psycopg.connect(database.conninfo(), user=role, password=password).close()
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(database.conninfo(), user=role, password="old").close()
        finally:
            postgres.execute("RESET log_statement")
            postgres.execute(f'DROP ROLE "{role}"')
    assert any("SCRAM-SHA-256$" in statement for statement in statements)
    assert not any(password in statement for statement in statements)
