"""From an empty project to one in which `deploy` can work: once, by somebody who owns the project.

Accounts get roles on single resources wherever the resource knows roles of its own; what is left
on the project is roles/cloudsql.client (Cloud SQL has no roles an instance), logs of builds, and
what the deploying account needs.
"""

from __future__ import annotations

from scripts.cloud import names
from scripts.cloud.config import Deployment
from scripts.cloud.names import gcloud, member
from scripts.cloud.step import Command, Step

SERVICES = (
    "artifactregistry.googleapis.com",
    "cloudbuild.googleapis.com",
    "compute.googleapis.com",
    "iam.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "sqladmin.googleapis.com",
)
ACCOUNTS = {
    names.API: "Gatehouse: runs the API",
    names.GATEWAY: "Gatehouse: runs the gateway",
    names.MIGRATE: "Gatehouse: runs the migrations",
    names.BUILD: "Gatehouse: builds the image",
    names.DEPLOYER: "Gatehouse: deploys",
}
# Account -> roles on the whole project. Anything more is a finding.
PROJECT_ROLES = {
    names.API: ("roles/cloudsql.client",),
    names.GATEWAY: ("roles/cloudsql.client",),
    names.MIGRATE: ("roles/cloudsql.client",),
    names.BUILD: ("roles/logging.logWriter",),
    names.DEPLOYER: ("roles/run.developer", "roles/cloudbuild.builds.editor"),
}
# Secret -> who reads it.
SECRET_READERS = {
    names.JWT_SECRET: (names.API,),
    names.OPS_API_TOKEN: (names.API,),
    names.DB_PASSWORD_API: (names.API, names.MIGRATE),
    names.DB_PASSWORD_GATEWAY: (names.GATEWAY, names.MIGRATE),
    names.DB_PASSWORD_OWNER: (names.MIGRATE,),
}
# Whom the deploying account may put to work.
RUN_BY_DEPLOYER = (names.API, names.GATEWAY, names.MIGRATE, names.BUILD)
# Rows stay out of Postgres's log (docs/security.md says why). Parameters do by Cloud SQL's
# defaults, as long as nobody switches on log_statement or log_min_duration_statement.
DATABASE_FLAGS = {"log_error_verbosity": "terse"}
_NEW_SECRET: Command = (
    "python3",
    "-c",
    'import secrets; print(secrets.token_urlsafe(48), end="")',
)


def plan(deployment: Deployment) -> list[Step]:
    return [
        Step(
            "The interfaces that Gatehouse uses",
            gcloud(deployment, "services", "enable", *SERVICES),
            remedy="the project needs a billing account, and you the role Owner or Service Usage"
            " Admin: gcloud auth login, then gcloud projects describe shows whether it is yours",
        ),
        *_accounts(deployment),
        *_secrets(deployment),
        *_images(deployment),
        *_database(deployment),
    ]


def _accounts(deployment: Deployment) -> list[Step]:
    steps = [
        Step(
            f"The account {name}",
            gcloud(
                deployment,
                *("iam", "service-accounts", "create", name, f"--display-name={shown}"),
            ),
            exists=gcloud(
                deployment,
                *("iam", "service-accounts", "describe", names.account(deployment, name)),
            ),
        )
        for name, shown in ACCOUNTS.items()
    ]
    steps += [
        Step(
            f"{name} has {role}",
            gcloud(
                deployment,
                *("projects", "add-iam-policy-binding", deployment.project.id),
                *(f"--member={member(deployment, name)}", f"--role={role}", "--condition=None"),
            ),
        )
        for name, roles in PROJECT_ROLES.items()
        for role in roles
    ]
    steps += [
        Step(
            f"{names.DEPLOYER} may start what runs as {name}",
            gcloud(
                deployment,
                *("iam", "service-accounts", "add-iam-policy-binding"),
                names.account(deployment, name),
                f"--member={member(deployment, names.DEPLOYER)}",
                "--role=roles/iam.serviceAccountUser",
            ),
        )
        for name in RUN_BY_DEPLOYER
    ]
    return steps


def _secrets(deployment: Deployment) -> list[Step]:
    steps = []
    for secret, readers in SECRET_READERS.items():
        steps += [
            Step(
                f"The secret {secret}",
                gcloud(
                    deployment,
                    *("secrets", "create", secret, "--replication-policy=user-managed"),
                    f"--locations={deployment.project.region}",
                ),
                exists=gcloud(deployment, "secrets", "describe", secret),
            ),
            Step(
                "Its first version, random, seen by nobody",
                gcloud(deployment, "secrets", "versions", "add", secret, "--data-file=-"),
                exists=gcloud(
                    deployment, "secrets", "versions", "describe", "1", f"--secret={secret}"
                ),
                stdin_from=_NEW_SECRET,
            ),
        ]
        steps += [
            Step(
                f"{name} reads {secret}",
                gcloud(
                    deployment,
                    *("secrets", "add-iam-policy-binding", secret),
                    f"--member={member(deployment, name)}",
                    "--role=roles/secretmanager.secretAccessor",
                ),
            )
            for name in readers
        ]
    return steps


