"""What everything is called in the project; the same in every plan."""

from __future__ import annotations

from scripts.cloud.config import Deployment

API = "gatehouse-api"
GATEWAY = "gatehouse-gateway"
MIGRATE = "gatehouse-migrate"
BUILD = "gatehouse-build"
DEPLOYER = "gatehouse-deploy"
MIGRATE_JOB = "gatehouse-migrate"
PASSWORDS_JOB = "gatehouse-passwords"
DATABASE_INSTANCE = "gatehouse"
REPOSITORY = "gatehouse"
POLICY = "gatehouse-perimeter"

JWT_SECRET = "gatehouse-jwt-secret"  # noqa: S105 - where it is kept
OPS_API_TOKEN = "gatehouse-ops-api-token"  # noqa: S105 - where it is kept
DB_PASSWORD_API = "gatehouse-db-password-api"  # noqa: S105 - where it is kept
DB_PASSWORD_GATEWAY = "gatehouse-db-password-gateway"  # noqa: S105 - where it is kept
DB_PASSWORD_OWNER = "gatehouse-db-password-owner"  # noqa: S105 - where it is kept


def account(deployment: Deployment, name: str) -> str:
    return f"{name}@{deployment.project.id}.iam.gserviceaccount.com"


def member(deployment: Deployment, name: str) -> str:
    return f"serviceAccount:{account(deployment, name)}"


def instance_connection(deployment: Deployment) -> str:
    return f"{deployment.project.id}:{deployment.project.region}:{DATABASE_INSTANCE}"


def bucket(deployment: Deployment) -> str:
    return f"gs://{deployment.project.id}-gatehouse-build"


def image(deployment: Deployment, tag: str) -> str:
    project = deployment.project
    return f"{project.region}-docker.pkg.dev/{project.id}/{REPOSITORY}/gatehouse:{tag}"


def references(deployment: Deployment, secret: str, versions: tuple[int, ...]) -> str:
    """As *_SECRET_REF has it: versions by number, the one in use first."""
    parent = f"projects/{deployment.project.id}/secrets/{secret}"
    return ",".join(f"{parent}/versions/{version}" for version in versions)


def gcloud(deployment: Deployment, *words: str) -> tuple[str, ...]:
    """--quiet: no question waits for an answer that nobody gives."""
    return ("gcloud", *words, f"--project={deployment.project.id}", "--quiet")
