"""Strict reading of JSON from outside, the same in both services (RFC 8259, I-JSON RFC 7493).

`json.loads` alone accepts NaN, keeps the last of two equal keys, lets lone surrogates through and
raises RecursionError on deep nesting; each is refused here with a reason a client can act on.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from rules.errors import Refusal

MAX_DEPTH = 32
# Beyond 2**53 - 1 a JavaScript client and we would read different numbers (RFC 7493, 2.2).
MAX_INTEGER = 2**53 - 1

# Stands for a number that cannot be kept, until the walk that knows its field refuses it.
_OUT_OF_RANGE = object()

_OUTSIDE_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def read_object(data: bytes | str) -> dict[str, Any]:
    """The object in `data`, or a Refusal malformed_json or validation_failed."""
    text = _decode(data) if isinstance(data, bytes) else data
    _check_depth(text)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_int=_bounded_integer,
            parse_float=_finite_float,
        )
    except json.JSONDecodeError as error:
        raise Refusal("malformed_json", f"Not valid JSON: {error.msg}.") from None
    if not isinstance(value, dict):
        raise Refusal("malformed_json", "The top level must be a JSON object.")
    _check_values(value, "")
    return value


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal("malformed_json", "The body is not valid UTF-8.") from None


def _check_depth(text: str) -> None:
    # Counted before parsing, so that no input can drive the parser's recursion.
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for match in _OUTSIDE_STRINGS.finditer(text):
        mark = match[0]
        if mark in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise Refusal("malformed_json", f"Nested deeper than {MAX_DEPTH} levels.")
        elif mark in "]}":
            depth -= 1


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Refusal("malformed_json", "A key occurs twice in one object.")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise Refusal("malformed_json", f"{name} is not JSON.")


def _bounded_integer(digits: str) -> object:
    # 17 characters hold every allowed value; int() of thousands of digits would raise or stall.
    if len(digits) > 17 or abs(int(digits)) > MAX_INTEGER:
        return _OUT_OF_RANGE
    return int(digits)


def _finite_float(digits: str) -> object:
    value = float(digits)
    return _OUT_OF_RANGE if value in (float("inf"), float("-inf")) else value


def _check_values(value: Any, path: str) -> None:
    if isinstance(value, str):
        if "\x00" in value:
            raise _bad_value(path, "must not contain NUL")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise _bad_value(path, "must not contain lone surrogates")
    elif isinstance(value, dict):
        for key, member in value.items():
            _check_values(key, path)
            _check_values(member, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for member in value:
            _check_values(member, path)
    elif value is _OUT_OF_RANGE:
        raise _bad_value(path, "is out of range")


def _bad_value(path: str, problem: str) -> Refusal:
    # The path itself may hold what cannot be encoded, so it is shown only as far as it can be.
    field = path.encode("utf-8", "replace").decode().replace("\x00", "?") or "a key"
    return Refusal("validation_failed", f"{field} {problem}", details={"field": field})
