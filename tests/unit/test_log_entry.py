"""Entries of a channel's log as clients see them, and the times in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from rules.log_entry import Entry
from rules.times import rfc3339

AT = datetime(2026, 11, 24, 8, 22, 30, 5, tzinfo=UTC)
SHOWN_AT = "2026-11-24T08:22:30.000005Z"


def entry(kind: str, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "sender_id": 7,
        "sender_name": "Ann",
        "content": None,
        "client_msg_id": None,
        "target_seq": None,
        **changes,
    }
    return Entry(channel_id=1, seq=5, kind=kind, created_at=AT, **values).as_object()


class TestEntries:
    def test_a_message(self) -> None:
        assert entry("message", content="hi", client_msg_id=UUID(int=1)) == {
            "type": "message",
            "channel_id": 1,
            "seq": 5,
            "created_at": SHOWN_AT,
            "sender_id": 7,
            "sender_name": "Ann",
            "content": "hi",
            "client_msg_id": "00000000-0000-0000-0000-000000000001",
        }

    def test_an_erased_message_keeps_its_place_without_its_content(self) -> None:
        erased = entry("message", content=None, client_msg_id=UUID(int=1))
        assert erased["content"] is None
        assert erased["seq"] == 5

    def test_a_deletion_names_its_target_and_who_did_it(self) -> None:
        assert entry("deleted", target_seq=3) == {
            "type": "deleted",
            "channel_id": 1,
            "seq": 5,
            "created_at": SHOWN_AT,
            "target_seq": 3,
            "by_user_id": 7,
        }

    @pytest.mark.parametrize("kind", ["joined", "left"])
    def test_a_coming_and_a_going_name_the_person(self, kind: str) -> None:
        assert entry(kind) == {
            "type": kind,
            "channel_id": 1,
            "seq": 5,
            "created_at": SHOWN_AT,
            "user_id": 7,
        }


class TestTimes:
    def test_they_are_utc_whatever_zone_they_come_in(self) -> None:
        assert rfc3339(AT.astimezone(timezone(timedelta(hours=5, minutes=45)))) == SHOWN_AT

    def test_they_are_of_one_length_so_that_they_sort_as_text(self) -> None:
        moments = [AT.replace(microsecond=n) for n in (0, 5, 50_000, 999_999)]
        shown = [rfc3339(moment) for moment in moments]
        assert shown == sorted(shown)
        assert {len(text) for text in shown} == {27}
