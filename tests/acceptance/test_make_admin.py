"""scripts/make-admin."""

from __future__ import annotations

import subprocess
import sys

from tests.support.cluster import clean_environment
from tests.support.databases import Database, Who
from tests.support.processes import ROOT
from tests.support.services import People


def make_admin(database: Database, *arguments: str, who: Who = "owner") -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.make_admin", *arguments],
        cwd=ROOT,
        env={**clean_environment(), **database.environment(who)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def test_an_administrator_is_made_and_unmade_and_the_trail_says_by_whom_and_why(
    database: Database,
) -> None:
    with People(database) as people:
        ada = people.person()
        email = people.one("SELECT email FROM users WHERE id = %s", ada.user_id)
        said = ("--actor", "olga", "--reason", "she moderates")
        code, told = make_admin(database, email.upper(), *said)
        assert (code, told.split(",")[0]) == (
            0,
            f"make-admin: done: user {ada.user_id} is an administrator",
        )
        is_admin = "SELECT is_admin FROM users WHERE id = %s"
        assert people.one(is_admin, ada.user_id) is True
        assert make_admin(database, email, *said, "--revoke")[0] == 0
        assert people.one(is_admin, ada.user_id) is False
        rows = people.owner.execute(
            "SELECT actor, reason, details -> 'is_admin' FROM admin_action_audit"
            " WHERE action = 'user.admin' AND user_id = %s ORDER BY id",
            (ada.user_id,),
        ).fetchall()
        assert rows == [("olga", "she moderates", True), ("olga", "she moderates", False)]


def test_without_a_user_an_actor_or_a_reason_nothing_is_done(database: Database) -> None:
    said = ("--actor", "olga", "--reason", "she moderates")
    assert make_admin(database, "nobody@example.org", *said) == (
        1,
        "make-admin: there is no user nobody@example.org\n",
    )
    for arguments in (said[:2], said[2:], ("--actor", " ", *said[2:])):
        assert make_admin(database, "a@example.org", *arguments)[0] == 64
    with database.connect() as owner:
        assert owner.execute("SELECT id FROM admin_action_audit_head").fetchone() == (0,)
