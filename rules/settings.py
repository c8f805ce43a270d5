"""The configuration: one table of variables, read once from the environment into frozen values.

Each field below names its variable, its default and what it accepts. `load` reports every problem
of a start at once, by variable name and never with a secret's value. A name that begins like one
of ours but is none of ours stops the start: a mistyped limit during an incident must not be
silently ignored.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from rules.client_address import Network, read_network
from rules.secret_values import read_secrets

T = TypeVar("T")

GUARDED_PREFIXES = ("AUTH_", "CHAT_", "DB_", "JWT_", "OPS_", "WS_", "DRAIN_")
# What Kubernetes injects for a service that happens to be called like one of our prefixes.
_INJECTED = re.compile(r".*(_SERVICE_HOST|_SERVICE_PORT.*|_PORT_.*)")

EXIT_CODE = 78  # EX_CONFIG of sysexits.h


class ConfigurationError(Exception):
    """Everything that is wrong with the environment, one line a problem."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


# What a value may be. A converter raises ValueError with the end of "NAME must ...":


def _text(value: str) -> str:
    return value


def _integer(smallest: int, largest: int) -> Callable[[str], int]:
    def convert(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", value) or not smallest <= int(value) <= largest:
            raise ValueError(f"be a whole number from {smallest} to {largest}")
        return int(value)

    return convert


def _choice(*allowed: str) -> Callable[[str], str]:
    def convert(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"be one of {', '.join(allowed)}")
        return value

    return convert


def _boolean(value: str) -> bool:
    if value not in ("true", "false"):
        raise ValueError("be true or false")
    return value == "true"


def _list(value: str) -> tuple[str, ...]:
    return tuple(item for item in (part.strip() for part in value.split(",")) if item)


# scheme "://" host [ ":" port ], as RFC 6454 (6.2) writes it, with any scheme of RFC 3986 (3.1):
# apps have origins like capacitor://localhost. No `*`; nor `null`, which is every sandboxed page.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")


def _origins(value: str) -> tuple[str, ...]:
    origins = _list(value)
    if not all(_ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError(
            "hold exact origins like https://app.example.org or capacitor://localhost, lower case,"
            " without a path"
        )
    return origins


def _networks(value: str) -> tuple[Network, ...]:
    try:
        return tuple(read_network(item) for item in _list(value))
    except ValueError:
        raise ValueError("hold networks like 192.0.2.0/24 or 2001:db8::/32") from None


def _warning_seconds(value: str) -> tuple[int, ...]:
    read = _integer(1, 86_400)
    try:
        return tuple(sorted({read(item) for item in _list(value)}, reverse=True))
    except ValueError:
        raise ValueError("hold seconds before the deadline like 300,60,10") from None


def _ws_url(value: str) -> str:
    if not re.fullmatch(r"wss?://[^\s/?#]+(/[^\s?#]*)?", value):
        raise ValueError("be a websocket address like wss://live.example.org/ws")
    return value


_REFERENCE = re.compile(r"projects/[^/\s]+/secrets/[A-Za-z0-9_-]+/versions/([0-9]+|latest)")


def _references(value: str) -> tuple[str, ...]:
    references = _list(value)
    if not all(_REFERENCE.fullmatch(reference) for reference in references):
        raise ValueError("hold references like projects/P/secrets/S/versions/3")
    return references


def _variable(
    name: str, convert: Callable[[str], T], default: str | None, *, may_be_empty: bool = False
) -> T:
    """A dataclass field that is read from `name`; a default of None becomes the value None."""
    metadata = {
        "variable": name,
        "convert": convert,
        "default": default,
        "may_be_empty": may_be_empty or default == "",
    }
    return field(metadata=metadata)  # type: ignore[no-any-return]


_SECONDS = _integer(1, 86_400)
_DAYS = _integer(1, 3650)
_COUNT = _integer(1, 1_000_000)


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    app_env: str = _variable("APP_ENV", _choice("production", "development", "test"), "production")
    host: str = _variable("HOST", _text, "0.0.0.0")  # noqa: S104 - a container
    port: int | None = _variable("PORT", _integer(1, 65_535), None)
    api_threads: int = _variable("API_THREADS", _integer(1, 200), "16")
    api_one_cpu: bool = _variable("API_ONE_CPU", _boolean, "true")
    ws_processes: int = _variable("WS_PROCESSES", _integer(1, 64), "1")
    trusted_proxy_hops: int = _variable("TRUSTED_PROXY_HOPS", _integer(0, 10), "0")
    public_ws_url: str | None = _variable("PUBLIC_WS_URL", _ws_url, None)
    cors_allowed_origins: tuple[str, ...] = _variable("CORS_ALLOWED_ORIGINS", _origins, "")
    max_request_body_bytes: int = _variable(
        "MAX_REQUEST_BODY_BYTES", _integer(1, 16_777_216), "65536"
    )
    retention_days_security_events: int = _variable("RETENTION_DAYS_SECURITY_EVENTS", _DAYS, "90")
    secret_manager_emulator: str | None = _variable("SECRET_MANAGER_EMULATOR_HOST", _text, None)


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    host: str | None = _variable("DB_HOST", _text, None)
    port: int = _variable("DB_PORT", _integer(1, 65_535), "5432")
    name: str = _variable("DB_NAME", _text, "gatehouse")
    user: str = _variable("DB_USER", _text, "gatehouse")
    sslmode: str = _variable(
        "DB_SSLMODE",
        _choice("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
        "require",
    )
    sslrootcert: str | None = _variable("DB_SSLROOTCERT", _text, None)
    connect_timeout_seconds: int = _variable("DB_CONNECT_TIMEOUT", _integer(2, 60), "5")
    statement_timeout_ms: int = _variable("DB_STATEMENT_TIMEOUT_MS", _integer(100, 600_000), "5000")
    pool_timeout_ms: int = _variable("DB_POOL_TIMEOUT_MS", _integer(50, 60_000), "2000")


@dataclass(frozen=True, slots=True)
class SecretSettings:
    """Where secrets come from. Values are hidden from repr, so that no log can show them."""

    jwt_secret: str | None = _variable("JWT_SECRET", _text, None)
    ops_api_token: str | None = _variable("OPS_API_TOKEN", _text, None)
    db_password: str | None = _variable("DB_PASSWORD", _text, None)
    jwt_secret_refs: tuple[str, ...] = _variable("JWT_SECRET_SECRET_REF", _references, "")
    ops_api_token_refs: tuple[str, ...] = _variable("OPS_API_TOKEN_SECRET_REF", _references, "")
    db_password_refs: tuple[str, ...] = _variable("DB_PASSWORD_SECRET_REF", _references, "")

    def __repr__(self) -> str:
        return "SecretSettings(...)"


@dataclass(frozen=True, slots=True)
class AuthSettings:
    ops_allowed_networks: tuple[Network, ...] = _variable("OPS_ALLOWED_NETWORKS", _networks, "")
    jwt_issuer: str = _variable("JWT_ISSUER", _text, "gatehouse")
    jwt_audience: str = _variable("JWT_AUDIENCE", _text, "gatehouse-client")
    access_ttl_seconds: int = _variable("JWT_ACCESS_TTL_SECONDS", _SECONDS, "900")
    session_ttl_days: int = _variable("AUTH_SESSION_TTL_DAYS", _DAYS, "30")
    session_ttl_days_admin: int = _variable("AUTH_SESSION_TTL_DAYS_ADMIN", _DAYS, "7")
    session_idle_days: int = _variable("AUTH_SESSION_IDLE_DAYS", _DAYS, "14")
    refresh_reuse_grace_seconds: int = _variable(
        "AUTH_REFRESH_REUSE_GRACE_SECONDS", _integer(0, 3600), "60"
    )
    drain_reentry_hours: int = _variable("AUTH_DRAIN_REENTRY_HOURS", _integer(0, 8760), "24")
    scrypt_log2_n: int = _variable("AUTH_SCRYPT_LOG2_N", _integer(4, 20), "15")
    max_sessions_per_account: int = _variable("AUTH_MAX_SESSIONS_PER_ACCOUNT", _COUNT, "20")
    registrations_per_ip_per_hour: int = _variable(
        "AUTH_REGISTRATIONS_PER_IP_PER_HOUR", _COUNT, "20"
    )
    rate_limit_window_seconds: int = _variable("AUTH_RATE_LIMIT_WINDOW_SECONDS", _SECONDS, "60")
    rate_limit_max_attempts_per_ip: int = _variable(
        "AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_IP", _COUNT, "20"
    )
    rate_limit_max_attempts_per_account: int = _variable(
        "AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_ACCOUNT", _COUNT, "8"
    )
    rate_limit_lockout_seconds: int = _variable("AUTH_RATE_LIMIT_LOCKOUT_SECONDS", _SECONDS, "60")
    rate_limit_lockout_max_seconds: int = _variable(
        "AUTH_RATE_LIMIT_LOCKOUT_MAX_SECONDS", _integer(1, 604_800), "3600"
    )
    tickets_per_session_per_minute: int = _variable(
        "AUTH_TICKETS_PER_SESSION_PER_MINUTE", _COUNT, "30"
    )
    refreshes_per_session_per_minute: int = _variable(
        "AUTH_REFRESHES_PER_SESSION_PER_MINUTE", _COUNT, "30"
    )


@dataclass(frozen=True, slots=True)
class ChatSettings:
    write_window_seconds: int = _variable("CHAT_WRITE_RATE_LIMIT_WINDOW_SECONDS", _SECONDS, "10")
    write_max_per_account: int = _variable("CHAT_WRITE_RATE_LIMIT_MAX_PER_ACCOUNT", _COUNT, "30")
    write_max_per_ip: int = _variable("CHAT_WRITE_RATE_LIMIT_MAX_PER_IP", _COUNT, "120")
    write_lockout_seconds: int = _variable("CHAT_WRITE_RATE_LIMIT_LOCKOUT_SECONDS", _SECONDS, "30")
    write_lockout_max_seconds: int = _variable(
        "CHAT_WRITE_RATE_LIMIT_LOCKOUT_MAX_SECONDS", _integer(1, 604_800), "600"
    )
    message_max_chars: int = _variable("CHAT_MESSAGE_MAX_CHARS", _integer(1, 100_000), "2000")
    history_page_max: int = _variable("CHAT_HISTORY_PAGE_MAX", _integer(1, 1000), "200")
    recovery_max_messages: int = _variable("CHAT_RECOVERY_MAX_MESSAGES", _integer(1, 10_000), "500")
    retention_days: int = _variable("CHAT_RETENTION_DAYS", _integer(0, 36_500), "0")


@dataclass(frozen=True, slots=True)
class SocketSettings:
    ticket_ttl_seconds: int = _variable("WS_TICKET_TTL_SECONDS", _integer(1, 3600), "30")
    # Empty is not the same as unset: no page of any origin, whatever CORS allows.
    allowed_origins: tuple[str, ...] | None = _variable(
        "WS_ALLOWED_ORIGINS", _origins, None, may_be_empty=True
    )
    allow_ticket_in_query: bool | None = _variable("WS_ALLOW_TICKET_IN_QUERY", _boolean, None)
    max_connections: int = _variable("WS_MAX_CONNECTIONS", _COUNT, "10000")
    max_connections_per_account: int = _variable("WS_MAX_CONNECTIONS_PER_ACCOUNT", _COUNT, "5")
    max_connections_per_ip: int = _variable("WS_MAX_CONNECTIONS_PER_IP", _COUNT, "200")
    max_subscriptions: int = _variable("WS_MAX_SUBSCRIPTIONS", _integer(1, 10_000), "100")
    max_frames_per_second: int = _variable("WS_MAX_FRAMES_PER_SECOND", _COUNT, "50")
    max_frame_bytes: int = _variable("WS_MAX_FRAME_BYTES", _integer(1024, 16_777_216), "32768")
    send_buffer_bytes: int = _variable(
        "WS_SEND_BUFFER_BYTES", _integer(4096, 268_435_456), "1048576"
    )
    ping_seconds: int = _variable("WS_PING_SECONDS", _integer(1, 3600), "25")
    first_frame_seconds: int = _variable("WS_FIRST_FRAME_SECONDS", _integer(1, 3600), "30")
    max_lifetime_seconds: int = _variable("WS_MAX_LIFETIME_SECONDS", _integer(1, 604_800), "3300")
    # Whatever comes after it must fit into the 10 s that a gateway has from SIGTERM to its exit.
    shutdown_spread_seconds: int = _variable("WS_SHUTDOWN_SPREAD_SECONDS", _integer(0, 5), "5")
    # Sessions are swept every 2 s and a little: below 3 it would close sockets of a sound house.
    unverified_max_seconds: int = _variable("WS_UNVERIFIED_MAX_SECONDS", _integer(3, 3600), "30")


@dataclass(frozen=True, slots=True)
class DrainSettings:
    grace_seconds: int = _variable("DRAIN_GRACE_SECONDS", _integer(0, 86_400), "300")
    warning_seconds: tuple[int, ...] = _variable(
        "DRAIN_WARNING_SECONDS", _warning_seconds, "300,120,60,30,10", may_be_empty=True
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a process was told, checked. `on_cloud_run` is shown by K_SERVICE."""

    service: ServiceSettings
    database: DatabaseSettings
    secret_sources: SecretSettings
    auth: AuthSettings
    chat: ChatSettings
    socket: SocketSettings
    drain: DrainSettings
    on_cloud_run: bool
    cloud_project: str | None

    @property
    def production(self) -> bool:
        return self.service.app_env == "production"

    @property
    def socket_origins(self) -> tuple[str, ...]:
        explicit = self.socket.allowed_origins
        return self.service.cors_allowed_origins if explicit is None else explicit

    @property
    def ticket_in_query(self) -> bool:
        explicit = self.socket.allow_ticket_in_query
        return not self.production if explicit is None else explicit


_GROUPS: Mapping[str, type[Any]] = {
    "service": ServiceSettings,
    "database": DatabaseSettings,
    "secret_sources": SecretSettings,
    "auth": AuthSettings,
    "chat": ChatSettings,
    "socket": SocketSettings,
    "drain": DrainSettings,
}

KNOWN_NAMES = frozenset(
    item.metadata["variable"] for group in _GROUPS.values() for item in fields(group)
)


def load(environ: Mapping[str, str], service: str) -> Settings:
    """Settings of `service` ("api", "gateway" or "migrate"), or a ConfigurationError."""
    problems = _unknown_names(environ)
    unreadable: list[str] = []
    groups = {
        name: _read_group(group, environ, problems, unreadable) for name, group in _GROUPS.items()
    }
    settings = Settings(
        **groups,
        on_cloud_run="K_SERVICE" in environ,
        cloud_project=environ.get("GOOGLE_CLOUD_PROJECT"),
    )
    if "APP_ENV" not in unreadable:
        problems += [
            problem
            for problem in _contradictions(settings, service)
            if not _mentions(problem, unreadable)
        ]
        problems += _weak_values(settings, service)
    if problems:
        raise ConfigurationError(problems)
    return settings


def _mentions(problem: str, names: list[str]) -> bool:
    return any(re.search(rf"\b{name}\b", problem) for name in names)


def _unknown_names(environ: Mapping[str, str]) -> list[str]:
    problems = []
    for name in sorted(environ):
        guarded = name.startswith(GUARDED_PREFIXES) and not _INJECTED.fullmatch(name)
        if guarded and name not in KNOWN_NAMES:
            nearest = difflib.get_close_matches(name, sorted(KNOWN_NAMES), n=1, cutoff=0.0)
            problems.append(f"{name} is not a known variable; the nearest is {nearest[0]}")
    return problems


def _read_group(
    group: type[Any], environ: Mapping[str, str], problems: list[str], unreadable: list[str]
) -> Any:
    """What is unreadable counts as its default until every problem has been found."""
    values: dict[str, Any] = {}
    for item in fields(group):
        name, default = item.metadata["variable"], item.metadata["default"]
        convert = item.metadata["convert"]
        raw = environ.get(name, default)
        values[item.name] = None
        if raw is None:
            continue
        try:
            if raw == "" and not item.metadata["may_be_empty"]:
                raise ValueError("not be empty: unset it or give it a value")
            if any("\ud800" <= character <= "\udfff" for character in raw):
                raise ValueError("be UTF-8")
            values[item.name] = convert(raw)
        except ValueError as error:
            problems.append(f"{name} must {error}")
            unreadable.append(name)
            if default is not None:
                values[item.name] = convert(default)
    return group(**values)


def _weak_values(settings: Settings, service: str) -> list[str]:
    """What is wrong with secrets in plain text. Production refuses those whatever they hold, and
    what a reference names is judged when it has been read."""
    problems: list[str] = []
    sources = settings.secret_sources
    if service == "api" and not settings.production:
        plain = {
            "jwt_secret": None if sources.jwt_secret_refs else sources.jwt_secret,
            "ops_api_token": None if sources.ops_api_token_refs else sources.ops_api_token,
            "db_password": None if sources.db_password_refs else sources.db_password,
        }
        payloads = {name: [] if value is None else [value] for name, value in plain.items()}
        read_secrets(**payloads, production=False, problems=problems)
    return problems


def _contradictions(settings: Settings, service: str) -> list[str]:
    """What no single variable can show. Production refuses what is only safe on a laptop."""
    auth, chat, socket, secrets = (
        settings.auth,
        settings.chat,
        settings.socket,
        settings.secret_sources,
    )
    # wsgateway/framing.py escapes control characters alone, as \u0001; 512 for what stands around.
    longest_delivery = 6 * chat.message_max_chars + 512
    rows = [
        (settings.database.host is None, "DB_HOST must be set"),
        (
            settings.database.sslmode in ("verify-ca", "verify-full")
            and settings.database.sslrootcert is None,
            "DB_SSLROOTCERT must name the file with the authority's certificate, by which"
            f" DB_SSLMODE={settings.database.sslmode} verifies the server",
        ),
        (
            service == "api" and not (secrets.jwt_secret or secrets.jwt_secret_refs),
            "JWT_SECRET_SECRET_REF must be set (outside production JWT_SECRET will do)",
        ),
        (
            socket.max_frame_bytes < 12 * chat.message_max_chars + 1024,
            "WS_MAX_FRAME_BYTES must be at least 12 x CHAT_MESSAGE_MAX_CHARS + 1024"
            f" = {12 * chat.message_max_chars + 1024}, to hold the longest message escaped",
        ),
        (
            socket.send_buffer_bytes < longest_delivery,
            "WS_SEND_BUFFER_BYTES must be at least 6 x CHAT_MESSAGE_MAX_CHARS + 512"
            f" = {longest_delivery}, to hold the longest message as it is delivered",
        ),
        (
            auth.rate_limit_lockout_max_seconds < auth.rate_limit_lockout_seconds,
            "AUTH_RATE_LIMIT_LOCKOUT_MAX_SECONDS must not be below AUTH_RATE_LIMIT_LOCKOUT_SECONDS",
        ),
        (
            chat.write_lockout_max_seconds < chat.write_lockout_seconds,
            "CHAT_WRITE_RATE_LIMIT_LOCKOUT_MAX_SECONDS must not be below"
            " CHAT_WRITE_RATE_LIMIT_LOCKOUT_SECONDS",
        ),
    ]
    if settings.production:
        rows += _production_rows(settings, service)
    return [problem for wrong, problem in rows if wrong]


def _production_rows(settings: Settings, service: str) -> list[tuple[bool, str]]:
    secrets = settings.secret_sources
    references = (
        ("JWT_SECRET", secrets.jwt_secret, secrets.jwt_secret_refs, service == "api"),
        ("OPS_API_TOKEN", secrets.ops_api_token, secrets.ops_api_token_refs, service == "api"),
        ("DB_PASSWORD", secrets.db_password, secrets.db_password_refs, True),
    )
    rows: list[tuple[bool, str]] = []
    for name, plain, refs, needed in references:
        latest = any(reference.endswith("/latest") for reference in refs)
        rows += [
            (
                plain is not None,
                f"{name} must not be given in plain text in production: use {name}_SECRET_REF",
            ),
            (
                needed and plain is None and not refs,
                f"{name}_SECRET_REF must be set in production",
            ),
            (
                latest,
                f"{name}_SECRET_REF must name a version number in production, not latest:"
                " instances must not disagree",
            ),
        ]
    rows += [
        (
            settings.database.sslmode in ("disable", "allow", "prefer"),
            "DB_SSLMODE must be require, verify-ca or verify-full in production",
        ),
        (
            settings.auth.scrypt_log2_n < 15,
            "AUTH_SCRYPT_LOG2_N must not be below 15 in production",
        ),
        (
            settings.service.secret_manager_emulator is not None,
            "SECRET_MANAGER_EMULATOR_HOST must not be set in production",
        ),
        (
            settings.on_cloud_run and settings.service.trusted_proxy_hops == 0,
            "TRUSTED_PROXY_HOPS must be 1 or more on Cloud Run:"
            " with 0 all clients would share one address",
        ),
        (
            service == "api" and settings.service.public_ws_url is None,
            "PUBLIC_WS_URL must be set in production",
        ),
        (
            (settings.service.public_ws_url or "wss:").startswith("ws:"),
            "PUBLIC_WS_URL must begin with wss:// in production: a ticket must not travel in the"
            " clear",
        ),
    ]
    return rows
