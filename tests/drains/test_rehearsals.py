"""A small crowd through a drain; scripts/rehearse-drain is for five hundred."""

from __future__ import annotations

import asyncio

import pytest

from tests.drains.rehearsal import Plan, Rehearsal
from tests.support.databases import Database
from tests.support.processes import Processes


@pytest.mark.parametrize(
    "blackout", [False, True], ids=["both gateways are killed", "no gateway at the deadline"]
)
def test_a_drain_keeps_its_promises_whoever_is_killed(
    database: Database, processes: Processes, blackout: bool
) -> None:
    plan = Plan(guests=40, grace_seconds=5, blackout=blackout)
    rehearsal = Rehearsal(plan, database, processes, say=lambda line: None)
    damages, figures = asyncio.run(rehearsal.run())
    assert damages == [], figures
    assert figures["outcome acked"] > 0
    assert figures["outcome unreachable"] == 1
