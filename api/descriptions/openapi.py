"""The OpenAPI 3.1 document, put together from the table of operations."""

from __future__ import annotations

from typing import Any

from api.descriptions import errors, schemas
from api.descriptions.operations import (
    OPERATIONS,
    OUTSIDE,
    REQUIRED_PARAMETERS,
    TEXTS,
    Operation,
    bodies_and_answers,
    query_parameters,
)
from api.descriptions.schemas import ref
from rules.settings import Settings

VERSION = "1"

_ABOUT = """\
JSON objects in UTF-8. Unknown fields, doubled keys, NaN, NUL, lone surrogates, integers beyond
2^53 - 1 and nesting deeper than 32 are refused, with the field named where there is one. Every
error has one envelope, and its `code` is what a program decides by: `x-error-codes` says for each
whether to try again. A path that is not listed answers 404 `not_found`, a method that is not
listed 405 `method_not_allowed` with `Allow`; HEAD goes with every GET, and OPTIONS is answered
everywhere. What is not HTTP/1.1 as RFC 9112 has it is refused before any operation, with the same
envelope.
"""


def document(settings: Settings) -> dict[str, Any]:
    codes = OUTSIDE.union(*(operation.codes for operation in OPERATIONS))
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
            operation, settings
        )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Gatehouse", "version": VERSION, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": {
                "RequestId": {"type": "string", "pattern": "^[A-Za-z0-9._-]{8,64}$"},
                **schemas.components(settings),
                **bodies_and_answers(settings),
                **errors.error_schemas(codes),
            },
            "headers": _HEADERS,
            "responses": {
                "NoSuchPath": errors.error_responses(["not_found"])["404"],
                "NoSuchMethod": errors.error_responses(["method_not_allowed"])["405"],
            },
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The access_token of a session answer. It is good only while"
                    " its session lives.",
                },
                "opsToken": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Ops-Token",
                    "description": "An operator's; its name is the actor in the audit trail. Only"
                    " from OPS_ALLOWED_NETWORKS; for others these paths are not there.",
                },
            },
        },
        "x-error-codes": errors.table(codes),
    }


_HEADERS: dict[str, Any] = {
    "X-Request-ID": {
        "description": "The request's own id where it has this form, else a new one.",
        "required": True,
        "schema": ref("RequestId"),
    },
    "Retry-After": {
        "description": "Seconds; the same number as details.retry_after_seconds.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {"required": True, "schema": {"const": "Bearer"}},
    "Allow": {
        "description": "The methods that the path has.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Z]+(, [A-Z]+)*$"},
    },
}


def _operation(operation: Operation, settings: Settings) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": _parameters(operation, settings),
        "responses": {
            **{str(status): _answer(name) for status, name in operation.answers.items()},
            **errors.error_responses(operation.codes),
        },
    }
    if operation.operator:
        described["security"] = [{"opsToken": []}]
    elif operation.public:
        described["security"] = []
    if operation.body or operation.empty_body:
        described["requestBody"] = {
            "required": not operation.empty_body,
            "content": {"application/json": {"schema": ref(operation.body or "NoFields")}},
        }
    return described


def _parameters(operation: Operation, settings: Settings) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        _parameter("path", part[1:-1], ref("Id"))
        for part in operation.path.split("/")
        if part.startswith("{")
    ]
    query = query_parameters(settings, operator=operation.operator)
    parameters += [_parameter("query", name, query[name]) for name in operation.query]
    if operation.takes_versions:
        # Any text is taken; what is not dotted integers counts as version 0.
        parameters += [
            _parameter("header", name, {"type": "string"})
            for name in ("X-Client-Version", "X-Client-Content-Version")
        ]
    return parameters


def _parameter(place: str, name: str, schema: dict[str, Any]) -> dict[str, Any]:
    required = place == "path" or name in REQUIRED_PARAMETERS
    return {"in": place, "name": name, "required": required, "schema": schema}


def _answer(name: str | None) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": name or "Done.",
        "headers": {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}},
    }
    if name is not None:
        kind = "text/plain" if name in TEXTS else "application/json"
        answer["content"] = {kind: {"schema": ref(name)}}
    return answer
