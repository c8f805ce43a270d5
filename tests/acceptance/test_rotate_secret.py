"""scripts/rotate-secret: names are checked, values are neither arguments nor printed."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from rules.secret_values import Secrets, read_secrets
from scripts.rotate_secret import main
from tests.support.databases import Database
from tests.support.ports import free_port
from tests.support.secret_manager import SecretManager

JWT = "projects/p/secrets/jwt"


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretManager]:
    with SecretManager() as started:
        started.add("jwt", "the key so far")
        monkeypatch.setenv("SECRET_MANAGER_EMULATOR_HOST", started.host)
        yield started


def accepted(**payload: list[str]) -> Secrets:
    """What a service in production makes of it."""
    problems: list[str] = []
    empty: dict[str, list[str]] = {"jwt_secret": [], "ops_api_token": [], "db_password": []}
    secrets = read_secrets(**{**empty, **payload}, production=True, problems=problems)
    assert problems == []
    return secrets


class TestANewVersion:
    def test_a_generated_key_is_one_that_production_takes(
        self, manager: SecretManager, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["new", "JWT_SECRET", JWT]) == 0
        assert main(["new", "JWT_SECRET", JWT]) == 0
        said = capsys.readouterr()
        second, third = said.out.split()
        assert (second, third) == (f"{JWT}/versions/2", f"{JWT}/versions/3")
        values = [manager.value(second), manager.value(third)]
        assert len(accepted(jwt_secret=values).jwt_keys) == 2
        assert not any(value in said.out + said.err for value in values)

    def test_every_actor_gets_an_ops_token_of_their_own(
        self, manager: SecretManager, capsys: pytest.CaptureFixture[str]
    ) -> None:
        manager.add("ops", "ann:the-token-so-far")
        arguments = ["new", "OPS_API_TOKEN", "projects/p/secrets/ops"]
        assert main(arguments) == 64
        assert main([*arguments, "--actors", "ann,bob"]) == 0
        value = manager.value(capsys.readouterr().out.strip())
        assert [name for name, _ in accepted(ops_api_token=[value]).ops_tokens] == ["ann", "bob"]

    def test_a_value_from_stdin_is_stored_as_it_is(
        self,
        manager: SecretManager,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        manager.add("db", "the password so far")
        monkeypatch.setattr("sys.stdin", io.StringIO("a password, with a comma\n"))
        assert main(["new", "DB_PASSWORD", "projects/p/secrets/db", "--stdin"]) == 0
        said = capsys.readouterr().out
        assert manager.value(said.strip()) == "a password, with a comma\n"

    def test_what_production_would_refuse_is_not_stored(
        self,
        manager: SecretManager,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("too-weak-a-key"))
        assert main(["new", "JWT_SECRET", JWT, "--stdin"]) == 1
        said = capsys.readouterr()
        assert said.err == "rotate-secret: JWT_SECRET: key 1 has fewer than 32 bytes\n"
        with pytest.raises(IndexError):
            manager.value(f"{JWT}/versions/2")

    def test_a_secret_that_is_not_there_is_told(
        self, manager: SecretManager, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["new", "JWT_SECRET", "projects/p/secrets/jwtt"]) == 1
        assert capsys.readouterr().err == (
            "rotate-secret: projects/p/secrets/jwtt: Secret Manager says NotFound\n"
        )


class TestDisabling:
    def test_it_says_how_it_is_undone(
        self, manager: SecretManager, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["disable", f"{JWT}/versions/1"]) == 0
        assert manager.state(f"{JWT}/versions/1") == "DISABLED"
        assert capsys.readouterr().out == (
            f"{JWT}/versions/1 is disabled; undone by: "
            "gcloud secrets versions enable 1 --secret=jwt --project=p\n"
        )
        assert main(["disable", f"{JWT}/versions/9"]) == 1


class TestARolesPassword:
    def test_the_owner_may_not_change_everybodys(
        self,
        manager: SecretManager,
        database: Database,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        for name, value in database.environment("owner").items():
            monkeypatch.setenv(name, value)
        version = manager.add("db", "a-new-password")
        assert main(["alter-role", "postgres", version]) == 1
        said = capsys.readouterr().err
        assert said.startswith("rotate-secret: postgres: permission denied")
        assert "a-new-password" not in said
        manager.set_state(version, "DISABLED")
        assert main(["alter-role", "gatehouse_api", version]) == 1
        assert capsys.readouterr().err == f"rotate-secret: {version} is disabled or destroyed\n"


class TestADryRun:
    @pytest.mark.parametrize(
        ("arguments", "command"),
        [
            (
                ["new", "JWT_SECRET", JWT],
                "gcloud secrets versions add jwt --project=p --data-file=-",
            ),
            (
                ["disable", f"{JWT}/versions/1"],
                "gcloud secrets versions disable 1 --secret=jwt --project=p",
            ),
            (
                ["alter-role", "gatehouse_api", f"{JWT}/versions/1"],
                "psql -c '\\password gatehouse_api'",
            ),
        ],
    )
    def test_it_prints_the_command_and_calls_nobody(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        arguments: list[str],
        command: str,
    ) -> None:
        monkeypatch.setenv("SECRET_MANAGER_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
        assert main([*arguments, "--dry-run"]) == 0
        assert capsys.readouterr().out == f"{command}\n"


class TestNames:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["new", "JWT_SECRETS", JWT],
            ["new", "JWT_SECRET", "jwt"],
            ["new", "JWT_SECRET", f"{JWT}/versions/1"],
            ["new", "JWT_SECRET", f"{JWT};reboot"],
            ["new", "JWT_SECRET", "projects/p/secrets/--data-file=x y"],
            ["disable", JWT],
            ["disable", f"{JWT}/versions/latest"],
            ["disable", f"{JWT}/versions/1\n"],
            ["alter-role", "gatehouse_api; DROP TABLE users", f"{JWT}/versions/1"],
            ["plan", "JWT_SECRET", f"{JWT}/versions/1", "--region", "europe west1"],
            ["plan", "JWT_SECRET", f"{JWT}/versions/1", "--region", "europe-west1", "--api", "$x"],
            ["plan", "JWT_SECRET", f"{JWT}/versions/1"],
            [],
        ],
    )
    def test_what_is_no_name_goes_no_further(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments) == 64
        assert capsys.readouterr().out == ""


class TestThePlan:
    def plan(self, capsys: pytest.CaptureFixture[str], variable: str, *options: str) -> list[str]:
        """The commands; comments and empty lines left out."""
        arguments = ["plan", variable, f"{JWT}/versions/3", "--region", "europe-west1", *options]
        assert main(arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        return [line for line in lines if line and not line.startswith("#")]

    def deployed(self, commands: list[str], service: str, variable: str) -> list[str]:
        """What a service is deployed with, in order."""
        start = (
            f"gcloud run services update {service} --region=europe-west1 --project=p"
            f' "--update-env-vars=^;^{variable}_SECRET_REF='
        )
        return [
            command.removeprefix(start).rstrip('"').replace(f"{JWT}/versions/3", "OLD")
            for command in commands
            if command.startswith(start)
        ]

    def test_a_key_verifies_everywhere_before_it_signs(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        commands = self.plan(capsys, "JWT_SECRET")
        assert commands[0] == f"NEW=$(scripts/rotate-secret new JWT_SECRET {JWT})"
        deployed = self.deployed(commands, "gatehouse-api", "JWT_SECRET")
        assert deployed == ["OLD,$NEW", "$NEW,OLD", "$NEW"]
        assert commands[-1] == f"scripts/rotate-secret disable {JWT}/versions/3"

    def test_after_a_leak_the_new_one_stands_alone(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for variable in ("JWT_SECRET", "OPS_API_TOKEN"):
            commands = self.plan(capsys, variable, "--leaked")
            assert self.deployed(commands, "gatehouse-api", variable) == ["$NEW"]

    def test_ops_tokens_overlap(self, capsys: pytest.CaptureFixture[str]) -> None:
        commands = self.plan(capsys, "OPS_API_TOKEN")
        assert commands[0].endswith(" --actors ann,bob)")
        assert self.deployed(commands, "gatehouse-api", "OPS_API_TOKEN") == ["$NEW,OLD", "$NEW"]

    def test_the_gateways_password_is_the_gateways(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        commands = self.plan(capsys, "DB_PASSWORD", "--role", "gatehouse_gateway")
        deployed = self.deployed(commands, "gatehouse-gateway", "DB_PASSWORD")
        assert deployed == ["$NEW,OLD", "$NEW"]
        altered = commands.index('scripts/rotate-secret alter-role gatehouse_gateway "$NEW"')
        assert "versions/3" in commands[altered - 1]  # both are deployed before

    def test_a_leaked_password_is_changed_before_anything_is_deployed(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        commands = self.plan(capsys, "DB_PASSWORD", "--leaked")
        assert commands[1] == 'scripts/rotate-secret alter-role gatehouse_api "$NEW"'
        assert self.deployed(commands, "gatehouse-api", "DB_PASSWORD") == ["$NEW"]
