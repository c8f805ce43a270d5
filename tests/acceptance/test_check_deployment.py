"""scripts/check-deployment, with one thing after the other broken on purpose."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.migrations import read_migrations
from scripts.check_deployment import clock, main
from scripts.dev_env import write_dev_env
from tests.support.certificates import Authority
from tests.support.cluster import clean_environment
from tests.support.databases import Database
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.secret_manager import SecretManager
from tests.support.tls_front import TlsFront

KEY = hashlib.sha256(b"a key").hexdigest()
TOKEN = "ann:a-token-of-more-than-24-characters"


class Deployment:
    """Both services' environments, on TLS and secret references, written to files and checked."""

    def __init__(self, folder: Path, database: Database, manager: SecretManager) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.manager = manager
        self.environments = {
            service: self._environment(database, service) for service in ("api", "gateway")
        }
        self.environments["api"] |= {
            "JWT_SECRET_SECRET_REF": manager.add("jwt", KEY),
            "OPS_API_TOKEN_SECRET_REF": manager.add("ops", TOKEN),
        }

    def _environment(self, database: Database, service: str) -> dict[str, str]:
        values = database.environment("api" if service == "api" else "gateway")
        password = self.manager.add(f"db-{service}", values.pop("DB_PASSWORD"))
        return {
            **values,
            "DB_PASSWORD_SECRET_REF": password,
            "DB_SSLMODE": "verify-full",
            "DB_SSLROOTCERT": str(self.authority.file),
            "SECRET_MANAGER_EMULATOR_HOST": self.manager.host,
        }

    def set(self, service: str = "both", **changes: str) -> None:
        for name in ("api", "gateway") if service == "both" else (service,):
            self.environments[name] |= changes

    def arguments(self) -> list[str]:
        arguments = []
        for service, values in self.environments.items():
            file = self.folder / f"{service}.env"
            write_dev_env(file, values)
            arguments += [f"--{service}", str(file)]
        return arguments


@pytest.fixture
def deployment(tmp_path: Path, database: Database) -> Iterator[Deployment]:
    with SecretManager() as manager:
        made = Deployment(tmp_path, database, manager)
        with TlsFront(database.cluster.port, made.authority.server_context()) as front:
            made.set(DB_PORT=str(front.port))
            yield made


class Complaints:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, deployment: Deployment) -> list[str]:
        """What is not ok, without the verdict and with single spaces."""
        code = main(deployment.arguments())
        said = self._capsys.readouterr().out
        found = [
            " ".join(line.split()[2:]) for line in said.splitlines() if line.startswith("NOT OK")
        ]
        assert code == (1 if found else 0), said
        assert KEY not in said
        assert TOKEN not in said
        return found


@pytest.fixture
def complaints(capsys: pytest.CaptureFixture[str]) -> Complaints:
    return Complaints(capsys)


def test_a_good_deployment_is_called_good_line_by_line(deployment: Deployment) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.check_deployment", *deployment.arguments()],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[:3] for line in lines[:7]] == [
        ["ok", "api", subject]
        for subject in ("configuration", "secrets", "TLS", "database", "schema", "role", "clock")
    ]
    assert "1 signing key, 1 ops token, 1 database password" in done.stdout
    assert "name and authority verified" in done.stdout
    assert "gatehouse_gateway, with the rights of its service alone" in done.stdout
    assert done.stdout.endswith("everything is as it should be\n")


