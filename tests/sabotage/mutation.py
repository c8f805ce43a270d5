"""What a mutation is, and how it is applied to a copy of the tree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class StaleMutation(Exception):
    """The text that is to be replaced does not occur exactly once any more."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """`old` occurs exactly once in `file`; with `new` in its place one of `tests` must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    why: str

    def mutated(self, root: Path) -> str:
        """The text of the file with the mutation in it."""
        text = (root / self.file).read_text("utf-8")
        if text.count(self.old) != 1:
            raise StaleMutation(
                f"{self.name}: {self.file} has {text.count(self.old)} places with {self.old!r}"
            )
        return text.replace(self.old, self.new)
