"""Finds secrets in files: by the forms that issuers give theirs, and by their looks.

What an issuer marks (a prefix, a header) is found wherever it stands. Anything else counts when a
name says that it is a secret and the text looks random: 20 characters or more, from several kinds,
with at least 3.5 bits of entropy a character (random hexadecimal has nearly 4). Tests make up such
values all the time, so among them only marked ones count. What is found is never shown.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from scripts.security.files import blobs_of_history, tracked
from scripts.security.gate import CannotLook, Finding, Report

GATE = "secrets"
MARKED = {
    "private-key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "aws-key": r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b",
    "google-api-key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "google-oauth": r"\bGOCSPX-[0-9A-Za-z_-]{28}\b",
    "github-token": r"\b(?:gh[pousr]_[0-9A-Za-z]{36}|github_pat_[0-9A-Za-z_]{82})\b",
    "gitlab-token": r"\bglpat-[0-9A-Za-z_-]{20}\b",
    "slack-token": r"\bxox[abpors]-[0-9A-Za-z-]{20,}",
    "stripe-key": r"\b[rs]k_live_[0-9A-Za-z]{24,}\b",
    "npm-token": r"\bnpm_[0-9A-Za-z]{36}\b",
    "pypi-token": r"\bpypi-AgEIcHlwaS5vcmc[0-9A-Za-z_-]{50,}",
    "jwt": r"\beyJ[0-9A-Za-z_-]{15,}\.eyJ[0-9A-Za-z_-]{15,}\.[0-9A-Za-z_-]{20,}",
    "password-in-url": r"\b[a-z][a-z0-9+.-]*://[^\s/:@'\"{}$<>]+:[^\s/:@'\"{}$<>]{8,}@[\w.-]+",
}
_MARKED = re.compile("|".join(f"(?P<{name.replace('-', '_')}>{p})" for name, p in MARKED.items()))
_NAMED = re.compile(
    r"(?i)(?:secret|token|passw(?:or)?d|passphrase|api_?key|private_?key|credential)s?\w*"
    r"['\"]?\s*(?::\s*[\w.]+\s*)?[:=]\s*['\"]?(?P<value>[0-9A-Za-z+/=_.~-]{20,})"
)
ENTROPY_BITS = 3.5
# Hashes of packages; a list of other people's passwords.
PASSED_OVER = re.compile(r"requirements(-dev)?\.txt|api/common_passwords\.txt")
# What was committed once by mistake, and is published anyway; in the files it has no place.
PASSED_OVER_IN_HISTORY = re.compile(r"(?:.*/)?node_modules/.*")
LARGEST_BYTES = 2_000_000


def secrets(root: Path) -> Report:
    """The files as they are."""
    try:
        names = tracked(root)
    except CannotLook as error:
        return Report(not_run=str(error))
    return Report(tuple(_search_all((name, (root / name).read_bytes()) for name in names)))


def secrets_of_history(root: Path) -> Report:
    """Every version that git remembers: what was taken out again is out in the world anyway."""
    try:
        blobs = [blob for blob in blobs_of_history(root) if not _is_a_package(blob[0])]
        return Report(tuple(dict.fromkeys(_search_all(blobs))))
    except CannotLook as error:
        return Report(not_run=str(error))


def _is_a_package(name: str) -> bool:
    return PASSED_OVER_IN_HISTORY.fullmatch(name) is not None


def _search_all(files: Iterable[tuple[str, bytes]]) -> Iterator[Finding]:
    for name, content in files:
        if PASSED_OVER.fullmatch(name) or b"\0" in content[:8000] or len(content) > LARGEST_BYTES:
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            for rule in _rules_that_match(line, is_test=name.startswith("tests/")):
                yield Finding(GATE, rule, name, number, "this looks like a secret")


def _rules_that_match(line: str, *, is_test: bool) -> list[str]:
    marked = [match.lastgroup or "" for match in _MARKED.finditer(line)]
    if marked or is_test:
        return [name.replace("_", "-") for name in marked]
    return ["random-looking" for match in _NAMED.finditer(line) if _looks_random(match["value"])]


def _looks_random(text: str) -> bool:
    """Not a name, a path or a sentence: letters and digits mixed, hardly any of them often."""
    if not re.search(r"\d", text) or not re.search(r"[A-Za-z]", text):
        return False
    if "/secrets/" in text:  # a reference, which is no secret
        return False
    if re.fullmatch(r"[a-z0-9]+(?:[-_.][a-z0-9]+)+", text):  # words-with-dashes, module.names_2
        return False
    counts = Counter(text)
    entropy = -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
    return entropy >= ENTROPY_BITS
