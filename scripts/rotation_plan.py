"""The runbook's four steps for one secret, as commands to type; nothing here is carried out.

No command holds a value: a new one goes from stdin, or from the generator, to Secret Manager.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from rules.secret_values import NAMES

_REFERENCE = re.compile(
    r"(projects/(?P<project>[a-z0-9][a-z0-9.:-]{0,62})/secrets/(?P<secret>[A-Za-z0-9_-]{1,255}))"
    r"(?:/versions/(?P<version>[0-9]{1,9}))?"
)
_SERVICE = re.compile(r"[a-z]([a-z0-9-]{0,47}[a-z0-9])?")
_REGION = re.compile(r"[a-z]+(-[a-z]+)+[0-9]+")
_ROLE = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class NotAName(Exception):
    """One line: which argument, and how it must look."""


@dataclass(frozen=True, slots=True)
class Reference:
    """`version` is None where a secret as a whole is meant."""

    project: str
    secret: str
    version: str | None

    @property
    def parent(self) -> str:
        return f"projects/{self.project}/secrets/{self.secret}"

    def __str__(self) -> str:
        return f"{self.parent}/versions/{self.version}" if self.version else self.parent


def secret_named(text: str) -> Reference:
    found = _REFERENCE.fullmatch(text)
    if found is None or found["version"] is not None:
        raise NotAName("SECRET must look like projects/P/secrets/S")
    return Reference(found["project"], found["secret"], None)


def version_named(text: str) -> Reference:
    found = _REFERENCE.fullmatch(text)
    if found is None or found["version"] is None:
        raise NotAName("VERSION must look like projects/P/secrets/S/versions/3")
    return Reference(found["project"], found["secret"], found["version"])


def role_named(text: str) -> str:
    if not _ROLE.fullmatch(text):
        raise NotAName("ROLE must be the name of a database role, like gatehouse_api")
    return text


@dataclass(frozen=True, slots=True)
class Place:
    """The Cloud Run services, and where they run."""

    region: str
    api: str
    gateway: str

    def __post_init__(self) -> None:
        if not _REGION.fullmatch(self.region):
            raise NotAName("--region must look like europe-west1")
        if not _SERVICE.fullmatch(self.api) or not _SERVICE.fullmatch(self.gateway):
            raise NotAName("a service's name must look like gatehouse-api")


def add_command(secret: Reference) -> str:
    """To be fed the value on stdin."""
    return _gcloud(
        "secrets", "versions", "add", secret.secret, f"--project={secret.project}", "--data-file=-"
    )


def disable_command(version: Reference) -> str:
    return _change_command("disable", version)


def enable_command(version: Reference) -> str:
    return _change_command("enable", version)


def _change_command(what: str, version: Reference) -> str:
    secret, project = f"--secret={version.secret}", f"--project={version.project}"
    return _gcloud("secrets", "versions", what, str(version.version), secret, project)


def plan(variable: str, old: Reference, place: Place, *, leaked: bool, role: str) -> str:
    """What to type, in order. `role` is whose password it is, of a DB_PASSWORD."""
    if variable not in NAMES:
        raise NotAName(f"VARIABLE must be one of {', '.join(NAMES)}")
    service = place.gateway if role == "gatehouse_gateway" else place.api

    def deploy(*versions: str) -> str:
        # ^;^ makes the semicolon gcloud's separator, for a list of versions holds commas. The
        # shell variables stand in double quotes.
        fixed = _gcloud("run", "services", "update", service, f"--region={place.region}")
        project = f"--project={old.project}"
        return (
            f'{fixed} {project} "--update-env-vars=^;^{variable}_SECRET_REF={",".join(versions)}"'
        )

    new = "$NEW"
    actors = " --actors ann,bob" if variable == "OPS_API_TOKEN" else ""
    add = f"NEW=$(scripts/rotate-secret new {variable} {old.parent}{actors})"
    blocks = [("1. A new version", [add])]
    if leaked:
        blocks += _leaked_steps(variable, old, deploy(new), role)
    elif variable == "JWT_SECRET":
        blocks += [
            ("2. Every instance knows the new key", [deploy(str(old), new)]),
            ("   Then it signs, and the old one still verifies", [deploy(new, str(old))]),
            ("3. Validate, then wait for JWT_ACCESS_TTL_SECONDS (900)", _validation()),
            ("4. The new one alone, and the old one disabled", [deploy(new), _disable(old)]),
        ]
    elif variable == "OPS_API_TOKEN":
        blocks += [
            ("2. Both are good", [deploy(new, str(old))]),
            ("3. Everybody fetches a new token; validate", _validation()),
            ("4. The new one alone, and the old one disabled", [deploy(new), _disable(old)]),
        ]
    else:
        blocks += [
            ("2. The service tries both", [deploy(new, str(old))]),
            ("   Then the role gets the new one (DB_*: the owner's)", [_alter(role)]),
            ("3. Validate", _validation()),
            ("4. The new one alone, and the old one disabled", [deploy(new), _disable(old)]),
        ]
    return "\n".join(
        line for title, commands in blocks for line in (f"# {title}", *commands, "")
    ).rstrip()


def _leaked_steps(
    variable: str, old: Reference, deploy: str, role: str
) -> list[tuple[str, list[str]]]:
    if variable == "DB_PASSWORD":
        # The role first: until then whoever has the old password gets in. The service's open
        # connections live on, and new ones work again as soon as it is deployed.
        first = ("2. The role gets it at once, then the service", [_alter(role), deploy])
    else:
        first = ("2. The new one alone: the old one is refused by every new instance", [deploy])
    return [
        first,
        ("3. Validate", _validation()),
        ("4. The old one disabled", [_disable(old)]),
    ]


def _validation() -> list[str]:
    return ["scripts/check-deployment --api API.env --gateway GATEWAY.env", "scripts/smoke API WS"]


def _alter(role: str) -> str:
    return f'scripts/rotate-secret alter-role {role} "$NEW"'


def _disable(old: Reference) -> str:
    return f"scripts/rotate-secret disable {old}"


def _gcloud(*words: str) -> str:
    return shlex.join(["gcloud", *words])
