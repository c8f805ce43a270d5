"""What libpq says when it cannot connect, as one line that also says what to do.

libpq speaks of its own parameters, and over several lines; whoever started a service knows ours.
"""

from __future__ import annotations

import os
from pathlib import Path

import psycopg

from rules.settings import DatabaseSettings

# A part of libpq's message, and what to do about it.
_ADVICE = (
    (
        "server does not support SSL",
        "DB_SSLMODE demands encryption: switch TLS on in Postgres (ssl = on)."
        " Only a laptop or a unix socket does without (DB_SSLMODE=disable)",
    ),
    (
        "certificate verify failed",
        "The server's certificate is not signed by the authority in DB_SSLROOTCERT, or has expired;"
        " scripts/check-deployment says which",
    ),
    (
        "does not match host name",
        "DB_HOST must be a name that stands in the server's certificate",
    ),
    (
        "could not read root certificate file",
        "DB_SSLROOTCERT must be a file of PEM certificates",
    ),
    (
        "password authentication failed",
        "DB_PASSWORD (or what DB_PASSWORD_SECRET_REF names) does not hold this role's password",
    ),
    (
        "failed to resolve host",
        "DB_HOST is not known here",
    ),
)


def tell(error: psycopg.OperationalError) -> psycopg.OperationalError:
    """The same error, its message one line with advice."""
    said = " ".join(str(error).split()).rstrip(".")
    advice = [what_to_do for part, what_to_do in _ADVICE if part in said]
    error.args = (". ".join([said, *advice]),)
    return error


def check_root_certificate(settings: DatabaseSettings) -> None:
    """Raises OperationalError when the file is not there: with `require` libpq would connect
    without verifying anything, though somebody wanted it verified."""
    file = settings.sslrootcert
    if file in (None, "system") or settings.sslmode == "disable":
        return
    if not Path(str(file)).is_file() or not os.access(str(file), os.R_OK):
        raise psycopg.OperationalError(f"DB_SSLROOTCERT: {file} is not there or cannot be read")
