"""A release's bill of materials, from the lock: CycloneDX 1.6, every package with its hashes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from scripts.security.gate import Finding, Report

LOCK = "requirements.txt"
WRITTEN = Path("build") / "sbom.cdx.json"
_PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)")


def bill(root: Path) -> Report:
    """Writes it; a line without a hash is a finding."""
    components, findings = [], []
    for number, line in _joined((root / LOCK).read_text("utf-8")):
        pin, hashes = _PIN.match(line), re.findall(r"--hash=sha256:([0-9a-f]{64})", line)
        if pin is None or not hashes:
            text = "a package without version and hash"
            findings.append(Finding("bill", "unpinned", LOCK, number, text))
        else:
            components.append(_component(pin[1].lower(), pin[2], hashes))
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "gatehouse"}},
        "components": components,
    }
    (root / WRITTEN).parent.mkdir(exist_ok=True)
    (root / WRITTEN).write_text(json.dumps(document, indent=1), "utf-8")
    return Report(tuple(findings))


def _component(name: str, version: str, hashes: list[str]) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version}"
    # One hash for each file of the release: the lock does not say which file is which.
    references = [
        {"type": "distribution", "url": purl, "hashes": [{"alg": "SHA-256", "content": value}]}
        for value in hashes
    ]
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "externalReferences": references,
    }


def _joined(text: str) -> list[tuple[int, str]]:
    """(number of its first line, requirement) with continued lines put together."""
    result: list[tuple[int, str]] = []
    start, parts = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.split(" #")[0].strip()
        if not parts and (not stripped or stripped.startswith("#")):
            continue
        start = start if parts else number
        parts += stripped.removesuffix("\\") + " "
        if not stripped.endswith("\\"):
            result.append((start, parts))
            parts = ""
    return result
