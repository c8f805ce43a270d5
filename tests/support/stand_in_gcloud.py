"""Stands in for gcloud in the tests of the runner: remembers what was made, and every call.

Lies on PATH under the name gcloud. $STAND_IN holds `calls` (a JSON line a call), `things` (what
describe finds), and may hold `fails`, a text: a call whose words contain it fails. It is started a
hundred times a test, so it imports next to nothing.
"""

from __future__ import annotations

import json
import os
import sys

PLACE = os.environ["STAND_IN"]
MAKING = ("create", "add", "submit", "delete")


def main(words: list[str]) -> int:
    flags_file = next((word[13:] for word in words if word.startswith("--flags-file=")), None)
    call = {
        "words": words,
        "stdin": sys.stdin.read(),
        "flags": _read(flags_file) if flags_file else "",
        "mode": oct(os.stat(flags_file).st_mode) if flags_file else "",
    }
    _append("calls", json.dumps(call))
    failing = _read(f"{PLACE}/fails")
    if failing and failing in " ".join(words):
        print("ERROR: PERMISSION_DENIED: you may not", file=sys.stderr)
        return 1
    names = [word for word in words if not word.startswith("--")]
    if words[:3] == ["secrets", "versions", "access"]:
        print("the-password-of-the-owner", end="")
    elif "describe" in names:
        return 0 if _thing(names, "describe", words) in _read(f"{PLACE}/things").split("\n") else 1
    for verb in MAKING:
        if verb in names:
            _append("things", _thing(names, verb, words))
            if verb == "submit":
                image = next(word for word in words if word.startswith("--substitutions="))
                _append("things", f"artifacts docker images {image.partition('_IMAGE=')[2]}")
    return 0


def _thing(names: list[str], verb: str, words: list[str]) -> str:
    kind, rest = names[: names.index(verb)], names[names.index(verb) + 1 :]
    if kind == ["secrets", "versions"]:  # `add NAME` makes what `describe 1 --secret=NAME` finds
        secret = next((word for word in words if word.startswith("--secret=")), None)
        return f"version of {secret.partition('=')[2] if secret else rest[0]}"
    return " ".join([*kind, *(name.partition("@")[0] for name in rest[:1])])


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _append(name: str, line: str) -> None:
    with open(f"{PLACE}/{name}", "a") as file:
        file.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
