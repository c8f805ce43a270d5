"""scripts/verify_audit: the database, an export, and what was kept elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from db import audit
from tests.support.cluster import clean_environment
from tests.support.databases import Database
from tests.support.processes import ROOT

Verify = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def verify(database: Database) -> Verify:
    """Runs the script with the API's role; (exit code, lines)."""

    def run(*arguments: str) -> tuple[int, list[str]]:
        done = subprocess.run(
            [sys.executable, "-m", "scripts.verify_audit", *arguments],
            cwd=ROOT,
            env={**clean_environment(), **database.environment("api")},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, (done.stdout + done.stderr).splitlines()

    return run


@pytest.fixture
def heads(database: Database) -> list[str]:
    """Ten rows; their heads as the script takes them, the first row's first."""
    with database.connect("api") as api:
        written = [
            audit.record(api, actor="olga", action="test", ip=None, reason="ünïcode", number=n)
            for n in range(10)
        ]
    return [f"{head.id}:{head.hash.hex()}" for head in written]


def as_owner(database: Database, *statements: str) -> None:
    with database.connect() as owner:
        owner.execute("ALTER TABLE admin_action_audit DISABLE TRIGGER ALL")
        for statement in statements:
            owner.execute(statement.encode())


def test_the_command_has_one_name_and_hands_on_its_arguments() -> None:
    command = ROOT / "scripts" / "verify_audit"
    assert os.access(command, os.X_OK)
    assert command.read_text().endswith('-m scripts.verify_audit "$@"\n')
    assert not command.with_name("verify-audit").exists()


def test_an_intact_trail_is_exported_and_verified_without_its_database(
    verify: Verify, heads: list[str], tmp_path: Path
) -> None:
    export = str(tmp_path / "audit.jsonl")
    assert verify("--export", export) == (0, [f"intact: 10 rows, head {heads[-1]}"])
    kept = [argument for head in heads for argument in ("--head", head)]
    told = [f"intact: 10 rows, 10 kept elsewhere, head {heads[-1]}"]
    assert verify("--file", export, *kept) == (0, told)
    assert verify(*kept) == (0, told)


# (what is done to the lines of the file, the first row that shows it)
SPOILT: dict[str, tuple[Callable[[list[str]], list[str]], int]] = {
    "altered": (lambda lines: [line.replace("olga", "me") for line in lines], 1),
    "deleted": (lambda lines: lines[:4] + lines[5:], 5),
    "inserted": (lambda lines: [*lines[:4], lines[3], *lines[4:]], 5),
    "reordered": (lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]], 5),
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_spoilt_export_is_told_with_its_first_broken_row(
    verify: Verify, heads: list[str], tmp_path: Path, spoil: str
) -> None:
    export = tmp_path / "audit.jsonl"
    verify("--export", str(export))
    change, first_broken = SPOILT[spoil]
    lines = change(export.read_text().splitlines())
    export.write_text("".join(f"{line}\n" for line in lines))
    assert verify("--file", str(export)) == (
        1,
        [f"BROKEN: row {first_broken} is the first that is broken"],
    )


def test_a_tail_that_was_cut_off_shows_against_a_head_kept_elsewhere(
    verify: Verify, heads: list[str], database: Database, tmp_path: Path
) -> None:
    as_owner(
        database,
        "DELETE FROM admin_action_audit WHERE id > 7",
        "UPDATE admin_action_audit_head SET (id, hash) ="
        " (SELECT id, hash FROM admin_action_audit WHERE id = 7)",
    )
    export = str(tmp_path / "audit.jsonl")
    assert verify("--export", export)[0] == 0  # by itself it is a chain like any other
    told = (1, ["BROKEN: row 9 was kept elsewhere and is not there any more"])
    assert verify("--head", heads[8]) == told
    assert verify("--file", export, "--head", heads[8]) == told
    assert verify("--head", heads[6])[0] == 0


def test_a_trail_that_was_made_anew_shows_against_a_head_kept_elsewhere(
    verify: Verify, heads: list[str], database: Database
) -> None:
    """By its owner, with the database's own functions, so that every hash is right."""
    as_owner(
        database,
        "CREATE TEMP TABLE before AS SELECT * FROM admin_action_audit WHERE id <> 4",
        "DELETE FROM admin_action_audit",
        "UPDATE admin_action_audit_head SET id = 0, hash = decode(repeat('00', 32), 'hex')",
        "SELECT append_audit(actor, action, request_id, ip, user_id, reason, details)"
        " FROM before ORDER BY id",
    )
    assert verify()[0] == 0
    assert verify("--head", heads[-1], "--head", heads[8]) == (
        1,
        [
            "BROKEN: row 9 is not the one that was kept elsewhere",
            "BROKEN: row 10 was kept elsewhere and is not there any more",
        ],
    )


def test_a_column_that_says_something_else_is_found_in_the_database(
    verify: Verify, heads: list[str], database: Database
) -> None:
    as_owner(database, "UPDATE admin_action_audit SET reason = 'none' WHERE id = 6")
    assert verify() == (1, ["BROKEN: row 6 is the first that is broken"])


def test_what_it_cannot_read_is_not_intact(
    verify: Verify, heads: list[str], tmp_path: Path
) -> None:
    spoilt = tmp_path / "audit.jsonl"
    for content in (b"no json", b"\xff", json.dumps({"id": 1}).encode()):
        spoilt.write_bytes(content)
        code, [line] = verify("--file", str(spoilt))
        assert code == 2
        assert line.startswith("verify_audit: could not look: ")
    assert verify("--file", str(tmp_path / "missing"))[0] == 2
    assert verify("--head", "10:abc")[0] == 64
