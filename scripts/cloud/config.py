"""What a deployment is, read from deploy.toml and checked as a whole.

deploy.example.toml shows every key with its default. Unknown keys, wrong types and contradictions
are all reported at once; the services' own variables are checked by the services' own rules.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any

# Nobody can change these with a variable: they follow from where the services run.
PLANNED_NAMES = frozenset(
    {
        "APP_ENV",
        "DB_HOST",
        "DB_NAME",
        "DB_USER",
        "DB_PASSWORD_SECRET_REF",
        "GOOGLE_CLOUD_PROJECT",
        "HOST",
        "JWT_SECRET_SECRET_REF",
        "OPS_ALLOWED_NETWORKS",
        "OPS_API_TOKEN_SECRET_REF",
        "PORT",
        "PUBLIC_WS_URL",
        "TRUSTED_PROXY_HOPS",
    }
)
# A rule of Cloud Armor holds five conditions: the path and four networks. Five rules are kept free.
NETWORKS_PER_RULE = 4
NETWORK_RULES = 5


class DeploymentError(Exception):
    """Everything that is wrong with deploy.toml, one line a problem."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def _text(pattern: str, example: str) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"look like {example}")
        return value

    return convert


def _number(smallest: int, largest: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if not is_number or not smallest <= value <= largest:
            raise ValueError(f"be a whole number from {smallest} to {largest}")
        return int(value)

    return convert


def _yes_or_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("be true or false")
    return value


def _versions(value: Any) -> tuple[int, ...]:
    number = _number(1, 999_999_999)
    if not isinstance(value, list) or not value or len(value) != len(set(map(str, value))):
        raise ValueError("be a list of version numbers like [2, 1], the one in use first")
    return tuple(number(item) for item in value)


def _networks(value: Any) -> tuple[str, ...]:
    try:
        networks = tuple(str(ip_network(item)) for item in value)
    except (TypeError, ValueError):
        raise ValueError('be a list of networks like ["192.0.2.0/24"]') from None
    if len(networks) > NETWORKS_PER_RULE * NETWORK_RULES:
        raise ValueError(f"hold no more than {NETWORKS_PER_RULE * NETWORK_RULES} networks")
    if any(network in ("0.0.0.0/0", "::/0") for network in networks):
        raise ValueError("name networks, not the whole internet")
    return networks


def _environment(value: Any) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError('be a table of texts like CHAT_RETENTION_DAYS = "90"')
    for name, item in value.items():
        if name in PLANNED_NAMES or name.endswith("_SECRET_REF"):
            raise ValueError(f"not set {name}: it follows from the rest of this file")
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name) or re.search(r"[;\n]", item):
            raise ValueError(f"hold plain names, and values without ; and line breaks: {name}")
    return dict(value)


def _key(convert: Callable[[Any], Any], default: Any = MISSING) -> Any:
    return field(metadata={"convert": convert, "default": default})


@dataclass(frozen=True, slots=True)
class Project:
    id: str = _key(_text(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", "my-project-123"))
    region: str = _key(_text(r"[a-z]+(-[a-z]+)+[0-9]+", "europe-west1"))
    domain: str = _key(_text(r"([a-z0-9-]+\.)+[a-z]{2,}", "chat.example.org"))


@dataclass(frozen=True, slots=True)
class Database:
    version: str = _key(_text(r"POSTGRES_1[4-9]", "POSTGRES_17"), "POSTGRES_17")
    tier: str = _key(_text(r"db-[a-z0-9-]+", "db-custom-2-8192"), "db-custom-2-8192")
    storage_gb: int = _key(_number(10, 65_536), 20)
    max_connections: int = _key(_number(50, 10_000), 300)
    high_availability: bool = _key(_yes_or_no, True)


@dataclass(frozen=True, slots=True)
class Api:
    cpu: int = _key(_number(1, 8), 2)
    memory_mib: int = _key(_number(512, 32_768), 1024)
    concurrency: int = _key(_number(1, 1000), 48)
    min_instances: int = _key(_number(0, 1000), 1)
    max_instances: int = _key(_number(1, 1000), 4)
    environment: Mapping[str, str] = _key(_environment, {})


@dataclass(frozen=True, slots=True)
class Gateway:
    cpu: int = _key(_number(1, 8), 1)
    memory_mib: int = _key(_number(512, 32_768), 2048)
    # Sockets an instance; Cloud Run allows no more than 1000.
    concurrency: int = _key(_number(1, 1000), 1000)
    min_instances: int = _key(_number(1, 1000), 1)
    max_instances: int = _key(_number(1, 1000), 4)
    environment: Mapping[str, str] = _key(_environment, {})


@dataclass(frozen=True, slots=True)
class SecretVersions:
    """Which versions the services read, the one in use first; never `latest`."""

    jwt_secret: tuple[int, ...] = _key(_versions, [1])
    ops_api_token: tuple[int, ...] = _key(_versions, [1])
    db_password_api: tuple[int, ...] = _key(_versions, [1])
    db_password_gateway: tuple[int, ...] = _key(_versions, [1])
    db_password_owner: tuple[int, ...] = _key(_versions, [1])


@dataclass(frozen=True, slots=True)
class Perimeter:
    # From where /ops can be reached. None at all: from nowhere.
    ops_networks: tuple[str, ...] = _key(_networks, [])
    auth_requests_per_minute: int = _key(_number(10, 10_000), 120)
    requests_per_minute: int = _key(_number(60, 100_000), 1200)
    ban_seconds: int = _key(_number(60, 86_400), 300)
    # The preconfigured rules only write to the log what they would have refused.
    waf_preview: bool = _key(_yes_or_no, False)


@dataclass(frozen=True, slots=True)
class Deployment:
    project: Project
    database: Database
    api: Api
    gateway: Gateway
    secrets: SecretVersions
    perimeter: Perimeter


_TABLES: Mapping[str, type[Any]] = {
    "project": Project,
    "database": Database,
    "api": Api,
    "gateway": Gateway,
    "secrets": SecretVersions,
    "perimeter": Perimeter,
}


def read_deployment(path: Path) -> Deployment:
    """The deployment that a file describes, or a DeploymentError."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        hint = "copy deploy.example.toml to it and fill it in"
        raise DeploymentError([f"{path} cannot be read ({error.strerror}): {hint}"]) from None
    return parse_deployment(text, path.name)


def parse_deployment(text: str, name: str = "deploy.toml") -> Deployment:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DeploymentError([f"{name} is not TOML: {error}"]) from None
    problems = [f"{name} has no table [{key}]" for key in document if key not in _TABLES]
    tables = {
        key: _read_table(kind, document.get(key, {}), f"[{key}]", problems)
        for key, kind in _TABLES.items()
    }
    if problems:
        raise DeploymentError(problems)
    return Deployment(**tables)


def _read_table(kind: type[Any], table: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(table, dict):
        problems.append(f"{where} must be a table")
        return None
    known = {item.name: item.metadata for item in fields(kind)}
    problems += [f"{where} has no key {key}" for key in table if key not in known]
    values = {}
    for key, metadata in known.items():
        value = table.get(key, metadata["default"])
        if value is MISSING:
            problems.append(f"{where} {key} is missing")
            continue
        try:
            values[key] = metadata["convert"](value)
        except ValueError as error:
            problems.append(f"{where} {key} must {error}")
    return kind(**values) if len(values) == len(known) else None
