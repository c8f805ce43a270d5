"""docs/runbook.md: every block that needs no cloud is typed as it stands, and must succeed."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.dev_env import write_dev_env
from scripts.stack_plan import base_environment, dev_environment, keep_secrets, make_plan
from tests.support.cluster import clean_environment
from tests.support.databases import Database
from tests.support.processes import ROOT, Processes
from tests.support.services import OPERATOR, OPS_TOKEN
from tests.support.stack import Gateway, Person, Stack

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", RUNBOOK, re.MULTILINE | re.DOTALL)
NEEDS_CLOUD = "# needs the cloud"


def to_type() -> list[str]:
    """The blocks in order, without what needs the cloud."""
    local = [
        block.replace(".venv/bin/python", "python")
        for block in BLOCKS
        if not block.startswith(NEEDS_CLOUD)
    ]
    return [re.sub(r"^scripts/([\w-]+)", _module, block, flags=re.MULTILINE) for block in local]


def _module(script: re.Match[str]) -> str:
    """What a script runs; by itself it would first make .venv where there is none."""
    return f"python -m scripts.{script[1].replace('-', '_')}"


class Desk:
    """The shell of the person on call, and somebody to act on."""

    def __init__(self, stack: Stack, gateway: Gateway, folder: Path) -> None:
        self.stack, self.gateway = stack, gateway
        self.victim, self.seq = asyncio.run(self._somebody())
        token_file = folder / "token"
        token_file.write_text(f"{OPERATOR}:{OPS_TOKEN}\n", "utf-8")
        database: Any = stack.database
        self.variables = {
            "API_URL": stack.api_url,
            "SOCKET_URL": gateway.url,
            "OPS_API_TOKEN": OPS_TOKEN,
            "API_ENV": str(_dev_env(folder, database)),
            "TOKEN_FILE": str(token_file),
            "WHO": "ann",
            "ADDRESS": "203.0.113.0/24",  # nobody's here
            "BEFORE": "2020-01-01T00:00:00Z",
            "USER_ID": str(self.victim.user_id),
            "EMAIL": "nobody@example.org",
            "CHANNEL_ID": "1",
            "SEQ": str(self.seq),
            "REQUEST_ID": "of-the-operator",
            **database.psql_environment(),
        }
        self.psql_folder = str(Path(database.cluster.psql).parent)

    async def _somebody(self) -> tuple[Person, int]:
        person = await self.stack.person()
        return person, int((await person.client.post(1, "buy"))["seq"])

    def type(self, script: str) -> subprocess.CompletedProcess[str]:
        environment = {**clean_environment(), **self.variables}
        python_folder = str(Path(sys.executable).parent)
        environment["PATH"] = os.pathsep.join(
            [self.psql_folder, python_folder, environment["PATH"]]
        )
        return subprocess.run(
            ["sh", "-eu", "-c", script],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


def _dev_env(folder: Path, database: Database) -> Path:
    """The file that scripts/run writes: both services' configurations are good with it alone."""
    plan = make_plan({})
    base = base_environment(plan, keep_secrets(folder, {})) | database.environment("owner")
    file = folder / "dev.env"
    write_dev_env(file, dev_environment(plan, base))
    return file


@pytest.fixture
def desk(database: Database, processes: Processes, tmp_path: Path) -> Desk:
    stack = Stack(database, processes)
    stack.start_api(OPS_API_TOKEN=f"{OPERATOR}:{OPS_TOKEN}")
    return Desk(stack, stack.start_gateway(), tmp_path)


def test_every_block_succeeds_as_it_stands(desk: Desk) -> None:
    first, *others = to_type()
    assert "ops()" in first
    for block in others:
        done = desk.type(f"{first}\n{block}")
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    with desk.stack.database.connect() as owner:
        rows = owner.execute("SELECT action, actor, reason FROM admin_action_audit").fetchall()
        query = "SELECT content FROM chat_messages WHERE channel_id = 1 AND seq = %s"
        kept = owner.execute(query, (desk.seq,)).fetchone()
    acts = {(action, actor) for action, actor, _ in rows if not action.endswith(".read")}
    assert acts >= {
        ("sessions.revoke", OPERATOR),
        ("sessions.revoke", "ann"),  # in psql
        *((f"user.{act}", OPERATOR) for act in ("reset", "unlock", "disable", "enable", "mute")),
        ("message.erase", OPERATOR),
    }
    assert {reason for action, _, reason in rows if action == "user.mute"} == {
        "incident 42",
        "drill",
    }
    assert kept is not None
    assert not kept[0]


def test_what_needs_the_cloud_is_at_least_a_shell_script() -> None:
    marked = [block for block in BLOCKS if block.startswith(NEEDS_CLOUD)]
    assert len(marked) >= 4
    for block in marked:
        done = subprocess.run(["sh", "-n", "-c", block], capture_output=True, check=False)
        assert done.returncode == 0, block


def test_the_scripts_and_links_of_the_runbook_exist() -> None:
    for path in re.findall(r"(?:db/sql/ops|scripts)/[\w.-]+", RUNBOOK):
        assert (ROOT / path).exists(), path
    anchors = {
        heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", RUNBOOK, re.M)
    }
    for anchor in re.findall(r"\]\(#([\w-]+)\)", RUNBOOK):
        assert anchor in anchors


def test_the_incidents_that_it_names_are_those_of_the_drill() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.drill", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in RUNBOOK.splitlines() if line.startswith("Without `--only`"))
    named = re.findall(r"`(\w+)`", line)
    assert ", ".join(named) in " ".join(done.stdout.split())
