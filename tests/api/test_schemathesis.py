"""Requests that schemathesis makes up from /openapi.json, right ones and wrong ones.

A few of them in the suite; GATEHOUSE_EXAMPLES=300 asks for that many an operation.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cluster import clean_environment
from tests.support.databases import Database
from tests.support.described import API_PORT
from tests.support.fitting_bodies import BODIES
from tests.support.http_calls import Http
from tests.support.processes import ROOT, Processes
from tests.support.services import api_environment

EXAMPLES = os.environ.get("GATEHOUSE_EXAMPLES", "")
# The coverage phase goes through every bound of every field, which takes minutes.
HOW_MUCH = (
    ("--max-examples", EXAMPLES)
    if EXAMPLES
    else ("--max-examples", "5", "--phases", "fuzzing,stateful")
)


@pytest.mark.timeout(3600)
def test_schemathesis_finds_nothing(
    database: Database, processes: Processes, tmp_path: Path
) -> None:
    environment = api_environment(database, AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_ACCOUNT="1000000")
    service, port = processes.start_service("api", environment)
    registration = {**BODIES["POST /auth/register"], **BODIES["POST /auth/login"]}
    assert Http(port).post("/auth/register", registration).status == 201
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("schemathesis"), "run"),
            f"http://127.0.0.1:{port}/openapi.json",
            *("--checks", "all"),
            *HOW_MUCH,
            *("--seed", "1"),
            *("--continue-on-failure", "--no-color"),
        ],
        cwd=tmp_path,  # it leaves a folder
        env={
            **clean_environment(),
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks",
            API_PORT: str(port),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sys.stdout.write(done.stdout)  # how many there were, with -s
    assert not [line for line in service.log if line["severity"] == "ERROR"]
