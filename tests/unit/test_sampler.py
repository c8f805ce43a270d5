"""What is written down of refusals that come in floods."""

from __future__ import annotations

from rules.sampler import BURST, ROOM, SECONDS, Sampler


class TestSampler:
    def test_a_subject_is_taken_so_often_in_its_time(self) -> None:
        sampler = Sampler(seconds=60, burst=2, room=10)
        times = (100.0, 110.0, 110.1, 159.9, 160.0, 160.1, 170.0, 170.1)
        assert [sampler.take("a", now) for now in times] == [
            True,
            True,
            False,
            False,
            True,
            False,
            True,
            False,
        ]

    def test_subjects_do_not_share_their_turns(self) -> None:
        sampler = Sampler(seconds=60, burst=1, room=10)
        assert [sampler.take(subject, 5.0) for subject in "abab"] == [True, True, False, False]

    def test_however_many_subjects_there_are_no_more_than_the_room_is_taken(self) -> None:
        sampler = Sampler(seconds=60, burst=3, room=10)
        assert sum(sampler.take(n, 0.0) for n in range(1000)) == 10
        assert sum(sampler.take(n, 59.0) for n in range(1000)) == 0
        assert sum(sampler.take(n, 60.0) for n in range(1000)) == 10

    def test_those_who_repeat_themselves_leave_half_of_the_room_to_the_others(self) -> None:
        sampler = Sampler(seconds=60, burst=20, room=10)
        assert sum(sampler.take("loud", 0.0) for _ in range(100)) == 5
        assert sum(sampler.take(n, 0.0) for n in range(100)) == 5

    def test_it_remembers_no_more_than_it_takes(self) -> None:
        sampler = Sampler()
        for number in range(100_000):
            sampler.take(number % 977, number / 1000)
        assert len(sampler._taken) == sum(sampler._counts.values()) <= ROOM
        sampler.take("later", 100 + SECONDS)
        assert (len(sampler._taken), dict(sampler._counts)) == (1, {"later": 1})

    def test_a_person_who_tries_twenty_times_in_a_minute_is_written_down_each_time(self) -> None:
        sampler = Sampler()
        assert [sampler.take("a", now / 10) for now in range(BURST + 1)] == [True] * 20 + [False]
