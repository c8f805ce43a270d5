"""dev.env: what a shell makes of it, and what a second scripts/run makes of having read it."""

import subprocess
from pathlib import Path

import pytest

from scripts.dev_env import psql_values, without_embedded_database, write_dev_env


@pytest.mark.parametrize(
    "value",
    ["plain", "", "two words", "it's", "'", "$HOME `id` \\", "first\nsecond", '"', "a=b#c", "é"],
)
def test_a_shell_reads_back_every_value_as_it_was(tmp_path: Path, value: str) -> None:
    file = tmp_path / "dev.env"
    write_dev_env(file, {"NAME": value})

    command = f"set -a; . {file}; set +a; printenv NAME"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True)

    assert done.stdout.decode() == f"{value}\n"


def test_the_file_is_for_its_owner_alone_even_when_it_was_not_before(tmp_path: Path) -> None:
    file = tmp_path / "dev.env"
    file.touch(mode=0o644)

    write_dev_env(file, {"NAME": "value"})

    assert file.stat().st_mode & 0o777 == 0o600


def test_psql_takes_the_first_of_several_passwords() -> None:
    values = psql_values({"DB_HOST": "db", "DB_PASSWORD": "new\nold"})

    assert values == {"PGHOST": "db", "PGPASSWORD": "new"}


def test_a_terminal_that_read_dev_env_still_starts_its_own_postgres() -> None:
    read = {"DB_HOST": "127.0.0.1", "DB_PORT": "20001", "DB_PASSWORD": "x", "TERM": "xterm"}

    embedded = {**read, "GATEHOUSE_EMBEDDED_POSTGRES": "127.0.0.1:20001"}
    assert "DB_HOST" not in without_embedded_database(embedded)
    assert without_embedded_database(embedded)["TERM"] == "xterm"

    elsewhere = {**embedded, "DB_HOST": "db.example"}
    assert without_embedded_database(elsewhere) == elsewhere