class TestTheConfiguration:
    def test_one_services_mistakes_do_not_hide_the_others(
        self, deployment: Deployment, complaints: Complaints
    ) -> None:
        deployment.set("api", PORT="zero", WS_MAX_CONNECTION="5")
        deployment.set("gateway", DB_PASSWORD_SECRET_REF="projects/p/secrets/db/versions/9")
        assert complaints(deployment) == [
            "api configuration WS_MAX_CONNECTION is not a known variable; the nearest is"
            " WS_MAX_CONNECTIONS",
            "api configuration PORT must be a whole number from 1 to 65535",
            "gateway secrets DB_PASSWORD_SECRET_REF: projects/p/secrets/db/versions/9"
            " does not exist",
        ]

    def test_production_is_judged_as_production(
        self, deployment: Deployment, complaints: Complaints
    ) -> None:
        deployment.set(APP_ENV="production")
        assert [line.split()[2] for line in complaints(deployment)] == [
            "SECRET_MANAGER_EMULATOR_HOST",
            "PUBLIC_WS_URL",
            "SECRET_MANAGER_EMULATOR_HOST",
        ]

    def test_services_that_disagree_are_told_about_what(
        self, deployment: Deployment, complaints: Complaints
    ) -> None:
        deployment.set("api", CHAT_WRITE_RATE_LIMIT_MAX_PER_ACCOUNT="5", AUTH_SESSION_IDLE_DAYS="3")
        deployment.set(
            "gateway",
            AUTH_REFRESH_REUSE_GRACE_SECONDS="5",
            AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_IP="6",
        )
        assert complaints(deployment) == [
            "both shared values AUTH_SESSION_IDLE_DAYS, AUTH_REFRESH_REUSE_GRACE_SECONDS,"
            " AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_IP, CHAT_WRITE_RATE_LIMIT_MAX_PER_ACCOUNT"
            " differ: give both services one value"
        ]

    def test_what_one_service_alone_acts_on_may_differ(
        self, deployment: Deployment, complaints: Complaints
    ) -> None:
        deployment.set("api", AUTH_SESSION_TTL_DAYS="3", WS_TICKET_TTL_SECONDS="5")
        deployment.set("gateway", WS_PING_SECONDS="5", DRAIN_WARNING_SECONDS="")
        assert complaints(deployment) == []

    @pytest.mark.parametrize(
        ("content", "said"),
        [("DB_HOST='x", "a quote that is not closed"), ("A=1\nhidden-value", "entry 2 is not")],
    )
    def test_a_file_that_cannot_be_read_is_named_without_what_is_in_it(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
    ) -> None:
        file = tmp_path / "broken.env"
        file.write_text(content)
        assert main(["--api", str(file)]) == 64
        told = capsys.readouterr().err
        assert said in told
        assert "hidden-value" not in told


class TestTheDatabase:
    def test_a_wrong_password_and_a_wrong_port_are_told_apart(
        self, deployment: Deployment, complaints: Complaints
    ) -> None:
        port = str(free_port())
        deployment.set("api", DB_PASSWORD_SECRET_REF=deployment.manager.add("db", "wrong-password"))
        deployment.set("gateway", DB_PORT=port, DB_CONNECT_TIMEOUT="2")
        wrong_password, no_handshake, nobody = complaints(deployment)
        assert wrong_password.startswith("api database connection failed")
        assert "does not hold this role's password" in wrong_password
        assert "wrong-password" not in wrong_password
        assert no_handshake.startswith("gateway TLS 127.0.0.1: no TLS handshake")
        assert "onnection refused" in nobody

    def test_a_schema_that_is_behind_names_what_has_not_run(
        self, deployment: Deployment, complaints: Complaints, database: Database
    ) -> None:
        newest = read_migrations()[-1]
        with database.connect() as owner:
            owner.execute("DELETE FROM schema_migrations WHERE version = %s", (newest.version,))
        told = complaints(deployment)
        assert len(told) == 2
        for line in told:
            assert (
                f"older than this program: {newest.name} has not run. Run scripts/migrate" in line
            )

    def test_a_database_without_a_schema_is_told(
        self, deployment: Deployment, complaints: Complaints, empty_database: Database
    ) -> None:
        deployment.set(DB_NAME=empty_database.name)
        told = complaints(deployment)
        assert len(told) == 2
        assert all("0001_foundation has not run" in line for line in told)

    def test_two_databases_are_one_too_many(
        self, deployment: Deployment, complaints: Complaints, empty_database: Database
    ) -> None:
        deployment.set("gateway", DB_NAME=empty_database.name)
        assert complaints(deployment)[-1] == (
            "both one database the services use two: compare their DB_HOST and DB_NAME"
        )


