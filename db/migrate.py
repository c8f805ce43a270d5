"""`python -m db.migrate`: brings the database that DB_* names to this program's schema.

Runs as the owner of the schema. Exit codes: 0 done or nothing to do, 1 the schema or the database
is not as it should be, 78 the configuration is wrong.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import psycopg

from db.connections import connect
from db.migrations import SchemaError, migrate, read_migrations
from db.secret_manager import resolve_secrets
from rules.settings import EXIT_CODE, ConfigurationError, load


def main() -> int:
    try:
        settings = load(os.environ, "migrate")
        secrets = resolve_secrets(settings, {"DB_PASSWORD"})
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"migrate: {problem}", file=sys.stderr)
        return EXIT_CODE
    # A migration may build an index for longer than any request may take.
    database = replace(settings.database, statement_timeout_ms=600_000)
    try:
        with connect(database, secrets.db_passwords, "gatehouse-migrate") as connection:
            done = migrate(connection, read_migrations())
    except (SchemaError, psycopg.Error) as error:
        print(f"migrate: {str(error).strip()}", file=sys.stderr)
        return 1
    print(f"migrate: applied {', '.join(done)}" if done else "migrate: nothing to do")
    return 0


if __name__ == "__main__":
    sys.exit(main())
