"""An environment of its own for whoever has a lock of its own: a peer, the plots."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def locked_python(folder: Path) -> Path:
    """The Python of `folder/.venv`, where just what `folder/requirements.txt` pins is installed.

    The stamp is written last, so half an environment is finished at the next call.
    """
    lock = folder / "requirements.txt"
    python = folder / ".venv" / "bin" / "python"
    stamp = folder / ".venv" / "complete-for"
    wanted = lock.read_text("utf-8")
    if not stamp.exists() or stamp.read_text("utf-8") != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder / ".venv")], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes"]
        # PIP_USER: a habit of some machines that no environment allows.
        subprocess.run([*install, "-r", str(lock)], env={**os.environ, "PIP_USER": "0"}, check=True)
        stamp.write_text(wanted, "utf-8")
    return python
