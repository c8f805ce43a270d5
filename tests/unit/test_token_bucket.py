"""The frame limit of a socket: a rate, and a burst on top of it."""

from __future__ import annotations

from rules.token_bucket import TokenBucket


def taken(bucket: TokenBucket, now: float, tries: int) -> int:
    return sum(bucket.take(now) for _ in range(tries))


class TestTokenBucket:
    def test_it_begins_with_the_whole_burst(self) -> None:
        assert taken(TokenBucket(rate=5, burst=10), 100.0, 50) == 10

    def test_it_fills_at_its_rate_and_not_above_the_burst(self) -> None:
        bucket = TokenBucket(rate=5, burst=10)
        taken(bucket, 100.0, 50)
        assert taken(bucket, 101.0, 50) == 5
        assert taken(bucket, 1000.0, 50) == 10

    def test_fractions_are_kept(self) -> None:
        bucket = TokenBucket(rate=1, burst=1)
        assert bucket.take(0.0)
        assert [bucket.take(0.25 * n) for n in range(1, 9)] == [False, False, False, True] * 2

    def test_who_is_refused_loses_nothing_by_having_asked(self) -> None:
        patient, hasty = TokenBucket(rate=2, burst=2), TokenBucket(rate=2, burst=2)
        for bucket in (patient, hasty):
            taken(bucket, 0.0, 2)
        for n in range(1, 8):
            hasty.take(n / 16)
        assert patient.take(0.5)
        assert hasty.take(0.5)

    def test_over_any_time_it_gives_no_more_than_burst_and_rate(self) -> None:
        bucket = TokenBucket(rate=50, burst=100)
        assert sum(taken(bucket, n / 100, 3) for n in range(1001)) <= 100 + 50 * 10
