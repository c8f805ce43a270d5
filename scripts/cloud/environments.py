"""The variables of each process on Cloud Run, and whether the processes would start with them."""

from __future__ import annotations

from rules.settings import ConfigurationError, Settings, load
from scripts.cloud import names
from scripts.cloud.config import Deployment, DeploymentError


def api_environment(deployment: Deployment) -> dict[str, str]:
    secrets = deployment.secrets
    return {
        **_common(deployment, "gatehouse_api"),
        "DB_PASSWORD_SECRET_REF": names.references(
            deployment, names.DB_PASSWORD_API, secrets.db_password_api
        ),
        "JWT_SECRET_SECRET_REF": names.references(deployment, names.JWT_SECRET, secrets.jwt_secret),
        "OPS_API_TOKEN_SECRET_REF": names.references(
            deployment, names.OPS_API_TOKEN, secrets.ops_api_token
        ),
        # The second wall: the same networks as the perimeter's, for when that has a hole. An empty
        # list would mean any, so nobody stands for none: 192.0.2.0/24 is on no network (RFC 5737).
        "OPS_ALLOWED_NETWORKS": ",".join(deployment.perimeter.ops_networks) or "192.0.2.0/32",
        "PUBLIC_WS_URL": f"wss://{deployment.project.domain}/ws",
        **deployment.api.environment,
    }


def gateway_environment(deployment: Deployment) -> dict[str, str]:
    return {
        **_common(deployment, "gatehouse_gateway"),
        "DB_PASSWORD_SECRET_REF": names.references(
            deployment, names.DB_PASSWORD_GATEWAY, deployment.secrets.db_password_gateway
        ),
        "WS_MAX_CONNECTIONS": str(deployment.gateway.concurrency),
        **deployment.gateway.environment,
    }


def migrate_environment(deployment: Deployment) -> dict[str, str]:
    return {
        **_common(deployment, "gatehouse"),
        "DB_PASSWORD_SECRET_REF": names.references(
            deployment, names.DB_PASSWORD_OWNER, deployment.secrets.db_password_owner
        ),
    }


def passwords_environment(deployment: Deployment) -> dict[str, str]:
    """The first version of each is what the role gets."""
    secrets = deployment.secrets
    return {
        **migrate_environment(deployment),
        "API_PASSWORD_SECRET_REF": names.references(
            deployment, names.DB_PASSWORD_API, secrets.db_password_api[:1]
        ),
        "GATEWAY_PASSWORD_SECRET_REF": names.references(
            deployment, names.DB_PASSWORD_GATEWAY, secrets.db_password_gateway[:1]
        ),
    }


def checked_settings(deployment: Deployment) -> dict[str, Settings]:
    """The settings of "api", "gateway" and "migrate" as Cloud Run would start them."""
    environments = {
        "api": api_environment(deployment),
        "gateway": gateway_environment(deployment),
        "migrate": migrate_environment(deployment),
    }
    problems: list[str] = []
    settings = {}
    for service, environment in environments.items():
        try:
            settings[service] = load({**environment, "K_SERVICE": service}, service)
        except ConfigurationError as error:
            problems += [f"{service}: {problem}" for problem in error.problems]
    if problems:
        raise DeploymentError(problems)
    return settings


def as_flag(environment: dict[str, str]) -> str:
    """Replaces every variable of before; ^;^ makes ; the separator, for values hold commas."""
    pairs = ";".join(f"{name}={value}" for name, value in sorted(environment.items()))
    return f"--set-env-vars=^;^{pairs}"


def _common(deployment: Deployment, role: str) -> dict[str, str]:
    return {
        "APP_ENV": "production",
        # A socket folder: Cloud Run's own way to Cloud SQL, encrypted and by service account.
        "DB_HOST": f"/cloudsql/{names.instance_connection(deployment)}",
        "DB_NAME": "gatehouse",
        "DB_USER": role,
        "GOOGLE_CLOUD_PROJECT": deployment.project.id,
        # The load balancer, then Cloud Run. Safe because nothing else can reach the services.
        "TRUSTED_PROXY_HOPS": "2",
    }
