"""The security headers of every response, an API's: it shows no pages and loads nothing.

Both services and the server below the app take them from here, so that no byte leaves without.
"""

from __future__ import annotations

_ALWAYS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
# RFC 6797, 7.2: never over plain HTTP.
_HTTPS_ONLY = (("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),)


def security_headers(*, secure: bool) -> tuple[tuple[str, str], ...]:
    """`secure`: the request came by HTTPS."""
    return _ALWAYS + _HTTPS_ONLY if secure else _ALWAYS
