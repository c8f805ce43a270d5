"""`python -m db.set_passwords`: the job that gives the services' roles their passwords."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import psycopg
import pytest

from scripts.embedded_postgres import EmbeddedPostgres
from tests.support.cluster import clean_environment
from tests.support.own_database import OwnDatabase, migrated
from tests.support.processes import ROOT
from tests.support.secret_manager import SecretManager


def set_passwords(environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "db.set_passwords"],
        cwd=ROOT,
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def gets_in(database: OwnDatabase, role: str, password: str) -> bool:
    try:
        psycopg.connect(
            host=database.postgres.host,
            port=database.postgres.port,
            dbname="gatehouse",
            user=role,
            password=password,
            sslmode="disable",
        ).close()
    except psycopg.OperationalError:
        return False
    return True


def test_each_role_gets_its_own_and_nobody_sees_it(own_postgres: EmbeddedPostgres) -> None:
    database = migrated(own_postgres)
    with SecretManager() as manager, database.connect() as owner:
        owner.execute("CREATE ROLE bystander LOGIN")
        references = {
            "SECRET_MANAGER_EMULATOR_HOST": manager.host,
            "API_PASSWORD_SECRET_REF": manager.add("api", "a-long-password-of-the-api"),
            "GATEWAY_PASSWORD_SECRET_REF": manager.add("gateway", "the-gateways-own-password"),
        }
        for _ in range(2):  # again: the same
            done = set_passwords({**database.environment(), **references})
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout == "set_passwords: gatehouse_api and gatehouse_gateway have theirs\n"
        assert gets_in(database, "gatehouse_api", "a-long-password-of-the-api")
        assert gets_in(database, "gatehouse_gateway", "the-gateways-own-password")
        assert not gets_in(database, "gatehouse_api", "the-gateways-own-password")
        assert not gets_in(database, "bystander", "a-long-password-of-the-api")


@pytest.mark.parametrize("missing", ["API_PASSWORD_SECRET_REF", "GATEWAY_PASSWORD_SECRET_REF"])
def test_a_reference_that_is_missing_or_wrong_is_told_by_its_own_name(missing: str) -> None:
    references = {
        "APP_ENV": "test",
        "DB_HOST": "127.0.0.1",
        "DB_PASSWORD": "x",
        "API_PASSWORD_SECRET_REF": "projects/p/secrets/s/versions/1",
        "GATEWAY_PASSWORD_SECRET_REF": "projects/p/secrets/s/versions/1",
        "SECRET_MANAGER_EMULATOR_HOST": "127.0.0.1:9",
    }
    wrong = set_passwords({**references, missing: "not a reference"})
    assert wrong.returncode == 78
    assert f"set_passwords: {missing} must hold references" in wrong.stderr
    if missing == "API_PASSWORD_SECRET_REF":
        del references[missing]
        none = set_passwords(references)
        assert (none.returncode, none.stderr) == (78, f"set_passwords: {missing} must be set\n")
