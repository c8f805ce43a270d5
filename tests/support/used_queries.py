"""Which named queries a service can reach, read from the source: nobody keeps a list.

Follows names from every module of the service through db/: a query counts when the function, class
or constant that indexes it does. `load` reports what it cannot follow.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from db import queries

ROOT = Path(__file__).resolve().parents[2]
Name = tuple[str, str]  # (db.sessions, find_live) in db/, (sessions, find_live_session) of a query


@dataclass
class _Module:
    imported: dict[str, Name] = field(default_factory=dict)  # local name -> where it comes from
    modules: dict[str, str] = field(default_factory=dict)  # local name -> module of db/
    subjects: dict[str, str] = field(default_factory=dict)  # local name -> subject of queries
    statements: dict[str, list[ast.stmt]] = field(default_factory=dict)  # defined name -> where


def queries_reached_from(package: str) -> set[Name]:
    """(subject, name) of every query that a module of `package` can run."""
    modules = {f"db.{path.stem}": _read(path) for path in (ROOT / "db").glob("*.py")}
    reached: set[Name] = set()
    found: set[Name] = set()
    waiting: list[Name] = []
    for path in (ROOT / package).rglob("*.py"):
        module, tree = _read(path), ast.parse(path.read_text("utf-8"))
        waiting += module.imported.values()
        waiting += [name for name in _mentions(tree, module) if name[0] in modules]
    while waiting:
        name = waiting.pop()
        if name in reached or name[0] not in modules:
            continue
        reached.add(name)
        module = modules[name[0]]
        for statement in module.statements.get(name[1], []):
            found |= set(_queries(statement, module))
            waiting += _mentions(statement, module, own=name[0])
    return found


def all_queries() -> set[Name]:
    return {
        (path.stem, name)
        for path in queries.FOLDER.glob("*.sql")
        for name in queries.load(path.stem)
    }


def with_numbered_parameters(statement: str) -> tuple[str, int]:
    """psycopg's placeholders as the server has them; and how many there are."""
    numbers: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        key = match[1] or f"the {len(numbers)}th"
        return f"${numbers.setdefault(key, len(numbers) + 1)}"

    return re.sub(r"%%|%\((\w+)\)[sbt]|%[sbt]", number, statement), len(numbers)


def _read(path: Path) -> _Module:
    module = _Module()
    for statement in ast.parse(path.read_text("utf-8")).body:
        for node in ast.walk(statement):
            if isinstance(node, ast.ImportFrom) and node.module == "db":
                for alias in node.names:
                    module.modules[alias.asname or alias.name] = f"db.{alias.name}"
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("db."):
                for alias in node.names:
                    module.imported[alias.asname or alias.name] = (str(node.module), alias.name)
        for name in _defined(statement):
            module.statements.setdefault(name, []).append(statement)
            subject = _loaded(getattr(statement, "value", None))
            if subject is not None:
                module.subjects[name] = subject
    return module


def _defined(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        return [node.id for node in ast.walk(statement) if isinstance(node, ast.Name)][:1]
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [statement.target.id]
    return []


def _loaded(node: ast.AST | None) -> str | None:
    """The subject of `queries.load("subject")`."""
    if not isinstance(node, ast.Call) or not node.args:
        return None
    called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    argument = node.args[0]
    is_load = called == "load" and isinstance(argument, ast.Constant)
    return str(argument.value) if is_load and isinstance(argument, ast.Constant) else None


def _queries(tree: ast.AST, module: _Module) -> Iterator[Name]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            value = node.value
            subject = module.subjects.get(value.id) if isinstance(value, ast.Name) else None
            subject = subject or _loaded(value)
            if subject is not None:
                yield subject, str(node.slice.value)


def _mentions(tree: ast.AST, module: _Module, own: str | None = None) -> Iterator[Name]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            if node.id in module.imported:
                yield module.imported[node.id]
            elif own is not None and node.id in module.statements:
                yield own, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield module.modules.get(node.value.id, ""), node.attr
