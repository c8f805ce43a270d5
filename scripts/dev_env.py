"""The file `dev.env`: what scripts/run chose, for psql, scripts and people in other terminals.

Lines are NAME='value', so that a shell reads it with `set -a; . .data/dev.env; set +a`. It holds
passwords of the development database and is readable by its owner alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# Marks the database as scripts/run's own. A terminal in which dev.env was read has DB_HOST set,
# and a scripts/run started there must still start its Postgres.
EMBEDDED = "GATEHOUSE_EMBEDDED_POSTGRES"
_CONNECTION = ("DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD", "DB_SSLMODE")


def write_dev_env(path: Path, values: Mapping[str, str]) -> None:
    """Replaces the file at once; nobody ever reads half of it, or with a wider mode."""
    text = "".join(f"{name}={shell_quoted(value)}\n" for name, value in values.items())
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def shell_quoted(value: str) -> str:
    """In single quotes, always; a quote inside ends them, comes escaped, and opens them again."""
    return "'" + value.replace("'", "'\\''") + "'"


def psql_values(database: Mapping[str, str]) -> dict[str, str]:
    """The PG* variables with which a plain `psql` reaches the database that DB_* names."""
    names = {
        "PGHOST": "DB_HOST",
        "PGPORT": "DB_PORT",
        "PGDATABASE": "DB_NAME",
        "PGUSER": "DB_USER",
        "PGPASSWORD": "DB_PASSWORD",
        "PGSSLMODE": "DB_SSLMODE",
        "PGSSLROOTCERT": "DB_SSLROOTCERT",
    }
    found = {pg: database[db] for pg, db in names.items() if database.get(db)}
    if "PGPASSWORD" in found:
        # During a rotation DB_PASSWORD holds several, one a line; libpq takes one.
        found["PGPASSWORD"] = found["PGPASSWORD"].splitlines()[0]
    return found


def without_embedded_database(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment as it was before somebody read a dev.env that names our own Postgres."""
    address = f"{environment.get('DB_HOST')}:{environment.get('DB_PORT')}"
    if environment.get(EMBEDDED) != address:
        return dict(environment)
    return {name: value for name, value in environment.items() if name not in _CONNECTION}
