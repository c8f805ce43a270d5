"""Client versions: dotted integers, compared as numbers, and what the release gate says of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.versions import ReleasePolicy, readable_version, version_key, version_status
from tests.support.fuzz import FEW

NOW = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
POLICY = ReleasePolicy(
    latest_version="2.0",
    min_supported_version="1.10",
    enforce_after=NOW,
    update_url="https://example.org/update",
)


class TestOrder:
    def test_parts_are_compared_as_numbers(self) -> None:
        ascending = ["0.9", "1", "1.0.1", "1.2", "1.9.9", "1.10", "2", "10", "9" * 18]
        for older, newer in pairwise(ascending):
            assert version_key(older) < version_key(newer)

    def test_a_part_may_be_a_date_with_its_time(self) -> None:
        assert version_key("1.0.20261124123045") < version_key("1.0.20261124123046")

    @pytest.mark.parametrize(
        ("one", "other"), [("1", "1.0.0"), ("1.2", "1.2.0"), ("0", "0.0"), ("01.002", "1.2")]
    )
    def test_zeros_make_no_difference(self, one: str, other: str) -> None:
        assert version_key(one) == version_key(other)

    @pytest.mark.parametrize(
        "version",
        [
            *(None, "", "1.", ".1", "1..2", "v1", "1.2-beta", "1.2\n", " 1", "-1", "1,2"),
            *("\u0661", "1" * 19, ".".join("123456789"), "9" * 5000),
        ],
    )
    def test_what_cannot_be_read_counts_as_0_and_is_not_kept(self, version: str | None) -> None:
        assert version_key(version) == version_key("0")
        assert readable_version(version) is None

    def test_what_can_be_read_is_kept_as_it_was_said(self) -> None:
        for version in ("0", "1.02", "1.0.20261124123045", "9" * 18, "1.2.3.4.5.6.7.8"):
            assert readable_version(version) == version

    @FEW
    @given(version=st.text(st.sampled_from("0123456789.x"), max_size=20))
    def test_every_version_can_be_compared_with_every_other(self, version: str) -> None:
        assert version_key("0") <= version_key(version)
        assert version_key(version) in (version_key(readable_version(version)), ())


class TestStatus:
    @pytest.mark.parametrize(
        ("client", "available", "required"),
        [
            ("2.0", False, False),
            ("2.1", False, False),
            ("1.10", True, False),
            ("1.9", True, True),
            (None, True, True),
            ("latest", True, True),
        ],
    )
    def test_a_client_below_the_minimum_must_update_and_one_below_the_latest_may(
        self, client: str | None, available: bool, required: bool
    ) -> None:
        status = version_status(POLICY, client, None, NOW)
        assert (status["update_available"], status["update_required"]) == (available, required)

    def test_nothing_is_required_before_the_policy_is_enforced(self) -> None:
        assert version_status(POLICY, "1", None, NOW)["update_required"]
        just_before = NOW - timedelta(microseconds=1)
        assert not version_status(POLICY, "1", None, just_before)["update_required"]

    def test_content_is_measured_like_the_client(self) -> None:
        policy = ReleasePolicy(
            latest_content_version="8", min_supported_content_version="7", enforce_after=NOW
        )
        assert version_status(policy, None, "7", NOW)["update_available"]
        assert not version_status(policy, None, "7", NOW)["update_required"]
        assert version_status(policy, "99", "6", NOW)["update_required"]
        assert version_status(policy, "99", None, NOW)["update_required"]

    def test_without_a_policy_nothing_is_offered_or_demanded(self) -> None:
        status = version_status(ReleasePolicy(), None, None, NOW)
        assert (status["update_available"], status["update_required"]) == (False, False)

    def test_the_object_is_the_documented_one(self) -> None:
        assert version_status(POLICY, "1.9", "beta", NOW) == {
            "client_version": "1.9",
            "latest_version": "2.0",
            "min_supported_version": "1.10",
            "client_content_version": None,
            "latest_content_version": None,
            "min_supported_content_version": None,
            "enforce_after": "2026-11-24T08:00:00.000000Z",
            "update_available": True,
            "update_required": True,
            "update_url": "https://example.org/update",
        }
