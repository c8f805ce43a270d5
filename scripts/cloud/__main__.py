"""scripts/provision, scripts/deploy and scripts/perimeter: Gatehouse on Google Cloud.

    scripts/provision   accounts, secrets, Postgres, images; once, by the project's owner
    scripts/deploy      image, migrations, both services, then the perimeter
    scripts/perimeter   load balancer and Cloud Armor alone

All three read deploy.toml (--config names another file), may be run again at any time, and stop at
the first error. --dry-run prints the commands as a bash script and does nothing; --lint has the
installed gcloud check them and does nothing. Exit codes: 0 done, 1 a step failed, 64 the command
line is wrong, 78 the configuration is.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from rules.settings import EXIT_CODE
from scripts.cloud import deploy, perimeter, provision
from scripts.cloud.capacity import checked_capacity
from scripts.cloud.config import Deployment, DeploymentError, read_deployment
from scripts.cloud.runner import StepFailed, failed, lint, run_all
from scripts.cloud.step import Step, as_script

EX_USAGE = 64  # of sysexits.h
UNBUILT = "COMMIT"  # stands for the commit where nothing is carried out


def main(arguments: list[str]) -> int:
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as exit_:
        return EX_USAGE if exit_.code else 0
    try:
        deployment = read_deployment(options.config)
        capacity = checked_capacity(deployment)
    except DeploymentError as error:
        for problem in error.problems:
            print(f"{options.what}: {problem}", file=sys.stderr)
        return EXIT_CODE
    for line in capacity.lines(deployment):
        print(f"# {line}", flush=True)
    is_real = not (options.dry_run or options.lint)
    tag = getattr(options, "tag", None)
    if options.what == "deploy" and tag is None:
        tag = _commit() if is_real else UNBUILT
        if tag is None:
            print(
                "deploy: commit first: the image is named for the commit it is built from, and what"
                " is not committed would be in it. Or name an image that is there with --tag",
                file=sys.stderr,
            )
            return 1
    steps = _steps(options, deployment, tag or UNBUILT)
    if options.dry_run:
        print(as_script(steps), end="")
        return 0
    if shutil.which("gcloud") is None:
        print(f"{options.what}: gcloud is not installed: cloud.google.com/sdk", file=sys.stderr)
        return 1
    if options.lint:
        problems = lint(steps)
        print("\n".join(problems) or f"gcloud finds nothing wrong with {len(steps)} steps")
        return 1 if problems else 0
    try:
        run_all(steps)
    except StepFailed as error:
        return failed(error)
    print(_next(options.what, deployment))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="what", required=True)
    for name in ("provision", "deploy", "perimeter"):
        command = commands.add_parser(name, prog=f"scripts/{name}")
        command.add_argument("--config", type=Path, default=Path("deploy.toml"), metavar="FILE")
        command.add_argument("--dry-run", action="store_true", help="print the commands")
        command.add_argument("--lint", action="store_true", help="let gcloud check the commands")
        if name == "deploy":
            command.add_argument("--tag", help="an image that was built before, by its commit")
            command.add_argument(
                "--without-perimeter",
                action="store_true",
                help="leave load balancer and Cloud Armor as they are",
            )
    return parser


def _steps(options: argparse.Namespace, deployment: Deployment, tag: str) -> list[Step]:
    if options.what == "provision":
        return provision.plan(deployment)
    if options.what == "perimeter":
        return perimeter.plan(deployment)
    behind = [] if options.without_perimeter else perimeter.plan(deployment)
    return [*deploy.plan(deployment, tag), *behind]


def _commit() -> str | None:
    """The commit of a clean tree."""
    status = subprocess.run(
        ["git", "status", "--porcelain"], capture_output=True, text=True, check=False
    )
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if status.returncode or head.returncode or status.stdout.strip():
        return None
    return head.stdout.strip()


def _next(what: str, deployment: Deployment) -> str:
    if what == "provision":
        return "next: scripts/deploy"
    domain = deployment.project.domain
    address = f"gcloud compute addresses describe {perimeter.ADDRESS} --global"
    return (
        f"next: point {domain} to the address that `{address} --project={deployment.project.id}`"
        " prints; the certificate follows within the hour. Then scripts/check-deployment, and"
        f" scripts/smoke https://{domain} wss://{domain}/ws"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
