"""Reading a request's body and query, strictly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from api.context import Request
from rules.errors import Refusal, invalid_field
from rules.fields import Fields, sequence_number
from rules.json_input import read_object

T = TypeVar("T")


def read_body(req: Request) -> Fields:
    """The fields of the JSON object in the body; call `.end()` when all are taken."""
    body = req.bounded_stream.read()
    if not body:
        raise Refusal("malformed_json", "A JSON object is needed as the body.")
    return Fields(read_object(body))


def read_optional_body(req: Request) -> Fields:
    """As read_body; no body is the same as the {} that many clients send with every POST."""
    return read_body(req) if req.content_length else Fields({})


def read_no_fields(req: Request) -> None:
    """For a POST that takes none."""
    read_optional_body(req).end()


class Query:
    """The query string: every parameter once, no unknown ones."""

    def __init__(self, req: Request, *known: str) -> None:
        self._params: dict[str, str] = {}
        for name, value in req.params.items():
            if name not in known:
                shown = name[:64]
                raise Refusal(
                    "validation_failed",
                    f"{shown} is not a known parameter",
                    details={"field": shown},
                )
            if not isinstance(value, str):
                raise invalid_field(name, "must be given once")
            if "\0" in value:  # PostgreSQL knows none
                raise invalid_field(name, "must not contain NUL")
            self._params[name] = value

    def integer(self, name: str, read: Callable[[str, int], T]) -> T | None:
        raw = self._params.get(name)
        if raw is None:
            return None
        if not (raw.isascii() and raw.isdecimal() and len(raw) <= 16):
            raise invalid_field(name, "must be a whole number")
        return read(name, int(raw))

    def required(self, name: str, read: Callable[[str, str], T]) -> T:
        if name not in self._params:
            raise invalid_field(name, "is missing")
        return read(name, self._params[name])

    def read(self, name: str, read: Callable[[str, str], T]) -> T | None:
        raw = self._params.get(name)
        return None if raw is None else read(name, raw)

    def text(self, name: str) -> str | None:
        """1 to 128 characters."""
        raw = self._params.get(name)
        if raw is not None and not 1 <= len(raw) <= 128:
            raise invalid_field(name, "must have 1 to 128 characters")
        return raw

    def page(self, default: int, largest: int) -> int:
        """How many rows: ?limit"""

        def within(name: str, value: int) -> int:
            if not 1 <= value <= largest:
                raise invalid_field(name, f"must be 1 to {largest}")
            return value

        return self.integer("limit", within) or default

    @property
    def given(self) -> dict[str, str]:
        """What was asked for, as it was written."""
        return dict(self._params)

    def seq(self, name: str) -> int | None:
        return self.integer(name, sequence_number)
