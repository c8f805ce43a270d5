"""The secret scanner: what it finds, what it leaves alone, and that it shows nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scripts.security.secrets_gate import secrets, secrets_of_history

# Put together here, so that this file holds none of them.
PLANTED = {
    "private-key": "-----BEGIN " + "OPENSSH PRIVATE KEY-----",
    "aws-key": "id = 'AKIA" + "IOSFODNN7EXAMPLE'",
    "google-api-key": "AIza" + "SyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
    "github-token": "curl -H 'Authorization: ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a'",
    "slack-token": "xoxb-" + "263594206564-2343594206574-FGqddMF8t08v8N7Oq4i57vs1",
    "jwt": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVm",
    "password-in-url": "postgresql://gatehouse:" + "Xk39vmQp20@db.example.org/gatehouse",
    "random-looking": 'JWT_SECRET = "' + "q7Jt0Zr5mW2xVb9nLc4dKs8fHg1pYe6u" + '"',
}
INNOCENT = [
    "JWT_SECRET_SECRET_REF=$NEW,projects/P17/secrets/jwt/versions/3",
    "JWT_SECRET_SECRET_REF=projects/P17/secrets/jwt/versions/3,$NEW",
    'JWT_SECRET_SECRET_REF = "projects/p/secrets/s/versions/3"',
    "token = opaque_tokens.successor(presented, nonce)",
    "password_hash = row.password_hash",
    'JWT_SECRET = "gatehouse-jwt-secret-2"',
    'secret = "the quick brown fox jumps over"',
    "postgresql://user:${PASS}@localhost/db",
    "https://docs.example.org/secrets?token=...",
    "sha256 = 1f0e3dad99908345f7439f8ffabdffc4a1b2c3d4e5f60718293a4b5c6d7e8f90",
]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    return tmp_path


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("rule", PLANTED)
def test_each_planted_secret_is_found_and_not_shown(repository: Path, rule: str) -> None:
    text = PLANTED[rule] + ("XyZw0987654321" if rule == "jwt" else "")
    (repository / "settings.py").write_text(f"# harmless\n{text}\n")
    [finding] = secrets(repository).findings
    assert (finding.rule, finding.path, finding.line) == (rule, "settings.py", 2)
    assert PLANTED[rule][-12:] not in str(finding)


@pytest.mark.parametrize("line", INNOCENT)
def test_what_only_speaks_of_secrets_is_left_alone(repository: Path, line: str) -> None:
    (repository / "settings.py").write_text(line + "\n")
    assert secrets(repository).findings == ()


def test_tests_may_make_up_random_values_but_not_carry_real_ones(repository: Path) -> None:
    (repository / "tests").mkdir()
    (repository / "tests" / "test_a.py").write_text(PLANTED["random-looking"])
    assert secrets(repository).findings == ()
    (repository / "tests" / "test_a.py").write_text(PLANTED["private-key"])
    assert [finding.rule for finding in secrets(repository).findings] == ["private-key"]


def test_what_was_taken_out_again_is_found_in_the_history(repository: Path) -> None:
    (repository / "deploy.env").write_text(PLANTED["google-api-key"])
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "oops")
    (repository / "deploy.env").write_text("")
    git(repository, "commit", "-qam", "nobody saw that")
    assert secrets(repository).findings == ()
    [finding] = secrets_of_history(repository).findings
    assert (finding.rule, finding.path) == ("google-api-key", "deploy.env")


def test_what_git_would_not_take_is_nobodys_business(repository: Path) -> None:
    (repository / ".gitignore").write_text("*.local\n")
    (repository / "mine.local").write_text(PLANTED["private-key"])
    assert secrets(repository).findings == ()


def test_without_git_nobody_has_looked(tmp_path: Path) -> None:
    assert secrets(tmp_path).not_run is not None
    assert secrets_of_history(tmp_path).not_run is not None


def test_a_shallow_clone_has_no_history_to_look_at(repository: Path) -> None:
    (repository / ".git" / "shallow").write_text("")
    reason = secrets_of_history(repository).not_run
    assert reason is not None
    assert "shallow" in reason
