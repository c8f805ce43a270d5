"""One image, two services: build, migrate, then let the new revisions take over.

Migrations run before the new code takes traffic, beside the old code: expand and contract
(CONTRIBUTING.md). Cloud Run sends nobody to a revision whose startup probe has not answered, and
leaves the old one where it is when that never happens.
"""

from __future__ import annotations

from scripts.cloud import names
from scripts.cloud.capacity import REQUEST_SECONDS_MAX
from scripts.cloud.config import Deployment
from scripts.cloud.environments import (
    api_environment,
    as_flag,
    gateway_environment,
    migrate_environment,
    passwords_environment,
)
from scripts.cloud.names import gcloud
from scripts.cloud.step import Command, Step

PORT = 8080
# The startup probe asks whether the database answers: half a minute at most. The liveness probe
# does not: to restart instances because Postgres is away would only add to the trouble.
STARTUP = (
    f"httpGet.path=/health/ready,httpGet.port={PORT},"
    "periodSeconds=2,timeoutSeconds=2,failureThreshold=15"
)
LIVENESS = (
    f"httpGet.path=/health/live,httpGet.port={PORT},"
    "periodSeconds=10,timeoutSeconds=5,failureThreshold=3"
)
API_REQUEST_SECONDS = 30
JOBS = {names.MIGRATE_JOB: "db.migrate", names.PASSWORDS_JOB: "db.set_passwords"}


def plan(deployment: Deployment, tag: str) -> list[Step]:
    """`tag` names the image: the commit it is built from."""
    image = names.image(deployment, tag)
    return [
        _build(deployment, image),
        *_job(
            deployment,
            image,
            names.MIGRATE_JOB,
            "The migrations, before any new code takes traffic",
            migrate_environment(deployment),
        ),
        *_job(
            deployment,
            image,
            names.PASSWORDS_JOB,
            "The passwords of the services' roles",
            passwords_environment(deployment),
        ),
        _api(deployment, image),
        _gateway(deployment, image),
        *(
            Step(
                f"{name}: everybody to the new revision (a rollback may have pinned an old one)",
                gcloud(
                    deployment,
                    *("run", "services", "update-traffic", name, _region(deployment)),
                    "--to-latest",
                ),
            )
            for name in (names.API, names.GATEWAY)
        ),
    ]


def _build(deployment: Deployment, image: str) -> Step:
    account = names.account(deployment, names.BUILD)
    return Step(
        "The image",
        gcloud(
            deployment,
            *("builds", "submit", ".", "--config=cloudbuild.yaml"),
            f"--region={deployment.project.region}",
            f"--substitutions=_IMAGE={image}",
            f"--service-account=projects/{deployment.project.id}/serviceAccounts/{account}",
            f"--gcs-source-staging-dir={names.bucket(deployment)}/source",
        ),
        exists=gcloud(deployment, "artifacts", "docker", "images", "describe", image),
        remedy="the build's log is linked above; nothing has been changed yet",
    )


def _job(
    deployment: Deployment, image: str, name: str, purpose: str, environment: dict[str, str]
) -> list[Step]:
    region = _region(deployment)
    return [
        Step(
            f"{purpose}: the job",
            gcloud(
                deployment,
                *("run", "jobs", "deploy", name, f"--image={image}", region),
                *("--command=python", f"--args=-m,{JOBS[name]}"),
                # Once: a migration that failed is looked at, not tried again and again.
                *("--tasks=1", "--max-retries=0", "--task-timeout=30m"),
                *_place(deployment, names.MIGRATE),
                as_flag(environment),
            ),
        ),
        Step(
            purpose,
            gcloud(deployment, "run", "jobs", "execute", name, region, "--wait"),
            remedy=f"gcloud run jobs executions list --job={name} names the execution, its log has"
            " one line that says why; the old revisions go on serving",
        ),
    ]


def _api(deployment: Deployment, image: str) -> Step:
    api = deployment.api
    return Step(
        "The API",
        gcloud(
            deployment,
            *("run", "deploy", names.API, f"--image={image}", _region(deployment)),
            *("--command=python", "--args=-m,api"),
            as_flag(api_environment(deployment)),
            *_service(deployment, names.API),
            f"--cpu={api.cpu}",
            f"--memory={api.memory_mib}Mi",
            f"--concurrency={api.concurrency}",
            f"--min-instances={api.min_instances}",
            f"--max-instances={api.max_instances}",
            f"--timeout={API_REQUEST_SECONDS}",
            "--cpu-throttling",
            "--no-session-affinity",
        ),
        remedy="the old revision goes on serving; the new one's log says in one line why it did"
        " not start: gcloud run services logs read gatehouse-api",
    )


def _gateway(deployment: Deployment, image: str) -> Step:
    gateway = deployment.gateway
    return Step(
        "The gateway",
        gcloud(
            deployment,
            *("run", "deploy", names.GATEWAY, f"--image={image}", _region(deployment)),
            *("--command=python", "--args=-m,wsgateway"),
            as_flag(gateway_environment(deployment)),
            *_service(deployment, names.GATEWAY),
            f"--cpu={gateway.cpu}",
            f"--memory={gateway.memory_mib}Mi",
            f"--concurrency={gateway.concurrency}",
            f"--min-instances={gateway.min_instances}",
            f"--max-instances={gateway.max_instances}",
            # A socket is one request: an hour is the most there is. Between its requests the
            # gateway listens, sweeps and pings, so the processor is never taken away.
            f"--timeout={REQUEST_SECONDS_MAX}",
            "--no-cpu-throttling",
            "--session-affinity",
        ),
        remedy="the old revision goes on serving; the new one's log says in one line why it did"
        " not start: gcloud run services logs read gatehouse-gateway",
    )


def _service(deployment: Deployment, name: str) -> Command:
    return (
        f"--port={PORT}",
        *_place(deployment, name),
        "--execution-environment=gen2",
        "--cpu-boost",
        # From the load balancer alone: TRUSTED_PROXY_HOPS=2 and Cloud Armor hang on it.
        "--ingress=internal-and-cloud-load-balancing",
        f"--startup-probe={STARTUP}",
        f"--liveness-probe={LIVENESS}",
    )


def _place(deployment: Deployment, account: str) -> Command:
    return (
        f"--service-account={names.account(deployment, account)}",
        f"--set-cloudsql-instances={names.instance_connection(deployment)}",
    )


def _region(deployment: Deployment) -> str:
    return f"--region={deployment.project.region}"
