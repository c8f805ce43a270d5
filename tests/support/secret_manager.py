"""A Secret Manager on the loopback address: the API's own messages over gRPC, as far as we use it.

Versions are numbered from 1 for each secret, enabled or disabled, as the real one has them. What
may go wrong is switched on by a test: `deny`, `damage`, `delay_seconds`, `stalls`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import grpc
from google.cloud import secretmanager_v1 as api

from rules.crc32c import crc32c

PREFIX = "/google.cloud.secretmanager.v1.SecretManagerService/"
STATES: Any = api.SecretVersion.State  # an enum, which its type does not say


class SecretManager:
    """Used with `with`; `host` is what SECRET_MANAGER_EMULATOR_HOST wants."""

    def __init__(self) -> None:
        self.deny: set[str] = set()  # names of secrets
        self.damage: set[str] = set()
        self.delay_seconds = 0.0
        self.stalls = 0  # so many further reads are answered with "unavailable"
        self.asked: list[str] = []  # names of the versions that were read
        self._versions: dict[str, list[tuple[bytes, str]]] = {}
        self._changing = threading.Lock()
        self._stopping = threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(16))
        self._server.add_generic_rpc_handlers(
            [
                _Handlers(
                    {
                        "AccessSecretVersion": (api.AccessSecretVersionRequest, self._access),
                        "AddSecretVersion": (api.AddSecretVersionRequest, self._add),
                        "DisableSecretVersion": (api.DisableSecretVersionRequest, self._disable),
                    }
                )
            ]
        )
        self.host = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> SecretManager:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._server.stop(None).wait()

    def add(self, secret: str, value: str | bytes) -> str:
        """A new version of `secret` (a short name); returns the reference to it."""
        data = value.encode() if isinstance(value, str) else value
        with self._changing:
            versions = self._versions.setdefault(f"projects/p/secrets/{secret}", [])
            versions.append((data, "ENABLED"))
            return f"projects/p/secrets/{secret}/versions/{len(versions)}"

    def value(self, reference: str) -> str:
        """What the version holds, disabled or not."""
        secret, number = _parts(reference)
        return self._versions[secret][number - 1][0].decode()

    def state(self, reference: str) -> str:
        secret, number = _parts(reference)
        return self._versions[secret][number - 1][1]

    def set_state(self, reference: str, state: str) -> None:
        secret, number = _parts(reference)
        with self._changing:
            data, _ = self._versions[secret][number - 1]
            self._versions[secret][number - 1] = (data, state)

    def _access(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.asked.append(request.name)
        self._stopping.wait(self.delay_seconds)
        if self.stalls:
            self.stalls -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "The service is currently unavailable.")
        secret, number = _parts(request.name)
        if secret.rpartition("/")[2] in self.deny:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "Permission denied (or no such).")
        versions = self._versions.get(secret, [])
        number = number or len(versions)
        if not 1 <= number <= len(versions):
            context.abort(grpc.StatusCode.NOT_FOUND, f"Secret Version [{request.name}] not found.")
        data, state = versions[number - 1]
        if state != "ENABLED":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"is in {state} state.")
        checksum = crc32c(data)
        if secret.rpartition("/")[2] in self.damage:
            data = data[:-1] + b"?"
        return api.AccessSecretVersionResponse(
            name=f"{secret}/versions/{number}",
            payload=api.SecretPayload(data=data, data_crc32c=checksum),
        )

    def _add(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.parent not in self._versions:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Secret [{request.parent}] not found.")
        if request.payload.data_crc32c != crc32c(request.payload.data):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The checksum does not match.")
        reference = self.add(request.parent.rpartition("/")[2], request.payload.data)
        return api.SecretVersion(name=reference, state=STATES["ENABLED"])

    def _disable(self, request: Any, context: grpc.ServicerContext) -> Any:
        secret, number = _parts(request.name)
        if not 1 <= number <= len(self._versions.get(secret, [])):
            context.abort(grpc.StatusCode.NOT_FOUND, f"Secret Version [{request.name}] not found.")
        self.set_state(request.name, "DISABLED")
        return api.SecretVersion(name=request.name, state=STATES["DISABLED"])


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, methods: dict[str, tuple[Any, Callable[[Any, Any], Any]]]) -> None:
        self._methods = {
            PREFIX + name: grpc.unary_unary_rpc_method_handler(
                behaviour,
                request_deserializer=request.deserialize,
                response_serializer=lambda answer: type(answer).serialize(answer),
            )
            for name, (request, behaviour) in methods.items()
        }

    def service(self, handler_call_details: Any) -> Any:
        return self._methods.get(handler_call_details.method)


def _parts(reference: str) -> tuple[str, int]:
    """projects/p/secrets/s and the number; 0 for latest."""
    secret, _, version = reference.rpartition("/versions/")
    return secret, 0 if version == "latest" else int(version)
