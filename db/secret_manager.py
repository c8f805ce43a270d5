"""Fetches referenced secrets from Google's Secret Manager and joins them with the plain ones.

The client library is imported only when a reference is configured: it takes about 300 ms and
56 MB. Every problem is told by the name of the variable, never with a value; the payload's
checksum is compared, since the library leaves that to its caller.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from rules.crc32c import crc32c
from rules.secret_values import Secrets, read_secrets
from rules.settings import ConfigurationError, Settings

if TYPE_CHECKING:
    from google.cloud.secretmanager_v1 import SecretManagerServiceClient

# The library's own retries would hang for almost a minute on a dead endpoint.
CALL_TIMEOUT_SECONDS = 3.0
DEADLINE_SECONDS = 8.0


EVERY_SECRET = frozenset({"JWT_SECRET", "OPS_API_TOKEN", "DB_PASSWORD"})


def resolve_secrets(settings: Settings, needed: Collection[str] = EVERY_SECRET) -> Secrets:
    """The secrets a process needs, no others; raises ConfigurationError, one line a problem."""
    sources = settings.secret_sources
    wanted = {
        "JWT_SECRET": (sources.jwt_secret, sources.jwt_secret_refs),
        "OPS_API_TOKEN": (sources.ops_api_token, sources.ops_api_token_refs),
        "DB_PASSWORD": (sources.db_password, sources.db_password_refs),
    }
    problems: list[str] = []
    client: SecretManagerServiceClient | None = None
    payloads: dict[str, list[str]] = {}
    for name, (plain, references) in wanted.items():
        if name not in needed:
            payloads[name] = []
            continue
        payloads[name] = [plain] if plain is not None and not references else []
        for reference in references:
            client = client or _connect(settings.service.secret_manager_emulator)
            try:
                payloads[name].append(_fetch(client, reference))
            except _Unreadable as error:
                problems.append(f"{name}_SECRET_REF: {reference} {error}")
    if problems:
        raise ConfigurationError(problems)
    return read_secrets(
        jwt_secret=payloads["JWT_SECRET"],
        ops_api_token=payloads["OPS_API_TOKEN"],
        db_password=payloads["DB_PASSWORD"],
        production=settings.production,
    )


class _Unreadable(Exception):
    """Why one version could not be read, as the end of a sentence."""


def _connect(emulator: str | None) -> SecretManagerServiceClient:
    from google.cloud import secretmanager_v1

    if emulator is None:
        return secretmanager_v1.SecretManagerServiceClient()
    import grpc
    from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
        SecretManagerServiceGrpcTransport,
    )

    transport = SecretManagerServiceGrpcTransport(channel=grpc.insecure_channel(emulator))
    return secretmanager_v1.SecretManagerServiceClient(transport=transport)


def _fetch(client: SecretManagerServiceClient, reference: str) -> str:
    from google.api_core import exceptions, retry

    try:
        answer: Any = client.access_secret_version(
            name=reference,
            timeout=CALL_TIMEOUT_SECONDS,
            retry=retry.Retry(
                predicate=retry.if_exception_type(
                    exceptions.ServiceUnavailable, exceptions.DeadlineExceeded
                ),
                initial=0.2,
                maximum=1.0,
                timeout=DEADLINE_SECONDS,
            ),
        )
    except exceptions.NotFound:
        raise _Unreadable("does not exist") from None
    except exceptions.PermissionDenied:
        raise _Unreadable("may not be read by this service account") from None
    except exceptions.FailedPrecondition:
        raise _Unreadable("is disabled or destroyed") from None
    except (exceptions.RetryError, exceptions.ServiceUnavailable, exceptions.DeadlineExceeded):
        raise _Unreadable("could not be read: Secret Manager did not answer in time") from None
    except exceptions.GoogleAPICallError as error:
        raise _Unreadable(f"could not be read: {type(error).__name__}") from None
    payload = answer.payload
    if int(payload.data_crc32c) != crc32c(payload.data):
        raise _Unreadable("arrived damaged: its checksum does not match")
    try:
        return str(payload.data.decode("utf-8"))
    except UnicodeDecodeError:
        raise _Unreadable("is not UTF-8 text") from None
