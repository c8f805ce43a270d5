"""Gives a service's role another password, as a person does with \\password in psql."""

from __future__ import annotations

from psycopg import Connection

from db import queries

_SQL = queries.load("role_passwords")
_FORMAT_PASSWORD_CHANGE = _SQL["format_password_change"]


def change_password(connection: Connection, role: str, password: str) -> None:
    """The server gets a SCRAM verifier (RFC 5803): the password itself is in no statement or log.

    Connections that are open stay open.
    """
    verifier = connection.pgconn.encrypt_password(
        password.encode("utf-8"), role.encode("utf-8"), b"scram-sha-256"
    )
    values = {"role": role, "verifier": verifier.decode("ascii")}
    [(statement,)] = connection.execute(_FORMAT_PASSWORD_CHANGE, values).fetchall()
    connection.execute(statement)
