from __future__ import annotations

from rules.typing_pace import CHANNELS_PER_USER, TypingPace


def test_once_in_three_seconds_for_a_user_and_channel() -> None:
    pace = TypingPace()
    said = [pace.take(7, 1, now / 10) for now in range(70)]
    assert [position for position, taken in enumerate(said) if taken] == [0, 30, 60]


def test_other_users_and_channels_have_their_own() -> None:
    pace = TypingPace()
    assert all([pace.take(7, 1, 0.0), pace.take(8, 1, 0.0), pace.take(7, 2, 0.0)])
    assert not any([pace.take(7, 1, 1.0), pace.take(8, 1, 1.0), pace.take(7, 2, 1.0)])


def test_one_user_has_only_so_many_channels_at_a_time() -> None:
    pace = TypingPace()
    taken = [pace.take(7, channel, 0.0) for channel in range(100)]
    assert taken == [True] * CHANNELS_PER_USER + [False] * (100 - CHANNELS_PER_USER)
    assert pace.take(8, 1, 0.0)
    assert pace.take(7, 99, 3.0)


def test_nothing_is_remembered_for_longer_than_it_counts() -> None:
    pace = TypingPace()
    for user in range(1000):
        pace.take(user, 1, user / 100)
    assert len(pace) == 300
    assert pace.take(0, 1, 100.0)
    assert len(pace) == 1
