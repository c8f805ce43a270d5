"""Looks at Postgres's certificate with the standard library: libpq only says that it failed."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

from rules.settings import DatabaseSettings

# The manual, 55.7 Message Formats: the length, 8, and the number of SSLRequest.
_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


class NotTrusted(Exception):
    """The end of a sentence about the server's certificate, or about the way to it."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that was verified; `expires_at` in seconds since the epoch."""

    protocol: str
    expires_at: float


def probe(settings: DatabaseSettings) -> Certificate:
    """Verifies what `verify-ca` or `verify-full` verifies; raises NotTrusted."""
    host, seconds = str(settings.host), float(settings.connect_timeout_seconds)
    context = _context(settings)
    try:
        with socket.create_connection((host, settings.port), seconds) as plain:
            plain.sendall(_SSL_REQUEST)
            if plain.recv(1) != b"S":
                raise NotTrusted("the server speaks no TLS: switch it on in Postgres (ssl = on)")
            with context.wrap_socket(plain, server_hostname=host) as encrypted:
                shown = encrypted.getpeercert() or {}
                expires_at = ssl.cert_time_to_seconds(str(shown.get("notAfter")))
                return Certificate(str(encrypted.version()), expires_at)
    except ssl.SSLCertVerificationError as error:
        raise NotTrusted(f"its certificate does not hold: {error.verify_message}") from None
    except (OSError, ValueError) as error:
        raise NotTrusted(f"no TLS handshake: {error}") from None


def _context(settings: DatabaseSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = settings.sslmode == "verify-full"
    try:
        if settings.sslrootcert == "system":
            context.load_default_certs()
        else:
            context.load_verify_locations(settings.sslrootcert)
    except OSError as error:  # ssl.SSLError is one
        said = error.strerror or "not PEM certificates"
        raise NotTrusted(f"DB_SSLROOTCERT {settings.sslrootcert} cannot be read: {said}") from None
    return context