class TestTheRole:
    @pytest.mark.parametrize(
        ("role", "faults"),
        [
            ("gatehouse", "owns the tables, may make roles or databases"),
            ("postgres", "is a superuser"),
            ("gatehouse_gateway", "has not the rights of gatehouse_api"),
        ],
    )
    def test_a_service_does_not_connect_as_somebody_else(
        self,
        deployment: Deployment,
        complaints: Complaints,
        database: Database,
        role: str,
        faults: str,
    ) -> None:
        reference = deployment.manager.add("db", database.cluster.passwords[role])
        deployment.set("api", DB_USER=role, DB_PASSWORD_SECRET_REF=reference)
        assert complaints(deployment) == [
            f"api role {role} {faults}: DB_USER should be gatehouse_api"
        ]

    def test_a_member_of_the_services_role_is_not_the_service(
        self, deployment: Deployment, complaints: Complaints, database: Database
    ) -> None:
        with database.connect() as owner:
            owner.execute("CREATE ROLE vault_api LOGIN PASSWORD 'borrowed' IN ROLE gatehouse_api")
        try:
            reference = deployment.manager.add("db", "borrowed")
            deployment.set("api", DB_USER="vault_api", DB_PASSWORD_SECRET_REF=reference)
            [told] = complaints(deployment)
        finally:
            with database.connect() as owner:
                owner.execute("DROP ROLE vault_api")
        assert told == (
            "api role vault_api is a member of gatehouse_api, whose acts are audited as done by"
            " hand: DB_USER should be gatehouse_api"
        )

    def test_a_role_without_any_right_is_sent_to_the_migration(
        self, deployment: Deployment, complaints: Complaints, database: Database
    ) -> None:
        with database.connect() as owner:
            owner.execute("REVOKE SELECT ON schema_migrations FROM gatehouse_api")
        [told] = complaints(deployment)
        assert told.startswith("api schema permission denied for table schema_migrations")
        assert told.endswith("Run scripts/migrate as the owner: it gives the rights too")


class TestTheLink:
    def test_every_reason_for_no_trust_has_its_own_words(
        self, deployment: Deployment, complaints: Complaints, database: Database, tmp_path: Path
    ) -> None:
        authority, stranger = deployment.authority, Authority(tmp_path, "Somebody else")
        contexts = {
            "certificate is not valid for '127.0.0.1'": authority.server_context("db.example.org"),
            "unable to get local issuer certificate": stranger.server_context(),
            "certificate has expired": authority.server_context(valid_days=-1),
        }
        for reason, context in contexts.items():
            with TlsFront(database.cluster.port, context) as front:
                deployment.set(DB_PORT=str(front.port))
                told = complaints(deployment)
            assert [line.split()[:2] for line in told] == [
                [service, subject]
                for service in ("api", "gateway")
                for subject in ("TLS", "database")
            ]
            assert reason in told[0]

    def test_a_certificate_that_will_expire_is_told_in_time(
        self, deployment: Deployment, complaints: Complaints, database: Database
    ) -> None:
        context = deployment.authority.server_context(valid_days=5)
        with TlsFront(database.cluster.port, context) as front:
            deployment.set("gateway", DB_PORT=str(front.port))
            assert complaints(deployment) == [
                "gateway TLS the server's certificate expires in 5 days: renew it"
            ]

    def test_a_server_without_tls_is_told(
        self, deployment: Deployment, complaints: Complaints, database: Database
    ) -> None:
        deployment.set("api", DB_PORT=str(database.cluster.port))
        unencrypted, refused = complaints(deployment)
        assert "the server speaks no TLS: switch it on in Postgres (ssl = on)" in unencrypted
        assert "server does not support SSL" in refused

    def test_what_is_not_verified_is_said_though_it_is_allowed(
        self,
        deployment: Deployment,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        for values in deployment.environments.values():
            del values["DB_SSLROOTCERT"]
            values["DB_SSLMODE"] = "require"
        assert main(deployment.arguments()) == 0
        assert "nobody verifies who answers" in capsys.readouterr().out


class TestTheClock:
    @pytest.mark.parametrize(
        ("theirs", "is_good"), [(100.2, True), (98.5, True), (97.9, False), (103.0, False)]
    )
    def test_two_seconds_are_too_much(self, theirs: float, is_good: bool) -> None:
        assert clock(100.0, theirs, 100.5).is_good is is_good

    def test_an_hour_is_told_as_such(self) -> None:
        assert clock(3700.0, 100.0, 3700.0).text == "3600 s from Postgres's: set both by NTP"
