"""Imports point down only: rules <- db <- api | wsgateway <- scripts."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"rules", "db", "api", "wsgateway", "gatehouse_client", "scripts", "tests"}

MAY_IMPORT = {
    "rules": {"rules"},
    "db": {"rules", "db"},
    "api": {"rules", "db", "api"},
    "wsgateway": {"rules", "db", "wsgateway"},
    "gatehouse_client": {"gatehouse_client"},
    "scripts": OURS,
}
THIRD_PARTY = {
    "rules": {"itsdangerous"},
    "db": {"psycopg", "psycopg_pool", "google", "grpc"},
    "api": {"falcon", "waitress", "psycopg"},
    "wsgateway": {"websockets", "psycopg"},
    "gatehouse_client": {"websockets"},
}
# Policy takes the time and the outside world as arguments.
IO_MODULES = {"time", "socket", "select", "asyncio", "threading", "subprocess", "sqlite3", "http"}
CLOCKS = {"now", "utcnow", "today", "monotonic"}
# Type names: a function that takes a connection must be able to say so.
PSYCOPG_TYPES = {"Connection", "AsyncConnection"}


def imports(path: Path) -> Iterator[tuple[str, str | None]]:
    """(module, imported name or None) of every import in a file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                yield node.module or "", alias.name


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    for path in files(package):
        for module, _ in imports(path):
            top = module.partition(".")[0]
            if top in OURS:
                assert top in MAY_IMPORT[package], f"{path} imports {module}"


@pytest.mark.parametrize("package", sorted(THIRD_PARTY))
def test_a_package_depends_only_on_what_it_is_built_on(package: str) -> None:
    for path in files(package):
        for module, _ in imports(path):
            top = module.partition(".")[0]
            known = top in OURS or top in sys.stdlib_module_names
            assert known or top in THIRD_PARTY[package], f"{path} imports {module}"


@pytest.mark.parametrize("package", ["api", "wsgateway"])
def test_psycopg_is_only_a_type_name_above_db(package: str) -> None:
    for path in files(package):
        for module, name in imports(path):
            if module.partition(".")[0] in ("psycopg", "psycopg_pool"):
                assert module == "psycopg", f"{path} imports {module}"
                assert name in PSYCOPG_TYPES, f"{path} imports {name} from psycopg"


def test_rules_do_no_io() -> None:
    for path in files("rules"):
        for module, _ in imports(path):
            assert module.partition(".")[0] not in IO_MODULES, f"{path} imports {module}"


def test_rules_are_told_the_time() -> None:
    for path in files("rules"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute):
                assert node.attr not in CLOCKS, f"{path}:{node.lineno} asks a clock"


def test_the_protocol_of_the_gateway_does_no_io() -> None:
    for module, _ in imports(ROOT / "wsgateway" / "protocol.py"):
        top = module.partition(".")[0]
        assert top == "rules" or (top in sys.stdlib_module_names and top not in IO_MODULES)
