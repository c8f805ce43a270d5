"""scripts/provision, scripts/deploy and scripts/perimeter as processes, with gcloud played."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import clean_environment

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
[project]
id = "my-project-123"
region = "europe-west1"
domain = "chat.example.org"
"""


class Cloud:
    """A project in which nothing has been made yet, and what was called in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "deploy.toml"
        self.config.write_text(CONFIG)
        (folder / "bin").mkdir()
        gcloud = folder / "bin" / "gcloud"
        script = ROOT / "tests" / "support" / "stand_in_gcloud.py"
        python = Path(sys.executable).resolve()  # the environment's own start would cost more
        gcloud.write_text(f"#!{python} -IS\n" + script.read_text("utf-8"))
        gcloud.chmod(0o755)

    def run(self, what: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "scripts.cloud", what, f"--config={self.config}", *arguments],
            cwd=ROOT,
            env={
                **clean_environment(),
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                "STAND_IN": str(self.folder),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    def calls(self) -> list[dict[str, Any]]:
        """Those since the last time one asked."""
        file = self.folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    def fail(self, text: str) -> None:
        (self.folder / "fails").write_text(text)

    def heal(self) -> None:
        (self.folder / "fails").unlink()


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path)


def changes(calls: list[dict[str, Any]]) -> list[str]:
    return [
        " ".join(call["words"])
        for call in calls
        if not {"describe", "access"} & set(call["words"][:5])
    ]


def test_a_dry_run_calls_nothing_and_prints_everything(cloud: Cloud) -> None:
    for what in ("provision", "deploy", "perimeter"):
        done = cloud.run(what, "--dry-run")
        assert done.returncode == 0, done.stderr
        assert "set -euo pipefail" in done.stdout
        assert "gcloud " in done.stdout
    assert cloud.calls() == []


def test_a_wrong_configuration_calls_nothing_and_says_all(cloud: Cloud) -> None:
    cloud.config.write_text(CONFIG + "[api]\nmax_instances = 99\nthreads = 3\n")
    done = cloud.run("deploy")
    assert done.returncode == 78
    assert done.stderr == "deploy: [api] has no key threads\n"
    cloud.config.write_text(CONFIG + "[api]\nmax_instances = 99\n")
    assert "max_connections must be at least" in cloud.run("deploy").stderr
    assert cloud.calls() == []


class TestProvision:
    def test_secrets_are_random_and_unseen_and_the_second_time_makes_nothing_again(
        self, cloud: Cloud
    ) -> None:
        first = cloud.run("provision")
        assert first.returncode == 0, first.stderr
        calls = cloud.calls()
        assert sum(" create " in f" {call} " for call in changes(calls)) == 5 + 5 + 4 + 1
        self.look_at_the_secrets(calls, first.stdout + first.stderr)
        second = cloud.run("provision")
        assert second.returncode == 0, second.stderr
        again = changes(cloud.calls())
        assert not [call for call in again if " create " in call or " versions add " in call]
        # What converges is said again: interfaces, bindings, and Postgres's settings.
        assert [call for call in again if "sql instances patch" in call]

    def look_at_the_secrets(self, calls: list[dict[str, Any]], said: str) -> None:
        """They reach gcloud by other ways than its words."""
        values = [
            call["stdin"] for call in calls if call["words"][:3] == ["secrets", "versions", "add"]
        ]
        assert len(set(values)) == 5
        assert all(len(value) == 64 for value in values)
        [owner] = [call for call in calls if call["words"][:3] == ["sql", "users", "create"]]
        assert owner["flags"] == '--password: "the-password-of-the-owner"\n'
        assert owner["mode"] == "0o100600"
        flags_file = next(word for word in owner["words"] if "--flags-file=" in word)
        assert not Path(flags_file.partition("=")[2]).exists()
        everything = said + "".join(changes(calls))
        for value in [*values, "the-password-of-the-owner"]:
            assert value not in everything

    def test_it_stops_at_the_first_error_says_what_to_do_and_goes_on_from_there(
        self, cloud: Cloud
    ) -> None:
        cloud.fail("sql instances create")
        done = cloud.run("provision")
        assert done.returncode == 1
        assert "PERMISSION_DENIED: you may not" in done.stderr
        assert "What to do: gcloud sql operations list" in done.stderr
        assert changes(cloud.calls())[-1].startswith("sql instances create gatehouse ")
        cloud.heal()
        assert cloud.run("provision").returncode == 0
        again = changes(cloud.calls())
        made = [call.split(" --")[0] for call in again if " create " in call]
        assert made == [
            "sql instances create gatehouse",
            "sql databases create gatehouse",
            "sql users create gatehouse",
        ]


class TestDeploy:
    def test_a_failed_migration_leaves_the_services_alone(self, cloud: Cloud) -> None:
        cloud.fail("run jobs execute gatehouse-migrate")
        done = cloud.run("deploy", "--tag=abc")
        assert done.returncode == 1
        assert "What to do: gcloud run jobs executions list" in done.stderr
        assert not [call for call in changes(cloud.calls()) if call.startswith("run deploy")]

    def test_the_perimeter_comes_last_and_can_be_left_out(self, cloud: Cloud) -> None:
        assert cloud.run("deploy", "--tag=abc").returncode == 0
        calls = changes(cloud.calls())
        assert "allUsers" in calls[-1]
        assert cloud.run("deploy", "--tag=abc", "--without-perimeter").returncode == 0
        again = changes(cloud.calls())
        assert not [call for call in again if call.startswith("compute")]
        # An image is built once.
        assert len([call for call in calls if call.startswith("builds submit")]) == 1
        assert not [call for call in again if call.startswith("builds submit")]


def test_a_rule_that_is_there_is_brought_up_to_date(cloud: Cloud) -> None:
    assert cloud.run("perimeter").returncode == 0
    cloud.calls()
    cloud.config.write_text(CONFIG + "[perimeter]\nauth_requests_per_minute = 60\n")
    assert cloud.run("perimeter").returncode == 0
    rules = [call for call in changes(cloud.calls()) if "security-policies rules" in call]
    assert all(" rules update " in call for call in rules)
    assert any("--rate-limit-threshold-count=60 " in call for call in rules)
