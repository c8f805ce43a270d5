"""Request ids: a client's own where it fits, else a new one; and the headers beside it."""

from __future__ import annotations

import re

import pytest

from rules.crc32c import crc32c
from rules.request_id import choose_request_id
from rules.security_headers import security_headers


class TestRequestIds:
    @pytest.mark.parametrize("proposed", ["a" * 8, "Z" * 64, "0.1_2-3.4", "........"])
    def test_a_clients_own_is_kept(self, proposed: str) -> None:
        assert choose_request_id(proposed) == proposed

    @pytest.mark.parametrize(
        "proposed",
        [
            *(None, "", "a" * 7, "a" * 65, "a b c d e", "12345678\n", "\n12345678", "1234567é"),
            *("a/b/c/d/e", '"injected"', "12345678\r\nSet-Cookie: x", "\uff11" * 8),
        ],
    )
    def test_anything_else_is_replaced(self, proposed: str | None) -> None:
        chosen = choose_request_id(proposed)
        assert chosen != proposed
        assert re.fullmatch("[0-9a-f]{32}", chosen)

    def test_new_ones_differ(self) -> None:
        assert len({choose_request_id(None) for _ in range(100)}) == 100


class TestSecurityHeaders:
    def test_hsts_is_sent_over_https_only(self) -> None:
        # RFC 6797, 7.2
        names = {name for name, _ in security_headers(secure=False)}
        assert "Strict-Transport-Security" not in names
        assert dict(security_headers(secure=True))["Strict-Transport-Security"] == (
            "max-age=31536000; includeSubDomains"
        )

    @pytest.mark.parametrize("secure", [True, False])
    def test_the_others_are_always_sent(self, secure: bool) -> None:
        headers = dict(security_headers(secure=secure))
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Permissions-Policy"]


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        # RFC 3720, appendix B.4
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
)
def test_crc32c_gives_the_published_sums(data: bytes, checksum: int) -> None:
    assert crc32c(data) == checksum
