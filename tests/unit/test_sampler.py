"""What is written down of refusals that come in floods."""

from __future__ import annotations

from rules.sampler import Sampler


class TestSampler:
    def test_a_subject_is_taken_once_in_its_time(self) -> None:
        sampler = Sampler(seconds=60, room=10)
        assert [sampler.take("a", now) for now in (100.0, 100.1, 159.9, 160.0, 161.0)] == [
            True,
            False,
            False,
            True,
            False,
        ]

    def test_subjects_do_not_share_their_turn(self) -> None:
        sampler = Sampler(seconds=60, room=10)
        assert [sampler.take(subject, 5.0) for subject in "abab"] == [True, True, False, False]

    def test_however_many_subjects_there_are_no_more_than_the_room_is_taken(self) -> None:
        sampler = Sampler(seconds=60, room=10)
        assert sum(sampler.take(n, 0.0) for n in range(1000)) == 10
        assert sum(sampler.take(n, 59.0) for n in range(1000)) == 0
        assert sum(sampler.take(n, 60.0) for n in range(1000)) == 10
