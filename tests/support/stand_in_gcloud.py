#!/usr/bin/env python3
"""Stands in for gcloud in the tests of the runner: remembers what was made, and every call.

Lies on PATH under the name gcloud. $STAND_IN holds `calls` (a JSON line a call), `things` (what
describe finds), and may hold `fails`, a text: a call whose words contain it fails.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

PLACE = Path(os.environ["STAND_IN"])
MAKING = ("create", "add", "submit", "delete")


def main(words: list[str]) -> int:
    flags_file = next((word for word in words if word.startswith("--flags-file=")), None)
    call = {
        "words": words,
        "stdin": sys.stdin.read(),
        "flags": Path(flags_file.partition("=")[2]).read_text() if flags_file else "",
        "mode": oct(Path(flags_file.partition("=")[2]).stat().st_mode) if flags_file else "",
    }
    with (PLACE / "calls").open("a") as file:
        file.write(json.dumps(call) + "\n")
    if (PLACE / "fails").exists() and (PLACE / "fails").read_text() in " ".join(words):
        print("ERROR: PERMISSION_DENIED: you may not", file=sys.stderr)
        return 1
    things = PLACE / "things"
    known = set(things.read_text().split("\n")) if things.exists() else set()
    names = [word for word in words if not word.startswith("--")]
    if words[:3] == ["secrets", "versions", "access"]:
        print("the-password-of-the-owner", end="")
    elif "describe" in names:
        return 0 if _thing(names, "describe", words) in known else 1
    for verb in MAKING:
        if verb in names:
            known.add(_thing(names, verb, words))
            if verb == "submit":
                image = next(word for word in words if word.startswith("--substitutions="))
                known.add(f"artifacts docker images {image.partition('_IMAGE=')[2]}")
            things.write_text("\n".join(sorted(known)))
    return 0


def _thing(names: list[str], verb: str, words: list[str]) -> str:
    kind, rest = names[: names.index(verb)], names[names.index(verb) + 1 :]
    if kind == ["secrets", "versions"]:  # `add NAME` makes what `describe 1 --secret=NAME` finds
        secret = next((word for word in words if word.startswith("--secret=")), None)
        return f"version of {secret.partition('=')[2] if secret else rest[0]}"
    return " ".join([*kind, *(name.partition("@")[0] for name in rest[:1])])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
