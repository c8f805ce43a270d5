"""db/sql/ops as the person on call runs them, and what statements by hand leave behind."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import clean_environment
from tests.support.databases import Database
from tests.support.processes import ROOT
from tests.support.services import People, Person

OPS = ROOT / "db" / "sql" / "ops"
SAID = {"actor": "olga", "reason": "incident 42"}


@pytest.fixture
def people(database: Database) -> Iterator[People]:
    with People(database) as made:
        yield made


def psql(database: Database, script: Path, **variables: str) -> tuple[int, str]:
    """(exit code, what it printed)"""
    settings = [part for name, value in variables.items() for part in ("-v", f"{name}={value}")]
    done = subprocess.run(
        [database.cluster.psql, "-X", "-A", "-t", "-q", *settings, "-f", str(script)],
        env={**clean_environment(), **database.psql_environment()},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def live(people: People) -> set[int]:
    rows = people.owner.execute("SELECT session_id FROM live_sessions").fetchall()
    return {session_id for (session_id,) in rows}


def audit(people: People) -> list[tuple[Any, ...]]:
    return people.owner.execute(
        "SELECT actor, action, reason, details FROM admin_action_audit ORDER BY id"
    ).fetchall()


def three(people: People) -> tuple[Person, Person, Person]:
    """The first is the one that every selector below names, and nobody else."""
    ada, bob, cid = (people.person(name) for name in ("Ada", "Bob", "Cid"))
    people.owner.execute(
        "UPDATE user_sessions SET ip = '198.51.100.7', client_version = '1.3.9',"
        " created_at = now() - interval '1 day' WHERE id = %s",
        (ada.session_id,),
    )
    people.owner.execute(
        "UPDATE user_sessions SET ip = '198.51.101.7', client_version = '1.4' WHERE id <> %s",
        (ada.session_id,),
    )
    return ada, bob, cid


SCRIPTS = {
    "revoke_user": {"user": "1"},
    "revoke_network": {"network": "198.51.100.0/24"},
    "revoke_created_before": {"before": "now - 1 hour"},
    "revoke_below_version": {"version": "1.4.0"},
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_ends_what_it_names_and_nothing_else(
    database: Database, people: People, script: str
) -> None:
    ada, bob, cid = three(people)
    selector = dict(SCRIPTS[script])
    if "before" in selector:
        selector["before"] = people.one("SELECT (now() - interval '1 hour')::text")
    path = OPS / f"{script}.sql"
    rows = len(audit(people))
    assert psql(database, path, **SAID, **selector, dry_run="1") == (0, "1|0||")
    assert live(people) == {ada.session_id, bob.session_id, cid.session_id}
    assert len(audit(people)) == rows
    code, told = psql(database, path, **SAID, **selector)
    assert (code, told.split("|")[:2]) == (0, ["1", "1"])
    assert live(people) == {bob.session_id, cid.session_id}
    # One act, one row: it says who and why.
    [row] = audit(people)[rows:]
    assert row[:3] == ("olga", "sessions.revoke", "incident 42")
    assert row[3]["revoked"] == 1
    told_id = int(told.split("|")[2])
    assert people.one("SELECT id FROM admin_action_audit_head") == told_id


def test_everybody_is_out_after_revoke_all(database: Database, people: People) -> None:
    three(people)
    code, told = psql(database, OPS / "revoke_all.sql", **SAID)
    assert (code, told.split("|")[:2]) == (0, ["3", "3"])
    assert live(people) == set()


@pytest.mark.parametrize("script", ["revoke_all", *SCRIPTS])
@pytest.mark.parametrize("missing", ["actor", "reason", "selector"])
def test_without_an_actor_a_reason_or_a_selector_nothing_is_done(
    database: Database, people: People, script: str, missing: str
) -> None:
    if (script, missing) == ("revoke_all", "selector"):
        missing = "reason"
    three(people)
    before, rows = live(people), audit(people)
    said = {name: value for name, value in SAID.items() if name != missing}
    selector = {} if missing == "selector" else SCRIPTS.get(script, {})
    code, told = psql(database, OPS / f"{script}.sql", **said, **selector)
    assert code == 3, told  # psql's code for a script that stopped at an error
    assert "ERROR" in told
    assert (live(people), audit(people)) == (before, rows)


def test_a_version_that_is_none_is_no_selector(database: Database, people: People) -> None:
    three(people)
    code, told = psql(database, OPS / "revoke_below_version.sql", **SAID, version="v1.4")
    assert (code, "exactly one selector" in told) == (3, True)


def test_what_a_script_is_told_is_a_value_and_never_sql(database: Database, people: People) -> None:
    three(people)
    hostile = "x'; DELETE FROM users; --"
    for variables in ({**SAID, "user": hostile}, {**SAID, "reason": hostile, "user": "1"}):
        psql(database, OPS / "revoke_user.sql", **variables)
    assert people.one("SELECT count(*) FROM users") == 3
    assert people.one("SELECT count(*) FROM admin_action_audit WHERE reason = %s", hostile) == 1


# (a statement, the action and the number of rows in its audit row; None: it leaves none)
BY_HAND: list[tuple[str, tuple[str, str, int | None] | None]] = [
    (
        "UPDATE user_sessions SET revoked_at = now()",
        ("sql.update", "user_sessions", 3),
    ),
    ("UPDATE user_sessions SET user_agent = 'x' WHERE id = 1", ("sql.update", "user_sessions", 1)),
    ("DELETE FROM user_sessions WHERE id < 3", ("sql.delete", "user_sessions", 2)),
    ("UPDATE users SET is_admin = true WHERE id = 2", ("sql.update", "users", 1)),
    ("DELETE FROM users WHERE id = 1", ("sql.delete", "users", 1)),
    ("UPDATE users SET is_admin = true WHERE id = 99", None),
    (
        "INSERT INTO users (email, email_key, password_hash, display_name, is_admin)"
        " VALUES ('x@y', 'x@y', 'x', 'X', true)",
        ("sql.insert", "users", 1),
    ),
    (
        "INSERT INTO chat_messages (channel_id, seq, sender_id, content, client_msg_id,"
        " request_id, created_at) VALUES (1, 1, 1, 'as another', gen_random_uuid(), 'x', now())",
        ("sql.insert", "chat_messages", 1),
    ),
    ("DELETE FROM rate_limits", None),
    ("TRUNCATE chat_messages", ("sql.truncate", "chat_messages", None)),
    ("TRUNCATE security_events", ("sql.truncate", "security_events", None)),
    ("UPDATE chat_channels SET kind = 'global'", ("sql.update", "chat_channels", 1)),
    ("DELETE FROM chat_channels", ("sql.delete", "chat_channels", 1)),
    ("TRUNCATE user_sessions CASCADE", ("sql.truncate", "user_sessions", None)),
]


@pytest.mark.parametrize(("statement", "expected"), BY_HAND)
def test_a_statement_by_hand_leaves_a_row_with_role_table_and_count(
    people: People, statement: str, expected: tuple[str, str, int | None] | None
) -> None:
    three(people)
    before = len(audit(people))
    people.owner.execute(statement.encode())
    rows = audit(people)[before:]
    if expected is None:
        assert rows == []
        return
    action, table, count = expected
    told = [(row[0], row[1], row[3]["table"], row[3]["rows"]) for row in rows]
    assert ("psql:gatehouse", action, table, count) in told
    # Other tables are taken along by foreign keys.
    assert action in ("sql.delete", "sql.truncate") or len(told) == 1
    assert people.one("SELECT host(ip) FROM admin_action_audit ORDER BY id DESC LIMIT 1") == (
        "127.0.0.1"
    )
    assert people.one("SELECT count(*) FROM statements_by_hand") == 0


def test_no_table_is_changed_by_hand_in_silence(people: People) -> None:
    """A table that a later migration makes needs its triggers too."""
    unwatched = people.owner.execute(
        "SELECT c.relname FROM pg_class c"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'"
        " AND (SELECT count(*) FROM pg_trigger t"
        "      WHERE t.tgrelid = c.oid AND t.tgfoid = 'on_statement_by_hand'::regproc) <> 4"
        " ORDER BY 1"
    ).fetchall()
    assert unwatched == [
        ("admin_action_audit",),
        ("admin_action_audit_head",),
        ("schema_migrations",),
        ("statements_by_hand",),
    ]


def test_an_act_beside_a_statement_by_hand_hides_nothing(
    database: Database, people: People
) -> None:
    three(people)
    rows = len(audit(people))
    people.owner.execute(
        "BEGIN; UPDATE users SET is_admin = true WHERE id = 2;"
        " SELECT revoke_sessions('olga', 'incident', NULL, NULL, false, p_user_id => 1);"
        " DELETE FROM users WHERE id = 3; COMMIT"
    )
    told = [(row[1], row[3].get("table")) for row in audit(people)[rows:]]
    assert told[0] == ("sessions.revoke", None)  # at once; the others at the commit
    assert ("sql.update", "users") in told
    assert ("sql.delete", "users") in told
    assert ("sql.update", "user_sessions") not in told


def test_somebody_who_thinks_in_an_open_transaction_holds_no_operator_up(
    database: Database, people: People
) -> None:
    """The audit's head is locked at the commit and not at the statement."""
    three(people)
    with database.connect() as slow, database.connect("api") as api:
        api.execute("SET lock_timeout = '1s'")
        with slow.transaction():
            slow.execute("UPDATE user_sessions SET user_agent = 'x' WHERE id = 1")
            api.execute("SELECT append_audit('olga', 'test', NULL, NULL, NULL, NULL, '{}')")
    assert [row[1] for row in audit(people)][-2:] == ["test", "sql.update"]


def test_what_services_do_is_no_statement_by_hand(database: Database, people: People) -> None:
    ada = people.person()
    with database.connect("api") as api:
        api.execute("UPDATE user_sessions SET revoked_at = now() WHERE id = %s", (ada.session_id,))
    assert audit(people) == []


def test_a_hundred_thousand_sessions_end_in_one_statement(
    database: Database, people: People
) -> None:
    ada = people.person()
    people.owner.execute(
        "INSERT INTO user_sessions (user_id, expires_at, idle_expires_at)"
        " SELECT %s, now() + interval '1 day', now() + interval '1 day'"
        " FROM generate_series(1, 99999)",
        (ada.user_id,),
    )
    code, told = psql(database, OPS / "revoke_all.sql", **SAID)
    assert (code, told.split("|")[:2]) == (0, ["100000", "100000"])
    assert live(people) == set()
    assert audit(people)[-1][3]["revoked"] == 100_000
