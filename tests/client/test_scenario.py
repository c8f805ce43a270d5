"""The Python client passes the scenario that every client library must pass."""

from __future__ import annotations

import sys

from tests.scenario.actor import ProgramActor
from tests.scenario.steps import run_all
from tests.support.databases import Database
from tests.support.processes import Processes


def test_the_scenario_in_python(database: Database, processes: Processes) -> None:
    with ProgramActor([sys.executable, "-m", "tests.scenario.runner"]) as actor:
        run_all(actor, database, processes)
