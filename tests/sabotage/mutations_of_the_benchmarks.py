"""Ways to make the report of the figures say more than was measured."""

from __future__ import annotations

from tests.sabotage.mutation import Mutation

_TESTS = "tests/unit/test_benchmark_report.py"

MUTATIONS_OF_THE_BENCHMARKS = (
    Mutation(
        "report-calls-everything-reached",
        "benchmarks/report.py",
        '"yes" if goal.is_reached(spread) else "**no**"',
        '"yes"',
        (_TESTS,),
        "a goal that is missed is said to be",
    ),
    Mutation(
        "report-turns-the-ratio-round",
        "benchmarks/recording.py",
        "self.median / other.median",
        "other.median / self.median",
        (_TESTS,),
        "ours is divided by theirs",
    ),
    Mutation(
        "report-mixes-measurements",
        "benchmarks/recording.py",
        '                if record["run"] == 1:\n',
        '                if record["figure"] not in takes:\n',
        (_TESTS,),
        "the last measurement of a figure counts, alone",
    ),
)
