"""Rotates a secret, a step at a time: scripts/rotate-secret

    plan VARIABLE VERSION --region R    prints every step as commands; VERSION is the one in use
    new VARIABLE SECRET                 adds a version, generated or from --stdin; prints which
    alter-role ROLE VERSION             gives a database role the password in that version
    disable VERSION                     disables an old version; it can be enabled again

VARIABLE is JWT_SECRET, OPS_API_TOKEN or DB_PASSWORD; SECRET is projects/P/secrets/S, VERSION is
projects/P/secrets/S/versions/N. With --dry-run nothing is done and the gcloud command that does the
same is printed. A value is never an argument and never printed. Exit codes: 0 done, 1 not done, 64
the command line is wrong.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Callable
from typing import Any

from google.api_core.exceptions import GoogleAPICallError

from db.connections import FAILED, connect
from db.role_passwords import change_password
from db.secret_manager import SecretUnreadable, fetch_all, resolve_secrets
from db.secret_manager import connect as connect_secret_manager
from rules.crc32c import crc32c
from rules.secret_values import NAMES, read_secrets
from rules.settings import ConfigurationError, load
from scripts.rotation_plan import (
    NotAName,
    Place,
    add_command,
    disable_command,
    enable_command,
    plan,
    role_named,
    secret_named,
    version_named,
)

EX_USAGE = 64  # of sysexits.h
CALL_TIMEOUT_SECONDS = 10.0
_EMULATOR = "SECRET_MANAGER_EMULATOR_HOST"


class NotDone(Exception):
    """One line: why."""


def main(arguments: list[str]) -> int:
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as exit_:
        return EX_USAGE if exit_.code else 0
    try:
        commands: dict[str, Callable[[argparse.Namespace], None]] = {
            "plan": _plan,
            "new": _new,
            "alter-role": _alter_role,
            "disable": _disable,
        }
        commands[options.command](options)
    except NotAName as error:
        print(f"rotate-secret: {error}", file=sys.stderr)
        return EX_USAGE
    except (NotDone, SecretUnreadable, ConfigurationError) as error:
        print(f"rotate-secret: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/rotate-secret", usage=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    planning = commands.add_parser("plan")
    planning.add_argument("variable", choices=NAMES)
    planning.add_argument("version")
    planning.add_argument("--region", required=True)
    planning.add_argument("--api", default="gatehouse-api", metavar="SERVICE")
    planning.add_argument("--gateway", default="gatehouse-gateway", metavar="SERVICE")
    planning.add_argument("--role", default="gatehouse_api", help="whose DB_PASSWORD it is")
    planning.add_argument("--leaked", action="store_true", help="the old one is refused at once")
    adding = commands.add_parser("new")
    adding.add_argument("variable", choices=NAMES)
    adding.add_argument("secret")
    adding.add_argument("--stdin", action="store_true", help="the value, instead of a random one")
    adding.add_argument("--actors", default="", help="of ops tokens: ann,bob get a new one each")
    altering = commands.add_parser("alter-role")
    altering.add_argument("role")
    altering.add_argument("version")
    disabling = commands.add_parser("disable")
    disabling.add_argument("version")
    for command in (adding, altering, disabling):
        command.add_argument("--dry-run", action="store_true")
    return parser


def _plan(options: argparse.Namespace) -> None:
    place = Place(options.region, options.api, options.gateway)
    role = role_named(options.role)
    print(
        plan(
            options.variable,
            version_named(options.version),
            place,
            leaked=options.leaked,
            role=role,
        )
    )


def _new(options: argparse.Namespace) -> None:
    secret = secret_named(options.secret)
    if options.dry_run:
        print(add_command(secret))
        return
    value = sys.stdin.read() if options.stdin else _generated(options.variable, options.actors)
    _check(options.variable, value)
    data = value.encode("utf-8")
    payload = {"data": data, "data_crc32c": crc32c(data)}
    answer = _call("add_secret_version", parent=str(secret), payload=payload)
    print(answer.name)


def _generated(variable: str, actors: str) -> str:
    if variable != "OPS_API_TOKEN":
        return secrets.token_urlsafe(48)  # 64 characters, 384 bits
    names = [name for name in actors.split(",") if name]
    if not names:
        raise NotAName("--actors must name whom the ops tokens are for, like --actors ann,bob")
    return "".join(f"{name}:{secrets.token_urlsafe(36)}\n" for name in names)


def _check(variable: str, value: str) -> None:
    """Raises NotDone on what a service in production would refuse to start with."""
    problems: list[str] = []
    payloads: dict[str, list[str]] = {name.lower(): [] for name in NAMES}
    payloads[variable.lower()] = [value]
    read_secrets(**payloads, production=True, problems=problems)
    if problems:
        raise NotDone("; ".join(problems))


def _alter_role(options: argparse.Namespace) -> None:
    """The owner's DB_* say where; several passwords in one version: the first is the new one."""
    role, version = role_named(options.role), version_named(options.version)
    if options.dry_run:
        print(f"psql -c '\\password {role}'")
        return
    emulator = os.environ.get(_EMULATOR)
    outcome = fetch_all([str(version)], emulator)[str(version)]
    if isinstance(outcome, SecretUnreadable):
        raise NotDone(f"{version} {outcome}")
    _check("DB_PASSWORD", outcome)
    settings = load(os.environ, "migrate")
    owner_passwords = resolve_secrets(settings, {"DB_PASSWORD"}).db_passwords
    try:
        with connect(settings.database, owner_passwords, "gatehouse-rotate") as connection:
            change_password(connection, role, outcome.splitlines()[0])
    except FAILED as error:
        raise NotDone(f"{role}: {str(error).strip()}") from None
    print(f"{role} has the password in {version} now; open connections stay")


def _disable(options: argparse.Namespace) -> None:
    version = version_named(options.version)
    if options.dry_run:
        print(disable_command(version))
        return
    _call("disable_secret_version", name=str(version))
    print(f"{version} is disabled; undone by: {enable_command(version)}")


def _call(method: str, **request: Any) -> Any:
    """One call of Secret Manager; not tried again, for adding twice would make two versions."""
    client = connect_secret_manager(os.environ.get(_EMULATOR))
    try:
        return getattr(client, method)(request=request, timeout=CALL_TIMEOUT_SECONDS, retry=None)
    except GoogleAPICallError as error:
        target = request.get("parent") or request.get("name")
        raise NotDone(f"{target}: Secret Manager says {type(error).__name__}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
