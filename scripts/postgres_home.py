"""Where an embedded Postgres lives on disk, and which user runs it.

For an ordinary user that is `postgres/` in the data folder. Root needs more: Postgres refuses to
run as root, and an unprivileged user cannot enter a data folder below /root or in a private
temporary folder. So root's clusters live in /var/lib/gatehouse-dev/clusters/<random id>, and the
data folder holds a pointer to it. The cluster remembers its pointer in turn, and one whose pointer
is gone is removed at the next start: whoever deletes the data folder gets a fresh database and
leaves no rubbish.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from scripts.leash import OsUser
from scripts.postgres_programs import PostgresError

SHARED_FOLDER = Path("/var/lib/gatehouse-dev")
_POINTER = "postgres-location"


class Home:
    """A cluster's folder, locked for this process as long as it is open."""

    def __init__(self, folder: Path, user: OsUser | None, pointer: Path | None) -> None:
        self.folder = folder
        self.user = user
        self._pointer = pointer
        lock = _try_lock(folder / "lock")
        if lock is None:
            raise PostgresError(f"the Postgres in {folder} is in use by another process")
        self._lock = lock

    @property
    def data(self) -> Path:
        """Postgres's own folder (PGDATA); exists only once it is complete."""
        return self.folder / "data"

    def close(self) -> None:
        self._lock.close()

    def remove(self) -> None:
        """Deletes the cluster with all its data."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._pointer is not None:
            self._pointer.unlink(missing_ok=True)
        self.close()


def open_home(data_folder: Path) -> Home:
    """Makes or finds the home that belongs to `data_folder` and locks it."""
    data_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() != 0:
        folder = data_folder / "postgres"
        folder.mkdir(mode=0o700, exist_ok=True)
        return Home(folder, None, None)
    pointer = data_folder.resolve() / _POINTER
    with shared_lock():
        folder = _own_cluster(pointer) or _new_cluster(pointer)
        home = Home(folder, _unprivileged_user(), pointer)
        _remove_abandoned()
    return home


@contextlib.contextmanager
def shared_lock() -> Iterator[Path]:
    """Holds the lock of the folder that root's clusters share (others need none)."""
    if os.geteuid() != 0:
        yield SHARED_FOLDER
        return
    for folder in (SHARED_FOLDER, SHARED_FOLDER / "clusters"):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        folder.chmod(0o755)  # whatever the umask
    with (SHARED_FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield SHARED_FOLDER


def postmaster_pid(data: Path) -> int | None:
    """The live process that `data` names as its server, if any.

    After a crash and a restart of the machine the number may belong to a stranger.
    """
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (OSError, ValueError) as error:
        return pid if isinstance(error, PermissionError) else None
    return pid


def _own_cluster(pointer: Path) -> Path | None:
    folder = _points_to(pointer)
    if folder is None or not folder.is_dir():
        return None
    owner = _owner(folder)
    if owner == pointer:
        return folder
    if owner is not None and _points_to(owner) == folder:
        return None  # a copy of a data folder must not share the original's database
    _remember_owner(folder, pointer)  # the data folder was moved
    return folder


def _new_cluster(pointer: Path) -> Path:
    folder = SHARED_FOLDER / "clusters" / secrets.token_hex(8)
    folder.mkdir()
    folder.chmod(0o711)  # the server's user passes through to data/ and sees nothing else
    _remember_owner(folder, pointer)
    pointer.write_text(f"{folder}\n")
    return folder


def _remove_abandoned() -> None:
    for folder in (SHARED_FOLDER / "clusters").iterdir():
        owner = _owner(folder)
        if owner is not None and _points_to(owner) == folder:
            continue
        lock = _try_lock(folder / "lock")
        if lock is None:
            continue
        with lock:
            if postmaster_pid(folder / "data") is None:
                shutil.rmtree(folder, ignore_errors=True)


def _points_to(pointer: Path) -> Path | None:
    try:
        folder = Path(pointer.read_text().strip())
    except OSError:
        return None
    # A pointer is a file that anybody may have written: it counts only for our own folder.
    return folder if folder.parent == SHARED_FOLDER / "clusters" else None


def _owner(folder: Path) -> Path | None:
    try:
        return Path((folder / "pointer").read_text().strip())
    except OSError:
        return None


def _remember_owner(folder: Path, pointer: Path) -> None:
    (folder / "pointer").write_text(f"{pointer}\n")


def _try_lock(path: Path) -> IO[str] | None:
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _unprivileged_user() -> OsUser:
    for name in ("postgres", "_postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return OsUser(name, entry.pw_uid, entry.pw_gid)
    raise PostgresError("Postgres does not run as root, and there is no user postgres or nobody")
