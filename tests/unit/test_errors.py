"""The table of refusals: complete, consistent, and the one place that knows a code."""

from __future__ import annotations

import pytest

from rules.append_verdict import refusal_of
from rules.errors import KINDS, Refusal, Retry, envelope, invalid_field

CODES = {
    "invalid_request": 400,
    "malformed_json": 400,
    "unauthorized": 401,
    "invalid_credentials": 401,
    "token_expired": 401,
    "session_revoked": 401,
    "refresh_token_invalid": 401,
    "refresh_token_reused": 401,
    "drained": 401,
    "forbidden": 403,
    "muted": 403,
    "origin_not_allowed": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "email_taken": 409,
    "conflict": 409,
    "drain_in_progress": 409,
    "payload_too_large": 413,
    "unsupported_media_type": 415,
    "validation_failed": 422,
    "update_required": 426,
    "rate_limited": 429,
    "headers_too_large": 431,
    "internal_error": 500,
    "unavailable": 503,
}
CLOSES = {
    "service_restart": 1012,
    "at_capacity": 1013,
    "ticket_invalid": 4401,
    "slow_consumer": 4408,
    "rate_limited": 4429,
    "lifetime": 4440,
    "internal_error": 1011,
    "session_revoked": 4501,
    "account_disabled": 4503,
    "drained": 4510,
    "update_required": 4526,
    "replaced": 4509,
    "unsupported_data": 1003,
    "policy": 1008,
    "payload_too_large": 1009,
}


class TestTheTable:
    def test_every_code_of_the_contract_has_its_status(self) -> None:
        assert {c: kind.status for c, kind in KINDS.items() if kind.status is not None} == CODES

    @pytest.mark.parametrize(("code", "close"), CLOSES.items())
    def test_every_close_code_of_the_contract_has_its_reason(self, code: str, close: int) -> None:
        assert KINDS[code].close == close

    def test_a_close_code_has_one_reason(self) -> None:
        assert KINDS["internal_error"].close_reason == "internal"
        assert KINDS["unavailable"].close_reason == "at_capacity"
        closing = {kind.close: kind.close_reason for kind in KINDS.values() if kind.close}
        assert all(
            closing[kind.close] == kind.close_reason for kind in KINDS.values() if kind.close
        )

    def test_no_code_stands_twice(self) -> None:
        from rules.errors import _ROWS  # noqa: PLC0415 - the mapping would hide a double

        assert len(_ROWS) == len(KINDS)

    def test_a_close_code_that_says_come_back_never_says_never(self) -> None:
        for kind in KINDS.values():
            if kind.close is not None and (4000 <= kind.close < 4500 or kind.close in (1012, 1013)):
                assert kind.retry in (Retry.AFTER_WAIT, Retry.AFTER_REFRESH), kind.code

    def test_a_close_code_that_asks_for_a_person_never_says_as_it_is(self) -> None:
        for kind in KINDS.values():
            if kind.close is not None and kind.close >= 4500:
                assert kind.retry in (Retry.NEVER, Retry.AFTER_REFRESH), kind.code

    def test_what_says_wait_or_try_again_is_no_fault_of_the_request(self) -> None:
        for kind in KINDS.values():
            if kind.retry is Retry.AS_IS:
                assert kind.status is not None, kind.code
                assert kind.status >= 500, kind.code

    def test_a_close_reason_fits_into_a_close_frame(self) -> None:
        # RFC 6455, 5.5: 125 bytes of payload, two of them the code.
        assert all(len(code.encode()) <= 123 for code in KINDS)

    def test_every_message_is_a_sentence(self) -> None:
        for kind in KINDS.values():
            assert kind.message[0].isupper(), kind.code
            assert kind.message.endswith("."), kind.code


class TestARefusal:
    def test_the_wait_is_a_detail_too(self) -> None:
        refusal = Refusal("rate_limited", details={"limit": "login"}, retry_after_seconds=7)
        assert refusal.details == {"limit": "login", "retry_after_seconds": 7}
        assert refusal.retry_after_seconds == 7

    def test_the_cause_is_for_the_log_alone(self) -> None:
        refusal = Refusal("unauthorized", cause="kid of a dropped key")
        shown = envelope(refusal.code, refusal.message, "request-1", refusal.details)
        assert "dropped" not in str(shown)
        assert "dropped" in str(refusal)

    def test_a_field_is_named_twice(self) -> None:
        refusal = invalid_field("content", "must not be empty")
        assert (refusal.code, refusal.message) == ("validation_failed", "content must not be empty")
        assert refusal.details == {"field": "content"}

    def test_a_code_that_is_not_in_the_table_cannot_be_raised(self) -> None:
        with pytest.raises(KeyError):
            Refusal("teapot")

    def test_the_envelope_has_all_four_members_always(self) -> None:
        assert envelope("not_found", "Nothing.", "request-1") == {
            "error": {
                "code": "not_found",
                "message": "Nothing.",
                "request_id": "request-1",
                "details": {},
            }
        }


class TestVerdictsOfTheWritePath:
    @pytest.mark.parametrize("verdict", ["stored", "repeat"])
    def test_what_is_in_the_log_is_no_refusal(self, verdict: str) -> None:
        assert refusal_of(verdict, None) is None

    @pytest.mark.parametrize(
        ("verdict", "code"),
        [
            ("session_ended", "session_revoked"),
            ("not_found", "not_found"),
            ("conflict", "conflict"),
            ("muted", "muted"),
            ("locked_out_now", "rate_limited"),
            ("locked_out", "rate_limited"),
            ("address_full", "rate_limited"),
        ],
    )
    def test_everything_else_is_one_with_the_seconds_to_wait(self, verdict: str, code: str) -> None:
        wait = 9 if code in ("muted", "rate_limited") else None
        refusal = refusal_of(verdict, wait)
        assert refusal is not None
        assert (refusal.code, refusal.retry_after_seconds) == (code, wait)

    def test_a_verdict_that_nobody_knows_is_not_taken_for_success(self) -> None:
        with pytest.raises(KeyError):
            refusal_of("lost", None)
