"""A few seconds of chaos; scripts/chaos is for more."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.director import Director, Plan


def test_a_few_seconds_of_chaos_break_no_promise(tmp_path: Path) -> None:
    plan = Plan(seed=20, seconds=10, talkers=5, listeners=2, revocations=3)
    verdict = Director(plan, tmp_path, say=lambda line: None).run()
    assert verdict.damages == []
    assert verdict.counts["acknowledged"] > 0
    assert all(verdict.counts[f"killed {kind}"] for kind in ("gateway", "api", "postgres"))
