"""Named queries: each is found, each is used, and a doubled one fails at import."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from db import queries

ROOT = Path(__file__).resolve().parents[2]
SUBJECTS = sorted(path.stem for path in queries.FOLDER.glob("*.sql"))


def loaders(subject: str) -> list[Path]:
    """The modules that load a subject's file."""
    call = f'queries.load("{subject}")'
    return [path for path in sorted((ROOT / "db").glob("*.py")) if call in path.read_text("utf-8")]


def names_taken(path: Path) -> list[str]:
    """Every name that a module takes from _SQL."""
    return [
        node.slice.value
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == "_SQL"
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    ]


def test_there_are_subjects() -> None:
    assert len(SUBJECTS) >= 8


@pytest.mark.parametrize("subject", SUBJECTS)
class TestAFile:
    def test_one_module_takes_each_of_its_queries_once(self, subject: str) -> None:
        [module] = loaders(subject)
        assert sorted(names_taken(module)) == sorted(queries.load(subject))

    def test_every_query_has_a_statement_and_one_only(self, subject: str) -> None:
        for name, statement in queries.load(subject).items():
            code = re.sub(r"--.*", "", statement).strip()
            assert code, name
            assert ";" not in code, name

    def test_columns_are_listed(self, subject: str) -> None:
        for name, statement in queries.load(subject).items():
            assert not re.search(r"SELECT\s+\*|RETURNING\s+\*", statement), name

    def test_no_value_is_pasted_into_it(self, subject: str) -> None:
        for name, statement in queries.load(subject).items():
            marks = re.findall(r"%(?!\(\w+\)s|s)", re.sub(r"'[^']*'|--.*", "", statement))
            assert marks == [], name


def test_no_sql_stands_in_python_above_the_queries() -> None:
    statement = re.compile(
        r"\b(SELECT .+ FROM|INSERT INTO|DELETE FROM|UPDATE \w+ SET)\b", re.DOTALL
    )
    for package in ("api", "wsgateway", "db", "rules"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    assert not statement.search(node.value), f"{path}: {node.value[:60]}"


class TestParsing:
    def test_comments_belong_to_their_query_and_a_semicolon_does_not(self) -> None:
        parsed = queries.parse("-- name: one\n-- why\nSELECT 1;\n\n-- name: two\nSELECT 2\n", "x")
        assert parsed == {"one": "-- why\nSELECT 1", "two": "SELECT 2"}

    def test_a_name_that_stands_twice_is_an_error(self) -> None:
        with pytest.raises(ValueError, match=r"x\.sql has two queries named one"):
            queries.parse("-- name: one\nSELECT 1\n-- name: one\nSELECT 2\n", "x")

    def test_a_name_that_is_missing_is_named(self) -> None:
        with pytest.raises(KeyError, match="no_such_query"):
            queries.load("users")["no_such_query"]

    def test_a_file_that_is_missing_is_named(self) -> None:
        with pytest.raises(FileNotFoundError, match=r"nobody\.sql"):
            queries.load("nobody")
