"""Whether what a service answers is what it says of itself in /openapi.json and /asyncapi.json.

A helper that talks to a service hands every answer and frame to a `Described`; it fails on what is
not described and remembers what it has seen, so that a test can ask what was described and never
came.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonschema import Draft202012Validator

from tests.support.http_calls import Answer, Http

# Where tests/support/schemathesis_hooks.py, in a process of its own, finds the service.
API_PORT = "GATEHOUSE_DESCRIBED_PORT"

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Given:
    """One kind of answer: `operation` as "POST /auth/login"; `code` None for a success."""

    operation: str
    status: int
    code: str | None


class Described:
    """Both documents of a live API, and what has been seen of them so far."""

    def __init__(self, openapi: Document, asyncapi: Document) -> None:
        self.http = HttpDescription(openapi)
        self.socket = SocketDescription(asyncapi)

    @classmethod
    def by(cls, api_port: int) -> Described:
        """The API on this loopback port describes itself and the gateway beside it."""
        openapi, asyncapi = (
            Http(api_port).get(path).json for path in ("/openapi.json", "/asyncapi.json")
        )
        return cls(openapi, asyncapi)


@dataclass
class HttpDescription:
    document: Document
    seen: set[Given] = field(default_factory=set)

    def operations(self) -> dict[str, Document]:
        return {
            f"{method.upper()} {path}": operation
            for path, of_path in self.document["paths"].items()
            for method, operation in of_path.items()
        }

    def given(self) -> set[Given]:
        """Every kind of answer that is described."""
        return {
            Given(name, int(status), code)
            for name, operation in self.operations().items()
            for status, response in operation["responses"].items()
            for code in response.get("x-retry", {None: None})
        }

    def check(self, method: str, target: str, answer: Answer) -> None:
        """Fails unless this answer to this call is described; HEAD stands for its GET."""
        name, response = self._response(method, target, answer.status)
        self._check_headers(method, response, answer)
        content = response.get("content")
        if content is None or method == "HEAD":
            assert answer.body == b"", f"{name}: a body where none is described"
            code = None
        else:
            self._check_content(content, answer, name)
            code = answer.error["code"] if answer.status >= 400 else None
        self.seen.add(Given(name, answer.status, code))

    def _check_content(self, content: Document, answer: Answer, name: str) -> None:
        [(kind, described)] = content.items()
        if kind == "application/json":
            self._validate(described["schema"], answer.json, name)
        else:
            assert answer.headers.get_content_type() == kind
            self._validate(described["schema"], answer.body.decode("utf-8"), name)

    def _response(self, method: str, target: str, status: int) -> tuple[str, Document]:
        path = target.partition("?")[0]
        responses = self.document["components"]["responses"]
        for template, of_path in self.document["paths"].items():
            if re.fullmatch(re.sub(r"\{[a-z_]+\}", "[1-9][0-9]{0,15}", template), path):
                operation = of_path.get(("GET" if method == "HEAD" else method).lower())
                if operation is None:
                    assert status == 405, f"{method} {path} is not described, and not refused"
                    return f"{method} {template}", responses["NoSuchMethod"]
                name = f"{method} {template}"
                described = operation["responses"].get(str(status))
                assert described is not None, f"{name} does not describe the status {status}"
                return name, described
        assert status == 404, f"{path} is not described, and found"
        return "(no such path)", responses["NoSuchPath"]

    def _check_headers(self, method: str, response: Document, answer: Answer) -> None:
        for name, place in response["headers"].items():
            header = self.document["components"]["headers"][place["$ref"].rpartition("/")[2]]
            value: Any = answer.headers[name]
            if value is None:
                assert not header.get("required"), f"{name} is missing"
                continue
            if header["schema"].get("type") == "integer":
                value = int(value)
            self._validate(header["schema"], value, name)
        waits = answer.error["details"] if answer.status >= 400 and method != "HEAD" else {}
        promised = waits.get("retry_after_seconds")
        shown = answer.headers["Retry-After"]
        assert shown == (None if promised is None else str(promised)), "Retry-After"

    def _validate(self, schema: Document, value: Any, what: str) -> None:
        validate(self.document, schema, value, what)


@dataclass
class SocketDescription:
    document: Document
    seen_frames: set[str] = field(default_factory=set)
    seen_errors: set[str] = field(default_factory=set)
    seen_closes: set[tuple[int, str]] = field(default_factory=set)

    def frames(self, action: str) -> set[str]:
        """The keys of the frames that the gateway is described to "receive" or "send"."""
        found = set()
        for operation in self.document["operations"].values():
            own = [operation["messages"]] if operation["action"] == action else []
            replies = [operation["reply"]["messages"]] if "reply" in operation else []
            for messages in own + (replies if action == "send" else []):
                found |= {message["$ref"].rpartition("/")[2] for message in messages}
        return found

    def errors(self) -> set[str]:
        return set(self.document["x-error-codes"])

    def closes(self) -> set[tuple[int, str]]:
        return {(close["code"], close["reason"]) for close in self.document["x-close-codes"]}

    def check_sent_by_client(self, frame: Mapping[str, Any]) -> None:
        """For frames that a client means well; what it breaks on purpose is nobody's promise."""
        self._check("receive", frame)

    def check_sent_by_gateway(self, message: str | bytes) -> dict[str, Any]:
        """The frame in a message, which must be a described one."""
        assert isinstance(message, str)
        frame: dict[str, Any] = json.loads(message)
        self._check("send", frame)
        if frame["type"] == "error":
            self.seen_errors.add(frame["code"])
        return frame

    def check_close(self, code: int, reason: str) -> None:
        known = {close["code"]: close["reason"] for close in self.document["x-close-codes"]}
        assert code in known, f"{code} {reason} is not described"
        if (code, reason) in self.closes():
            self.seen_closes.add((code, reason))
        else:
            # The layer below says it in words of its own.
            assert (code, "") in self.closes(), f"{code} {reason} is not described"
            self.seen_closes.add((code, ""))

    def _check(self, action: str, frame: Mapping[str, Any]) -> None:
        messages = self.document["components"]["messages"]
        keys = [key for key in self.frames(action) if messages[key]["name"] == frame["type"]]
        assert len(keys) == 1, f"{frame['type']} is not described"
        validate(self.document, messages[keys[0]]["payload"], frame, frame["type"])
        self.seen_frames.add(keys[0])


def validate(document: Document, schema: Document, value: Any, what: str) -> None:
    """Fails unless `value` fits `schema`, whose references lead into `document`."""
    validator = Draft202012Validator({**schema, "components": document["components"]})
    problems = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
    assert not problems, f"{what} is not as described:\n" + "\n".join(problems)
