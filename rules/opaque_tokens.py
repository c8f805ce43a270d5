"""Refresh tokens and websocket tickets: random for the client, a hash for the database.

A token is 256 bits in base64url; the database keeps SHA-256 of those bits, which needs no salt
because nobody can guess the input. A refresh token's successor is derived, not drawn: whoever
presents the old token within the grace gets the same new one from any instance, and neither the
database (hash and nonce) nor a server key alone yields it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets

TOKEN_BYTES = 32
_FORM = re.compile(r"[A-Za-z0-9_-]{43}")


def new_token() -> str:
    return _encode(secrets.token_bytes(TOKEN_BYTES))


def new_nonce() -> bytes:
    return secrets.token_bytes(TOKEN_BYTES)


def is_token(candidate: str) -> bool:
    """Whether it has a token's form at all; a cheap refusal before the database is asked."""
    return _FORM.fullmatch(candidate) is not None


def hash_token(token: str) -> bytes:
    return hashlib.sha256(token.encode("ascii")).digest()


def successor_of(token: str, nonce: bytes) -> str:
    """HMAC-SHA256 keyed with the presented token over the nonce of its spent row."""
    return _encode(hmac.new(token.encode("ascii"), nonce, hashlib.sha256).digest())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
