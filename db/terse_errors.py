"""Connections whose errors tell what is wrong, and not with which data.

Of a broken constraint Postgres quotes the whole row, and of a failed function the statement; both
would end up in a log, and with them message texts and hashes. So here, where every answer of the
server comes by, an error keeps its primary message, its SQLSTATE and the names that belong to it.
"""

from __future__ import annotations

from typing import Any

import psycopg


def make_terse(error: psycopg.Error) -> psycopg.Error:
    """The same error; what has not come from the server stays as it is."""
    told = error.diag
    if told.message_primary is not None:
        names = [
            f"{kind} {name}"
            for kind, name in (
                ("table", told.table_name),
                ("column", told.column_name),
                ("constraint", told.constraint_name),
            )
            if name is not None
        ]
        error.args = (f"{told.message_primary} ({', '.join([str(told.sqlstate), *names])})",)
    return error


class TerseConnection(psycopg.Connection):
    def wait(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().wait(*arguments, **options)
        except psycopg.Error as error:
            make_terse(error)
            raise


class TerseAsyncConnection(psycopg.AsyncConnection):
    async def wait(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().wait(*arguments, **options)
        except psycopg.Error as error:
            make_terse(error)
            raise
