"""What scripts/run makes of its environment."""

from pathlib import Path

import pytest

from scripts.stack_plan import (
    PlanError,
    base_environment,
    dev_environment,
    keep_secrets,
    make_plan,
    service_environment,
)

EXTERNAL = {"DB_HOST": "db.example", "DB_USER": "owner", "DB_PASSWORD": "secret"}


def test_without_any_variable_it_is_the_documented_defaults() -> None:
    plan = make_plan({})

    assert plan.data == Path(".data")
    assert plan.embedded
    assert plan.api_url == "http://127.0.0.1:8000"
    assert plan.ws_url == "ws://127.0.0.1:8001/ws"


@pytest.mark.parametrize("value", ["http", "0", "65536", "-1", "8000.0", "٣"])
@pytest.mark.parametrize("name", ["GATEHOUSE_API_PORT", "GATEHOUSE_WS_PORT"])
def test_a_port_that_is_none_is_named(name: str, value: str) -> None:
    with pytest.raises(PlanError, match=f"{name} must be a port number"):
        make_plan({name: value})


def test_two_services_on_one_port_are_refused() -> None:
    with pytest.raises(PlanError, match="cannot share port 8001"):
        make_plan({"GATEHOUSE_API_PORT": "8001"})


def test_addresses_name_a_host_that_can_be_reached() -> None:
    assert make_plan({"HOST": "0.0.0.0"}).api_url == "http://127.0.0.1:8000"
    assert make_plan({"HOST": "::"}).ws_url == "ws://[::1]:8001/ws"


def test_secrets_are_kept_and_what_the_caller_sets_wins(tmp_path: Path) -> None:
    first = keep_secrets(tmp_path, {})

    assert first.keys() == {"JWT_SECRET", "OPS_API_TOKEN"}
    assert keep_secrets(tmp_path, {}) == first
    assert keep_secrets(tmp_path, {"JWT_SECRET": "mine"}).keys() == {"OPS_API_TOKEN"}
    reference = {"OPS_API_TOKEN_SECRET_REF": "projects/p/secrets/s/versions/1"}
    assert keep_secrets(tmp_path, reference).keys() == {"JWT_SECRET"}
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_of_secrets_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{")

    with pytest.raises(PlanError, match="is damaged"):
        keep_secrets(tmp_path, {})


def test_every_other_variable_is_passed_on() -> None:
    given = {"CHAT_RETENTION_DAYS": "7", "APP_ENV": "test", "PORT": "1", "HOST": ""}
    plan = make_plan({**given, "WS_ALLOWED_ORIGINS": "", "PUBLIC_WS_URL": ""})
    base = base_environment(plan, {})

    assert base["WS_ALLOWED_ORIGINS"] == ""  # none, which is not the same as not said
    assert base["PUBLIC_WS_URL"] == plan.ws_url
    assert base["CHAT_RETENTION_DAYS"] == "7"
    assert base["APP_ENV"] == "test"
    assert service_environment("web", plan, base, {})["PORT"] == "8000"
    assert base["HOST"] == "127.0.0.1"


def test_each_service_is_its_own_role_in_our_postgres() -> None:
    plan = make_plan({"DB_PASSWORD_SECRET_REF": "projects/p/secrets/s/versions/1"})
    passwords = {"gatehouse_api": "a", "gatehouse_gateway": "g"}
    base = base_environment(plan, {})

    web = service_environment("web", plan, base, passwords)
    gateway = service_environment("gateway", plan, base, passwords)

    assert (web["DB_USER"], web["DB_PASSWORD"]) == ("gatehouse_api", "a")
    assert (gateway["DB_USER"], gateway["DB_PASSWORD"]) == ("gatehouse_gateway", "g")
    assert "DB_PASSWORD_SECRET_REF" not in web


def test_on_another_server_a_service_is_who_was_given_unless_its_own_password_was() -> None:
    plan = make_plan({**EXTERNAL, "GATEHOUSE_GATEWAY_DB_PASSWORD": "g"})
    base = base_environment(plan, {})

    web = service_environment("web", plan, base, {})
    gateway = service_environment("gateway", plan, base, {})

    assert (web["DB_USER"], web["DB_PASSWORD"]) == ("owner", "secret")
    assert (gateway["DB_USER"], gateway["DB_PASSWORD"]) == ("gatehouse_gateway", "g")


def test_dev_env_of_another_server_fills_in_what_the_services_assume() -> None:
    plan = make_plan(EXTERNAL)
    values = dev_environment(plan, base_environment(plan, {"JWT_SECRET": "j"}))

    assert values["PGPORT"] == "5432"
    assert values["PGUSER"] == "owner"
    assert values["DB_SSLMODE"] == "require"
    assert values["JWT_SECRET"] == "j"
    assert "GATEHOUSE_EMBEDDED_POSTGRES" not in values
