"""Strict reading of JSON from outside, the same in both services (RFC 8259, I-JSON RFC 7493).

`json.loads` alone accepts NaN, keeps the last of two equal keys, lets lone surrogates through and
raises RecursionError on deep nesting; each is refused here with a reason a client can act on.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from rules.errors import Refusal

MAX_DEPTH = 32
# Beyond 2**53 - 1 a JavaScript client and we would read different numbers (RFC 7493, 2.2).
MAX_INTEGER = 2**53 - 1

# A string, which may be a key; an opening bracket; a closing one. A string without an end reaches
# to the end of the text and is never looked at again, so the search is linear whatever comes.
_TOKENS = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*+"?)(?P<colon>[ \t\r\n]*+:)?|[\[{]|[\]}]""", re.DOTALL
)

Path = tuple[str, ...]  # the keys that lead to a value; places in a list have none


@dataclass(frozen=True, slots=True)
class _Unfit:
    """Stands for what cannot be kept, until the walk that knows its field refuses it."""

    code: str
    problem: str


class _TwoOfAKey(dict[str, Any]):
    """Stands likewise for an object in which `key` occurs more than once."""

    key: str


_OUT_OF_RANGE = _Unfit("validation_failed", "is out of range")


def read_object(data: bytes | str) -> dict[str, Any]:
    """The object in `data`; or a Refusal, malformed_json or validation_failed, with the field."""
    text = _decode(data) if isinstance(data, bytes) else data
    _check_depth(text)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_no_constant,
            parse_int=_bounded_integer,
            parse_float=_finite_float,
        )
    except json.JSONDecodeError as error:
        raise Refusal("malformed_json", f"Not valid JSON: {error.msg}.") from None
    if not isinstance(value, dict):
        raise Refusal("malformed_json", "The top level must be a JSON object.")
    _check_values(value, ())
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
    depth, key = 0, None
    for token in _TOKENS.finditer(text):
        mark = token[0]
        if token["string"]:
            # Followed by a colon it is a key: a value may be a secret and is never repeated.
            if depth == 1 and token["colon"]:
                key = token["string"]
        elif mark in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise _too_deep(key)
        else:
            depth -= 1


def _too_deep(key: str | None) -> Refusal:
    """`key`, as it is written, is the member of the top level in which it happens."""
    problem = f"nested deeper than {MAX_DEPTH} levels"
    try:
        name = None if key is None else json.loads(key)
    except json.JSONDecodeError:
        name = None
    if name is None:
        return Refusal("malformed_json", f"The value is {problem}.")
    return _refusal("malformed_json", (name,), f"is {problem}")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    unfit = _TwoOfAKey()
    ((unfit.key, _),) = Counter(key for key, _ in pairs).most_common(1)
    return unfit


def _no_constant(name: str) -> object:
    return _Unfit("malformed_json", f"is {name}, which is no JSON")


def _bounded_integer(digits: str) -> object:
    # 17 characters hold every allowed value; int() of thousands of digits would raise or stall.
    if len(digits) > 17 or abs(int(digits)) > MAX_INTEGER:
        return _OUT_OF_RANGE
    return int(digits)


def _finite_float(digits: str) -> object:
    value = float(digits)
    return _OUT_OF_RANGE if value in (float("inf"), float("-inf")) else value


def _check_values(value: Any, path: Path) -> None:
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, _TwoOfAKey):
        raise _refusal("malformed_json", (*path, value.key), "occurs twice in one object")
    elif isinstance(value, dict):
        for key, member in value.items():
            _check_text(key, (*path, key))
            _check_values(member, (*path, key))
    elif isinstance(value, list):
        for member in value:
            _check_values(member, path)
    elif isinstance(value, _Unfit):
        raise _refusal(value.code, path, value.problem)


def _check_text(text: str, path: Path) -> None:
    if "\x00" in text:
        raise _refusal("validation_failed", path, "must not contain NUL")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise _refusal("validation_failed", path, "must not contain lone surrogates")


def _refusal(code: str, path: Path, problem: str) -> Refusal:
    # The path itself may be long, or hold what cannot be encoded: it is shown as far as it can be.
    shown = ".".join(path)[:64].encode("utf-8", "replace").decode().replace("\x00", "?") or "a key"
    return Refusal(code, f"{shown} {problem}", details={"field": shown})
