"""What scripts/run is asked to do, read from the environment and checked before anything starts."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.dev_env import EMBEDDED, psql_values, without_embedded_database

# The role of each process of the Procfile: who it is in the database and where its password comes
# from when the database is not ours.
SERVICE_ROLES = {"web": "gatehouse_api", "gateway": "gatehouse_gateway"}
_PASSWORD_VARIABLES = {
    "web": "GATEHOUSE_API_DB_PASSWORD",
    "gateway": "GATEHOUSE_GATEWAY_DB_PASSWORD",
}
_OWN_SECRETS = ("JWT_SECRET", "OPS_API_TOKEN")


class PlanError(Exception):
    """What was asked for cannot be done; the message is one line that says what to change."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Addresses, the data folder, and the environment that everything started inherits."""

    data: Path
    host: str
    ports: Mapping[str, int]  # "web", "gateway"
    environment: Mapping[str, str]
    embedded: bool

    @property
    def reachable_host(self) -> str:
        """The address under which this machine reaches the services."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - read

    @property
    def api_url(self) -> str:
        return f"http://{_in_url(self.reachable_host)}:{self.ports['web']}"

    @property
    def ws_url(self) -> str:
        return f"ws://{_in_url(self.reachable_host)}:{self.ports['gateway']}/ws"


def make_plan(environment: Mapping[str, str]) -> Plan:
    """Reads GATEHOUSE_*, HOST and DB_HOST; raises PlanError."""
    kept = without_embedded_database(environment)
    ports = {
        "web": _port(kept, "GATEHOUSE_API_PORT", 8000),
        "gateway": _port(kept, "GATEHOUSE_WS_PORT", 8001),
    }
    if ports["web"] == ports["gateway"]:
        raise PlanError(
            f"the API and the gateway cannot share port {ports['web']}: "
            "set GATEHOUSE_API_PORT or GATEHOUSE_WS_PORT to another"
        )
    return Plan(
        data=Path(kept.get("GATEHOUSE_DATA") or ".data"),
        host=kept.get("HOST") or "127.0.0.1",
        ports=ports,
        environment=kept,
        embedded=not kept.get("DB_HOST"),
    )


def check_ports(plan: Plan) -> None:
    """Raises PlanError when something listens on a port that we need."""
    variables = {"web": "GATEHOUSE_API_PORT", "gateway": "GATEHOUSE_WS_PORT"}
    family = socket.AF_INET6 if ":" in plan.host else socket.AF_INET
    for name, port in plan.ports.items():
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((plan.host, port))
            except OSError as error:
                raise PlanError(
                    f"cannot listen on {plan.host}:{port} ({error.strerror}): "
                    f"free it, or set {variables[name]} to another port"
                ) from None


def keep_secrets(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Random secrets for those that the environment does not give, the same at every start.

    Kept, so that a restart ends nobody's session.
    """
    file = folder / "secrets.json"
    try:
        kept = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        kept = {}
    except ValueError:
        raise PlanError(f"{file} is damaged: delete it, and everybody logs in again") from None
    missing = [name for name in _OWN_SECRETS if name not in kept]
    if missing:
        kept.update({name: secrets.token_urlsafe(36) for name in missing})
        draft = file.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as draft_file:
            json.dump(kept, draft_file)
        draft.replace(file)
    return {
        name: kept[name]
        for name in _OWN_SECRETS
        if not environment.get(name) and not environment.get(f"{name}_SECRET_REF")
    }


def base_environment(plan: Plan, own_secrets: Mapping[str, str]) -> dict[str, str]:
    """What every process of the stack gets, the database aside.

    An empty variable is passed on like any other: for some of them that is a value.
    """
    return {
        **plan.environment,
        "APP_ENV": plan.environment.get("APP_ENV") or "development",
        "PUBLIC_WS_URL": plan.environment.get("PUBLIC_WS_URL") or plan.ws_url,
        **own_secrets,
        "HOST": plan.host,
    }


def service_environment(
    name: str, plan: Plan, base: Mapping[str, str], passwords: Mapping[str, str]
) -> dict[str, str]:
    """The environment of one process of the Procfile.

    `passwords` are those of the service roles in our own Postgres. On another server a service
    connects as the user that was given, unless its own role's password was given too.
    """
    environment = {**base, "PORT": str(plan.ports[name])}
    role = SERVICE_ROLES[name]
    password = passwords.get(role) or plan.environment.get(_PASSWORD_VARIABLES[name])
    if password:
        environment.pop("DB_PASSWORD_SECRET_REF", None)  # it would win over the password
        environment.update(DB_USER=role, DB_PASSWORD=password)
    return environment


def dev_environment(plan: Plan, base: Mapping[str, str]) -> dict[str, str]:
    """The content of dev.env; `base` with the database's owner in DB_*."""
    database = {name: value for name, value in base.items() if name.startswith("DB_")}
    if not plan.embedded:
        defaults = {"DB_PORT": "5432", "DB_NAME": "gatehouse", "DB_USER": "gatehouse"}
        database = {**defaults, "DB_SSLMODE": "require", **database}
    values = {
        **database,
        **psql_values(database),
        "APP_ENV": base["APP_ENV"],
        "GATEHOUSE_API_URL": plan.api_url,
        "GATEHOUSE_WS_URL": plan.ws_url,
    }
    for name in _OWN_SECRETS:
        for variable in (name, f"{name}_SECRET_REF"):
            if base.get(variable):
                values[variable] = base[variable]
    if plan.embedded:
        values[EMBEDDED] = f"{database['DB_HOST']}:{database['DB_PORT']}"
    return values


def _port(environment: Mapping[str, str], variable: str, default: int) -> int:
    value = environment.get(variable) or str(default)
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= 65_535):
        raise PlanError(f"{variable} must be a port number from 1 to 65535, not {value!r}")
    return int(value)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
