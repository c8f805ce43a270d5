"""The error envelope and the answers that carry it, made from the one table of error codes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from api.descriptions.schemas import Schema, closed, ref
from rules.errors import KINDS, Retry

RETRY_ADVICE = {
    Retry.AS_IS: "the same request may be sent again, with backoff",
    Retry.AFTER_WAIT: "after the seconds that Retry-After and retry_after_seconds give",
    Retry.AFTER_REFRESH: "after POST /auth/refresh, or with a new ticket",
    Retry.NEVER: "not before a person or a programmer has changed something",
}

# These always say how long to wait; the header comes with it.
_TIMED = {code for code, kind in KINDS.items() if kind.retry is Retry.AFTER_WAIT}


def error_schemas(codes: Collection[str]) -> dict[str, Schema]:
    """One envelope for each code: its answer is a choice among them."""
    return {_name(code): _envelope(code) for code in sorted(codes)}


def error_responses(codes: Collection[str]) -> dict[str, dict[str, Any]]:
    """The responses of an operation that answers `codes`, by status."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(http_status(code), []).append(code)
    return {str(status): _response(status, of) for status, of in sorted(by_status.items())}


def http_status(code: str) -> int:
    status = KINDS[code].status
    if status is None:
        raise ValueError(f"{code} is never answered over HTTP")
    return status


def table(codes: Collection[str]) -> dict[str, dict[str, Any]]:
    """`x-error-codes`: what a program needs to know of each code, in one place."""
    return {
        code: {
            "status": kind.status,
            "close_code": kind.close,
            "retry": kind.retry.value,
            "message": kind.message,
        }
        for code, kind in KINDS.items()
        if code in codes
    }


def _envelope(code: str) -> Schema:
    details: Schema = {"type": "object"}
    if code in _TIMED:
        details = closed({"retry_after_seconds": {"type": "integer", "minimum": 1}})
    elif code == "validation_failed":
        details = closed({"field": {"type": "string"}})
    elif code == "malformed_json":
        # Where it is a field that makes it none: a doubled one, NaN, too deep a value.
        details = closed({"field": {"type": "string"}}, optional=("field",))
    elif code == "update_required":
        details = closed({"version_status": ref("VersionStatus")})
    else:
        details = closed({})
    members = {
        "code": {"const": code},
        "message": {"type": "string"},
        "request_id": ref("RequestId"),
        "details": details,
    }
    return closed({"error": closed(members)})


def _response(status: int, codes: list[str]) -> dict[str, Any]:
    lines = [
        f"- `{code}`: {KINDS[code].message} Retry: {RETRY_ADVICE[KINDS[code].retry]}."
        for code in sorted(codes)
    ]
    choices = [ref(_name(code)) for code in sorted(codes)]
    headers = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}
    if status == 401:
        headers["WWW-Authenticate"] = {"$ref": "#/components/headers/WWW-Authenticate"}
    if status == 405:
        headers["Allow"] = {"$ref": "#/components/headers/Allow"}
    if any(code in _TIMED for code in codes):
        headers["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    return {
        "description": "\n".join(lines),
        "headers": headers,
        "content": {
            "application/json": {"schema": choices[0] if len(choices) == 1 else {"oneOf": choices}}
        },
        "x-retry": {code: KINDS[code].retry.value for code in sorted(codes)},
    }


def _name(code: str) -> str:
    return "Error_" + code
