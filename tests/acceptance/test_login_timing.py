"""scripts/login-timing against a real API; the figures themselves are for people."""

from __future__ import annotations

import subprocess
import sys

from tests.support.cluster import clean_environment
from tests.support.databases import Database
from tests.support.processes import ROOT, Processes
from tests.support.services import People, api_environment


def _run(port: int, *options: str) -> subprocess.CompletedProcess[str]:
    url = f"http://127.0.0.1:{port}"
    return subprocess.run(
        [sys.executable, "-m", "scripts.login_timing", url, *options],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_it_measures_three_accounts_whose_answers_are_the_same(
    database: Database, processes: Processes
) -> None:
    room = {"AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_ACCOUNT": "100"}
    _, port = processes.start_service("api", api_environment(database, **room))
    with People(database) as people:
        ada = people.person()
        people.owner.execute("UPDATE users SET disabled_at = now() WHERE id = %s", [ada.user_id])
        email: str = people.one("SELECT email FROM users WHERE id = %s", ada.user_id)
        # Somebody whose hash is none would be a 500, and no answer to compare.
        people.owner.execute(
            "UPDATE users SET password_hash = %s WHERE id = %s",
            [f"scrypt$4$8$3${'A' * 22}==${'A' * 43}=", ada.user_id],
        )
    done = _run(port, "--tries", "5", "--disabled", email)
    assert (done.returncode, done.stderr) == (0, "")
    _, *rows = done.stdout.splitlines()
    assert [row.split()[:2] for row in rows] == [
        ["known", "5"],
        ["unknown", "5"],
        ["disabled", "5"],
    ]


def test_without_room_in_the_limits_it_says_so(database: Database, processes: Processes) -> None:
    _, port = processes.start_service("api", api_environment(database))
    done = _run(port, "--tries", "20")
    assert done.returncode == 1
    assert "429" in done.stderr
