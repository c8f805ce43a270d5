"""deploy.toml: read strictly, as a whole, and refused before anything is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.cloud.capacity import checked_capacity
from scripts.cloud.config import Deployment, DeploymentError, parse_deployment, read_deployment
from scripts.cloud.environments import checked_settings

ROOT = Path(__file__).resolve().parents[2]
PROJECT = """
[project]
id = "my-project-123"
region = "europe-west1"
domain = "chat.example.org"
"""


def deployment(more: str = "") -> Deployment:
    return parse_deployment(PROJECT + more)


def problems(more: str) -> str:
    with pytest.raises(DeploymentError) as raised:
        checked_capacity(deployment(more))
    return "\n".join(raised.value.problems)


def test_the_example_is_a_deployment_that_would_start() -> None:
    example = read_deployment(ROOT / "deploy.example.toml")
    assert example == deployment()
    checked_capacity(example)


def test_the_example_shows_every_key_with_its_default() -> None:
    lines = (ROOT / "deploy.example.toml").read_text("utf-8").splitlines()
    shown = "\n".join(
        line.removeprefix("# ")
        for line in lines
        if not line.startswith("#") or (" = " in line and not line.startswith("# CORS_"))
    )
    example = parse_deployment(shown.replace("# WS_", "WS_"))
    assert example.database == deployment().database
    assert example.secrets == deployment().secrets
    assert example.perimeter == deployment().perimeter
    for name in ("max_connections", "waf_preview", "db_password_owner", "memory_mib"):
        assert name in shown


def test_all_problems_of_a_file_are_told_at_once() -> None:
    with pytest.raises(DeploymentError) as raised:
        parse_deployment(
            "[project]\nid = 'X'\nzone = 'a'\n[database]\nversion = 'MYSQL'\n[nonsense]"
        )
    assert raised.value.problems == [
        "deploy.toml has no table [nonsense]",
        "[project] has no key zone",
        "[project] id must look like my-project-123",
        "[project] region is missing",
        "[project] domain is missing",
        "[database] version must look like POSTGRES_17",
    ]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("[api]\nmax_instances = true", "[api] max_instances must be a whole number"),
        ("[api]\nmin_instances = 9", "[api] min_instances must not be above max_instances"),
        ("[gateway]\nconcurrency = 1001", "[gateway] concurrency must be a whole number"),
        ("[gateway]\nmin_instances = 0", "[gateway] min_instances must be a whole number"),
        ("[secrets]\njwt_secret = ['latest']", "[secrets] jwt_secret must be a whole number"),
        ("[secrets]\njwt_secret = []", "[secrets] jwt_secret must be a list of version numbers"),
        ("[perimeter]\nops_networks = ['0.0.0.0/0']", "not the whole internet"),
        ("[perimeter]\nops_networks = ['10.0.0.1/8']", "must be a list of networks"),
        (f"[perimeter]\nops_networks = {['192.0.2.1'] * 21}", "no more than 20 networks"),
        ("[api.environment]\nDB_USER = 'gatehouse'", "not set DB_USER"),
        ("[api.environment]\nTRUSTED_PROXY_HOPS = '0'", "not set TRUSTED_PROXY_HOPS"),
        ("[api.environment]\nJWT_SECRET = 'x'", "api: JWT_SECRET must not be given in plain text"),
        ("[api.environment]\nX_SECRET_REF = 'x'", "not set X_SECRET_REF"),
        ("[api.environment]\nHOSTS = 'a;DB_USER=gatehouse'", "values without ;"),
        (
            "[api.environment]\nAUTH_RATE_LIMIT = '1'",
            "api: AUTH_RATE_LIMIT is not a known variable",
        ),
        ("[gateway.environment]\nDB_SSLMODE = 'disable'", "gateway: DB_SSLMODE must be require"),
        ("[api.environment]\nAPI_THREADS = '99'", "[api] an instance would open 101 connections"),
        ("[api]\ncpu = 4", "[api] concurrency must be at least 56"),
        ("[gateway.environment]\nWS_MAX_LIFETIME_SECONDS = '3600'", "a minute below the hour"),
        (
            "[gateway]\nmemory_mib = 512\n[gateway.environment]\nWS_SEND_BUFFER_BYTES='4194304'",
            "1019",
        ),
    ],
)
def test_what_would_not_work_is_refused_by_name(more: str, said: str) -> None:
    assert said in problems(more)


def test_the_services_own_rules_hold_their_environments() -> None:
    settings = checked_settings(deployment())
    for service in ("api", "gateway", "migrate"):
        assert settings[service].production
        assert settings[service].on_cloud_run
        assert settings[service].service.trusted_proxy_hops == 2
    assert settings["api"].database.user == "gatehouse_api"
    assert settings["gateway"].database.user == "gatehouse_gateway"
    assert settings["gateway"].secret_sources.jwt_secret_refs == ()
    assert settings["gateway"].socket.max_connections == 1000
    assert settings["api"].secret_sources.jwt_secret_refs == (
        "projects/my-project-123/secrets/gatehouse-jwt-secret/versions/1",
    )


def test_ops_of_a_deployment_without_networks_are_open_to_nobody_rather_than_to_all() -> None:
    closed = checked_settings(deployment())["api"].auth.ops_allowed_networks
    assert [network.num_addresses for network in closed] == [1]
    named = deployment("[perimeter]\nops_networks = ['198.51.100.0/24', '2001:db8::/32']")
    opened = checked_settings(named)["api"].auth.ops_allowed_networks
    assert [str(network) for network in opened] == ["198.51.100.0/24", "2001:db8::/32"]


class TestCapacity:
    def test_every_pool_of_two_revisions_fits_into_postgres(self) -> None:
        capacity = checked_capacity(deployment())
        assert capacity.connections_an_api == 16 + 2
        assert capacity.connections_a_gateway == 8 + 1
        assert capacity.connections == 2 * (4 * 18 + 4 * 9) + 15
        assert capacity.sockets == 4000

    def test_one_connection_too_few_is_refused_with_the_number(self) -> None:
        checked_capacity(deployment("[database]\nmax_connections = 231"))
        assert "max_connections must be at least 231" in problems(
            "[database]\nmax_connections = 230"
        )

    def test_more_threads_and_processes_need_more(self) -> None:
        threads = deployment("[api.environment]\nAPI_THREADS = '20'")
        assert checked_capacity(threads).connections == 231 + 2 * 4 * 4
        processes = deployment(
            "[database]\nmax_connections = 400\n[gateway.environment]\nWS_PROCESSES = '2'"
        )
        assert checked_capacity(processes).connections == 231 + 2 * 4 * 9
