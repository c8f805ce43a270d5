"""ejabberd as Debian packages it, on one port of the loopback device, in a folder of its own.

Reads PORT, FOLDER and libpq's variables, gives the empty database ejabberd's own schema, and
becomes the server. Not through ejabberdctl: that would change the user, and start epmd, a daemon
that stays. A node without a name is in no cluster and needs neither.
"""

from __future__ import annotations

import os
from pathlib import Path
from string import Template

import psycopg

_SCHEMA = Path("/usr/share/ejabberd/sql/pg.sql")


def main() -> None:
    folder = Path(os.environ["FOLDER"])
    with psycopg.connect() as connection:
        connection.execute(_SCHEMA.read_bytes())
    config = folder / "ejabberd.yml"
    config.write_text(Template(Path("ejabberd.yml").read_text()).substitute(os.environ))
    places = {
        "EJABBERD_CONFIG_PATH": str(config),
        "EJABBERD_LOG_PATH": str(folder / "ejabberd.log"),
        "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),
        # Debian keeps ejabberd's own library beside those of Erlang, below the machine's triplet.
        "ERL_LIBS": str(next(Path("/usr/lib").glob("*/ejabberd-*/ebin")).parents[1]),
    }
    spool = folder / "spool"
    # The limit of processes is ejabberdctl's.
    command = ["erl", "+P", "250000", "-noinput", "-mnesia", "dir", f'"{spool}"', "-s", "ejabberd"]
    os.execvpe("erl", command, {**os.environ, **places})


if __name__ == "__main__":
    main()
