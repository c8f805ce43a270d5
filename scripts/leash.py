"""Ties a child process to the life of its starter.

A launcher that is killed with SIGKILL cannot stop what it started. On Linux the kernel can: it
sends a process the signal it chose when its parent dies. `leashed()` makes a command line that
asks for this signal and then becomes the wanted program. It is a program of its own, not a
`preexec_fn`, because code between fork and exec is unsafe once the starter has threads, and
because the wish is lost when a process changes its user: so first the user, then the signal, then
the program. Elsewhere than on Linux there is no such signal, and only the user is changed.

The "parent" is the thread that started the child: start children from a thread that stays.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


@dataclass(frozen=True, slots=True)
class OsUser:
    """The user that a child becomes; only root can ask for one."""

    name: str
    uid: int
    gid: int


def leashed(
    command: Sequence[str], death_signal: signal.Signals, user: OsUser | None = None
) -> list[str]:
    """The command line that runs `command` until it ends or, on Linux, its starter does."""
    ids = [str(user.uid), str(user.gid)] if user else ["-", "-"]
    # -I and -S: nothing but the standard library, whatever the environment says; starts in 20 ms.
    interpreter = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]
    return [*interpreter, str(os.getpid()), str(int(death_signal)), *ids, *command]


def _become(arguments: Sequence[str]) -> None:
    starter, death_signal, uid, gid, *command = arguments
    if uid != "-":
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        # A starter that died before the line above can no longer be noticed by the kernel.
        if os.getppid() != int(starter):
            os._exit(1)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    _become(sys.argv[1:])
