"""Takes the steps of a plan one after the other and stops at the first that fails."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from scripts.cloud.step import Command, Step


class StepFailed(Exception):
    """What was being done, why it did not work, and what to do; never a secret."""


def run_all(steps: Iterable[Step]) -> None:
    for number, step in enumerate(steps, 1):
        print(f"{number:>3}. {step.purpose} ... ", end="", flush=True)
        print(_run(step), flush=True)


def _run(step: Step) -> str:
    """What was done, in one word."""
    if step.exists is not None and _call(step.exists).returncode == 0:
        if step.instead is None:
            return "is there"
        _must(step, step.instead)
        return "brought up to date" if step.command else "taken away"
    if step.command is None:
        return "not there"
    given = _must(step, step.stdin_from) if step.stdin_from else None
    if step.password_from is None:
        _must(step, step.command, given)
    else:
        _with_password(step, step.command, _must(step, step.password_from))
    return "done"


def _with_password(step: Step, command: Command, password: str) -> None:
    # mkstemp makes it readable for this user alone.
    descriptor, path = tempfile.mkstemp(prefix="gatehouse-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"--password: {json.dumps(password)}\n")
        _must(step, (*command, f"--flags-file={path}"))
    finally:
        Path(path).unlink()


def _must(step: Step, command: Command, given: str | None = None) -> str:
    done = _call(command, given)
    if done.returncode != 0:
        said = done.stderr.strip() or f"it said nothing, and ended with {done.returncode}"
        asked = " ".join(command[:5])
        raise StepFailed(f"{step.purpose}: {asked} ... failed:\n{said}\nWhat to do: {step.remedy}")
    return done.stdout


def _call(command: Command, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        input=given if given is not None else "",
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def lint(steps: Iterable[Step]) -> list[str]:
    """What gcloud itself finds wrong with the commands, without calling anything.

    Its own linter always exits with 0; success stands in its JSON.
    """
    commands = [
        shlex.join(command) for step in steps for command in step.commands if command[0] == "gcloud"
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "commands.json"
        file.write_text(json.dumps([{"command_string": command} for command in commands]))
        done = _call(("gcloud", "meta", "lint-gcloud-commands", f"--commands-file={file}"))
    if done.returncode != 0:
        return [f"gcloud meta lint-gcloud-commands failed: {done.stderr.strip()}"]
    verdicts = json.loads(done.stdout)
    problems = [
        f"{verdict['command_string']}: {verdict['error_message']}"
        for verdict in verdicts
        if not verdict["success"]
    ]
    if len(verdicts) != len(set(commands)):
        problems.append(f"gcloud looked at {len(verdicts)} of {len(set(commands))} commands")
    return problems


def failed(error: StepFailed) -> int:
    print("failed", flush=True)
    print(error, file=sys.stderr)
    return 1
