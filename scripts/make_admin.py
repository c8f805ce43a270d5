"""Makes somebody an administrator, whom no release gate and no drain sends away: scripts/make-admin

    scripts/make-admin EMAIL --actor YOU --reason WHY [--revoke]

With the DB_* of the owner; a service's role may not. The audit row is written in the same
transaction, and a drain that runs lets them go. Sessions keep the lifetime that they were opened
with, so whoever becomes one should log in again. Exit codes: 0 done, 1 not done, 64 the command
line is wrong, 78 the configuration is.
"""

from __future__ import annotations

import argparse
import os
import sys

from db.connections import FAILED, connect
from db.operators import Operator, UserAct, act_on_user
from db.secret_manager import resolve_secrets
from db.users import find_user_by_email
from rules import log_lines
from rules.request_id import choose_request_id
from rules.settings import EXIT_CODE, ConfigurationError, load

EX_USAGE = 64  # of sysexits.h


def main(arguments: list[str]) -> int:
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as exit_:
        return EX_USAGE if exit_.code else 0
    # One to find the row by: it is printed.
    log_lines.request_id.set(choose_request_id(None))
    try:
        done = _act(options)
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"make-admin: {problem}", file=sys.stderr)
        return EXIT_CODE
    except FAILED as error:
        print(f"make-admin: {str(error).strip()}", file=sys.stderr)
        return 1
    print(f"make-admin: {done}")
    return 0 if done.startswith("done") else 1


def _act(options: argparse.Namespace) -> str:
    settings = load(os.environ, "migrate")
    passwords = resolve_secrets(settings, {"DB_PASSWORD"}).db_passwords
    with (
        connect(settings.database, passwords, "gatehouse-make-admin") as connection,
        connection.transaction(),
    ):
        user = find_user_by_email(connection, options.email)
        if user is None:
            return f"there is no user {options.email}"
        acted = act_on_user(
            connection,
            Operator(options.actor, None),
            UserAct.ADMIN,
            user.id,
            options.reason,
            is_admin=not options.revoke,
        )
    if acted is None:
        return f"there is no user {options.email}"
    what = "no administrator any more" if options.revoke else "an administrator"
    return f"done: user {user.id} is {what}, audit row {acted.head.id}:{acted.head.hash.hex()}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/make-admin", usage=__doc__)
    parser.add_argument("email")
    parser.add_argument("--actor", required=True, type=_said)
    parser.add_argument("--reason", required=True, type=_said)
    parser.add_argument("--revoke", action="store_true")
    return parser


def _said(value: str) -> str:
    if not value.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
