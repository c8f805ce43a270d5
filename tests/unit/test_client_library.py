"""The parts of the client library that need no network: backoff, close codes, progress."""

from __future__ import annotations

import pytest

from gatehouse_client import backoff
from gatehouse_client.close_codes import Advice, advice_on
from gatehouse_client.progress import ChannelProgress, GapError


class TestBackoff:
    def test_the_bound_doubles_from_half_a_second_up_to_thirty(self) -> None:
        bounds = [backoff.bound(attempt) for attempt in range(9)]
        assert bounds == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
        assert backoff.bound(10_000) == 30

    def test_delays_lie_anywhere_below_the_bound(self) -> None:
        delays = [backoff.delay(3) for _ in range(500)]
        assert all(0 <= delay <= 4 for delay in delays)
        assert min(delays) < 1
        assert max(delays) > 3


class TestCloseCodes:
    @pytest.mark.parametrize(
        "code", [None, 1001, 1006, 1009, 1011, 1012, 1013, 4401, 4408, 4429, 4440, 4499]
    )
    def test_these_mean_come_back(self, code: int | None) -> None:
        assert advice_on(code) is Advice.COME_BACK

    @pytest.mark.parametrize("code", [4500, 4501, 4503, 4509, 4510, 4526, 4999])
    def test_these_mean_that_a_person_must_act(self, code: int) -> None:
        assert advice_on(code) is Advice.ASK_A_PERSON


class TestProgress:
    def test_only_the_next_entry_is_taken(self) -> None:
        progress = ChannelProgress(after_seq=5)
        assert progress.take({"seq": 6})
        assert not progress.take({"seq": 6})
        assert not progress.take({"seq": 3})
        with pytest.raises(GapError):
            progress.take({"seq": 8})
        assert progress.take({"seq": 7})

    @pytest.mark.parametrize(
        ("last_seq", "first_seq", "entries", "missing"),
        [
            (10, 1, [{"seq": 14}], range(11, 14)),
            (10, 1, [{"seq": 11}], range(11, 11)),
            (10, 13, [{"seq": 14}], range(13, 14)),  # retention took 11 and 12
            (None, 3, [{"seq": 5}], range(3, 5)),
            (10, 1, [], range(11, 11)),
        ],
    )
    def test_what_must_be_paged_in(
        self, last_seq: int | None, first_seq: int, entries: list[dict[str, int]], missing: range
    ) -> None:
        assert ChannelProgress(last_seq).missing_before(entries, first_seq) == missing
