from __future__ import annotations

from rules.typing_pace import TypingPace


def test_once_in_three_seconds_for_a_user() -> None:
    pace = TypingPace()
    said = [pace.take(7, now / 10) for now in range(70)]
    assert [position for position, taken in enumerate(said) if taken] == [0, 30, 60]


def test_other_users_have_their_own() -> None:
    pace = TypingPace()
    assert [pace.take(7, 0.0), pace.take(8, 0.0)] == [True, True]
    assert [pace.take(7, 1.0), pace.take(8, 1.0)] == [False, False]


def test_nothing_is_remembered_for_longer_than_it_counts() -> None:
    pace = TypingPace()
    for user in range(1000):
        pace.take(user, user / 100)
    assert len(pace) == 300
    assert pace.take(0, 100.0)
    assert len(pace) == 1
