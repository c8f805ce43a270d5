"""Who keeps sending through a lockout is sent away, and nobody else."""

from __future__ import annotations

from rules.patience import Patience


class TestPatience:
    def test_what_was_under_way_is_nobodys_fault(self) -> None:
        patience = Patience()
        assert not any(patience.lost(10.0 + n / 100, told_at=10.5) for n in range(100))

    def test_the_third_message_sent_a_second_after_being_told_is_one_too_many(self) -> None:
        patience = Patience()
        sent = [10.0, 11.4, 11.6, 12.0, 13.0]
        lost = [patience.lost(at, told_at=at + 0.5) for at in sent]
        assert lost == [False, False, False, False, True]

    def test_an_accepted_message_restores_it(self) -> None:
        patience = Patience()
        for at in (10.0, 12.0, 13.0):
            patience.lost(at, told_at=at)
        patience.restore()
        assert not patience.lost(20.0, told_at=20.0)
        assert not patience.lost(22.0, told_at=22.0)
