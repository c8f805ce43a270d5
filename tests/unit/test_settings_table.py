"""The table of variables in docs/operators.md: all of them, as rules/settings.py has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from rules.settings import KNOWN_NAMES, Settings

OPERATORS = Path(__file__).resolve().parents[2] / "docs" / "operators.md"
# Google's, not ours: they are read, but nobody is told when they are spelled differently.
FOREIGN = {"GOOGLE_CLOUD_PROJECT", "K_SERVICE"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table, without the backticks around the name."""

    default: str
    may_be: str
    purpose: str
    read_by: str


def table() -> dict[str, Row]:
    chapter = OPERATORS.read_text("utf-8").split("### All variables")[1].split("\n## ")[0]
    lines = re.findall(r"^\| `([A-Z0-9_]+)` \| (.+) \|$", chapter, re.MULTILINE)
    rows = {name: Row(*cells.split(" | ")) for name, cells in lines}
    assert len(rows) == len(lines), "a variable stands there twice"
    return rows


def variables() -> dict[str, Mapping[str, Any]]:
    """What rules/settings.py says of each variable."""
    groups = [kind for kind in get_type_hints(Settings).values() if is_dataclass(kind)]
    return {item.metadata["variable"]: item.metadata for kind in groups for item in fields(kind)}


def shown_default(default: str | None) -> str:
    return {None: "unset", "": "empty"}.get(default, f"`{default}`")


def shown_values(convert: Callable[[str], object]) -> str | None:
    """What the table must say, where a value has bounds or is one of a few: the converter tells it
    whoever gives it something else."""
    try:
        convert("?")
    except ValueError as error:
        if bounds := re.search(r"from ([0-9]+ to [0-9]+)$", str(error)):
            return bounds[1]
        if choices := re.fullmatch(r"be (?:one of (.+)|(true or false))", str(error)):
            words = re.split(", | or ", choices[1] or choices[2])
            return ", ".join(f"`{word}`" for word in words)
    return None


def test_every_variable_that_is_read_stands_there_once() -> None:
    assert set(table()) == KNOWN_NAMES | FOREIGN
    assert set(variables()) == KNOWN_NAMES


def test_the_defaults_are_those_of_the_program() -> None:
    rows = table()
    shown = {name: rows[name].default for name in variables()}
    assert shown == {
        name: shown_default(variable["default"]) for name, variable in variables().items()
    }


def test_the_bounds_and_choices_are_those_of_the_program() -> None:
    rows = table()
    known = {name: shown_values(variable["convert"]) for name, variable in variables().items()}
    bounded = {name: values for name, values in known.items() if values is not None}
    assert len(bounded) > 40
    assert {name: rows[name].may_be for name in bounded} == bounded


def test_every_variable_says_who_reads_it() -> None:
    assert {row.read_by for row in table().values()} == {
        "API",
        "gateway",
        "gateway *",
        "both",
        "all",
    }
