"""Says in less than a minute what would not work in a deployment: scripts/check-deployment

    scripts/check-deployment                             both services as this environment is
    scripts/check-deployment --api FILE --gateway FILE   each as its environment file has it

A file holds NAME='value' lines; several for one service are read in order, later ones win. Reads
the configuration as the service would, resolves its secret references, and connects to Postgres as
its role. One line a check: `ok`, or `NOT OK` and what to do. Changes nothing, prints no secret.
Exit codes: 0 all is well, 1 something is not, 64 the command line is wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from db.deployment import CannotConnect, Role, Visit, visit
from db.secret_manager import EVERY_SECRET, resolve_secrets
from rules.secret_values import Secrets
from rules.settings import (
    AuthSettings,
    ChatSettings,
    ConfigurationError,
    DatabaseSettings,
    Settings,
    load,
)
from scripts.env_file import EnvFileError, read_env_file
from scripts.tls_probe import NotTrusted, probe

EX_USAGE = 64  # of sysexits.h
NEEDED = {"api": EVERY_SECRET, "gateway": frozenset({"DB_PASSWORD"})}
ROLES = {"api": "gatehouse_api", "gateway": "gatehouse_gateway"}
# What both services act on, by how it begins: both store messages, end idle sessions and count what
# may lock an address out, and the gateways erase what a repeated refresh needs.
SHARED = (
    "CHAT_",
    "AUTH_RATE_LIMIT_",
    "AUTH_SESSION_IDLE_DAYS",
    "AUTH_REFRESH_REUSE_GRACE_SECONDS",
)
# Beyond this the lines of two machines can no longer be put in order by their times.
CLOCK_SECONDS = 2.0
EXPIRY_DAYS = 14


@dataclass(frozen=True, slots=True)
class Finding:
    subject: str
    text: str
    is_good: bool = True


def bad(subject: str, text: str) -> Finding:
    return Finding(subject, text, is_good=False)


class Check:
    """One service's findings, one after the other; what depends on a failed one is left out."""

    def __init__(self, service: str, environment: Mapping[str, str]) -> None:
        self._service = service
        self._environment = environment
        self.settings: Settings | None = None
        self.visit: Visit | None = None

    def run(self) -> Iterator[Finding]:
        try:
            self.settings = load(self._environment, self._service)
        except ConfigurationError as error:
            yield from (bad("configuration", problem) for problem in error.problems)
            return
        yield Finding("configuration", f"complete, for {self.settings.service.app_env}")
        try:
            secrets = resolve_secrets(self.settings, NEEDED[self._service])
        except ConfigurationError as error:
            yield from (bad("secrets", problem) for problem in error.problems)
            return
        yield Finding("secrets", _counted(secrets))
        yield _encryption(self.settings.database)
        try:
            began = time.time()
            self.visit = visit(self.settings.database, secrets.db_passwords, ROLES[self._service])
        except CannotConnect as error:
            yield bad("database", str(error))
            return
        yield from self._look_around(self.visit, began)

    def _look_around(self, seen: Visit, began: float) -> Iterator[Finding]:
        ended = time.time()
        if seen.server.is_standby:
            yield bad("database", "this is a standby, which cannot be written to: name the primary")
        else:
            how = "encrypted" if seen.is_encrypted else "not encrypted"
            yield Finding("database", f"reached in {(ended - began) * 1000:.0f} ms, {how}")
        yield _schema(seen)
        yield _role(seen.role, ROLES[self._service])
        yield clock(began, seen.server.now.timestamp(), ended)


def clock(began: float, theirs: float, ended: float) -> Finding:
    """`theirs` was read somewhere between the two times of ours; all in seconds of the epoch."""
    apart = max(began - theirs, theirs - ended, 0.0)
    if apart > CLOCK_SECONDS:
        return bad("clock", f"{apart:.0f} s from Postgres's: set both by NTP")
    return Finding("clock", f"no more than {apart + ended - began:.1f} s from Postgres's")


def _counted(secrets: Secrets) -> str:
    counts = (
        (len(secrets.jwt_keys), "signing key"),
        (len(secrets.ops_tokens), "ops token"),
        (len(secrets.db_passwords), "database password"),
    )
    found = [f"{count} {name}{'s' if count > 1 else ''}" for count, name in counts if count]
    return ", ".join(found) or "none needed"


