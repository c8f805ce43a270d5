"""Password hashes: scrypt with its parameters stored beside it (RFC 7914, OWASP cheat sheet).

Form: scrypt$<log2 N>$<r>$<p>$<salt>$<hash>, base64url. The cost can be raised later: a login whose
stored parameters differ from the current ones is rehashed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass

SALT_BYTES = 16
HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """Memory is 128 * r * N bytes (32 MiB at N = 2**15, r = 8), time grows with p as well."""

    log2_n: int = 15
    r: int = 8
    p: int = 3


def hash_password(password: str, cost: ScryptCost) -> str:
    salt = secrets.token_bytes(SALT_BYTES)
    digest = _scrypt(password, salt, cost)
    return f"scrypt${cost.log2_n}${cost.r}${cost.p}${_encode(salt)}${_encode(digest)}"


def verify_password(password: str, stored: str, at_least: ScryptCost) -> bool:
    """Constant time in the comparison; raises ValueError on a stored value it did not write.

    A hash that was made at a lower cost than `at_least` takes that one's time all the same: else
    the time would tell, after the cost was raised, who has an account.
    """
    cost, salt, digest = _parse(stored)
    is_right = hmac.compare_digest(_scrypt(password, salt, cost), digest)
    for _ in range(2 ** max(0, at_least.log2_n - cost.log2_n) - 1):
        _scrypt(password, salt, cost)
    return is_right


def needs_rehash(stored: str, cost: ScryptCost) -> bool:
    return _parse(stored)[0] != cost


def _parse(stored: str) -> tuple[ScryptCost, bytes, bytes]:
    scheme, log2_n, r, p, salt, digest = stored.split("$")
    if scheme != "scrypt":
        raise ValueError("a stored password hash has an unknown scheme")
    return ScryptCost(int(log2_n), int(r), int(p)), _decode(salt), _decode(digest)


def _scrypt(password: str, salt: bytes, cost: ScryptCost) -> bytes:
    # OpenSSL refuses more than 32 MiB unless told otherwise; twice the need leaves it room. The
    # need for N = 2**20 is 1 GiB, and hashlib takes no number beyond an int.
    memory_bytes = 128 * cost.r * (2**cost.log2_n + cost.p + 2)
    return hashlib.scrypt(
        password.encode("utf-8"),
        salt=salt,
        n=2**cost.log2_n,
        r=cost.r,
        p=cost.p,
        maxmem=min(2 * memory_bytes, 2**31 - 1),
        dklen=HASH_BYTES,
    )


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode("ascii"))
