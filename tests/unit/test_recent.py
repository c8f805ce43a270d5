"""What happened lately: counts and percentiles."""

from __future__ import annotations

from rules.recent import RecentCount, RecentValues


def test_a_count_forgets_what_is_older_than_its_seconds() -> None:
    count = RecentCount(seconds=60)
    count.add(3, 100.2)
    count.add(4, 100.9)
    count.add(5, 130.0)
    assert count.total(159.9) == 12
    assert count.total(160.1) == 5
    assert count.total(500.0) == 0


def test_percentiles_are_values_that_there_were() -> None:
    values = RecentValues(seconds=60, room=1000)
    for value in range(100, 0, -1):
        values.add(float(value), 10.0)
    assert values.percentiles((50, 95, 99, 100), 10.0) == [50.0, 95.0, 99.0, 100.0]


def test_one_value_is_every_percentile_and_none_is_none() -> None:
    values = RecentValues(seconds=60, room=1000)
    assert values.percentiles((50, 99), 0.0) == [None, None]
    values.add(7.0, 0.0)
    assert values.percentiles((1, 50, 99), 1.0) == [7.0, 7.0, 7.0]
    assert values.percentiles((99,), 61.0) == [None]


def test_only_the_newest_values_have_room() -> None:
    values = RecentValues(seconds=60, room=10)
    for value in range(100):
        values.add(float(value), 0.0)
    assert values.percentiles((1, 100), 0.0) == [90.0, 99.0]
