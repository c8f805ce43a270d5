"""What a secret may hold: several keys, named ops tokens, several database passwords.

Values come one a line or, but for passwords, separated by commas; several payloads (versions of a
secret) are read one after the other. No message here ever contains a value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

NAMES = ("JWT_SECRET", "OPS_API_TOKEN", "DB_PASSWORD")
MIN_KEY_BYTES = 32  # RFC 7518, 3.2: an HS256 key is at least as long as the hash
MIN_OPS_TOKEN_CHARS = 24
_OPS_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_OPS_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Secrets:
    """`jwt_keys`: the first signs, all verify. `ops_tokens`: (actor's name, token) pairs; during a
    rotation one name has two."""

    jwt_keys: tuple[bytes, ...] = field(repr=False)
    ops_tokens: tuple[tuple[str, bytes], ...] = field(repr=False)
    db_passwords: tuple[str, ...] = field(repr=False)


def read_secrets(
    *,
    jwt_secret: Sequence[str],
    ops_api_token: Sequence[str],
    db_password: Sequence[str],
    production: bool,
    problems: list[str],
) -> Secrets:
    """Each argument is the payloads of one secret, first first. What is wrong with any of them is
    appended to `problems`; then the result is not to be used."""
    passwords = tuple(line for payload in db_password for line in payload.splitlines() if line)
    keys = tuple(value.encode("utf-8") for value in _values(jwt_secret))
    entries = _values(ops_api_token)
    for name, payloads, values in (
        ("JWT_SECRET", jwt_secret, keys),
        ("OPS_API_TOKEN", ops_api_token, entries),
        ("DB_PASSWORD", db_password, passwords),
    ):
        if payloads and not values:
            problems.append(f"{name}: there is nothing in it but space and separators")
    for position, key in enumerate(keys, 1):
        if len(key) < MIN_KEY_BYTES:
            problems.append(f"JWT_SECRET: key {position} has fewer than {MIN_KEY_BYTES} bytes")
        elif production and _is_regular(key):
            problems.append(f"JWT_SECRET: key {position} is too regular to be random")
    if len(set(keys)) != len(keys):
        problems.append("JWT_SECRET: the same key stands twice")
    tokens = _named_tokens(entries, production, problems)
    return Secrets(keys, tokens, passwords)


def _values(payloads: Sequence[str]) -> list[str]:
    parts = (part.strip() for payload in payloads for part in re.split(r"[\n,]", payload))
    return [part for part in parts if part]


def _is_regular(key: bytes) -> bool:
    """Typed with one finger, or counted up: 0123456789abcdef... is in every list of guesses. A
    random key has some 20 different steps between neighbours, also in hexadecimal digits."""
    steps = {following - byte for byte, following in pairwise(key)}
    return len(set(key)) < 12 or len(steps) < 8


def _named_tokens(
    values: Sequence[str], production: bool, problems: list[str]
) -> tuple[tuple[str, bytes], ...]:
    owners: dict[str, str] = {}
    for position, value in enumerate(values, 1):
        name, separator, token = value.partition(":")
        if not separator:
            name, token = "ops", value
        entry = f"OPS_API_TOKEN: entry {position}"
        if not _OPS_NAME.fullmatch(name) or not token:
            problems.append(f"{entry} is not of the form name:token")
        elif not _OPS_TOKEN.fullmatch(token):
            problems.append(f"{entry} has a token that no header carries: no spaces, ASCII only")
        elif owners.setdefault(token, name) != name:
            problems.append(f"{entry} has another name's token: the audit trail needs one each")
        elif production and len(token) < MIN_OPS_TOKEN_CHARS:
            problems.append(f"{entry} has fewer than {MIN_OPS_TOKEN_CHARS} characters")
    return tuple((name, token.encode("utf-8")) for token, name in owners.items())
