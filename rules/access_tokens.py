"""Bearer access tokens: HS256 JSON Web Tokens (RFC 7519), read strictly (RFC 8725).

The header is compared as a whole with the one we would write for the key it names: `alg: none`,
another algorithm, an unknown key or an extra header parameter are all simply not our header. A
token says who asks; whether the session still lives is asked of the database on every request.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from itsdangerous import Signer

from rules.errors import Refusal

MAX_TOKEN_CHARS = 2048  # ours are about 400; nothing longer is worth a signature check


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """What a valid token says: whose session it is, and until when (seconds since the epoch)."""

    user_id: int
    session_id: int
    expires_at: int


class AccessTokens:
    """Signs with the first key, verifies with all: a rotation adds, moves up, then drops a key."""

    def __init__(self, keys: Sequence[bytes], issuer: str, audience: str, ttl_seconds: int) -> None:
        if not keys:
            raise ValueError("at least one signing key is needed")
        self._by_header = {_header(key): _signer(key) for key in keys}
        self._signing_header = _header(keys[0])
        self._issuer = issuer
        self._audience = audience
        self.ttl_seconds = ttl_seconds

    def issue(self, *, user_id: int, session_id: int, now: float) -> str:
        """`now` in seconds since the epoch, by the database's clock."""
        issued_at = int(now)
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(user_id),
            "sid": str(session_id),
            "iat": issued_at,
            "exp": issued_at + self.ttl_seconds,
            "jti": secrets.token_hex(16),
        }
        header = self._signing_header
        return self._by_header[header].sign(f"{header}.{_segment(claims)}").decode("ascii")

    def read(self, token: str) -> AccessClaims:
        """Signature, header and claims but for the time, which the caller compares; or 401."""
        try:
            return self._read(token)
        except (ValueError, KeyError, TypeError) as error:
            raise Refusal("unauthorized", cause=f"access token: {error!r}") from None

    def _read(self, token: str) -> AccessClaims:
        if len(token) > MAX_TOKEN_CHARS or not token.isascii() or token.count(".") != 2:
            raise ValueError("not the form of a token")
        header, body, _ = token.split(".")
        signer = self._by_header.get(header)
        if signer is None:
            raise ValueError("not a header of ours")
        # Compared as a whole: base64 has several spellings of the same bytes, a token has one.
        if not hmac.compare_digest(signer.sign(f"{header}.{body}"), token.encode("ascii")):
            raise ValueError("not a signature of ours")
        claims = json.loads(_unsegment(body))
        if claims["iss"] != self._issuer or claims["aud"] != self._audience:
            raise ValueError("for somebody else")
        if type(claims["exp"]) is not int or type(claims["iat"]) is not int:
            raise TypeError("times must be integers")
        return AccessClaims(_number(claims["sub"]), _number(claims["sid"]), claims["exp"])


def key_id(key: bytes) -> str:
    """Names a key without telling anything about it."""
    return hashlib.sha256(b"gatehouse key id\n" + key).hexdigest()[:16]


def _signer(key: bytes) -> Signer:
    # key_derivation "none" and the separator make exactly the JWS signature of RFC 7515.
    return Signer(key, sep=".", key_derivation="none", digest_method=hashlib.sha256)


def _header(key: bytes) -> str:
    return _segment({"alg": "HS256", "kid": key_id(key), "typ": "JWT"})


def _segment(value: dict[str, Any]) -> str:
    data = json.dumps(value, separators=(",", ":"), sort_keys=True).encode("ascii")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _unsegment(segment: str) -> bytes:
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def _number(value: object) -> int:
    if not isinstance(value, str) or not value.isdecimal() or len(value) > 16:
        raise ValueError("not an id")
    return int(value)
