"""Fetches referenced secrets from Google's Secret Manager and joins them with the plain ones.

The client library is imported only when a reference is configured: it takes about 400 ms and
56 MB. Every problem is told by the name of the variable, never with a value, within
DEADLINE_SECONDS in all; the payload's checksum is compared, since the library leaves that to its
caller.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from rules.crc32c import crc32c
from rules.secret_values import NAMES, Secrets, read_secrets
from rules.settings import ConfigurationError, Settings

if TYPE_CHECKING:
    from google.cloud.secretmanager_v1 import SecretManagerServiceClient

T = TypeVar("T")

# The library's own retries would hang for almost a minute on a dead endpoint.
DEADLINE_SECONDS = 7.0
CALL_TIMEOUT_SECONDS = 3.0
PAUSE_SECONDS = 0.3

EVERY_SECRET = frozenset(NAMES)


def resolve_secrets(settings: Settings, needed: Collection[str] = EVERY_SECRET) -> Secrets:
    """The secrets a process needs, no others; raises ConfigurationError, one line a problem."""
    sources = settings.secret_sources
    wanted = {
        "JWT_SECRET": (sources.jwt_secret, sources.jwt_secret_refs),
        "OPS_API_TOKEN": (sources.ops_api_token, sources.ops_api_token_refs),
        "DB_PASSWORD": (sources.db_password, sources.db_password_refs),
    }
    references = {ref for name in needed for ref in wanted[name][1]}
    fetched = fetch_all(references, settings.service.secret_manager_emulator)
    problems: list[str] = []
    payloads: dict[str, list[str]] = {name: [] for name in wanted}
    for name in [name for name in wanted if name in needed]:
        plain, refs = wanted[name]
        if plain is not None and not refs:
            payloads[name].append(plain)
        for reference in refs:
            outcome = fetched[reference]
            if isinstance(outcome, SecretUnreadable):
                problems.append(f"{name}_SECRET_REF: {reference} {outcome}")
            else:
                payloads[name].append(outcome)
    secrets = read_secrets(
        jwt_secret=payloads["JWT_SECRET"],
        ops_api_token=payloads["OPS_API_TOKEN"],
        db_password=payloads["DB_PASSWORD"],
        production=settings.production,
        problems=problems,
    )
    if problems:
        raise ConfigurationError(problems)
    return secrets


class SecretUnreadable(Exception):
    """Why one version could not be read, as the end of a sentence."""


_TOO_LATE = "could not be read: Secret Manager did not answer in time"


def fetch_all(
    references: Collection[str], emulator: str | None
) -> dict[str, str | SecretUnreadable]:
    """For each reference its value, or why there is none.

    All are asked for at once, in threads that are left behind when time is up: looking for
    credentials can hang where no timeout of ours reaches.
    """
    if not references:
        return {}
    deadline = time.monotonic() + DEADLINE_SECONDS
    connecting = _start(lambda: connect(emulator))

    def fetch(reference: str) -> str:
        return _fetch(_result(connecting, deadline), reference, deadline)

    fetching = {reference: _start(partial(fetch, reference)) for reference in references}
    outcomes: dict[str, str | SecretUnreadable] = {}
    for reference, future in fetching.items():
        try:
            outcomes[reference] = _result(future, deadline)
        except SecretUnreadable as error:
            outcomes[reference] = error
    return outcomes


def _start(work: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _result(future: Future[T], deadline: float) -> T:
    # A little later than the deadline of the calls, whose own words say more.
    try:
        return future.result(max(0.0, deadline - time.monotonic()) + 0.5)
    except TimeoutError:
        raise SecretUnreadable(_TOO_LATE) from None


def connect(emulator: str | None) -> SecretManagerServiceClient:
    """The library's client; raises SecretUnreadable where it finds no credentials."""
    from google.auth.exceptions import GoogleAuthError
    from google.cloud import secretmanager_v1

    if emulator is None:
        try:
            return secretmanager_v1.SecretManagerServiceClient()
        except GoogleAuthError:
            raise SecretUnreadable(
                "could not be read: no Google credentials were found here; on Cloud Run the service"
                " account gives them, elsewhere GOOGLE_APPLICATION_CREDENTIALS"
            ) from None
    import grpc
    from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
        SecretManagerServiceGrpcTransport,
    )

    transport = SecretManagerServiceGrpcTransport(channel=grpc.insecure_channel(emulator))
    return secretmanager_v1.SecretManagerServiceClient(transport=transport)


def _fetch(client: SecretManagerServiceClient, reference: str, deadline: float) -> str:
    from google.api_core import exceptions

    passing = (exceptions.ServiceUnavailable, exceptions.DeadlineExceeded)
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise SecretUnreadable(_TOO_LATE)
        try:
            answer: Any = client.access_secret_version(
                name=reference, timeout=min(CALL_TIMEOUT_SECONDS, remaining), retry=None
            )
            return _checked(answer.payload)
        except passing:
            time.sleep(PAUSE_SECONDS)
        except exceptions.NotFound:
            raise SecretUnreadable("does not exist") from None
        except exceptions.PermissionDenied:
            raise SecretUnreadable(
                "may not be read by this service account (roles/secretmanager.secretAccessor),"
                " or does not exist"
            ) from None
        except exceptions.Unauthenticated:
            raise SecretUnreadable("could not be read: the credentials were refused") from None
        except exceptions.FailedPrecondition:
            raise SecretUnreadable("is disabled or destroyed") from None
        except exceptions.GoogleAPICallError as error:
            raise SecretUnreadable(f"could not be read: {type(error).__name__}") from None


def _checked(payload: Any) -> str:
    if "data_crc32c" not in payload or int(payload.data_crc32c) != crc32c(payload.data):
        raise SecretUnreadable("arrived damaged: its checksum does not match")
    try:
        return str(payload.data.decode("utf-8"))
    except UnicodeDecodeError:
        raise SecretUnreadable("is not UTF-8 text") from None
