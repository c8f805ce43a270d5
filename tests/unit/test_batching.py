"""Batches: everything in order, one batch at a time, no delay where there is no load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from wsgateway.batching import Batcher, outcome_within


class Work:
    """Notes the batches it is given; with `hold` each waits until release()."""

    def __init__(self, *, hold: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.started = asyncio.Semaphore(0)
        self._may_go_on = asyncio.Semaphore(0)
        self._hold = hold
        self._running = 0

    async def __call__(self, batch: list[int]) -> None:
        self._running += 1
        assert self._running == 1, "two batches at a time"
        self.batches.append(batch)
        self.started.release()
        if self._hold:
            await self._may_go_on.acquire()
        self._running -= 1

    def release(self, batches: int = 1) -> None:
        for _ in range(batches):
            self._may_go_on.release()


def run(
    scenario: Callable[[Batcher[int], Work], Awaitable[None]],
    *,
    hold: bool = False,
    max_batch: int = 100,
    max_waiting: int = 1000,
) -> list[list[int]]:
    """The batches that a scenario led to."""

    async def main() -> list[list[int]]:
        work = Work(hold=hold)
        batcher = Batcher(work, max_batch=max_batch, max_waiting=max_waiting)
        running = asyncio.create_task(batcher.run())
        try:
            async with asyncio.timeout(10):
                await scenario(batcher, work)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return work.batches

    return asyncio.run(main())


class TestBatches:
    def test_without_load_an_item_is_a_batch_at_once(self) -> None:
        async def scenario(batcher: Batcher[int], work: Work) -> None:
            for number in range(3):
                batcher.submit(number)
                await work.started.acquire()

        assert run(scenario) == [[0], [1], [2]]

    def test_what_gathers_during_a_batch_goes_into_the_next_one(self) -> None:
        async def scenario(batcher: Batcher[int], work: Work) -> None:
            batcher.submit(0)
            await work.started.acquire()
            for number in range(1, 6):
                batcher.submit(number)
            work.release(2)
            await batcher.flushed()

        assert run(scenario, hold=True) == [[0], [1, 2, 3, 4, 5]]

    def test_a_batch_has_its_largest_size_and_the_order_stays(self) -> None:
        async def scenario(batcher: Batcher[int], work: Work) -> None:
            for number in range(10):
                batcher.submit(number)
            await batcher.flushed()

        assert run(scenario, max_batch=4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


class TestAFullQueue:
    def test_it_says_no_and_keeps_nothing_of_what_it_refused(self) -> None:
        async def scenario(batcher: Batcher[int], work: Work) -> None:
            batcher.submit(0)
            await work.started.acquire()  # no longer waiting
            answers = [batcher.submit(number) for number in range(1, 5)]
            assert answers == [True, True, True, False]
            work.release(2)
            await batcher.flushed()
            assert batcher.submit(5)  # there is room again
            work.release()
            await batcher.flushed()

        assert run(scenario, hold=True, max_waiting=3) == [[0], [1, 2, 3], [5]]


class TestFlushing:
    def test_it_waits_for_the_batch_at_work_and_all_that_wait(self) -> None:
        async def scenario(batcher: Batcher[int], work: Work) -> None:
            batcher.submit(0)
            await work.started.acquire()
            batcher.submit(1)
            flushed = asyncio.create_task(batcher.flushed())
            work.release()
            await work.started.acquire()  # the second batch is at work, the queue empty
            assert not flushed.done()
            work.release()
            await flushed

        assert run(scenario, hold=True) == [[0], [1]]

    def test_with_nothing_to_do_it_returns(self) -> None:
        async def scenario(batcher: Batcher[int], work: Work) -> None:
            await batcher.flushed()

        assert run(scenario) == []


class TestAnOutcome:
    def test_one_that_comes_in_the_turn_in_which_the_time_is_up_counts(self) -> None:
        async def scenario() -> str:
            loop = asyncio.get_running_loop()
            outcome: asyncio.Future[str] = loop.create_future()
            # Both are due when the loop looks again, and it is set first.
            loop.call_later(0.01, outcome.set_result, "admitted")
            loop.call_soon(time.sleep, 0.1)
            return await outcome_within(outcome, 0.05)

        assert asyncio.run(scenario()) == "admitted"

    def test_one_that_does_not_come_is_cancelled(self) -> None:
        async def scenario() -> bool:
            outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            with pytest.raises(TimeoutError):
                await outcome_within(outcome, 0.01)
            return outcome.cancelled()

        assert asyncio.run(scenario())
