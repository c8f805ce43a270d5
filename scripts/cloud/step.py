"""One step of a plan, and how it is written down for a person.

What --dry-run prints is a bash script that does the same. No command line ever holds a secret: a
new one is piped in, and a password reaches gcloud through a file that only its user can read.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """`command` is run, unless `exists` succeeds: then `instead` is, or nothing.

    A step without `command` only takes away what `exists` finds. The output of `stdin_from` is the
    command's standard input; the output of `password_from` its --password.
    """

    purpose: str
    command: Command | None
    exists: Command | None = None
    instead: Command | None = None
    stdin_from: Command | None = None
    password_from: Command | None = None
    remedy: str = "read the line above; run the same script again, it goes on where it stopped"

    @property
    def commands(self) -> tuple[Command, ...]:
        """Every command that may be run."""
        every = (self.exists, self.command, self.instead, self.stdin_from, self.password_from)
        return tuple(command for command in every if command is not None)

    def as_shell(self) -> str:
        run = shlex.join(self.command) if self.command else ""
        if self.stdin_from:
            run = f"{shlex.join(self.stdin_from)} | {run}"
        if self.password_from:
            read = shlex.join(self.password_from)
            run += f' --flags-file=<(printf -- \'--password: "%s"\\n\' "$({read})")'
        lines = [f"# {self.purpose}"]
        if self.exists is None:
            lines.append(run)
        else:
            lines.append(f"if {shlex.join(self.exists)} >/dev/null 2>&1; then")
            lines.append(f"    {shlex.join(self.instead) if self.instead else ': # it is there'}")
            if run:
                lines += ["else", f"    {run}"]
            lines.append("fi")
        return "\n".join(lines)


def as_script(steps: list[Step]) -> str:
    return "\n\n".join(["set -euo pipefail", *(step.as_shell() for step in steps)]) + "\n"
