"""What the Dockerfile makes, without Docker: its packages and its files are enough, and no more.

A folder is filled with what the last stage copies, and an environment with what requirements.txt
names; both services, the migration and the passwords' job start from there, and write nothing.
"""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.cloud.environments import api_environment, gateway_environment
from scripts.procfile import read_procfile
from tests.support.cluster import clean_environment
from tests.support.databases import Database, Who
from tests.support.ports import free_port
from tests.support.processes import Processes
from tests.unit.test_cloud_config import deployment

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments), continued lines joined."""
    text = re.sub(r"\\\n\s*", "", DOCKERFILE)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def last_stage() -> list[tuple[str, str]]:
    every = instructions()
    start = max(number for number, (name, _) in enumerate(every) if name == "FROM")
    return every[start:]


def copied() -> list[str]:
    """The folders of the repository that end up in the image."""
    found = []
    for name, arguments in last_stage():
        if name == "COPY" and not arguments.startswith("--from="):
            source, target = arguments.split()
            assert source == target
            found.append(source.rstrip("/"))
    return found


def test_the_image_holds_the_services_and_nothing_else() -> None:
    assert copied() == ["rules", "db", "api", "wsgateway"]
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    let_through = [line[1:] for line in ignored if line.startswith("!")]
    assert ignored[1] == "*"
    assert let_through == ["requirements.txt", *copied()]


def test_it_runs_as_nobody_in_particular_and_without_a_shell() -> None:
    stage = dict(last_stage())
    assert re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", stage["USER"])
    assert stage["CMD"].startswith("[")
    assert "RUN" not in stage
    commands = [shlex.split(command) for command in read_procfile(ROOT / "Procfile").values()]
    assert commands == [["python", "-m", "api"], ["python", "-m", "wsgateway"]]


def test_packages_come_by_hash_and_the_base_by_version() -> None:
    [install] = [text for name, text in instructions() if name == "RUN"]
    assert "--require-hashes --only-binary=:all: -r requirements.txt" in install
    for name, arguments in instructions():
        if name == "FROM":
            assert re.match(r"python:3\.\d+-slim-\w+", arguments)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """As / of the image, with opt/venv and gatehouse in it; nothing may be written there."""
    root = tmp_path_factory.mktemp("image")
    venv = root / "opt" / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    [packages] = venv.glob("lib/python3.*/site-packages")
    lock = (ROOT / "requirements.txt").read_text("utf-8")
    for name in re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*\])?==", lock, re.MULTILINE):
        _link(name, packages)
    for folder in copied():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, root / "gatehouse" / folder, ignore=ignored)
    before = sorted(root.rglob("*"))
    yield root
    assert sorted(root.rglob("*")) == before


def _link(name: str, packages: Path) -> None:
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return  # for another system, by its marker
    for file in distribution.files or []:
        if ".." not in file.parts and file.suffix != ".pyc":
            target = packages / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(str(distribution.locate_file(file)))


def command(image: Path, module: str, *arguments: str) -> list[str]:
    return [str(image / "opt/venv/bin/python"), "-s", "-B", "-m", module, *arguments]


def nowhere_to_write() -> dict[str, str]:
    return {"HOME": "/nonexistent", "TMPDIR": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.parametrize("service", ["api", "gateway"])
def test_each_service_accepts_what_the_deployment_tells_it(image: Path, service: str) -> None:
    environments = {
        "api": ("api", api_environment(deployment())),
        "gateway": ("wsgateway", gateway_environment(deployment())),
    }
    module, environment = environments[service]
    done = subprocess.run(
        command(image, module, "--check-config"),
        cwd=image / "gatehouse",
        env={**clean_environment(), **nowhere_to_write(), **environment, "K_SERVICE": service},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_services_and_migration_run_from_it_and_write_nothing(
    image: Path, database: Database, processes: Processes
) -> None:
    folder = image / "gatehouse"
    migration = processes.start(
        command(image, "db.migrate"), {**nowhere_to_write(), **database.environment()}, folder
    )
    migration.wait_for_line("migrate: nothing to do")
    assert migration.wait() == 0
    started = []
    services: dict[str, Who] = {"api": "api", "wsgateway": "gateway"}
    for module, who in services.items():
        port = free_port()
        environment = {
            **nowhere_to_write(),
            **database.environment(who),
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "JWT_SECRET": "of-a-test-and-long-enough-for-hs256",
            "OPS_API_TOKEN": "of-a-test-and-long-enough-for-an-operator",
        }
        service = processes.start(command(image, module), environment, folder)
        service.wait_until_ready(port)
        started.append(service)
    for service in started:
        assert service.stop() == 0
    passwords = processes.start(
        command(image, "db.set_passwords"), {**nowhere_to_write(), "APP_ENV": "test"}, folder
    )
    passwords.wait_for_line("set_passwords: DB_HOST must be set")
    assert passwords.wait() == 78
