"""Two workers of a test run never give their services the same port."""

from __future__ import annotations

import random
import subprocess
import sys

from tests.support.ports import free_port
from tests.support.processes import ROOT

_SEED, _COUNT = 7, 20
_ANOTHER_WORKER = f"""
import random, sys
from tests.support.ports import free_port
random.seed({_SEED})
print(*(free_port() for _ in range({_COUNT})), flush=True)
sys.stdin.read()
"""


def test_what_one_process_was_handed_another_does_not_get() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _ANOTHER_WORKER],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        its = [int(port) for port in other.stdout.readline().split()]
        chance = random.getstate()
        random.seed(_SEED)  # it would draw the same ports, of which none is listened on
        try:
            ours = [free_port() for _ in range(_COUNT)]
        finally:
            random.setstate(chance)
        assert len(its) == _COUNT
        assert not set(its) & set(ours)
        other.communicate()
    assert other.returncode == 0
