"""`python -m db.set_passwords`: gives the services' roles the passwords that Secret Manager keeps.

A job of the deployment, run as the owner of the schema after the migrations, which make the roles.
API_PASSWORD_SECRET_REF and GATEWAY_PASSWORD_SECRET_REF name a version each, DB_* the owner's way
in. Running it again changes nothing, and connections that are open stay open. Exit codes as those
of db.migrate.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from db.connections import FAILED, connect
from db.role_passwords import change_password
from db.secret_manager import resolve_secrets
from rules.settings import EXIT_CODE, ConfigurationError, Settings, load

REFERENCES = {
    "gatehouse_api": "API_PASSWORD_SECRET_REF",
    "gatehouse_gateway": "GATEWAY_PASSWORD_SECRET_REF",
}


def main() -> int:
    try:
        settings = load(os.environ, "migrate")
        owner = resolve_secrets(settings, {"DB_PASSWORD"}).db_passwords
        sources = {role: _settings(os.environ, name) for role, name in REFERENCES.items()}
        passwords = {role: _password(source, role) for role, source in sources.items()}
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"set_passwords: {problem}", file=sys.stderr)
        return EXIT_CODE
    try:
        with connect(settings.database, owner, "gatehouse-passwords") as connection:
            for role, password in passwords.items():
                change_password(connection, role, password)
    except FAILED as error:
        print(f"set_passwords: {str(error).strip()}", file=sys.stderr)
        return 1
    print(f"set_passwords: {' and '.join(passwords)} have theirs")
    return 0


def _settings(environ: Mapping[str, str], name: str) -> Settings:
    """Settings in which the reference in `name` stands where a service has its own."""
    if not environ.get(name):
        raise ConfigurationError([f"{name} must be set"])
    try:
        return load({**environ, "DB_PASSWORD_SECRET_REF": environ[name]}, "migrate")
    except ConfigurationError as error:
        raise _renamed(error, name) from None


def _password(source: Settings, role: str) -> str:
    """Read and checked as the service would."""
    try:
        return resolve_secrets(source, {"DB_PASSWORD"}).db_passwords[0]
    except ConfigurationError as error:
        raise _renamed(error, REFERENCES[role]) from None


def _renamed(error: ConfigurationError, name: str) -> ConfigurationError:
    return ConfigurationError(
        [text.replace("DB_PASSWORD_SECRET_REF", name) for text in error.problems]
    )


if __name__ == "__main__":
    sys.exit(main())