def _images(deployment: Deployment) -> list[Step]:
    location = f"--location={deployment.project.region}"
    writer, reader = "roles/artifactregistry.writer", "roles/artifactregistry.reader"
    bucket = names.bucket(deployment)
    return [
        Step(
            "Where images are kept; a tag means one image for ever",
            gcloud(
                deployment,
                *("artifacts", "repositories", "create", names.REPOSITORY),
                *("--repository-format=docker", "--immutable-tags", location),
            ),
            exists=gcloud(
                deployment, "artifacts", "repositories", "describe", names.REPOSITORY, location
            ),
        ),
        *(
            Step(
                f"{name} has {role} there",
                gcloud(
                    deployment,
                    *("artifacts", "repositories", "add-iam-policy-binding", names.REPOSITORY),
                    *(location, f"--member={member(deployment, name)}", f"--role={role}"),
                ),
            )
            for name, role in ((names.BUILD, writer), (names.DEPLOYER, reader))
        ),
        Step(
            "Where the source waits for its build",
            gcloud(
                deployment,
                *("storage", "buckets", "create", bucket, location),
                *("--uniform-bucket-level-access", "--public-access-prevention"),
            ),
            exists=gcloud(deployment, "storage", "buckets", "describe", bucket),
        ),
        *(
            Step(
                f"{name} has {role} there",
                gcloud(
                    deployment,
                    *("storage", "buckets", "add-iam-policy-binding", bucket),
                    *(f"--member={member(deployment, name)}", f"--role={role}"),
                ),
            )
            for name, role in (
                (names.BUILD, "roles/storage.objectViewer"),
                (names.DEPLOYER, "roles/storage.objectAdmin"),
                (names.DEPLOYER, "roles/storage.legacyBucketReader"),
            )
        ),
    ]


def _database(deployment: Deployment) -> list[Step]:
    database = deployment.database
    instance = f"--instance={names.DATABASE_INSTANCE}"
    zones = "REGIONAL" if database.high_availability else "ZONAL"
    flags = {"max_connections": str(database.max_connections), **DATABASE_FLAGS}
    settings = (
        f"--tier={database.tier}",
        f"--availability-type={zones}",
        "--database-flags=" + ",".join(f"{name}={value}" for name, value in flags.items()),
        "--backup-start-time=03:00",
        "--enable-point-in-time-recovery",
        "--deletion-protection",
        "--storage-auto-increase",
        # Encrypted connections alone, and no network is named: what is not let in by IAM through
        # Cloud SQL's own proxy, as Cloud Run is, does not get in.
        "--ssl-mode=ENCRYPTED_ONLY",
    )
    return [
        Step(
            "Postgres (about ten minutes the first time; a changed max_connections restarts it)",
            gcloud(
                deployment,
                *("sql", "instances", "create", names.DATABASE_INSTANCE),
                f"--database-version={database.version}",
                f"--region={deployment.project.region}",
                "--edition=enterprise",
                f"--storage-size={database.storage_gb}GB",
                *settings,
            ),
            exists=gcloud(deployment, "sql", "instances", "describe", names.DATABASE_INSTANCE),
            instead=gcloud(
                deployment, "sql", "instances", "patch", names.DATABASE_INSTANCE, *settings
            ),
            remedy="gcloud sql operations list --instance=gatehouse says what it is doing; when it"
            " has finished, run the same script again",
        ),
        Step(
            "The database",
            gcloud(deployment, "sql", "databases", "create", "gatehouse", instance),
            exists=gcloud(deployment, "sql", "databases", "describe", "gatehouse", instance),
        ),
        Step(
            # Only the owner is made here: Cloud SQL makes what it creates a cloudsqlsuperuser,
            # which the services' roles must never be. The migration makes those.
            "The owner of the schema, who migrates",
            gcloud(deployment, "sql", "users", "create", "gatehouse", instance),
            exists=gcloud(deployment, "sql", "users", "describe", "gatehouse", instance),
            password_from=gcloud(
                deployment,
                *("secrets", "versions", "access", str(deployment.secrets.db_password_owner[0])),
                f"--secret={names.DB_PASSWORD_OWNER}",
            ),
        ),
    ]
