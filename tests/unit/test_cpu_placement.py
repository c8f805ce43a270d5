"""How many CPUs a container may use, from what the kernel says."""

from __future__ import annotations

import math

import pytest

from api.cpu_placement import at_once, quota_of


@pytest.mark.parametrize(
    ("cpu_max", "cpus"),
    [
        ("max 100000\n", math.inf),
        ("100000 100000\n", 1),
        ("150000 100000\n", 2),
        ("50000 100000\n", 1),
        ("3200000 100000\n", 32),
    ],
)
def test_a_quota_is_rounded_up_to_whole_cpus(cpu_max: str, cpus: float) -> None:
    assert quota_of(cpu_max) == cpus


def test_without_a_quota_all_cpus_count_and_never_none() -> None:
    assert at_once(frozenset()) >= 1
    assert 1 <= at_once(frozenset({0, 1, 2})) <= 3
