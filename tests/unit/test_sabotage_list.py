"""The list of mutations keeps step with the code: what it wants to break is still there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.sabotage.mutation import Mutation
from tests.sabotage.mutations import MUTATIONS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_changes_one_place_and_names_tests_that_exist(mutation: Mutation) -> None:
    assert mutation.mutated(ROOT) != (ROOT / mutation.file).read_text("utf-8")
    assert mutation.tests
    for test in mutation.tests:
        path, _, name = test.partition("::")
        assert (ROOT / path).is_file(), test
        if name:
            assert name.rpartition("::")[2] in (ROOT / path).read_text("utf-8"), test


def test_names_are_unique() -> None:
    assert [
        name for name, count in Counter(one.name for one in MUTATIONS).items() if count > 1
    ] == []