def _encryption(database: DatabaseSettings) -> Finding:
    if str(database.host).startswith("/"):
        return Finding("TLS", "not needed on a unix socket")
    if database.sslmode == "disable":
        return Finding("TLS", "switched off by DB_SSLMODE=disable")
    if database.sslrootcert is None:
        return Finding(
            "TLS",
            "encrypts, but nobody verifies who answers: DB_SSLMODE=verify-full with DB_SSLROOTCERT"
            " would",
        )
    try:
        certificate = probe(database)
    except NotTrusted as error:
        return bad("TLS", f"{database.host}: {error}")
    days = (certificate.expires_at - time.time()) / 86_400
    if days < EXPIRY_DAYS:
        return bad("TLS", f"the server's certificate expires in {days:.0f} days: renew it")
    what = "name and authority" if database.sslmode == "verify-full" else "authority"
    return Finding("TLS", f"{certificate.protocol}, {what} verified, for {days:.0f} more days")


def _schema(seen: Visit) -> Finding:
    if seen.schema_problem is not None:
        return bad("schema", seen.schema_problem)
    return Finding("schema", "fits this program")


def _role(role: Role, wanted: str) -> Finding:
    is_mere_member = role.is_wanted and role.name != wanted and not role.is_owner
    faults = [
        fault
        for is_so, fault in (
            (role.is_superuser, "is a superuser"),
            (role.is_owner and not role.is_superuser, "owns the tables"),
            (role.is_privileged and not role.is_superuser, "may make roles or databases"),
            (role.may_create and not role.is_owner, "may create objects in schema public"),
            (not role.is_wanted, f"has not the rights of {wanted}"),
            (is_mere_member, f"is a member of {wanted}, whose acts are audited as done by hand"),
        )
        if is_so
    ]
    if faults:
        return bad("role", f"{role.name} {', '.join(faults)}: DB_USER should be {wanted}")
    return Finding("role", f"{role.name}, with the rights of its service alone")


def _together(checks: Mapping[str, Check]) -> Iterator[Finding]:
    """What both services must agree on."""
    api, gateway = checks["api"], checks["gateway"]
    if api.visit is not None and gateway.visit is not None:
        places = [
            (seen.server.started_at, seen.server.database_id) for seen in (api.visit, gateway.visit)
        ]
        if places[0] == places[1]:
            yield Finding("one database", "both services use the same")
        else:
            yield bad("one database", "the services use two: compare their DB_HOST and DB_NAME")
    if api.settings is not None and gateway.settings is not None:
        if names := _differing(api.settings, gateway.settings):
            yield bad("shared values", f"{', '.join(names)} differ: give both services one value")
        else:
            yield Finding("shared values", "the same in both services")


def _differing(api: Settings, gateway: Settings) -> list[str]:
    """The shared variables of which the services have read different values."""
    ours, theirs = _shared_values(api), _shared_values(gateway)
    return [variable for variable, value in ours.items() if value != theirs[variable]]


def _shared_values(settings: Settings) -> dict[str, object]:
    groups: tuple[AuthSettings | ChatSettings, ...] = (settings.auth, settings.chat)
    return {
        variable: getattr(group, item.name)
        for group in groups
        for item in fields(group)
        if (variable := item.metadata["variable"]).startswith(SHARED)
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/check-deployment", usage=__doc__)
    for service in ROLES:
        parser.add_argument(f"--{service}", action="append", type=Path, metavar="FILE")
    try:
        options = parser.parse_args(arguments)
    except SystemExit as exit_:
        return EX_USAGE if exit_.code else 0
    checks: dict[str, Check] = {}
    for service in ROLES:
        files: list[Path] | None = getattr(options, service)
        try:
            read = [read_env_file(file) for file in files or []]
        except EnvFileError as error:
            print(f"check-deployment: {error}", file=sys.stderr)
            return EX_USAGE
        merged = {name: value for values in read for name, value in values.items()}
        checks[service] = Check(service, merged if files else os.environ)
    good = [_told(service, finding) for service in ROLES for finding in checks[service].run()]
    good += [_told("both", finding) for finding in _together(checks)]
    if all(good):
        print("everything is as it should be")
        return 0
    print(f"{good.count(False)} of {len(good)} checks say what to do")
    return 1


def _told(service: str, finding: Finding) -> bool:
    verdict = "ok    " if finding.is_good else "NOT OK"
    print(f"{verdict}  {service:<8} {finding.subject:<14} {finding.text}", flush=True)
    return finding.is_good


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
