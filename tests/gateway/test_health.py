"""Readiness: whoever asks, and however many do, the database is looked at once a second at most."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import psycopg
import pytest

from rules.errors import Refusal
from wsgateway.readiness import Readiness


class Looks:
    """Counts the looks at a database that answers as `may_answer` says, or is gone."""

    def __init__(self) -> None:
        self.count = 0
        self.is_gone = False
        self.may_answer = asyncio.Event()
        self.now = 0.0
        self.readiness = Readiness(self._look, lambda: self.now)

    async def _look(self) -> None:
        self.count += 1
        await self.may_answer.wait()
        if self.is_gone:
            raise psycopg.OperationalError


def test_all_who_ask_meanwhile_share_one_look() -> None:
    async def scenario() -> None:
        looks = Looks()
        asking = [asyncio.ensure_future(looks.readiness.require()) for _ in range(100)]
        await asyncio.sleep(0)
        looks.may_answer.set()
        await asyncio.gather(*asking)
        assert looks.count == 1

    asyncio.run(scenario())


def test_a_look_is_good_for_a_second_whatever_it_saw() -> None:
    async def scenario() -> None:
        looks = Looks()
        looks.may_answer.set()
        await looks.readiness.require()
        looks.is_gone, looks.now = True, 0.9
        await looks.readiness.require()
        looks.now = 1.0
        with pytest.raises(Refusal) as refused:
            await looks.readiness.require()
        assert (refused.value.code, refused.value.retry_after_seconds) == ("unavailable", 2)
        looks.is_gone, looks.now = False, 1.9
        with pytest.raises(Refusal):
            await looks.readiness.require()
        looks.now = 2.0
        await looks.readiness.require()
        assert looks.count == 3

    asyncio.run(scenario())


def test_one_who_asks_and_hangs_up_keeps_nobody_from_an_answer() -> None:
    async def scenario() -> None:
        looks = Looks()
        first, second = (asyncio.ensure_future(looks.readiness.require()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        looks.may_answer.set()
        await second
        assert looks.count == 2

    asyncio.run(scenario())
